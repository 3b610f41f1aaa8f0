"""What goes in comes out, all else is a ProtocolError, and no descriptor is ever left behind (RULES 3, 11)."""

from __future__ import annotations

import array
import contextlib
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged import channel
from edged.channel import (
    INLINE,
    MEMFD,
    MESSAGE_LIMIT,
    AnswerHead,
    Answers,
    Batch,
    Closed,
    InputHead,
    Message,
    ProtocolError,
)
from edged.config.steps import Form, Scale, Softmax
from edged.errors import Fault
from edged.rings import SLOTS
from edged.tensors import Signature, TensorSpec
from tests.rings import both_sides

LIMIT = 2**20
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Pair]:
    """(the daemon's end, the worker's end)."""
    pair = channel.pair()
    yield pair
    for end in pair:
        channel.close(end)


@pytest.fixture
def descriptors() -> Iterator[Callable[[], int]]:
    """Counts this process's open descriptors; the test must leave as many as it found."""

    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    yield count
    assert count() == before


def batch(*sizes: int, place: int = INLINE, number: int = 1) -> Batch:
    return Batch(number, tuple(InputHead(size) for size in sizes), place)


def frame(message: Message, payload: bytes = b"") -> bytes:
    header = msgspec.msgpack.encode(message)
    return struct.pack("<I", len(header)) + header + payload


def memfd(content: bytes, seals: int = SEALS) -> int:
    descriptor = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, content)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def pass_on(sock: socket.socket, data: bytes, passed: Sequence[int]) -> None:
    """Sends raw bytes with descriptors, which are then closed here."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", passed))] if passed else []
    sock.sendmsg([data], rights)
    for descriptor in passed:
        os.close(descriptor)


# --- what goes in comes out -------------------------------------------------------------------------

EXAMPLES: list[Message] = [
    channel.Open(
        "m", "1", "/m.onnx", 1, 2**28, 2**24, 16, (Form("values", fields=("a",)),), (Scale(0.5),), (Softmax(),)
    ),
    channel.Generate(7, 3),
    channel.Ready(Signature((TensorSpec("x", "FP32", (-1, 4)),), ()), ("CPUExecutionProvider",), 0.1, 0.001, 8, 3.5),
    channel.Refused(Fault("not_a_model", "no", "")),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_a_message_without_payload(ends: Pair, message: Message) -> None:
    channel.send(ends[0], message)
    received, payload = channel.receive(ends[1], payload_limit=0)
    assert received == message
    assert len(payload) == 0


@given(
    st.lists(st.binary(max_size=200), min_size=1, max_size=20),
    st.sampled_from([INLINE, MEMFD, *range(SLOTS)]),
    st.integers(0, 2**63),
)
def test_payloads_arrive_in_the_order_of_their_heads(payloads: list[bytes], place: int, number: int) -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        writers, readers = both_sides(4096, daemon_writes=True)
        sent = batch(*map(len, payloads), place=place, number=number)
        channel.send(ours, sent, payloads, ring=writers)
        received, joined = channel.receive(theirs, payload_limit=LIMIT, ring=readers)
        assert received == sent
        assert [bytes(part) for part in channel.split(sent.heads, joined)] == payloads


def test_answers_carry_faults_and_figures(ends: Pair) -> None:
    heads = (AnswerHead(3, 2, nonfinite=True, ts_ms=17), AnswerHead(0, fault=Fault("bad_input", "no", "x"), own=True))
    sent = Answers(9, heads, decode_ns=1, run_ns=2, encode_ns=3, cpu_ns=4)
    channel.send(ends[1], sent, [b"{}x", b""])
    received, payload = channel.receive(ends[0], payload_limit=LIMIT)
    assert received == sent
    assert bytes(payload) == b"{}x"


def test_messages_keep_their_borders(ends: Pair) -> None:
    for number in range(3):
        channel.send(ends[0], batch(1, number=number), [b"x"])
    got = [channel.receive(ends[1], payload_limit=LIMIT)[0] for _ in range(3)]
    assert [one.number for one in got if isinstance(one, Batch)] == [0, 1, 2]


# --- borders ----------------------------------------------------------------------------------------


def overhead(size: int) -> int:
    """Bytes of a one-input batch's message beside its payload of `size` bytes."""
    return len(frame(batch(size)))


