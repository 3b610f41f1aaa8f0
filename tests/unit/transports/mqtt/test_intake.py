"""A message on its way in and its outcome on the way out, without a broker (RULES 19, 23)."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edged.config import schema
from edged.config.steps import Form
from edged.config.units import Duration, Rate, Size
from edged.errors import fault
from edged.messages import JOINED, Admission, Answer, Input, Outcome, Source, unpack
from edged.topics import Tree
from edged.transports.mqtt.clocks import Clocks
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.intake import Intake
from edged.transports.mqtt.outbox import MAX_PACKET, Publication
from edged.transports.mqtt.results import Results
from edged.transports.mqtt.waiting import FULL

TREE = Tree("edged", "box")
INFER = TREE.infer("m")


class Bench:
    """Intake and results with a lane of `room` inputs; what leaves is in `published`."""

    def __init__(self, *models: schema.Model) -> None:
        models = models or (schema.Model("m"),)
        self.now = 100.0
        self.wall = 1_000_000
        self.room = 10_000
        self.limit = MAX_PACKET
        self.taken: list[Input] = []
        self.published: list[Publication] = []
        self.acknowledged: list[tuple[int, int]] = []
        self.dropped: list[tuple[str, str]] = []
        self.bugs = 0
        self.synced = True
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.paused = False
        self.mid = 0
        shared: dict[str, Any] = {
            "acknowledge": lambda number, mid: self.acknowledged.append((number, mid)),
            "dropped": lambda model, reason: self.dropped.append((model, reason)),
            "clocks": Clocks(
                now_s=lambda: self.now,
                lasting_s=lambda: self.now + 1000.0,
                wall_ms=lambda: self.wall,
                synced=lambda: self.synced,
            ),
        }
        self.results = results = Results(
            TREE,
            models,
            publish=self.publish,
            packet_limit=lambda: self.limit,
            **shared,
        )
        self.intake = Intake(
            TREE, models, results=results, offer=self.offer, bug=self.bug, reading=self, later=self.later, **shared
        )

    def publish(self, message: Publication) -> None:
        self.published.append(message)
        if message.handed is not None:
            message.handed()

    def offer(self, item: Input) -> Admission:
        if self.room <= 0:
            return Admission.BLOCKED if item.source is Source.MQTT_QOS1 else Admission.REFUSED
        self.room -= 1
        self.taken.append(item)
        return Admission.TAKEN

    def bug(self) -> None:
        self.bugs += 1

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now + delay_s, call))

    def wait(self, seconds: float) -> None:
        """Lets time pass, and calls what is due."""
        self.now += seconds
        due, self.timers = self.timers, []
        for at_s, call in due:
            if at_s <= self.now:
                call()
            else:
                self.timers.append((at_s, call))

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def send(self, topic: str, payload: bytes = b"1", qos: int = 1, number: int = 1, **more: Any) -> int:
        self.mid += 1
        retain = more.pop("retain", False)
        self.intake.take(Arrival(topic, payload, qos, retain, self.mid, number, **more))
        return self.mid

    def json(self, index: int = -1) -> Any:
        return msgspec.json.decode(self.published[index].payload)


def _answer(payload: bytes = b'{"a":1}', **more: Any) -> Answer:
    return Answer(payload, 0, "1", **more)


def test_parameters_of_a_result() -> None:
    bench = Bench()
    bench.send(INFER)
    bench.now += 0.25
    bench.taken[0].reply(_answer())
    assert bench.json() == {"a": 1, "parameters": {"ts": 1_000_000, "seq": 1, "age_ms": 250, "topic": INFER}}
    bench.send(f"{INFER}/id")
    bench.wall += 1000
    bench.taken[1].reply(_answer(ts_ms=999_000))
    parameters = bench.json()["parameters"]
    assert (parameters["ts"], parameters["age_ms"], parameters["seq"]) == (999_000, 2000, 2)
    assert bench.published[-1].topic == TREE.result("m", "id")


def test_acknowledged_only_when_the_outcome_is_final() -> None:
    bench = Bench()
    mid = bench.send(INFER, number=7)
    assert bench.acknowledged == []
    bench.taken[0].reply(fault("bad_input", "no"))
    assert bench.acknowledged == [(7, mid)]
    bench.send(INFER, qos=0)
    bench.taken[1].reply(_answer())
    assert len(bench.acknowledged) == 1


def test_one_message_for_two_models_is_acknowledged_after_both() -> None:
    both = schema.Input("cells/x")
    bench = Bench(schema.Model("m", inputs=(both,)), schema.Model("n", inputs=(both,)))
    mid = bench.send("cells/x")
    assert [item.model for item in bench.taken] == ["m", "n"]
    bench.taken[1].reply(_answer())
    assert bench.acknowledged == []
    bench.taken[0].reply(_answer())
    assert bench.acknowledged == [(1, mid)]


def test_output_topic_with_levels() -> None:
    output = schema.Output(topic="{cell}/digit", qos=0)
    bench = Bench(schema.Model("m", inputs=(schema.Input("cells/+cell"),), output=output))
    bench.send("cells/7")
    bench.taken[0].reply(_answer())
    assert (bench.published[0].topic, bench.published[0].qos) == ("7/digit", 0)
    bench.send(INFER)
    bench.taken[1].reply(_answer())
    assert bench.published[1].topic == TREE.result("m")


def test_levels_that_make_no_topic_are_the_senders_error() -> None:
    output = schema.Output(topic="{cell}")
    bench = Bench(schema.Model("m", inputs=(schema.Input("cells/+cell"),), output=output))
    mid = bench.send("cells/")
    assert bench.taken == []
    assert bench.json()["code"] == "bad_input"
    assert bench.acknowledged == [(1, mid)]


@pytest.mark.parametrize(
    ("template", "topic", "why"),
    [
        ("{area}/{cell}/status", "in/edged/box/x", "boxes publish their own state on"),
        ("{area}/{cell}/request/{what}", "in/edged/other/ping", "boxes take requests"),
        ("{area}/{cell}/want/m/all", "in/edged/ota/x", "signed documents"),
        ("{area}/{cell}/x", "in/edged/box/x", "this box's own tree"),
        ("{area}/digit", "in/$SYS/x/x", "the broker's own"),
    ],
)
def test_levels_that_would_make_a_result_something_else_are_refused(template: str, topic: str, why: str) -> None:
    entry = schema.Input("in/+area/+cell/+what")
    bench = Bench(schema.Model("m", inputs=(entry,), output=schema.Output(topic=template)))
    mid = bench.send(topic)
    assert bench.taken == []
    assert (bench.json()["code"], why in bench.json()["message"]) == ("bad_input", True)
    assert (bench.published[0].topic, bench.json()["topic"]) == (TREE.error("m"), topic)
    assert bench.dropped == [("m", "bad_input")]
    assert bench.acknowledged == [(1, mid)]
    bench.send("in/hall/7/x")
    bench.taken[0].reply(_answer())
    assert bench.published[-1].topic.startswith("hall/")


def test_response_topic_takes_answer_and_error() -> None:
    bench = Bench()
    for _ in range(2):
        bench.send(INFER, qos=0, response_topic="me", correlation=b"c")
    bench.taken[0].reply(_answer())
    bench.taken[1].reply(fault("bad_input", "no"))
    found = [(one.topic, one.status, one.correlation, one.content_type, one.qos) for one in bench.published]
    assert found == [("me", "ok", b"c", "application/json", 0), ("me", "error", b"c", "application/json", 1)]


def test_a_result_that_the_broker_refuses_is_told_with_its_inputs_topic() -> None:
    bench = Bench(schema.Model("m", inputs=(schema.Input("cells/+cell"),)))
    bench.send("cells/7")
    bench.taken[0].reply(_answer())
    assert bench.published[0].refused is not None
    bench.published[0].refused("refused_by_broker", "not authorized")
    assert bench.published[1].topic == TREE.error("m")
    assert (bench.json()["code"], bench.json()["topic"]) == ("refused_by_broker", "cells/7")


def test_response_topic_that_would_come_back_is_refused() -> None:
    bench = Bench()
    bench.send(INFER, response_topic=INFER, correlation=b"c")
    assert bench.taken == []
    assert bench.published[0].topic == TREE.error("m")
    assert (bench.published[0].correlation, bench.published[0].status) == (b"c", "error")
    assert "docs/mqtt-api.md" in bench.json()["hint"]  # no tensor is to blame
    assert bench.acknowledged


def test_bad_id_is_told_without_it() -> None:
    bench = Bench()
    bench.send(f"{INFER}/a.b")
    assert bench.published[0].topic == TREE.error("m")
    assert bench.json()["code"] == "bad_input"
    assert bench.taken == []


def test_size_and_deadline_are_the_models() -> None:
    limits = schema.Limits(message=Size(3))
    bench = Bench(schema.Model("m", limits=limits, queue=schema.Queue(deadline=Duration(0.5))), schema.Model("n"))
    bench.send(f"{INFER}/a", b"1234")
    assert bench.json()["code"] == "input_too_large"
    assert bench.dropped == [("m", "input_too_large")]
    bench.send(INFER, b"123")
    bench.send(TREE.infer("n"), b"1234")
    assert [item.deadline_s for item in bench.taken] == [100.5, None]
    assert [item.source for item in bench.taken] == [Source.MQTT_QOS1] * 2


def test_result_above_the_brokers_limit_becomes_an_error() -> None:
    bench = Bench()
    bench.limit = 1000
    bench.send(INFER)
    bench.taken[0].reply(_answer(b'{"a":"' + b"x" * 2000 + b'"}'))
    assert bench.json()["code"] == "output_too_large"
    assert bench.published[0].topic == TREE.error("m")
    assert bench.acknowledged


def test_errors_nobody_waits_for_are_limited() -> None:
    bench = Bench()
    for _ in range(20):
        bench.send(INFER, qos=0)
    for item in bench.taken:
        item.reply(fault("bad_input", "no"))
    assert len(bench.published) == 10
    assert bench.dropped == [("m", "error_rate")] * 10


def test_sequences_are_bounded() -> None:
    bench = Bench()
    for number in range(5000):
        bench.send(INFER, response_topic=f"me/{number}")
        bench.taken[-1].reply(_answer())
    assert len(bench.intake._results._sequences) <= 4096


def test_long_topics_are_not_kept_in_mind() -> None:
    """Each may have 64 KiB, and of some thousands something is remembered."""
    model = schema.Model(
        "m", inputs=(schema.Input("cells/+cell/scan", max_rate=Rate(1000)),), output=schema.Output("out/{cell}")
    )
    bench = Bench(model)
    tracemalloc.start()
    try:
        for number in range(1000):
            bench.send(f"cells/{number}{'x' * 60_000}/scan", retain=True)
            bench.taken.pop().reply(_answer())
            assert bench.published.pop().topic.startswith(f"out/{number}x")
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 2**20


def test_retained() -> None:
    bench = Bench(schema.Model("m", inputs=(schema.Input("reading"),)))
    assert bench.send(INFER, retain=True)
    bench.send("reading", b"1", retain=True)
    bench.send("reading", b"1", retain=True)
    bench.send("reading", b"2", retain=True)
    bench.send("reading", b"1")
    assert [item.payload for item in bench.taken] == [b"1", b"2", b"1"]
    assert len(bench.acknowledged) == 2  # the two that were not taken


def test_a_reading_that_came_as_it_was_published_is_not_taken_again_as_the_retained_one() -> None:
    """What a broker of 3.1.1 sends at each connection."""
    model = schema.Model("m", inputs=(schema.Input("reading"),))
    bench = Bench(model)
    bench.send("reading", b"1", retain=True)
    for payload in (b"2", b"2", b"3"):
        bench.send("reading", payload)
    for payload in (b"1", b"3", b"4"):
        bench.send("reading", payload, number=2, retain=True)
    assert [item.payload for item in bench.taken] == [b"1", b"2", b"2", b"3", b"4"]
    bench.intake.adopt([model], (), lambda item: item)
    bench.send("reading", b"4", retain=True)
    assert len(bench.taken) == 5
    models = [model, msgspec.structs.replace(model, name="other")]
    bench.results.adopt(models)
    bench.intake.adopt(models, (), lambda item: item)
    bench.send("reading", b"4", retain=True)  # what the other one has subscribed to
    assert [item.model for item in bench.taken[5:]] == ["m", "other"]


def test_a_retained_reading_reaches_each_of_two_models_whose_filters_overlap_in_part() -> None:
    """With MQTT 5 a copy comes for each subscription."""
    models = [schema.Model(name, inputs=(schema.Input(topic),)) for name, topic in (("a", "x/+"), ("b", "+/y"))]
    bench = Bench(*models)
    copies = [(one.identifier,) for one in bench.intake.inputs.foreign[:2]]
    for identifiers in (*copies, *copies):
        bench.send("x/y", b"1", retain=True, identifiers=identifiers)
    assert [item.model for item in bench.taken] == ["a", "b"]


def test_a_retained_reading_that_waited_is_taken_when_it_comes_again() -> None:
    """A session's new connection: the room was cleared because the broker sends again what is in it."""
    bench = Bench(schema.Model("m", inputs=(schema.Input("reading"),)))
    bench.room = 0
    bench.send("reading", b"1", retain=True)
    bench.intake.connected(2, session_present=True)
    assert len(bench.intake.room) == 0
    bench.room = 5
    bench.send("reading", b"1", number=2, retain=True, again=True)
    assert [item.payload for item in bench.taken] == [b"1"]
    assert bench.acknowledged == []


