"""A rollout from its first want to its end, with a broker and a fleet in memory, killed at every point on the way."""

from __future__ import annotations

import itertools

import pytest

from edged.delivery.documents import Want
from edged.errors import EdgedError
from edged.fleet import intervention
from edged.fleet.rollout import Conductor
from edged.fleet.waves import End, Plan
from edged.topics import Ota
from edged.transports.mqtt.retained import Lost
from tests.devices import MODEL, Device, Memory
from tests.operators import signing
from tests.signing import Operator

V2, V3 = "2" * 64, "3" * 64
OPERATOR = Operator()
TRUST = OPERATOR.trust
sign = signing(OPERATOR)
PLAN = Plan((1, 10, 50, 100), soak_s=60, max_fail=2, min_fail=2)


def conductor(
    broker: Memory, said: list[str], release: str = V2, *, retry: bool = False, plan: Plan = PLAN
) -> Conductor:
    want = Want(MODEL, "all", 0, 0, 0, release, int(release[0]))
    return Conductor(broker, want, plan, sign, said.append, retry=retry, every_s=10, now_ms=broker.now_ms)


def run(broker: Memory, release: str = V2, *, retry: bool = False, plan: Plan = PLAN) -> tuple[End, list[str]]:
    said: list[str] = []
    return conductor(broker, said, release, retry=retry, plan=plan).run(), said


def everybody_installed_once(broker: Memory, release: str = V2) -> bool:
    return all(one.installed.count(release) == 1 for one in broker.devices.values())


def test_all_waves_one_after_the_other() -> None:
    broker = Memory(100, TRUST)
    end, said = run(broker)
    assert end.ok
    assert broker.running(V2) == set(broker.devices)
    assert everybody_installed_once(broker)
    begun = [line for line in said if line.startswith(("begins", "goes on"))]
    assert begun == ["begins with 1 %", "goes on to 10 %", "goes on to 50 %", "goes on to 100 %"]
    assert broker.clock_s - 1_700_000_000 >= 4 * PLAN.soak_s


def test_killed_at_every_point_and_begun_again_it_ends_the_same() -> None:
    """Before and after each thing that is done to the broker, and whenever it waits."""
    plan = Plan((5, 50, 100), soak_s=20)
    for point in itertools.count():
        broker = Memory(12, TRUST)
        left = itertools.count(point, -1)

        def crash(_: str, left: itertools.count[int] = left) -> None:
            if next(left) == 0:
                raise KeyboardInterrupt

        broker.crash = crash
        try:
            end, _ = run(broker, plan=plan)
        except KeyboardInterrupt:
            broker.crash = lambda _: None
            laid = Ota("edged").want(MODEL, "all") in broker.kept
            end, said = run(broker, plan=plan)
            assert any(line.startswith("begins") for line in said) != laid
            assert end.ok
            assert broker.running(V2) == set(broker.devices)
            assert everybody_installed_once(broker)
        else:
            assert end.ok
            assert point > 20
            break


def test_it_halts_pauses_and_goes_on_when_told_to() -> None:
    broker = Memory(100, TRUST)
    for name in list(broker.devices)[::40]:
        broker.devices[name].flaws[V2] = ("probation", "nonfinite")
    end, said = run(broker)
    assert not end.ok
    assert end.why == "halted at 100 %: 3 of 100 failed, more than 2 and more than 2 %"
    assert said[-1].startswith("halts")
    assert len(broker.running(V2)) == 97

    end, _ = run(broker)
    assert (end.ok, end.why.startswith("halted")) == (False, True)
    for device in broker.devices.values():
        device.flaws.clear()
    end, said = run(broker, retry=True)
    assert (end.ok, said[0]) == (True, "goes on at 100 %")
    assert broker.running(V2) == set(broker.devices)


