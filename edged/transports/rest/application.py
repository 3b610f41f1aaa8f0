"""What a connection asks of whoever answers requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from edged.oip.gate import Gate
from edged.transports.rest.limits import Limits

if TYPE_CHECKING:
    from edged.transports.rest.connection import Connection
    from edged.transports.rest.heads import Head
    from edged.transports.rest.turns import Turn


class Application(Protocol):
    """What answers requests; app.App is one."""

    def admit(self, head: Head) -> int:
        """The bytes that the body of such a request may have."""

    def take(self, head: Head, payload: bytes, turn: Turn, check_control: Callable[[Head], str]) -> None:
        """Sees to it that `turn` gets its reply; raises nothing. `check_control` says who asks or raises EdgedError."""


HttpGate: TypeAlias = "Gate[Application, Limits, Connection]"
