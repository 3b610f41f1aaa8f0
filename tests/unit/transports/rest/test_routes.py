"""Paths as targets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.transports.rest.routes import CONTROL, VERBS, Target, target


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/v2", Target("server")),
        (b"/v2?x=/v2/models", Target("server")),
        (b"/v2/health/live", Target("live")),
        (b"/v2/health/ready", Target("ready")),
        (b"/metrics", Target("metrics")),
        (b"/edged/status", Target("status")),
        (b"/v2/models/digits", Target("model", "digits")),
        (b"/v2/models/digits/ready", Target("model_ready", "digits")),
        (b"/v2/models/digits/infer", Target("infer", "digits")),
        (b"/v2/models/digits/versions/12/infer", Target("infer", "digits", "12")),
        (b"/v2/models/digits/versions/12/ready", Target("model_ready", "digits", "12")),
        (b"/v2/models/digits/versions/12", Target("model", "digits", "12")),
        (b"/v2/models/digits/config", Target("config", "digits")),
        (b"/v2/models/digits/versions/12/config", Target("config", "digits", "12")),
        (b"/v2/models/digits/stats", Target("statistics", "digits")),
        (b"/v2/models/digits/versions/12/stats", Target("statistics", "digits", "12")),
        (b"/v2/models/stats", Target("statistics")),
        (b"/v2/models/stats/stats", Target("statistics", "stats")),
        (b"/v2/systemsharedmemory/status", Target("shared_status")),
        (b"/v2/systemsharedmemory/region/a%20b/status", Target("shared_status", region="a b")),
        (b"/v2/systemsharedmemory/region/r/register", Target("shared_register", region="r")),
        (b"/v2/systemsharedmemory/region/r/unregister", Target("shared_unregister", region="r")),
        (b"/v2/systemsharedmemory/unregister", Target("shared_unregister")),
        (b"/v2/cudasharedmemory/status", Target("cuda_status")),
        (b"/v2/trace/setting", Target("trace")),
        (b"/v2/models/digits/trace/setting", Target("trace", "digits")),
        (b"/v2/repository/index", Target("index")),
        (b"/v2/repository/models/digits/load", Target("load", "digits")),
        (b"/v2/repository/models/digits/unload", Target("unload", "digits")),
        (b"/edged/models/digits/rollback", Target("rollback", "digits")),
        (b"/edged/models/digits/pin", Target("pin", "digits")),
        (b"/edged/models/digits/unpin", Target("unpin", "digits")),
        (b"/edged/models/digits/install", Target("install", "digits")),
        (b"/edged/install", Target("offer")),
        (b"/edged/install/missing", Target("missing")),
        (b"/edged/install/chunk/" + b"0a" * 32, Target("chunk", sha256="0a" * 32)),
        (b"/v2/models/d%69gits/infer", Target("infer", "digits")),
        (b"/v2/models/versions/versions/1/infer", Target("infer", "versions", "1")),
        (b"/v2/models/%C3%A9", Target("model", "é")),
    ],
)
def test_what_is_served(path: bytes, expected: Target) -> None:
    assert target(path) == expected


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"v2",
        b"//v2",
        b"/v2/",
        b"/V2",
        b"/v2/health",
        b"/v2/models",
        b"/v2/models/",
        b"/v2/models//infer",
        b"/v2/models/a/infer/",
        b"/v2/models/a/versions",
        b"/v2/models/a/versions/",
        b"/v2/models/a/versions//infer",
        b"/v2/models/a/versions/v1/infer",
        b"/v2/models/a/versions/1/2/infer",
        b"/v2/models/a/config/",
        b"/edged",
        b"/edged/models//rollback",
        b"/edged/models/a/rollback/b",
        b"/edged/models/a/status",
        b"/edged/models/a/pin/3",
        b"/edged/models//pin",
        b"/edged/install/",
        b"/edged/install/chunk",
        b"/edged/install/chunk/" + b"0A" * 32,
        b"/edged/install/chunk/" + b"0a" * 31,
        b"/edged/install/chunk/" + b"0a" * 32 + b"/",
        b"/v2/models/a/b/infer",
        b"/v2/systemsharedmemory/register",
        b"/v2/systemsharedmemory/region//status",
        b"/v2/systemsharedmemory/region/status",
        b"/v2/systemsharedmemory/r/register",
        b"/v2/systemsharedmemory/region/r/s/register",
        b"/v2/models/a/versions/\xd9\xa1",  # an Arabic digit
    ],
)
def test_what_is_not(path: bytes) -> None:
    assert target(path) == Target("nothing")


def test_an_encoded_slash_ends_in_no_other_place() -> None:
    assert target(b"/v2/models/a%2Fversions%2F1/infer") == Target("infer", "a/versions/1")
    assert target(b"/v2/models/..%2F..%2Fmetrics") == Target("model", "../../metrics")


@given(st.binary(max_size=60) | st.text("/v2modelsversionsinferready%1?", max_size=60).map(str.encode))
def test_any_bytes_are_a_target_with_a_verb(path: bytes) -> None:
    found = target(path)
    assert found.kind in {*VERBS, "nothing"}
    assert found.version == "" or found.version.isdigit()
    of_a_model = {"model", "model_ready", "infer", "config", "rollback", "pin", "unpin", "install", "load", "unload"}
    assert bool(found.model) == (found.kind in of_a_model) or found.kind in ("statistics", "trace")
    assert not found.region or found.kind.startswith(("shared_", "cuda_"))
    assert bool(found.sha256) == (found.kind == "chunk")


def test_what_changes_the_box_is_not_for_everybody() -> None:
    """Of the addresses below /edged only the status is open to whoever may use the models."""
    assert {kind for kind in VERBS if kind not in CONTROL} == {
        *("shared_status", "shared_register", "shared_unregister", "cuda_status", "cuda_unregister"),
        *(
            "server",
            "live",
            "ready",
            "model",
            "model_ready",
            "infer",
            "metrics",
            "status",
            "config",
            "statistics",
            "index",
        ),
    }
