"""`sockets: {fast: {path: .., direct: true}}` with a real daemon: answers, counters, pushes, reloads, and ends."""

from __future__ import annotations

import asyncio
import signal
import threading
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil

from edged import frames
from edged.client import Client
from tests.box import DIGITS, Box, box
from tests.brokers import Mosquitto
from tests.callers import ask_all
from tests.senders import push
from tests.waiting import until

V1, V2 = DIGITS / "digits_v1_int8.onnx", DIGITS / "digits_v2_int8.onnx"


def configured(folder: str = "FOLDER") -> str:
    return f"""
device: box
sockets: {{fast: {{path: {folder}/run/fast.sock, direct: true}}}}
models:
  digits: {{file: {V1}}}
"""


def started(one: Box, configuration: str | None = None) -> str:
    """Starts the box; the path of the model's own socket."""
    one.config.write_text((configuration or configured()).replace("FOLDER", str(one.folder)))
    one.start()
    return str(one.model("digits")["direct"])


def scan(seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).random((1, 1, 8, 8), np.float32)


def asked(path: str, count: int = 1) -> list[tuple[frames.Head, bytes, bytes]]:
    return asyncio.run(ask_all(path, [scan(number) for number in range(count)], name="image"))


def logits(body: bytes) -> list[float]:
    found: list[float] = np.frombuffer(body[-40:], np.float32).tolist()
    return found


class Load(threading.Thread):
    """Asks again and again until it is over; every answer is kept as (kind, version)."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.over = False
        self.answers: list[tuple[int, bytes]] = []

    def run(self) -> None:
        while not self.over:
            self.answers += [(head.kind, version) for head, version, _ in asked(self.path, 20)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over = True
        self.join(60)


def test_a_model_s_own_socket_answers_as_http_does_and_is_counted() -> None:
    with box("", start=False) as one:
        path = started(one)
        assert path == str(one.folder / "run" / "fast.digits.sock")
        assert Path(path).stat().st_mode & 0o777 == 0o660
        with Client(path) as own, Client(str(one.folder / "run" / "fast.sock")) as shared:
            assert own.describe("digits") == shared.describe("digits")
            many = np.concatenate([scan(number) for number in range(200)])
            with Client(path, ring=1 << 20) as lends:  # for which the daemon has to have opened the socket
                for other in (own, shared):
                    theirs = other.infer("digits", {"image": many})
                    np.testing.assert_array_equal(lends.infer("digits", {"image": many})["logits"], theirs["logits"])
            mine, theirs = own.infer("digits", {"image": scan(3)}), shared.infer("digits", {"image": scan(3)})
            np.testing.assert_array_equal(mine["logits"], theirs["logits"])
        answers = asked(path, 20)
        for number in (0, 19):
            tensor = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": scan(number).ravel().tolist()}
            code, said = one.infer("digits", [tensor])
            assert code == 200
            assert np.allclose(logits(answers[number][2]), said["outputs"][0]["data"], rtol=1e-6)
        one.wait(lambda: one.model("digits")["requests"] == 28)
        metrics = one.request("GET", "/metrics")[1].decode()
        label = f'model="digits",outcome="ok",version="{one.model("digits")["version"]}"'
        assert f"edged_inference_requests_total{{{label}}} 28.0" in metrics
        assert 'edged_inference_duration_seconds_count{model="digits"} 28.0' in metrics
        assert one.model("digits")["p99_ms"] is not None
        assert one.stop() == 0
        assert not Path(path).exists()


def test_a_reload_that_changes_a_model_or_takes_it_away() -> None:
    with box("", start=False) as one:
        path = started(one)
        with Load(path) as load:
            until(lambda: len(load.answers) > 50)
            text = one.config.read_text()
            one.config.write_text(text.replace("digits_v1", "digits_v2") + f"  more: {{file: {V1}}}\n")
            assert one.process is not None
            one.process.send_signal(signal.SIGHUP)
            one.wait(lambda: len(one.status()["models"]) == 2 and not one.status()["daemon"]["reload"]["code"])
            seen = len(load.answers)
            until(lambda: len(load.answers) > seen + 50)
        assert {kind for kind, _ in load.answers} == {frames.RESULT}
        other = str(one.folder / "run" / "fast.more.sock")
        assert asked(other)[0][0].kind == frames.RESULT
        one.config.write_text(text.replace("digits_v1", "digits_v2"))
        one.process.send_signal(signal.SIGHUP)
        one.wait(lambda: len(one.status()["models"]) == 1)
        until(lambda: not Path(other).exists())
        one.config.write_text(text.replace("direct: true", "direct: false"))
        one.process.send_signal(signal.SIGHUP)
        one.wait(lambda: one.status()["daemon"]["reload"]["code"] in ("needs_restart", "bad_config"))


def test_a_version_that_answers_nan_to_clients_of_its_socket_alone_goes_back(broker: Mosquitto) -> None:
    """RULES 24, 26: it is tried on what they sent, and what it answers them is the model's own fault."""
    settings = "require_signature: false, probation: {time: 60s, runs: 20, max_errors: 1%}"
    with box("", start=False) as one:
        path = started(one, configured() + f"mqtt: {{url: {broker.url}}}\npush: {{{settings}}}\n")
        dark, bright = scan() / 2, np.ones((1, 1, 8, 8), np.float32)
        answers = asyncio.run(ask_all(path, [dark] * 50, name="image"))
        assert not any(head.flags & frames.NONFINITE for head, _, _ in answers)
        before = one.model("digits")["version"]
        push(broker.port, (DIGITS / "digits_v4_int8.onnx").read_bytes(), version="4")
        one.wait(lambda: one.model("digits")["version"] == "4")
        answers = asyncio.run(ask_all(path, [bright] * 40, name="image"))
        assert any(head.flags & frames.NONFINITE for head, _, _ in answers)
        one.wait(lambda: one.model("digits")["install"]["verdict"] == "rolled_back")
        assert one.model("digits")["install"]["code"] == "nonfinite"
        assert one.model("digits")["version"] == before
        answers = asyncio.run(ask_all(path, [bright], name="image"))
        assert not answers[0][0].flags & frames.NONFINITE


def test_no_worker_outlives_a_daemon_that_is_killed() -> None:
    with box("", start=False) as one:
        path = started(one)
        workers = one.workers()
        with Load(path) as load:
            until(lambda: len(load.answers) > 50)
            load.over = True
        one.kill()
        psutil.wait_procs(workers, timeout=10)
        assert not any(worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE for worker in workers)
        one.start()
        assert asked(path)[0][0].kind == frames.RESULT, "a socket that was left behind is replaced"