def test_a_better_release_after_a_halt_is_a_rollout_of_its_own() -> None:
    broker = Memory(100, TRUST)
    for name in list(broker.devices)[::10]:
        broker.devices[name].flaws[V2] = ("trial", "golden")
    end, _ = run(broker)
    assert not end.ok
    assert broker.running(V2) < set(broker.devices)
    end, said = run(broker, V3)
    assert (end.ok, said[0]) == (True, "begins with 1 %")
    assert broker.running(V3) == set(broker.devices)


def test_a_device_that_joins_late_is_taken_along() -> None:
    broker = Memory(20, TRUST)
    end, _ = run(broker)
    assert end.ok
    late = broker.add("box-late")
    broker.wait(30)
    assert late.active == V2


def test_a_broker_that_came_back_empty_gets_the_order_again() -> None:
    broker = Memory(50, TRUST)
    said: list[str] = []
    one = conductor(broker, said)

    def lose(_: str) -> None:
        if any(line.startswith("goes on to 50") for line in said):
            broker.crash = lambda _: None
            broker.kept.clear()
            for device in broker.devices.values():
                broker.connect(device)
            raise Lost

    broker.crash = lose
    assert one.run().ok
    assert "the broker has lost the order: it is laid down again" in said
    assert everybody_installed_once(broker)
    assert sum(line.startswith("begins") for line in said) == 1


def test_boxes_that_come_back_one_after_the_other_are_waited_for() -> None:
    """Three that are live are not nine of ten of fifty."""
    broker = Memory(50, TRUST)
    said: list[str] = []
    away: list[Device] = []

    def lose(what: str) -> None:
        if not away and any(line.startswith("goes on to 10") for line in said):
            broker.kept.clear()
            away.extend(broker.devices.values())
            raise Lost
        if away and what == "wait":
            broker.connect(away.pop())
            if not away:
                broker.crash = lambda _: None

    broker.crash = lose
    one = conductor(broker, said)
    assert one.run().ok
    gathered = next(index for index, line in enumerate(said) if "are waited for" in line)
    assert not any(line.startswith("goes on to 50") for line in said[:gathered])
    assert sum(line.startswith("begins") for line in said) == 1
    assert everybody_installed_once(broker)


def test_somebody_else_s_pause_ends_it() -> None:
    broker = Memory(50, TRUST)
    said: list[str] = []

    def pause(what: str) -> None:
        if what == "wait" and any(line.startswith("goes on to 10") for line in said):
            broker.crash = lambda _: None
            intervention.pause(broker.now(), MODEL, "", Ota("edged"), sign, broker.bring, broker.now_ms())

    broker.crash = pause
    end = conductor(broker, said).run()
    assert (end.ok, end.why) == (False, "paused at 10 %")
    probation = [one for one in broker.devices.values() if one.phase == "probation"]
    broker.wait(30)
    assert all(one.active == V2 for one in probation)
    end, again = run(broker)
    assert (end.ok, again[0]) == (True, "goes on at 10 %")


def test_a_pause_that_the_rollout_wrote_over_is_found_out_from_the_boxes() -> None:
    """Two operators at one moment: the older order lies on the broker, and the boxes follow the newer one."""
    broker = Memory(50, TRUST)
    said: list[str] = []

    def pause(what: str) -> None:
        if what == "before" and any(line.startswith("goes on to 10") for line in said):
            broker.crash = lambda _: None
            intervention.pause(broker.now(), MODEL, "", Ota("edged"), sign, broker.bring, broker.now_ms() + 5)

    broker.crash = pause
    end = conductor(broker, said).run()
    assert (end.ok, end.why) == (False, "the boxes follow a newer order than the one that lies on the broker")
    end, again = run(broker)
    assert (end.ok, again[0]) == (True, "goes on at 10 %")
    assert broker.running(V2) == set(broker.devices)


def test_a_refusal_of_the_broker_ends_it() -> None:
    broker = Memory(10, TRUST)

    def refuse(what: str) -> None:
        if what == "before":
            raise EdgedError("broker", "the broker refuses edged/ota/undo/digits/all: not authorized")

    broker.crash = refuse
    with pytest.raises(EdgedError, match="not authorized"):
        run(broker)