def test_blocked_inputs_keep_their_order() -> None:
    bench = Bench()
    bench.room = 1
    for number in range(4):
        bench.send(INFER, str(number).encode())
    assert len(bench.intake.room) == 3
    bench.room = 2
    bench.intake.on_room("m")
    bench.send(INFER, b"4")
    bench.room = 10
    bench.intake.on_room("m")
    assert [item.payload for item in bench.taken] == [b"0", b"1", b"2", b"3", b"4"]
    assert bench.acknowledged == []


def test_a_blocked_topic_does_not_hold_up_another_where_each_has_its_queue() -> None:
    both = (schema.Input("a"), schema.Input("b"))
    bench = Bench(schema.Model("m", inputs=both, queue=schema.Queue(per="stream")))
    full = {"a"}
    take = bench.offer
    bench.intake._offer = lambda item: Admission.BLOCKED if item.stream in full else take(item)
    for topic in "aab":
        bench.send(topic, topic.encode())
    assert [item.payload for item in bench.taken] == [b"b"]
    bench.send("a", b"last")
    full.clear()
    bench.intake.on_room("m")
    assert [item.payload for item in bench.taken] == [b"b", b"a", b"a", b"last"]
    assert len(bench.intake.room) == 0


def test_above_max_rate_inputs_are_counted_and_acknowledged() -> None:
    entry = schema.Input("cells/+", max_rate=Rate(2))
    bench = Bench(schema.Model("m", inputs=(entry, schema.Input("free"))))
    mids = [bench.send("cells/a") for _ in range(5)]
    bench.send("cells/b")  # each topic has its own
    for topic in ("free", INFER):
        for _ in range(9):
            bench.send(topic)
    assert [item.stream for item in bench.taken] == [*["cells/a"] * 2, "cells/b", *["free"] * 9, *[INFER] * 9]
    assert bench.dropped == [("m", "rate_limited")] * 3
    assert bench.acknowledged == [(1, mid) for mid in mids[2:]]
    assert bench.published == []
    bench.send("cells/a", response_topic="me")
    assert (bench.published[-1].topic, bench.json()["code"]) == ("me", "rate_limited")
    bench.now += 0.5
    bench.send("cells/a")
    assert bench.taken[-1].stream == "cells/a"


