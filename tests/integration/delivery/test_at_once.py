"""Two things at once: what comes while a record is being written, while something is tried, watched or fetched."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged.config.schema import Push
from edged.delivery import examiner, installation, retreat, rollout, tryout
from edged.delivery.documents import Rollout, Watching
from edged.delivery.examiner import Examined
from edged.delivery.record import Order, Phase, Record, Stored, Verdict
from edged.delivery.store import Store
from edged.errors import EdgedError, fault
from edged.serving.release import Release
from tests.couriers import blobs
from tests.integration.delivery.bench import NEW, OLD, PATIENCE_S, SETTINGS
from tests.integration.delivery.fleet import Fleet, Member, living
from tests.routes import MemoryGeneration
from tests.signing import ISSUED_MS, sha256_of

THIRD = b"good third"


class Slow(Store):
    """Its write of a record that `slow` names begins, and ends when `go_on` is set."""

    def __init__(self, root: Path, slow: Callable[[Record], bool]) -> None:
        super().__init__(root)
        self.slow = slow
        self.under_way, self.go_on = threading.Event(), threading.Event()

    def commit(self, model: str, record: Record) -> None:
        if self.slow(record) and not self.under_way.is_set():
            self.under_way.set()
            self.go_on.wait(PATIENCE_S)
        super().commit(model, record)

    async def writes(self) -> None:
        await until(self.under_way.is_set)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is watched is the box, from outside
            await asyncio.sleep(0.005)


async def turns(number: int = 20) -> None:
    """Lets what can go on go on."""
    for _ in range(number):
        await asyncio.sleep(0.005)


def loading_waits(at: Member) -> asyncio.Event:
    """Until it is set nothing more is loaded."""
    go_on, start = asyncio.Event(), at.route.start

    async def waiting(release: Release, *, candidate: bool = False) -> MemoryGeneration:
        await go_on.wait()
        return await start(release, candidate=candidate)

    at.route.start = waiting  # type: ignore[method-assign]  # the one route of this test
    return go_on


def live(
    fleet: Fleet,
    root: Path,
    course: Callable[[Member], Awaitable[None]],
    *,
    store: Store | None = None,
    kind: type[Member] = Member,
    settings: Push = SETTINGS,
) -> Member:
    return asyncio.run(asyncio.wait_for(living(fleet, root, course, settings, store, kind=kind), 2 * PATIENCE_S))


def test_a_want_at_the_commit_point_of_another_is_followed_afterwards(fleet: Fleet, root: Path) -> None:
    first, second = fleet.release(NEW), fleet.release(THIRD, 3)
    fleet.upload(first, NEW)
    fleet.upload(second, THIRD)
    fleet.want(first)
    # The want is in the record, and its write takes until the trial of the release before has passed.
    store = Slow(root, lambda one: one.phase is Phase.TRIAL and one.order is not None and one.order.version == 3)

    async def course(at: Member) -> None:
        load = loading_waits(at)
        await at.told(first, "trial")
        fleet.want(second)
        await store.writes()
        load.set()
        await turns()
        store.go_on.set()
        await at.told(second, "active")

    assert live(fleet, root, course, store=store).serving == THIRD


def test_a_want_for_what_was_just_approved_does_not_end_it(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)
    store = Slow(root, lambda one: one.phase is Phase.DOWNLOADING)

    async def course(at: Member) -> None:
        await store.writes()
        fleet.want(release)
        await turns()
        store.go_on.set()
        await at.told(release, "active")

    assert live(fleet, root, course, store=store).serving == NEW


def test_a_pin_during_a_trial_keeps_what_answers(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        load = loading_waits(at)
        await at.told(release, "trial")
        await at.installer.pin("m", 1, "somebody")
        await at.sees(code="pinned")
        load.set()
        await turns()
        assert at.serving == OLD
        await at.installer.unpin("m", "somebody")
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_a_pin_in_the_last_moment_of_a_trial_keeps_what_answers(
    fleet: Fleet, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trial has ended well, and whoever waits for it has not heard of that yet."""
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        hand, examine = at.installer.model("m").hand, examiner.examine
        give_up = hand._give_up

        async def pinned_meanwhile(*arguments: Any, **named: Any) -> Examined:
            found = await examine(*arguments, **named)
            task = asyncio.current_task()
            assert task is not None
            hand._give_up = lambda why: task.add_done_callback(lambda _: give_up(why))  # type: ignore[misc]
            await at.installer.pin("m", 1, "somebody")
            return found

        monkeypatch.setattr(tryout, "examine", pinned_meanwhile)
        await at.sees(code="pinned")
        monkeypatch.undo()
        await turns()
        assert at.serving == OLD
        await at.installer.unpin("m", "somebody")
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_a_pin_while_a_failed_trial_is_recorded_is_not_held_against_the_next(fleet: Fleet, root: Path) -> None:
    release = fleet.push(b"error new")
    store = Slow(root, lambda one: one.held is not None)

    async def course(at: Member) -> None:
        load = loading_waits(at)
        await at.told(release, "trial")
        pinned = asyncio.create_task(at.installer.pin("m", 1, "somebody"))
        await store.writes()
        load.set()
        await until(lambda: any(one.event == "failed" for one in at.decisions))  # its record waits for the other
        store.go_on.set()
        await pinned
        await at.installer.unpin("m", "somebody")
        at.push(NEW)
        assert (await at.fate(NEW))["verdict"] == "active"

    assert live(fleet, root, course, store=store).serving == NEW


