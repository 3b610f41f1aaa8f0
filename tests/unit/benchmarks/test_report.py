"""The table."""

from __future__ import annotations

import pytest

from benchmarks.figures import Row
from benchmarks.report import columns, costs, number


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0, "0"), (0.034, "0.03"), (5.64, "5.6"), (9.96, "10.0"), (83.4, "83"), (1562.5, "1562")],
)
def test_numbers_have_the_digits_that_count(value: float | None, text: str) -> None:
    assert number(value) == text


def test_columns_are_aligned() -> None:
    assert (
        columns(["a", "b", "n"], [["long", "x", "1"], ["s", "y", "100"]]) == "a     b    n\nlong  x    1\ns     y  100"
    )


def test_costs_has_a_line_for_each_subject_and_a_column_for_each_number_in_flight() -> None:
    rows = [
        Row("edged", "tiny", 1, 80.4, None, 9000, 0.1, 0.2, faults=0, times_bare=16),
        Row("edged", "tiny", 16, 40.1, None, 20000, 0.7, 1.5, faults=3, times_bare=8),
        Row("paho", "tiny", 1, 60.0, 17.5, 8000, 0.1, 0.3, faults=0, times_bare=12),
        Row("paho", "tiny", 16, 30.0, 17.0, 30000, 0.4, 0.9, faults=0, times_bare=6),
    ]
    head, bare, edged, paho = (line.split("  ") for line in costs(rows, {"tiny": 5.0}).splitlines())
    words = [[cell.strip() for cell in line if cell.strip()] for line in (head, bare, edged, paho)]
    assert words[0][:5] == ["model", "CPU us a request at", "1", "16", "+broker"]
    assert words[1] == ["tiny", "onnxruntime", "5.0"]
    assert words[2] == ["tiny", "edged", "80", "40", "8.0", "20000", "0.10/0.20", "0.70/1.5", "3"]
    assert words[3] == ["tiny", "paho", "60", "30", "17", "6.0", "30000", "0.10/0.30", "0.40/0.90", "0"]
