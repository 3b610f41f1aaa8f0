"""`edged tune` on real models, in real workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edged.config.load import load
from tests import models
from tests.box import DIGITS, ROOT, box


def tune(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "edged", "tune", "--seconds", "0.3", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)


def test_a_file_is_measured_by_threads_and_batches(tmp_path: Path) -> None:
    done = tune(tmp_path, str(DIGITS / "digits_v2_int8.onnx"), "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    sizes = {(row["threads"], row["batch"]) for row in found["rows"]}
    assert (1, 1) in sizes
    assert max(batch for _, batch in sizes) >= 8  # a tiny net: a shared run pays on any machine
    assert found["choice"] in found["rows"]
    assert all(row["rate"] > 0 and row["batch_ms"] > 0 and row["cpu_us"] > 0 for row in found["rows"])


def test_a_model_that_takes_one_input_at_a_time_has_one_size_of_batch(tmp_path: Path) -> None:
    (tmp_path / "one.onnx").write_bytes(models.identity(shape=(1, 4)))
    found = json.loads(tune(tmp_path, "./one.onnx", "--json").stdout)
    assert {row["batch"] for row in found["rows"]} == {1}


def test_a_model_of_the_configuration_is_written_beside_it(short_path: Path) -> None:
    file = short_path / "edged.yaml"
    file.write_text(f"models: {{digits: {{file: {DIGITS / 'digits_v1_int8.onnx'}}}}}\n")
    done = tune(short_path, "digits", "--config", str(file), "--write")
    assert done.returncode == 0, done.stderr
    (found,) = load(file).models
    assert f"threads: {found.threads}\n    batch: {{max: {found.batch.max}}}" in done.stdout
    assert "conf.d/tune-digits.yaml: written" in done.stderr


def test_a_daemon_that_serves_beside_it_is_told_of() -> None:
    models_of_it = f"models: {{digits: {{file: {DIGITS / 'digits_v1_int8.onnx'}}}}}\n"
    with box(models_of_it) as one:
        one.config.write_text(f"{models_of_it}sockets: {{unix: {one.socket}}}\n")  # where $RUNTIME_DIRECTORY put it
        done = tune(one.folder, "digits", "--config", str(one.config))
        assert "the daemon is running, and may serve digits" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nothing",), "has no model nothing"),
        (("later",), "later has no file in"),
        (("nothing.onnx",), "nothing.onnx"),
        (("./nothing.onnx",), "edged: nothing.onnx does not exist"),
        (("model.onnx", "--write"), "--write is for a model of the configuration"),
        (("later", "--seconds", "0"), "0 is not above 0"),
        (("later", "--seconds", "-1"), "-1 is not above 0"),
        (("later", "--seconds", "nan"), "nan is not above 0"),
        (("later", "--seconds", "soon"), "invalid seconds value"),
    ],
)
def test_what_cannot_be_measured_is_said(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    (tmp_path / "edged.yaml").write_text("models: {later: {}}\n")
    done = tune(tmp_path, *words, "--config", "edged.yaml")
    assert done.returncode == 2
    assert said in done.stderr


def test_a_model_that_ends_its_process_is_an_answer(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    done = tune(tmp_path, "./broken.onnx")
    assert done.returncode == 1
    assert "[not_a_model]" in done.stderr
    assert "the process" not in done.stderr  # which is for the journal


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_combination_that_does_not_run_within_the_limits_is_a_row_that_says_so(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    (tmp_path / "m.onnx").write_bytes(models.crowded(16))
    (tmp_path / "edged.yaml").write_text("models: {m: {file: m.onnx, cpus: [0], limits: {run: 3s}}}\n")
    done = tune(tmp_path, "m", "--config", "edged.yaml", *words)
    assert done.returncode == 0, done.stderr
    if not words:
        assert "      1     16  the run took longer than 3 s [model_failed]\n" in done.stdout
        return
    found = json.loads(done.stdout)
    assert [row["batch"] for row in found["rows"]] == [1, 2, 4, 8]
    assert [(one["threads"], one["batch"], one["code"]) for one in found["failed"]] == [(1, 16, "model_failed")]
    assert found["choice"] in found["rows"]


@pytest.mark.parametrize(
    ("content", "limits", "code"),
    [(models.slow(2**40), "{run: 100ms}", "too_slow"), (models.linear(1024, 1024), "{memory: 1MiB}", "over_memory")],
    ids=["slow", "large"],
)
def test_limits_within_which_nothing_runs_are_an_answer(tmp_path: Path, content: bytes, limits: str, code: str) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    (tmp_path / "edged.yaml").write_text(f"models: {{m: {{file: m.onnx, limits: {limits}}}}}\n")
    done = tune(tmp_path, "m", "--config", "edged.yaml")
    assert (done.returncode, done.stdout) == (1, "")
    said, hint = done.stderr.splitlines()[-2:]
    assert said.startswith("edged: with 1 thread and 1 input: ")
    assert said.endswith(f"[{code}]")
    assert "limits" in hint