def test_a_pin_at_the_commit_point_of_another_release_goes_back_from_it(fleet: Fleet, root: Path) -> None:
    fleet.push(NEW)
    store = Slow(root, lambda one: one.phase is Phase.PROBATION)

    async def course(at: Member) -> None:
        await store.writes()
        pinned = asyncio.create_task(at.installer.pin("m", 1, "somebody"))
        await turns()
        store.go_on.set()
        status = await pinned
        assert msgspec.convert(status["active"], dict[str, str])["version"] == "1"
        assert status["held"] == {"by": "somebody", "pinned": True}

    assert live(fleet, root, course, store=store).serving == OLD


def test_a_push_that_waits_is_refused_when_the_model_is_pinned(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.upload(release, NEW)
    fleet.want(release, probation=Watching(time_s=1.0, runs=1_000_000))

    async def course(at: Member) -> None:
        await at.started()
        at.push(THIRD)
        await at.sees(flags=["queued", "unsigned_ok"])
        await at.installer.pin("m", 2, "somebody")
        at.did(runs=1_000_000)
        assert (await at.fate(THIRD))["code"] == "pinned"

    assert live(fleet, root, course).serving == NEW


def test_an_urgent_want_whose_way_back_is_banned_waits_for_the_end_of_the_probation(fleet: Fleet, root: Path) -> None:
    (root / "factory.onnx").unlink()
    first, second, third = fleet.release(OLD), fleet.release(NEW, 3), fleet.release(THIRD, 4)
    for release, content in ((first, OLD), (second, NEW), (third, THIRD)):
        fleet.upload(release, content)
    fleet.want(first)

    async def course(at: Member) -> None:
        await at.told(first, "active")
        fleet.want(second, probation=Watching(time_s=0.5))
        await at.started()
        fleet.rotate(banned={sha256_of(first): "it sees ghosts"})
        await until(lambda: at.installer.orders.trust is not None and at.installer.orders.trust.version == 2)
        fleet.want(third, urgent=True)
        await at.told(second, "active")
        await at.told(third, "active")

    assert live(fleet, root, course).serving == THIRD


@pytest.mark.parametrize("how", ["paused", "failed before", "download_only"])
def test_an_urgent_want_that_cannot_begin_leaves_the_probation_alone(fleet: Fleet, root: Path, how: str) -> None:
    bad, good = fleet.release(b"nan bad"), fleet.release(NEW, 3)
    fleet.upload(bad, b"nan bad")
    fleet.upload(good, NEW)
    fleet.want(bad)

    async def course(at: Member) -> None:
        await at.told(bad, "failed")
        fleet.want(good, probation=Watching(time_s=0.3))
        await at.started()
        if how == "paused":
            fleet.want(bad, urgent=True, rollout=Rollout(pause=True), allow_downgrade=True)
        elif how == "download_only":
            fleet.want(fleet.release(b"good other", 4), urgent=True, action="download_only")
        else:
            fleet.want(bad, urgent=True, allow_downgrade=True)
        await at.told(good, "active")

    assert live(fleet, root, course).serving == NEW


@pytest.mark.parametrize("what", ["fetched", "waits on the disk"])
def test_a_ban_of_what_answers_does_not_wait_for_what_is_on_its_way(fleet: Fleet, root: Path, what: str) -> None:
    first, second = fleet.release(NEW), fleet.release(THIRD, 3)
    fleet.upload(first, NEW)
    fleet.publish_document(second)
    fleet.want(first)

    async def course(at: Member) -> None:
        await at.told(first, "active")
        if what == "fetched":
            fleet.want(second)
            await at.told(second, "downloading")
        else:
            fleet.upload_chunks(second, THIRD)
            fleet.want(second, action="download_only")
            await at.told(second, "verified")
        fleet.rotate(banned={sha256_of(first): "it sees ghosts"})
        await at.answered_by(OLD)
        fleet.upload_chunks(second, THIRD)
        fleet.want(second)
        await at.told(second, "active")

    assert live(fleet, root, course).serving == THIRD


class Two(Member):
    models = ("m", "n")


def test_a_stick_need_not_wait_for_a_model_that_waits_for_the_broker(fleet: Fleet, root: Path) -> None:
    stuck, other = fleet.release(NEW), msgspec.structs.replace(fleet.release(THIRD), model="n")
    fleet.publish_document(stuck)
    fleet.want(stuck)
    pieces = blobs(other, {"model.onnx": THIRD})

    async def course(at: Member) -> None:
        await at.told(stuck, "downloading")
        at.courier.cut()
        await at.installer.install_local(fleet.operator.sign_release(other), "root")
        async with asyncio.timeout(PATIENCE_S):
            while at.installer.model("n").record.active is None:
                for sha256 in at.installer.missing():
                    if sha256 in pieces:
                        at.installer.offer(sha256, pieces[sha256])
                await asyncio.sleep(0.005)
        active, waits = at.installer.model("n").record.active, at.installer.model("m").record.candidate
        assert active is not None
        assert active.release == sha256_of(other)
        assert waits is not None  # the other has not been given up for it
        assert waits.release == sha256_of(stuck)

    live(fleet, root, course, kind=Two)


def test_a_damaged_document_on_the_disk_is_fetched_anew(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        await at.told(release, "active")
        await at.installer.rollback("m", "somebody")
        kept = root / "releases" / sha256_of(release) / "release.json"
        kept.unlink()
        kept.write_bytes(b"{}")
        await at.installer.unpin("m", "somebody")
        fleet.want(release)
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_an_order_outlives_a_root_of_trust_that_cannot_be_read(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.want(release)

    async def first(at: Member) -> None:
        await at.told(release, "offered")

    async def second(at: Member) -> None:
        await at.told(release, "no_trust")

    async def third(at: Member) -> None:
        fleet.upload(release, NEW)
        await at.told(release, "active")

    live(fleet, root, first)
    fleet.broker.retained.clear()
    anchor = fleet.anchor.read_bytes()
    fleet.anchor.unlink()
    live(fleet, root, second)
    fleet.anchor.write_bytes(anchor)
    assert live(fleet, root, third).serving == NEW


def test_documents_for_made_up_models_are_one_kind_of_line_in_the_audit(fleet: Fleet, root: Path) -> None:
    async def course(at: Member) -> None:
        for number in range(50):
            at.installer.orders.on_document(f"edged/ota/want/made-up-{number}/all", b"{}", retained=False)
        await until(lambda: len(at.decisions) == 50)
        assert len({one.kind for one in at.decisions}) == 1

    live(fleet, root, course)


def test_a_pause_that_comes_during_the_trial_keeps_it_from_switching(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)
    # The pause is in the record, and its write takes until the trial has passed.
    store = Slow(
        root, lambda one: one.order is not None and one.order.want is not None and one.order.want.rollout.pause
    )

    async def course(at: Member) -> None:
        load = loading_waits(at)
        await at.told(release, "trial")
        fleet.want(release, rollout=Rollout(pause=True))
        await store.writes()
        load.set()
        await turns()
        store.go_on.set()
        await at.sees(phase="waiting", code="paused")
        assert at.serving == OLD
        fleet.want(release)
        await at.told(release, "active")

    assert live(fleet, root, course, store=store).serving == NEW


def test_an_undo_of_what_answers_does_not_wait_for_what_is_on_its_way(fleet: Fleet, root: Path) -> None:
    first, second = fleet.release(NEW), fleet.release(THIRD, 3)
    fleet.upload(first, NEW)
    fleet.publish_document(second)
    want = fleet.want(first)

    async def course(at: Member) -> None:
        await at.told(first, "active")
        newest = fleet.want(second)
        await at.told(second, "downloading")
        fleet.undo(msgspec.structs.replace(want, seq=newest.seq + 1))
        await at.answered_by(OLD)

    assert live(fleet, root, course).serving == OLD


def test_a_retry_that_is_past_its_time_lets_nobody_go_who_holds_the_model(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.upload(release, NEW)

    async def course(at: Member) -> None:
        await at.installer.pin("m", 1, "somebody")
        fleet.want(release, retry=True, expires=ISSUED_MS + 1)
        await at.told(release, "pinned", "expired")
        assert at.installer.model("m").record.held is not None

    assert live(fleet, root, course).serving == OLD


def test_a_refused_document_does_not_hide_what_the_box_waits_for(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        await at.told(release, "manual")
        fleet.broker.publish(fleet.broker.ota.want("m", "all"), b"{}")
        await at.sees_refusal()
        await turns()
        assert [one["code"] for one in at.statuses][-1:] == ["manual"]

    live(fleet, root, course, settings=msgspec.structs.replace(SETTINGS, install="manual"))


def test_a_rollback_does_not_wait_for_a_document_that_never_comes(fleet: Fleet, root: Path) -> None:
    first, missing = fleet.release(NEW), fleet.release(THIRD, 3)
    fleet.upload(first, NEW)
    fleet.want(first)

    async def course(at: Member) -> None:
        await at.told(first, "active")
        fleet.want(missing)
        await at.told(missing, "offered")
        await at.installer.rollback("m", "somebody")
        assert at.serving == OLD
        await at.sees(code="pinned")
        await at.installer.unpin("m", "somebody")
        fleet.upload(missing, THIRD)
        await at.told(missing, "active")

    assert live(fleet, root, course).serving == THIRD


def test_the_audit_tells_who_has_signed_another_trust_document(fleet: Fleet, root: Path) -> None:
    async def course(at: Member) -> None:
        fleet.rotate(min_version={"m": 2})
        await until(lambda: any(one.event == "trusted" for one in at.decisions))
        assert [one.by for one in at.decisions if one.event == "trusted"] == [f"root key {fleet.operator.root.keyid}"]

    live(fleet, root, course)


def test_an_undo_is_tried_again_when_there_was_no_memory_for_it(
    fleet: Fleet, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retreat, "AGAIN_S", 0.05)
    monkeypatch.setattr(installation, "RECORD_EVERY_S", 0.05)
    release = fleet.release(NEW)
    fleet.upload(release, NEW)
    want = fleet.want(release)

    async def course(at: Member) -> None:
        make_room, asked = at.route.make_room, []

        async def none_at_first(release: Release) -> None:
            asked.append(release.version)
            if len(asked) == 1:
                raise EdgedError("no_space", "no memory for it beside the live one")
            await make_room(release)

        await at.told(release, "active")
        at.route.make_room = none_at_first  # type: ignore[method-assign]
        fleet.undo(want)
        await at.answered_by(OLD)
        assert asked == ["1", "1"]
        await at.sees(code="undone", verdict="rolled_back")

    assert live(fleet, root, course).serving == OLD


def test_a_rollback_in_the_turn_of_a_fault_holds_as_one_that_came_before(fleet: Fleet, root: Path) -> None:
    fleet.push(NEW)

    async def course(at: Member) -> None:
        assert await at.started()
        shelf, asked = at.installer.model("m")._case.shelf, list[asyncio.Task[dict[str, object]]]()
        way_back = shelf.way_back

        async def slow(record: Record) -> Stored | None:
            if not asked:  # the fault's own question
                asked.append(asyncio.create_task(at.installer.rollback("m", "somebody")))
                await asyncio.sleep(0.05)
            return await way_back(record)

        shelf.way_back = slow  # type: ignore[method-assign]
        at.did(runs=100, faults=50)
        assert (await at.until("rolled_back"))["code"] == "probation_errors"
        await asked[0]
        assert at.installer.model("m").record.held is not None

    assert live(fleet, root, course).serving == OLD


def test_a_want_that_comes_back_at_once_is_followed(fleet: Fleet, root: Path) -> None:
    first, between = fleet.release(NEW), fleet.release(b"good between", 3)
    fleet.publish_document(first)
    fleet.publish_document(between)
    fleet.want(first)

    async def course(at: Member) -> None:
        await at.told(first, "downloading")
        one = at.installer.model("m")
        orders = [Order(sha256_of(release), 2, by="somebody") for release in (between, first)]
        for order in orders:  # the first is still being given up when it comes again
            await one.order(order, one.record.seen)
        fleet.upload_chunks(first, NEW)
        await at.told(first, "active")

    assert live(fleet, root, course).serving == NEW


def test_a_verdict_on_one_want_does_not_end_the_next() -> None:
    def at_once(order: str, verdict: str) -> bool:
        record = Record(order=Order(order))
        return rollout.answered(record, Verdict("rejected", 2, "", fault("signature", ""), (), verdict)).done

    assert at_once("a" * 64, "a" * 64)
    assert not at_once("b" * 64, "a" * 64)
