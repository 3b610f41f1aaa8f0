"""scripts/demo's story, told once: three releases and what becomes of each, nothing lost, and nothing left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil

from tests.box import AS_NOBODY_SPECIAL

ROOT = Path(__file__).resolve().parents[2]


def test_the_demonstration_shows_what_it_promises(short_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(short_path), "PYTHONPATH": str(ROOT)}
    command = [*AS_NOBODY_SPECIAL, sys.executable, str(ROOT / "examples/digits/demo.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("accuracy 82.9 % -> 99.7 %") == 2
    assert re.search(r"\d{4,} answers, lost 0, errors 0; stopped cleanly", done.stdout)
    phases = re.findall(r"^ +[\d.]+ s +version (\d): (\w+) +\(\d+ answers so far\)", done.stdout, re.MULTILINE)
    told: dict[str, list[str]] = {}
    for version, phase in phases:
        told.setdefault(version, []).append(phase)
    fetched = ["offered", "downloading", "verified", "trial"]
    assert told == {
        "2": [*fetched, "probation", "active"],
        "3": [*fetched, "failed"],
        "4": [*fetched, "probation", "rolled_back"],
    }
    assert "[golden]" in done.stdout
    assert re.search(r"[1-9]\d* answers of version 4 were NaN before it was gone", done.stdout)
    assert list(short_path.iterdir()) == []
    left = [
        one.info for one in psutil.process_iter(["cmdline"]) if str(short_path) in " ".join(one.info["cmdline"] or [])
    ]
    assert left == []
