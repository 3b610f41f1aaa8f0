"""One input on its way through the worker: what it was, what it became, what went wrong with it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edged.channel import InputHead
from edged.errors import EdgedError, Fault
from edged.worker.formats.decoded import Array, Decoded
from edged.worker.stack import Feeds
from edged.worker.view import View

# A run's errors that are the model's own; the others (an index out of bounds) are the sender's.
_OWN: Final = frozenset({"model_failed", "over_memory"})


class Job(msgspec.Struct, eq=False):
    """One input, or several that are alike. `rows` 0: it shares no first axis and runs alone.
    `shown`: the output that stands for the result where there is room for one."""

    head: InputHead
    decoded: Decoded | None = None
    feeds: Feeds = {}
    rows: int = 0
    view: View | None = None
    outputs: dict[str, Array] = {}
    shown: Array | None = None
    found: dict[str, list[Any]] | None = None
    fault: Fault | None = None
    own: bool = False

    def fail(self, error: EdgedError, *, in_run: bool = False) -> None:
        self.fault = error.fault
        self.own = in_run and error.fault.code in _OWN
