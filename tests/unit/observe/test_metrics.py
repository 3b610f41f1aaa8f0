"""The counters, the percentiles they yield, and the Prometheus text, read back by a strict parser (RULES 28)."""

from __future__ import annotations

import math
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from edged.observe.buckets import BUCKETS_S
from edged.observe.metrics import Metrics
from edged.observe.resources import Box, Process, Resources, Total
from tests.unit.observe.facts import Facts, Mqtt


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def samples(text: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample of the text by name and sorted labels; a name twice is an error of the text."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for family in text_string_to_metric_families(text.decode()):
        for one in family.samples:
            key = (one.name, tuple(sorted(one.labels.items())))
            assert key not in found
            found[key] = one.value
    return found


def full() -> bytes:
    metrics = Metrics(["digits", "cam"])
    metrics.answered("digits", "2", "ok", 0.003)
    metrics.answered("digits", "2", "ok", 0.25)
    metrics.answered("digits", "2", "bad_input", 0.0)
    metrics.dropped("digits", "drop_oldest", 3)
    metrics.restarted("cam")
    metrics.fault("http")
    metrics.refused("signature")
    models = [Facts("digits", "serving", "2", "ab" * 32, queue=4, in_flight=1, pid=7), Facts("cam", "waiting")]
    resources = Resources(Box(2), {7: Process(7, rss=9_000_000, cpu_s=1.5, threads=1)}, Total(3, 90_000_000, 4.5))
    return metrics.render(models, resources, Mqtt(dropped={"too_large": 2}))


def test_the_promised_names_and_labels() -> None:
    found = samples(full())
    labels = (("model", "digits"), ("outcome", "ok"), ("version", "2"))
    assert found["edged_inference_requests_total", labels] == 2
    assert found["edged_dropped_total", (("model", "digits"), ("reason", "drop_oldest"))] == 3
    info = (("model", "digits"), ("sha256", "ab" * 32), ("version", "2"))
    assert found["edged_model_info", info] == 1
    assert found["edged_inference_duration_seconds_count", (("model", "digits"),)] == 2
    assert found["edged_inference_duration_seconds_sum", (("model", "digits"),)] == pytest.approx(0.253)
    assert found["edged_worker_restarts_total", (("model", "cam"),)] == 1
    assert found["edged_internal_faults_total", (("where", "http"),)] == 1
    assert found["edged_documents_refused_total", (("code", "signature"),)] == 1
    assert found["edged_queue_depth", (("model", "digits"),)] == 4
    assert found["edged_mqtt_connected", ()] == 1
    assert found["edged_mqtt_dropped_total", (("reason", "too_large"),)] == 2
    assert found["edged_model_memory_bytes", (("model", "digits"),)] == 9_000_000
    assert found["edged_model_cpu_seconds_total", (("model", "digits"),)] == 1.5
    assert found["edged_memory_bytes", ()] == 90_000_000


def test_a_model_without_version_or_process_has_no_such_series() -> None:
    cam = {name for name, labels in samples(full()) if ("model", "cam") in labels}
    assert "edged_model_info" not in cam
    assert "edged_model_memory_bytes" not in cam
    assert "edged_model_serving" in cam


def test_the_histogram_is_cumulative_at_the_promised_bounds() -> None:
    found = samples(full())
    counts = {
        dict(labels)["le"]: value
        for (name, labels), value in found.items()
        if name == "edged_inference_duration_seconds_bucket" and ("model", "digits") in labels
    }
    assert [float(bound) for bound in counts] == [*BUCKETS_S, math.inf]
    assert list(counts.values()) == sorted(counts.values())
    assert (counts["0.0025"], counts["0.005"], counts["0.25"], counts["+Inf"]) == (0, 1, 2, 2)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Prometheus' own checker) is not installed")
def test_promtool_finds_nothing() -> None:
    subprocess.run(["promtool", "check", "metrics"], input=full(), check=True)


def test_names_that_senders_made_up_share_one_series() -> None:
    metrics = Metrics(["digits"])
    for index in range(50):
        metrics.answered(f"guess-{index}", "", "unknown_model", 0.0)
    found = {
        key: value for key, value in samples(metrics.render()).items() if key[0] == "edged_inference_requests_total"
    }
    assert found == {
        ("edged_inference_requests_total", (("model", ""), ("outcome", "unknown_model"), ("version", ""))): 50
    }
    assert list(metrics.figures()) == ["digits"]


def test_versions_do_not_add_up_for_ever_but_the_totals_do() -> None:
    metrics = Metrics(["digits"])
    for version in range(100):
        metrics.answered("digits", str(version), "ok", 0.001)
        metrics.answered("digits", str(version), "model_failed", 0.001)
        metrics.roll()
    versions = {dict(labels).get("version") for name, labels in samples(metrics.render()) if "requests" in name}
    assert len(versions) == 16
    assert "99" in versions
    assert (metrics.figures()["digits"].requests, metrics.figures()["digits"].errors) == (200, 100)


@given(
    durations=st.lists(st.floats(1e-5, 50), min_size=1, max_size=200),
    quantile=st.sampled_from(["p50_s", "p99_s"]),
)
def test_a_percentile_is_within_a_bucket_of_the_exact_one(durations: list[float], quantile: str) -> None:
    metrics = Metrics(["digits"], Clock())
    for seconds in durations:
        metrics.answered("digits", "1", "ok", seconds)
    share = 0.5 if quantile == "p50_s" else 0.99
    exact = sorted(durations)[max(1, math.ceil(share * len(durations))) - 1]
    found = getattr(metrics.figures()["digits"], quantile)
    assert exact / 1.13 <= found <= exact * 1.13


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, 1e-5), (1e9, 50.0)])
def test_durations_beyond_the_bounds_show_as_the_last_one(seconds: float, shown: float) -> None:
    metrics = Metrics(["digits"])
    metrics.answered("digits", "1", "ok", seconds)
    assert metrics.figures()["digits"].p50_s == shown


def test_roll_covers_one_interval_and_figures_up_to_two() -> None:
    clock = Clock()
    metrics = Metrics(["digits"], clock)

    def interval(count: int, seconds: float) -> None:
        for _ in range(count):
            metrics.answered("digits", "1", "ok", seconds)
        clock.now_s += 10

    interval(100, 0.001)
    metrics.roll()
    interval(50, 0.1)
    rolled = metrics.roll()["digits"]
    assert rolled.p50_s == pytest.approx(0.1, rel=0.13)
    assert (rolled.rate, rolled.requests) == (5.0, 150)
    interval(10, 1.0)
    figures = metrics.figures()["digits"]
    assert figures.rate == pytest.approx(60 / 20)
    assert figures.p50_s == pytest.approx(0.1, rel=0.13)
    assert figures.p99_s == pytest.approx(1.0, rel=0.13)
    metrics.roll()
    clock.now_s += 10
    silent = metrics.roll()["digits"]
    assert (silent.p50_s, silent.rate, silent.requests) == (None, 0.0, 160)


def test_refusals_do_not_make_a_full_queue_look_quick() -> None:
    metrics = Metrics(["digits"])
    metrics.answered("digits", "1", "ok", 0.1)
    for _ in range(100):
        metrics.answered("digits", "1", "queue_full", 0.0)
    figures = metrics.figures()["digits"]
    assert figures.p50_s == pytest.approx(0.1, rel=0.13)
    assert (figures.requests, figures.errors) == (101, 100)
