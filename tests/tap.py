"""What a box and its broker say to each other at QoS 1, read off the wire (MQTT 3.1.1): who has confirmed what.

tap = Tap(); Proxy(broker.port, watch=tap)
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from tests.proxy import Connection

_PUBLISH, _PUBACK = 3, 4


class Tap:
    """`steps` are (what, topic, payload), in order: inputs `taken` and `acknowledged`, results `sent` and `confirmed`.

    An input is a message to the box, a result one from it. Those whose QoS is 0 are left out.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[str, str, bytes]] = []
        self._rest: Final[dict[tuple[Connection, bool], bytearray]] = defaultdict(bytearray)
        self._open: Final[dict[tuple[Connection, bool, int], tuple[str, bytes]]] = {}  # by packet identifier

    def __call__(self, connection: Connection, data: bytes, up: bool) -> None:
        rest = self._rest[connection, up]
        rest += data
        while (packet := _packet(rest)) is not None:
            first, body = packet
            if first >> 4 == _PUBLISH and first & 6:
                length = int.from_bytes(body[:2])
                mid = int.from_bytes(body[2 + length : 4 + length])
                message = body[2 : 2 + length].decode(), body[4 + length :]
                self._open[connection, up, mid] = message
                self.steps.append(("sent" if up else "taken", *message))
            elif first >> 4 == _PUBACK and (of := self._open.pop((connection, not up, int.from_bytes(body[:2])), None)):
                self.steps.append(("acknowledged" if up else "confirmed", *of))

    def of(self, what: str, topic: str) -> list[tuple[str, bytes]]:
        """The messages of one kind on topics with this part in them, in their order."""
        return [(name, payload) for kind, name, payload in list(self.steps) if kind == what and topic in name]


def _packet(rest: bytearray) -> tuple[int, bytes] | None:
    """Takes a whole packet off: its first byte, and what follows the length (MQTT 3.1.1, 2.2)."""
    length, shift, at = 0, 0, 1
    while at < len(rest):
        length |= (rest[at] & 0x7F) << shift
        if rest[at] < 0x80:
            break
        shift, at = shift + 7, at + 1
    if len(rest) < at + 1 + length or at >= len(rest):
        return None
    first, body = rest[0], bytes(rest[at + 1 : at + 1 + length])
    del rest[: at + 1 + length]
    return first, body
