"""Who runs what, and who dies when: RULES 1 to 5 and 7, looked at from outside, on a daemon as a user starts it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import models
from tests.box import Box, box
from tests.brokers import Mosquitto, have_mosquitto
from tests.integration.mqtt.box import User
from tests.waiting import until

MODELS = ("counting", "hungry", "linear")
FOR_EVER = 2**62  # turns
MOST_TURNS = 2**24  # what float32 can count
# Parts of the names of what a process has mapped or imported: of the worker's libraries, and of the daemon's.
HEAVY = ("numpy", "onnxruntime", "openblas")
OUTSIDE = ("paho", "uvloop", "httptools", "psutil", "yaml", "prometheus_client", "asyncio")

# Python reads it at the start of every process: on SIGUSR2 the process writes down what it has imported.
TELL = """
import json, os, signal, sys
def tell(number, frame):
    name = os.path.join(os.environ["TELL"], str(os.getpid()))
    with open(name + ".part", "w") as file:
        json.dump(sorted(sys.modules), file)
    os.replace(name + ".part", name)
signal.signal(signal.SIGUSR2, tell)
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in MODELS:
        (folder / f"{name}.onnx").write_bytes(getattr(models, name)())
    return folder


@pytest.fixture
def configuration(files: Path) -> str:
    return f"""
device: press-07
models:
  counting: {{file: {files}/counting.onnx, limits: {{run: 10min}}}}
  hungry: {{file: {files}/hungry.onnx, limits: {{memory: 64MiB}}}}
  linear: {{file: {files}/linear.onnx}}
"""


@pytest.fixture
def one(configuration: str) -> Iterator[Box]:
    with box(configuration) as running:
        yield running


def tree(one: Box) -> list[psutil.Process]:
    """The daemon and everything it started."""
    assert one.process is not None
    daemon = psutil.Process(one.process.pid)
    return [daemon, *daemon.children(recursive=True)]


def fork_server(one: Box) -> psutil.Process:
    (found,) = (p for p in tree(one)[1:] if p.ppid() == tree(one)[0].pid and "forkserver" in " ".join(p.cmdline()))
    return found


def libraries(process: psutil.Process) -> set[str]:
    """The installed shared libraries that a process has mapped."""
    return {m.path for m in process.memory_maps() if ".so" in m.path and "site-packages" in m.path}


def gone(processes: list[psutil.Process], limit_s: float) -> list[psutil.Process]:
    """Those that are still there after the limit."""
    until_s = time.monotonic() + limit_s
    while left := [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:
        if time.monotonic() > until_s:
            return left
        time.sleep(0.02)
    return []


def tensor(number: int) -> list[dict[str, Any]]:
    return [{"name": "given", "datatype": "INT64", "shape": [1], "data": [number]}]


def well(one: Box) -> bool:
    """Whether `linear` answers rightly."""
    given = [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [0, 0, 0, 0]}]
    code, answer = one.infer("linear", given)
    return code == 200 and answer["outputs"][0]["data"] == [0, 0, 0]


class Run:
    """A request to `counting` on its way, in a thread; `code` and `answer` once it has come back."""

    def __init__(self, one: Box, turns: int) -> None:
        self.code = 0
        self.answer: dict[str, Any] = {}
        self._one, self.turns = one, turns
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()
        one.wait(lambda: one.model("counting")["in_flight"] == 1)

    def _ask(self) -> None:
        try:
            self.code, self.answer = self._one.infer("counting", tensor(self.turns))
        except OSError as error:
            self.answer = {"error": str(error)}

    @classmethod
    def of_a_second(cls, one: Box) -> Run:
        """About as long on this box: longer than what the tests do meanwhile, shorter than a stop's patience."""
        turns, took_s = 1000, 0.0
        while took_s < 0.3 and turns < MOST_TURNS:
            turns *= 4
            started_s = time.monotonic()
            assert one.infer("counting", tensor(turns))[0] == 200
            took_s = time.monotonic() - started_s
        return cls(one, min(int(turns / took_s), MOST_TURNS))

    def wait(self, limit_s: float = 30) -> None:
        self._thread.join(limit_s)
        assert not self._thread.is_alive(), "no answer"


# --- who has loaded what ------------------------------------------------------------------------------


