"""What a worker says, looked at before it is believed: it runs a model that came from elsewhere."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from edged.channel import Answers, Message, ProtocolError, Ready, Refused
from edged.door import Tallies
from edged.errors import CODES, Fault
from edged.observe.buckets import BOUNDS_S
from edged.tensors import Compared

_MOST_STACKED: Final = 1024  # the largest batch.max
_MOST_ROWS: Final = 2**31  # of one run
_LONGEST_S: Final = 3600.0
_MOST_CASES: Final = 256  # of a golden file
_MOST_TOLD: Final = 2**32  # inputs that were answered between two messages
_LONGEST_WORDS: Final = 4096  # characters of what becomes a status: a tensor may have a long name


def check(message: Message) -> None:
    """Raises ProtocolError for what would harm whoever acts on it: an unknown code, a figure out of all bounds."""
    if isinstance(message, Answers):
        rows = message.rows
        if rows and not (len(rows) <= len(message.heads) and min(rows) > 0 and max(rows) <= _MOST_ROWS):
            raise ProtocolError("runs that cannot be")
        for head in message.heads:
            if head.fault is not None:
                _check_fault(head.fault)
            if not (0 <= head.json_length <= head.size and -1 <= head.copy <= head.size):
                raise ProtocolError("an answer whose parts are longer than the answer")
    elif isinstance(message, Tallies):
        _check_tallies(message)
    elif isinstance(message, Refused):
        _check_fault(message.fault)
        if len(message.where) > _LONGEST_WORDS:
            raise ProtocolError("a place of too many words")
    elif isinstance(message, Ready):
        if not 1 <= message.batch_max <= _MOST_STACKED:
            raise ProtocolError(f"batches of {message.batch_max} inputs")
        if not all(math.isfinite(figure) and 0 <= figure <= _LONGEST_S for figure in (message.load_s, message.run_s)):
            raise ProtocolError("a time that cannot be")
        if len(message.fallback + "".join(message.providers)) > _LONGEST_WORDS:
            raise ProtocolError("providers of too many words")


def compared(payload: bytes) -> Compared:
    """What a worker says of a golden case. Raises ProtocolError for what cannot be."""
    try:
        found = msgspec.msgpack.decode(payload, type=Compared)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a comparison that cannot be read: {error}") from error
    if not 1 <= found.cases <= _MOST_CASES or not 0 <= found.cpu_s <= _LONGEST_S or math.isnan(found.difference):
        raise ProtocolError("a comparison that cannot be")
    if len(found.where + found.given + found.golden + found.misfit) > _LONGEST_WORDS:
        raise ProtocolError("a comparison of too many words")
    return found


def _check_tallies(told: Tallies) -> None:
    if unknown := [code for code in told.outcomes if code != "ok" and code not in CODES]:
        raise ProtocolError(f"an outcome with the unknown code {unknown[0][:32]!r}")
    if not all(0 <= index <= len(BOUNDS_S) for index in told.durations):
        raise ProtocolError("a duration that has no bucket")
    counts = [*told.outcomes.values(), *told.durations.values(), told.own, told.nonfinite]
    counts += [*told.runs, *(count for count, _ in told.runs.values())]
    times = [told.seconds / _MOST_TOLD, *(spent / 1e9 for spent in told.cpu_ns)]
    times += [spent / 1e9 / max(count, 1) for count, spent in told.runs.values()]
    if not all(0 <= count <= _MOST_TOLD for count in counts):
        raise ProtocolError("a count that cannot be")
    if len(told.heads) > 1 or not all(math.isfinite(figure) and 0 <= figure <= _LONGEST_S for figure in times):
        raise ProtocolError("a time that cannot be")


def _check_fault(problem: Fault) -> None:
    if problem.code not in CODES:
        raise ProtocolError(f"an error with the unknown code {problem.code[:32]!r}")