def test_max_age_goes_by_the_inputs_own_stamp_only_where_the_clock_is_right() -> None:
    stamped = schema.Input("a", form=Form(format="values", time="ts"), max_age=Duration(5))
    bench = Bench(schema.Model("m", inputs=(stamped, schema.Input("b", max_age=Duration(5)))))
    bench.send("a")
    bench.synced = False
    for topic in ("a", "b", INFER):
        bench.send(topic)
    found = [(item.max_age_s, item.stamped) for item in bench.taken]
    assert found == [(5, True), (5, False), (5, False), (None, False)]
    bench.taken[0].reply(_answer())
    assert bench.json()["parameters"]["clock"] == "unsynced"


def test_a_result_is_kept_and_expires_as_the_configuration_says() -> None:
    bench = Bench(schema.Model("m", output=schema.Output(retain=True, expire=Duration(5))))
    bench.send(INFER)
    bench.send(f"{INFER}/id")
    bench.send(INFER, response_topic="me")
    for item in bench.taken:
        item.reply(_answer())
    assert [one.retain for one in bench.published] == [True, False, False]
    assert {one.expires_s for one in bench.published} == {1105.0}
    bench.taken[0].reply(fault("bad_input", "no"))
    assert (bench.published[-1].retain, bench.published[-1].expires_s) == (False, None)


