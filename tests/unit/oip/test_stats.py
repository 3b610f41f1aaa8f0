"""Statistics in Triton's words."""

from __future__ import annotations

from typing import cast

from edged.observe.executions import Executed, Spent, Statistics
from edged.oip import stats
from edged.oip.backend import Backend
from edged.serving.router import ModelView
from tests.unit.oip.views import view


class Counted:
    """The one thing of a Backend that is asked here."""

    def __init__(self, memory: int | None) -> None:
        self._memory = memory

    def statistics(self, _view: ModelView) -> tuple[Statistics, int | None]:
        found = Statistics(
            6,
            1,
            5,
            Spent(2, 7),
            Spent(1, 8),
            Spent(2, 1),
            Spent(2, 2),
            Spent(2, 3),
            Spent(2, 4),
            (Executed(6, 1, 2, 3, 4),),
        )
        return found, self._memory


def told(memory: int | None, *views: ModelView) -> list[dict[str, object]]:
    found: list[dict[str, object]] = stats.models(views, cast("Backend", Counted(memory)))["model_stats"]
    return found


def test_the_members_that_clients_read() -> None:
    (found,) = told(4096, view())
    assert found == {
        "name": "digits",
        "version": "3",
        "last_inference": 5,
        "inference_count": 6,
        "execution_count": 1,
        "inference_stats": {
            "success": {"count": 2, "ns": 7},
            "fail": {"count": 1, "ns": 8},
            "queue": {"count": 2, "ns": 1},
            "compute_input": {"count": 2, "ns": 2},
            "compute_infer": {"count": 2, "ns": 3},
            "compute_output": {"count": 2, "ns": 4},
            "cache_hit": {"count": 0, "ns": 0},
            "cache_miss": {"count": 0, "ns": 0},
        },
        "batch_stats": [
            {
                "batch_size": 6,
                "compute_input": {"count": 1, "ns": 2},
                "compute_infer": {"count": 1, "ns": 3},
                "compute_output": {"count": 1, "ns": 4},
            }
        ],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": 4096}],
    }


def test_only_of_what_serves_and_no_memory_before_it_is_measured() -> None:
    found = told(None, view(), view(name="cam", state="starting"))
    assert [one["name"] for one in found] == ["digits"]
    assert found[0]["memory_usage"] == []
