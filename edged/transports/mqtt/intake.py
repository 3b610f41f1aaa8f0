"""A message on its way in: checked, wrapped as an Input, offered, and kept when the lane has no room (RULES 19)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

import msgspec

from edged.config import schema
from edged.errors import Fault, fault
from edged.messages import JOINED, Admission, Input, Outcome, Source, Value, pack
from edged.topics import Tree, is_name
from edged.transports.mqtt.allowance import Allowance
from edged.transports.mqtt.clocks import CLOCKS, Clocks
from edged.transports.mqtt.inputs import Arrival, Inputs, Target, answerable
from edged.transports.mqtt.joining import Joined, Joiner, Owed, Part
from edged.transports.mqtt.results import Receipt, Results, Sender
from edged.transports.mqtt.waiting import WaitingRoom

_log = logging.getLogger(__name__)
_SWEEP_S: Final = 1.0  # how often it is looked who waits for a partner in vain
_WHY_GONE: Final = {
    "replaced": "a newer value came before its partners did",
    "no_partner": "the values of the model's other inputs did not come in time",
}
_TOPIC_HINT: Final = "docs/mqtt-api.md says which topics, ids and response topics there are."
_REMEMBERED: Final = 1024  # topics whose retained value is remembered, and as many whose newest one is
_HASHED: Final = 2**20  # bytes of a newest value that is: the loop hashes them in half a millisecond


class Reading(Protocol):
    """The connection's reading, as far as a full room needs it."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Intake:
    """Everything between the connection and the lanes.

    `offer` is the router's; `acknowledge(number, mid)` tells the broker; `dropped(model, reason)`
    counts, `bug()` a fault of our own; `later(delay_s, call)` calls back once. Reading pauses while the
    room is full; when the connection ends the pause (`pause_ended`), what comes is dropped as `flood`
    until there is room.
    """

    def __init__(
        self,
        tree: Tree,
        models: Sequence[schema.Model],
        groups: Sequence[str] = (),
        *,
        results: Results,
        offer: Callable[[Input], Admission],
        acknowledge: Callable[[int, int], None],
        dropped: Callable[[str, str], None],
        bug: Callable[[], None],
        reading: Reading,
        clocks: Clocks = CLOCKS,
        later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self._tree = tree
        self._models = {model.name: model for model in models}
        self.inputs = Inputs(tree, models, groups)
        self.room = WaitingRoom()
        self._results = results
        self._offer = offer
        self._acknowledge = acknowledge
        self._dropped = dropped
        self._bug = bug
        self._reading = reading
        self._clock = clocks.now_s
        self._wall_ms = clocks.wall_ms
        self._clock_synced = clocks.synced
        self._rates = _rates(models)
        self._owed = Owed()
        self._joiners = {model.name: Joiner(model, self._owed) for model in models if model.joined}
        self._later = later
        self._sweep: object = None
        self._retained: dict[int, int] = {}  # hashes: of topics and the subscription, and of values
        self._newest: dict[int, int] = {}  # the same of what came as it was published
        self._flooding = False
        self._closed = False

    def adopt(
        self, models: Sequence[schema.Model], groups: Sequence[str], renumbered: Callable[[Input], Input]
    ) -> None:
        """Other models, or other settings of theirs; what waits in the room is `renumbered`.

        Values that wait for a partner under other inputs have none any more.
        """
        before = self._models
        same = {one.name for one in models if one.name in before and before[one.name].inputs == one.inputs}
        if len(same) < len(models):  # whoever is new wants what the broker keeps, which comes with a new filter
            self._retained.clear()
            self._newest.clear()
        for name in self._joiners.keys() - same:
            self._joined(self._joiners[name].sweep(float("inf")))
        self._joiners = {
            one.name: self._joiners[one.name] if one.name in same else Joiner(one, self._owed)
            for one in models
            if one.joined
        }
        self._models = {model.name: model for model in models}
        self._rates = _rates(models)
        self.inputs = Inputs(self._tree, models, groups, self.inputs)
        self.room.replace(renumbered)

    def close(self) -> None:
        """Takes nothing more: what comes stays unacknowledged, so a kept session brings it back."""
        self._closed = True

    def take(self, arrival: Arrival) -> None:
        """One message. Every QoS 1 message is acknowledged sooner or later, whatever becomes of it."""
        if self._closed:
            return
        try:
            targets = [] if self._is_old(arrival) else self.inputs.targets(arrival.topic, arrival.identifiers)
            if not targets:
                self._turn_away(arrival)
            receipt = Receipt.of(arrival, left=len(targets))
            for target in targets:
                self._admit(arrival, target, receipt)
        except Exception:  # noqa: BLE001  logged and counted
            # What a sender wrote must never end the daemon (RULES 23): the bug is logged and counted, the
            # message acknowledged so that it does not come back for ever.
            _log.exception("a message on %s could not be taken", arrival.topic)
            self._bug()
            self._ignore(arrival)

    def _is_old(self, arrival: Arrival) -> bool:
        """A retained request is never run; a retained reading is, unless it is the one already taken, however it came.

        A broker of 3.1.1, or without the session, sends it again at each connection, hours later perhaps.
        One that comes again was not acknowledged: it may have been in the room that its connection's end cleared.
        """
        if arrival.topic.startswith(f"{self._tree.root}/"):
            return arrival.retain
        if not arrival.retain and len(arrival.payload) > _HASHED:
            return False
        # Of a topic that two subscriptions take each has a copy of its own.
        topic, mark = hash((arrival.topic, arrival.identifiers)), hash(arrival.payload)
        if arrival.retain and not arrival.again and mark in (self._retained.get(topic), self._newest.get(topic)):
            return True
        kept = self._retained if arrival.retain else self._newest
        if len(kept) >= _REMEMBERED:
            kept.clear()
        kept[topic] = mark
        return False

    def _turn_away(self, arrival: Arrival) -> None:
        """A message that no model takes: answered where one did before the settings changed."""
        orphans = [] if arrival.retain else self.inputs.orphans(arrival.topic)
        if not orphans:
            self._ignore(arrival)
        receipt = Receipt.of(arrival, left=len(orphans))
        for target in orphans:
            response = arrival.response_topic
            response = "" if answerable(self._tree, response) else response
            told = target if is_name(target.id) else Target(target.model, -1, {})
            sender = Sender(arrival, told, receipt, self._clock(), self._wall_ms(), "", response)
            problem = fault("unknown_model", f"{arrival.topic} is no input of {target.model} any more")
            self._refuse(sender, problem)

    def _ignore(self, arrival: Arrival) -> None:
        if arrival.qos:
            self._acknowledge(arrival.number, arrival.mid)

    def _admit(self, arrival: Arrival, target: Target, receipt: Receipt) -> None:
        model = self._models[target.model]
        response, output, reason = arrival.response_topic, "", ""
        if response and (reason := answerable(self._tree, response)):
            response = ""
        if target.id and not is_name(target.id):
            target = Target(target.model, target.form, target.levels)
            reason = "an id has 1 to 64 letters, digits, _ and -"
        joiner = self._joiners.get(target.model) if target.form >= 0 else None
        try:
            if joiner is None or model.inputs[target.form].hold is None:  # no answer is a held value's own
                output = self._results.output(target, response)
        except ValueError as error:
            reason = f"its topic's levels make no output topic: {error}"
        sender = Sender(arrival, target, receipt, self._clock(), self._wall_ms(), output, response)
        if reason:
            self._refuse(sender, fault("bad_input", reason, _TOPIC_HINT))
        elif (size := len(arrival.payload) + arrival.left_out) > model.limits.message:
            text = f"{size} bytes; limits.message is {model.limits.message}"
            self._refuse(sender, fault("input_too_large", text))
        elif (rate := self._rates.get((target.model, target.form))) and not rate.take(arrival.topic, sender.arrived_s):
            self._refuse(sender, fault("rate_limited", f"{arrival.topic} comes above its max_rate"))
        elif joiner is not None:
            part = Part(sender, self._oldest_ms(model.inputs[target.form], sender))
            self._joined(joiner.take(part, sender.arrived_s))
        else:
            self._put(arrival.number, self._input(model, sender))

    def _refuse(self, sender: Sender, problem: Fault) -> None:
        self._dropped(sender.target.model, problem.code)
        self._results.settle(sender, problem)

    def _input(self, model: schema.Model, sender: Sender) -> Input:
        arrival, target = sender.arrival, sender.target
        deadline = model.queue.deadline
        entry = model.inputs[target.form] if target.form >= 0 else None
        return Input(
            model=target.model,
            payload=arrival.payload,
            source=Source.MQTT_QOS1 if arrival.qos else Source.MQTT_QOS0,
            reply=partial(self._results.settle, sender),
            arrived_s=sender.arrived_s,
            arrived_ms=sender.arrived_ms,
            deadline_s=None if deadline is None else sender.arrived_s + deadline,
            id=target.id,
            # Somebody waits for the answer to a request: it is no reading that a newer one replaces.
            stream="" if target.id or sender.response_topic else arrival.topic,
            form=target.form,
            content_type=arrival.content_type,
            max_age_s=None if entry is None else entry.max_age,
            memory=_number(arrival.topic) if entry is not None and entry.form.missing == "last" else 0,
            stamped=entry is not None and bool(entry.form.time) and self._clock_synced(),
        )

    # --- inputs that run together (RULES 16) ----------------------------------------------------------

    def _oldest_ms(self, entry: schema.Input, sender: Sender) -> int:
        if entry.max_age is None or not (entry.form.time and self._clock_synced()):
            return 0
        return max(0, sender.arrived_ms - round(entry.max_age * 1000))

    def _joined(self, joined: Joined) -> None:
        for receipt in joined.settled:
            self._results.done(receipt)
        for part, code in joined.gone:
            self._refuse(part.sender, fault(code, _WHY_GONE[code]))
        for parts in joined.met:
            self._put(parts[-1].sender.arrival.number, self._together(parts))
        if self._sweep is None and any(map(len, self._joiners.values())):
            self._sweep = self._later(_SWEEP_S, self._swept)

    def _swept(self) -> None:
        self._sweep = None
        for joiner in self._joiners.values():
            self._joined(joiner.sweep(self._clock()))

    def _together(self, parts: Sequence[Part]) -> Input:
        """One input of several messages: the answer is the newest's, and acknowledges all of them."""
        newest = parts[-1].sender
        model = self._models[newest.target.model]
        senders = [part.sender for part in parts]
        payload = pack(
            [
                Value(part.form, sender.arrival.content_type, part.oldest_ms, sender.arrival.payload)
                for part, sender in zip(parts, senders, strict=True)
            ]
        )

        def settle(outcome: Outcome) -> None:
            self._results.settle(newest, outcome)
            for sender in senders[:-1]:
                self._results.done(sender.receipt)

        limits_s = [
            sender.arrived_s + age_s - newest.arrived_s
            for sender in senders
            if (age_s := model.inputs[sender.target.form].max_age) is not None
        ]
        item = self._input(model, newest)
        return msgspec.structs.replace(
            item,
            payload=payload,
            reply=settle,
            form=JOINED,
            # Of one stream are the values that share their levels, whatever topic the newest came on.
            stream="/".join(value for _, value in sorted(newest.target.levels.items())) or item.model
            if item.stream
            else "",
            max_age_s=min(limits_s, default=None),
            stamped=False,
        )

    # --- admission --------------------------------------------------------------------------------------

    def _put(self, number: int, item: Input) -> None:
        line = item.stream if self._models[item.model].queue.per == "stream" else ""
        overtakes = item.source is Source.MQTT_QOS1 and self.room.holds(item.model, line)
        if overtakes or self._offer(item) is Admission.BLOCKED:
            self._wait(number, item, line)

    def _wait(self, number: int, item: Input, line: str) -> None:
        if self.room.overfull or (self._flooding and self.room.full):
            self._dropped(item.model, "flood")
            item.reply(fault("queue_full", f"{len(self.room)} inputs wait already"))
            return
        self.room.add(number, item, line)
        if self.room.full and not self._flooding:
            self._reading.pause()

    def on_room(self, model: str) -> None:
        """The lane of `model` has room again."""
        for line in self.room.lines(model):
            while (item := self.room.first(model, line)) is not None:
                if self._offer(item) is Admission.BLOCKED:
                    break
                self.room.leave(model, line)
        self._eased()

    def pause_ended(self) -> None:
        """Reading could not be paused any longer: from now on what has no room is dropped."""
        self._flooding = self.room.full

    def connected(self, number: int, *, session_present: bool) -> None:
        """A new connection. With a kept session the broker sends again what was not acknowledged."""
        if session_present:
            self.room.forget(number)
            for joiner in self._joiners.values():
                joiner.forget(number)
        self._eased()

    def _eased(self) -> None:
        if not self.room.full:
            self._flooding = False
            self._reading.resume()


def _rates(models: Sequence[schema.Model]) -> dict[tuple[str, int], Allowance]:
    return {
        (model.name, form): Allowance(one.max_rate)
        for model in models
        for form, one in enumerate(model.inputs)
        if one.max_rate is not None
    }


def _number(topic: str) -> int:
    """A number for a topic, above 0; which one differs from start to start, so that nobody can choose equal ones."""
    return hash(topic) & (2**62 - 1) or 1
