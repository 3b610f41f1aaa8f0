"""Whether a pushed model may begin now by `push.install`, and when next. Pure: the time and its zone come in.

The clock on the wall decides. In the night in which an hour is skipped, hours inside it do not come; in the night in
which one comes twice, so do they.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from edged.config.hours import Hours, Install
from edged.errors import Fault, fault

_MINUTE_MS: Final = 60_000
_DAYS: Final = 3  # of the next openings; hours that a night skipped come the night after


def is_open(install: Install, now_ms: int, zone: tzinfo | None = None) -> bool:
    """Whether a release may begin at `now_ms` of the wall clock; `zone` None is the box's own."""
    if isinstance(install, str):
        return install == "auto"
    minute = _minute(now_ms, zone)
    return any(hours.hold(minute) for hours in install)


def opens_ms(install: Install, now_ms: int, zone: tzinfo | None = None) -> int | None:
    """When one may begin: `now_ms` where that is so now, else the first such minute; None for `manual`."""
    if is_open(install, now_ms, zone):
        return now_ms
    if isinstance(install, str):
        return None
    return min(_openings(install, now_ms, zone), default=None)


def closed(install: Install, now_ms: int) -> Fault | None:
    """Why a trial may not begin now by the box's own clock, None where it may."""
    if is_open(install, now_ms):
        return None
    opens = opens_ms(install, now_ms)
    if opens is None:
        return fault("manual", "push.install is manual: it waits for a person")
    return fault("not_now", f"push.install lets it begin in {(opens - now_ms) / 3.6e6:.1f} hours")


def _openings(install: tuple[Hours, ...], now_ms: int, zone: tzinfo | None) -> Iterator[int]:
    """The first minute of each of the hours on the days to come, in no order."""
    today = _local(now_ms, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    for days in range(_DAYS):
        for hours in install:
            begins = today + timedelta(days=days, minutes=hours.begin)
            # A begin that comes twice has two moments. One that a night skips has two as well: the clock jumps
            # between them, perhaps to a minute that is one of the hours.
            one, other = sorted(_epoch_ms(begins.replace(fold=fold)) for fold in (0, 1))
            for moment in range(one, other + 1, _MINUTE_MS):
                if moment > now_ms and hours.hold(_minute(moment, zone)):
                    yield moment
                    break


def _minute(at_ms: int, zone: tzinfo | None) -> int:
    """The minute of the local day."""
    local = _local(at_ms, zone)
    return local.hour * 60 + local.minute


def _local(at_ms: int, zone: tzinfo | None) -> datetime:
    """With a zone of its own, or without one where it is the box's: datetime knows that one's rules by the system."""
    return datetime.fromtimestamp(at_ms / 1000, tz=zone)


def _epoch_ms(local: datetime) -> int:
    if local.tzinfo is not None:
        local = local.astimezone(UTC)
    return round(local.timestamp() * 1000)
