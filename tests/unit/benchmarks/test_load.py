"""What the load clients print."""

from __future__ import annotations

import json

import pytest

from benchmarks.load import Report, logged, parsed

GOOD = {
    "sent": 100,
    "answers": 97,
    "bad": 2,
    "broken": 0,
    "rate": 10.0,
    "p50_ms": 1.0,
    "p99_ms": 2.0,
    "max_ms": 3.0,
    "gap_ms": 4.0,
    "client_cpu_us": 5.0,
}


def test_a_report_is_read() -> None:
    report = parsed(json.dumps(GOOD))
    assert report == Report(100, 97, 2, 0, 10.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert (report.lost, report.faults) == (3, 3)


def test_a_connection_that_was_refused_is_a_fault_though_nothing_was_sent() -> None:
    assert parsed(json.dumps({**GOOD, "sent": 97, "bad": 0, "broken": 7})).faults == 7


@pytest.mark.parametrize("line", ["", "status 500", "[]", '{"sent": 1}', json.dumps({**GOOD, "more": 1})])
def test_anything_else_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"Expecting value|not a load client"):
        parsed(line)


def test_h2loads_log_is_read() -> None:
    text = "".join(f"{1000 * at}\t200\t{500 + at}\n" for at in range(100)) + "100000\t-1\t9\n"
    found = logged(text, seconds=2.0, spent_s=0.001)
    assert (found.sent, found.answers, found.lost, found.rate) == (101, 100, 1, 50)
    assert (found.p50_ms, found.p99_ms, found.max_ms, found.gap_ms) == (0.55, 0.599, 0.599, 1.001)
    assert found.client_cpu_us == pytest.approx(10)
    with pytest.raises(ValueError, match="sent nothing"):
        logged("", 1.0, 0.0)
