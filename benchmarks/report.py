"""The tables that people read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.figures import Row, median_of
from benchmarks.goals import Results, goals


def columns(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Aligned text: the first two columns to the left, numbers to the right."""
    table = [list(head), *map(list, lines)]
    widths = [max(len(line[index]) for line in table) for index in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def number(value: float | None) -> str:
    """The digits that count, no more: 0, 0.03, 5.6, 83, 1562; empty for None."""
    if value is None:
        return ""
    if value == 0:
        return "0"
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def costs(rows: Sequence[Row], bare_us: dict[str, float]) -> str:
    """CPU microseconds a request: a line for each model and subject, a column for each number in flight."""
    counts = sorted({row.in_flight for row in rows})
    middle = 16 if 16 in counts else counts[-1]
    found = {(row.model, row.subject, row.in_flight): row for row in rows}
    lines = []
    for model in dict.fromkeys(row.model for row in rows):
        lines.append([model, "onnxruntime", number(bare_us.get(model)), *[""] * (len(counts) + 6)])
        for subject in dict.fromkeys(row.subject for row in rows if row.model == model):
            mine = [found[model, subject, count] for count in counts]
            first, other = mine[0], found[model, subject, middle]
            faults = sum(row.faults for row in mine)
            lines.append(
                [model, subject, *[number(row.cpu_us) for row in mine], number(other.broker_us)]
                + [number(other.times_bare), f"{other.rate:.0f}"]
                + [f"{number(row.p50_ms)}/{number(row.p99_ms)}" for row in (first, other)]
                + [str(faults) if faults else "0", ""]
            )
    head = ["model", "CPU us a request at", *map(str, counts), "+broker", f"x bare at {middle}", f"/s at {middle}"]
    head += [f"p50/p99 ms at {counts[0]}", f"at {middle}", "lost or bad", ""]
    return columns(head, lines)


def footprint(results: Results) -> str:
    """Start, memory and idle time: a line for each that was measured."""
    return columns(["what it takes", "", ""], _footprint(results))


def _footprint(results: Results) -> Iterator[tuple[str, str, str]]:
    if (start_s := median_of(results.starts_s)) is not None:
        yield "start", "exec to READY=1, files cached", f"{start_s:.2f} s"
    if results.pss_mb is not None:
        parts = ", ".join(f"{process.role} {process.pss_bytes / 1e6:.1f}" for process in results.processes)
        yield "memory (PSS)", f"edged: {parts}", f"{results.pss_mb:.1f} MB"
    for name, size in results.peers_pss_bytes.items():
        yield "", f"{name} script", f"{size / 1e6:.1f} MB"
    if results.idle_percent is not None:
        yield "idle", "CPU of all processes, broker connected", f"{results.idle_percent:.2f} %"


def swaps(results: Results) -> str:
    """A line for each path on which a model was replaced under load."""
    head = [
        "swap under load",
        "model",
        "lost",
        "gap ms at the switch",
        "longest",
        "longest without a swap",
        "usual",
        "p99 ms before",
        "during",
        "after",
        "first new answer ms after the switch",
        "last old one",
        "took over after s",
    ]
    lines = []
    for one in results.swaps:
        gaps_ms = (one.switch_gap_ms, one.gap_ms, one.steady_gap_ms, one.usual_gap_ms)
        times_ms = (*gaps_ms, one.p99_before_ms, one.p99_during_ms, one.p99_after_ms)
        turn = (f"{one.new_ms:.1f}", f"{one.old_ms:.1f}")  # which may be below 0
        lines.append([one.path, one.model, str(one.lost), *map(number, times_ms), *turn, f"{one.switch_s:.2f}"])
    return columns(head, lines)


def trials(results: Results) -> str:
    """A line for each path on which a candidate of 10 MB was tried under load."""
    head = ["10 MB on trial under load", "model", "lost", "p99 ms before", "transfer", "trial", "trial s"]
    lines = []
    for one in results.trials:
        times_ms = (one.p99_before_ms, one.p99_transfer_ms, one.p99_trial_ms)
        lines.append([one.path, one.model, str(one.lost), *map(number, times_ms), f"{one.trial_s:.2f}"])
    return columns(head, lines)


def beside(results: Results) -> str:
    """A line for each subject whose tiny model was asked beside a saturated one."""
    head = [
        "beside a saturated model",
        "model",
        "p50 ms alone",
        "beside",
        "p99 ms alone",
        "beside",
        "other's /s",
        "faults",
    ]
    lines = []
    for one in results.beside:
        times_ms = (one.p50_alone_ms, one.p50_ms, one.p99_alone_ms, one.p99_ms)
        lines.append([one.subject, one.model, *map(number, times_ms), f"{one.rate:.0f}", str(one.faults)])
    return columns(head, lines)


def held(results: Results) -> str:
    """Each goal beside its figure."""
    lines = [
        ["yes" if goal.met else "NO", goal.what, number(goal.value), f"{goal.limit:.3g}", goal.unit]
        for goal in goals(results)
    ]
    return columns(["met", "goal", "measured", "at most", ""], lines)


def everything(results: Results, machine: dict[str, object]) -> str:
    """All tables of what was measured, and the machine that it was measured on."""
    parts = ["\n".join(f"{name}: {value}" for name, value in machine.items())]
    if results.rows:
        parts.append(costs(results.rows, results.bare_us))
    if results.starts_s or results.processes or results.idle_percent is not None:
        parts.append(footprint(results))
    if results.beside:
        parts.append(beside(results))
    if results.swaps:
        parts.append(swaps(results))
    if results.trials:
        parts.append(trials(results))
    return "\n\n".join([*parts, held(results)])
