"""What a connection asks of whoever answers calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from edged.oip.gate import Gate
from edged.oip.rights import Rights
from edged.transports.rpc.limits import Limits

if TYPE_CHECKING:
    from edged.transports.rpc.calls import Call
    from edged.transports.rpc.connection import Connection
    from edged.transports.rpc.heads import Head
    from edged.transports.rpc.methods import Method


class Application(Protocol):
    """What answers calls; app.App is one."""

    def admit(self, head: Head, rights: Rights) -> tuple[Method, int]:
        """What is called, and the bytes that each of its messages may have. Raises EdgedError."""

    def take(self, call: Call, payload: bytes) -> None:
        """Sees to it that `call` gets its answer; raises nothing."""


RpcGate: TypeAlias = "Gate[Application, Limits, Connection]"
