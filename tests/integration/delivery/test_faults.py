"""Faults F01 to F55 on a box of a fleet: interrupted, out of order, two at a time, without a clock or room."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from edged.delivery.documents import Watching
from edged.delivery.record import Phase
from edged.delivery.store import Store
from tests.integration.delivery.bench import NEW, OLD, Killed, Saboteur
from tests.integration.delivery.fleet import HOUR_MS, Fleet, Member, living
from tests.signing import ISSUED_MS, sha256_of, want_of

YEARS_MS = 3 * 365 * 24 * HOUR_MS


pytestmark = pytest.mark.usefixtures("soon")


def live(fleet: Fleet, root: Path, course: Callable[[Member], Awaitable[None]], store: Store | None = None) -> Member:
    return asyncio.run(living(fleet, root, course, store=store))


async def settled(at: Member) -> None:
    await at.settled()


def dies(fleet: Fleet, root: Path, phase: str) -> None:
    """A life that ends by kill -9 in this phase."""

    async def course(at: Member) -> None:
        await at.until(phase)
        raise Killed

    with pytest.raises(Killed):
        live(fleet, root, course)


class Pair(Member):
    """A box with two models, `m` and `n`."""

    models = ("m", "n")


def test_ota_F34_two_models_follow_one_after_the_other_and_one_that_stands_still_lets_the_other_by(
    fleet: Fleet, root: Path
) -> None:
    stuck = fleet.release(b"good stuck")
    other = msgspec.structs.replace(fleet.release(NEW), model="n")
    fleet.publish_document(stuck)
    fleet.upload(other, NEW)
    fleet.want(stuck)

    async def course(at: Member) -> None:
        await at.told(stuck, "downloading")
        fleet.want(other)
        await at.told(other, "active")
        fleet.upload_chunks(stuck, b"good stuck")
        await at.told(stuck, "active")

    box = asyncio.run(living(fleet, root, course, kind=Pair))
    assert box.serving == b"good stuck"
    now = box.routes["n"].live
    assert now is not None
    assert now.release.version == "2"


@pytest.mark.parametrize("how", ["killed before", "killed after"])
def test_ota_F01_a_power_cut_while_a_want_is_stored_costs_nothing(fleet: Fleet, root: Path, how: str) -> None:
    fleet.push(NEW)
    with pytest.raises(Killed):
        live(fleet, root, settled, Saboteur(root, 1, how))
    assert live(fleet, root, settled).serving == NEW


def test_ota_F04_a_trial_that_ends_the_daemon_is_begun_twice(fleet: Fleet, root: Path) -> None:
    release = fleet.push(b"hang it")
    for _ in range(2):
        dies(fleet, root, "trial")

    async def course(at: Member) -> None:
        assert (await at.sees(code="trial_crash_loop"))["verdict"] == "failed"
        fleet.want(release)
        assert (await at.told(release, "rejected"))["code"] == "trial_crash_loop"

    assert live(fleet, root, course).serving == OLD


def test_ota_F06_a_probation_that_ends_the_daemon_is_loaded_three_times(fleet: Fleet, root: Path) -> None:
    fleet.push(NEW, probation=Watching(time_s=3600.0))
    for _ in range(3):
        dies(fleet, root, "probation")

    async def course(at: Member) -> None:
        assert (await at.sees(code="probation_crash"))["verdict"] == "rolled_back"
        assert at.route.started == ["1"]  # the suspect was not loaded again

    assert live(fleet, root, course).serving == OLD


@pytest.mark.parametrize("how", ["killed before", "killed after"])
def test_ota_F07_a_power_cut_on_the_way_back_ends_behind_it(fleet: Fleet, root: Path, how: str) -> None:
    fleet.push(NEW)

    async def faults(at: Member) -> None:
        if await at.started():
            at.did(runs=100, faults=50)
            await at.rest()

    for write in range(1, 9):
        for state in root.glob("state.json*"):
            state.unlink()
        store = Saboteur(root, write, how)
        with contextlib.suppress(Killed):
            live(fleet, root, faults, store)
        again = live(fleet, root, settled)
        assert again.serving in {OLD, NEW}
        assert again.route.live is not None


def test_ota_F05_a_stray_file_of_an_interrupted_write_goes(fleet: Fleet, root: Path) -> None:
    (root / "state.json.tmp").write_bytes(b"{")
    (root / "trust.kept.tmp").write_bytes(b"{")
    live(fleet, root, settled)
    assert not list(root.rglob("*.tmp"))


def test_ota_F19_another_want_at_the_same_place_is_an_alarm(fleet: Fleet, root: Path) -> None:
    release, other = fleet.release(NEW), fleet.release(b"good other", 3)
    fleet.upload(release, NEW)
    want = fleet.want(release)

    async def course(at: Member) -> None:
        await at.told(release, "active")
        fleet.publish(want_of(other, seq=want.seq))
        assert (await at.sees_refusal())["code"] == "seq_conflict"

    assert live(fleet, root, course).serving == NEW


def test_ota_F21_a_want_that_is_cleared_changes_nothing(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.publish_document(release)
    want = fleet.want(release)

    async def course(at: Member) -> None:
        await at.told(release, "downloading")
        fleet.broker.publish(fleet.broker.ota.want("m", want.to), b"")
        fleet.upload_chunks(release, NEW)
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_ota_F22_a_box_says_which_want_it_has_seen(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.upload(release, NEW)
    want = fleet.want(release)

    async def course(at: Member) -> None:
        status = await at.told(release, "active")
        assert msgspec.convert(status["want"], dict[str, object])["seq"] == want.seq

    live(fleet, root, course)


def test_ota_F24_a_box_whose_clock_nobody_sets_follows_and_says_so(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        assert "clock_unsynced" in msgspec.convert((await at.told(release, "active"))["flags"], list[str])

    assert asyncio.run(living(fleet, root, course, now_ms=0, synced=False)).serving == NEW


def test_ota_F25_a_clock_far_ahead_keeps_what_runs_and_waits_to_be_set(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        assert (await at.told(release, "clock_suspect"))["phase"] == "waiting"
        at.now_ms, at.synced = ISSUED_MS + HOUR_MS, True
        at.installer.model("m").look_again()
        await at.told(release, "active")

    late = living(fleet, root, course, now_ms=ISSUED_MS + YEARS_MS, synced=False)
    assert asyncio.run(late).serving == NEW


def test_ota_F26_a_box_that_has_missed_trust_documents_walks_them_all(fleet: Fleet, root: Path) -> None:
    for version in range(2, 12):
        fleet.rotate(min_version={"m": version})

    async def course(at: Member) -> None:
        await at.settled()
        trust = at.installer.orders.trust
        assert trust is not None
        assert trust.version == 11

    live(fleet, root, course)


def test_ota_F28_a_new_epoch_lets_a_box_in_again_whose_sequence_was_used_up(fleet: Fleet, root: Path) -> None:
    stolen, release = fleet.release(b"good stolen"), fleet.release(NEW, 3)
    fleet.upload(stolen, b"good stolen")
    fleet.upload(release, NEW)
    fleet.publish(want_of(stolen, seq=ISSUED_MS + 20 * HOUR_MS))

    async def course(at: Member) -> None:
        await at.told(stolen, "active")
        fleet.rotate(epoch=1)
        fleet.publish(want_of(release, seq=ISSUED_MS + 4, epoch=1))
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_ota_F31_of_two_wants_at_once_the_higher_place_wins(fleet: Fleet, root: Path) -> None:
    low, high = fleet.release(b"good low"), fleet.release(NEW, 3)
    fleet.upload(low, b"good low")
    fleet.upload(high, NEW)
    fleet.publish(want_of(high, seq=ISSUED_MS + 8))
    fleet.publish(want_of(low, to="device/box", seq=ISSUED_MS + 4))

    async def course(at: Member) -> None:
        await at.told(high, "active")
        await asyncio.sleep(0.05)

    assert live(fleet, root, course).serving == NEW


def test_ota_F43_a_release_that_was_damaged_is_fetched_again(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)
    live(fleet, root, settled)
    file = root / "releases" / sha256_of(release) / "model.onnx"
    file.chmod(0o640)
    file.write_bytes(b"good flipped")

    async def course(at: Member) -> None:
        assert at.serving == OLD  # the factory model, meanwhile
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_ota_F43_with_nothing_left_the_model_fails_and_the_box_lives(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)
    live(fleet, root, settled)
    (root / "factory.onnx").unlink()
    (root / "releases" / sha256_of(release) / "model.onnx").unlink()

    async def course(at: Member) -> None:
        problem = at.installer.boot_fault("m")
        assert problem is not None
        assert problem.code == "bad_store"
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_ota_F52_a_box_that_was_away_reads_the_newest_want_only(fleet: Fleet, root: Path) -> None:
    for version in range(2, 6):
        between = fleet.release(b"good %d" % version, version)
        fleet.upload(between, b"good %d" % version)
        fleet.want(between)
    release = fleet.push(NEW, 6)

    async def course(at: Member) -> None:
        await at.told(release, "active")
        assert at.route.started == ["1", "6"]

    assert live(fleet, root, course).serving == NEW


def test_ota_F54_an_installation_does_not_depend_on_being_told_of(fleet: Fleet, root: Path) -> None:
    fleet.push(NEW)

    async def course(at: Member) -> None:
        at.deaf = True
        await at.settled()
        assert at.installer.phase("m") is Phase.IDLE

    assert live(fleet, root, course).serving == NEW


def test_no_room_now_is_no_verdict(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        assert (await at.told(release, "no_space"))["phase"] == "waiting"
        await at.told(release, "active")

    assert live(fleet, root, course, Saboteur(root, 2, "ENOSPC")).serving == NEW
