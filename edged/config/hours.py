"""When pushed models may begin: at once, when a person says so, or in hours of the day. Read and spelled."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from edged.config.mistakes import Refusal

DAY_MIN: Final = 24 * 60
_HOURS: Final = re.compile(r"(\d{2}):(\d{2})\s*-\s*(\d{2}):(\d{2})", re.ASCII)
_EXAMPLE: Final = '"02:00-04:00", local time'


class Hours(msgspec.Struct, frozen=True):
    """From `begin` to before `end`, in minutes of the local day; over midnight where `end` is not after `begin`."""

    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Hours:
        """`02:00-04:00`, `22:00-06:00`, `00:00-24:00`. Raises Refusal."""
        found = _HOURS.fullmatch(text.strip())
        if found is None:
            raise Refusal(f"expected auto, manual or hours such as {_EXAMPLE}, found {text[:40]!r}")
        hours = [int(one) for one in found.groups()]
        begin, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if max(hours[1], hours[3]) > 59 or begin >= DAY_MIN or end > DAY_MIN:
            raise Refusal(f"{text} has a time that no clock shows", "00:00 to 23:59, and 24:00 as an end")
        if begin == end:
            raise Refusal(f"{text} has no minute in it", "auto installs at any time, as 00:00-24:00 does")
        return cls(begin, end)

    def hold(self, minute: int) -> bool:
        """Whether `minute` of the local day is one of them."""
        if self.begin < self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end

    def __str__(self) -> str:
        return "-".join(f"{one // 60:02}:{one % 60:02}" for one in (self.begin, self.end))


Install = Literal["auto", "manual"] | tuple[Hours, ...]


def word_or_hours(text: str) -> None:
    """One item of `push.install`. Raises Refusal."""
    if text not in ("auto", "manual"):
        Hours.parse(text)


def install(items: Iterable[str]) -> Install:
    """What `push.install` says, each item a word or hours. Raises Refusal where they contradict each other."""
    found = list(items)
    if found in (["auto"], ["manual"]):
        return "auto" if found == ["auto"] else "manual"
    for word in ("auto", "manual"):
        if word in found:
            raise Refusal(f"{word} goes with nothing beside it", f"keep {word}, or the hours")
    if not found:
        raise Refusal("has no value", f"auto, manual or hours such as {_EXAMPLE}")
    return tuple(Hours.parse(one) for one in found)
