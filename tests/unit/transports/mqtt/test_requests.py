"""Requests to the box: what is done, what is refused, and what every sender is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.errors import EdgedError
from edged.topics import Tree
from edged.transports.mqtt.inputs import Arrival
from edged.transports.mqtt.outbox import MAX_PACKET, Publication
from edged.transports.mqtt.requests import A_SECOND, LARGEST, UNDER_WAY, Requests

TREE = Tree("edged", "box")


class Desk:
    """Somebody who asks, and what came back."""

    def __init__(self, *groups: str, limit: int = MAX_PACKET) -> None:
        self.sent: list[Publication] = []
        self.asked: list[tuple[str, dict[str, Any], str]] = []
        self.dropped: list[str] = []
        self.bugs = 0
        self.now_s = 0.0
        self.hold = asyncio.Event()
        self.hold.set()
        self.mid = 0
        self.requests = Requests(
            TREE,
            groups,
            self._ask,
            publish=self.sent.append,
            packet_limit=lambda: limit,
            dropped=self.dropped.append,
            bug=self._bug,
            clock=lambda: self.now_s,
        )

    async def _ask(self, verb: str, arguments: dict[str, Any], by: str) -> Any:
        self.asked.append((verb, arguments, by))
        await self.hold.wait()
        if verb == "fail":
            raise EdgedError("forbidden", "no")
        if verb == "bug":
            raise ZeroDivisionError
        if verb == "large":
            return "x" * 1000
        return {"pong": True}

    def _bug(self) -> None:
        self.bugs += 1

    def come(self, topic: str, payload: bytes = b"", **fields: Any) -> None:
        self.mid += 1
        arrival = Arrival(topic, payload, 1, fields.pop("retain", False), fields.pop("mid", self.mid), 1, **fields)
        verb = self.requests.verb(topic)
        assert verb is not None
        self.requests.take(arrival, verb)

    async def settle(self) -> list[dict[str, Any]]:
        for _ in range(5):
            await asyncio.sleep(0)
        return [json.loads(message.payload) for message in self.sent]


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_topics_of_requests() -> None:
    async def scenario() -> None:
        requests = Desk("line", "pi4").requests
        verbs = {
            "edged/box/request/ping": "ping",
            "edged/all/request/log": "log",
            "edged/group/pi4/request/x": "x",
            "edged/group/line/request/": "",
            "edged/group/other/request/ping": None,
            "edged/other/request/ping": None,
            "edged/box/request/ping/7": None,
            "edged/box/requests/ping": None,
            "edged/box/models/m/infer": None,
        }
        assert {topic: requests.verb(topic) for topic in verbs} == verbs

    run(scenario)


def test_an_answer_echoes_the_transaction_and_goes_to_the_boxs_own_topic() -> None:
    async def scenario() -> None:
        desk = Desk("line")
        desk.come("edged/box/request/ping")
        desk.come("edged/all/request/ping", b'{"transaction": 7, "model": "m"}')
        desk.come("edged/group/line/request/ping", b'  {"transaction": {"a": [1]}}\n')
        assert await desk.settle() == [
            {"status": "ok", "data": {"pong": True}},
            {"status": "ok", "data": {"pong": True}, "transaction": 7},
            {"status": "ok", "data": {"pong": True}, "transaction": {"a": [1]}},
        ]
        assert {(one.topic, one.qos, one.retain) for one in desk.sent} == {("edged/box/response/ping", 1, False)}
        assert desk.asked[1] == ("ping", {"model": "m"}, "MQTT edged/all/request/ping")

    run(scenario)


def test_response_topic_and_correlation_are_honoured() -> None:
    async def scenario() -> None:
        desk = Desk()
        desk.come("edged/box/request/ping", response_topic="me/answers", correlation=b"42")
        desk.come("edged/box/request/fail", response_topic="me/answers", correlation=b"43")
        desk.come("edged/box/request/ping", response_topic="edged/box/request/ping", correlation=b"44")
        desk.come("edged/box/request/ping", response_topic="edged/box/status")
        await desk.settle()
        assert sorted((one.topic, one.correlation, one.status) for one in desk.sent if one.correlation) == [
            ("edged/box/response/ping", b"44", "error"),
            ("me/answers", b"42", "ok"),
            ("me/answers", b"43", "error"),
        ]
        refused = [json.loads(one.payload) for one in desk.sent if one.topic == "edged/box/response/ping"]
        assert [one["error"]["code"] for one in refused] == ["bad_input", "bad_input"]
        assert [verb for verb, _, _ in desk.asked] == ["ping", "fail"]

    run(scenario)


@pytest.mark.parametrize("payload", [b"7", b"[]", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":' * 5000, b"null"])
def test_a_payload_that_is_no_object_is_told_so(payload: bytes) -> None:
    async def scenario() -> None:
        desk = Desk()
        desk.come("edged/box/request/ping", payload)
        (answer,) = await desk.settle()
        assert answer["status"] == "error"
        assert answer["error"]["code"] in ("bad_input", "too_large")
        assert answer["error"]["hint"]
        assert not desk.asked

    run(scenario)


@given(st.binary(max_size=200), st.text(max_size=20))
def test_nothing_that_is_sent_goes_unanswered(payload: bytes, verb: str) -> None:
    async def scenario() -> None:
        desk = Desk()
        desk.come(f"edged/box/request/{verb.replace('/', '')}", payload)
        (answer,) = await desk.settle()
        assert answer["status"] in ("ok", "error")
        assert not {"+", "#", "\x00"}.intersection(desk.sent[0].topic)

    run(scenario)


def test_errors_of_the_verb_and_bugs_are_answered() -> None:
    async def scenario() -> None:
        desk = Desk(limit=300)
        desk.come("edged/box/request/fail", b'{"transaction": "t"}')
        desk.come("edged/box/request/bug")
        desk.come("edged/box/request/large")
        found = await desk.settle()
        assert [one["error"]["code"] for one in found] == ["forbidden", "internal", "output_too_large"]
        assert found[0]["transaction"] == "t"
        assert desk.bugs == 1

    run(scenario)


def test_retained_requests_and_what_comes_again_are_not_done() -> None:
    async def scenario() -> None:
        desk = Desk()
        desk.come("edged/box/request/rollback", retain=True)
        desk.come("edged/box/request/rollback", b"{}", mid=5)
        desk.come("edged/box/request/rollback", b"{}", mid=5, again=True)
        desk.come("edged/box/request/rollback", b"{}", mid=6, again=True)  # never seen: its first copy was lost
        desk.come("edged/box/request/rollback", b"{}", mid=7, identifiers=(2,))  # the copy of a wider filter
        desk.come("edged/box/request/rollback", b"{}", mid=8, identifiers=(1,))
        await desk.settle()
        assert len(desk.asked) == 3

    run(scenario)


def test_what_is_under_way_is_bounded_and_so_is_the_rate() -> None:
    async def scenario() -> None:
        desk = Desk()
        desk.hold.clear()
        for _ in range(A_SECOND + 10):
            desk.come("edged/box/request/ping")
        found = await desk.settle()
        assert [one["error"]["code"] for one in found] == ["busy"] * (A_SECOND - UNDER_WAY)
        assert desk.dropped == ["request_rate"] * 10
        desk.hold.set()
        assert len(await desk.settle()) == A_SECOND
        desk.now_s = 1.0
        desk.come("edged/box/request/ping")
        assert len(await desk.settle()) == A_SECOND + 1

    run(scenario)


def test_a_stop_answers_what_is_under_way_and_what_comes() -> None:
    async def scenario() -> None:
        desk = Desk()
        desk.hold.clear()
        desk.come("edged/box/request/ping")
        await desk.settle()
        desk.requests.stop()
        desk.come("edged/box/request/ping")
        found = await desk.settle()
        assert [one["error"]["code"] for one in found] == ["stopping", "stopping"]

    run(scenario)


def test_a_request_is_small() -> None:
    async def scenario() -> None:
        desk = Desk()
        desk.come("edged/box/request/ping", b" " * (LARGEST + 1))
        (answer,) = await desk.settle()
        assert answer["error"]["code"] == "too_large"

    run(scenario)
