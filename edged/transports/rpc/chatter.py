"""Frames that bring no call on. Pure."""

from __future__ import annotations

from typing import Final

from edged.transports.rpc.frames import CALM, Broken

_ALLOWED: Final = 8  # with a call: windows, and pings with which clients measure


class Chatter:
    """What attacks on HTTP/2 have in common is counted together: pings, settings, resets, empty data and the like.

    At most `most` until `forget` is called again, those that come with a call aside.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heard = 0

    def hear(self) -> None:
        """One more. Raises Broken for the one too many."""
        self._heard += 1
        if self._heard > self._most:
            raise Broken(CALM, "too many frames that bring no call on")

    def called(self) -> None:
        """A call has come of it."""
        self._heard = max(self._heard - _ALLOWED, 0)

    def forget(self) -> None:
        self._heard = 0
