"""What becomes of a push, told by its statuses; the store is real, the processes are in memory (RULES 20)."""

from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import shutil
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import msgspec
import pytest

from edged.channel import InputHead
from edged.config.schema import Probation
from edged.config.units import Duration, Percent, Size
from edged.delivery import vigil
from edged.delivery.record import Phase, Record
from edged.delivery.shelf import Shelf, resume
from edged.delivery.store import Store, decode
from edged.errors import EdgedError, Fault, fault
from edged.serving.generation import Generation
from tests.integration.delivery.bench import NEW, OLD, PATIENCE_S, SETTINGS, Bench, Killed, during


def run(root: Path, course: Callable[[Bench], Awaitable[None]], **settings: object) -> Bench:
    return asyncio.run(during(root, Store(root), course, msgspec.structs.replace(SETTINGS, **settings)))


def version(status: dict[str, object], which: str) -> str:
    return msgspec.convert(status[which], dict[str, str])["version"]


def test_a_good_push_becomes_live_and_says_every_phase(root: Path) -> None:
    phases: list[tuple[object, object]] = []

    async def course(at: Bench) -> None:
        at.push(NEW)
        status = await at.fate(NEW)
        phases.extend((one["phase"], one["verdict"]) for one in at.statuses)
        assert status["code"] is None
        assert (version(status, "active"), version(status, "previous")) == ("2", "1")
        assert status["bytes"] == len(NEW)
        assert "unsigned_ok" in msgspec.convert(status["flags"], list[str])
        trial = msgspec.convert(status["trial"], dict[str, float])
        assert trial["inputs"] == 8

    bench = run(root, course)
    assert bench.serving == NEW
    assert bench.route.ended == ["1"]  # it was warm up to the end of the probation
    assert list(dict.fromkeys(phases)) == [
        ("idle", None),
        ("offered", None),
        ("trial", None),
        ("probation", None),
        ("idle", "active"),
    ]


@pytest.mark.parametrize(
    ("payload", "verdict", "code"),
    [
        (b"broken", "rejected", "not_a_model"),
        (b"", "rejected", "not_a_model"),
        (b"other", "rejected", "io_mismatch"),
        (b"nan", "failed", "nonfinite"),
        (b"error", "failed", "trial_error"),
        (b"crash", "failed", "trial_crash"),
        (b"hang", "failed", "too_slow"),
        (b"slow", "failed", "too_slow"),
    ],
)
def test_a_bad_push_leaves_the_live_model_and_its_process(root: Path, payload: bytes, verdict: str, code: str) -> None:
    async def course(at: Bench) -> None:
        live = at.route.live
        at.push(payload)
        status = await at.fate(payload)
        assert (status["verdict"], status["code"]) == (verdict, code)
        assert status["hint"]
        assert status["message"]
        assert status["candidate"] is None
        assert at.route.live is live

    bench = run(root, course)
    assert bench.serving == OLD
    assert not list((root / "releases").iterdir())
    assert bench.route.ended == ([] if code == "not_a_model" else ["2"])


