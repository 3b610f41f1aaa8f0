"""The four documents: what each may say, and that every parser gives a value or a refusal for anything at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.delivery import documents
from edged.delivery.documents import (
    CHUNK_MAX,
    CHUNK_MIN,
    File,
    Golden,
    Limits,
    Release,
    Role,
    Roles,
    Rollout,
    Trust,
    Undo,
    Want,
    Watching,
    is_file_name,
    is_scope,
)
from edged.delivery.strict import Malformed
from edged.tensors import BY_OIP, TensorSpec
from tests.parsers import OPERATOR, PARSERS, RELEASE, SEEDS, UNDO, WANT
from tests.signing import release_of, want_of

HASHES = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.from_regex(r"[A-Za-z0-9_-]{1,20}", fullmatch=True)
FILES = st.from_regex(r"[a-z0-9][a-z0-9_-]{0,10}(\.[a-z]{1,4})?", fullmatch=True).filter(is_file_name)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
NUMBERS = st.integers(1, 2**53 - 1)
FIGURES = st.floats(0, 1e6)
SPECS = st.builds(
    TensorSpec,
    TEXTS,
    st.sampled_from(sorted(BY_OIP)),
    st.lists(st.integers(-1, 2**40), max_size=4).map(tuple),
    json=st.booleans(),
    optional=st.booleans(),
)
RELEASES = st.builds(
    Release,
    model=NAMES,
    version=NUMBERS,
    created=NUMBERS,
    files=st.dictionaries(FILES, st.builds(File, st.integers(0, 10**8), HASHES, HASHES), max_size=5).flatmap(
        lambda files: st.builds(File, st.integers(0, 10**8), HASHES, HASHES).map(
            lambda model: {**files, "model.onnx": model}
        )
    ),
    inputs=st.lists(SPECS, max_size=3, unique_by=lambda one: one.name).map(tuple),
    outputs=st.lists(SPECS, max_size=3, unique_by=lambda one: one.name).map(tuple),
    label=TEXTS,
    notes=TEXTS,
    onnxruntime=st.sampled_from(["", "1.21", "1.22.0"]),
    limits=st.builds(Limits, FIGURES, st.integers(0, 2**40), FIGURES),
    golden=st.none() | st.builds(Golden, st.just("model.onnx"), FIGURES, FIGURES),
)
SCOPES = st.just("all") | NAMES.map("group/{}".format) | NAMES.map("device/{}".format)
ORDER: dict[str, Any] = {
    "model": NAMES,
    "to": SCOPES,
    "seq": NUMBERS,
    "issued": NUMBERS,
    "expires": NUMBERS,
    "release": HASHES,
    "epoch": st.integers(0, 2**53 - 1),
}
WANTS = st.builds(
    Want,
    **ORDER,
    version=NUMBERS,
    action=st.sampled_from(["install", "download_only"]),
    allow_downgrade=st.booleans(),
    urgent=st.booleans(),
    retry=st.booleans(),
    rollout=st.builds(Rollout, st.floats(0, 100), TEXTS, FIGURES, st.booleans()),
    probation=st.builds(Watching, st.none() | FIGURES, st.none() | st.integers(0, 10**6), FIGURES, FIGURES),
)
TRUSTS = st.builds(
    Trust,
    version=NUMBERS,
    keys=st.just(OPERATOR.trust.keys),
    roles=st.just(OPERATOR.trust.roles),
    expires=st.none() | NUMBERS,
    epoch=st.integers(0, 2**53 - 1),
    min_version=st.dictionaries(NAMES, NUMBERS, max_size=3),
    banned=st.dictionaries(HASHES, TEXTS, max_size=3),
)


@given(RELEASES)
def test_a_release_comes_back(document: Release) -> None:
    assert documents.read_release(documents.encode(document)) == document


@given(WANTS)
def test_a_want_comes_back(document: Want) -> None:
    assert documents.read_want(documents.encode(document)) == document


@given(st.builds(Undo, **ORDER))
def test_an_undo_comes_back(document: Undo) -> None:
    assert documents.read_undo(documents.encode(document)) == document


@given(TRUSTS)
def test_a_trust_document_comes_back(document: Trust) -> None:
    assert documents.read_trust(documents.encode(document)) == document


def test_what_is_as_usual_is_not_written() -> None:
    """So that an older edged reads what uses nothing new."""
    assert set(json.loads(documents.encode(WANT))) == {
        "model",
        "to",
        "seq",
        "issued",
        "expires",
        "release",
        "version",
    }


# --- anything at all ------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", PARSERS)
@given(content=st.binary(max_size=200) | JUNK.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_value_or_a_refusal(name: str, content: bytes) -> None:
    PARSERS[name](content)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_a_good_one_with_something_else_in_it_is_a_value_or_a_refusal(name: str, data: st.DataObject) -> None:
    good = SEEDS[name]
    try:
        value = json.loads(good)
    except ValueError:
        at = data.draw(st.integers(0, len(good) - 1))
        PARSERS[name](good[:at] + data.draw(st.binary(max_size=4)) + good[at + 1 :])
        return
    inner, path = value, list[Any]()
    while isinstance(inner, dict | list) and inner and (not path or data.draw(st.booleans())):
        keys: list[Any] = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        path.append(data.draw(st.sampled_from(keys)))
        inner = inner[path[-1]]
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(JUNK)
    PARSERS[name](json.dumps(value).encode())


# --- what each may say ----------------------------------------------------------------------------------


def changed(document: Any, **changes: object) -> bytes:
    """The payload with other members; `...` takes one out."""
    members = {**json.loads(documents.encode(document)), **changes}
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


def refused(read: Callable[[bytes], object], document: Any, **changes: object) -> None:
    read(documents.encode(document))
    with pytest.raises(Malformed):
        read(changed(document, **changes))


@pytest.mark.parametrize(
    "name",
    [
        "../model.onnx",
        "..",
        "a..b",
        ".hidden",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "A.onnx",
        "a b",
        "a\n",
        "",
        "a" * 65,
        "ä",
        "a\x00",
        "release.json",
    ],
)
def test_ota_F45_a_file_has_a_plain_name(name: str) -> None:
    file = json.loads(documents.encode(RELEASE))["files"]["model.onnx"]
    refused(documents.read_release, RELEASE, files={"model.onnx": file, name: file}, golden=...)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a.b", "ä", "a" * 65, "+", "#"])
def test_ota_F45_names_that_become_folders_and_topics_are_plain(name: str) -> None:
    refused(documents.read_release, RELEASE, model=name)
    refused(documents.read_want, WANT, model=name)
    refused(documents.read_want, WANT, to=f"device/{name}")
    refused(documents.read_undo, UNDO, to=f"group/{name}")
    refused(documents.read_trust, OPERATOR.trust, min_version={name: 1})


def test_scopes() -> None:
    assert all(is_scope(one) for one in ("all", "group/a", "device/b-1"))
    assert not any(is_scope(one) for one in ("", "all/", "group", "group/", "device/a/b", "devices/a", "All"))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"version": 1.0},
        {"version": 2**53},
        {"created": -1},
        {"files": {}},
        {"label": "x" * 65},
        {"notes": "x" * 4097},
        {"onnxruntime": "latest"},
        {"onnxruntime": "1.21\n"},
        {"golden": {"file": "other.npz"}},
        {"golden": {"atol": -1}},
        {"golden": {"rtol": 1e12}},
        {"limits": {"load_s": -1}},
        {"limits": {"memory": 1.5}},
        {"inputs": [["x", "FP31", [1]]]},
        {"inputs": [["x", "FP32", [-2]]]},
        {"inputs": [["x", "FP32", [1] * 17]]},
        {"inputs": [["x", "FP32", [1], [""]], ["x", "FP32", [1]]]},
        {"inputs": [["x", "FP32", [1], ["a", "b"]]]},
        {"inputs": [["x" * 257, "FP32", [1]]]},
        {"inputs": [["x", "FP32", [1], [], False, False, "more"]]},
        {"inputs": [[f"x{number}", "FP32", [1]] for number in range(65)]},
        {"outputs": ...},
        {"more": 1},
        {"model": None},
    ],
)
def test_what_no_release_says(changes: dict[str, object]) -> None:
    refused(documents.read_release, RELEASE, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": -1},
        {"size": 2**53},
        {"sha256": "A" * 64},
        {"index": "a" * 63},
        {"chunk": CHUNK_MIN - 1},
        {"chunk": CHUNK_MAX + 1},
        {"size": 96 * 1024 * 3073},  # its index does not fit a chunk
        {"name": "x"},
    ],
)
def test_what_no_file_of_a_release_says(changes: dict[str, object]) -> None:
    file = json.loads(documents.encode(RELEASE))["files"]["model.onnx"]
    refused(documents.read_release, RELEASE, files={"model.onnx": {**file, **changes}}, golden=...)


def test_a_release_has_sixteen_files_at_most() -> None:
    file = json.loads(documents.encode(RELEASE))["files"]["model.onnx"]
    many = {f"file-{number}": file for number in range(16)}
    refused(documents.read_release, RELEASE, files={"model.onnx": file, **many}, golden=...)


@pytest.mark.parametrize(
    "changes",
    [
        {"to": "everybody"},
        {"seq": 0},
        {"seq": -1},
        {"seq": 2**53},
        {"seq": "1"},
        {"epoch": -1},
        {"issued": 0},
        {"expires": None},
        {"release": "a" * 63},
        {"version": 0},
        {"action": "rollback"},
        {"urgent": 1},
        {"rollout": {"percent": 101}},
        {"rollout": {"percent": -0.1}},
        {"rollout": {"salt": "x" * 65}},
        {"rollout": {"spread_s": -1}},
        {"rollout": {"wave": 1}},
        {"probation": {"runs": -1}},
        {"probation": {"max_errors": 1e10}},
        {"more": 1},
    ],
)
def test_what_no_want_says(changes: dict[str, object]) -> None:
    refused(documents.read_want, WANT, **changes)


def test_an_undo_is_no_want() -> None:
    with pytest.raises(Malformed):
        documents.read_undo(documents.encode(WANT))
    with pytest.raises(Malformed):
        documents.read_want(documents.encode(UNDO))


ID, OTHER = list(OPERATOR.trust.keys)[:2]


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 0},
        {"expires": 0},
        {"epoch": -1},
        {"keys": {}},
        {"keys": {"x": {"scheme": "ed25519", "public": ""}}},
        {"min_version": {"digits": 0}},
        {"banned": {"xyz": ""}},
        {"banned": {"a" * 64: "x" * 257}},
        {"banned": {f"{number:064x}": "" for number in range(257)}},
        {"more": 1},
    ],
)
def test_what_no_trust_document_says(changes: dict[str, object]) -> None:
    refused(documents.read_trust, OPERATOR.trust, **changes)


@pytest.mark.parametrize(
    "role",
    [
        Role((), 0),
        Role((), 1),
        Role((ID,), 0),
        Role((ID,), 2),
        Role((ID, ID), 2),
        Role(("f" * 16,), 1),
        Role((ID,), -1),
    ],
)
@pytest.mark.parametrize("name", ["root", "release", "deploy"])
def test_a_role_can_be_filled(role: Role, name: str) -> None:
    roles: Roles = msgspec.structs.replace(OPERATOR.trust.roles, **{name: role})
    with pytest.raises(Malformed):
        documents.read_trust(documents.encode(msgspec.structs.replace(OPERATOR.trust, roles=roles)))


def test_a_field_at_its_default_is_not_written_whatever_made_the_number() -> None:
    want = want_of(
        release_of({"model.onnx": b"x"}), rollout=Rollout(percent=float("100"), salt="", spread_s=float("0"))
    )
    assert b"rollout" not in documents.encode(want)
    release = msgspec.structs.replace(
        release_of({"model.onnx": b"x"}), limits=Limits(load_s=float("0"), memory=int("2000000"))
    )
    assert b'"limits":{"memory":2000000}' in documents.encode(release)
    assert documents.read_release(documents.encode(release)) == release
