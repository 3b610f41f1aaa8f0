"""The daemon as a process: how it starts, what it says of itself, how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import disks, models
from tests.box import DIGITS, box

ONE_MODEL = f"models: {{digits: {{file: {DIGITS / 'digits_v1_int8.onnx'}}}}}\n"


def test_sigterm_while_a_model_is_loading_ends_it_at_once(tmp_path: Path) -> None:
    file = tmp_path / "endless.onnx"
    file.write_bytes(models.endless())
    with box(f"models: {{digits: {{file: {file}}}}}\n", start=False) as one:
        one.start(wait=False)
        one.wait(lambda: one.model("digits")["state"] == "starting")
        started_s = time.monotonic()
        assert one.stop() == 0
        assert time.monotonic() - started_s < 4


# Python reads it at the start of every process: in the daemon a part ends by a mistake of edged's own.
MISTAKE = """
import sys
if "run" in sys.argv:
    from edged.observe.reporter import Reporter
    async def run(self, interval_s):
        raise ZeroDivisionError("a mistake of our own")
    Reporter.run = run
"""


def test_a_mistake_of_edgeds_own_ends_the_daemon_with_70(tmp_path: Path) -> None:
    """RULES 23: any part that ends by an exception nobody expected, with its traceback in the log."""
    (tmp_path / "sitecustomize.py").write_text(MISTAKE)
    with box(ONE_MODEL, start=False) as one:
        one.environment["PYTHONPATH"] = f"{tmp_path}:{one.environment['PYTHONPATH']}"
        one.start(wait=False)
        assert one.process is not None
        assert one.process.wait(60) == 70
        assert "ZeroDivisionError: a mistake of our own" in one.tail(1000)
        assert not one.socket.exists()


def test_a_model_that_cannot_be_loaded_is_reported_and_the_others_answer(tmp_path: Path) -> None:
    file = tmp_path / "text.onnx"
    file.write_text("no model")
    with box(ONE_MODEL.rstrip().removesuffix("}") + f", broken: {{file: {file}}}}}\n") as one:
        broken = one.model("broken")
        assert (broken["state"], broken["fault"]["code"]) == ("failed", "not_a_model")
        assert one.model("digits")["state"] == "serving"
        assert one.request("GET", "/v2/health/ready")[0] == 503
        assert one.request("GET", "/v2/health/live")[0] == 200
        code, answer = one.infer("broken", [])
        assert (code, answer["code"]) == (500, "model_failed")


def test_a_second_daemon_on_the_same_state_says_so_and_harms_nothing() -> None:
    with box(ONE_MODEL) as one:
        first = one.process
        one.start(wait=False)
        assert one.process is not None
        assert one.process.wait(20) != 0
        assert "already" in one.tail() or "in use" in one.tail() or "another" in one.tail()
        one.process = first
        assert one.model("digits")["state"] == "serving"
        assert first is not None
        first.send_signal(signal.SIGTERM)
        assert first.wait(20) == 0


def test_a_state_directory_that_cannot_be_used_is_told_in_a_line() -> None:
    with box(ONE_MODEL, start=False) as one:
        (one.folder / "state").mkdir()
        (one.folder / "state" / "releases").write_text("in the way")
        one.start(wait=False)
        assert one.process is not None
        assert one.process.wait(20) == 1
        assert f"{one.folder}/state/releases cannot be used: File exists [no_state]" in one.tail()
        assert "Traceback" not in one.tail()


def test_a_state_directory_that_is_read_only_is_no_matter_of_its_owner(tmp_path: Path) -> None:
    with disks.small(tmp_path, 1) as mount, box(ONE_MODEL, start=False) as one:
        (one.folder / "state").symlink_to(mount)
        subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
        one.start(wait=False)
        assert one.process is not None
        assert one.process.wait(20) == 1
        assert "cannot be used: Read-only file system [no_state]" in one.tail()
        assert "dmesg" in one.tail()


UNREADABLE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search")


def unreadable(file: Path) -> None:
    file.chmod(0)


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def newer(file: Path) -> None:
    file.write_bytes(b'{"schema": 2, "models": {}}')


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("state.json", unreadable, "Permission denied [no_state]"),
        ("state.json", pipe, "is no file [no_state]"),
        ("state.json", newer, "it has schema 2, this edged knows 1 [bad_store]"),
        ("audit.jsonl", unreadable, "Permission denied [no_state]"),
        ("audit.jsonl", folder, "is no file [no_state]"),
        ("audit.jsonl", pipe, "is no file [no_state]"),
        ("lock", folder, "is no file [no_state]"),
        ("lock", pipe, "is no file [no_state]"),
    ],
)
def test_a_state_that_cannot_be_read_ends_the_start_and_is_left_as_it_is(
    name: str, spoil: Callable[[Path], None], said: str
) -> None:
    with box(ONE_MODEL) as one:
        one.stop()
        state = one.folder / "state"
        (state / "state.json").write_text('{"schema": 1, "models": {}}')  # of a box that was pushed something
        spoil(state / name)
        before = (state / name).lstat()
        one.prefix = UNREADABLE if os.geteuid() == 0 else ()
        one.start(wait=False)
        assert one.process is not None
        assert one.process.wait(20) == 1
        assert f"{state / name} cannot be used: {said}" in one.tail()
        assert "Traceback" not in one.tail()
        after = (state / name).lstat()
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
