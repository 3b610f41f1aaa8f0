"""What a person can get wrong on the command line of a push is said before anything is connected to."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged import cli


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
