"""What signed documents tell this box: its trust, walked forward, and for each model the want that it follows.

Documents come from the courier, one after the other, and are verified in a thread. Which of them count is trust.py's
and want.py's to say; here they are put into effect. Of documents on one topic the newest waits, so what strangers
send costs no more memory than there are topics.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, Protocol

import msgspec

from edged.config.schema import Push
from edged.delivery import envelope, footing, trust, want, windows
from edged.delivery.audit import Decision
from edged.delivery.courier import Courier
from edged.delivery.documents import Trust, Undo, Want
from edged.delivery.fetcher import Fetcher
from edged.delivery.gate import Moment
from edged.delivery.ledger import Audit
from edged.delivery.record import Order, Record
from edged.delivery.report import CLOCK_UNSYNCED, UNTRUSTED_ACTIVE, Standing, Subject
from edged.delivery.store import Store
from edged.delivery.strict import LARGEST
from edged.delivery.trust import Anchored, Signed
from edged.delivery.want import Box, Seen
from edged.errors import EdgedError, Fault, fault
from edged.topics import Ota
from edged.worker.library import onnxruntime_version

WAITING: Final = 1024  # topics with a document that nobody has looked at
_KEPT: Final = 4 * 2**20  # bytes of refused orders that the trust to come may count: strangers send any, ours are small

log = logging.getLogger("edged.delivery")


class Recipient(Protocol):
    """A model, as orders know it: installation.py."""

    @property
    def record(self) -> Record: ...
    async def order(self, order: Order, seen: Seen) -> None: ...
    async def note(self, seen: Seen) -> None: ...
    async def known(self, document: str) -> None: ...
    async def undo(self, release: str, seen: Seen, by: str) -> None: ...
    async def trusted(self, trust: Trust) -> None: ...
    def refuse(self, subject: Subject, problem: Fault, by: str, *, fresh: bool) -> None: ...
    def look_again(self) -> None: ...
    def look_over(self) -> None: ...


class Clock(msgspec.Struct, frozen=True, eq=False):
    """The wall clock in ms, and whether somebody sets it by the network's time."""

    wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    synced: Callable[[], bool] = lambda: True


