"""`edged check`, and how the program turns errors into messages and exit codes."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edged
from edged import cli
from edged.cli import run
from edged.config.mistakes import ConfigErrors
from edged.errors import EdgedError
from tests.signing import Operator, sign

RIGHT = """\
device: press-07
groups: [line-2]
mqtt: {url: [mqtt://b, mqtt://c], username: u, password: "secret", client_id: me}
sockets: {unix: /run/e.sock, http: 127.0.0.1:8080}
models:
  digits:
    inputs: [{topic: cells/+cell/scan, format: values}]
    output: {topic: "cells/{cell}/digit"}
"""
WRONG = "devise: a\nmqtt:\n  url: b\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edged.yaml"


def test_a_valid_file_says_what_would_run(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(RIGHT)
    assert cli.main(["check", "--config", str(file)]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{file}: valid",
        "  device  press-07",
        "  groups  line-2",
        "  broker  mqtt://b, then mqtt://c as u",
        "  socket  /run/e.sock",
        "  socket  127.0.0.1:8080",
        "  model   digits: waits for its first push",
        "          cells/+cell/scan (QoS 1, values) -> cells/{cell}/digit",
    ]
    assert not said.err


def test_whose_signatures_count_is_said_and_a_root_of_trust_that_is_none_is_a_mistake(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operator = Operator()
    file.write_text("device: press-07\npush:\n  trust: trust.json\n")
    (file.parent / "trust.json").write_bytes(operator.sign_trust())
    assert cli.main(["check", "--config", str(file)]) == 0
    keyids = [key.keyid for key in (operator.root, operator.release, operator.deploy)]
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "  trust   version 1: root 1 of {}; release 1 of {}; deploy 1 of {}".format(*keyids)
    for content, why in ((b"{}", "required field"), (sign(operator.trust, operator.release), "0 of 1 signatures")):
        (file.parent / "trust.json").write_bytes(content)
        assert cli.main(["check", "--config", str(file)]) == 2
        err = capsys.readouterr().err
        assert err.startswith(f"{file}:3: push.trust: ")
        assert why in err
        with pytest.raises(ConfigErrors, match=why):  # and no start
            run._read(file)


def test_a_broker_of_its_own_a_share_and_a_lane_are_said_and_what_is_not_published(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text("""\
device: press-07
mqtt: {url: mqtt://b}
sockets: {unix: /run/e.sock, fast: {path: /run/f.sock, direct: true}}
models:
  a: {inputs: [{topic: t, share: line-2}], output: {topic: out, from: all}}
  b: {}
push: {mqtt: {url: "mqtts://fleet", username: u}}
""")
    assert cli.main(["check", "--config", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "  broker  mqtt://b",
        "  pushes  mqtts://fleet as u",
        "  socket  /run/e.sock",
        "  fast    /run/f.sock",
        "  model   a: waits for its first push",
        "          t (QoS 1, auto, shared by line-2) -> out",
        "          direct lane: /run/f.a.sock",
        "  model   b: waits for its first push",
        "          direct lane: /run/f.b.sock",
        "  note    a: output.from: all publishes no result of the direct lane (/run/f.a.sock)",
    ]
    assert cli.main(["check", "--json", "--config", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (len(found["notes"]), found["runs"]["pushes"]["username"]) == (1, "u")
    assert [(one["direct"], len(one["inputs"])) for one in found["runs"]["models"]] == [
        ("/run/f.a.sock", 1),
        ("/run/f.b.sock", 0),
    ]
    file.write_text(file.read_text().replace("direct: true", "direct: false"))
    assert cli.main(["check", "--config", str(file)]) == 0
    assert "note" not in capsys.readouterr().out


def test_every_mistake_is_printed(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(WRONG)
    assert cli.main(["check", "--config", str(file)]) == 2
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        f"{file}:1: devise: unknown key (did you mean device?)",
        f"{file}:3: mqtt.url: expected mqtt://host or mqtts://host (did you mean mqtt://b?)",
    ]
    assert not said.out


def test_a_files_name_that_is_no_text_is_shown_with_a_question_mark(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(RIGHT)
    (file.parent / "conf.d").mkdir()
    Path(os.fsdecode(os.fsencode(file.parent) + b"/conf.d/\xff.yaml")).write_text("devise: a\n")
    assert cli.main(["check", "--config", str(file)]) == 2
    assert f"{file.parent}/conf.d/?.yaml:1: devise: unknown key" in capsys.readouterr().err


def test_the_same_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(WRONG)
    assert cli.main(["check", "--json", "--config", str(file)]) == 2
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], found["file"]) == (False, str(file))
    assert found["mistakes"][0] == {
        "file": str(file),
        "line": 1,
        "path": "devise",
        "what": "unknown key",
        "hint": "did you mean device?",
    }
    file.write_text(RIGHT)
    assert cli.main(["check", "--json", "--config", str(file)]) == 0
    text = capsys.readouterr().out
    assert json.loads(text)["runs"] == {
        "device": "press-07",
        "groups": ["line-2"],
        "mqtt": {"url": ["mqtt://b", "mqtt://c"], "username": "u", "client_id": "me", "base": "edged"},
        "pushes": {"url": ["mqtt://b", "mqtt://c"], "username": "u", "client_id": "me", "base": "edged"},
        "sockets": ["/run/e.sock", "127.0.0.1:8080"],
        "models": [
            {
                "name": "digits",
                "file": None,
                "inputs": [{"topic": "cells/+cell/scan", "qos": 1, "format": "values", "share": None}],
                "result": "cells/{cell}/digit",
                "direct": None,
            }
        ],
    }
    assert "secret" not in text


def test_json_says_which_files_were_read_and_whose_mistake_it_is(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(RIGHT)
    drop_in = file.parent / "conf.d/10-line.yaml"
    drop_in.parent.mkdir()
    drop_in.write_text("groups: [line-3]\n")
    assert cli.main(["check", "--json", "--config", str(file)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["file"], found["files"]) == (str(file), [str(file), str(drop_in)])
    assert (found["mistakes"], found["runs"]["groups"]) == ([], ["line-3"])
    (file.parent / "text.onnx").write_text("no model")
    drop_in.write_text("\nmodels: {digits: {file: text.onnx}}\n")
    assert cli.main(["check", "--json", "--config", str(file)]) == 2
    found = json.loads(capsys.readouterr().out)
    (only,) = found["mistakes"]
    assert (only["file"], only["line"], only["path"]) == (str(drop_in), 2, "models.digits.file")
    assert "runs" not in found


EIGHT = """\
device: press 07
mqtt:
  url: tcp://broker.plant
  keepalive: 30
  password_file: nowhere
models:
  digits:
    threads: 012
    inputs:
      - topic: #scan
    postprocess: [sofmax]
  digits: {}
"""


def test_eight_different_mistakes_are_eight_lines(file: Path) -> None:
    """As a user runs it: each with its line, all at once, and nothing of a traceback."""
    file.write_text(EIGHT)
    program = [sys.executable, "-m", "edged", "check", "--config", str(file)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 2
    assert not done.stdout
    assert [line.removeprefix(f"{file}:") for line in done.stderr.splitlines()] == [
        "1: device: 'press 07' is no name (letters, digits, _ and -, at most 64)",
        "3: mqtt.url: tcp:// is no address of a broker (did you mean mqtt://broker.plant?)",
        "4: mqtt.keepalive: expected a duration such as 500ms, 60s or 1h, found '30' (did you mean 30s?)",
        f"5: mqtt.password_file: {file.parent}/nowhere does not exist",
        (
            "8: models.digits.threads: expected a whole number, found '012' "
            "(a leading 0 makes YAML read it as octal: did you mean 12?)"
        ),
        '10: models.digits.inputs[0].topic: has no value (# begins a comment: did you mean "#scan"?)',
        "11: models.digits.postprocess[0]: 'sofmax' is no step (did you mean softmax?)",
        "12: models.digits: key given twice (first on line 7)",
    ]


def test_a_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--config", str(tmp_path / "no.yaml")]) == 2
    assert "no.yaml: does not exist" in capsys.readouterr().err


def test_wrong_use_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["check", "--nonsense"], ["nonsense"], []):
        with pytest.raises(SystemExit) as ended:
            cli.main(argv)
        assert ended.value.code == 2
        assert "usage: edged" in capsys.readouterr().err


@pytest.mark.parametrize(("code", "expected"), [("no_daemon", 1), ("bad_config", 2)])
def test_an_error_is_printed_once_with_its_hint(
    code: str, expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> int:
        raise EdgedError(code, "It does not go.", "Do something else.")

    monkeypatch.setattr("edged.cli.version.run", fails)
    assert cli.main(["version"]) == expected
    said = capsys.readouterr()
    assert said.err == f"edged: It does not go. [{code}]\n  Do something else.\n"
    assert not said.out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out == f"edged {edged.__version__}\n"
    assert cli.main(["version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["edged"] == edged.__version__


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_keeps_the_convention(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = importlib.import_module(cli.COMMANDS[name])
    assert not command.HELP.endswith(".")
    assert f"edged {name}" in command.EXAMPLES
    with pytest.raises(SystemExit) as ended:
        cli.main([name, "--help"])
    assert ended.value.code == 0
    assert "examples:" in capsys.readouterr().out


def test_the_programs_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    assert [name for name in cli.COMMANDS if f"    {name} " not in said] == []
    assert "\nexamples:\n  edged run --model " in said


HEAVY_AT_HELP = """
import sys, edged.__main__
print({"edged.cli", "msgspec"} & set(sys.modules))
import edged.cli
edged.cli.parser()
print({"numpy", "onnxruntime", "paho", "uvloop", "httptools", "psutil", "yaml", "asyncio"} & set(sys.modules))
"""


def test_the_entry_point_and_the_help_import_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HEAVY_AT_HELP], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\nset()\n"


def test_a_reader_that_goes_away_is_no_crash(file: Path) -> None:
    file.write_text(RIGHT)
    program = [sys.executable, "-m", "edged", "check", "--config", str(file)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert not running.stderr.read()
    assert running.returncode == 1


def test_steps_that_do_not_fit_the_model_are_a_mistake(
    file: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = digits / "digits_v1_int8.onnx"
    file.write_text(
        f"models:\n  good: {{file: {model}}}\n  bad:\n    file: {model}\n    preprocess: [{{reshape: [1, 9, 9]}}]\n"
        f"    postprocess: [{{output: scores}}]\n"
    )
    assert cli.main(["check", "--config", str(file)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{file}:5: models.bad.preprocess[0]: preprocess reshape: [1, 9, 9] does not fit")
    assert "edged check" not in said, "a hint to do what was just done"
    assert "no output 'scores'" in said


def test_a_file_that_is_no_model_is_a_mistake(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (file.parent / "text.onnx").write_text("no model")
    file.write_text("models:\n  bad: {file: text.onnx}\n")
    assert cli.main(["check", "--config", str(file)]) == 2
    assert f"{file}:2: models.bad.file: " in capsys.readouterr().err


MANY = """\
mqtt: {{url: "mqtt://b", usrname: u}}
push:
  trust: trust.json
defaults:
  postprocess: [{{output: scores}}]
models:
  a:
    file: {model}
    postprocess: []
    preprocess:
      - scale: 0.0625
      - reshape: [1, 9, 9]
  b: {{file: text.onnx}}
  c:
    file: {model}
    inputs: [{{topic: x/+a}}]
    output: {{topic: "{{b}}/x"}}
    postprocess: []
    cpus: [4095]
  d: {{file: {model}}}
  e: {{file: {model}, limits: {{memory: 1}}, preprocess: [{{reshape: [9]}}]}}
"""


def test_what_is_wrong_in_one_place_hides_nothing_elsewhere(
    file: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys, a root of trust, files, steps and cores are looked at one after the other, and all told together.

    Only of a model whose own keys are not all read nothing more is said (e): it would be a guess.
    """
    (file.parent / "text.onnx").write_text("no model")
    (file.parent / "trust.json").write_text("{}")
    file.write_text(MANY.format(model=digits / "digits_v1_int8.onnx"))
    assert cli.main(["check", "--json", "--config", str(file)]) == 2
    found = [(one["line"], one["path"]) for one in json.loads(capsys.readouterr().out)["mistakes"]]
    assert found == [
        (1, "mqtt.usrname"),
        (3, "push.trust"),
        (5, "defaults.postprocess[0]"),
        (12, "models.a.preprocess[1]"),
        (13, "models.b.file"),
        (17, "models.c.output.topic"),
        (19, "models.c.cpus"),
        (21, "models.e.limits.memory"),
    ]


def test_defaults_that_are_wrong_are_no_fault_of_the_models(
    file: Path, digits: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = digits / "digits_v1_int8.onnx"
    file.write_text(
        f"defaults: {{preprocess: [{{reshape: [1, 8, 8]}}], thraeds: 1}}\nmodels:\n  a:\n"
        f"    file: {model}\n    postprocess: [{{output: scores}}]\n  a-b: {{file: nowhere}}\n"
    )
    assert cli.main(["check", "--config", str(file)]) == 2
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "defaults.thraeds",
        "models.a-b.file",
    ]
    file.write_text(file.read_text().replace(", thraeds: 1", ""))
    assert cli.main(["check", "--config", str(file)]) == 2
    assert [line.split(": ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "models.a.postprocess[0]",
        "models.a-b.file",
    ]
