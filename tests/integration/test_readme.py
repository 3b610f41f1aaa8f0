"""The README's command lines, run as they are printed: its first block of a section serves, the others ask.

Only what belongs to the reader's machine is replaced: the folder /tmp/edged-try and the broker's port.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.brokers import Mosquitto

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
Here = Callable[[str], str]


def blocks(section: str) -> list[str]:
    """The ```bash blocks below a heading."""
    text = README.split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def here(short_path: Path) -> Here:
    """Moves a block from /tmp/edged-try to this test's folder."""

    def moved(block: str) -> str:
        assert ".venv/bin/edged" in block or "/tmp/edged-try" in block or "mosquitto" in block
        return block.replace("/tmp/edged-try", str(short_path))

    return moved


def run(block: str) -> str:
    """What a block prints; it must end with 0, every line of it."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block], cwd=ROOT, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def serving(block: str, folder: Path) -> Iterator[None]:
    """A block that stays in the foreground, until its socket is there."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(["bash", "-euc", block], cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        end_s = time.monotonic() + 30
        while " serving" not in (folder / "log").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end_s, (folder / "log").read_text()
            time.sleep(0.05)
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
        process.wait(20)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_first_answer(here: Here, short_path: Path) -> None:
    serve, curl, commands = map(here, blocks("A first answer"))
    with serving(serve, short_path):
        answers = run(curl)
        assert '"inputs":[{"name":"image","datatype":"FP32"' in answers
        assert '"model_version":"1","outputs":[{"name":"logits"' in answers
        assert 'edged_inference_requests_total{model="digits",outcome="ok",version="1"} 1.0' in answers
        shown = run(commands)
        assert "logits FP32[1, 10]" in shown
        assert re.search(r"digits +serving +1 ", shown)


@pytest.mark.skipif(shutil.which("mosquitto_rr") is None, reason="mosquitto-clients is not installed")
def test_over_mqtt_and_another_model(here: Here, short_path: Path, broker: Mosquitto) -> None:
    serve, listen, ask = map(here, blocks("Over MQTT"))
    (push,) = map(here, blocks("Another model"))
    config = short_path / "digits.yaml"
    example = (ROOT / "configs/examples/digits.yaml").read_text().replace("../..", str(ROOT))
    assert "time: 2s" in example  # 20 s without traffic: the reader may wait, a test may not
    config.write_text(example.replace("127.0.0.1:1883", f"127.0.0.1:{broker.port}").replace("time: 2s", "time: 100ms"))
    with serving(serve.replace("configs/examples/digits.yaml", str(config)), short_path):
        listen, ask = (block.replace("-h localhost", f"-h localhost -p {broker.port}") for block in (listen, ask))
        assert '"prediction":[{"label":"three","index":3' in run(listen)
        assert run(ask).count('"prediction":[{"label":"three","index":3') == 2
        pushed = run(push.replace("localhost:1883", f"localhost:{broker.port}"))
        assert "version 2 is live" in pushed


def test_the_configuration_shown_is_the_example() -> None:
    """Word for word but for comments, labels and the like: nothing shown may be missing from the file."""
    shown = re.search(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert shown is not None
    example = re.sub(r"[\s\[\]{}\-,]", "", (ROOT / "configs/examples/digits.yaml").read_text())
    for line in shown[1].splitlines():
        words = re.sub(
            r"[\s\[\]{}\-,]", "", line.split(" #")[0].removeprefix("    preprocess:").removeprefix("    postprocess:")
        )
        assert words in example, line