JOINS = (
    schema.Input("cells/+cell/a", form=Form(tensor="a")),
    schema.Input("cells/+cell/b", form=Form(tensor="b", format="values", time="ts"), max_age=Duration(5)),
    schema.Input("room", form=Form(tensor="c"), hold=Duration(60)),
)


def test_values_that_meet_run_once_and_are_acknowledged_together() -> None:
    bench = Bench(schema.Model("m", inputs=JOINS, output=schema.Output(topic="out/{cell}")))
    mids = [bench.send(topic, topic.encode()) for topic in ("room", "cells/1/a", "cells/2/b")]
    assert (bench.taken, bench.acknowledged) == ([], [(1, mids[0])])
    bench.now += 2
    mids.append(bench.send("cells/1/b", b"last"))
    (item,) = bench.taken
    assert (item.form, item.source, item.max_age_s) == (JOINED, Source.MQTT_QOS1, 5.0)
    found = [(value.form, value.oldest_ms, value.payload) for value in unpack(item.payload)]
    assert found == [(2, 0, b"room"), (0, 0, b"cells/1/a"), (1, 995_000, b"last")]
    item.reply(_answer())
    assert (bench.published[0].topic, bench.json()["parameters"]["topic"]) == ("out/1", "cells/1/b")
    assert sorted(bench.acknowledged) == [(1, mids[0]), (1, mids[1]), (1, mids[3])]


