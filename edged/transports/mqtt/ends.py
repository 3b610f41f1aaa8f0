"""How a connection ended, as far as that says something of what was under way on it. Pure."""

from __future__ import annotations

import enum
import errno
from typing import Final

# A DISCONNECT's reasons that are about a packet of ours, and those that are about the broker or the connection
# (MQTT 5, 3.14.2.1).
_NAMED: Final = frozenset({0x81, 0x82, 0x87, 0x90, 0x95, 0x99, 0x9A, 0x9B})
_ITS_OWN: Final = frozenset({0x00, 0x89, 0x8B, 0x8D, 0x8E, 0x93, 0x96, 0x98, 0x9C, 0x9D, 0x9F, 0xA0})
_LOST: Final = 0x80  # as paho calls it when the socket has ended
_NETWORK: Final = frozenset(
    {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EHOSTDOWN}
)


class End(enum.Enum):
    """Who ended it."""

    NAMED = enum.auto()  # the broker, which said that a packet was the reason
    CLOSED = enum.auto()  # the broker, or something on the way
    AWAY = enum.auto()  # the broker fell silent, the network failed, or it was our doing


def of_error(error: OSError | None) -> End:
    """Of a socket: None is the end of the stream."""
    return End.AWAY if error is not None and error.errno in _NETWORK else End.CLOSED


def of_reason(reason: int, error: OSError | None, *, by_broker: bool) -> End:
    """Of paho's reason: that of a DISCONNECT `by_broker`, or what paho itself has noticed of socket and pings."""
    if by_broker:
        return End.NAMED if reason in _NAMED else End.AWAY if reason in _ITS_OWN else End.CLOSED
    return of_error(error) if reason == _LOST else End.AWAY
