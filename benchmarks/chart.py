"""The picture of a swap: latency over time, small enough to live in a repository."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from PIL import Image

from benchmarks.figures import percentile
from benchmarks.swap import Course, Sample

_SLOT_S: Final = 0.05
_COLOURS: Final = 32


def draw(course: Course, file: Path) -> None:
    """A PNG of p50, p99 and the slowest answer of each twentieth of a second, around the switch at 0."""
    slots = list(_slots(course.samples, course.switched_s))
    at_s = [at for at, _ in slots]
    figure = Figure(figsize=(8, 3), dpi=100, layout="constrained")
    axes = figure.subplots()
    for share, name, colour in [(1.0, "slowest", "#c8c8c8"), (0.99, "p99", "#d9822b"), (0.5, "p50", "#2b6cb0")]:
        axes.plot(at_s, [percentile(took, share) for _, took in slots], label=name, color=colour, linewidth=1.2)
    for when_s, word, side in [(course.pushed_s - course.switched_s, "pushed ", "right"), (0.0, " takes over", "left")]:
        axes.axvline(when_s, color="#444444", linewidth=0.8, linestyle="--")
        axes.text(when_s, 0.96, word, ha=side, va="top", transform=axes.get_xaxis_transform())
    axes.set(yscale="log", xlabel="seconds from the moment that the new model takes over", ylabel="latency, ms")
    axes.set_ylim(top=axes.get_ylim()[1] * 3)  # room for the words
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.legend(loc="upper right", ncols=3, frameon=False)
    axes.grid(visible=True, axis="y", color="#e5e5e5")
    drawn = io.BytesIO()
    figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(_COLOURS).save(file, "PNG", optimize=True)


def _slots(samples: tuple[Sample, ...], zero_s: float) -> Iterator[tuple[float, list[float]]]:
    """(middle of the slot in seconds from `zero_s`, latencies in it in ms), in order, empty ones left out."""
    found: dict[int, list[float]] = {}
    for sample in samples:
        found.setdefault(int((sample.at_s - zero_s) // _SLOT_S), []).append(sample.took_ms)
    for slot in sorted(found):
        yield (slot + 0.5) * _SLOT_S, found[slot]