def test_a_value_without_partner_is_given_up_counted_and_acknowledged() -> None:
    bench = Bench(schema.Model("m", inputs=JOINS))
    mid = bench.send("cells/1/a")
    for _ in range(70):
        bench.wait(1)
    assert bench.dropped == [("m", "no_partner")]
    assert bench.acknowledged == [(1, mid)]
    assert (bench.published, bench.timers) == ([], [])


def test_a_request_to_a_model_with_joined_inputs_runs_alone() -> None:
    bench = Bench(schema.Model("m", inputs=JOINS))
    bench.send(INFER)
    assert bench.taken[0].form == -1


def test_joined_values_that_are_blocked_keep_their_order() -> None:
    bench = Bench(schema.Model("m", inputs=JOINS[:2]))
    bench.room = 0
    for number in range(3):
        bench.send("cells/1/a", b"a%d" % number)
        bench.send("cells/1/b", b"b%d" % number)
    assert len(bench.intake.room) == 3
    bench.room = 9
    bench.intake.on_room("m")
    found = [[value.payload for value in unpack(item.payload)] for item in bench.taken]
    assert found == [[b"a%d" % number, b"b%d" % number] for number in range(3)]


@pytest.mark.parametrize(
    ("form", "sent", "kind"),
    [
        ("value", b"7", "text/plain"),
        ("raw", b"\x00\x01", "application/octet-stream"),
        ("prediction", b'{"index":7}', "application/json"),
    ],
)
def test_output_format_is_for_the_configured_inputs(form: Any, sent: bytes, kind: str) -> None:
    bench = Bench(schema.Model("m", inputs=(schema.Input("a"),), output=schema.Output(format=form)))
    bench.send("a")
    bench.send(INFER)
    bench.taken[0].reply(_answer(sent))
    assert bench.published[-1].content_type == kind
    if form == "prediction":
        assert bench.json() == {"index": 7, "ts": 1_000_000, "seq": 1, "age_ms": 0, "topic": "a"}
    else:
        assert bench.published[-1].payload == sent
    bench.taken[1].reply(_answer())
    assert bench.json()["parameters"]["topic"] == INFER


def test_a_request_is_of_no_stream() -> None:
    bench = Bench()
    bench.send(INFER)
    bench.send(f"{INFER}/id")
    bench.send(INFER, response_topic="me")
    assert [item.stream for item in bench.taken] == [INFER, "", ""]