@pytest.mark.parametrize("spare", [1, 0])
def test_a_message_may_fill_its_limit(ends: Pair, spare: int) -> None:
    size = MESSAGE_LIMIT - overhead(60_000) - spare
    channel.send(ends[0], batch(size), [bytes(size)])
    assert len(channel.receive(ends[1], payload_limit=LIMIT)[1]) == size


def test_one_byte_more_is_refused_before_it_is_sent(ends: Pair) -> None:
    size = MESSAGE_LIMIT - overhead(60_000) + 1
    with pytest.raises(ProtocolError, match="65537 bytes"):
        channel.send(ends[0], batch(size), [bytes(size)])
    with pytest.raises(BlockingIOError):
        ends[1].recv(1, socket.MSG_DONTWAIT)


def test_one_byte_more_from_the_other_side_is_seen(ends: Pair) -> None:
    size = MESSAGE_LIMIT - overhead(60_000) + 1
    ends[1].send(frame(batch(size), bytes(size)))
    with pytest.raises(ProtocolError, match="cut short"):
        channel.receive(ends[0], payload_limit=LIMIT)


@given(st.integers(1, 120), st.integers(0, MESSAGE_LIMIT))
def test_what_has_room_by_the_rule_can_be_sent(inputs: int, size: int) -> None:
    heads = [InputHead(0, 255, "x" * 200, 2**40, binary=True, id="i" * 64)] * (inputs - 1)
    if channel.inline_room(size, inputs):
        ours, theirs = channel.pair()
        with ours, theirs:
            channel.send(ours, Batch(2**63, (InputHead(size), *heads)), [bytes(size)])
            assert len(channel.receive(theirs, payload_limit=LIMIT)[1]) == size


def test_a_payload_of_the_limit_and_one_byte_more(ends: Pair, descriptors: Callable[[], int]) -> None:
    channel.send(ends[0], batch(LIMIT, place=MEMFD), [bytes(LIMIT)])
    assert len(channel.receive(ends[1], payload_limit=LIMIT)[1]) == LIMIT
    channel.send(ends[0], batch(LIMIT + 1, place=MEMFD), [bytes(LIMIT + 1)])
    with pytest.raises(ProtocolError, match="above 1048576"):
        channel.receive(ends[1], payload_limit=LIMIT)


def test_nothing_to_read_and_a_full_socket(ends: Pair) -> None:
    with pytest.raises(BlockingIOError):
        channel.receive(ends[0], payload_limit=LIMIT)
    with pytest.raises(BlockingIOError):
        for _ in range(10_000):
            channel.send(ends[0], batch(50_000), [bytes(50_000)])


def test_a_full_socket_leaks_no_memfd(ends: Pair, descriptors: Callable[[], int]) -> None:
    before = descriptors()
    with pytest.raises(BlockingIOError):
        for _ in range(10_000):
            channel.send(ends[0], batch(1, place=MEMFD), [b"x"])
    assert descriptors() == before


# --- ends -------------------------------------------------------------------------------------------


def test_what_was_sent_before_the_end_arrives_before_it(ends: Pair) -> None:
    channel.send(ends[1], Answers(1, (AnswerHead(1),)), [b"x"])
    channel.close(ends[1])
    assert channel.receive(ends[0], payload_limit=LIMIT)[0] == Answers(1, (AnswerHead(1),))
    with pytest.raises(Closed):
        channel.receive(ends[0], payload_limit=LIMIT)
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        channel.send(ends[0], batch(1), [b"x"])


