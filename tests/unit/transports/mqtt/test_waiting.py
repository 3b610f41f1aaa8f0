"""The waiting room: per model in order, bounded by number and by bytes."""

from __future__ import annotations

from edged.messages import Input, Source
from edged.transports.mqtt.waiting import BYTES, FULL, WaitingRoom


def one(model: str = "m", size: int = 1) -> Input:
    return Input(model, bytes(size), Source.MQTT_QOS1, lambda _outcome: None, arrived_s=0.0)


def test_it_is_full_by_number() -> None:
    room = WaitingRoom()
    for _ in range(FULL):
        assert not room.full
        room.add(1, one())
    assert room.full
    assert not room.overfull


def test_it_is_full_by_bytes_and_empties_again() -> None:
    room = WaitingRoom()
    for _ in range(4):
        assert not room.full
        room.add(1, one(size=BYTES // 4))
    assert room.full
    room.add(1, one("other", size=BYTES))
    assert room.overfull
    room.leave("m")
    room.leave("other")
    assert not room.full
    assert room.forget(2) == 3
    assert len(room) == 0
    room.add(2, one(size=BYTES - 1))
    assert not room.full


def test_order_is_kept_per_model() -> None:
    room = WaitingRoom()
    first, second, other = one(), one(), one("other")
    for item in (first, other, second):
        room.add(1, item)
    assert room.first("m") is first
    room.leave("m")
    assert room.first("m") is second
    assert room.first("other") is other
    assert not room.holds("absent")


def test_lines_of_a_model_stand_beside_each_other() -> None:
    room = WaitingRoom()
    for number, line in enumerate("aba"):
        room.add(number, one(), line)
    assert (room.holds("m", "a"), room.holds("m"), room.lines("m")) == (True, False, ["a", "b"])
    room.leave("m", "b")
    assert room.lines("m") == ["a"]
    assert room.forget(2) == 1
    assert len(room) == 1
    room.leave("m", "a")
    assert room.lines("m") == []
