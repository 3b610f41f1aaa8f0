"""The table that people read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.figures import Row


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
    """Three digits that count, no more: 5.6, 83, 1562; empty for None."""
    if value is None:
        return ""
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