def test_each_process_has_loaded_its_own_libraries_and_no_others(one: Box) -> None:
    daemon, server, workers = tree(one)[0], fork_server(one), one.workers()
    assert well(one)
    assert len(workers) == len(MODELS)
    assert sorted(p.pid for p in workers) == sorted(one.model(name)["pid"] for name in MODELS)
    mapped = {process.pid: " ".join(libraries(process)) for process in (daemon, server, *workers)}
    assert "uvloop" in mapped[daemon.pid]  # the words that are looked for are those of the maps
    assert not [word for word in HEAVY if word in mapped[daemon.pid]]
    for process in (server, *workers):
        assert all(word in mapped[process.pid] for word in HEAVY)
        assert not [word for word in OUTSIDE if word in mapped[process.pid]]
        assert process.num_threads() == 1  # a device that was asked for in the fork server brings threads (RULES 9)
    for worker in workers:
        assert libraries(worker) == libraries(server), "a worker loads what the fork server could have loaded for all"


def test_each_process_has_imported_its_own_modules_and_no_others(configuration: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(TELL)
    with box(configuration, start=False) as one:
        one.environment["PYTHONPATH"] = f"{tmp_path}:{one.environment['PYTHONPATH']}"
        one.environment["TELL"] = str(tmp_path)
        one.start()
        assert well(one)

        def imported(process: psutil.Process) -> set[str]:
            process.send_signal(signal.SIGUSR2)
            said = tmp_path / str(process.pid)
            one.wait(said.exists)
            return {
                name.partition(".")[0] if not name.startswith("edged.") else name
                for name in json.loads(said.read_text())
            }

        daemon, server, workers = imported(tree(one)[0]), imported(fork_server(one)), [*map(imported, one.workers())]
    assert {"paho", "httptools", "edged.daemon"} <= daemon
    assert not daemon & {"numpy", "onnxruntime", "edged.worker.main"}
    assert {"edged.worker.main", "numpy", "onnxruntime"} <= server
    assert len(workers) == len(MODELS)
    for worker in workers:
        assert {"edged.worker.main", "edged.worker.entry"} <= worker
        assert not worker & {*OUTSIDE, "msgspec.yaml", "edged.daemon", "edged.cli", "edged.serving", "cryptography"}


# --- who dies when ------------------------------------------------------------------------------------


def test_kill_of_the_daemon_ends_an_endless_run(one: Box) -> None:
    everyone = tree(one)
    run = Run(one, FOR_EVER)
    one.kill()
    assert gone(everyone, 2) == []
    run.wait()
    assert run.code == 0


def test_kill_of_fork_server_and_daemon_leaves_nothing(one: Box) -> None:
    """The fork server, by which a daemon's end could be noticed, is gone before the daemon is."""
    everyone = tree(one)
    run = Run(one, FOR_EVER)
    fork_server(one).kill()
    one.kill()
    assert gone(everyone, 2) == []
    run.wait()


def test_a_start_removes_what_a_killed_daemon_left(configuration: str) -> None:
    """RULES 4, for files: each kill -9 leaves a folder of multiprocessing's in the runtime directory."""
    with box(configuration, start=False) as one:
        one.environment["TMPDIR"] = str(one.socket.parent)
        one.socket.parent.mkdir()
        other = one.socket.parent / "pymp-other"
        other.mkdir()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(other / "listener"))
            listening.listen()
            for _ in range(2):
                one.start()
                one.kill()
            assert len(list(one.socket.parent.glob("pymp-*"))) == 2, "the first left none: nothing is shown here"
        one.start()
        assert well(one)
        assert len(list(one.socket.parent.glob("pymp-*"))) == 1
        assert one.stop() == 0
        assert list(one.socket.parent.glob("pymp-*")) == []


def test_workers_outlive_the_fork_server(one: Box) -> None:
    """Living workers go on; the next start makes a new fork server; a clean stop still leaves nothing."""
    old, everyone = fork_server(one), tree(one)
    before = {name: one.model(name)["pid"] for name in MODELS}
    run = Run.of_a_second(one)
    old.kill()
    assert gone([old], 2) == []
    run.wait()
    assert (run.code, run.answer["outputs"][0]["data"]) == (200, [run.turns])
    assert well(one)
    assert {name: one.model(name)["pid"] for name in MODELS} == before

    psutil.Process(before["linear"]).kill()
    one.wait(lambda: one.model("linear")["state"] == "serving" and one.model("linear")["pid"] != before["linear"])
    assert well(one)
    assert fork_server(one).pid != old.pid
    assert "the model failed" not in one.tail(1000)  # it was not tried in vain first
    assert {name: one.model(name)["restarts"] for name in MODELS} == {"counting": 0, "hungry": 0, "linear": 1}
    everyone += tree(one)
    assert one.stop() == 0
    assert gone(everyone, 1) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_everyone_stops_only_the_daemon(one: Box, number: signal.Signals) -> None:
    """Ctrl-C in a terminal, or a stop that signals every process: the run under way is answered first."""
    everyone = tree(one)
    run = Run.of_a_second(one)
    assert one.process is not None
    os.killpg(one.process.pid, number)
    for process in everyone[1:]:
        process.send_signal(number)
    run.wait()
    assert run.code == 200, run.answer
    assert one.process.wait(10) == 0
    assert gone(everyone, 0) == []
    # Each ended by itself, when the daemon let go of it; a run on a second process would be answered as well.
    assert re.findall(r"the process \d+ of version \S+ (.*)", one.tail(1000)) == ["has ended with 0"] * len(MODELS)


