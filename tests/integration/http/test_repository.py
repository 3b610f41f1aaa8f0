"""Unloading and loading a model of a real box: what it answers meanwhile, and what becomes of its process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.box import Box, box

ONE = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Box]:
    (tmp_path / "linear.onnx").write_bytes(models.linear())
    (tmp_path / "same.onnx").write_bytes(models.identity())
    with box(f"models: {{linear: {{file: {tmp_path}/linear.onnx}}, same: {{file: {tmp_path}/same.onnx}}}}\n") as one:
        yield one


def ask(one: Box, path: str, **body: Any) -> tuple[int, Any]:
    status, answer, _ = one.request("POST", f"/v2/repository/{path}", json.dumps(body).encode() if body else None)
    return status, json.loads(answer)


def states(one: Box) -> dict[str, tuple[str, str]]:
    status, rows = ask(one, "index")
    assert status == 200
    return {row["name"]: (row["state"], row["reason"]) for row in rows}


def test_a_model_is_unloaded_and_loaded_again(running: Box) -> None:
    pid = running.model("linear")["pid"]
    assert states(running) == {"linear": ("READY", ""), "same": ("READY", "")}
    assert ask(running, "models/linear/unload", parameters={"unload_dependents": False})[0] == 200
    assert states(running) == {"linear": ("UNAVAILABLE", "unloaded"), "same": ("READY", "")}
    assert ask(running, "index", ready=True)[1] == [{"name": "same", "version": "1", "state": "READY", "reason": ""}]
    assert pid not in [process.pid for process in running.workers()]
    for path in ("/v2/models/linear", "/v2/models/linear/ready", "/v2/models/linear/config", "/v2/models/linear/stats"):
        status, answer, _ = running.request("GET", path)
        assert (status, json.loads(answer)["code"]) == (503, "starting"), path
    status, refused = running.infer("linear", [ONE])
    assert (status, refused["code"]) == (503, "starting")
    assert "load" in refused["hint"]
    assert running.request("GET", "/v2/health/ready")[0] == 200  # nothing has failed
    assert running.infer("same", [ONE])[0] == 200

    assert ask(running, "models/linear/unload")[0] == 200  # once more changes nothing
    assert ask(running, "models/linear/load")[0] == 200
    assert states(running)["linear"] == ("READY", "")
    assert running.infer("linear", [ONE])[0] == 200
    assert ask(running, "models/linear/load", parameters={})[0] == 200  # it answers already
    assert running.model("linear")["restarts"] == 0
    assert running.stop() == 0  # with the last of what is told
    audit = (running.folder / "state" / "audit.jsonl").read_text().splitlines()
    events = [(entry["event"], entry["version"], entry["by"]) for entry in map(json.loads, audit) if entry.get("model")]
    assert [(event, version) for event, version, _ in events] == [("unloaded", "1"), ("loaded", "1")]
    assert all(by.startswith("uid ") for _, _, by in events)


def test_what_was_taken_is_answered_before_the_process_ends(tmp_path: Path) -> None:
    (tmp_path / "slow.onnx").write_bytes(models.slow(20_000))
    with box(f"models: {{slow: {{file: {tmp_path}/slow.onnx, batch: {{max: 1}}}}}}\n") as one:
        given = [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]
        answers: list[int] = []
        senders = [threading.Thread(target=lambda: answers.append(one.infer("slow", given)[0])) for _ in range(6)]
        for sender in senders:
            sender.start()
        one.wait(lambda: one.model("slow")["queue"] + one.model("slow")["in_flight"] >= 3)
        assert ask(one, "models/slow/unload")[0] == 200
        for sender in senders:
            sender.join(30)
        assert set(answers) <= {200, 503}
        assert answers.count(200) >= 3  # those that were there; the others came too late
        assert one.workers() == []


@pytest.mark.parametrize("parameters", [{"config": "{}"}, {"file:1/model.onnx": "A" * 100_000}])
def test_a_load_brings_no_model(running: Box, parameters: dict[str, str]) -> None:
    status, answer = ask(running, "models/linear/load", parameters=parameters)
    assert (status, answer["code"]) == (501, "unsupported")
    assert "edged push" in answer["hint"]
    assert running.infer("linear", [ONE])[0] == 200


def test_a_load_of_nothing(running: Box) -> None:
    assert ask(running, "models/nobody/load")[0] == 404
    assert ask(running, "models/nobody/unload")[0] == 404
    status, answer = ask(running, "index", ready="yes")
    assert (status, answer["code"]) == (400, "bad_input")
