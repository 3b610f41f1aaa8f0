"""What one listener serves, and what it asks of those who come (RULES 21, 22)."""

from __future__ import annotations

import hmac
from typing import Final

import msgspec

from edged.errors import EdgedError
from edged.oip.peers import Peer, check_control

_OPEN: Final = frozenset({"live", "ready", "health", "metrics"})  # probes and scrapers bring no token


class Rights(msgspec.Struct, frozen=True):
    """The rule of a listener; "" = no such token. `metrics_only`: it serves nothing else."""

    token: str = ""
    admin_token: str = ""
    metrics_only: bool = False

    def check(self, kind: str, token: bytes) -> None:
        """Whether a request of this kind is taken in at all: EdgedError `not_found` or `unauthorized`.

        `token` is what it brings, b"" for none.
        """
        if self.metrics_only and kind != "metrics":
            raise EdgedError("not_found", "this listener serves /metrics alone")
        if self.token and kind not in _OPEN and not (_same(token, self.token) or self.has_admin_token(token)):
            what = "the token is a wrong one" if token else "the request brings no token"
            raise EdgedError("unauthorized", what)

    def check_control(self, token: bytes, peer: Peer | None) -> str:
        """Who it is that may control the box, for the audit; EdgedError `forbidden` else. `peer` is None over TCP."""
        if self.has_admin_token(token):
            return "the admin token"
        if peer is None and self.admin_token:
            raise EdgedError(
                "forbidden", "control over TCP takes the admin token", "It is in sockets.admin_token_file."
            )
        return check_control(peer)

    def has_admin_token(self, token: bytes) -> bool:
        return bool(self.admin_token) and _same(token, self.admin_token)


def _same(sent: bytes, token: str) -> bool:
    """Takes as long for a token that is nearly right as for one that is not."""
    return hmac.compare_digest(sent, token.encode())
