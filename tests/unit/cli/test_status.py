"""`edged status`: the table, the remarks below it, and a daemon that is away."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edged import cli
from edged.cli import status as command
from edged.errors import fault
from edged.observe.metrics import Figures
from edged.observe.resources import Box, Process, Resources, Total
from edged.observe.status import DaemonStatus, Status, build
from tests.unit.cli.daemon import Double, double
from tests.unit.observe.facts import Facts

MQTT = {"connected": True, "version": "5", "url": "mqtt://b:1883", "refused": ["a/\x1b[2J#"], "last_error": ""}
BOX = Box(2, cpu=0.25, memory_total=4 * 2**30, memory_available=2**30, disk_free=10**9, temperature=51.4)
FULL = build(
    DaemonStatus("0.1.0", "press-07", 5, 3 * 3600 + 300, MQTT),
    [
        Facts("digits", version="2", pid=7, queue=3, in_flight=1),
        Facts("cam", "failed", fault=fault("over_memory", "it took\x1b[31m too much")),
    ],
    {"digits": Figures(1234, 2, {"queue_full": 5}, 1, 12.34, 0.00031, 0.0015)},
    Resources(BOX, {7: Process(7, rss=8 * 2**20, cpu_s=1.0, threads=1)}, Total(3, 100 * 2**20, 2.5)),
    {"digits": {"phase": "idle", "verdict": "active", "code": None, "message": "flag: untested"}},
)
REPORT = """\
press-07  edged 0.1.0, up 3 h 05 min, process 5
CPU 25% of 2, memory 3.0 GiB of 4.0 GiB, disk 954 MiB free, 51 °C, edged itself 100 MiB in 3 processes
MQTT 5 connected to mqtt://b:1883
     the broker refused the subscription a/ [2J#

MODEL   STATE    VERSION  RATE/s  P50 ms  P99 ms  WAITING  RUNNING  REQUESTS  ERRORS  DROPPED   MEMORY  LAST PUSH
digits  serving  2          12.3    0.31     1.5        3        1      1234       2        5  8.0 MiB  active
cam     failed   -           0.0       -       -        0        0         0       0        0        -  -
digits: last push: flag: untested
digits: dropped 5 queue_full
digits: its process was started again 1 times
cam: it took [31m too much [over_memory]
  Raise limits.memory, or send less at once."""


@pytest.fixture
def daemon(short_path: Path) -> Iterator[Double]:
    with double(short_path) as server:
        server.answers["/edged/status"] = 200, msgspec.to_builtins(FULL)
        yield server


def test_the_report() -> None:
    assert "\n".join(command.report(FULL)) == REPORT


def test_a_box_without_models_broker_or_sample() -> None:
    lines = list(command.report(Status(DaemonStatus("0.1.0", "x", 5, 42.0), ())))
    assert lines == [
        "x  edged 0.1.0, up 42 s, process 5",
        "MQTT off: no broker is configured",
        "",
        "no model is configured",
    ]


def test_a_refused_push_shows_its_code() -> None:
    installs = {"m": {"phase": "idle", "verdict": "rejected", "code": "io_mismatch", "message": "input x is new"}}
    lines = list(command.report(build(DaemonStatus("0.1.0", "x", 5, 1.0), [Facts("m")], {}, None, installs)))
    assert lines[-2].endswith("rejected (io_mismatch)")
    assert lines[-1] == "m: last push: input x is new"


def test_what_is_refused_on_a_topic_is_a_remark() -> None:
    installs = {"m": {"verdict": "active", "refused": {"group/a": "signature"}}}
    lines = list(command.report(build(DaemonStatus("0.1.0", "x", 5, 1.0), [Facts("m")], {}, None, installs)))
    assert lines[-2].endswith("active")
    assert lines[-1] == "m: what lies on the topic want/m/group/a is refused [signature]"


def test_a_box_that_takes_unsigned_pushes_says_so() -> None:
    lines = list(command.report(Status(DaemonStatus("0.1.0", "x", 5, 1.0, flags=("unsigned_ok",)), ())))
    assert lines[2] == "pushes need no signature: push.require_signature is false [unsigned_ok]"


def test_a_broker_that_is_away_says_why() -> None:
    daemon = DaemonStatus("0.1.0", "x", 5, 1.0, {"connected": False, "url": "mqtt://b", "last_error": "refused"})
    assert "MQTT away from mqtt://b: refused" in list(command.report(Status(daemon, ())))


def test_another_broker_than_the_first_is_said() -> None:
    facts: dict[str, object] = {"connected": True, "version": "5", "url": "mqtt://c", "urls": ["mqtt://b", "mqtt://c"]}
    daemon = DaemonStatus("0.1.0", "x", 5, 1.0, facts)
    assert "MQTT 5 connected to mqtt://c, 2 of 2" in list(command.report(Status(daemon, ())))


def test_the_command(daemon: Double, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--socket", str(daemon.path)]) == 0
    assert capsys.readouterr().out == REPORT + "\n"
    assert cli.main(["status", "--json", "--socket", str(daemon.path)]) == 0
    assert capsys.readouterr().out == json.dumps(msgspec.to_builtins(FULL), indent=2) + "\n"


def test_a_probe_gets_an_exit_code(daemon: Double, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers["/v2/health/ready"] = 200, {"ready": True}
    assert cli.main(["status", "--ready", "--socket", str(daemon.path)]) == 0
    assert capsys.readouterr() == ("", "")
    daemon.answers["/v2/health/ready"] = 503, {"error": "failed: cam", "code": "model_failed"}
    assert cli.main(["status", "--ready", "--socket", str(daemon.path)]) == 1
    assert capsys.readouterr().err.startswith("edged: failed: cam [model_failed]")
    assert cli.main(["status", "--ready", "--socket", str(tmp_path / "nobody.sock")]) == 1


def test_nobody_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--socket", str(tmp_path / "none")]) == 1
    assert "[no_daemon]" in capsys.readouterr().err


def test_a_daemon_of_another_kind_is_explained(daemon: Double, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.answers["/edged/status"] = 200, {"daemon": {"name": "x"}}
    assert cli.main(["status", "--socket", str(daemon.path)]) == 1
    assert "edged status --json" in capsys.readouterr().err


def test_watch_outlives_the_daemon(
    daemon: Double, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = daemon.path.with_name("moved")
    rounds: list[float] = []

    def between(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 1:
            daemon.path.rename(moved)
        elif len(rounds) == 2:
            moved.rename(daemon.path)
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", between)
    assert cli.main(["status", "--watch", "--json", "--socket", str(daemon.path)]) == 0
    captured = capsys.readouterr()
    assert [json.loads(line)["daemon"]["device"] for line in captured.out.splitlines()] == ["press-07"] * 2
    assert captured.err.count("no daemon answers") == 1


@pytest.mark.parametrize(
    ("pinned", "how"),
    [(False, "against wants: none counts"), (True, "at this version: no want and no push counts")],
)
def test_whoever_holds_a_model_is_named_and_against_what(pinned: bool, how: str) -> None:
    installs = {"m": {"held": {"by": "uid 0", "pinned": pinned}}}
    lines = list(command.report(build(DaemonStatus("0.1.0", "x", 5, 1.0), [Facts("m")], {}, None, installs)))
    assert lines[-1] == f"m: uid 0 holds it {how} until `edged unpin m`"


def test_what_waits_for_the_broker_and_where_pushes_come_from() -> None:
    outbox = {
        "messages": 12,
        "bytes": 4096,
        "fault": "the outbox cannot be written: No space left\x1b[2J",
        "unread": "one file",
    }
    pushes = {"pushes_url": "mqtts://fleet:8883", "pushes_connected": False}
    lines = list(
        command.report(build(DaemonStatus("1", "x", 5, 1.0, {**MQTT, "outbox": outbox, **pushes}), [], {}, None, {}))
    )
    assert "     12 messages wait in the outbox, 4.0 KiB" in lines
    assert "     the outbox cannot be written: No space left [2J" in lines
    assert "     one file" in lines
    assert "     pushes: away from mqtts://fleet:8883" in lines
