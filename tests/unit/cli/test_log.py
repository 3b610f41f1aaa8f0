"""Where `edged log` looks for the audit."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.cli import log
from edged.errors import EdgedError


def test_a_place_without_an_audit_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's own state directory is the service's."""
    monkeypatch.setattr(log, "_SERVICE", tmp_path)
    with pytest.raises(EdgedError) as caught:
        log._folder({"STATE_DIRECTORY": str(tmp_path)})
    assert caught.value.fault.message == f"there is no audit in {tmp_path}"
