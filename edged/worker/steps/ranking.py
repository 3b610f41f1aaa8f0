"""Steps that make a `prediction` of an output: argmax, top_k, labels, min_score.

They only collect what is wanted, as `detect` does; `rank` does the work once, on all rows together. Without argmax or
top_k every class is listed, best first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from edged.config.steps import Argmax, Labels, MinScore, Round, TopK
from edged.worker.formats.decoded import Array
from edged.worker.steps.detect import Search
from edged.worker.steps.scores import best, by_class

Entry = dict[str, Any]  # {"label"?, "index", "score"}


class Ranking(msgspec.Struct, frozen=True, eq=False):
    """What to make of `scores`: the `best` so many (None: all), from `min_score` on, named and rounded."""

    scores: Array
    best: int | None = None
    names: tuple[str, ...] = ()
    min_score: float | None = None
    decimals: int | None = None


Wanted = TypeVar("Wanted", bound=Ranking | Search)


def argmax(step: Argmax, wanted: Ranking) -> Ranking:  # noqa: ARG001 - one call for all steps
    return msgspec.structs.replace(wanted, best=1)


def top_k(step: TopK, wanted: Ranking) -> Ranking:
    return msgspec.structs.replace(wanted, best=step.n)


def labels(step: Labels, wanted: Wanted) -> Wanted:
    return msgspec.structs.replace(wanted, names=step.names)


def min_score(step: MinScore, wanted: Wanted) -> Wanted:
    return msgspec.structs.replace(wanted, min_score=step.x)


def round_scores(step: Round, wanted: Wanted) -> Wanted:
    return msgspec.structs.replace(wanted, decimals=step.n)


RANKINGS: Final[dict[type, Callable[[Any, Any], Any]]] = {
    Argmax: argmax,
    TopK: top_k,
    Labels: labels,
    MinScore: min_score,
}


def rank(ranking: Ranking) -> list[Any]:
    """One item per row: the list of its entries, best first (of equals the lower index; NaN last).

    Where an output has axes between rows and classes, a row's item is the list of the lists of each place.
    """
    values = by_class(ranking.scores)
    *places, classes = values.shape
    rows = values.reshape(math.prod(places), classes)
    indices = best(rows, ranking.best)
    scores = rows[np.arange(len(rows))[:, np.newaxis], indices]
    listed = [_entries(ranking, *row) for row in zip(indices.tolist(), scores.tolist(), strict=True)]
    if len(places) < 2:
        return listed
    each = math.prod(places[1:])
    return [listed[row * each : (row + 1) * each] for row in range(places[0])]


def _entries(ranking: Ranking, indices: list[int], scores: list[float]) -> list[Entry]:
    lowest, names, decimals = ranking.min_score, ranking.names, ranking.decimals
    entries: list[Entry] = []
    for index, score in zip(indices, scores, strict=True):
        if lowest is not None and not score >= lowest:
            continue
        shown = score if decimals is None else round(score, decimals)
        entry: Entry = {"label": names[index]} if index < len(names) else {}
        entry["index"] = index
        entry["score"] = shown
        entries.append(entry)
    return entries
