"""docs/quickstart.md, from its first command to its last, as a reader types them; and what it says that they print.

Only what belongs to the reader's machine is replaced: the folder, the broker's port, the box's name.
What installs, and the service's part, is not run here.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from edged.config.identity import device_name
from tests.box import ROOT
from tests.brokers import Mosquitto

PAGE = (ROOT / "docs" / "quickstart.md").read_text()
HERE = PAGE.partition("\n## As a service\n")[0]
BLOCK = re.compile(
    r"(?P<mark><!-- [^>]* -->\n)?```bash\n(?P<typed>.*?)^```\n(?:```text\n(?P<printed>.*?)^```\n)?",
    re.DOTALL | re.MULTILINE,
)


def pattern(printed: str) -> str:
    """What was printed, on any machine: `...` is anything, and so is the value of a figure."""
    masked = re.sub(r"\d[\d.,]*", "7", printed)
    parts = [re.escape(part).replace("7", r"\d[\d.,]*") for part in masked.split("...")]
    return re.sub(r"(?:\\ )+", r"\\s+", "(?s:.*)".join(parts))


def test_every_command_does_what_it_says(short_path: Path, broker: Mosquitto) -> None:
    blocks = [match for match in BLOCK.finditer(HERE) if match["mark"] != "<!-- once -->\n"]
    assert len(blocks) >= 8
    here = str(short_path / "first")

    def moved(text: str) -> str:
        text = text.replace("/tmp/edged-first", here).replace("localhost:1883", f"localhost:{broker.port}")
        text = text.replace("127.0.0.1:1883", f"127.0.0.1:{broker.port}").replace("/home/me/edged", str(ROOT))
        text = text.replace("press-07", device_name(socket.gethostname()))
        text = text.replace("-h localhost", f"-h localhost -p {broker.port}")
        return text.replace("edged init", f"edged init --broker {broker.url}")

    script = "".join(f"echo '=== {index}'\n{moved(match['typed'])}" for index, match in enumerate(blocks))
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    said = re.split(r"^=== \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    for match, output in zip(blocks, said, strict=True):
        if match["printed"]:
            assert re.fullmatch(pattern(moved(match["printed"])), output), f"{match['typed']}\n{output}"
    assert not Path(here).exists()


def test_the_pattern_can_fail() -> None:
    assert re.fullmatch(pattern("a 1.5 of ... b\n"), "a 27 of x\ny b\n")
    assert not re.fullmatch(pattern("a 1.5 of ... b\n"), "a 27 x b\n")
