"""What a person can get wrong on the command line of a rollout is said before anything is connected to."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged import cli


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--waves", "50,10"], "--waves 50,10: percents above 0 up to 100, rising"),
        (["--waves", "0,100"], "--waves 0,100"),
        (["--waves", "1,200"], "--waves 1,200"),
        (["--waves", "all"], "--waves all: percents above 0 up to 100, rising [bad_config]\n  Such as 1,10,50,100."),
        (["--waves", "1,,100"], "--waves 1,,100: percents above 0"),
        (["--waves", "nan"], "--waves nan"),
        (["--soak", "soon"], "--soak soon"),
        (["--max-fail", "2"], "--max-fail 2"),
        (["--max-fail", "200%"], "--max-fail 200%"),
        (["--min-fail", "1.5"], "--min-fail 1.5"),
        (["--min-fail", "-1"], "--min-fail -1"),
        (["--min-fail", "inf"], "--min-fail inf"),
        (["--min-fail", "nan"], "--min-fail nan"),
        (["--every", "often"], "--every often"),
    ],
)
def test_a_wrong_option_is_named_with_what_it_wants(
    options: list[str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["fleet", "rollout", "digits", *options]) == cli.WRONG_USE
    assert why in capsys.readouterr().err


def test_what_is_neither_a_release_nor_a_model_is_told_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "digits_v7.onnx"
    for what, said in (
        (file, "there is no such folder"),
        ("a.b", "'a.b' is no model's name"),
        (file, f"is a file, and no release [bad_config]\n  `edged release {file} --model M --version N` makes one"),
    ):
        assert cli.main(["fleet", "rollout", str(what)]) == cli.WRONG_USE
        assert said in capsys.readouterr().err
        file.touch()


@pytest.mark.parametrize("verb", ["pause", "undo"])
def test_a_model_or_a_scope_that_cannot_be_is_refused(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fleet", verb, "a/b"]) == cli.WRONG_USE
    assert "is no model's name" in capsys.readouterr().err
    assert cli.main(["fleet", verb, "digits", "--to", "press-07"]) == cli.WRONG_USE
    assert "all, group:G or device:D" in capsys.readouterr().err


def test_without_a_broker_it_says_where_to_write_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fleet.yaml").write_text("keys: keys\n")
    monkeypatch.setenv("EDGED_FLEET", str(tmp_path / "fleet.yaml"))
    assert cli.main(["fleet", "status"]) == cli.WRONG_USE
    assert "names no broker" in capsys.readouterr().err
