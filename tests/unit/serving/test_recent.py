"""What is kept of a model's inputs for a trial (RULES 24)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.channel import InputHead
from edged.serving.recent import MOST, MOST_BYTES, Recent


def kept(sizes: list[int]) -> list[int]:
    """The places in `sizes` of the inputs that are kept of so many bytes each."""
    recent = Recent()
    for place, size in enumerate(sizes):
        recent.add(InputHead(size, id=str(place)), bytes(size))
    found = recent.newest_last()
    assert all(len(payload) == sizes[int(head.id)] for head, payload in found)
    return [int(head.id) for head, _ in found]


def test_the_last_sixteen() -> None:
    assert kept([10] * 40) == list(range(24, 40))


def test_four_mebibytes() -> None:
    assert kept([MOST_BYTES // 2] * 3) == [1, 2]


def test_a_larger_one_drives_nothing_out() -> None:
    assert kept([10, MOST_BYTES + 1, 10]) == [0, 2]


@given(st.lists(st.sampled_from([0, 1, 10**5, MOST_BYTES // 3, MOST_BYTES, MOST_BYTES + 1]), max_size=40))
def test_never_more_than_both_and_no_gap(sizes: list[int]) -> None:
    places = kept(sizes)
    assert len(places) <= MOST
    assert sum(sizes[place] for place in places) <= MOST_BYTES
    small = [place for place, size in enumerate(sizes) if size <= MOST_BYTES]
    assert places == small[len(small) - len(places) :]
