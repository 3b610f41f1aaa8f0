"""What the end of a connection says of the message that was under way on it."""

from __future__ import annotations

import errno
import ssl

import pytest

from edged.transports.mqtt.ends import End, of_error, of_reason


@pytest.mark.parametrize(
    ("reason", "end"),
    [(0x95, End.NAMED), (0x87, End.NAMED), (0x80, End.CLOSED), (0x97, End.CLOSED), (0x8B, End.AWAY), (0x8E, End.AWAY)],
)
def test_a_broker_that_says_why(reason: int, end: End) -> None:
    assert of_reason(reason, None, by_broker=True) is end


def test_a_connection_that_ends_without_a_word() -> None:
    assert of_reason(0x80, None, by_broker=False) is End.CLOSED
    assert of_reason(0x80, OSError(errno.ECONNRESET, ""), by_broker=False) is End.CLOSED
    assert of_reason(0x80, OSError(errno.ETIMEDOUT, ""), by_broker=False) is End.AWAY
    assert of_reason(0x8D, None, by_broker=False) is End.AWAY  # no answer to a ping
    assert of_error(ssl.SSLEOFError(8, "")) is End.CLOSED
