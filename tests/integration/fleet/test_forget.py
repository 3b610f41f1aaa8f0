"""`edged fleet forget`: what a broker keeps of a box that does not come back, and of nobody else."""

from __future__ import annotations

import pytest

from edged import cli
from edged.topics import Ota, Tree
from edged.transports.mqtt.retained import Put
from tests.integration.fleet.machines import CHUNK, Machine, Watcher, says
from tests.releases import content

OTA = Ota("edged")
DEAD = Tree("edged", "press-07")


def forget(*words: str) -> int:
    return cli.main(["fleet", "forget", *words])


def test_a_box_that_is_gone_is_forgotten_with_the_orders_for_it_alone(
    machine: Machine, watcher: Watcher, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher.put(
        *says("press-07", presence="offline", groups=("line-2",)),
        *says("press-070"),
        Put(DEAD.model_status("digits"), b"{}"),
        Put(DEAD.result("digits"), b"4"),
    )
    folder = machine.release(content(CHUNK))
    for to in ("device:press-07", "device:press-070", "group:line-2", "all"):
        assert machine.push(folder, "--to", to) == 0
    before = watcher.kept("edged/#")
    gone = {topic for topic in before if topic.startswith("edged/press-07/")}
    gone |= {OTA.want("digits", "device/press-07"), OTA.undo("digits", "device/press-07")}
    assert len(gone) == 7
    capsys.readouterr()
    assert forget("press-07", "--yes") == 0
    assert capsys.readouterr().out == "press-07: 7 messages are gone from the broker\n"
    assert watcher.kept("edged/#") == {topic: said for topic, said in before.items() if topic not in gone}
    assert cli.main(["fleet", "status"]) == 0
    assert "press-07 " not in capsys.readouterr().out
    assert forget("press-07", "--yes") == 1
    assert "the broker keeps nothing of a box 'press-07' under edged" in capsys.readouterr().err


def test_it_asks_first(
    machine: Machine, watcher: Watcher, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def refuse(question: str) -> str:
        asked.append(question)
        return ""

    watcher.put(*says("press-07", presence="offline"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", refuse)
    assert forget("press-07") == 1
    assert asked == ["press-07: 3 messages go from the broker. Go on? [y/N] "]
    assert len(watcher.kept("edged/press-07/#")) == 3
    monkeypatch.setattr("builtins.input", lambda _: "Y")
    assert forget("press-07") == 0
    assert watcher.kept("edged/press-07/#") == {}
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    watcher.put(*says("press-07", presence="offline"))
    assert forget("press-07") == cli.WRONG_USE
    assert "Say --yes." in capsys.readouterr().err


def test_a_box_that_is_online_is_not_forgotten_unless_the_broker_is_wrong(
    machine: Machine, watcher: Watcher, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher.put(*says("press-07"))
    assert forget("press-07", "--yes") == 1
    said = capsys.readouterr().err
    assert "press-07 is online" in said
    assert "--force" in said
    assert len(watcher.kept("edged/press-07/#")) == 3
    assert forget("press-07", "--yes", "--force") == 0
    assert watcher.kept("edged/press-07/#") == {}


@pytest.mark.parametrize("name", ["all", "ota", "+", "#", "a/b", ""])
def test_what_is_no_box_takes_nothing_along(
    machine: Machine, watcher: Watcher, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watcher.put(*says("press-07", presence="offline"))
    assert forget("--yes", "--force", "--", name) == cli.WRONG_USE
    assert "is no box's name" in capsys.readouterr().err
    assert len(watcher.kept("edged/#")) == 3
