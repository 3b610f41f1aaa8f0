"""Outcome -> what is published where, then the input's acknowledgement (RULES 19)."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from edged.config import schema
from edged.config.steps import ResultFormat
from edged.errors import Fault, as_json, fault
from edged.messages import Answer, Input, Outcome, with_members, with_parameters
from edged.topics import Tree, fill
from edged.transports.mqtt.allowance import Allowance
from edged.transports.mqtt.clocks import CLOCKS, Clocks
from edged.transports.mqtt.inputs import Arrival, Target
from edged.transports.mqtt.kept import Kept
from edged.transports.mqtt.outbox import Publication

_log = logging.getLogger(__name__)
_ERRORS_A_SECOND: Final = 10
# What the configuration asks to leave out is no error of whoever sent it: counted, and told to those who wait for it.
_ASKED_FOR: Final = frozenset({"rate_limited", "replaced", "too_old", "no_partner"})
_SEQUENCES: Final = 4096  # output topics whose `seq` is kept; the least recently used starts again at 1
_WITH_PARAMETERS: Final = frozenset({"oip", "prediction"})  # results that have room for `seq` and the like
_SHOWN: Final = 200  # characters of a topic that an error shows
_JSON: Final = "application/json"
_TEXT: Final = "text/plain"
_BINARY: Final = "application/octet-stream"


class Receipt:
    """One message's acknowledgement: due when the outcome of each model that took it is final.

    Without the message, whose payload must not live for as long as its result waits.
    """

    def __init__(self, number: int, mid: int, *, owed: bool, left: int) -> None:
        self.number = number
        self.mid = mid
        self.owed = owed
        self.left = left

    @classmethod
    def of(cls, arrival: Arrival, left: int) -> Receipt:
        return cls(arrival.number, arrival.mid, owed=arrival.qos > 0, left=left)

    @classmethod
    def settled(cls) -> Receipt:
        """One that nobody waits for."""
        return cls(0, 0, owed=False, left=1)


class Sender(msgspec.Struct, frozen=True, eq=False):
    """Where one input came from, and where its outcome goes: `output` is the result's topic.

    `arrived_s` is monotonic. With `response_topic` result and error go there and nowhere else.
    """

    arrival: Arrival
    target: Target
    receipt: Receipt
    arrived_s: float
    arrived_ms: int
    output: str
    response_topic: str = ""


class Results:
    """Turns outcomes into publications.

    `publish` takes a publication; `acknowledge(number, mid)` an input's; `packet_limit()` is the
    broker's largest packet in bytes; `dropped(model, reason)` counts what is not sent.
    """

    def __init__(
        self,
        tree: Tree,
        models: Sequence[schema.Model],
        *,
        publish: Callable[[Publication], None],
        acknowledge: Callable[[int, int], None],
        packet_limit: Callable[[], int],
        dropped: Callable[[str, str], None],
        clocks: Clocks = CLOCKS,
    ) -> None:
        self._tree = tree
        self._outputs = {model.name: model.output for model in models}
        self._present = {model.name for model in models}
        self._kept = Kept()
        self._publish = publish
        self._acknowledge = acknowledge
        self._packet_limit = packet_limit
        self._dropped = dropped
        self._clock = clocks.now_s
        self._lasting = clocks.lasting_s
        self._wall_ms = clocks.wall_ms
        self._clock_synced = clocks.synced
        self._errors = Allowance(_ERRORS_A_SECOND)
        self._sequences: OrderedDict[int, int] = OrderedDict()  # by the topic's hash: it may have 64 KiB

    def adopt(self, models: Sequence[schema.Model]) -> None:
        """Other settings. What a model that is gone still answers goes where it went, and is not retained there.

        What the broker has of models that are gone, or retain results no more, or elsewhere, is taken back.
        """
        self._outputs.update({model.name: model.output for model in models})
        self._present = {model.name for model in models}
        for topic in self._kept.take_back(self._keeps):
            self._publish(Publication(topic, b"", 1, retain=True))

    def _keeps(self, model: str, template: str) -> bool:
        output = self._outputs[model]
        return model in self._present and output.retain and output.topic == template

    def output(self, target: Target, response_topic: str) -> str:
        """Where an answer goes. Raises ValueError when the input's levels make no topic."""
        template = self._outputs[target.model].topic
        if response_topic or target.form < 0 or not template:
            return response_topic or self._tree.result(target.model, target.id)
        if not target.levels:
            return template
        topic = fill(template, target.levels)
        if reason := self._tree.no_output(topic):  # of a template the configuration could not know
            raise ValueError(f"{topic[:_SHOWN]} {reason}")
        return topic

    def settle(self, sender: Sender, outcome: Outcome) -> None:
        """The final outcome of one input: published, then the input acknowledged."""
        message: Publication | None = None
        try:
            if isinstance(outcome, Answer):
                message = self._result(sender, outcome)
        except Exception:  # noqa: BLE001  the boundary of RULES 23: a worker wrote it, and others wait for theirs
            _log.exception("a result could not be written")
            outcome = fault("internal", "edged failed to write this result")
        if message is None:
            problem = outcome if isinstance(outcome, Fault) else self._too_large(sender)
            message = self._error(sender, problem)
        if message is None:
            self.done(sender.receipt)
            return
        message.handed = partial(self.done, sender.receipt)
        if message.qos and message.topic == sender.output:
            # Without the sender, whose payload must not live for as long as its result waits.
            came = sender.arrival.topic
            message.refused = partial(self._refused, sender.target.model, sender.target.id, sender.output, came)
        self._publish(message)

    def done(self, receipt: Receipt) -> None:
        """One model's outcome for a message is final."""
        receipt.left -= 1
        if receipt.left == 0 and receipt.owed:
            self._acknowledge(receipt.number, receipt.mid)

    def _result(self, sender: Sender, answer: Answer) -> Publication | None:
        """None when the broker would not carry it."""
        target = sender.target
        output = self._outputs[target.model]
        form = self._format(target)
        parameters: dict[str, object] = {}
        if form in _WITH_PARAMETERS:
            # With an id each topic is used once: there the sequence is the model's.
            counted = self._tree.result(target.model) if target.id and not sender.response_topic else sender.output
            parameters = self._parameters(answer, counted, sender.arrived_s, sender.arrived_ms)
            parameters["topic"] = sender.arrival.topic
        payload, content_type = self._payload(answer, parameters, form)
        qos = sender.arrival.qos if sender.response_topic else output.qos
        message = self._addressed(sender, sender.output, payload, qos=qos, status="ok")
        # An answer to one request is kept by nobody: each id would be another topic at the broker, for ever.
        message.retain = output.retain and not (sender.response_topic or target.id) and self._is_current(sender)
        if message.retain:
            self._kept.add(message.topic, target.model, output.topic)
        self._finish(message, content_type, output)
        return message if message.size <= self._packet_limit() else None

    def _is_current(self, sender: Sender) -> bool:
        """Whether a result that was under way during a reload goes where the model's results go now."""
        try:
            return sender.target.model in self._present and sender.output == self.output(sender.target, "")
        except ValueError:  # its levels make no topic of the new one
            return False

    def _parameters(self, answer: Answer, counted: str, arrived_s: float, arrived_ms: int) -> dict[str, object]:
        """`counted` is the topic whose sequence it belongs to."""
        now_ms = arrived_ms + round((self._clock() - arrived_s) * 1000)
        stamp = arrived_ms if answer.ts_ms is None else answer.ts_ms
        now_ms = now_ms if answer.ts_ms is None else self._wall_ms()
        parameters: dict[str, object] = {"ts": stamp, "seq": self._sequence(counted), "age_ms": now_ms - stamp}
        if not self._clock_synced():
            parameters["clock"] = "unsynced"
        return parameters

    def _finish(self, message: Publication, content_type: str, output: schema.Output) -> None:
        message.content_type = content_type
        message.expires_s = None if output.expire is None else self._lasting() + output.expire

    # --- results of other transports --------------------------------------------------------------------

    def also(self, item: Input) -> Input:
        """An input of another transport; with `output.from: all` its result is published besides being answered."""
        output = self._outputs.get(item.model)
        if output is None or output.from_ != "all":
            return item

        def reply(outcome: Outcome) -> None:
            item.reply(outcome)
            if isinstance(outcome, Answer):  # under the settings of this moment, as the process that made it
                self._publish_copy(item, outcome, self._outputs[item.model])

        return msgspec.structs.replace(item, copy=True, reply=reply)

    def _publish_copy(self, item: Input, answer: Answer, output: schema.Output) -> None:
        if answer.copy is None:
            self._dropped(item.model, "output_too_large")
            return
        topic = output.topic or self._tree.result(item.model)
        copy = msgspec.structs.replace(answer, payload=answer.copy, json_length=0)
        parameters = self._parameters(answer, topic, item.arrived_s, item.arrived_ms)
        try:
            payload, content_type = self._payload(copy, parameters, output.format)
        except Exception:  # noqa: BLE001  as in settle
            _log.exception("the copy of a result could not be written")
            self._dropped(item.model, "internal")
            return
        message = Publication(topic, payload, output.qos, retain=output.retain and item.model in self._present)
        if message.retain:
            self._kept.add(topic, item.model, output.topic)
        self._finish(message, content_type, output)
        if message.size <= self._packet_limit():
            self._publish(message)
        else:
            self._dropped(item.model, "output_too_large")

    def _format(self, target: Target) -> ResultFormat:
        """What a result is: as the configuration says for `inputs`, the protocol's response on `infer`."""
        return self._outputs[target.model].format if target.form >= 0 else "oip"

    @staticmethod
    def _payload(answer: Answer, parameters: dict[str, object], form: ResultFormat) -> tuple[bytes, str]:
        """The payload with the parameters, where its form has room for them, and its content type."""
        if form == "oip":
            payload, json_length = with_parameters(answer, parameters)
            return payload, _BINARY if json_length else _JSON
        if form == "prediction":
            return with_members(answer, parameters), _JSON
        return answer.payload, _BINARY if form == "raw" else _TEXT

    def _refused(self, model: str, id: str, topic: str, came: str, code: str, why: str) -> None:
        """The broker would not have a result that it was sent: told where errors go, however it was asked."""
        self._dropped(model, code)
        if not id and not self._errors.take(model, self._clock()):
            self._dropped(model, "error_rate")
            return
        if code == "refused_by_broker":
            problem = fault(code, f"the broker does not take results on {topic}" + (f": {why}" if why else ""))
        else:
            problem = self._limit()
        payload = msgspec.json.encode(as_json(problem, id=id, topic=came))
        self._publish(Publication(self._tree.error(model, id), payload, 1, content_type=_JSON))

    def _too_large(self, sender: Sender) -> Fault:
        self._dropped(sender.target.model, "output_too_large")
        return self._limit()

    def _limit(self) -> Fault:
        return fault(
            "output_too_large",
            f"the result is above the broker's limit of {self._packet_limit()} bytes a packet",
            "Raise the broker's max_packet_size, or ask for fewer outputs.",
        )

    def _error(self, sender: Sender, problem: Fault) -> Publication | None:
        """None when nobody waits for this one, and it was dropped on purpose or beyond the errors of a second."""
        target = sender.target
        awaited: object = sender.response_topic or target.id
        if not awaited and problem.code in _ASKED_FOR:
            return None
        awaited = awaited or sender.arrival.qos
        if not awaited and not self._errors.take(target.model, self._clock()):
            self._dropped(target.model, "error_rate")
            return None
        topic = sender.response_topic or self._tree.error(target.model, target.id)
        payload = msgspec.json.encode(as_json(problem, id=target.id, topic=sender.arrival.topic))
        message = self._addressed(sender, topic, payload, qos=1, status="error")
        if sender.arrival.correlation is not None:  # also of a request whose response topic was refused
            message.correlation, message.status = sender.arrival.correlation, "error"
        message.content_type = _JSON
        return message

    @staticmethod
    def _addressed(sender: Sender, topic: str, payload: bytes, *, qos: int, status: str) -> Publication:
        message = Publication(topic, payload, qos)
        if sender.response_topic:
            message.correlation = sender.arrival.correlation
            message.status = status
        return message

    def _sequence(self, topic: str) -> int:
        key = hash(topic)
        number = self._sequences.pop(key, 0) + 1
        self._sequences[key] = number
        if len(self._sequences) > _SEQUENCES:
            self._sequences.popitem(last=False)
        return number
