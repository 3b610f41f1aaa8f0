"""One box of a fleet as tests have it, and a broker in memory that connects many of them.

A device decides about orders with the daemon's own modules (trust, want) and says on its topics what a box says.
Fetching, trying and watching a release take a moment each: models and files are the business of other tests.
tests/fleets.py gives devices connections to a real broker.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

from edged.delivery import trust as trusts
from edged.delivery import want as wants
from edged.delivery.documents import Trust, Undo, Want
from edged.delivery.want import Accepted, Late, Noted, Seen
from edged.errors import EdgedError
from edged.fleet.view import Fleet, build
from edged.topics import Ota, Tree

MODEL: Final = "digits"
V1: Final = "1" * 64
STEPS: Final = ("downloading", "verified", "trial", "probation")


class Device:
    """One box, which knows no broker: `retain` gets what it has to say, `clock` gives seconds."""

    def __init__(
        self,
        name: str,
        groups: Sequence[str],
        trust: Trust,
        base: str,
        pace_s: float,
        clock: Callable[[], float] = time.monotonic,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.name: Final = name
        self.retain: Callable[[str, bytes], None] = lambda *_: None
        self._clock: Final = clock
        self._now_ms: Final = now_ms
        self.groups: Final = tuple(groups)
        self.tree: Final = Tree(base, name)
        self.active = self.previous = V1
        self.versions = {V1: "1"}
        self.phase = "idle"
        self.verdict: str | None = None
        self.code: str | None = None
        self.about = ""
        self.order: Want | None = None
        self.flaws: dict[str, tuple[str, str]] = {}  # release -> the phase in which it fails here, and the code
        self.bad: set[str] = set()
        self.seen = Seen()
        self.replays = 0
        self.installed: list[str] = []
        self.due_s = 0.0
        self.deaf = self.greeted = False
        self._trust = trust
        self._pace_s = pace_s
        self._dice = random.Random(name)  # noqa: S311 - no secret

    # --- what comes ---------------------------------------------------------------------------------

    def on_message(self, topic: str, payload: bytes) -> None:
        if self.deaf or not payload:
            return
        levels = topic.removeprefix(f"{Ota(self.tree.base).root}/want/").split("/")
        try:
            signed = trusts.order(self._trust, payload)
        except EdgedError:
            return
        box = wants.Box(self.name, self.groups)
        place = levels[0], "/".join(levels[1:])
        decided = wants.decide(signed, *place, box, self.seen, self._trust, self._now_ms())
        if isinstance(decided, wants.Replay):
            self.replays += 1
        if not isinstance(decided, Accepted | Late | Noted):
            return
        self.seen = decided.seen
        if isinstance(decided, Accepted):
            self._obey(signed.document)
        self.say()

    def _obey(self, order: Want | Undo) -> None:
        if isinstance(order, Undo):
            self.order = None
            if self.phase != "idle" and self.about == order.release:
                self._end("rolled_back", "undone")
            elif self.active == order.release:
                self.active = self.previous
                self._end("rolled_back", "undone")
            return
        self.order = order
        self.versions[order.release] = str(order.version)
        if order.retry:
            self.bad.discard(order.release)
        if self.phase != "probation" and self.about != order.release:
            self.phase = "idle"  # superseded
        if order.rollout.pause and self.phase in ("downloading", "verified", "trial"):
            self.phase = "waiting"
        self.drive()

    # --- what happens by itself ---------------------------------------------------------------------

    def drive(self) -> None:
        """Towards its want, when nothing is under way."""
        order = self.order
        if order is None or self.phase not in ("idle", "waiting") or order.release in (self.active, *self.bad):
            return
        self.about, self.verdict = order.release, None
        self.phase, self.code = ("waiting", "paused") if order.rollout.pause else ("downloading", None)
        self.due_s = self._clock() + wants.delay_s(order.rollout, self.name) + self._moment_s()

    def tick(self) -> None:
        """The next phase, when it is time."""
        if self.phase not in STEPS or self._clock() < self.due_s:
            return
        flaw = self.flaws.get(self.about)
        if flaw is not None and flaw[0] == self.phase:
            self.bad.add(self.about)
            if self.phase == "probation":
                self.active = self.previous
            self._end("rolled_back" if self.phase == "probation" else "failed", flaw[1])
        elif self.phase == "probation":
            self._end("active", None)
        else:
            self.phase = STEPS[STEPS.index(self.phase) + 1]
            if self.phase == "probation":
                self.previous, self.active = self.active, self.about
                self.installed.append(self.about)
            self.due_s = self._clock() + self._moment_s()
        self.say()

    def _end(self, verdict: str, code: str | None) -> None:
        self.phase, self.verdict, self.code = "idle", verdict, code
        self.drive()

    def _moment_s(self) -> float:
        return self._pace_s * self._dice.uniform(0.5, 1.5)

    # --- what it says -------------------------------------------------------------------------------

    def say_hello(self) -> None:
        self.greeted = True
        self.retain(self.tree.status, b"online")
        models = [{"name": MODEL, "state": "serving", "version": self.versions[self.active]}]
        info = {"edged": "0.1.0", "device": self.name, "groups": self.groups, "models": models, "flags": []}
        self.retain(self.tree.info, json.dumps(info).encode())
        self.say()

    def say(self) -> None:
        self.retain(self.tree.install(MODEL), json.dumps(self.status()).encode())

    def status(self) -> dict[str, Any]:
        order, going = self.order, self.phase in STEPS
        return {
            "phase": self.phase,
            "verdict": self.verdict,
            "code": self.code,
            "message": "",
            "hint": "",
            "active": self._version(self.active),
            "previous": self._version(self.previous) if self.previous != self.active else None,
            "candidate": self._version(self.about) if going else None,
            "push": {"version": self.versions.get(self.about, ""), "sha256": "", "release": self.about},
            "want": None
            if order is None
            else {"release": order.release, "version": str(order.version), "epoch": order.epoch, "seq": order.seq},
            "replays": self.replays,
            "flags": [],
        }

    def _version(self, release: str) -> dict[str, str]:
        return {"version": self.versions.get(release, ""), "sha256": release[::-1], "release": release}

    @property
    def wanted_topics(self) -> list[str]:
        """Where it listens."""
        whom = ["all", *(f"group/{group}" for group in self.groups), f"device/{self.name}"]
        return [Ota(self.tree.base).want(MODEL, one) for one in whom]


class Memory:
    """Devices and a broker in memory, with a clock of its own: what fleet/broker.py is to a rollout.

    `crash` is called before and after each thing that is done to the broker, and may raise.
    """

    def __init__(self, count: int, trust: Trust, *, base: str = "edged", pace_s: float = 1.0) -> None:
        self.base: Final = base
        self.kept: dict[str, bytes] = {}
        self.clock_s = 1_700_000_000.0
        self.devices: dict[str, Device] = {}
        self.crash: Callable[[str], None] = lambda _: None
        self.history: list[bytes] = []
        self._trust = trust
        self._pace_s = pace_s
        self._judged: dict[bytes, bool] = {}
        for number in range(count):
            self.add(f"box-{number:04}", ["half"] if number % 2 else [])

    def add(self, name: str, groups: Sequence[str] = ()) -> Device:
        device = Device(name, groups, self._trust, self.base, self._pace_s, lambda: self.clock_s, self.now_ms)
        self.devices[name] = device
        self.connect(device)
        return device

    def connect(self, device: Device) -> None:
        device.retain = self.kept.__setitem__
        device.say_hello()
        for topic in device.wanted_topics:
            if topic in self.kept:
                device.on_message(topic, self.kept[topic])

    def cut(self, device: Device) -> None:
        """Its power goes; the broker says so."""
        device.retain = lambda *_: None
        self.kept[device.tree.status] = b"offline"

    def now_ms(self) -> int:
        return int(self.clock_s * 1000)

    def read(self, model: str = "+") -> Fleet:
        self.crash("read")
        return self.now()

    def now(self) -> Fleet:
        return build(self.kept, self.base, counts=self._counts)

    def bring(self, topic: str, payload: bytes) -> None:
        self.crash("before")
        self.kept[topic] = payload
        self.history.append(payload)
        for device in self.devices.values():
            if topic in device.wanted_topics and self.kept.get(device.tree.status) == b"online":
                device.on_message(topic, payload)
        self.crash("after")

    def wait(self, limit_s: float) -> None:
        self.crash("wait")
        until_s = self.clock_s + limit_s
        while self.clock_s < until_s:
            self.clock_s = min(until_s, self.clock_s + self._pace_s / 2)
            for device in self.devices.values():
                if self.kept.get(device.tree.status) == b"online":
                    device.tick()

    def again(self, attempt: int) -> None:
        self.crash("again")

    def running(self, release: str) -> set[str]:
        return {one.name for one in self.devices.values() if one.active == release}

    def _counts(self, content: bytes) -> bool:
        if content not in self._judged:
            try:
                self._judged[content] = bool(trusts.order(self._trust, content))
            except EdgedError:
                self._judged[content] = False
        return self._judged[content]
