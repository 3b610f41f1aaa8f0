"""What a newer message has gone past, over a restart too."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.transports.mqtt.overtaken import Overtaken


def test_it_is_by_topic_and_by_number() -> None:
    one = Overtaken()
    one.add("t", 10)
    assert (one.has("t", 9), one.has("t", 10), one.has("u", 9)) == (True, False, False)
    one.slip(8, 2)
    assert (one.has("t", 7), one.has("t", 8)) == (True, False)
    one.clear()
    assert not one.has("t", 0)


def test_thousands_of_topics_are_as_one() -> None:
    one = Overtaken()
    for number in range(5000):
        one.add(str(number), 10)
    assert one.has("another", 9)
    assert len(one.written()) < 2**20
    one.clear()
    assert not one.has("another", 9)


def test_what_was_written_is_read_again_up_to_what_there_was() -> None:
    """Numbers that were not given out before a crash are those of newer messages now."""
    one, again = Overtaken(), Overtaken()
    one.add("t", 10)
    assert one.changed
    content = one.written()
    assert not one.changed
    again.read(content, 7)
    assert (again.has("t", 6), again.has("t", 7)) == (True, False)
    one.clear()
    assert one.changed
    assert one.written() == b""


@pytest.mark.parametrize("cut", [0, 3, 5, 9])
def test_torn_bytes_are_nothing(cut: int) -> None:
    one, again = Overtaken(), Overtaken()
    one.add("t", 10)
    again.read(one.written()[:cut], 100)
    assert not again.has("t", 0)


@given(st.binary(max_size=64))
def test_no_bytes_do_any_harm(content: bytes) -> None:
    one = Overtaken()
    one.read(content, 100)
    one.has("t", 1)