def test_what_is_dropped_on_purpose_is_acknowledged_and_told_to_those_who_wait_alone() -> None:
    bench = Bench()
    mids = [bench.send(INFER), bench.send(f"{INFER}/id"), bench.send(INFER, response_topic="me")]
    for item in bench.taken:
        item.reply(fault("replaced", "a newer one"))
    assert [one.topic for one in bench.published] == [TREE.error("m", "id"), "me"]
    assert bench.acknowledged == [(1, mid) for mid in mids]


def test_a_full_room_pauses_then_floods_then_recovers() -> None:
    bench = Bench()
    bench.room = 0
    for _ in range(FULL):
        bench.send(INFER)
    assert bench.paused
    bench.send(INFER)  # what paho had read already
    assert bench.dropped == []
    bench.intake.pause_ended()
    mid = bench.send(INFER)
    assert bench.dropped == [("m", "flood")]
    assert bench.json()["code"] == "queue_full"
    assert bench.acknowledged == [(1, mid)]
    bench.room = 10
    bench.intake.on_room("m")
    assert not bench.paused
    bench.send(INFER)
    assert len(bench.dropped) == 1


def test_the_room_is_bounded_even_without_a_pause() -> None:
    bench = Bench()
    bench.room = 0
    for _ in range(1000):
        bench.send(INFER)
    assert len(bench.intake.room) < 400
    assert len(bench.intake.room) + len(bench.dropped) == 1000


def test_a_new_connection_forgets_what_the_broker_sends_again() -> None:
    bench = Bench()
    bench.room = 0
    bench.send(INFER, b"old", number=1)
    bench.send(INFER, b"new", number=2)
    bench.intake.connected(2, session_present=False)
    assert len(bench.intake.room) == 2
    bench.intake.connected(2, session_present=True)
    assert len(bench.intake.room) == 1
    bench.room = 5
    bench.intake.on_room("m")
    assert [item.payload for item in bench.taken] == [b"new"]


def test_after_close_nothing_is_taken_or_acknowledged() -> None:
    bench = Bench()
    bench.intake.close()
    bench.send(INFER)
    assert (bench.taken, bench.acknowledged) == ([], [])


def test_a_bug_is_counted_and_the_message_acknowledged() -> None:
    bench = Bench()

    def broken(_item: Input) -> Admission:
        raise RuntimeError("a bug")

    bench.intake._offer = broken
    mid = bench.send(INFER)
    assert bench.bugs == 1
    assert bench.acknowledged == [(1, mid)]


# --- results of other transports --------------------------------------------------------------------


def _request(bench: Bench, outcomes: list[Outcome]) -> Input:
    return bench.results.also(Input("m", b"1", Source.HTTP, outcomes.append, bench.now, bench.wall, id="x"))


def test_results_of_requests_are_published_where_the_configuration_says_so() -> None:
    output = schema.Output(topic="out", from_="all", retain=True, format="prediction")
    bench = Bench(schema.Model("m", output=output))
    outcomes: list[Outcome] = []
    item = _request(bench, outcomes)
    assert item.copy
    bench.now += 0.5
    item.reply(_answer(copy=b'{"index":7}'))
    item.reply(fault("bad_input", "no"))
    assert [type(one).__name__ for one in outcomes] == ["Answer", "Fault"]
    (found,) = bench.published
    assert (found.topic, found.retain, bench.json()) == (
        "out",
        True,
        {"index": 7, "ts": 1_000_000, "seq": 1, "age_ms": 500},
    )


def test_a_copy_that_has_no_room_is_counted_and_the_request_answered() -> None:
    bench = Bench(schema.Model("m", output=schema.Output(from_="all")))
    outcomes: list[Outcome] = []
    _request(bench, outcomes).reply(_answer(copy=None))
    bench.limit = 100
    _request(bench, outcomes).reply(_answer(copy=b'{"a":"' + b"x" * 100 + b'"}'))
    assert bench.dropped == [("m", "output_too_large")] * 2
    assert (len(outcomes), bench.published) == (2, [])


def test_results_of_requests_stay_with_those_who_asked_unless_it_is_said() -> None:
    assert not _request(Bench(), []).copy
