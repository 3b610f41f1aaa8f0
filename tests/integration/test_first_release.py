"""docs/model-push.md's first release, line by line: only the folder and the broker's port are others."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.box import UnixConnection
from tests.brokers import Mosquitto
from tests.integration.test_readme import ROOT, run, serving
from tests.waiting import until

PAGE = (ROOT / "docs/model-push.md").read_text()


def test_the_ten_lines(short_path: Path, broker: Mosquitto) -> None:
    section = PAGE.split("## A first release, in ten lines\n", 1)[1].split("\n## ", 1)[0]
    serve, push = (
        block.replace("/tmp/edged-first", str(short_path)).replace("localhost:1883", f"localhost:{broker.port}")
        for block in re.findall(r"^```bash\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    )
    assert len([line for line in (serve + push).splitlines() if not line.startswith("export")]) == 10
    with serving(serve, short_path):
        said = run(push)
        assert re.search(r"^first: runs version 2", said, re.MULTILINE)
        assert "digits" in said
        assert "committed" in said
        until(lambda: version(short_path / "edged.sock") == "1")  # the undo has brought it back


def version(path: Path) -> str:
    connection = UnixConnection(path)
    try:
        connection.request("GET", "/edged/status")
        (model,) = json.loads(connection.getresponse().read())["models"]
        return str(model["version"])
    finally:
        connection.close()
