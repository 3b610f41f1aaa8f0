"""Frames that bring no call on. Pure."""

from __future__ import annotations

from typing import Final

from edged.transports.rpc.frames import CALM, Broken

_ALLOWED: Final = 8  # with a call: windows, and pings with which clients measure
_FOR_ONE: Final = 4096  # bytes of an answer: some clients give both windows anew for each frame, and that is 16 KiB
_EARNED: Final = 8192  # frames that may come late, behind 32 MiB that were sent at once


class Chatter:
    """What attacks on HTTP/2 have in common is counted together: pings, settings, resets, empty data and the like.

    At most `most` until `forget` is called again, those aside that come with a call, or with what it is answered.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._heard = 0  # below 0: so many more are expected
        self._sent = 0

    def hear(self) -> None:
        """One more. Raises Broken for the one too many."""
        self._heard += 1
        if self._heard > self._most:
            raise Broken(CALM, "too many frames that bring no call on")

    def called(self) -> None:
        """A call has come of it."""
        if self._heard > 0:
            self._heard = max(self._heard - _ALLOWED, 0)

    def sent(self, size: int) -> None:
        """So many bytes went to the client, for which it gives windows."""
        earned, self._sent = divmod(self._sent + size, _FOR_ONE)
        self._heard = max(self._heard - earned, -_EARNED)

    def forget(self) -> None:
        self._heard = min(self._heard, 0)
