"""How fast a client takes its answers. Pure: bytes come in as arguments, time as sweeps of equal length."""

from __future__ import annotations

from typing import Final

# Bytes a second below which a client counts as one that has stopped: what ASP.NET's Kestrel (MinResponseDataRate) and
# IIS (minBytesPerSecond) ask for. nginx's send_timeout asks for one byte in a minute, and is held for ever by that.
LEAST_RATE: Final = 240.0


class Taking:
    """One client's. Whoever writes to it adds to `wrote`.

    As of the last look: `taken` is how much it took in all, `unsent` what waits for it, and `untaken` as much where it
    would not leave in time at the pace of the last sweep, else 0. One byte a sweep is as good as none.
    """

    __slots__ = ("taken", "unsent", "untaken", "wrote")

    def __init__(self) -> None:
        self.wrote = 0
        self.taken = 0
        self.unsent = 0
        self.untaken = 0

    def look(self, unsent: int, sweeps: float) -> None:
        """Once a sweep. `unsent` bytes wait for the client, and should leave within so many `sweeps`."""
        waited, before = self.unsent, self.taken
        self.unsent = unsent
        # What is no answer, a frame or the end of a head, may be in `unsent` and not in `wrote`.
        self.taken = max(self.wrote - unsent, before) if unsent else self.wrote
        self.untaken = unsent if waited and unsent > (self.taken - before) * sweeps else 0

    def keeps_up(self, since: int, limit_s: float) -> bool:
        """Whether it has taken enough since `taken` was `since` to be given another `limit_s`."""
        took = self.taken - since
        return took > 0 and (not self.unsent or took >= limit_s * LEAST_RATE)
