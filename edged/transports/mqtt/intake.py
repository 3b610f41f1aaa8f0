"""A message on its way in: checked, wrapped as an Input, offered, and kept when the lane has no room (RULES 19)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol

from edged.config import schema
from edged.errors import Fault, fault
from edged.messages import Admission, Input, Source
from edged.topics import Tree, is_name
from edged.transports.mqtt.inputs import Arrival, Inputs, Target, answerable
from edged.transports.mqtt.results import Receipt, Results, Sender
from edged.transports.mqtt.waiting import WaitingRoom

_log = logging.getLogger(__name__)
_RETAINED: Final = 1024  # topics whose retained value is remembered


class Reading(Protocol):
    """The connection's reading, as far as a full room needs it."""

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class Intake:
    """Everything between the connection and the lanes.

    `offer` is the router's; `acknowledge(number, mid)` tells the broker; `dropped(model, reason)`
    counts, `bug()` a fault of our own. Reading pauses while the room is full; when the connection ends the pause
    (`pause_ended`), what comes is dropped as `flood` until there is room.
    """

    def __init__(
        self,
        tree: Tree,
        models: Sequence[schema.Model],
        *,
        results: Results,
        offer: Callable[[Input], Admission],
        acknowledge: Callable[[int, int], None],
        dropped: Callable[[str, str], None],
        bug: Callable[[], None],
        reading: Reading,
        clock: Callable[[], float] = time.monotonic,
        wall_ms: Callable[[], int],
    ) -> None:
        self._tree = tree
        self._models = {model.name: model for model in models}
        self.inputs = Inputs(tree, models)
        self.room = WaitingRoom()
        self._results = results
        self._offer = offer
        self._acknowledge = acknowledge
        self._dropped = dropped
        self._bug = bug
        self._reading = reading
        self._clock = clock
        self._wall_ms = wall_ms
        self._retained: dict[str, int] = {}
        self._flooding = False
        self._closed = False

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
                self._ignore(arrival)
            receipt = Receipt(arrival, left=len(targets))
            for target in targets:
                self._admit(arrival, target, receipt)
        except Exception:  # noqa: BLE001  logged and counted
            # What a sender wrote must never end the daemon (RULES 23): the bug is logged and counted, the
            # message acknowledged so that it does not come back for ever.
            _log.exception("a message on %s could not be taken", arrival.topic)
            self._bug()
            self._ignore(arrival)

    def _is_old(self, arrival: Arrival) -> bool:
        """A retained request is never run; a retained reading is, unless it is the one already taken.

        One that comes again was not acknowledged: it may have been in the room that its connection's end cleared.
        """
        if not arrival.retain:
            return False
        if arrival.topic.startswith(f"{self._tree.root}/"):
            return True
        mark = hash(arrival.payload)
        if self._retained.get(arrival.topic) == mark and not arrival.again:
            return True
        if len(self._retained) >= _RETAINED:
            self._retained.clear()
        self._retained[arrival.topic] = mark
        return False

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
        try:
            output = self._results.output(target, response)
        except ValueError as error:
            reason = f"its topic's levels make no output topic: {error}"
        sender = Sender(arrival, target, receipt, self._clock(), self._wall_ms(), output, response)
        if reason:
            self._refuse(sender, fault("bad_input", reason))
        elif len(arrival.payload) > model.limits.message:
            size = f"{len(arrival.payload)} bytes; limits.message is {model.limits.message}"
            self._refuse(sender, fault("input_too_large", size))
        else:
            self._put(arrival.number, self._input(model, sender))

    def _refuse(self, sender: Sender, problem: Fault) -> None:
        self._dropped(sender.target.model, problem.code)
        self._results.settle(sender, problem)

    def _input(self, model: schema.Model, sender: Sender) -> Input:
        arrival, target = sender.arrival, sender.target
        deadline = model.queue.deadline
        return Input(
            model=target.model,
            payload=arrival.payload,
            source=Source.MQTT_QOS1 if arrival.qos else Source.MQTT_QOS0,
            reply=partial(self._results.settle, sender),
            arrived_s=sender.arrived_s,
            arrived_ms=sender.arrived_ms,
            deadline_s=None if deadline is None else sender.arrived_s + deadline,
            id=target.id,
            stream=arrival.topic,
            form=target.form,
            content_type=arrival.content_type,
        )

    def _put(self, number: int, item: Input) -> None:
        overtakes = item.source is Source.MQTT_QOS1 and self.room.holds(item.model)
        if overtakes or self._offer(item) is Admission.BLOCKED:
            self._wait(number, item)

    def _wait(self, number: int, item: Input) -> None:
        if self.room.overfull or (self._flooding and self.room.full):
            self._dropped(item.model, "flood")
            item.reply(fault("queue_full", f"{len(self.room)} inputs wait already"))
            return
        self.room.add(number, item)
        if self.room.full and not self._flooding:
            self._reading.pause()

    def on_room(self, model: str) -> None:
        """The lane of `model` has room again."""
        while (item := self.room.first(model)) is not None:
            if self._offer(item) is Admission.BLOCKED:
                break
            self.room.leave(model)
        self._eased()

    def pause_ended(self) -> None:
        """Reading could not be paused any longer: from now on what has no room is dropped."""
        self._flooding = self.room.full

    def connected(self, number: int, *, session_present: bool) -> None:
        """A new connection. With a kept session the broker sends again what was not acknowledged."""
        if session_present:
            self.room.forget(number)
        self._eased()

    def _eased(self) -> None:
        if not self.room.full:
            self._flooding = False
            self._reading.resume()