class Orders:
    """`models` are the recipients by name, as they are now; `settings()` the push settings that hold.

    `refused(code)` counts documents.
    """

    def __init__(
        self,
        box: Box,
        ota: Ota,
        store: Store,
        models: Mapping[str, Recipient],
        *,
        settings: Callable[[], Push],
        audit: Audit,
        clock: Clock,
        refused: Callable[[str], None] = lambda _code: None,
    ) -> None:
        self.box = box
        self._ota: Final = ota
        self._store: Final = store
        self._models: Final = models
        self._settings: Final = settings
        self._audit: Final = audit
        self._clock: Final = clock
        self._courier: Courier | None = None
        self._root: Anchored | None = None  # as configured
        self._anchored: Anchored | None = None  # that one, or what has followed it
        self._least = 0  # the version from which on it counts
        self._asked: frozenset[str] = frozenset()  # by the fetcher
        self._pending: dict[str, tuple[bytes, bool]] = {}  # by topic, and whether it has just been sent
        self._later: dict[str, tuple[bytes, bool]] = {}  # orders that the trust to come may count
        self._refused: dict[str, tuple[str, str]] = {}  # by topic, the hash of what was refused there last, and why
        self._told: dict[str, tuple[str, str]] = {}  # the same, by the trust before
        self._count: Final = refused
        self._replays: dict[str, int] = {}
        self._wake: Final = asyncio.Event()
        self.busy = False
        self.bring: Callable[[str], Awaitable[None]] = _none_comes  # makes another model one of the box's
        self.fetcher: Final = Fetcher(self, store, ota)

    # --- the fleet as a model sees it ---------------------------------------------------------------------

    @property
    def onnxruntime(self) -> str:
        """The version that is installed; "" where nobody can tell, as for a vendor's wheel of another name."""
        return onnxruntime_version()

    @property
    def trust(self) -> Trust | None:
        """What counts now; `believed` says why nothing does."""
        now = self._anchored.trust if self._anchored else None
        return now if now is not None and now.version >= self._least else None

    def believed(self) -> Trust:
        """What counts now. Raises EdgedError no_trust."""
        now = self.trust
        if now is None and self._anchored is None:
            raise EdgedError("no_trust", "this box has no root of trust, and takes no signed release")
        if now is None:
            hint = "`edged trust publish` brings the documents up to it again; or name a newer root with push.trust."
            raise EdgedError("no_trust", f"trust version {self._least} held on this box and is lost", hint)
        return now

    def banned(self, release: str) -> str | None:
        """Why nobody may run this release, None where that is not so."""
        return None if self._anchored is None else self._anchored.trust.banned.get(release)

    def moment(self, order: Order, waited_s: float, settings: Push) -> Moment:
        """What gate.py judges an order by."""
        now, wall_ms = self.trust, self._clock.wall_ms()
        closed = windows.closed(settings.install, wall_ms)
        if now is None:  # it was there when the order came
            return Moment(
                fault("no_trust", "the trust document that this box had cannot be read any more"), closed=closed
            )
        if order.want is None:
            return Moment(closed=closed)
        synced, signers = self._clock.synced(), order.signers
        overdue = want.overdue(order.want, now, self._now_ms(now), synced=synced, signers=signers)
        return Moment(overdue, waited_s, want.delay_s(order.want.rollout, self.box.device), closed)

    def means(self, order: Order) -> bool:
        """Whether an order is for this box still: its name or its groups may be others than when it came."""
        return order.want is None or want.means(order.want, self.box)

    def _now_ms(self, now: Trust) -> int:
        seen = [one.record.seen for one in self._models.values()]
        return want.current_ms(self._clock.wall_ms(), seen, now.epoch)

    def standing(self, model: str, record: Record) -> Standing:
        """What the box adds to a model's status."""
        flags = () if self._clock.synced() else (CLOCK_UNSYNCED,)
        active, now = record.active, self.trust
        if active is not None and active.signers and (now is None or not trust.counts(now, "release", active.signers)):
            flags = (*flags, UNTRUSTED_ACTIVE)
        last = {scope: self._refused.get(self._ota.want(model, scope)) for scope in self._scopes()}
        refused = {scope: found[1] for scope, found in last.items() if found is not None}
        return Standing(self._replays.get(model, 0), flags, refused)

    # --- the courier --------------------------------------------------------------------------------------

    def use(self, courier: Courier) -> None:
        """From now on documents come from there."""
        self._courier = courier
        self.listen_anew()

    def listen(self, topics: frozenset[str]) -> None:
        """What the fetcher asks for, beside the orders' own."""
        self._asked = topics
        self.listen_anew()

    def need(self, payload: bytes) -> None:
        """The fetcher's list of what is missing."""
        if self._courier is not None:
            self._courier.need(payload)

    def meant(self, box: Box) -> None:
        """The box has other groups, or other settings for pushes."""
        self.box = box
        self.listen_anew()
        for one in self._models.values():
            one.look_again()

    def listen_anew(self) -> None:
        """The models or the box's groups are others, or its trust is."""
        if self._courier is not None:
            self._courier.listen(frozenset(self._own()) | self._asked)

    def _own(self) -> Iterable[str]:
        if self._anchored is not None:
            yield self._ota.trust(self._anchored.trust.version + 1)
        models = ("+",) if self._settings().models == "any" else tuple(self._models)
        for model in models:
            for scope in self._scopes():
                yield self._ota.want(model, scope)

    def _scopes(self) -> tuple[str, ...]:
        return ("all", *(f"group/{group}" for group in self.box.groups), f"device/{self.box.device}")

    def on_document(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001 - a callback
        """Takes a document; what becomes of it is published and audited."""
        if not payload:  # an emptied topic changes nothing: only what is signed does (F21), and no chunk is empty
            self._unrefuse(topic)
            return
        if self.fetcher.on_document(topic, payload, retained=retained):
            return
        if len(payload) > LARGEST:  # its first bytes are enough to be refused
            payload = payload[: LARGEST + 1]
        if len(self._pending) < WAITING or topic in self._pending:
            self._pending[topic] = payload, not retained
            self._wake.set()

    def on_courier(self, connected: bool) -> None:  # noqa: FBT001 - a callback
        """The courier's connection has come, or gone."""
        if not connected:
            self.fetcher.on_lost()
            return
        self.fetcher.on_connected()
        for one in self._models.values():
            one.look_again()

    # --- the walk -----------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Takes up the trust that the box has: the configured one, or what has followed from it. Raises OSError."""
        found = await asyncio.to_thread(footing.take_up, self._store, self._settings().trust)
        self._root, self._anchored, self._least = found.root, found.anchored, found.least
        if found.told:
            log.error("%s", found.told, extra={"code": "no_trust"})
            self._audit(Decision("damaged", found.told, code="no_trust"))

    async def _keep(self, anchored: Anchored) -> None:
        if self._root is None:
            return
        try:
            root, version = self._root.sha256, anchored.trust.version
            await asyncio.to_thread(self._store.keep_trust, root, version, anchored.envelope)
        except OSError as error:
            log.error("the trust document cannot be kept: %s", error, extra={"code": "bad_store"})

    async def run(self) -> None:
        """Puts documents into effect, until cancelled."""
        await self._tell_all()
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                topic = next(iter(self._pending))
                self.busy = True
                await self._take(topic, *self._pending.pop(topic))
                self.busy = bool(self._pending)

    async def _take(self, topic: str, payload: bytes, fresh: bool) -> None:  # noqa: FBT001 - as `_pending` has it
        digest = hashlib.sha256(payload).hexdigest()
        if topic in self._refused and self._refused[topic][0] == digest:
            return  # a new connection brings it again
        kind, _, rest = topic.removeprefix(f"{self._ota.root}/").partition("/")
        try:
            if kind == "trust":
                await self._follow(payload)
            elif kind == "want":
                model, _, to = rest.partition("/")
                await self._order(model, to, payload)
        except EdgedError as error:
            if len(self._refused) >= WAITING:
                self._refused.clear()
            self._refused[topic] = digest, error.fault.code
            if kind == "want" and self._anchored is not None:
                self._keep_order(topic, payload, fresh)
            if self._told.pop(topic, None) == self._refused[topic]:
                self._look_over()
            else:
                self._refuse(kind, rest, error.fault, Subject(size=len(payload)), fresh=fresh)
        else:
            self._unrefuse(topic)

    def _keep_order(self, topic: str, payload: bytes, fresh: bool) -> None:  # noqa: FBT001 - as `_later` has it
        self._later.pop(topic, None)
        taken = sum(len(content) for content, _ in self._later.values())
        if len(self._later) < WAITING and taken + len(payload) <= _KEPT:
            self._later[topic] = payload, fresh

    def _unrefuse(self, topic: str) -> None:
        """What was refused there lies there no more."""
        self._later.pop(topic, None)
        if self._refused.pop(topic, None) is not None:
            self._look_over()

    def _look_over(self) -> None:
        for one in self._models.values():
            one.look_over()

    def _refuse(self, kind: str, rest: str, problem: Fault, subject: Subject, *, fresh: bool) -> None:
        one = self._models.get(rest.partition("/")[0]) if kind == "want" else None
        self._count(problem.code)
        log.warning("a %s document was refused: %s", kind, problem.message, extra={"code": problem.code})
        if one is not None:
            one.refuse(subject, problem, f"MQTT {kind}/{rest}"[:200], fresh=fresh)
        else:
            # Strangers may make up any number of models: one line of the audit a second tells of them all.
            text = f"{kind} document refused on {rest[:200]}: {problem.message}"
            self._audit(Decision("rejected", text, code=problem.code, by=f"MQTT {kind}"))

    async def _follow(self, payload: bytes) -> None:
        """A trust document: the next one, or the one that holds already."""
        now = self._anchored
        if now is None or payload == now.envelope:
            return
        found, signers = await asyncio.to_thread(_advanced, now, payload)
        await self._keep(found)  # before anything is done about it: a stop may come in between
        self._anchored = found
        version, by = str(found.trust.version), f"root key {', '.join(signers)}"
        self._audit(Decision("trusted", f"trust version {version} holds", "", version, found.sha256, by=by))
        self._told, self._refused = self._refused, {}  # another trust may count what this one did not
        if self.trust is not None:
            self._pending, self._later = {**self._later, **self._pending}, {}
        await self._tell_all()
        self.listen_anew()

    async def _tell_all(self) -> None:
        for one in list(self._models.values()):
            if self.trust is not None:
                await one.trusted(self.trust)

    async def _order(self, model: str, to: str, payload: bytes) -> None:
        now = self.believed()
        signed = await asyncio.to_thread(trust.order, now, payload)
        one = self._models.get(model)
        decided = self._decided(signed, model, to, one.record.seen if one else Seen(), now)
        if one is None:
            if not isinstance(decided, want.Accepted) or isinstance(signed.document, Undo):
                return  # nothing of it is here, and nothing comes
            one = await self.recipient(model)
            decided = self._decided(signed, model, to, one.record.seen, now)
        if isinstance(decided, want.Replay):
            self._replays[model] = self._replays.get(model, 0) + 1
        elif isinstance(decided, want.Noted):
            await one.note(decided.seen)
        elif isinstance(decided, want.Known):
            await one.known(signed.sha256)
        else:
            lapsed = isinstance(decided, want.Late) and decided.fault.code == "expired"
            await self._accept(one, signed, decided.seen, lapsed=lapsed)

    def _decided(
        self, signed: Signed[Want | Undo], model: str, to: str, seen: Seen, now: Trust
    ) -> want.Accepted | want.Late | want.Noted | want.Known | want.Replay:
        synced = self._clock.synced()
        decided = want.decide(signed, model, to, self.box, seen, now, self._now_ms(now), synced=synced)
        if isinstance(decided, want.Refused):
            raise EdgedError(decided.fault.code, decided.fault.message, decided.fault.hint)
        return decided

    async def recipient(self, model: str) -> Recipient:
        """The model, which a release may bring where `push.models` is any. Raises EdgedError unknown_model, busy."""
        if model not in self._models:
            await self.bring(model)
            if self.trust is not None:
                await self._models[model].trusted(self.trust)
        return self._models[model]

    @staticmethod
    async def _accept(one: Recipient, signed: Signed[Want | Undo], seen: Seen, *, lapsed: bool) -> None:
        document, by = signed.document, f"deploy key {', '.join(signed.signers)}"
        if isinstance(document, Undo):
            await one.undo(document.release, seen, by)
            return
        if lapsed:  # who holds the model, and what failed here, is let go by a word that still counts
            document = msgspec.structs.replace(document, retry=False)
        order = Order(document.release, document.version, document, signed.sha256, signed.signers, by)
        await one.order(order, seen)


async def _none_comes(model: str) -> None:
    raise EdgedError("unknown_model", f"no model {model[:64]!r} here")


def _advanced(now: Anchored, payload: bytes) -> tuple[Anchored, tuple[str, ...]]:
    """The successor of `now`, and the root keys of either that have signed it. Raises EdgedError."""
    found = trust.advance(now, payload)
    signed = envelope.decode(payload, "trust")
    roles = (now.trust, found.trust)
    return found, tuple(dict.fromkeys(one for each in roles for one in trust.signers(each, "root", signed)))