def test_an_end_with_unread_messages_still_reads_as_closed(ends: Pair) -> None:
    """The kernel then says ECONNRESET instead of end of file."""
    channel.send(ends[0], batch(1), [b"x"])
    channel.close(ends[1])
    with pytest.raises(Closed):
        for _ in range(2):
            channel.receive(ends[0], payload_limit=LIMIT)


def test_closing_twice_is_fine(ends: Pair) -> None:
    channel.close(ends[0])
    channel.close(ends[0])


# --- what the protocol does not allow ---------------------------------------------------------------


@given(st.binary(min_size=1, max_size=300))
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        theirs.send(data)
        with contextlib.suppress(ProtocolError):
            channel.receive(ours, payload_limit=LIMIT)


@given(st.binary(max_size=200), st.integers(0, 2**32 - 1) | st.none())
def test_any_header_is_a_message_or_a_protocol_error(header: bytes, length: int | None) -> None:
    ours, theirs = channel.pair()
    with ours, theirs:
        theirs.send(struct.pack("<I", len(header) if length is None else length) + header)
        with contextlib.suppress(ProtocolError):
            channel.receive(ours, payload_limit=LIMIT)


@given(st.sampled_from(EXAMPLES), st.data())
def test_a_message_with_some_bytes_changed(message: Message, data: st.DataObject) -> None:
    whole = bytearray(frame(message))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    ours, theirs = channel.pair()
    with ours, theirs:
        theirs.send(whole)
        with contextlib.suppress(ProtocolError):
            channel.receive(ours, payload_limit=LIMIT)


NEST = b"\x91" * 30_000 + b"\x01"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(b"\x82\xa4type\xa8generate\xa1z" + NEST, id="nested 30,000 deep"),
        pytest.param(b"\x82\xa4type\xa2\xff\xff\xa1a\x01", id="no UTF-8"),
        pytest.param(b"\x81\xa4type\xa7unheard", id="unknown tag"),
        pytest.param(b"\xc1", id="no msgpack"),
    ],
)
def test_a_header_that_cannot_be_read(ends: Pair, header: bytes) -> None:
    ends[1].send(struct.pack("<I", len(header)) + header)
    with pytest.raises(ProtocolError, match="cannot be read"):
        channel.receive(ends[0], payload_limit=LIMIT)


def test_a_header_longer_than_its_message(ends: Pair) -> None:
    header = msgspec.msgpack.encode(EXAMPLES[1])
    ends[1].send(struct.pack("<I", len(header) + 1) + header)
    with pytest.raises(ProtocolError, match="longer than its message"):
        channel.receive(ends[0], payload_limit=LIMIT)


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        (batch(3), b"xx"),
        (batch(3), b"xxxx"),
        (batch(3, 3), b"xxx"),
        (batch(2**40), b"x"),
        (batch(-1, 2), b"x"),  # adds up, but is no size
    ],
    ids=["short", "long", "one for two", "huge", "negative"],
)
def test_sizes_that_do_not_add_up(ends: Pair, message: Message, payload: bytes) -> None:
    ends[1].send(frame(message, payload))
    with pytest.raises(ProtocolError, match=r"add up|below zero"):
        channel.receive(ends[0], payload_limit=LIMIT)


def test_external_sizes_that_do_not_add_up(ends: Pair, descriptors: Callable[[], int]) -> None:
    pass_on(ends[1], frame(batch(3, place=MEMFD)), [memfd(b"xx")])
    with pytest.raises(ProtocolError, match="add up"):
        channel.receive(ends[0], payload_limit=LIMIT)


@pytest.mark.parametrize(("slot", "size"), [(SLOTS, 1), (2**62, 1), (0, 4097), (SLOTS - 1, 4097), (0, 2**62)])
def test_a_payload_outside_the_ring(ends: Pair, slot: int, size: int) -> None:
    ring, _ = both_sides(4096, daemon_writes=False)
    ends[1].send(frame(batch(size, place=slot)))
    with pytest.raises(ProtocolError, match="outside the ring"):
        channel.receive(ends[0], payload_limit=LIMIT, ring=ring)


