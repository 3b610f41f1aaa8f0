"""The fast lane of a real daemon: nothing is lost when a model is replaced, its process killed, or edged restarted."""

from __future__ import annotations

import collections
import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from edged.client import Client, EdgedError
from edged.tensors import DATATYPES
from tests import models
from tests.box import DIGITS, box
from tests.brokers import Mosquitto
from tests.senders import Sender, configuration, push, scans
from tests.unit.worker.formats.samples import extremes, same

QUICK = "probation: {time: 1s, runs: 20}"


class FastSender(Sender):
    """Scans for the model `digits`, `depth` of them in flight on one connection."""

    def __init__(self, path: str, depth: int = 16, *, ring: int = 0) -> None:
        super().__init__(0)
        self._client = Client(path, ring=ring)
        self._depth = depth
        self.answers = 0

    def send_all(self, leave: threading.Event) -> None:
        with self._client as client:
            waiting: collections.deque[tuple[int, int]] = collections.deque()
            while waiting or not leave.is_set():
                while len(waiting) < self._depth and not leave.is_set():
                    label, pixels = scans()[self.sent % len(scans())]
                    image = np.array(pixels, dtype=np.float32).reshape(1, 1, 8, 8) / 16
                    waiting.append((label, client.send("digits", {"image": image})))
                    self.sent += 1
                label, number = waiting.popleft()
                try:
                    answer = client.receive(number)
                except EdgedError as error:
                    self.errors.append(str(error))
                else:
                    self.answers += 1
                    self.right += int(answer["logits"].argmax()) == label

    @property
    def lost(self) -> int:
        return self.sent - self.answers - len(self.errors)


def test_a_swap_under_load_and_a_kill_lose_nothing(broker: Mosquitto, short_path: Path) -> None:
    path = f"{short_path}/fast.sock"
    text = f"sockets: {{fast: {path}}}\n{configuration(broker.url, push=QUICK)}"
    with box(text) as one, FastSender(path) as sender, FastSender(path, 2) as few:
        one.wait(lambda: sender.answers > 200)
        push(broker.port, (DIGITS / "digits_v2_int8.onnx").read_bytes())
        one.wait(lambda: one.model("digits")["version"] == "2" and one.model("digits")["install"]["phase"] == "idle")
        so_far = sender.answers
        one.wait(lambda: sender.answers > so_far + 200)
        os.kill(one.model("digits")["pid"], signal.SIGKILL)
        one.wait(lambda: one.model("digits")["restarts"] == 1)
        so_far = sender.answers
        one.wait(lambda: sender.answers > so_far + 200)
    for found in (sender, few):
        assert (found.lost, found.errors) == (0, [])
        assert found.answers > 0
    assert sender.right / sender.answers > 0.8


def test_a_restart_of_edged_loses_nothing_that_its_client_sends_again(broker: Mosquitto, short_path: Path) -> None:
    text = f"sockets: {{fast: {short_path}/fast.sock}}\n{configuration(broker.url)}"
    with box(text) as one, FastSender(f"{short_path}/fast.sock") as sender:
        one.wait(lambda: sender.answers > 100)
        one.stop()
        one.start()
        so_far = sender.answers
        one.wait(lambda: sender.answers > so_far + 100)
        assert one.process is not None
        one.process.kill()
        one.process.wait()
        one.start()
        so_far = sender.answers
        one.wait(lambda: sender.answers > so_far + 100)
    assert (sender.lost, sender.errors) == (0, [])


@pytest.mark.parametrize("ring", [0, 64 << 20])
def test_every_datatype_and_large_tensors(short_path: Path, ring: int) -> None:
    for name, content in {"every": models.identities(), "same": models.identity(shape=("batch", "n"))}.items():
        (short_path / f"{name}.onnx").write_bytes(content)
    files = "".join(f"\n  {name}: {{file: {short_path}/{name}.onnx}}" for name in ("every", "same"))
    text = f"device: d\nsockets: {{fast: [{short_path}/fast.sock]}}\nmodels:{files}\n"
    with box(text) as one, Client(f"{short_path}/fast.sock", ring=ring) as client:
        tensors = {f"x_{kind.numpy}": np.resize(extremes(kind.oip), (3, 2)) for kind in DATATYPES}
        found = client.infer("every", tensors)
        assert all(same(found[f"y_{name[2:]}"], array) for name, array in tensors.items())
        for size in (0, 1, 2_000, 40_000, 600_000, 3_900_000):
            x = np.arange(size, dtype=np.float32).reshape(1, size)
            assert same(client.infer("same", {"x": x})["y"], x)
        with pytest.raises(EdgedError, match="too_large"):
            client.infer("same", {"x": np.zeros((1, 5_000_000), np.float32)})
        with pytest.raises(EdgedError, match="bad_input"):
            client.infer("same", {"x": np.zeros((1, 5))})
        assert one.model("same")["requests"] >= 6
