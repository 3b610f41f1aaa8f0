"""What requests ask of the queue of a real model: their order, and how long they wait."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import models
from tests.box import Box, box

INPUT = {"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}
HURRY = 50_000  # microseconds


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A model whose runs take long enough to wait for, one input after the other."""
    file = tmp_path_factory.mktemp("models") / "slow.onnx"
    file.write_bytes(models.slow(80_000))
    with box(f"models: {{slow: {{file: {file}, queue: {{deadline: 60s}}, limits: {{run: 30s}}}}}}\n") as one:
        yield one


class Senders:
    """Requests that are under way, each in a thread, and their answers in the order in which they came."""

    def __init__(self, one: Box) -> None:
        self._box = one
        self._threads: list[threading.Thread] = []
        self.answers: list[tuple[str, int, dict[str, Any]]] = []

    def send(self, name: str, **parameters: object) -> None:
        def ask() -> None:
            status, answer = self._box.infer("slow", [INPUT], parameters=parameters)
            self.answers.append((name, status, answer))

        thread = threading.Thread(target=ask)
        thread.start()
        self._threads.append(thread)

    def until_waiting(self, count: int) -> None:
        self._box.wait(lambda: self._box.model("slow")["queue"] == count)

    def join(self) -> list[tuple[str, int, dict[str, Any]]]:
        for thread in self._threads:
            thread.join(60)
        return self.answers


def busy(one: Box) -> Senders:
    """Two runs under way, which is all that a model is sent at once."""
    senders = Senders(one)
    senders.send("first")
    senders.send("second")
    one.wait(lambda: one.model("slow")["in_flight"] == 2)
    return senders


def test_a_request_waits_no_longer_than_it_says(slow: Box) -> None:
    senders = busy(slow)
    senders.send("late", timeout=HURRY)
    found = {name: (status, answer.get("code")) for name, status, answer in senders.join()}
    assert found == {"first": (200, None), "second": (200, None), "late": (503, "deadline")}
    assert senders.answers[0][0] == "late"  # it did not wait for the runs before it


def test_a_run_that_has_begun_is_not_cut_short(slow: Box) -> None:
    started_s = time.monotonic()
    status, answer = slow.infer("slow", [INPUT], parameters={"timeout": HURRY})
    assert (status, answer["outputs"][0]["data"]) == (200, [1])
    assert time.monotonic() - started_s > HURRY / 1e6


def test_the_urgent_go_first(slow: Box) -> None:
    senders = busy(slow)
    for waiting, (name, priority) in enumerate((("later", 3), ("usual", 0), ("urgent", 1)), start=1):
        senders.send(name, priority=priority)
        senders.until_waiting(waiting)
    assert [name for name, _, _ in senders.join()][2:] == ["urgent", "usual", "later"]


@pytest.mark.parametrize("parameters", [{"timeout": -1}, {"priority": "high"}])
def test_what_cannot_be_asked_for(slow: Box, parameters: dict[str, object]) -> None:
    body = json.dumps({"inputs": [INPUT], "parameters": parameters}).encode()
    status, answer, _ = slow.request("POST", "/v2/models/slow/infer", body)
    assert (status, json.loads(answer)["code"]) == (400, "bad_input")
