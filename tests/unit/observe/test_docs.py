"""docs/metrics.md names what there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from edged.observe import status
from edged.observe.resources import Box, Total
from tests.unit.observe import test_metrics, test_telemetry

PAGE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^## {title}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def test_every_metric_with_its_type_and_labels() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| ([\w, ]*) ?\|", section("Prometheus"), re.MULTILINE)
    documented = {name: (kind, frozenset(labels.replace(",", " ").split())) for name, kind, labels in rows}
    text = test_metrics.full()
    found: dict[str, tuple[str, frozenset[str]]] = {}
    for line in text.decode().splitlines():
        kind = re.match(r"# TYPE (\w+) (\w+)", line)
        if kind:
            found[kind[1]] = kind[2], frozenset()
            continue
        sample = re.match(r"(\w+?)(?:_bucket|_sum|_count)?(?:\{(.*)\})? ", line)
        if not line.startswith("#") and sample:
            labels = frozenset(re.findall(r'(\w+)="', sample[2] or "")) - {"le"}
            found[sample[1]] = found[sample[1]][0], labels
    assert documented == found


def test_every_telemetry_key() -> None:
    documented = set(
        re.findall(r"`([\w<>]+)`", " ".join(re.findall(r"^\| (`.*?) \|", section("Telemetry"), re.MULTILINE)))
    )
    keys = {re.sub(r"_flood_", "_<reason>_", key) for key in test_telemetry.BOX_KEYS}
    keys |= {f"<model>_{re.sub('queue_full|drop_oldest', '<reason>', key)}" for key in test_telemetry.MODEL_KEYS}
    assert documented == keys


@pytest.mark.parametrize(
    "struct",
    [status.DaemonStatus, status.Audit, status.Reloaded, status.ModelStatus, status.Install, status.Status, Box, Total],
)
def test_every_member_of_the_status(struct: type[msgspec.Struct]) -> None:
    words = set(re.findall(r"`(\w+)(?:\[\])?`", section("Status")))
    assert {field.name for field in msgspec.structs.fields(struct)} <= words
