"""bench.py's box in a fleet: an operator with keys, a broker in memory, releases that are signed and wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from edged.config.schema import Push
from edged.delivery.documents import Release, Trust, Undo, Want
from edged.delivery.orders import Clock
from edged.delivery.record import Phase
from edged.delivery.store import Store
from tests.couriers import Broker, blobs
from tests.integration.delivery.bench import PATIENCE_S, SETTINGS, Bench, during
from tests.routes import SIGNATURE
from tests.signing import ISSUED_MS, Operator, release_of, sha256_of, undo_of, want_of

HOUR_MS = 3_600_000
NOW_MS = ISSUED_MS + HOUR_MS


class Fleet:
    """What is outside of the box. `seq` counts on with each want."""

    def __init__(self, root: Path) -> None:
        self.operator = Operator()
        self.broker = Broker()
        self.seq = self.newest = ISSUED_MS
        self.lacking: set[str] = set()  # releases that are not on the broker, or not all of them
        self.trust = self.operator.trust
        self.anchor = root / "root.json"
        self.anchor.write_bytes(self.operator.sign_trust())

    def release(self, content: bytes, version: int = 2, **more: object) -> Release:
        made = release_of({"model.onnx": content}, model="m", version=version)
        return msgspec.structs.replace(made, inputs=SIGNATURE.inputs, outputs=SIGNATURE.outputs, **more)

    def push(self, content: bytes, version: int = 2, to: str = "all", **changes: object) -> Release:
        """A release of this content, uploaded and wanted."""
        release = self.release(content, version)
        self.upload(release, content)
        self.want(release, to, **changes)
        return release

    def upload(self, release: Release, content: bytes) -> None:
        """The release's document and its chunks."""
        self.publish_document(release)
        self.upload_chunks(release, content)

    def publish_document(self, release: Release) -> None:
        envelope = self.operator.sign_release(release)
        self.broker.publish(self.broker.ota.release(sha256_of(release)), envelope)

    def upload_chunks(self, release: Release, content: bytes) -> None:
        for sha256, blob in blobs(release, {"model.onnx": content}).items():
            self.broker.publish(self.broker.ota.blob(sha256), blob)

    def want(self, release: Release, to: str = "all", **changes: object) -> Want:
        """A want for it, published as the newest."""
        self.seq += 2
        if not self.has(release):
            self.lacking.add(sha256_of(release))
        want = want_of(release, to=to, seq=self.seq, **changes)
        self.publish(want)
        return want

    def has(self, release: Release) -> bool:
        """Whether the broker has all of it."""
        topics = {self.broker.ota.blob(file.index) for file in release.files.values()}
        return (topics | {self.broker.ota.release(sha256_of(release))}) <= self.broker.retained.keys()

    def publish(self, order: Want | Undo, to: str = "") -> None:
        self.newest = max(self.newest, order.seq)
        topic = self.broker.ota.want(order.model, to or order.to)
        self.broker.publish(topic, self.operator.sign_order(order))

    def undo(self, want: Want, to: str = "") -> None:
        self.publish(undo_of(want), to)

    def rotate(self, **changes: object) -> Trust:
        """The next trust document, with these changes."""
        self.trust = msgspec.structs.replace(self.trust, version=self.trust.version + 1, **changes)
        self.broker.publish(self.broker.ota.trust(self.trust.version), self.operator.sign_trust(self.trust))
        return self.trust


class Member(Bench):
    """A box of the fleet; it is called `box` and is in no group, where its class says no other."""

    def __init__(
        self, fleet: Fleet, root: Path, store: Store, settings: Push, now_ms: int = NOW_MS, *, synced: bool = True
    ) -> None:
        self.fleet = fleet
        self.now_ms = now_ms
        self.synced = synced
        super().__init__(root, store, msgspec.structs.replace(settings, trust=str(fleet.anchor)))
        self.courier = fleet.broker.courier("box")
        self.courier.callbacks(self.installer.orders.on_document, self.installer.orders.on_courier)

    def clock(self) -> Clock:
        return Clock(lambda: self.now_ms, lambda: self.synced)

    def connect(self) -> None:
        self.installer.orders.use(self.courier)
        self.courier.connect()

    async def told(self, release: Release, *wanted: str) -> dict[str, object]:
        """Waits for a status about this release with one of these phases, codes or verdicts."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for index, status in enumerate(self.statuses):
                    about = msgspec.convert(status["push"], dict[str, str])["release"]
                    if about == sha256_of(release) and {status["phase"], status["verdict"], status["code"]} & set(
                        wanted
                    ):
                        del self.statuses[: index + 1]
                        return status
                await self._help()

    async def sees(self, **wanted: object) -> dict[str, object]:
        """Waits until the present status has all of these."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                status = self.installer.model("m").status()
                if all(status[name] == value for name, value in wanted.items()):
                    return status
                await self._help()

    async def settled(self) -> None:
        """Waits until everything that was published was seen, and what can move has come to rest."""
        async with asyncio.timeout(PATIENCE_S):
            while not self._at_rest():
                await self._help()

    def _at_rest(self) -> bool:
        one, trust = self.installer.model("m"), self.installer.orders.trust
        record, about = one.record, msgspec.convert(one.status()["push"], dict[str, str])["release"]
        seen = self.fleet.newest == ISSUED_MS or record.seen.seq == self.fleet.newest
        if not seen or trust is None or trust.version != self.fleet.trust.version or self.installer.orders.busy:
            return False
        serves = one.boot_release()
        if self.route.live is None or serves is None or self.route.live.release != serves:
            return False
        order = record.order
        match one.phase:
            case Phase.IDLE:
                leaves = record.active is not None and record.active.release in trust.banned
                return record.wanted is None and not record.leaving and not leaves
            case Phase.OFFERED | Phase.DOWNLOADING:
                return about in self.fleet.lacking and order is not None and order.release == about
            case Phase.VERIFIED:
                return order is not None and order.want is not None and order.want.action == "download_only"
            case _:
                return False

    async def sees_refusal(self) -> dict[str, object]:
        """Waits for a push that was refused before anybody knew which release it is about."""
        return await self.until("rejected")


async def living(
    fleet: Fleet,
    root: Path,
    course: Callable[[Member], Awaitable[None]],
    settings: Push = SETTINGS,
    store: Store | None = None,
    now_ms: int = NOW_MS,
    *,
    synced: bool = True,
    kind: type[Member] = Member,
) -> Member:
    """A life of the box: boots, connects, runs the course, and stops cleanly."""

    async def connected(bench: Bench) -> None:
        member = cast_member(bench)
        member.connect()
        await course(member)

    def make(root: Path, store: Store, settings: Push) -> Bench:
        return kind(fleet, root, store, settings, now_ms, synced=synced)

    return cast_member(await during(root, store or Store(root), connected, settings, make))


def cast_member(bench: Bench) -> Member:
    if not isinstance(bench, Member):
        raise TypeError("no member of a fleet")
    return bench