def test_what_one_release_has_done_is_not_counted_for_the_next(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(NEW)
        await at.answered_by(NEW)
        at.did(runs=10)
        assert "untested_live" not in msgspec.convert((await at.fate(NEW))["flags"], list[str])
        at.push(b"good newer")
        await at.answered_by(b"good newer")
        async with asyncio.timeout(PATIENCE_S):
            while at.installer.phase("m") is not Phase.IDLE:  # noqa: ASYNC110 - nothing is sent meanwhile
                await asyncio.sleep(0.005)
        last = at.installer.model("m").record.last
        assert last is not None
        assert "untested_live" in last.flags

    run(root, course)


def test_what_a_probation_has_counted_is_recorded_while_it_lasts(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill -9 is followed by what is left of it, not by all of it."""
    monkeypatch.setattr(vigil, "RECORD_EVERY_S", 0.0)
    monkeypatch.setattr(vigil, "TICK_S", 0.01)

    async def course(at: Bench) -> None:
        at.push(NEW)
        await at.answered_by(NEW)
        at.did(runs=5)
        async with asyncio.timeout(PATIENCE_S):
            while decode((root / "state.json").read_bytes()).models["m"].watched.runs != 5:  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.005)

    run(root, course, probation=Probation(Duration(3600), 1000))


def test_a_random_model_is_taken_and_flagged(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(b"random")
        assert "nondeterministic" in msgspec.convert((await at.fate(b"random"))["flags"], list[str])

    run(root, course)


def test_recorded_inputs_are_tried_before_made_up_ones(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.route.inputs = [(InputHead(2), b"{}")] * 20
        at.push(NEW)
        trial = msgspec.convert((await at.fate(NEW))["trial"], dict[str, float])
        assert (trial["inputs"], trial["recorded"]) == (24, 16)

    run(root, course)


def test_the_first_push_of_a_model_without_a_file(tmp_path: Path) -> None:
    async def course(at: Bench) -> None:
        assert at.installer.boot_release("m") is None
        assert at.installer.boot_fault("m") is None
        at.push(NEW)
        status = await at.fate(NEW)
        assert "untested" in msgspec.convert(status["flags"], list[str])
        assert version(status, "active") == "1"
        with pytest.raises(EdgedError) as caught:
            await at.installer.rollback("m")
        assert caught.value.fault.code == "no_previous"

    assert run(tmp_path, course).serving == NEW


def test_with_nothing_to_go_back_to_a_bad_release_stays_and_is_called_failed(tmp_path: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(NEW)
        await at.until("probation")
        await at.answered_by(NEW)
        at.did(runs=100, faults=50)
        status = await at.fate(NEW)
        assert (status["verdict"], status["code"]) == ("failed", "probation_errors")
        assert "no_previous" in msgspec.convert(status["flags"], list[str])

    assert run(tmp_path, course).serving == NEW


@pytest.mark.parametrize(
    ("settings", "arguments", "code"),
    [
        ({}, {"retained": True}, "retained_push"),
        ({"require_signature": True}, {}, "unsigned"),
        ({"max_size": Size(4)}, {}, "too_large"),
        ({}, {"version": "0"}, "bad_version"),
        ({}, {"version": "-3"}, "bad_version"),
        ({}, {"version": "v2"}, "bad_version"),
        ({}, {"version": "٣"}, "bad_version"),
        ({}, {"version": "9" * 400}, "bad_version"),
        ({}, {"version": ""}, "bad_version"),
    ],
)
def test_some_pushes_are_refused_as_they_come(
    root: Path, settings: dict[str, object], arguments: dict[str, str], code: str
) -> None:
    async def course(at: Bench) -> None:
        at.installer.on_push("m", NEW, arguments.get("version"), "retained" in arguments)
        status = await at.fate(NEW)
        assert (status["phase"], status["verdict"], status["code"]) == ("idle", "rejected", code)

    assert run(root, course, **settings).route.started == ["1"]
    assert not (root / "state.json").exists()


def test_a_refusal_says_nothing_of_the_push_that_is_under_way(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(b"hang")
        await at.until("trial")
        at.push(NEW, "v2")
        refused = await at.fate(NEW)
        assert (refused["phase"], refused["verdict"], refused["code"]) == ("idle", "rejected", "bad_version")
        told = at.statuses[-1]
        assert (told["phase"], told["verdict"], version(told, "push")) == ("trial", None, "2")
        at.push(b"good other")
        await at.fate(b"good other")

    run(root, course)


def test_versions_count_on_from_the_highest_seen(root: Path) -> None:
    async def course(at: Bench) -> None:
        for payload, given, expected in ((b"good a", None, "2"), (b"good b", "7", "7"), (b"good c", "3", "3")):
            at.push(payload, given)
            assert version(await at.fate(payload), "active") == expected
        at.push(b"good d")
        assert version(await at.fate(b"good d"), "active") == "8"

    run(root, course)


def test_the_file_that_is_live_gets_its_verdict_without_a_trial(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(OLD)
        status = await at.fate(OLD)
        assert (status["verdict"], version(status, "active")) == ("active", "1")

    assert run(root, course).route.started == ["1"]


def test_the_previous_models_file_is_tried_like_any_other(root: Path) -> None:
    async def course(at: Bench) -> None:
        for payload in (NEW, OLD, NEW):
            at.statuses.clear()
            at.push(payload)
            assert (await at.fate(payload))["trial"] is not None
            await at.rest()

    bench = run(root, course)
    assert bench.serving == NEW
    assert bench.route.started == ["1", "2", "3", "4"]


def test_a_file_that_failed_gets_the_known_verdict_even_after_a_restart(root: Path) -> None:
    async def first(at: Bench) -> None:
        at.push(b"nan")
        await at.fate(b"nan")

    async def second(at: Bench) -> None:
        assert (await at.until("idle"))["verdict"] == "failed"  # what a restart says again
        at.push(b"nan")
        status = await at.fate(b"nan")
        assert (status["verdict"], status["code"]) == ("rejected", "nonfinite")
        assert "before" in str(status["message"])

    run(root, first)
    assert run(root, second).route.started == ["1"]


def test_one_push_delivered_twice_is_one_push(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(NEW)
        await at.until("trial")
        at.push(NEW)
        await at.until("probation")
        at.push(NEW)
        await at.fate(NEW)
        assert not any("queued" in msgspec.convert(one["flags"], list[str]) for one in at.statuses)

    assert run(root, course).route.started == ["1", "2"]


def test_a_newer_push_ends_the_trial_of_an_older_one(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(b"hang")
        await at.until("trial")
        await asyncio.sleep(0.05)
        at.push(NEW)
        old = await at.fate(b"hang")
        assert (old["verdict"], old["code"]) == ("rejected", "superseded")
        assert (await at.fate(NEW))["verdict"] == "active"

    bench = run(root, course)
    assert bench.serving == NEW
    assert "2" in bench.route.ended


def test_pushes_during_probation_wait_and_the_newest_counts(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(NEW)
        assert await at.started()
        at.push(b"good third")
        at.push(b"good fourth")
        assert (await at.fate(b"good third"))["code"] == "superseded"
        assert any("queued" in msgspec.convert(one["flags"], list[str]) for one in at.statuses)
        assert (await at.fate(NEW))["verdict"] == "active"
        await at.fate(b"good fourth")

    assert run(root, course).serving == b"good fourth"


def test_going_back_uses_the_warm_process(root: Path) -> None:
    async def course(at: Bench) -> None:
        before = at.route.live
        at.push(NEW)
        assert await at.started()
        at.did(runs=100, faults=50)
        status = await at.fate(NEW)
        assert (status["verdict"], status["code"]) == ("rolled_back", "probation_errors")
        assert at.route.live is before
        at.statuses.clear()
        at.push(NEW)
        assert (await at.fate(NEW))["code"] == "probation_errors"

    bench = run(root, course)
    assert bench.route.started == ["1", "2"]
    assert bench.route.ended == ["2"]


def test_an_operator_goes_back_and_forward_again(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(NEW)
        await at.fate(NEW)
        status = await at.installer.rollback("m")
        assert (status["verdict"], status["code"], version(status, "active")) == ("rolled_back", "undone", "1")
        assert at.serving == OLD
        await at.installer.rollback("m")
        assert at.serving == NEW

    async def later(at: Bench) -> None:
        assert at.serving == NEW
        await at.installer.rollback("m")

    run(root, course)
    assert run(root, later).serving == OLD


def test_a_rollback_that_cannot_be_recorded_is_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next start would not know of it."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    async def course(at: Bench) -> None:
        at.push(NEW)
        await at.fate(NEW)
        with monkeypatch.context() as patch:
            patch.setattr(Store, "commit", full)
            with pytest.raises(EdgedError) as caught:
                await at.installer.rollback("m")
        assert caught.value.fault.code == "no_space"
        assert at.serving == NEW
        assert at.installer.model("m").record.held is None
        await at.installer.rollback("m")
        assert at.serving == OLD

    run(root, course)


def test_no_rollback_during_a_trial(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(b"hang")
        await at.until("trial")
        with pytest.raises(EdgedError) as caught:
            await at.installer.rollback("m")
        assert caught.value.fault.code == "busy"
        with pytest.raises(EdgedError) as caught:
            await at.installer.rollback("nobody")
        assert caught.value.fault.code == "unknown_model"

    run(root, course)


def test_a_rollback_that_cannot_be_leaves_the_probation_as_it_was(tmp_path: Path) -> None:
    async def course(at: Bench) -> None:
        at.push(NEW)
        await at.answered_by(NEW)
        at.did(runs=400, faults=3)
        with pytest.raises(EdgedError) as caught:
            await at.installer.rollback("m")
        assert caught.value.fault.code == "no_previous"
        assert (await at.fate(NEW))["verdict"] == "active"  # three faults, not six

    run(tmp_path, course, probation=msgspec.structs.replace(SETTINGS.probation, max_errors=Percent(0.001)))


def test_a_push_that_comes_while_the_one_before_is_stored_ends_its_trial(root: Path) -> None:
    class Slow(Store):
        stored = threading.Event()

        def stage(self, payload: bytes) -> str:
            if payload != NEW:
                assert self.stored.wait(10)
            return super().stage(payload)

    async def course(at: Bench) -> None:
        at.push(b"good first")
        await at.until("offered")
        at.push(NEW)
        await at.until("offered")
        Slow.stored.set()
        assert (await at.fate(b"good first"))["code"] == "superseded"
        assert (await at.fate(NEW))["verdict"] == "active"

    bench = asyncio.run(during(root, Slow(root), course))
    assert bench.route.started == ["1", "3"]


def test_a_candidate_that_ends_during_the_switch_changes_nothing(root: Path) -> None:
    async def course(at: Bench) -> None:
        before = at.route.live
        at.route.refuses_switch = True
        at.push(NEW)
        status = await at.fate(NEW)
        assert (status["verdict"], status["code"]) == ("rolled_back", "probation_crash")
        assert at.route.live is before

    run(root, course)


def test_publishing_may_fail_for_ever(root: Path) -> None:
    async def course(at: Bench) -> None:
        at.deaf = True
        at.push(NEW)
        await at.answered_by(NEW)
        await at.rest()

    assert run(root, course).serving == NEW


def test_a_probation_goes_on_after_a_restart_with_what_it_saw(root: Path) -> None:
    async def first(at: Bench) -> None:
        at.push(NEW)
        assert await at.started()
        at.did(runs=40, faults=4)
        await asyncio.sleep(0.05)

    async def second(at: Bench) -> None:
        status = await at.until("probation")
        seen = msgspec.convert(status["probation"], dict[str, float])
        assert (seen["runs"], seen["faults"]) == (40, 4)
        at.did(runs=1, faults=1)  # the fifth
        assert (await at.fate(NEW))["verdict"] == "rolled_back"

    long = msgspec.structs.replace(SETTINGS.probation, runs=1000)
    run(root, first, probation=long)
    assert run(root, second, probation=long).serving == OLD


def stored(root: Path, payload: bytes) -> Path:
    return root / "releases" / hashlib.sha256(payload).hexdigest() / "model.onnx"


def spoil(file: Path) -> None:
    file.chmod(0o640)
    file.write_bytes(b"rotten")


@pytest.fixture
def third(root: Path) -> bytes:
    """A box that serves this file, with NEW before it and OLD from the factory."""

    async def course(at: Bench) -> None:
        for payload in (NEW, b"good third"):
            at.push(payload)
            await at.fate(payload)

    run(root, course)
    return b"good third"


async def nothing(at: Bench) -> None:
    await at.rest()


def test_a_damaged_file_is_not_loaded_the_previous_one_is(root: Path, third: bytes) -> None:
    spoil(stored(root, third))
    assert run(root, nothing).serving == NEW
    assert run(root, nothing).serving == NEW


def test_with_the_previous_one_damaged_too_the_factory_model_serves(root: Path, third: bytes) -> None:
    spoil(stored(root, third))
    stored(root, NEW).unlink()
    assert run(root, nothing).serving == OLD


def test_with_no_file_left_the_model_says_so_and_the_daemon_lives(root: Path, third: bytes) -> None:
    spoil(stored(root, third))
    spoil(stored(root, NEW))
    (root / "factory.onnx").unlink()

    async def course(at: Bench) -> None:
        assert at.installer.boot_release("m") is None
        problem = at.installer.boot_fault("m")
        assert problem is not None
        assert problem.code == "bad_store"
        assert (await at.until("rolled_back"))["code"] == "bad_store"
        at.push(third)
        assert (await at.fate(third))["verdict"] == "active"

    assert run(root, course).serving == third


def test_a_factory_file_that_goes_while_the_daemon_starts_ends_nothing(root: Path) -> None:
    file = root / "factory.onnx"
    store = Store(root)

    async def start() -> tuple[Record, Fault | None]:
        store.open()
        shelf = Shelf("m", str(file), store)
        await shelf.open()
        file.unlink()
        return await resume(Record(), shelf)

    try:
        record, problem = asyncio.run(start())
    finally:
        store.close()
    assert (record.active, record.last, problem) == (None, None, None)  # whoever loads it says what is wrong


def test_a_hold_that_cannot_be_kept_is_refused_with_the_reason(root: Path) -> None:
    """As by a full disk: what a person asked for did not happen, and no fault of edged's is to be reported."""

    async def course(at: Bench) -> None:
        in_the_way = root / "state.json.tmp"
        in_the_way.mkdir()
        with pytest.raises(EdgedError, match="the state directory cannot be written") as caught:
            await at.installer.pin("m", 1, "somebody")
        assert caught.value.fault.code == "bad_store"
        in_the_way.rmdir()
        await at.installer.pin("m", 1, "somebody")
        in_the_way.mkdir()
        with pytest.raises(EdgedError, match="the state directory cannot be written"):
            await at.installer.unpin("m", "somebody")
        in_the_way.rmdir()
        await at.installer.unpin("m", "somebody")

    run(root, course)


def test_a_damaged_candidate_is_not_tried_after_a_restart(root: Path) -> None:
    async def begin(at: Bench) -> None:
        at.push(b"hang")
        await at.until("trial")
        raise Killed

    async def look(at: Bench) -> None:
        status = await at.fate(b"hang")
        assert (status["verdict"], status["code"]) == ("failed", "bad_store")

    with pytest.raises(Killed):
        run(root, begin)
    spoil(stored(root, b"hang"))
    assert run(root, look).serving == OLD


def test_a_release_that_cannot_be_loaded_at_boot_on_probation_goes_back(root: Path) -> None:
    async def first(at: Bench) -> None:
        at.push(NEW)
        assert await at.started()

    async def second(at: Bench) -> None:
        assert at.installer.phase("m") is Phase.PROBATION
        at.route.live, at.route.fault = None, EdgedError("over_memory", "no room for it").fault
        assert (await at.fate(NEW))["verdict"] == "rolled_back"

    run(root, first)
    assert run(root, second).serving == OLD


def test_trials_take_turns_and_what_waits_is_bounded(root: Path) -> None:
    async def course(at: Bench) -> None:
        for number in range(40):
            at.push(b"hang %d" % number)
        assert sum(one["code"] == "busy" for one in at.statuses) == 24
        await at.until("trial")

    run(root, course)


def test_waiting_bytes_are_bounded(root: Path) -> None:
    async def course(at: Bench) -> None:
        for number in range(4):
            at.push(b"hang %d" % number + bytes(1000))
        assert [one["code"] for one in at.statuses if one["verdict"]] == ["busy", "busy"]

    run(root, course, max_size=Size(1010))


def test_with_no_way_back_left_a_model_that_ends_again_and_again_is_started_again(root: Path) -> None:
    """The route leaves it to delivery: nobody else will, and its inputs would wait for ever."""
    (root / "factory.onnx").unlink()

    async def before(at: Bench) -> None:
        at.push(OLD)
        await at.fate(OLD)

    async def course(at: Bench) -> None:
        at.push(NEW)
        assert await at.started()
        stored(root, OLD).unlink()
        live, at.route.live, at.route.previous = at.route.live, None, None
        assert at.route.on_faulty(cast("Generation", live), fault("model_failed", "again and again"))
        status = await at.until("failed")
        assert status["code"] == "probation_crash"
        assert "no_previous" in msgspec.convert(status["flags"], list[str])
        await at.answered_by(NEW)

    run(root, before)
    run(root, course)


def test_a_state_directory_that_is_gone_refuses_a_push_and_ends_nothing(root: Path) -> None:
    async def course(at: Bench) -> None:
        shutil.rmtree(root / "releases")
        at.push(NEW)
        status = await at.fate(NEW)
        assert (status["verdict"], status["code"]) == ("rejected", "bad_store")
        at.push(b"good later")
        assert (await at.fate(b"good later"))["code"] == "bad_store"

    assert run(root, course).serving == OLD


def test_a_rollback_that_nobody_waits_for_any_more_is_nobodys_fault(root: Path) -> None:
    """An error that nobody reads would reach the loop's handler, which ends the daemon."""
    (root / "factory.onnx").unlink()
    reached: list[object] = []

    class Slow(Store):
        asked, gone = threading.Event(), threading.Event()

        def intact(self, sha256: str) -> bool:
            self.asked.set()
            return self.gone.wait(10) and super().intact(sha256)

    async def before(at: Bench) -> None:
        for payload in (OLD, NEW):
            at.push(payload)
            await at.fate(payload)

    async def course(at: Bench) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: reached.append(context))
        stored(root, OLD).unlink()
        Slow.asked.clear()
        Slow.gone.clear()
        asking = asyncio.create_task(at.installer.rollback("m"))
        await asyncio.to_thread(Slow.asked.wait, 10)
        asking.cancel()
        await asyncio.wait({asking})
        Slow.gone.set()
        await asyncio.sleep(0.2)
        gc.collect()

    run(root, before)
    Slow.gone.set()
    asyncio.run(during(root, Slow(root), course))
    assert reached == []


def test_an_unknown_model_is_nobodys(root: Path) -> None:
    async def course(at: Bench) -> None:
        before = list(at.statuses)
        at.installer.on_push("nobody", NEW, None, False)
        at.installer.refuse("nobody", EdgedError("too_large", "").fault)
        assert at.statuses == before

    run(root, course)


def test_nothing_is_unloaded_while_a_release_is_watched(root: Path) -> None:
    """Both processes are needed for that; afterwards it is, until somebody loads it, or a push does."""

    async def course(at: Bench) -> None:
        at.push(NEW)
        await at.until("probation")
        with pytest.raises(EdgedError) as caught:
            await at.installer.unload("m", "somebody")
        assert caught.value.fault.code == "busy"
        await at.answered_by(NEW)
        assert (await at.fate(NEW))["verdict"] == "active"
        await at.installer.unload("m", "somebody")
        assert at.route.unloaded
        assert at.route.live is None
        await at.installer.load("m", "somebody")
        assert not at.route.unloaded
        assert at.route.live is not None
        await at.installer.unload("m", "somebody")
        at.push(b"good newer")
        assert (await at.fate(b"good newer"))["verdict"] == "active"
        assert not at.route.unloaded

    run(root, course)


def test_what_has_never_come_is_not_loaded(tmp_path: Path) -> None:
    async def course(at: Bench) -> None:
        with pytest.raises(EdgedError) as caught:
            await at.installer.load("m", "somebody")
        assert caught.value.fault.code == "starting"
        await at.installer.unload("m", "somebody")  # there is nothing to end

    run(tmp_path, course)
