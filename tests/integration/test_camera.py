"""What edged-camera@.service runs, as it stands there: ffmpeg's pictures one by one, each answered on a line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from tests import models
from tests.box import ROOT, Box, box
from tests.pictures import file

UNIT = (ROOT / "systemd" / "edged-camera@.service").read_text()
PICTURES = 5


@pytest.fixture(scope="module")
def watcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A model `camera`, which says how light a picture is: 0 to 255."""
    nodes = [helper.make_node("ReduceMean", ["x"], ["light"], axes=[1, 2, 3], keepdims=0)]
    content = models.build(nodes, [("x", "float32", (1, 3, 16, 16))], [("light", "float32", (1,))])
    model = tmp_path_factory.mktemp("model") / "camera.onnx"
    model.write_bytes(content)
    steps = "preprocess: [{resize: [16, 16]}, {layout: chw}]"
    with box(f"device: gate\nmodels:\n  camera:\n    file: {model}\n    {steps}\n") as one:
        yield one


def command() -> list[str]:
    """ExecStart of the instance video0, as systemd would start it."""
    (line,) = re.findall(r"^ExecStart=(.*)$", UNIT, re.MULTILINE)
    return shlex.split(line.replace("$$", "$").replace("%%", "%"))


def answers(one: Box, folder: Path, **more: str) -> tuple[list[float], str]:
    """How light each picture was, and what was said on standard error."""
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    (defaults,) = re.findall(r"^Environment=(MODEL=.*)$", UNIT, re.MULTILINE)
    said = dict(word.split("=", 1) for word in shlex.split(defaults.replace("%I", "video0")))
    environment = {**one.environment, **said, **more, "PATH": path}
    done = subprocess.run(command(), env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("light FP32[1]: ") for line in lines), done.stdout
    return [float(line.rpartition(" ")[2]) for line in lines], done.stderr


def test_pictures_come_through_the_pipe(watcher: Box, tmp_path: Path) -> None:
    """A stand-in writes what ffmpeg would, and is asked what ffmpeg is: the default is the instance's own device."""
    light = [0, 60, 120, 180, 250]
    for index, value in enumerate(light):
        pixels = np.full((48, 64, 3), value, np.uint8)
        (tmp_path / f"{index}.jpg").write_bytes(file(pixels, "JPEG", quality=95))
    program = tmp_path / "ffmpeg"
    program.write_text(f'#!/bin/sh\necho "$@" >"{tmp_path}/asked"\ncat "{tmp_path}"/?.jpg\n')
    program.chmod(0o755)
    found, _ = answers(watcher, tmp_path)
    assert found == pytest.approx(light, abs=2)
    asked = (tmp_path / "asked").read_text().split()
    assert asked[asked.index("-f") : asked.index("-f") + 4] == ["-f", "v4l2", "-i", "/dev/video0"]
    assert "fps=1" in asked


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed (apt: ffmpeg)")
def test_ffmpeg_itself_feeds_it(watcher: Box, tmp_path: Path) -> None:
    """Its test source in place of a camera: at most as many pictures a second as RATE says."""
    source = f"-f lavfi -i testsrc=size=320x240:rate=25:duration={PICTURES}"
    found, said = answers(watcher, tmp_path, FROM=source, RATE="1")
    assert len(found) == PICTURES
    assert all(20 < one < 235 for one in found)
    assert "rror" not in said


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed (apt: ffmpeg)")
def test_a_camera_that_is_not_there_ends_it(watcher: Box, tmp_path: Path) -> None:
    """And the unit starts it again."""
    found, said = answers(watcher, tmp_path, FROM=f"-i {tmp_path}/none.mp4")
    assert found == []
    assert "No such file" in said
    assert "Restart=always" in UNIT.splitlines()
