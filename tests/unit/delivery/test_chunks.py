"""What is asked for next, and what silence, damage and strangers do to that: the clock is a number here."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.delivery.chunks import (
    FLOOR,
    LONGEST_S,
    PATIENCE_S,
    TURNS,
    WINDOW,
    Assembly,
    Look,
    cut,
    read_index,
    sensible_chunk,
    size_of,
)
from edged.delivery.documents import CHUNK, HASH_SIZE, Release, encode, read_release
from edged.delivery.strict import Malformed
from tests.couriers import file_of, pieces


def name(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def assembly(count: int, size: int = 100, now_s: float = 0.0) -> Assembly:
    return Assembly({name(number): size for number in range(count)}, now_s)


def arrive(one: Assembly, sha256: str, now_s: float, *, kept: bool = True) -> None:
    assert one.look(sha256, 100, now_s) is Look.TAKE
    one.good(sha256, now_s, kept=kept)


def listed(need: bytes) -> list[str]:
    return [need[at : at + HASH_SIZE].hex() for at in range(0, len(need), HASH_SIZE)]


# --- cutting ------------------------------------------------------------------------------------------------


@given(st.binary(max_size=5000), st.integers(1024, 3000))
def test_a_file_is_what_its_index_says(content: bytes, chunk: int) -> None:
    file, index = cut(pieces(content, chunk), chunk)
    assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert hashlib.sha256(index).hexdigest() == file.index
    hashes = read_index(index, file)
    assert len(hashes) == file.count
    joined = b""
    for position, sha256 in enumerate(hashes):
        block = content[position * chunk : position * chunk + size_of(file, position)]
        assert hashlib.sha256(block).hexdigest() == sha256
        joined += block
    assert joined == content


def test_an_index_of_another_length_is_none() -> None:
    file, index = file_of(b"x" * 5000, 1024)
    for wrong in (b"", index[:-1], index + b"y", index[:-HASH_SIZE]):
        with pytest.raises(Malformed, match="5 chunks"):
            read_index(wrong, file)


def test_the_chunk_grows_with_the_file_so_that_its_index_fits_one() -> None:
    most = CHUNK // HASH_SIZE * CHUNK
    assert sensible_chunk(0) == sensible_chunk(most) == CHUNK
    assert sensible_chunk(most + 1) == 2 * CHUNK
    with pytest.raises(Malformed, match="too many"):
        cut(pieces(bytes(1024 * 33), 1024), 1024)
    made, _ = file_of(bytes(1024 * 32), 1024)
    read_release(encode(Release("m", 1, 1, {"model.onnx": made}, (), ())))  # the document agrees about the limit


# --- asking -------------------------------------------------------------------------------------------------


def test_four_at_a_time_in_their_order() -> None:
    one = assembly(6)
    assert one.ask(0) == {name(0), name(1), name(2), name(3)}
    arrive(one, name(2), 0.1)
    assert one.ask(0.1) == {name(0), name(1), name(3), name(4)}
    assert one.missing == (name(0), name(1), name(3), name(4), name(5))
    assert not one.need(0.1)


def test_ota_F12_any_order_will_do() -> None:
    one = assembly(9)
    while one.missing:
        for sha256 in sorted(one.ask(0), reverse=True):
            arrive(one, sha256, 0)
    assert not one.ask(0)
    assert one.wake_s(0) is None or one.wake_s(0) == 2 * PATIENCE_S


def test_ota_F11_a_duplicate_is_nobody_s_fault() -> None:
    one = assembly(2)
    one.ask(0)
    assert one.look(name(0), 100, 0) is Look.TAKE
    assert one.look(name(0), 100, 0) is Look.DUPLICATE  # while its hash is being looked at
    one.good(name(0), 0)
    assert one.look(name(0), 100, 0) is Look.DUPLICATE
    assert (one.unasked, one.damaged) == (0, 0)


def test_ota_F15_what_was_not_asked_for_is_dropped_and_counted() -> None:
    one = assembly(6)
    one.ask(0)
    assert one.look(name(5), 100, 0) is Look.UNASKED  # wanted, but it has no turn
    assert one.look(name(77), 100, 0) is Look.UNASKED
    assert one.unasked == 2
    assert one.offered(name(5), 100, 0) is Look.TAKE  # from elsewhere it may come without a turn
    assert one.offered(name(77), 100, 0) is Look.UNASKED


def test_ota_F16_a_blob_of_another_size_is_not_even_hashed() -> None:
    one = assembly(1)
    one.ask(0)
    assert one.look(name(0), 101, 0) is Look.DAMAGED
    assert one.look(name(0), 0, 0) is Look.DAMAGED
    assert one.damaged == 2


# --- silence ------------------------------------------------------------------------------------------------


def test_ota_F13_silence_becomes_a_need_list_ever_more_rarely_and_never_a_failure() -> None:
    one, now_s, said = assembly(2), 0.0, []
    for _ in range(60):
        one.ask(now_s)
        if need := one.need(now_s):
            assert listed(need) == [name(0), name(1)]
            said.append(now_s)
        woken = one.wake_s(now_s)
        assert woken is not None
        assert woken > now_s
        now_s = woken
    gaps = [after - before for before, after in itertools.pairwise(said)]
    assert said[0] == PATIENCE_S
    assert gaps[:3] == [PATIENCE_S, 2 * PATIENCE_S, 4 * PATIENCE_S]
    assert max(gaps) == gaps[-1] == LONGEST_S
    assert one.waiting(now_s) == "no_blob"
    assert not one.failed
    arrive(one, name(0), now_s)
    assert one.waiting(now_s) == ""
    one.ask(now_s + PATIENCE_S)
    assert listed(one.need(now_s + PATIENCE_S)) == [name(1)]  # a good one starts the backoff anew


def test_what_is_not_there_gives_its_place_to_what_is() -> None:
    one = assembly(10)
    there = {name(number) for number in range(6, 10)}
    now_s = 0.0
    while there & set(one.missing):
        assert now_s < 6 * PATIENCE_S
        for sha256 in one.ask(now_s) & there:
            arrive(one, sha256, now_s)
        if not one.ask(now_s) & there:
            now_s = one.wake_s(now_s) or now_s + 1
    assert set(one.missing) == {name(number) for number in range(6)}


def test_where_need_lists_are_answered_the_next_one_waits_for_nothing() -> None:
    one = assembly(8)
    one.ask(0)
    assert not one.need(1)
    assert len(listed(one.need(PATIENCE_S))) == WINDOW
    now_s = PATIENCE_S + 0.1
    arrive(one, name(0), now_s, kept=False)
    one.ask(now_s)
    assert listed(one.need(now_s)) == [name(4)]
    assert not one.need(now_s + 0.1)
    arrive(one, name(4), now_s + 0.2, kept=True)  # the broker had it after all
    one.ask(now_s + 0.2)
    assert name(5) not in listed(one.need(now_s + 0.3))


def test_where_they_were_answered_for_the_index_the_chunks_are_asked_for_at_once() -> None:
    one = Assembly({name(0): 100}, 0, answered=True)
    one.ask(0)
    assert listed(one.need(0)) == [name(0)]


def test_silence_while_there_is_no_connection_is_nobody_s_fault() -> None:
    one = assembly(2)
    one.connection(False, 0)
    one.ask(0)
    assert one.wake_s(0) is None
    assert not one.need(1000)
    assert one.waiting(1000) == ""
    one.connection(True, 1000)
    assert one.ask(1000) == {name(0), name(1)}
    assert not one.need(1000 + PATIENCE_S - 1)
    assert one.need(1000 + PATIENCE_S)


def test_a_thin_line_makes_it_more_patient() -> None:
    one = assembly(9)
    one.ask(0)
    arrive(one, name(0), 20)
    one.ask(20)
    assert name(4) not in listed(one.need(20 + 2 * PATIENCE_S))
    assert one.waiting(20 + 2 * PATIENCE_S) == ""


def test_ota_F51_a_drip_is_reported_as_slow() -> None:
    one, now_s = assembly(100, size=FLOOR), 0.0
    waits = set()
    for number in range(40):
        one.ask(now_s)
        assert one.look(name(number), FLOOR, now_s) is Look.TAKE
        one.good(name(number), now_s)
        waits.add(one.waiting(now_s))
        now_s += 4
    assert waits == {"", "slow"}
    assert one.waiting(now_s) == "slow"
    for number in range(40, 90):
        one.ask(now_s)
        assert one.look(name(number), FLOOR, now_s) is Look.TAKE
        one.good(name(number), now_s)
        one.waiting(now_s)
        now_s += 1 if number % 2 else 0.1
    assert one.waiting(now_s + 60) in ("", "no_blob")


# --- damage -------------------------------------------------------------------------------------------------


def test_ota_F14_a_damaged_blob_rests_and_fails_after_five_turns() -> None:
    one, now_s = assembly(1), 0.0
    bad_at: list[float] = []
    while not one.failed:
        if one.ask(now_s) and one.look(name(0), 100, now_s) is Look.TAKE:
            if not bad_at or now_s > bad_at[-1] + PATIENCE_S:
                bad_at.append(now_s)
            one.bad(name(0), now_s)
        now_s = one.wake_s(now_s) or now_s + 1
        assert now_s < 1000
    assert one.failed == name(0)
    assert len(bad_at) == TURNS
    assert bad_at[1] - bad_at[0] >= 2 * PATIENCE_S
    assert bad_at[4] - bad_at[3] >= 8 * PATIENCE_S


def test_after_damage_the_right_one_may_still_come_in_the_same_turn() -> None:
    one = assembly(2)
    one.ask(0)
    for _ in range(20):  # however many wrong ones: a turn is a turn
        assert one.look(name(0), 100, 0) is Look.TAKE
        one.bad(name(0), 0)
    assert listed(one.need(0)) == [name(0)]  # whoever can publish it is asked at once
    arrive(one, name(0), 1, kept=False)
    assert one.damaged == 20
    assert not one.failed
    assert one.missing == (name(1),)


def test_damaged_blobs_do_not_hold_up_the_others() -> None:
    one, now_s = assembly(8), 0.0
    bad = {name(number) for number in range(4)}
    while set(one.missing) - bad:
        for sha256 in one.ask(now_s):
            if one.look(sha256, 100, now_s) is Look.TAKE:
                one.bad(sha256, now_s) if sha256 in bad else one.good(sha256, now_s)
        now_s = one.wake_s(now_s) or now_s
        assert now_s < 4 * PATIENCE_S
    assert not one.failed


@given(
    st.lists(st.tuples(st.sampled_from(["ask", "good", "bad", "size", "need", "lost", "back"]), st.integers(0, 9))),
    st.integers(1, 9),
)
def test_whatever_happens_the_window_holds_and_what_is_missing_is_asked_for_again(
    events: list[tuple[str, int]], count: int
) -> None:
    one, now_s = assembly(count), 0.0
    for what, number in events:
        now_s += number / 2
        asked = one.ask(now_s)
        assert len(asked) <= WINDOW
        assert asked <= set(one.missing)
        if what in ("good", "bad", "size"):
            look = one.look(name(number), 99 if what == "size" else 100, now_s)
            if look is Look.TAKE:
                one.good(name(number), now_s) if what == "good" else one.bad(name(number), now_s)
        elif what == "need":
            assert set(listed(one.need(now_s))) <= asked
        elif what in ("lost", "back"):
            one.connection(what == "back", now_s)
    one.connection(True, now_s)
    seen: set[str] = set()
    for _ in range(200):
        seen |= one.ask(now_s)
        now_s = one.wake_s(now_s) or now_s + 1
    assert seen == set(one.missing)
