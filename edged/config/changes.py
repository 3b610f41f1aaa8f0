"""What differs between two configurations, and which of it a running daemon can take. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from edged.config.schema import Config

# What a reload puts into effect. Everything else is read at the start alone, and a reload refuses to change it
# rather than to keep quiet about it: a new key is of that kind until it is named here. push.trust stays of that kind:
# whose word counts here moves on by documents that the word before has signed, and at a start by a person's hand.
LIVE: Final = frozenset(
    {
        "groups",
        "models",
        "push.require_signature",
        "push.install",
        "push.models",
        "push.max_size",
        "push.connection",
        "push.record",
        "push.remote",
        "push.probation.time",
        "push.probation.runs",
        "push.probation.max_errors",
        "push.probation.max_latency",
        "telemetry.interval",
    }
)


class Changes(msgspec.Struct, frozen=True):
    """Models by name, and other keys: those that take effect at once, and those that need a restart."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [
            f"{what} {', '.join(names)}"
            for what, names in (
                ("added", self.added),
                ("removed", self.removed),
                ("changed", (*self.changed, *self.settings)),
            )
            if names
        ]
        return "; ".join(parts) or "nothing has changed"


def changes(before: Config, after: Config) -> Changes:
    """From `before` to `after`, in the order of the new file."""
    old = {model.name: model for model in before.models}
    new = {model.name: model for model in after.models}
    # What arriving models begin with differs where they do.
    keys = [key for key in _differing(before, after, "") if key.partition(".")[0] not in ("models", "arriving")]
    return Changes(
        tuple(name for name in new if name not in old),
        tuple(name for name in old if name not in new),
        tuple(name for name in new if name in old and new[name] != old[name]),
        tuple(key for key in keys if key in LIVE),
        tuple(key for key in keys if key not in LIVE),
    )


def _differing(before: msgspec.Struct, after: msgspec.Struct, path: str) -> Iterator[str]:
    """The keys whose values differ, as deep as both have the section."""
    for name in before.__struct_fields__:
        one, other = getattr(before, name), getattr(after, name)
        here = f"{path}.{name}" if path else name
        if one == other:
            continue
        if isinstance(one, msgspec.Struct) and type(one) is type(other):
            yield from _differing(one, other, here)
        else:
            yield here
