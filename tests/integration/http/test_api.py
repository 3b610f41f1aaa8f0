"""Every address of the HTTP API: what it answers, and that each error is JSON with a stable code (RULES 23)."""

from __future__ import annotations

import gzip
import json
import socket
import time
import zlib
from typing import Any, cast

import pytest

import edged
from edged.messages import Answer
from edged.oip.describe import EXTENSIONS
from tests.integration.http.double import MESSAGE_LIMIT, MODELS, Served, view

BODY = b'{"id":"a","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.0,2.0]}]}'


def call(served: Served, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict[str, object]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    status, found, answer = served.request(method, path, body, named)
    assert found["content-type"] == "application/json"
    value = json.loads(answer)
    assert isinstance(value, dict)
    return status, value


def test_server_metadata_names_what_is_served(served: Served) -> None:
    status, body = call(served, "GET", "/v2")
    assert (status, body) == (
        200,
        {"name": "edged", "version": edged.__version__, "extensions": list(EXTENSIONS)},
    )


def test_what_tritons_clients_ask_of_a_model(served: Served) -> None:
    status, body = call(served, "GET", "/v2/models/echo/versions/3/config")
    assert (status, body["name"], body["max_batch_size"]) == (200, "echo", 16)
    status, body = call(served, "GET", "/v2/models/echo/stats")
    (found,) = cast("list[dict[str, Any]]", body["model_stats"])
    assert (status, found["name"], found["version"], found["inference_count"]) == (200, "echo", "3", 7)
    status, body = call(served, "GET", "/v2/models/stats")
    assert [one["name"] for one in cast("list[dict[str, Any]]", body["model_stats"])] == list(MODELS)
    for what in ("config", "stats"):
        assert call(served, "GET", f"/v2/models/echo/versions/9/{what}")[0] == 404
        assert call(served, "GET", f"/v2/models/nobody/{what}")[0] == 404


def test_health(served: Served) -> None:
    assert call(served, "GET", "/v2/health/live") == (200, {"live": True})
    assert call(served, "GET", "/v2/health/ready") == (200, {"ready": True})


def test_ready_is_503_while_a_model_is_failed(quick: Served) -> None:
    quick.double.views["digits"] = view("digits", "starting")
    assert call(quick, "GET", "/v2/health/ready")[0] == 200
    quick.double.views["digits"] = view("digits", "failed")
    status, body = call(quick, "GET", "/v2/health/ready")
    assert (status, body["ready"], body["code"]) == (503, False, "model_failed")
    assert "digits" in str(body["error"])
    status, body = call(quick, "GET", "/v2/models/digits")
    assert (status, body["code"]) == (500, "model_failed")
    assert "not_a_model: it is a text file" in str(body["error"])


@pytest.mark.parametrize("state", ["starting", "waiting"])
def test_a_model_without_a_version_is_starting(quick: Served, state: str) -> None:
    quick.double.views["digits"] = view("digits", state)
    for path in ("/v2/models/digits", "/v2/models/digits/ready"):
        status, body = call(quick, "GET", path)
        assert (status, body["code"]) == (503, "starting")


def test_model_metadata(served: Served) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
    expected = {
        "name": "echo",
        "versions": ["3"],
        "platform": "onnx_onnxv1",
        "inputs": [tensor],
        "outputs": [tensor],
    }
    for path in ("/v2/models/echo", "/v2/models/echo/versions/3", "/v2/models/%65cho", "/v2/models/echo?x=1"):
        assert call(served, "GET", path) == (200, expected)
    assert call(served, "GET", "/v2/models/echo/versions/3/ready") == (200, {"name": "echo", "ready": True})


def test_infer_with_json(served: Served) -> None:
    for path in ("/v2/models/echo/infer", "/v2/models/echo/versions/3/infer"):
        status, body = call(served, "POST", path, BODY)
        assert status == 200
        assert (body["id"], body["model_version"]) == ("a", "3")
        assert body["outputs"] == [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.0, 2.0]}]


def test_infer_with_binary_tensors(served: Served) -> None:
    # The request that tritonclient sends.
    text = (
        b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],'
        b'"parameters":{"binary_data_output":true}}'
    )
    raw = b"\x00\x00\x80?\x00\x00\x00@"
    status, headers, body = served.request(
        "POST", "/v2/models/echo/infer", text + raw, {"Inference-Header-Content-Length": str(len(text))}
    )
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    length = int(headers["inference-header-content-length"])
    assert json.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert body[length:] == raw
    assert served.double.offered[-1].binary


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ({}, ["", -1, True, 4]),
        ({"Content-Type": "application/x-npy"}, ["application/x-npy", -1, True, 4]),
        ({"Content-Type": "Text/CSV; charset=utf-8"}, ["text/csv", -1, True, 4]),
        ({"Content-Type": "application/x-www-form-urlencoded"}, ["", -1, True, 4]),
        ({"Content-Type": "application/octet-stream"}, ["application/octet-stream", -1, True, 4]),
        ({"Inference-Header-Content-Length": "0"}, ["", 0, True, 4]),
        ({"INFERENCE-HEADER-CONTENT-LENGTH": "4"}, ["", 4, True, 4]),
    ],
)
def test_the_body_is_handed_on_undecoded(served: Served, headers: dict[str, str], seen: list[object]) -> None:
    status, body = served.request("POST", "/v2/models/seen/infer", b"\x93NUM", headers)[::2]
    answer = json.loads(body)
    assert (status, answer["seen"]) == (200, seen)
    assert answer["parameters"] == {"nonfinite": True}


