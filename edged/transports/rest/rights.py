"""What one listener serves, and what it asks of those who come (RULES 21, 22)."""

from __future__ import annotations

import hmac
from typing import Final

import msgspec

from edged.errors import EdgedError
from edged.transports.rest.heads import Head
from edged.transports.rest.peers import Peer, check_control

_OPEN: Final = frozenset({"live", "ready", "metrics"})  # probes and scrapers bring no token


class Rights(msgspec.Struct, frozen=True):
    """The rule of a listener; "" = no such token. `metrics_only`: it serves nothing else."""

    token: str = ""
    admin_token: str = ""
    metrics_only: bool = False

    def check(self, head: Head) -> None:
        """Whether such a request is taken in at all: EdgedError `not_found` or `unauthorized`."""
        if self.metrics_only and head.target.kind != "metrics":
            raise EdgedError("not_found", "this listener serves /metrics alone")
        if self.token and head.target.kind not in _OPEN and not (_same(head, self.token) or self.has_admin_token(head)):
            what = "the token is a wrong one" if head.token else "the request brings no token"
            raise EdgedError("unauthorized", what)

    def check_control(self, head: Head, peer: Peer | None) -> str:
        """Who it is that may control the box, for the audit; EdgedError `forbidden` else. `peer` is None over TCP."""
        if self.has_admin_token(head):
            return "the admin token"
        if peer is None and self.admin_token:
            raise EdgedError(
                "forbidden", "control over TCP takes the admin token", "It is in sockets.admin_token_file."
            )
        return check_control(peer)

    def has_admin_token(self, head: Head) -> bool:
        return bool(self.admin_token) and _same(head, self.admin_token)


def _same(head: Head, token: str) -> bool:
    """Takes as long for a token that is nearly right as for one that is not."""
    return hmac.compare_digest(head.token, token.encode())
