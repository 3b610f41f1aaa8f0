"""What is kept of a request for those like it: never anything that reading it anew would not give."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.channel import AnswerHead, InputHead
from edged.config.steps import Form
from edged.errors import EdgedError
from edged.messages import FAST, JOINED
from edged.tensors import Signature
from edged.worker import alike
from edged.worker.alike import Alike, Plan
from edged.worker.formats.decoded import Array
from edged.worker.formats.elements import DATATYPE_OF, to_bytes
from edged.worker.formats.encode import Output, encode
from edged.worker.formats.fast import Fast
from edged.worker.formats.oip import decode
from edged.worker.job import Job
from edged.worker.stack import Feeds, stack
from edged.worker.steps.prepare import prepare
from tests.unit.worker.formats.samples import NUMBERS, extremes, one, request, same, two
from tests.unit.worker.formats.test_fast import body

ROW = np.array([[1, 2, 3, 4]], np.float32)


def asked(tensors: dict[str, Array], **extra: Any) -> tuple[InputHead, bytes]:
    """A request with raw tensors, whose answer is to be raw, and its head."""
    described, raw = [], b""
    for name, array in tensors.items():
        datatype = DATATYPE_OF[array.dtype]
        data = to_bytes(array, datatype)
        parameters = {"binary_data_size": len(data)}
        described.append({"name": name, "shape": array.shape, "datatype": datatype, "parameters": parameters})
        raw += data
    payload, json_length = request(described, raw, **{"parameters": {"binary_data_output": True}, **extra})
    return InputHead(len(payload), json_length=json_length, binary=True), payload


def read(head: InputHead, payload: bytes, signature: Signature) -> Job:
    """As the worker reads what it has not seen before. Raises EdgedError."""
    decoded = decode(Form(), head, memoryview(payload), signature)
    tensors, rows, _ = prepare(decoded, (), signature)
    return Job(head, decoded, tensors, rows)


def kept(signature: Signature, *requests: tuple[InputHead, bytes], stacks: bool = True) -> Alike:
    """What is kept after each of these came twice running."""
    found = Alike("m", "3", [spec.name for spec in signature.outputs], stacks=stacks)
    for head, payload in requests:
        for _ in range(2):
            found.learn(read(head, payload, signature), memoryview(payload))
    return found


def found(plans: Alike, *requests: tuple[InputHead, bytes]) -> Feeds | None:
    """The tensors of a batch, where it has a plan."""
    answer = plans.find([head for head, _ in requests], memoryview(b"".join(payload for _, payload in requests)))
    return None if answer is None else answer[1]


def plan_of(plans: Alike, request: tuple[InputHead, bytes]) -> Plan:
    answer = plans.find([request[0]], memoryview(request[1]))
    assert answer is not None
    return answer[0]


@given(
    datatype=st.sampled_from(NUMBERS), shape=st.tuples(st.integers(0, 3), st.integers(0, 3)), seed=st.integers(0, 99)
)
def test_tensors_are_those_that_reading_each_gives(datatype: str, shape: tuple[int, int], seed: int) -> None:
    signature = one(datatype, (-1, -1))
    values = [np.resize(np.roll(extremes(datatype), seed + number), shape) for number in range(4)]
    requests = [asked({"x": array}) for array in values]
    plans = kept(signature, requests[0])
    for one_of_them, array in zip(requests, values, strict=True):
        feeds = found(plans, one_of_them)
        assert feeds is not None
        assert same(feeds["x"], array)
    together = found(plans, *requests)
    if all(shape):
        assert together is not None
        assert same(together["x"], stack([read(*each, signature).feeds for each in requests])["x"])
    else:
        assert together is None  # what has no values runs alone


def test_two_inputs_lie_one_behind_the_other() -> None:
    requests = [asked({"b": np.array([n, 9], np.int64), "a": np.array([[n, 1], [2, 3]], np.float32)}) for n in range(4)]
    feeds = found(kept(two(), requests[0]), *requests)
    assert feeds is not None
    assert feeds["b"].tolist() == [0, 9, 1, 9, 2, 9, 3, 9]
    assert feeds["a"][::2, 0].tolist() == [0, 1, 2, 3]


def test_the_first_two_are_read() -> None:
    """What has an id of its own never comes again, and there is nothing to keep of it."""
    plans = Alike("m", "3", ["y"], stacks=True)
    for number in range(9):
        head, payload = asked({"x": ROW}, id=f"request {number}")
        plans.learn(read(head, payload, one()), memoryview(payload))
        assert found(plans, (head, payload)) is None
    assert not plans._plans


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "another"},
        {"content_type": "text/plain"},
        {"form": 0},
        {"binary": False},
        {"copy": True},
        {"memory": 3},
        {"oldest_ms": 5},
    ],
    ids=str,
)
def test_another_head_has_no_plan(changed: dict[str, Any]) -> None:
    head, payload = asked({"x": ROW})
    other = msgspec.structs.replace(head, **changed)
    plans = kept(one(), (head, payload))
    assert found(plans, (head, payload)) is not None
    assert found(plans, (other, payload)) is None
    assert found(plans, (head, payload), (other, payload)) is None


def test_one_of_a_batch_that_says_something_else_of_the_same_length() -> None:
    like, unlike = asked({"x": ROW}, id="aaaa"), asked({"x": ROW}, id="aaab")
    assert like[0] == unlike[0]
    plans = kept(one(), like, unlike)
    assert found(plans, like, like, like) is not None
    for batch in ((unlike, like, like), (like, unlike, like), (like, like, unlike)):
        assert found(plans, *batch) is None


@given(at=st.integers(0, 200), byte=st.integers(0, 255))
def test_a_byte_of_the_json_changed_is_another_json(at: int, byte: int) -> None:
    head, payload = asked({"x": ROW})
    at %= head.json_length
    broken = payload[:at] + bytes([byte]) + payload[at + 1 :]
    plans = kept(one(), (head, payload))
    assert (found(plans, (head, broken)) is not None) is (broken == payload)
    assert (found(plans, (head, payload), (head, broken)) is not None) is (broken == payload)


@given(cut=st.integers(1, 300))
def test_other_sizes_behind_the_same_json_are_read_and_refused(cut: int) -> None:
    head, payload = asked({"x": ROW})
    plans = kept(one(), (head, payload))
    for wrong in (payload[: max(len(payload) - cut, 0)], payload + bytes(cut)):
        other = InputHead(len(wrong), json_length=head.json_length, binary=True)
        assert found(plans, (other, wrong)) is None
        with pytest.raises(EdgedError):
            read(other, wrong, one())


@pytest.mark.parametrize(
    ("signature", "tensors"),
    [
        (one("BOOL"), {"x": np.ones((1, 4), bool)}),
        (one("BYTES"), {"x": np.array([["a", "b", "c", "d"]], object)}),
    ],
    ids=["BOOL", "BYTES"],
)
def test_datatypes_of_which_not_any_bytes_are_values_are_read(signature: Signature, tensors: dict[str, Array]) -> None:
    request = asked(tensors)
    assert found(kept(signature, request), request) is None


def test_a_tensor_in_the_json_is_read() -> None:
    described = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    payload, json_length = request([described])
    head = InputHead(len(payload), json_length=json_length, binary=True)
    assert found(kept(one(), (head, payload)), (head, payload)) is None


def test_what_the_steps_are_asked_for_is_read() -> None:
    head, payload = asked({"x": ROW}, parameters={"steps": True})
    assert found(kept(one(), (head, payload)), (head, payload)) is None


@pytest.mark.parametrize("form", [0, JOINED])
def test_inputs_of_a_topic_are_read(form: int) -> None:
    head, payload = asked({"x": ROW})
    job = read(head, payload, one())
    job.head = InputHead(head.size, form, json_length=head.json_length, binary=True)
    plans = Alike("m", "3", ["y"], stacks=True)
    for _ in range(3):
        plans.learn(job, memoryview(payload))
    assert found(plans, (job.head, payload)) is None


def test_rows_that_cannot_be_stacked_are_alone() -> None:
    request = asked({"x": ROW})
    plans = kept(one(), request, stacks=False)
    assert found(plans, request) is not None
    assert found(plans, request, request) is None


def test_what_is_kept_is_bounded() -> None:
    signature = one()
    plans = kept(signature, *(asked({"x": ROW}, id=f"{number:04}") for number in range(300)))
    assert len(plans._plans) <= alike._KEPT
    long = asked({"x": ROW}, id="x" * alike._LONGEST)
    assert found(kept(signature, long), long) is None
    request = asked({"x": ROW})
    plan = plan_of(plans := kept(signature, request), request)
    for rows in range(300):
        plans.encode(plan, {"y": np.zeros((rows, 3), np.float32)}, 1, 10**6)
    assert len(plan.begins) <= alike._KEPT


# --- answers ------------------------------------------------------------------------------------------


def answered(plans: Alike, plan: Plan, outputs: dict[str, Array], count: int) -> list[tuple[AnswerHead, bytes]] | None:
    answers = plans.encode(plan, outputs, count, 10**6)
    if answers is None:
        return None
    heads, payloads = answers
    data, at, parts = b"".join(payloads), 0, []
    for head in heads:
        parts.append((head, data[at : at + head.size]))
        at += head.size
    assert at == len(data)
    return parts


@pytest.mark.parametrize("id", ["", "né 日本"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_answers_are_those_that_each_would_get(count: int, id: str) -> None:
    signature = two()
    request = asked({"a": np.ones((2, 2), np.float32), "b": np.ones(2, np.int64)}, **({"id": id} if id else {}))
    plans = kept(signature, request)
    plan = plan_of(plans, request)
    y = np.arange(2 * count * 3, dtype=np.float32).reshape(2 * count, 3)
    z = np.arange(4 * count, dtype=np.int64)[::2]  # its values do not lie side by side
    for shift in range(3):
        got = answered(plans, plan, {"y": y + shift, "z": z}, count)
        assert got is not None
        for number, (head, payload) in enumerate(got):
            rows = slice(2 * number, 2 * number + 2)
            outputs: list[Output] = [("y", "FP32", y[rows] + shift, True), ("z", "INT64", z[rows], True)]
            expected, json_length, _ = encode("m", "3", id, outputs)
            assert (payload, head) == (expected, AnswerHead(len(expected), json_length))


def test_only_the_outputs_that_are_asked_for() -> None:
    wanted = [{"name": "z", "parameters": {"binary_data": True}}]
    request = asked({"a": np.ones((1, 2), np.float32), "b": np.ones(1, np.int64)}, outputs=wanted, parameters={})
    plans = kept(two(), request)
    got = answered(plans, plan_of(plans, request), {"z": np.array([7], np.int64)}, 1)
    assert got is not None
    assert got[0][1] == encode("m", "3", "", [("z", "INT64", np.array([7], np.int64), True)])[0]


def test_answers_that_have_to_be_looked_at() -> None:
    """NaN, an output that is not there, one that is no tensor, other rows than came in, more than the limit."""
    request = asked({"x": ROW})
    plans = kept(one(), request)
    plan = plan_of(plans, request)
    good = np.ones((2, 3), np.float32)
    assert answered(plans, plan, {"y": good}, 2) is not None
    nan = good.copy()
    nan[1, 2] = np.nan
    wrong = [{"y": nan}, {"y": np.full((2, 3), np.inf)}, {}, {"y": np.array(["a", "b"], object)}]
    wrong += [{"y": good[:1]}, {"y": np.ones((3, 3), np.float32)}, {"y": np.ones((), np.float32)}]
    for outputs in wrong:
        assert plans.encode(plan, outputs, 2, 10**6) is None
    assert plans.encode(plan, {"y": good}, 2, plan.begins[2, (2, 3)].head.size) is not None
    assert plans.encode(plan, {"y": good}, 2, plan.begins[2, (2, 3)].head.size - 1) is None


def test_an_answer_in_json_is_looked_at() -> None:
    request = asked({"x": ROW}, parameters={})
    plans = kept(one(), request)
    assert plans.encode(plan_of(plans, request), {"y": np.ones((1, 3), np.float32)}, 1, 10**6) is None


@pytest.mark.parametrize("shape", [(), (0, 3), (1, 0), (1, 3), (1, 100, 100)])
def test_one_answer_may_have_any_shape(shape: tuple[int, ...]) -> None:
    request = asked({"x": ROW})
    plans = kept(one(), request)
    y = np.full(shape, 2.5, np.float32)
    got = answered(plans, plan_of(plans, request), {"y": y}, 1)
    assert got is not None
    assert got[0][1] == encode("m", "3", "", [("y", "FP32", y, True)])[0]


def fast(tensors: dict[str, Array], signature: Signature, flags: int = 0) -> tuple[Job, bytes]:
    """The same over the fast lane, as the worker reads it."""
    payload = body(tensors, flags=flags)
    decoded = Fast(signature).decode(memoryview(payload))
    made, rows, _ = prepare(decoded, (), signature)
    return Job(InputHead(len(payload), FAST), decoded, made, rows), payload


@given(datatype=st.sampled_from(NUMBERS), seed=st.integers(0, 99), count=st.integers(1, 5), rows=st.integers(1, 3))
def test_the_fast_lane_s_inputs_and_answers_are_those_that_each_alone_gives(
    datatype: str, seed: int, count: int, rows: int
) -> None:
    signature = one(datatype, (-1, 4))
    values = [np.resize(np.roll(extremes(datatype), seed + number), (rows, 4)) for number in range(count)]
    plans = Alike("m", "3", ["y"], stacks=True)
    for _ in range(2):
        plans.learn(*_first(fast({"x": values[0]}, signature)))
    jobs = [fast({"x": array}, signature) for array in values]
    answer = plans.find([job.head for job, _ in jobs], memoryview(b"".join(payload for _, payload in jobs)))
    assert answer is not None
    plan, feeds = answer
    assert same(feeds["x"], np.concatenate(values))
    y = np.arange(count * rows * 3, dtype=np.float32).reshape(-1, 3)
    encoded = plans.encode(plan, {"y": y}, count, 10**6)
    assert encoded is not None
    alone = [Fast(signature).encode([("y", "FP32", part, True)])[0] for part in np.split(y, count)]
    assert b"".join(encoded[1]) == b"".join(alone)
    assert encoded[0] == [AnswerHead(len(part)) for part in alone]
    y[0, 0] = np.nan
    assert plans.encode(plan, {"y": y}, count, 10**6) is None


def _first(read: tuple[Job, bytes]) -> tuple[Job, memoryview]:
    return read[0], memoryview(read[1])


def test_two_clients_that_take_turns_are_both_known() -> None:
    plans = Alike("m", "3", ["y"], stacks=True)
    jobs = [fast({"x": array}, one()) for array in (ROW, np.concatenate([ROW, ROW]))]
    for _ in range(2):
        for job in jobs:
            plans.learn(*_first(job))
    assert all(plans.find([job.head], memoryview(payload)) is not None for job, payload in jobs)


def test_what_is_not_kept_of_the_fast_lane() -> None:
    """Inputs that ask for steps; and nothing is found for what is no body, or says other things."""
    plans = Alike("m", "3", ["y"], stacks=True)
    for _ in range(3):
        plans.learn(*_first(fast({"x": ROW}, one(), flags=1)))
    assert not plans._plans
    for _ in range(2):
        plans.learn(*_first(fast({"x": ROW}, one())))
    (job, payload) = fast({"x": ROW}, one())
    for other in (b"", payload[:5], payload[:20], bytes([payload[0] ^ 1]) + payload[1:]):
        assert plans.find([InputHead(len(other), FAST)], memoryview(other)) is None
    answer = plans.find([job.head], memoryview(payload))
    assert answer is not None
    two_outputs: dict[str, Array] = {"y": np.zeros((1, 3), np.float32), "z": np.zeros(1, np.int64)}
    plan = msgspec.structs.replace(answer[0], asked=("y", "z"))
    assert plans.encode(plan, two_outputs, 1, 10**6) is None  # four bytes lie between them