@pytest.mark.parametrize("length", ["", "-1", "x", "1e1", "+1", "5", "0x4", "9" * 30, "²"])
def test_a_json_length_that_cannot_be_is_bad_input(served: Served, length: str) -> None:
    before = len(served.double.offered)
    status, body = call(served, "POST", "/v2/models/echo/infer", b"{}{}", Inference_Header_Content_Length=length)
    assert (status, body["code"]) == (400, "bad_input")
    assert "Inference-Header-Content-Length" in str(body["error"])
    assert len(served.double.offered) == before


def test_bodies_that_are_empty_or_compressed_as_nobody_reads_are_refused(served: Served) -> None:
    status, body = call(served, "POST", "/v2/models/echo/infer", b"\x1f\x8b", Content_Encoding="br")
    assert (status, body["code"]) == (501, "unsupported")
    status, body = call(served, "POST", "/v2/models/echo/infer")
    assert (status, body["code"]) == (400, "bad_input")


@pytest.mark.parametrize("padding", [0, 500_000])
def test_compressed_bodies_are_inflated(served: Served, padding: int) -> None:
    """The short one in the loop, the long one in a thread; the header counts what was there before compression."""
    body = BODY + b" " * padding
    for coding, squeezed in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        assert call(served, "POST", "/v2/models/echo/infer", squeezed, Content_Encoding=coding)[0] == 200
        length = {"Inference-Header-Content-Length": str(len(body))}
        assert call(served, "POST", "/v2/models/echo/infer", squeezed, Content_Encoding=coding, **length)[0] == 200
        assert served.double.offered[-1].payload == body
        status, answer = call(
            served,
            "POST",
            "/v2/models/echo/infer",
            squeezed,
            Content_Encoding=coding,
            **{"Inference-Header-Content-Length": str(len(body) + 1)},
        )
        assert (status, answer["code"]) == (400, "bad_input")


def test_a_bomb_and_damage_are_refused(served: Served) -> None:
    before = len(served.double.offered)
    bomb = gzip.compress(bytes(100 * MESSAGE_LIMIT))
    assert len(bomb) < MESSAGE_LIMIT
    status, answer = call(served, "POST", "/v2/models/echo/infer", bomb, Content_Encoding="gzip")
    assert (status, answer["code"]) == (413, "too_large")
    status, answer = call(served, "POST", "/v2/models/nobody/infer", bomb, Content_Encoding="gzip")
    assert status in (404, 413)
    status, answer = call(served, "POST", "/v2/models/echo/infer", gzip.compress(BODY)[:-3], Content_Encoding="gzip")
    assert (status, answer["code"]) == (400, "bad_input")
    assert len(served.double.offered) == before


def test_answers_are_not_compressed(served: Served) -> None:
    _, headers, _ = served.request("POST", "/v2/models/echo/infer", BODY, {"Accept-Encoding": "gzip, deflate, br"})
    assert "content-encoding" not in headers


def test_what_a_request_asks_of_the_queue(served: Served) -> None:
    asked = json.loads(BODY) | {"parameters": {"timeout": 250_000, "priority": 1}}
    assert call(served, "POST", "/v2/models/echo/infer", json.dumps(asked).encode())[0] == 200
    item = served.double.offered[-1]
    assert item.priority == 1
    assert item.start_by_s == pytest.approx(item.arrived_s + 0.25)
    assert call(served, "POST", "/v2/models/echo/infer", BODY)[0] == 200
    assert (served.double.offered[-1].priority, served.double.offered[-1].start_by_s) == (0, None)
    asked["parameters"] = {"timeout": "soon"}
    status, answer = call(served, "POST", "/v2/models/echo/infer", json.dumps(asked).encode())
    assert (status, answer["code"]) == (400, "bad_input")


