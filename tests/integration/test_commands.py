"""The commands, the scrape and systemd's socket against a real daemon with a real model."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edged import cli
from tests.box import DIGITS, Box, box
from tests.ports import free_port

CONFIGURATION = f"""
device: bench
telemetry: {{interval: 1s}}
models:
  digits:
    file: {DIGITS}/digits_v1_int8.onnx
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, {{top_k: 1}}]
  none:
"""


@pytest.fixture(scope="module")
def bench() -> Iterator[Box]:
    with box(CONFIGURATION) as one:
        yield one


@pytest.fixture
def scans() -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], list[int]]:
    """The first scans of the example, 64 grey values each, and what they show."""
    table = np.loadtxt(DIGITS / "digits_test.csv", delimiter=",", skiprows=1, max_rows=20, dtype=np.float32)
    return table[:, 1:], [int(label) for label in table[:, 0]]


def run(one: Box, *words: str) -> int:
    return cli.main([*words, "--socket", str(one.socket)])


def test_infer_from_every_kind_of_file(
    bench: Box,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    scans: tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], list[int]],
) -> None:
    pixels, labels = scans
    np.savetxt(tmp_path / "scans.csv", pixels, delimiter=",", fmt="%d")
    assert run(bench, "infer", "digits", str(tmp_path / "scans.csv")) == 0
    answers = capsys.readouterr().out.splitlines()
    found = [int(line.split()[0]) for line in answers]
    assert len(found) == len(labels)
    assert sum(a == b for a, b in zip(found, labels, strict=True)) > len(labels) / 2
    (tmp_path / "scan.json").write_text(json.dumps(pixels[0].tolist()))
    np.save(tmp_path / "scan.npy", pixels[0])
    for name in ("scan.json", "scan.npy"):
        assert run(bench, "infer", "digits", str(tmp_path / name)) == 0
        assert capsys.readouterr().out.strip() == answers[0].strip()
    np.save(tmp_path / "image.npy", (pixels[:1] / 16).astype(np.float64).reshape(1, 1, 8, 8))
    assert run(bench, "infer", "digits", "--input", f"image={tmp_path / 'image.npy'}", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert int(np.argmax(answer["outputs"][0]["data"])) == found[0]


def test_infer_says_what_is_wrong(bench: Box, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text("[1, 2]")
    assert run(bench, "infer", "digits", str(tmp_path / "x.json")) == 1
    assert "[bad_input]" in capsys.readouterr().err
    assert run(bench, "infer", "absent", str(tmp_path / "x.json")) == 1
    assert "[unknown_model]" in capsys.readouterr().err
    assert run(bench, "infer", "none", str(tmp_path / "x.json")) == 1
    assert "[starting]" in capsys.readouterr().err


def test_infer_as_if_it_had_come_on_a_topic(
    short_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    scans: tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], list[int]],
) -> None:
    """The first of the model's `inputs` that takes the topic reads it; no broker is asked.

    What subscribers get of it, `output.format`, makes no difference to whoever asks over HTTP.
    """
    reading, pixels = tmp_path / "reading.json", scans[0][0]
    reading.write_text(json.dumps({"meta": {"cell": 3}, "scan": {"pixels": pixels.tolist()}}))
    (tmp_path / "reading.bin").write_bytes(pixels.tobytes())
    (tmp_path / "scan.json").write_text(json.dumps(pixels.tolist()))
    inputs = """
    inputs:
      - {topic: cells/+cell/scan, format: values, field: scan.pixels}
      - {topic: raw/#, format: raw, dtype: float32}
    output: {format: value}
"""
    text = CONFIGURATION.replace("  none:\n", "").rstrip("\n") + inputs
    with box(f"mqtt: {{url: 'mqtt://127.0.0.1:{free_port()}'}}\n{text}") as one:
        assert run(one, "infer", "digits", str(tmp_path / "scan.json")) == 0
        plain = capsys.readouterr().out
        assert run(one, "infer", "digits", str(reading)) == 1
        assert "[bad_input]" in capsys.readouterr().err
        for file, topic in (
            (reading, "cells/west/scan"),
            (tmp_path / "reading.bin", "raw/caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
        ):
            assert run(one, "infer", "digits", str(file), "--topic", topic) == 0
            assert capsys.readouterr().out == plain
        assert run(one, "infer", "digits", str(reading), "--topic", "raw/1") == 1
        assert "[bad_input]" in capsys.readouterr().err
        assert run(one, "infer", "digits", str(reading), "--topic", "cells/scan") == 1
        assert "Its inputs: cells/+cell/scan, raw/#." in capsys.readouterr().err


def test_status_shows_what_happened(bench: Box, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "scan.npy", np.zeros(64, np.float32))
    before = bench.model("digits")["requests"]
    for _ in range(3):
        assert run(bench, "infer", "digits", str(tmp_path / "scan.npy")) == 0
    capsys.readouterr()
    bench.wait(lambda: bench.model("digits")["memory_bytes"])  # the first sample after the process began
    assert run(bench, "status", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    digits, none = document["models"]
    assert (digits["state"], none["state"]) == ("serving", "waiting")
    assert digits["requests"] == before + 3
    assert 0 < digits["p50_ms"] <= digits["p99_ms"] < 1000
    assert digits["pid"] in [worker.pid for worker in bench.workers()]
    assert 2**20 < digits["memory_bytes"] < document["tree"]["memory"] < document["box"]["memory_total"]
    assert document["daemon"]["mqtt"] is None
    assert run(bench, "status") == 0
    assert "digits  serving  1" in capsys.readouterr().out


def test_the_scrape_agrees_with_the_status(bench: Box) -> None:
    status, body, headers = bench.request("GET", "/metrics")
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    families = {family.name: family for family in text_string_to_metric_families(body.decode())}
    digits = bench.model("digits")
    counted = sum(one.value for one in families["edged_inference_requests"].samples if one.labels["model"] == "digits")
    assert counted == digits["requests"]
    (info,) = families["edged_model_info"].samples
    assert info.labels == {"model": "digits", "version": digits["version"], "sha256": digits["sha256"]}


def test_the_watchdog_is_fed_without_a_broker_and_with_a_failed_model(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, port: Callable[[], int]
) -> None:
    """RULES 8: by progress alone. What stopped the loop is told when it goes on, and not fed for."""
    (short_path / "broken.onnx").write_bytes(b"no model")
    broken = f"mqtt: {{url: 'mqtt://127.0.0.1:{port()}'}}\nmodels: {{m: {{file: {short_path}/broken.onnx}}}}\n"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(short_path / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "2000000")
        with box(broken) as one:
            heard = ""
            while heard.count("WATCHDOG=1") < 3 or "READY=1" not in heard:
                heard += manager.recv(4096).decode() + "\n"
            assert one.model("m")["state"] == "failed"
            assert one.process is not None
            one.process.send_signal(signal.SIGSTOP)
            time.sleep(2)
            one.process.send_signal(signal.SIGCONT)
            one.wait(lambda: "the watchdog is not fed: the event loop has not ticked" in one.tail(1000))


def test_systemd_hears_ready_the_watchdog_and_the_end(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(short_path / "notify"))
        manager.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(short_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        with box(CONFIGURATION) as one:
            heard = ""
            while "WATCHDOG=1" not in heard or "READY=1" not in heard:
                heard += manager.recv(4096).decode() + "\n"
            assert "STATUS=" in heard
            assert one.stop() == 0
            while "STOPPING=1" not in heard:
                heard += manager.recv(4096).decode() + "\n"