def test_clean_stop(one: Box) -> None:
    everyone = tree(one)
    assert one.socket.is_socket()
    started_s = time.monotonic()
    assert one.stop() == 0
    assert time.monotonic() - started_s < 3
    assert not one.socket.exists()
    # Not a moment later: systemd kills what it finds then.
    assert gone(everyone, 0) == []
    assert len(everyone) == 2 + len(MODELS)  # the fork server among them
    assert "Traceback" not in one.tail(1000)


def test_clean_stop_while_the_fork_server_is_stalled(configuration: str) -> None:
    """RULES 2: no start is waited for; and a start that was cut short is no fault of edged's own."""
    with box(configuration, start=False) as one:
        one.start(wait=False)
        until(lambda: len(tree(one)) > 1 and any("forkserver" in " ".join(p.cmdline()) for p in tree(one)))
        server = fork_server(one)
        server.suspend()
        try:
            one.wait(lambda: {one.model(name)["state"] for name in MODELS} == {"starting"})
            assert one.stop() == 0
        finally:
            server.resume()
        assert gone([server], 10) == []
        assert "a fault of edged" not in one.tail(1000)


def test_clean_stop_in_an_endless_run(one: Box) -> None:
    """What does not end by itself is told so, and killed, after the drain's five seconds."""
    everyone = tree(one)
    run = Run(one, FOR_EVER)
    started_s = time.monotonic()
    assert one.stop() == 0
    assert 5 < time.monotonic() - started_s < 8
    run.wait()
    assert (run.code, run.answer["code"]) == (503, "stopping")
    assert gone(everyone, 0) == []


@pytest.mark.skipif(not have_mosquitto(), reason="mosquitto is not installed; scripts/test installs it")
@pytest.mark.parametrize(("end", "code"), [(Box.stop, 0), (Box.kill, None)])
def test_broker_says_offline(
    configuration: str, broker: Mosquitto, end: Callable[[Box], int | None], code: int | None
) -> None:
    """The daemon says so itself before it goes; after a kill the broker does, by the will. Both are retained."""
    with (
        box(f"mqtt: {{url: '{broker.url}'}}{configuration}") as one,
        User(broker.port, "edged/press-07/status") as user,
    ):
        until(lambda: [m.payload for m in user.messages][-1:] == [b"online"])
        assert end(one) == code
        until(lambda: [m.payload for m in user.messages][-1:] == [b"offline"])
        with User(broker.port, "edged/press-07/status") as newcomer:
            until(lambda: bool(newcomer.messages))
            assert (newcomer.messages[0].payload, newcomer.messages[0].retain) == (b"offline", True)


# --- how much it may take -----------------------------------------------------------------------------


def test_input_that_asks_for_too_much_memory_is_refused_and_the_worker_lives(one: Box) -> None:
    before = one.model("hungry")
    for elements, code in ((1000, ""), (10**9, "over_memory"), (10**6, ""), (10**12, "over_memory"), (1, "")):
        status, answer = one.infer("hungry", tensor(elements))
        assert (status, answer.get("code", "")) == ((503, code) if code else (200, ""))
    after = one.model("hungry")
    assert (after["pid"], after["restarts"], after["state"]) == (before["pid"], 0, "serving")
    assert (after["requests"], after["errors"]) == (5, 2)
    _, metrics, _ = one.request("GET", "/metrics")
    assert b'edged_inference_requests_total{model="hungry",outcome="over_memory",version="1"} 2.0' in metrics


def test_no_module_is_taken_from_the_folder_that_edged_is_started_in(tmp_path: Path) -> None:
    """Anybody may have put one there, as in /tmp; `-c`, by which the fork server starts, would look there first."""
    taken = tmp_path / "taken"
    for name in ("numpy", "onnxruntime", "msgspec"):
        (tmp_path / f"{name}.py").write_text(f"open({str(taken)!r}, 'a').write({name!r})\n")
    (tmp_path / "linear.onnx").write_bytes(models.linear())
    (tmp_path / "edged.yaml").write_text("models: {linear: {file: linear.onnx}}\n")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    command = [str(Path(sys.executable).with_name("edged")), "check", "--config", "edged.yaml"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert not taken.exists()
