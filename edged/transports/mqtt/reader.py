"""What comes on a connection, packet by packet: those of messages are read here, all others lent to paho (ADR 3)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from paho.mqtt.exception import MalformedPacket

from edged.transports.mqtt import codec
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.stream import Stream, StreamingClient
from edged.transports.mqtt.versions import Version

_PACKETS_A_TURN: Final = 64
_PINGRESP: Final = b"\xd0\x00"


class Reader:
    """`message` is called with each message and sees to its acknowledgement; `confirmed(mid, refusal)` with the
    broker's word on one of ours, where those are not left to paho. `number` is the connection's.

    While `held` nothing is read.
    """

    def __init__(
        self,
        client: StreamingClient,
        stream: Stream,
        number: int,
        version: Version,
        *,
        message: Callable[[Arrival], None],
        confirmed: Callable[[int, str], None],
    ) -> None:
        self._client = client
        self._stream = stream
        self._number = number
        self._version = version
        self._message = message
        self._confirmed = confirmed
        self._received: set[int] = set()  # messages at QoS 2 that the broker has not released
        self._heard = False  # something that paho did not see, since it was told last
        self.held = False

    def turn(self) -> bool:
        """Reads once, and again as long as TLS holds more; whether this turn has had enough before the end of it.

        Raises MalformedPacket, Excessive, OSError.
        """
        stream, readable = self._stream, True
        for _ in range(_PACKETS_A_TURN):
            if self.held:
                return False
            packet = stream.packet()
            if packet is not None:
                self._take(*packet)
            elif stream.lent:
                self._lend()
                if stream.lent and not stream.pending():
                    return False
            elif readable or stream.hidden:
                readable = False
                # Also of a packet that takes longer than two keepalives: the answer to a ping waits behind it.
                self._heard = stream.fill() or self._heard
            else:
                return False
        return True

    def vouch(self) -> None:
        """Before paho looks at its keepalive: it would give a broker up that sends messages alone, which it never sees.

        Raises MalformedPacket, OSError.
        """
        if self._heard and not self._stream.lent:
            self._heard = False
            self._stream.insert(_PINGRESP)
            self._lend()

    def _lend(self) -> None:
        """Has paho read a packet of its own: it raises whatever it stumbles over, which is the broker's fault."""
        try:
            self._client.loop_read()
        except OSError:
            raise
        except Exception as error:
            raise MalformedPacket(f"what paho cannot read: {error!r}") from error

    def _take(self, head: int, body: codec.Bytes) -> None:
        self._heard = True
        if head == codec.PUBACK:
            self._confirmed(*codec.confirmation(self._version, body))
        elif head == codec.PUBREL:
            mid = codec.released(body)
            self._received.discard(mid)
            self._stream.send(codec.completed(mid))
        else:
            came = codec.arrival(self._number, self._version, head, body)
            if self._stream.left_out:
                came = msgspec.structs.replace(came, left_out=self._stream.left_out)
                self._stream.left_out = 0
            if came.qos < 2:
                self._message(came)
            else:
                self._take_once(came)

    def _take_once(self, came: Arrival) -> None:
        """At QoS 2, which edged asks nobody for: the message's number is all that is kept until it is released."""
        if came.mid not in self._received:
            self._received.add(came.mid)
            self._message(msgspec.structs.replace(came, qos=0))
        self._stream.send(codec.received(came.mid))
