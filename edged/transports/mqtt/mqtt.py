"""MQTT as the rest of the daemon sees it: inputs in, results out, states kept, pushes handed on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from edged.config import addresses, schema
from edged.messages import Admission, Input
from edged.topics import Tree
from edged.transports.mqtt.backlog import maker
from edged.transports.mqtt.clocks import CLOCKS, Clocks
from edged.transports.mqtt.counts import Counts, Facts
from edged.transports.mqtt.desk import Recipient
from edged.transports.mqtt.dialer import Dialer, packet_limit
from edged.transports.mqtt.ends import End
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.intake import Intake
from edged.transports.mqtt.link import Link
from edged.transports.mqtt.lookout import Lookout
from edged.transports.mqtt.namesake import Machine, other
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.outlet import Outlet
from edged.transports.mqtt.packets import Greeting
from edged.transports.mqtt.pushes import Pushes, largest
from edged.transports.mqtt.requests import Ask, Requests, nobody
from edged.transports.mqtt.results import Results
from edged.transports.mqtt.subscriber import Subscriber
from edged.transports.mqtt.subscriptions import Subscription
from edged.transports.mqtt.waiting import FULL

_log = logging.getLogger(__name__)
_GOODBYE_S: Final = 2.0


class Mqtt:
    """The transport. Everything is called in the loop, and calls back there.

    `own` tells this machine from another one of its name.
    `offer` is the router's, which later tells `on_room`; `recipient` is delivery's, for pushes and
    what `courier` listens to; `ask` does what requests to this box, to `groups` and to all
    boxes ask for; `dropped(model, reason)` counts an input or result that was not served, `bug()` a fault of
    edged itself. `folder` is for what has to wait for the broker, None: in memory.
    """

    def __init__(
        self,
        settings: schema.Mqtt,
        tree: Tree,
        models: Sequence[schema.Model],
        own: Machine,
        *,
        offer: Callable[[Input], Admission],
        push: schema.Push,
        recipient: Recipient,
        dropped: Callable[[str, str], None],
        bug: Callable[[], None],
        groups: Sequence[str] = (),
        ask: Ask = nobody,
        clocks: Clocks = CLOCKS,
        folder: Path | None = None,
    ) -> None:
        self._settings = settings
        self._tree = tree
        self._dropped = dropped
        self._bug = bug
        self._urls = tuple(addresses.broker(url).url for url in settings.url)
        self._served = ""  # by the broker of this URL, now or before
        self._leaving: asyncio.Task[None] | None = None
        self._own = own
        self._info = b""
        self._counts = Counts()
        kept = maker(folder, settings.outbox, dropped=self._counts.drop, clocks=clocks)
        self._outlet = Outlet(lambda: self._link.wire, tree.status, self._counts, kept)
        self._rooms: set[str] = set()
        self._name = settings.client_id or f"edged-{tree.device}"
        self._largest = _largest(models, push)
        dialer = self._dialer()
        self._lookout = Lookout(dialer, tree, own)
        self._link = Link(dialer, self._lookout, self, clocks.now_s)
        self._models = frozenset(model.name for model in models)
        self._results = self._make_results(models, clocks)
        self._intake = Intake(
            tree,
            models,
            groups,
            results=self._results,
            offer=offer,
            acknowledge=self._acknowledge,
            dropped=self._drop,
            bug=bug,
            reading=self,
            later=lambda delay_s, call: asyncio.get_running_loop().call_later(delay_s, call),
            clocks=clocks,
        )
        self._requests = self._make_requests(groups, ask, clocks)
        self._pushes = self._make_pushes(models, push, recipient, clocks)
        self._subscriber = Subscriber(
            lambda: self._link.wire,
            *self._topics(),
            aboard=self._pushes.aboard,
            opened=self._outlet.opened,
            clock=clocks.now_s,
        )

    def _make_results(self, models: Sequence[schema.Model], clocks: Clocks) -> Results:
        return Results(
            self._tree,
            models,
            publish=self._outlet.publish,
            acknowledge=self._acknowledge,
            packet_limit=lambda: self._outlet.packet_limit,
            dropped=self._drop,
            clocks=clocks,
        )

    def _make_requests(self, groups: Sequence[str], ask: Ask, clocks: Clocks) -> Requests:
        return Requests(
            self._tree,
            groups,
            ask,
            publish=self._outlet.publish,
            packet_limit=lambda: self._outlet.packet_limit,
            dropped=self._counts.drop,
            bug=self._bug,
            clock=clocks.now_s,
        )

    def _make_pushes(
        self, models: Sequence[schema.Model], push: schema.Push, recipient: Recipient, clocks: Clocks
    ) -> Pushes:
        return Pushes(
            self._settings,
            self._tree,
            models,
            push,
            recipient,
            publish=self._outlet.publish,
            changed=self.turn,
            drop=self._counts.drop,
            clock=clocks.now_s,
        )

    # --- for the daemon ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Returns at once; connecting goes on for as long as it takes."""
        self._outlet.start()
        self.retain(self._tree.status, b"online")
        self._link.start()
        self._pushes.start(lambda: not self._link.namesake)

    def adopt(
        self,
        models: Sequence[schema.Model],
        groups: Sequence[str],
        push: schema.Push,
        renumbered: Callable[[Input], Input],
    ) -> None:
        """Other models, or other settings of theirs, from this turn on; the subscriptions follow.

        `renumbered` is asked about inputs that wait for room. A larger `limits.message` than the broker was
        told at the connect needs another one: QoS 1 inputs of the moment between wait in the session.
        """
        self._models = frozenset(model.name for model in models)
        self._intake.adopt(models, groups, renumbered)
        self._requests.groups = tuple(groups)
        self._results.adopt(models)
        self._subscriber.adopt(*self._topics())
        self._pushes.adopt(models, push)
        if (largest := _largest(models, push)) > self._largest:
            self._largest = largest
            self._link.redial(self._dialer())

    def stop_taking(self) -> None:
        """From now on no input is taken; answers of earlier ones still go out."""
        self._intake.close()
        self._requests.stop()

    async def stop(self) -> None:
        """Sends what waits and `offline`, 2 s at most, then says goodbye.

        Unacknowledged inputs stay with the broker, if the session is kept.
        """
        self.stop_taking()
        if self._link.wire is not None:
            self._outlet.retain(self._tree.status, b"offline")
            await self._outlet.drained(_GOODBYE_S)
        await asyncio.gather(self._link.stop(), self._pushes.stop())
        await self._outlet.stop()

    def retain(self, topic: str, payload: bytes) -> None:
        """A retained state at QoS 1: published now or at the next connect, and again at each one."""
        if topic == self._tree.info:
            self._info = payload
        self._outlet.retain(topic, payload)
        self._pushes.retain(topic, payload)

    def publish(self, topic: str, payload: bytes, qos: int) -> None:
        """A message that is not retained. QoS 0 is dropped while there is no connection."""
        self._outlet.publish(Publication(topic, payload, qos))
        self._pushes.tell(topic, payload)

    @property
    def courier(self) -> Pushes:
        """`listen` and `need` of delivery's Courier."""
        return self._pushes

    def also(self, item: Input) -> Input:
        """An input of another transport, whose result is published besides where `output.from` says so."""
        return self._results.also(item)

    def on_room(self, model: str) -> None:
        """The lane of `model` has room again; what waited is offered in the next turn of the loop."""
        if model not in self._rooms:
            self._rooms.add(model)
            asyncio.get_running_loop().call_soon(self._offer_again, model)

    def alive(self) -> bool:
        """Whether MQTT is served, or a connect is under way or scheduled (RULES 8)."""
        return self._link.alive() and self._pushes.alive()

    def facts(self) -> Facts:
        wire = self._link.wire
        return Facts(
            connected=self._subscriber.open,
            version=self._link.version if wire is not None else "",
            url=self._link.broker.url,
            urls=self._urls,
            since_ms=self._link.since_ms,
            reconnects=max(0, self._link.connects - 1),
            published=self._counts.published,
            downgraded=self._counts.downgraded,
            queued=len(self._outlet),
            outbox=self._outlet.stored,
            waiting=len(self._intake.room),
            dropped=dict(self._counts.dropped),
            refused=self._subscriber.refused,
            quarantined=self._subscriber.quarantined,
            last_error=self._link.last_error,
            namesake=self._link.namesake,
            pushes_connected=self._pushes.connected,
            pushes_url=self._pushes.url,
            pushes_refused=self._pushes.refused,
        )

    # --- what the connection tells (link.Owner) -------------------------------------------------------

    def up(self, said: Greeting) -> None:
        url = self._link.broker.url
        # What another broker still holds does not come again from this one.
        self._intake.connected(said.number, session_present=said.session_present and url == self._served)
        self._served = url
        self._pushes.follow(self._link.broker, said.version)
        for model in self._lookout.models - self._models:
            # It was taken out of the configuration while nobody was there to say so.
            for topic in (self._tree.model_status(model), self._tree.install(model)):
                self.retain(topic, b"")
        self._subscriber.up(said, self._lookout.filters)

    def down(self, end: End) -> None:
        self._pushes.hold()
        self._outlet.lost(end)
        self._subscriber.down(end)

    def waits(self) -> None:
        self._pushes.let_go()

    def leave(self) -> None:
        self._leaving = asyncio.create_task(self._leave())
        self._leaving.add_done_callback(_raise)

    async def _leave(self) -> None:
        """Nobody is to think that this box is still online here."""
        self._outlet.retain(self._tree.status, b"offline")
        await self._outlet.drained(_GOODBYE_S)
        await self._link.leave()
        self._outlet.retain(self._tree.status, b"online")  # for the next one

    def message(self, came: Arrival) -> None:
        if not came.topic:
            self._counts.drop("bad_topic")
            if came.qos:
                self._acknowledge(came.number, came.mid)
            return
        verb = self._requests.verb(came.topic)
        if came.topic == self._tree.info:
            self._same_name(came)
        elif (pushed := self._pushes.aboard.take(came)) is not None:
            pushed()
            if came.qos:
                self._acknowledge(came.number, came.mid)
        elif verb is None:
            self._intake.take(came)
        else:
            if came.qos:
                self._acknowledge(came.number, came.mid)
            self._requests.take(came, verb)

    def _same_name(self, came: Arrival) -> None:
        """Two of one name that came online at one moment saw nobody before: one of them gives way, always the same."""
        if came.qos:
            self._acknowledge(came.number, came.mid)
        seen = other(came.payload)
        if came.retain or seen.instance in ("", self._own.instance):
            return
        if seen.instance < self._own.instance:
            _log.warning("%s came online as %s at the same moment: giving way", seen.shown, self._tree.device)
            self._link.give_way()
        else:
            self._outlet.retain(self._tree.info, self._info)  # so that the other one sees us

    def confirmed(self, mid: int, refusal: str) -> None:
        self._outlet.confirmed(mid, refusal)

    def subscribed(self, mid: int, refusals: Sequence[str]) -> None:
        self._subscriber.answered(mid, refusals)

    def turn(self) -> None:
        self._subscriber.turn()
        self._outlet.pump()

    def pause_ended(self) -> None:
        self._intake.pause_ended()

    def bug(self) -> None:
        self._bug()

    # --- what intake and results ask for ----------------------------------------------------------

    def pause(self) -> None:
        if self._link.wire is not None:
            self._link.wire.pause()

    def resume(self) -> None:
        if self._link.wire is not None:
            self._link.wire.resume()

    def _acknowledge(self, number: int, mid: int) -> None:
        wire = self._link.wire
        # On another connection the same packet identifier is a stranger's (measured).
        if wire is not None and wire.number == number:
            wire.acknowledge(mid)

    def _drop(self, model: str, reason: str) -> None:
        self._counts.drop(reason)
        if reason != "error_rate":  # an error message was withheld; its input is counted already
            self._dropped(model, reason)

    def _offer_again(self, model: str) -> None:
        self._rooms.discard(model)
        self._intake.on_room(model)

    def _topics(self) -> tuple[Sequence[Subscription], Sequence[Subscription]]:
        """Own ones, and those that a broker may forbid."""
        inputs = self._intake.inputs
        return (Subscription(self._tree.info, 1), *inputs.own), inputs.foreign

    def _dialer(self) -> Dialer:
        session, limit = round(self._settings.session), packet_limit(self._largest)
        return Dialer(self._settings, self._name, session, limit, FULL, will=self._tree.status, manual_ack=True)


def _raise(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


def _largest(models: Sequence[schema.Model], push: schema.Push) -> int:
    """Bytes of the largest payload that is taken."""
    return max(largest(push), *(int(model.limits.message) for model in models), 0)
