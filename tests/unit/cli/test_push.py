"""What a person can get wrong on the command line of a push is said before anything is connected to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged import cli
from edged.cli import simple
from edged.config.schema import Mqtt
from edged.topics import Tree
from tests.ports import free_port


def test_a_folder_that_wait_has_taken_for_its_value_is_told_from_a_missing_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["push", "--to", "all", "--wait", str(tmp_path)]) == cli.WRONG_USE
    said = capsys.readouterr().err
    assert "--wait=15m takes its value with =" in said
    assert f"edged push {tmp_path} --to all --wait" in said
    assert cli.main(["push", "--to", "all", "--wait", "15m"]) == cli.WRONG_USE
    assert "RELEASE is missing" in capsys.readouterr().err


def test_tidying_up_takes_no_release(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["push", str(tmp_path), "--gc"]) == cli.WRONG_USE
    assert "--gc takes no release" in capsys.readouterr().err


def test_a_broker_that_stays_away_is_told_of_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    waiting = simple._Push(Mqtt((f"mqtt://127.0.0.1:{free_port()}",)), Tree("edged", "a"), "m", b"model", None)
    for _ in range(3):
        waiting._again()
    assert capsys.readouterr().err.count("trying again") == 1


@pytest.mark.parametrize(
    ("fate", "ours"),
    [
        ({"phase": "trial", "push": {"sha256": hashlib.sha256(b"model").hexdigest()}}, True),
        ({"phase": "trial", "push": {"sha256": "f" * 64}}, False),
        ({"phase": "idle", "verdict": "rejected", "code": "busy", "bytes": 5}, True),
        ({"phase": "idle", "verdict": "rejected", "code": "too_large"}, True),
        ({"phase": "idle", "verdict": "rejected", "code": "bad_document", "bytes": 439}, False),
    ],
)
def test_a_document_that_is_refused_meanwhile_is_no_verdict_on_the_file(fate: dict[str, Any], *, ours: bool) -> None:
    waiting = simple._Push(Mqtt(("mqtt://127.0.0.1:1",)), Tree("edged", "a"), "m", b"model", None)
    waiting._sent = True
    waiting._take("edged/a/install/m", msgspec.json.encode(fate), retained=False)
    assert (waiting._fate is not None) is ours
