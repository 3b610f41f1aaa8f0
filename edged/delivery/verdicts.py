"""What a code says of a release: the word of its verdict, whether it is remembered, what ends with it. Pure."""

from __future__ import annotations

from typing import Final

from edged.delivery.record import Ended
from edged.errors import Fault

REMEMBERED: Final = 64  # failed releases, the newest

# Verdicts on the file or the release as it came; every other code is the outcome of a trial.
_REJECTIONS: Final = frozenset(
    {"unsigned", "retained_push", "bad_version", "too_large", "no_space", "not_a_model", "io_mismatch", "superseded"}
    | {"unknown_model", "unsupported", "busy", "no_trust", "bad_document", "signature", "expired", "seq_conflict"}
    | {"downgrade", "banned", "pinned", "clock_suspect", "undone", "bad_settings", "not_meant"}
)
# Not the release's doing, or true only of the moment: such a release may come again.
_FORGIVEN: Final = frozenset(
    {"no_space", "superseded", "io_mismatch", "unsupported", "bad_store", "internal", "stopping", "busy"}
    | {"model_failed", "banned", "undone", "expired", "downgrade", "signature", "pinned", "bad_chunk", "no_trust"}
    | {"too_large", "clock_suspect", "not_meant"}
)
# What ends a candidate without a word against it.
GIVEN_UP: Final = frozenset({"superseded", "undone", "pinned", "not_meant"})
# What ends a candidate and not the order: it is begun again.
RESUMED: Final = frozenset({"bad_store", "pinned", "superseded"})
# What the trust document decided, and another one may decide otherwise.
BY_TRUST: Final = frozenset({"banned", "signature", "no_trust"})
# What the box's name and groups decided, and others may decide otherwise.
BY_BOX: Final = frozenset({"not_meant"})
LIMITS: Final = frozenset({"too_slow", "over_memory", "probation_latency"})


def ending(problem: Fault) -> Ended:
    """The verdict that goes with a fault: the file was refused as it came, or it failed its trial."""
    return "rejected" if problem.code in _REJECTIONS else "failed"


def remember(blacklist: dict[str, Fault], key: str, problem: Fault) -> dict[str, Fault]:
    """The blacklist after a release, by its key, has failed with `problem`."""
    if problem.code in _FORGIVEN:
        return blacklist
    entries = [(other, why) for other, why in blacklist.items() if other != key]
    return dict([*entries, (key, problem)][-REMEMBERED:])
