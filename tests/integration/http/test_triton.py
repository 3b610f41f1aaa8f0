"""tritonclient, unchanged, gets health, metadata and infer right: JSON and binary, sync and asyncio."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.integration.http.double import Served


def test_tritonclient_works_unchanged(served: Served) -> None:
    pytest.importorskip("tritonclient")
    done = subprocess.run(  # a process of its own: it patches what it imports (gevent)
        [sys.executable, "-m", "tests.integration.http.triton", f"127.0.0.1:{served.port}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