def test_a_payload_in_a_ring_before_there_is_one(ends: Pair) -> None:
    ends[1].send(frame(batch(1, place=0)))
    with pytest.raises(ProtocolError, match="not there"):
        channel.receive(ends[0], payload_limit=LIMIT)
    with pytest.raises(ProtocolError, match="no ring"):
        channel.send(ends[1], batch(1, place=0), [b"x"])


def test_descriptors_that_come_with_the_first_message(ends: Pair, descriptors: Callable[[], int]) -> None:
    """The caller's, who asked for them; otherwise nobody's."""
    opening, passed = EXAMPLES[0], [memfd(b"1"), memfd(b"2")]
    got: list[int] = []
    channel.send(ends[0], opening, pass_on=passed)
    assert channel.receive(ends[1], payload_limit=0, passed=got)[0] == opening
    assert [os.pread(descriptor, 9, 0) for descriptor in got] == [b"1", b"2"]
    channel.send(ends[0], opening, pass_on=passed)
    channel.receive(ends[1], payload_limit=0)
    for descriptor in [*passed, *got]:
        os.close(descriptor)


@pytest.mark.parametrize("missing", [fcntl.F_SEAL_WRITE, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SEAL])
def test_a_memfd_that_could_still_change(ends: Pair, descriptors: Callable[[], int], missing: int) -> None:
    pass_on(ends[1], frame(batch(2, place=MEMFD)), [memfd(b"xx", SEALS & ~missing)])
    with pytest.raises(ProtocolError, match="not sealed"):
        channel.receive(ends[0], payload_limit=LIMIT)


def test_a_descriptor_that_is_no_memfd(ends: Pair, descriptors: Callable[[], int], tmp_path: Path) -> None:
    file = tmp_path / "payload"
    file.write_bytes(b"xx")
    pass_on(ends[1], frame(batch(2, place=MEMFD)), [os.open(file, os.O_RDONLY)])
    with pytest.raises(ProtocolError, match=r"no memfd|not sealed"):
        channel.receive(ends[0], payload_limit=LIMIT)


@pytest.mark.parametrize(("place", "passed"), [(MEMFD, 0), (MEMFD, 2), (INLINE, 1), (INLINE, 3), (MEMFD, 4), (0, 1)])
def test_another_number_of_descriptors(ends: Pair, descriptors: Callable[[], int], place: int, passed: int) -> None:
    pass_on(ends[1], frame(batch(0, place=place)), [memfd(b"") for _ in range(passed)])
    with pytest.raises(ProtocolError, match=f"{passed} descriptors"):
        channel.receive(ends[0], payload_limit=LIMIT)


def test_more_descriptors_than_there_is_room_for(ends: Pair, descriptors: Callable[[], int]) -> None:
    pass_on(ends[1], frame(batch(0, place=MEMFD)), [memfd(b"") for _ in range(20)])
    with pytest.raises(ProtocolError, match="cut short"):
        channel.receive(ends[0], payload_limit=LIMIT)


def test_descriptors_with_an_empty_message(ends: Pair, descriptors: Callable[[], int]) -> None:
    """An empty message reads like the end of the channel; its descriptors are closed all the same."""
    pass_on(ends[1], b"", [memfd(b"")])
    with pytest.raises(Closed):
        channel.receive(ends[0], payload_limit=LIMIT)


def test_a_hundred_rounds_leave_no_descriptor(ends: Pair, descriptors: Callable[[], int]) -> None:
    before = descriptors()
    for number in range(100):
        channel.send(ends[0], batch(5, place=MEMFD, number=number), [b"hello"])
        assert bytes(channel.receive(ends[1], payload_limit=LIMIT)[1]) == b"hello"
    assert descriptors() == before
