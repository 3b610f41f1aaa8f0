"""Carries a rollout from wave to wave. It keeps nothing: killed at any point and begun again, it goes on.

Everything is read from the broker and decided by waves.py each time. A halt has to be seen twice, because a box may
say of the new want what it said of the one before.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from edged.delivery.documents import Want
from edged.errors import EdgedError
from edged.fleet import ordering, waves
from edged.fleet.ordering import Sign
from edged.fleet.view import Fleet
from edged.fleet.waves import End, Plan, Publish, Step, Target, Wait
from edged.topics import Ota
from edged.transports.mqtt.retained import Lost

_LOOK_TWICE_S: Final = 5.0
_READ_S: Final = 60.0  # after so long all is read anew
_AWAY_S: Final = 3600.0  # how long a broker may be away; the command can be begun again at any time
_GATHERED_S: Final = 600.0  # how long its boxes may take after it


class Broker(Protocol):
    """What is asked of broker.py."""

    @property
    def base(self) -> str: ...
    def read(self, model: str = "+") -> Fleet: ...
    def now(self) -> Fleet: ...
    def bring(self, topic: str, payload: bytes) -> None: ...
    def wait(self, limit_s: float) -> None: ...
    def again(self, attempt: int) -> None: ...


class Conductor:
    """`want` says what goes where, but for its place, times and percent. `say` gets lines for people."""

    def __init__(
        self,
        broker: Broker,
        want: Want,
        plan: Plan,
        sign: Sign,
        say: Callable[[str], None],
        *,
        retry: bool = False,
        every_s: float = 10.0,
        lives_s: float = ordering.LIVES_S,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self._broker: Final = broker
        self._want: Final = want
        self._target: Final = Target(want.model, want.to, want.release)
        self._plan: Final = plan
        self._sign: Final = sign
        self._say: Final = say
        self._retry: Final = retry
        self._every_s: Final = every_s
        self._lives_s: Final = lives_s
        self._now_ms: Final = now_ms
        self._fresh = True
        self._halting = False
        self._said = ""
        self._read_s = -_READ_S
        self._known = 0
        self._laid: tuple[bytes, bytes] | None = None

    def run(self) -> End:
        """Until the rollout has ended, or must not go on. Raises EdgedError."""
        while True:
            try:
                end = self._look_and_act()
            except Lost as lost:
                self._tell(f"{lost.fault.message}; trying again")
                self._reconnect()
            else:
                if end is not None:
                    return end

    def _look_and_act(self) -> End | None:
        fleet, step = self._look()
        if isinstance(step, End):
            return step
        if isinstance(step, Wait):
            self._fresh = self._halting = False
            self._tell(self._waiting(step))
            self._broker.wait(min(self._every_s, step.left_s or self._every_s))
        elif step.pause and not self._halting:
            self._halting = True
            self._broker.wait(min(self._every_s, _LOOK_TWICE_S))
        else:
            self._publish(fleet, step)
        return None

    def _look(self) -> tuple[Fleet, Step]:
        """The fleet and what comes next. Nothing is done about messages alone that came meanwhile: some may be lost."""
        if time.monotonic() < self._read_s + _READ_S:
            fleet = self._broker.now()
            if isinstance(step := self._step(fleet), Wait):
                return fleet, step
        fleet = self._restored(self._read())
        return fleet, self._step(fleet)

    def _read(self) -> Fleet:
        """All of it. A broker that came back empty hears of its boxes one after the other: they are waited for, or a
        wave would be through because a few are.
        """
        given_up_s = time.monotonic() + _GATHERED_S
        while True:
            fleet = self._broker.read(self._target.model)
            self._read_s = time.monotonic()
            for note in fleet.incomplete:
                self._tell(f"the picture may be incomplete: {note}")
            known = len(waves.members(fleet, self._target))
            if 10 * known >= 9 * self._known or time.monotonic() > given_up_s:
                self._known = known
                return fleet
            self._tell(f"the broker knows of {known} boxes and knew of {self._known}: they are waited for")
            self._broker.wait(self._every_s)

    def _step(self, fleet: Fleet) -> Step:
        return waves.step(fleet, self._target, self._plan, self._now_ms(), fresh=self._fresh, retry=self._retry)

    def _publish(self, fleet: Fleet, step: Publish) -> None:
        rollout = msgspec.structs.replace(self._want.rollout, percent=step.percent, salt=step.salt, pause=step.pause)
        template = msgspec.structs.replace(self._want, rollout=rollout, retry=step.retry)
        want, undo = ordering.draw(fleet, template, self._now_ms(), self._lives_s)
        self._tell(step.why)
        self._read_s = -_READ_S
        self._laid = ordering.publish(Ota(self._broker.base), want, undo, self._sign, self._broker.bring)
        self._fresh = self._halting = False

    def _restored(self, fleet: Fleet) -> Fleet:
        """A broker that has lost everything gets the order again, as it was; the fleet with it."""
        model, to = self._target.model, self._target.to
        want = next((one for one in fleet.wants if (one.model, one.to) == (model, to)), None)
        undo = next((one for one in fleet.undos if (one.model, one.to) == (model, to)), None)
        if want is not None and undo is not None:
            self._laid = undo.content, want.content
        elif want is None and self._laid is not None:
            self._tell("the broker has lost the order: it is laid down again")
            ota = Ota(self._broker.base)
            for topic, content in zip((ota.undo(model, to), ota.want(model, to)), self._laid, strict=True):
                self._broker.bring(topic, content)
            return self._read()
        return fleet

    def _reconnect(self) -> None:
        """Raises EdgedError when the broker has been away for too long."""
        given_up_s = time.monotonic() + _AWAY_S
        for attempt in itertools.count():
            try:
                self._broker.again(attempt)
            except EdgedError as error:
                if error.fault.code != "broker" or time.monotonic() > given_up_s:
                    raise
            else:
                break
        self._read_s = -_READ_S

    def _waiting(self, step: Wait) -> str:
        if not step.left_s:
            return f"{step.wave}: {step.why}"
        until = time.strftime("%H:%M:%S", time.localtime(self._now_ms() / 1000 + step.left_s))
        return f"{step.wave}: soaks until {until}"

    def _tell(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._say(text)
