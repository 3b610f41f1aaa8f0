"""One connection attempt: a fresh paho client for a version, and the blocking part that dials the broker.

A client is used for one connection only. What must outlive it (states, results, the connection's
number) is kept outside, so no packet identifier of an old connection can mean anything in a new one.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any, Final

import msgspec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes

from edged.config import addresses, certificates, schema
from edged.config.addresses import Broker
from edged.transports.mqtt import websocket
from edged.transports.mqtt.outbox import MAX_PACKET
from edged.transports.mqtt.packets import fresh
from edged.transports.mqtt.stream import StreamingClient
from edged.transports.mqtt.versions import Version

CONNECT_TIMEOUT_S: Final = 5.0
_UNACKNOWLEDGED: Final = 2048  # paho's own queue; never reached, the outbox's window is smaller

_HEADERS: Final = 128 * 1024  # room in a packet beside the payload: topic and properties

NO_CONNACK: Final = (
    "the broker closed the connection without an answer; the usual causes, likeliest first: it wants a client "
    "certificate, it does not trust ours, the port is one for TLS or WebSockets and mqtt.url says mqtt:// (or the "
    "other way round), it does not speak this MQTT version"
)


class Dialer(msgspec.Struct, frozen=True):
    """Everything that one kind of connection tells the broker. `session_s` 0 = clean.

    `packet_limit` (bytes) and `receive_maximum` are what we take; only MQTT 5 can say so.
    `will`: the topic on which the broker says `offline` for us, "" for none.
    """

    settings: schema.Mqtt
    client_id: str
    session_s: int
    packet_limit: int
    receive_maximum: int
    will: str = ""
    manual_ack: bool = False

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """In their order."""
        return tuple(map(addresses.broker, self.settings.url))

    def client(self, version: Version) -> StreamingClient:
        """A client that has not dialled yet."""
        five = version == "5"
        client = StreamingClient(
            CallbackAPIVersion.VERSION2,
            client_id=self.client_id,
            clean_session=None if five else not self.session_s,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            # With it, paho would dial again by itself, blocking, inside loop_read.
            reconnect_on_failure=False,
            manual_ack=self.manual_ack,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(0)  # the outbox keeps the window, and knows the broker's limit
        client.max_queued_messages_set(_UNACKNOWLEDGED)
        client.on_socket_open = no_delay
        if self.settings.username:
            client.username_pw_set(self.settings.username, self.settings.password or None)
        if self.will:
            client.will_set(self.will, b"offline", qos=1, retain=True)
        return client

    def dial(self, client: StreamingClient, version: Version, broker: Broker) -> None:
        """Blocks until CONNECT has been sent: name lookup, TCP, TLS, WebSocket. Raises OSError and ValueError."""
        client.broker = broker
        if broker.tls:
            client.tls_set_context(self._tls())
        keepalive = round(self.settings.keepalive)
        if version != "5":
            client.connect(broker.host, broker.port, keepalive)
            return
        properties = fresh(PacketTypes.CONNECT)
        properties.MaximumPacketSize = self.packet_limit
        properties.ReceiveMaximum = self.receive_maximum
        if self.session_s:
            properties.SessionExpiryInterval = self.session_s
        client.connect(broker.host, broker.port, keepalive, clean_start=not self.session_s, properties=properties)

    def answers(self, broker: Broker) -> bool:
        """Whether something there takes connections, and is who it should be. Blocks for some seconds at most."""
        try:
            with contextlib.closing(socket.create_connection((broker.host, broker.port), CONNECT_TIMEOUT_S)) as plain:
                sock = self._tls().wrap_socket(plain, server_hostname=broker.host) if broker.tls else plain
                with contextlib.closing(sock):
                    if broker.path:
                        websocket.opened(sock, broker, CONNECT_TIMEOUT_S).close()
        except (OSError, ValueError):
            return False
        return True

    def _tls(self) -> ssl.SSLContext:
        context = certificates.context(self.settings.ca, self.settings.cert, self.settings.key)
        context.sslsocket_class = _Socket
        return context


class _Socket(ssl.SSLSocket):
    """Closed at once when the handshake fails; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002  the standard library's signature
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def packet_limit(payload: int) -> int:
    """The Maximum Packet Size for payloads of so many bytes."""
    return min(MAX_PACKET, payload + _HEADERS)


def no_delay(_client: Client, _userdata: Any, sock: Any) -> None:
    """Without it QoS 1 stalls for 44 ms a message (measured: Nagle and delayed ACK)."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def explain(error: OSError | ValueError, broker: Broker) -> str:
    """What a person can do about a failed attempt."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the broker's certificate is not trusted: check mqtt.ca and the host in mqtt.url ({error})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: is port {broker.port} a TLS port? ({error})"
    if isinstance(error, socket.gaierror):
        return f"{broker.host} is not a known host: check mqtt.url and the name server"
    if isinstance(error, TimeoutError):
        return f"no answer from {broker.host}:{broker.port} within {CONNECT_TIMEOUT_S:.0f} s"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on {broker.host}:{broker.port}: is the broker running?"
    hint = getattr(error, "hint", "")
    return (str(error) or type(error).__name__) + (f" ({hint})" if hint else "")