@pytest.mark.parametrize("path", ["/v2/trace/setting", "/v2/models/echo/trace/setting", "/v2/logging"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_edged_does_not_do_is_said_in_so_many_words(served: Served, method: str, path: str) -> None:
    status, answer = call(served, method, path, b"{}" if method == "POST" else b"")
    assert (status, answer["code"]) == (501, "unsupported")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v2/", 404, "not_found"),
        ("GET", "/v2/models", 404, "not_found"),
        ("GET", "/v2/models/", 404, "not_found"),
        ("GET", "/v2/models/echo/", 404, "not_found"),
        ("GET", "/v2/models/echo/versions/x", 404, "not_found"),
        ("GET", "/v2/models/echo/versions/%C2%B2", 404, "not_found"),
        ("GET", "/v2/models/echo/configuration", 404, "not_found"),
        ("GET", "/v2/models/echo/versions/4", 404, "unknown_model"),
        ("GET", "/v2/models/nobody", 404, "unknown_model"),
        ("GET", "/v2/models/a%2Fb", 404, "unknown_model"),
        ("GET", "/v2/models/%FF%00", 404, "unknown_model"),
        ("POST", "/v2/models/nobody/infer", 404, "unknown_model"),
        ("POST", "/v2/models/echo/versions/4/infer", 404, "unknown_model"),
        ("GET", "/v2/models/echo/infer", 405, "method_not_allowed"),
        ("POST", "/v2", 405, "method_not_allowed"),
        ("OPTIONS", "/metrics", 405, "method_not_allowed"),
        ("DELETE", "/v2/models/echo", 405, "method_not_allowed"),
        ("GET", "/edged/models/echo/rollback", 405, "method_not_allowed"),
    ],
)
def test_what_is_not_served(served: Served, method: str, path: str, status: int, code: str) -> None:
    found = call(served, method, path)
    assert (found[0], found[1]["code"]) == (status, code)
    assert found[1]["error"]
    assert found[1]["hint"]


def test_unknown_models_and_versions_say_what_serves(served: Served) -> None:
    assert "echo" in str(call(served, "GET", "/v2/models/nobody")[1]["error"])
    assert "version 3 does" in str(call(served, "GET", "/v2/models/echo/versions/4")[1]["error"])


def test_405_names_the_verb(served: Served) -> None:
    assert served.request("PUT", "/v2")[1]["allow"] == "GET, HEAD"
    assert served.request("GET", "/v2/models/echo/infer")[1]["allow"] == "POST"


def test_head_is_get_without_a_body(served: Served) -> None:
    status, headers, body = served.request("HEAD", "/v2/models/echo")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 0
    assert served.request("HEAD", "/nowhere")[0] == 404
    assert served.request("HEAD", "/v2/models/echo/infer")[0] == 405


def test_outcomes_that_are_faults(served: Served) -> None:
    status, body = call(served, "POST", "/v2/models/full/infer", BODY)
    assert (status, body["code"]) == (503, "queue_full")
    status, body = call(served, "POST", "/v2/models/echo/infer", b"no json")
    assert (status, body["code"]) == (400, "bad_input")


def test_a_bug_answers_internal_and_is_counted_and_logged(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    status, body = call(served, "POST", "/v2/models/bug/infer", BODY)
    assert (status, body["code"]) == (500, "internal")
    assert "ZeroDivisionError" not in str(body)
    assert served.double.refused["bug", "internal"] == 1
    assert "ZeroDivisionError: a bug on purpose" in caplog.text
    assert call(served, "GET", "/v2/health/live")[0] == 200


def test_an_outcome_that_never_comes_is_answered_after_all(quick: Served) -> None:
    status, body = call(quick, "POST", "/v2/models/late/infer", BODY)
    assert (status, body["code"]) == (503, "deadline")
    quick.double.offered[-1].reply(Answer(b"{}", 0, "3"))  # too late for anybody: dropped


def test_deadlines_are_the_models_own_or_ten_seconds(quick: Served) -> None:
    served = quick  # its net is below the deadline, not five seconds later
    call(served, "POST", "/v2/models/full/infer", BODY)
    item = served.double.offered[-1]
    assert item.deadline_s is not None
    assert item.deadline_s - item.arrived_s == 10
    assert item.arrived_ms > 1_600_000_000_000
    call(served, "POST", "/v2/models/late/infer", BODY)
    item = served.double.offered[-1]
    assert item.deadline_s is not None
    assert item.deadline_s - item.arrived_s == pytest.approx(0.05)


def test_metrics_are_prometheus_text(served: Served) -> None:
    status, headers, body = served.request("GET", "/metrics")
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert body == b"# HELP edged_up x\nedged_up 1\n"


def test_status(served: Served) -> None:
    assert call(served, "GET", "/edged/status") == (200, {"device": "press-07", "models": []})


def test_refusals_are_counted_under_configured_names_only(served: Served) -> None:
    served.double.refused.clear()
    call(served, "GET", "/v2/models/nobody")
    call(served, "GET", "/v2/models/echo/versions/9")
    call(served, "POST", "/v2/models/echo/versions/9/infer")
    call(served, "GET", "/nowhere")
    assert served.double.refused == {
        ("", "unknown_model"): 2,
        ("echo", "unknown_model"): 1,
        ("", "not_found"): 1,
    }
    assert set(served.double.views) == set(MODELS)


def test_a_refusal_reaches_a_client_that_is_still_sending(served: Served) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(served.path)
        client.sendall(
            b"POST /v2/models/absent/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"
        )
        time.sleep(0.1)  # http.client sends headers and body apart
        client.sendall(b"{}")
        assert client.recv(65_536).startswith(b"HTTP/1.1 404 ")
