"""The addresses of the HTTP API as values: which path asks for what, and with which verb."""

from __future__ import annotations

import functools
import re
import urllib.parse
from typing import Final, Literal

import msgspec

from edged.oip.shared import NO_CUDA

Kind = Literal[
    "infer",
    "model",
    "model_ready",
    "config",
    "statistics",
    "index",
    "load",
    "unload",
    "server",
    "live",
    "ready",
    "metrics",
    "status",
    "rollback",
    "pin",
    "unpin",
    "install",
    "offer",
    "missing",
    "chunk",
    "reload",
    "reload_check",
    "shared_status",
    "shared_register",
    "shared_unregister",
    "cuda_status",
    "cuda_register",
    "cuda_unregister",
    "trace",
    "logging",
    "nothing",
]

VERBS: Final[dict[Kind, str]] = {
    "server": "GET",
    "live": "GET",
    "ready": "GET",
    "model": "GET",
    "model_ready": "GET",
    "config": "GET",
    "statistics": "GET",
    "index": "POST",
    "load": "POST",
    "unload": "POST",
    "infer": "POST",
    "shared_status": "GET",
    "shared_register": "POST",
    "shared_unregister": "POST",
    "cuda_status": "GET",
    "cuda_unregister": "POST",
    "metrics": "GET",
    "status": "GET",
    "rollback": "POST",
    "pin": "POST",
    "unpin": "POST",
    "install": "POST",
    "offer": "POST",
    "missing": "GET",
    "chunk": "POST",
    "reload": "POST",
    "reload_check": "POST",
}
_OF_ONE_MODEL: Final[dict[bytes, Kind]] = {
    b"rollback": "rollback",
    b"pin": "pin",
    b"unpin": "unpin",
    b"install": "install",
}
# What Triton's clients may ask for and edged does not have: whatever the verb.
UNSERVED: Final[dict[Kind, str]] = {
    "trace": "edged traces no requests: /metrics and the statistics have what they take",
    "cuda_register": NO_CUDA,
    "logging": "what edged logs is not changed over HTTP: `journalctl -u edged` has all of it",
}
_MEMORY: Final[dict[bytes, dict[bytes, Kind]]] = {
    b"systemsharedmemory": {
        b"status": "shared_status",
        b"register": "shared_register",
        b"unregister": "shared_unregister",
    },
    b"cudasharedmemory": {b"status": "cuda_status", b"register": "cuda_register", b"unregister": "cuda_unregister"},
}
_OF_REPOSITORY: Final[dict[bytes, Kind]] = {b"load": "load", b"unload": "unload"}
# What changes the box, and not everybody may.
CONTROL: Final[frozenset[Kind]] = frozenset(
    {*_OF_ONE_MODEL.values(), *_OF_REPOSITORY.values(), "offer", "missing", "chunk", "reload", "reload_check"}
)
_FIXED: Final[dict[bytes, Kind]] = {
    b"/v2": "server",
    b"/v2/models/stats": "statistics",
    b"/v2/repository/index": "index",
    b"/v2/trace/setting": "trace",
    b"/v2/logging": "logging",
    b"/v2/health/live": "live",
    b"/v2/health/ready": "ready",
    b"/metrics": "metrics",
    b"/edged/status": "status",
    b"/edged/install": "offer",
    b"/edged/install/missing": "missing",
    b"/edged/reload": "reload",
    b"/edged/reload/check": "reload_check",
}
_HASH: Final = re.compile(rb"[0-9a-f]{64}")
_OF_MODEL: Final[dict[tuple[bytes, ...], Kind]] = {
    (): "model",
    (b"ready",): "model_ready",
    (b"infer",): "infer",
    (b"config",): "config",
    (b"stats",): "statistics",
    (b"trace", b"setting"): "trace",
}


class Target(msgspec.Struct, frozen=True):
    """What a path asks for. `model` and `region` are decoded; what a path does not name is ""."""

    kind: Kind
    model: str = ""
    version: str = ""
    sha256: str = ""
    region: str = ""


_NOTHING: Final = Target("nothing")


@functools.lru_cache(maxsize=256)
def target(path: bytes) -> Target:
    """The target of a raw path, percent-encoding and query and all; kind `nothing` for one that is not served.

    Cached, because the few paths of a box come back with every request.
    """
    path = path.partition(b"?")[0]
    if path in _FIXED:
        return Target(_FIXED[path])
    parts = path.split(b"/")  # an encoded / stays inside its part, and in no name
    if parts[:3] == [b"", b"v2", b"models"] and len(parts) > 3:
        return _of_model(_text(parts[3]), parts[4:])
    if parts[:3] == [b"", b"edged", b"models"] and len(parts) == 5 and parts[4] in _OF_ONE_MODEL:
        return _named(_OF_ONE_MODEL[parts[4]], _text(parts[3]))
    if parts[:2] == [b"", b"v2"] and len(parts) in (4, 6) and parts[2] in _MEMORY:
        return _of_memory(_MEMORY[parts[2]], parts[3:])
    if parts[:4] == [b"", b"v2", b"repository", b"models"] and len(parts) == 6 and parts[5] in _OF_REPOSITORY:
        return _named(_OF_REPOSITORY[parts[5]], _text(parts[4]))
    if parts[:4] == [b"", b"edged", b"install", b"chunk"] and len(parts) == 5 and _HASH.fullmatch(parts[4]):
        return Target("chunk", sha256=parts[4].decode())
    return _NOTHING


def _of_model(model: str, rest: list[bytes]) -> Target:
    version = ""
    if rest[:1] == [b"versions"] and len(rest) > 1:
        version, rest = _text(rest[1]), rest[2:]
        if not (version.isascii() and version.isdigit()):  # as Triton's routes: digits only
            return _NOTHING
    kind = _OF_MODEL.get(tuple(rest))
    return _named(kind, model, version) if kind else _NOTHING


def _of_memory(kinds: dict[bytes, Kind], rest: list[bytes]) -> Target:
    region = _text(rest[1]) if len(rest) == 3 and rest[0] == b"region" else ""
    kind = kinds.get(rest[-1])
    if kind is None or (len(rest) == 3 and not region) or (rest[-1] == b"register" and not region):
        return _NOTHING
    return Target(kind, region=region)


def _named(kind: Kind, model: str, version: str = "") -> Target:
    return Target(kind, model, version) if model else _NOTHING


def _text(part: bytes) -> str:
    return urllib.parse.unquote_to_bytes(part).decode("utf-8", "replace")
