"""What becomes of a signed want: real keys, store and fetcher; the broker and the processes are in memory."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from edged.config.hours import Hours
from edged.delivery import keys
from edged.delivery.documents import Rollout, Watching
from edged.delivery.want import Box
from edged.errors import EdgedError
from tests.couriers import blobs
from tests.integration.delivery.bench import NEW, OLD, PATIENCE_S, SETTINGS
from tests.integration.delivery.fleet import HOUR_MS, Fleet, Member, living
from tests.signing import ISSUED_MS, sha256_of, sign, trust_of, want_of


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is watched is the box, from outside
            await asyncio.sleep(0.005)


class Copied(Member):
    box = Box("other")


class Regrouped(Member):
    box = Box("box", ("g2",))


def live(fleet: Fleet, root: Path, course: Callable[[Member], Awaitable[None]], **settings: object) -> Member:
    return asyncio.run(living(fleet, root, course, msgspec.structs.replace(SETTINGS, **settings)))


def test_a_want_is_followed_through_every_phase(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.upload(release, NEW)
    want = fleet.want(release)
    phases: list[object] = []

    async def course(at: Member) -> None:
        status = await at.told(release, "active")
        phases.extend(one["phase"] for one in at.statuses)
        assert msgspec.convert(status["active"], dict[str, str])["release"] == sha256_of(release)
        told = msgspec.convert(status["want"], dict[str, object])
        assert (told["seq"], told["version"], told["release"]) == (want.seq, "2", sha256_of(release))
        assert status["bytes_have"] == status["bytes_total"] == len(NEW)

    assert live(fleet, root, course).serving == NEW


def test_the_next_life_serves_it_and_does_nothing_more(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def first(at: Member) -> None:
        await at.told(release, "active")

    async def second(at: Member) -> None:
        await asyncio.sleep(0.05)
        assert at.route.started == ["2"]
        assert at.installer.model("m").status()["replays"] == 0

    live(fleet, root, first)
    assert live(fleet, root, second).serving == NEW


def test_the_factory_model_lends_its_chunks(fleet: Fleet, root: Path) -> None:
    release = fleet.release(OLD)
    fleet.publish_document(release)  # and none of its chunks
    fleet.want(release)

    async def course(at: Member) -> None:
        status = await at.told(release, "active")
        assert status["chunks_reused"] == 1

    live(fleet, root, course)


@pytest.mark.parametrize("content", [b"nan bad", b"crash bad", b"hang bad"])
def test_what_fails_its_trial_is_not_tried_again_until_a_retry(fleet: Fleet, root: Path, content: bytes) -> None:
    release = fleet.push(content)

    async def course(at: Member) -> None:
        await at.told(release, "failed")
        tried = len(at.route.started)
        fleet.want(release)
        await at.told(release, "rejected")
        assert len(at.route.started) == tried
        fleet.want(release, retry=True)
        await at.told(release, "failed")
        assert len(at.route.started) == tried + 1

    assert live(fleet, root, course).serving == OLD


def test_ota_F42_what_fails_in_probation_goes_back_by_itself(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        assert await at.started()
        at.did(runs=100, faults=50)
        status = await at.told(release, "rolled_back")
        assert status["code"] == "probation_errors"

    assert live(fleet, root, course).serving == OLD


def test_the_want_says_how_long_it_is_watched(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW, probation=Watching(time_s=3600.0, runs=7))

    async def course(at: Member) -> None:
        status = await at.told(release, "probation")
        told = msgspec.convert(status["probation"], dict[str, float])
        assert told["runs_wanted"] == 7
        assert told["left_s"] > 3000

    live(fleet, root, course)


def test_ota_F17_a_want_that_the_wrong_key_signed_is_refused_and_nothing_is_fetched(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.upload(release, NEW)
    want = want_of(release, seq=ISSUED_MS + 2)
    fleet.broker.publish(fleet.broker.ota.want("m", "all"), sign(want, keys.generate()))

    async def course(at: Member) -> None:
        await at.sees(refused={"all": "signature"})
        assert fleet.broker.most_subscribed == 0

    assert live(fleet, root, course).serving == OLD


def test_a_release_that_the_wrong_key_signed_is_refused_and_no_chunk_is_fetched(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.upload(release, NEW)
    fleet.broker.publish(fleet.broker.ota.release(sha256_of(release)), sign(release, fleet.operator.deploy))
    fleet.want(release)

    async def course(at: Member) -> None:
        assert (await at.told(release, "rejected"))["code"] == "signature"
        assert fleet.broker.most_subscribed == 0

    assert live(fleet, root, course).serving == OLD


def test_ota_F18_an_older_want_changes_nothing_and_is_counted(fleet: Fleet, root: Path) -> None:
    old, new = fleet.release(b"good old 2"), fleet.release(NEW, 3)
    fleet.upload(old, b"good old 2")
    fleet.upload(new, NEW)
    before = fleet.want(old)
    fleet.want(new)

    async def course(at: Member) -> None:
        await at.told(new, "active")
        fleet.publish(before, "all")
        await at.sees(replays=1)

    assert live(fleet, root, course).serving == NEW


def test_ota_F20_an_older_version_needs_a_signed_word(fleet: Fleet, root: Path) -> None:
    new, old = fleet.release(NEW, 5), fleet.release(b"good older", 4)
    fleet.upload(new, NEW)
    fleet.upload(old, b"good older")
    fleet.want(new)

    async def course(at: Member) -> None:
        await at.told(new, "active")
        fleet.want(old)
        assert (await at.told(old, "rejected"))["code"] == "downgrade"
        fleet.want(old, allow_downgrade=True)
        await at.told(old, "active")

    assert live(fleet, root, course).serving == b"good older"


def test_ota_F10_a_broker_that_has_lost_everything_is_waited_for(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.publish_document(release)
    fleet.want(release)

    async def course(at: Member) -> None:
        await at.told(release, "downloading")
        fleet.upload_chunks(release, NEW)
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_ota_F32_a_newer_want_takes_the_place_of_a_download(fleet: Fleet, root: Path) -> None:
    stuck, good = fleet.release(b"good stuck"), fleet.release(NEW, 3)
    fleet.publish_document(stuck)
    fleet.upload(good, NEW)
    fleet.want(stuck)

    async def course(at: Member) -> None:
        await at.told(stuck, "downloading")
        fleet.want(good)
        assert (await at.told(stuck, "rejected"))["code"] == "superseded"
        await at.told(good, "active")

    assert live(fleet, root, course).serving == NEW


def test_ota_F33_a_want_during_probation_waits_for_its_end(fleet: Fleet, root: Path) -> None:
    first, second = fleet.release(b"good first"), fleet.release(NEW, 3)
    fleet.upload(first, b"good first")
    fleet.upload(second, NEW)
    fleet.want(first, probation=Watching(time_s=0.3))

    async def course(at: Member) -> None:
        await at.until("probation")
        fleet.want(second)
        await at.told(first, "active")
        await at.told(second, "active")

    assert live(fleet, root, course).serving == NEW


def test_ota_F33_an_urgent_want_does_not_wait_and_what_is_watched_goes_back(fleet: Fleet, root: Path) -> None:
    first, second = fleet.release(b"good first"), fleet.release(NEW, 3)
    fleet.upload(first, b"good first")
    fleet.upload(second, NEW)
    fleet.want(first, probation=Watching(time_s=3600.0))

    async def course(at: Member) -> None:
        assert await at.started()
        fleet.want(second, urgent=True)
        assert (await at.told(first, "rolled_back"))["code"] == "superseded"
        status = await at.told(second, "active")
        assert msgspec.convert(status["previous"], dict[str, object])["version"] == "1"

    assert live(fleet, root, course).serving == NEW


def test_ota_F23_an_expired_want_begins_nothing(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW, expires=ISSUED_MS + HOUR_MS // 2)

    async def course(at: Member) -> None:
        await at.told(release, "expired")

    assert live(fleet, root, course).serving == OLD


def test_a_paused_rollout_waits_and_goes_on(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW, rollout=Rollout(pause=True))

    async def course(at: Member) -> None:
        status = await at.told(release, "paused")
        assert status["phase"] == "waiting"
        fleet.want(release)
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_a_box_outside_of_the_percent_notes_it_and_does_nothing(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW, rollout=Rollout(percent=0.0))

    async def course(at: Member) -> None:
        await until(lambda: at.installer.model("m").record.seen.seq == fleet.seq)
        fleet.want(release, rollout=Rollout(percent=100.0))
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_manual_waits_on_the_disk_for_a_person(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        status = await at.told(release, "manual")
        assert (status["phase"], status["verdict"]) == ("waiting", None)
        assert status["bytes_have"] == len(NEW)
        await at.installer.release_manual("m", "somebody")
        await at.told(release, "active")

    assert live(fleet, root, course, install="manual").serving == NEW


def test_what_waits_is_let_go_when_the_box_leaves_the_group_and_followed_when_it_is_back(
    fleet: Fleet, root: Path
) -> None:
    release = fleet.push(NEW, to="group/g1")
    automatic = msgspec.structs.replace(SETTINGS, trust=str(fleet.anchor))

    async def course(at: Member) -> None:
        at.installer.orders.meant(Box("box", ("g1",)))
        await at.told(release, "manual")
        at.installer.adopt(automatic)
        at.installer.orders.meant(Box("box", ("g2",)))
        status = await at.told(release, "not_meant")
        assert (status["phase"], status["verdict"], status["candidate"]) == ("idle", "rejected", None)
        assert [one.code for one in at.decisions if one.code] == ["not_meant"]
        assert at.route.started == ["1"]
        at.installer.orders.meant(Box("box", ("g1",)))
        await at.told(release, "active")

    assert live(fleet, root, course, install="manual").serving == NEW


@pytest.mark.parametrize(("to", "after"), [("device/box", Copied), ("group/g1", Regrouped)])
@pytest.mark.parametrize("uploaded", [True, False])
def test_a_start_lets_go_what_waited_for_the_box_that_it_was(
    fleet: Fleet, root: Path, to: str, after: type[Member], *, uploaded: bool
) -> None:
    """As a copy of its card makes it. A release that is not all there waits in the middle of its download."""
    release = fleet.release(NEW)
    fleet.publish_document(release)
    if uploaded:
        fleet.upload_chunks(release, NEW)
    fleet.want(release, to)

    async def first(at: Member) -> None:
        at.installer.orders.meant(Box("box", ("g1",)))
        await at.told(release, "manual", "downloading")
        await at.sees(phase="waiting" if uploaded else "downloading")

    async def second(at: Member) -> None:
        assert (await at.told(release, "not_meant"))["verdict"] == "rejected"
        fleet.upload_chunks(release, NEW)
        await at.settled()

    live(fleet, root, first, install="manual")
    assert asyncio.run(living(fleet, root, second, kind=after)).serving == OLD


def test_a_lookup_and_a_download_end_when_the_box_leaves_the_group(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.want(release, "group/g1")

    async def course(at: Member) -> None:
        at.installer.orders.meant(Box("box", ("g1",)))
        await at.told(release, "offered")
        at.installer.orders.meant(Box("box"))
        await at.told(release, "not_meant")
        fleet.publish_document(release)
        at.installer.orders.meant(Box("box", ("g1",)))
        await at.told(release, "downloading")
        at.installer.orders.meant(Box("box"))
        await at.told(release, "not_meant")

    assert live(fleet, root, course).serving == OLD


def test_what_is_tried_or_watched_goes_on_when_the_box_leaves_the_group(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW, to="group/g1", probation=Watching(time_s=3600.0))

    async def course(at: Member) -> None:
        at.installer.orders.meant(Box("box", ("g1",)))
        await at.told(release, "trial")
        at.installer.orders.meant(Box("box"))
        await at.told(release, "probation")

    assert live(fleet, root, course).serving == NEW


def test_a_window_that_is_closed_is_waited_for_unless_it_is_urgent(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        await at.told(release, "not_now")
        fleet.want(release, urgent=True)
        await at.told(release, "active")

    now = datetime.datetime.fromtimestamp((ISSUED_MS + HOUR_MS) / 1000)  # noqa: DTZ006 - the box's own clock
    minute = now.hour * 60 + now.minute
    closed = Hours((minute + 60) % 1440, (minute + 120) % 1440)
    assert live(fleet, root, course, install=(closed,)).serving == NEW


def test_download_only_ends_on_the_disk(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW, action="download_only")

    async def course(at: Member) -> None:
        status = await at.sees(phase="verified", flags=["downloaded", "unsigned_ok"])
        assert status["verdict"] is None
        fleet.broker.retained.clear()
        fleet.want(release)
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_an_undo_goes_back_and_the_want_before_it_is_a_replay(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.upload(release, NEW)
    want = fleet.want(release)

    async def course(at: Member) -> None:
        await at.told(release, "active")
        fleet.undo(want, "device/box")
        status = await at.told(release, "rolled_back")
        assert status["code"] == "undone"
        fleet.publish(want)
        await at.sees(replays=1)

    assert live(fleet, root, course).serving == OLD


def test_an_undo_gives_up_what_is_on_its_way(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    fleet.publish_document(release)
    want = fleet.want(release)

    async def course(at: Member) -> None:
        await at.told(release, "downloading")
        fleet.undo(want)
        assert (await at.told(release, "undone"))["phase"] == "idle"
        fleet.upload_chunks(release, NEW)
        await asyncio.sleep(0.05)
        assert at.installer.model("m").record.done

    assert live(fleet, root, course).serving == OLD


def test_a_rollback_holds_until_it_is_unpinned(fleet: Fleet, root: Path) -> None:
    first, second = fleet.release(NEW), fleet.release(b"good third", 3)
    fleet.upload(first, NEW)
    fleet.upload(second, b"good third")
    fleet.want(first)

    async def course(at: Member) -> None:
        await at.told(first, "active")
        await at.installer.rollback("m", "somebody")
        assert at.serving == OLD
        fleet.want(second)
        await at.told(second, "pinned")
        await at.installer.unpin("m", "somebody")
        await at.told(second, "active")

    assert live(fleet, root, course).serving == b"good third"


def test_a_rollback_holds_against_wants_alone_also_after_a_simple_push(fleet: Fleet, root: Path) -> None:
    first, second = fleet.release(NEW), fleet.release(b"good third", 3)
    fleet.upload(first, NEW)
    fleet.upload(second, b"good third")
    fleet.want(first)

    async def course(at: Member) -> None:
        await at.told(first, "active")
        await at.installer.rollback("m", "somebody")
        at.push(b"good simple")
        assert (await at.fate(b"good simple"))["held"] == {"by": "somebody", "pinned": False}
        fleet.want(second)
        assert (await at.told(second, "pinned"))["message"] == "somebody holds the model against wants"

    assert live(fleet, root, course).serving == b"good simple"


def test_a_pin_holds_against_wants_and_pushes_and_a_retry_ends_it(fleet: Fleet, root: Path) -> None:
    first, second = fleet.release(NEW), fleet.release(b"good third", 3)
    fleet.upload(first, NEW)
    fleet.upload(second, b"good third")
    fleet.want(first)

    async def course(at: Member) -> None:
        await at.told(first, "active")
        await at.installer.pin("m", 2, "somebody")
        with pytest.raises(EdgedError) as caught:
            await at.installer.pin("m", 9, "somebody")
        assert caught.value.fault.code == "bad_version"
        at.push(b"good simple")
        assert (await at.fate(b"good simple"))["code"] == "pinned"
        with pytest.raises(EdgedError) as caught:
            await at.installer.install_local(fleet.operator.sign_release(second), "somebody")
        assert caught.value.fault.code == "pinned"
        fleet.want(second)
        await at.told(second, "pinned")
        fleet.want(second, retry=True)
        await at.told(second, "active")

    assert live(fleet, root, course).serving == b"good third"


def test_a_banned_release_goes_back_and_is_not_installed_again(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        await at.told(release, "active")
        fleet.rotate(banned={sha256_of(release): "it sees ghosts"})
        status = await at.told(release, "rolled_back")
        assert status["code"] == "banned"
        fleet.want(release)
        assert (await at.told(release, "rejected"))["code"] == "banned"
        fleet.rotate(banned={})
        await at.told(release, "active")  # it is still wanted

    assert live(fleet, root, course).serving == NEW


def test_ota_F27_a_live_release_whose_key_was_revoked_stays_and_is_flagged(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)
    other = keys.generate()
    after = trust_of([fleet.operator.root], [other], [fleet.operator.deploy])

    async def course(at: Member) -> None:
        await at.told(release, "active")
        at.statuses.clear()
        fleet.rotate(keys=after.keys, roles=after.roles)
        status = await at.until("active")  # published, not only known
        assert "untrusted_active" in msgspec.convert(status["flags"], list[str])

    assert live(fleet, root, course).serving == NEW


@pytest.mark.parametrize("role", ["release", "deploy"])
def test_ota_F27_what_waits_for_its_hour_does_not_begin_when_its_key_was_revoked(
    fleet: Fleet, root: Path, role: str
) -> None:
    release = fleet.push(NEW)
    other = keys.generate()
    who = {"release": fleet.operator.release, "deploy": fleet.operator.deploy, role: other}
    after = trust_of([fleet.operator.root], [who["release"]], [who["deploy"]])

    async def course(at: Member) -> None:
        await at.told(release, "manual")
        fleet.rotate(keys=after.keys, roles=after.roles)
        assert (await at.told(release, "signature"))["phase"] in ("idle", "waiting")
        if role == "deploy":
            await at.installer.release_manual("m", "somebody")
        await asyncio.sleep(0.05)
        assert at.route.started == ["1"]

    assert live(fleet, root, course, install="manual").serving == OLD


def test_ota_F26_an_order_by_keys_that_came_two_versions_later_is_followed_at_the_end_of_the_walk(
    fleet: Fleet, root: Path
) -> None:
    """The order is there before the second of the documents is asked for."""
    fleet.operator.deploy = keys.generate()
    after = trust_of([fleet.operator.root], [fleet.operator.release], [fleet.operator.deploy])
    for change in ({}, {}, {"keys": after.keys, "roles": after.roles}, {}):
        fleet.rotate(**change)
    release = fleet.push(NEW)

    async def course(at: Member) -> None:
        told = await at.told(release, "active")
        assert told["refused"] == {}
        refusals = [one for one in at.decisions if one.event == "rejected"]
        assert len(refusals) <= 1  # it is looked at with each document, and told of once

    assert live(fleet, root, course).serving == NEW


def test_refused_orders_of_strangers_are_kept_within_bounds(fleet: Fleet, root: Path) -> None:
    ota, large = fleet.broker.ota, b"x" * 60_000

    async def course(at: Member) -> None:
        orders = at.installer.orders
        for number in range(200):
            orders.on_document(ota.want(f"any{number}", "all"), large, retained=False)
        await until(lambda: len(orders._refused) == 200)
        assert sum(len(content) for content, _ in orders._later.values()) <= 4 * 2**20
        for number in range(1000):
            orders.on_document(ota.want(f"more{number}", "all"), b"x", retained=False)
        await until(lambda: ota.want("more999", "all") in orders._refused)
        assert 1000 < len(orders._later) <= 1024

    live(fleet, root, course)


def test_an_order_that_was_taken_away_is_not_followed_when_its_keys_count(fleet: Fleet, root: Path) -> None:
    late = keys.generate()
    after = trust_of([fleet.operator.root], [fleet.operator.release], [late])

    async def course(at: Member) -> None:
        before, fleet.operator.deploy = fleet.operator.deploy, late
        fleet.push(NEW)
        await at.sees(refused={"all": "signature"})
        fleet.broker.publish(fleet.broker.ota.want("m", "all"), b"")
        await at.sees(refused={})
        fleet.operator.deploy = before
        fleet.rotate(keys=after.keys, roles=after.roles)
        fleet.rotate()
        await until(lambda: at.installer.orders.trust is not None and at.installer.orders.trust.version == 3)
        assert at.installer.model("m").record.order is None

    assert live(fleet, root, course).serving == OLD


def test_the_next_life_knows_the_newest_trust(fleet: Fleet, root: Path) -> None:
    async def first(at: Member) -> None:
        fleet.rotate(min_version={"m": 3})
        await until(lambda: at.installer.orders.trust is not None and at.installer.orders.trust.version == 2)

    async def second(at: Member) -> None:
        trust = at.installer.orders.trust
        assert trust is not None
        assert (trust.version, trust.min_version) == (2, {"m": 3})

    live(fleet, root, first)
    live(fleet, root, second)


def lose(fleet: Fleet, kept: Path, how: str) -> dict[str, bytes]:
    """The trust document that the box has kept, and those on the broker, which are returned."""
    if how == "gone":
        kept.unlink()
    else:
        kept.write_bytes(b"half")
    retained, prefix = fleet.broker.retained, f"{fleet.broker.ota.root}/trust/"
    return {topic: retained.pop(topic) for topic in list(retained) if topic.startswith(prefix)}


@pytest.mark.parametrize("how", ["damaged", "gone"])
def test_a_key_that_was_dropped_does_not_count_again_when_the_kept_trust_is_lost(
    fleet: Fleet, root: Path, how: str
) -> None:
    after = trust_of([fleet.operator.root], [fleet.operator.release], [keys.generate()])

    async def first(at: Member) -> None:
        fleet.rotate(keys=after.keys, roles=after.roles)
        await until(lambda: at.installer.orders.trust is not None and at.installer.orders.trust.version == 2)

    async def second(at: Member) -> None:
        fleet.push(NEW)  # by the key that counts no more
        assert (await at.sees_refusal())["code"] == "no_trust"
        with pytest.raises(EdgedError, match="trust version 2 held on this box and is lost"):
            await at.installer.install_local(b"", "")
        assert [one.code for one in at.decisions if one.event == "damaged"] == ["no_trust"]
        for topic, content in documents.items():
            fleet.broker.publish(topic, content)
        await until(lambda: bool(at.statuses) and at.statuses[-1]["code"] == "signature")

    live(fleet, root, first)
    documents = lose(fleet, root / "trust.kept", how)
    assert live(fleet, root, second).serving == OLD


def test_what_came_while_the_kept_trust_was_lost_is_followed_when_it_has_come_again(fleet: Fleet, root: Path) -> None:
    async def first(at: Member) -> None:
        for _ in range(3):
            fleet.rotate()
        await until(lambda: at.installer.orders.trust is not None and at.installer.orders.trust.version == 4)

    async def second(at: Member) -> None:
        release = fleet.push(NEW)
        assert (await at.sees_refusal())["code"] == "no_trust"
        for topic, content in documents.items():
            fleet.broker.publish(topic, content)
        await at.told(release, "active")

    live(fleet, root, first)
    documents = lose(fleet, root / "trust.kept", "damaged")
    assert live(fleet, root, second).serving == NEW


def test_a_kept_trust_that_cannot_be_read_ends_the_start(fleet: Fleet, root: Path) -> None:
    (root / "trust.kept").mkdir()

    async def course(_at: Member) -> None:
        raise AssertionError("it has started")

    with pytest.raises(OSError, match=r"is no file.*trust\.kept"):
        live(fleet, root, course)


def test_a_start_tells_once_where_a_model_stands(fleet: Fleet, root: Path) -> None:
    """Though its trust is taken up at the same time, by which its flags may be others."""

    async def course(at: Member) -> None:
        await until(lambda: bool(at.statuses))
        await asyncio.sleep(0.1)
        assert [status["phase"] for status in at.statuses] == ["idle"]

    live(fleet, root, course)


def test_without_a_root_of_trust_a_want_is_refused(fleet: Fleet, root: Path) -> None:
    fleet.anchor.unlink()
    fleet.want(fleet.release(NEW))

    async def course(at: Member) -> None:
        await at.sees(refused={"all": "no_trust"})

    assert live(fleet, root, course).serving == OLD


def test_whoever_sends_what_is_refused_is_told(fleet: Fleet, root: Path) -> None:
    release = fleet.push(NEW)
    topic = fleet.broker.ota.want("m", "all")

    async def course(at: Member) -> None:
        await at.told(release, "active")
        fleet.broker.publish(topic, b"{}")
        status = await at.sees_refusal()
        assert (status["code"], status["refused"]) == ("bad_document", {"all": "bad_document"})
        await at.settled()
        assert (at.statuses, at.refused) == ([], ["bad_document"])  # who looks later finds it
        fleet.broker.publish(topic, b"")
        status = await at.until("rejected")
        assert (status["code"], status["refused"]) == ("bad_document", {})

    live(fleet, root, course)


def test_what_was_refused_before_any_verdict_is_told(fleet: Fleet, root: Path) -> None:
    fleet.broker.retained[fleet.broker.ota.want("m", "all")] = b"{}"

    async def course(at: Member) -> None:
        assert (await at.sees_refusal())["code"] == "bad_document"

    live(fleet, root, course)


@pytest.mark.parametrize(("to", "code"), [("all", "signature"), ("device/box", "bad_document")])
def test_what_is_refused_at_a_start_hides_no_verdict(fleet: Fleet, root: Path, to: str, code: str) -> None:
    """As an order whose keys count no more does, which stays on the broker after the keys were changed."""
    release = fleet.push(NEW)
    bad = sign(want_of(release, seq=ISSUED_MS + 9), keys.generate()) if code == "signature" else b"{}"

    async def first(at: Member) -> None:
        await at.told(release, "active")

    async def second(at: Member) -> None:
        status = await at.sees(refused={to: code})
        await until(lambda: at.statuses[-1]["refused"] == {to: code})
        assert (status["verdict"], status["code"]) == ("active", None)
        assert {one["verdict"] for one in at.statuses} == {"active"}
        at.courier.cut()
        at.courier.connect()  # brings it again
        fleet.want(release)
        await at.sees(refused={} if to == "all" else {to: code})
        assert [one.code for one in at.decisions if one.event == "rejected"] == at.refused == [code]

    live(fleet, root, first)
    fleet.broker.retained[fleet.broker.ota.want("m", to)] = bad
    live(fleet, root, second)


def test_a_release_from_a_stick_needs_no_want_and_no_broker(fleet: Fleet, root: Path) -> None:
    release = fleet.release(NEW)
    pieces = blobs(release, {"model.onnx": NEW})

    async def course(at: Member) -> None:
        at.courier.cut()
        await at.installer.install_local(fleet.operator.sign_release(release), "root")
        while at.installer.model("m").record.active is None:
            for sha256 in at.installer.missing():
                assert at.installer.offer(sha256, pieces[sha256])
            await asyncio.sleep(0.005)
        await at.told(release, "active")

    assert live(fleet, root, course).serving == NEW


def test_a_release_from_a_stick_is_told_with_the_order_that_it_came_after(fleet: Fleet, root: Path) -> None:
    """Or an operator could not tell a box that has not heard of the order from one that a person took elsewhere."""
    release = fleet.release(NEW)
    fleet.upload(release, NEW)
    want = fleet.want(release)

    async def course(at: Member) -> None:
        await at.told(release, "active")
        await at.installer.install_local(fleet.operator.sign_release(fleet.release(NEW, version=3)), "root")
        told = msgspec.convert(at.installer.model("m").status()["want"], dict[str, object])
        assert (told["version"], told["seen"]) == ("3", {"epoch": want.epoch, "seq": want.seq})
        assert "seq" not in told

    live(fleet, root, course)


def test_a_stick_with_a_wrong_signature_is_refused_at_once(fleet: Fleet, root: Path) -> None:
    async def course(at: Member) -> None:
        with pytest.raises(EdgedError) as caught:
            await at.installer.install_local(sign(fleet.release(NEW), keys.generate()), "root")
        assert caught.value.fault.code == "signature"

    assert live(fleet, root, course).serving == OLD
