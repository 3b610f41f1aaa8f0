"""What is served: one version of a model as files on this box, what it brings, and what it did."""

from __future__ import annotations

import collections

import msgspec

from edged.config.overrides import Overrides
from edged.config.schema import Model
from edged.config.units import Size
from edged.tensors import Signature


class Release(msgspec.Struct, frozen=True):
    """One version of a model as a file on this box, and what it brings.

    `beside`: the files in its folder that the model may keep weights in; None: any, as the folder is the operator's
    own. `settings`: what holds for it in place of the box's. `memory`: bytes its processes may take, where that is
    less than the box allows; 0: as much as the box allows. `signature`: what its document says that it takes and gives.
    """

    model: str
    version: str
    sha256: str
    file: str
    beside: tuple[str, ...] | None = ()
    settings: Overrides | None = None
    memory: int = 0
    signature: Signature | None = None

    def memory_of(self, box: Model) -> int:
        """Bytes that a process of it may take on this box."""
        return min(self.memory or box.limits.memory, box.limits.memory)

    def under(self, box: Model) -> Model:
        """The box's settings of the model as they are for this release."""
        settings = box if self.settings is None else self.settings.over(box)
        if not self.memory:
            return settings
        limits = msgspec.structs.replace(settings.limits, memory=Size(self.memory_of(box)))
        return msgspec.structs.replace(settings, limits=limits)


class Tally:
    """What a release did since it was started: read by probation, shared by its processes."""

    def __init__(self) -> None:
        self.runs = 0
        self.faults = 0
        self.nonfinite = 0
        self.crashes = 0
        self.cpu_s: collections.deque[float] = collections.deque(maxlen=512)

    def ended(self, *, by_itself: bool) -> None:
        """A process ended while it was live: by itself, or by our hand, for a limit it went past (RULES 26)."""
        if by_itself:
            self.crashes += 1
        else:
            self.faults += 1
