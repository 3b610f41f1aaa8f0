"""The fleet as frozen values, from nothing but the retained messages of a broker. Pure.

Whatever a topic says is taken as far as it is understood: a box may run another version of edged, a stranger
may publish what he likes. What cannot be read is counted in `Fleet.strange`, and never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

import msgspec

from edged.delivery import envelope, strict, want
from edged.delivery.documents import Order, Undo, Want, is_hash, is_scope, read_undo, read_want
from edged.topics import RESERVED_DEVICES, Ota, is_name

LARGEST: Final = 64 * 1024  # bytes of a status or a document; nothing of edged's is longer
_MODELS: Final = 64  # of one box that are looked at
_TEXT: Final = 500  # characters of a text from a box that are kept

Presence = Literal["online", "offline", "unknown"]
Counts = Callable[[bytes], bool]
"""Whether the deploy keys that count have signed an order's envelope."""


class Version(msgspec.Struct, frozen=True):
    """A version on a box: `release` is the hash of its signed document, `sha256` that of the model's file."""

    version: str = ""
    release: str = ""
    sha256: str = ""


class Wanted(msgspec.Struct, frozen=True):
    """The want that a box has accepted last, by its own word; or a person's word there, which has no place.

    `seen`: with a person's word, the place of the newest order that the box had seen.
    """

    release: str = ""
    version: str = ""
    epoch: int = 0
    seq: int = 0
    signers: tuple[str, ...] = ()
    seen: tuple[int, int] = (0, 0)

    @property
    def place(self) -> tuple[int, int]:
        return self.epoch, self.seq

    def overrules(self, order: Want) -> bool:
        """Whether the box follows this one, for another release, and takes `order` for a replay: of two operators at
        one moment the older's order may be what lies on the broker.
        """
        return self.place > order.place and self.release not in ("", order.release)


class Install(msgspec.Struct, frozen=True):
    """What a box says of one model: its `install/<m>`. Bytes are of the download under way; `at_ms` is by the
    box's clock, 0 when it does not say. "" and None where it says nothing.
    """

    phase: str = ""
    verdict: str = ""
    code: str = ""
    message: str = ""
    hint: str = ""
    active: Version | None = None
    previous: Version | None = None
    candidate: Version | None = None
    about: Version | None = None
    want: Wanted | None = None
    bytes_have: int = 0
    bytes_total: int = 0
    chunks_reused: int = 0
    bad_chunks: int = 0
    replays: int = 0
    left_s: float | None = None
    most_s: float | None = None
    held: bool = False
    flags: tuple[str, ...] = ()
    refused: dict[str, str] = {}  # why, by whom what it refuses is for
    at_ms: int = 0


class Model(msgspec.Struct, frozen=True):
    """One model on a box. `state` and `version` are what its `info` says is served, `install` what its status says."""

    name: str
    state: str = ""
    version: str = ""
    install: Install = Install()

    @property
    def running(self) -> str:
        """The version that answers, as far as the box has said it."""
        return self.install.active.version if self.install.active else self.version


class Box(msgspec.Struct, frozen=True):
    """One box. `presence` is the broker's word (its `status`, which the will sets), everything else the box's own,
    and as old as its last connection. `boot` changes with each start of its daemon, `at_ms` is when it said so.
    """

    name: str
    presence: Presence = "unknown"
    groups: tuple[str, ...] = ()
    edged: str = ""
    host: str = ""
    boot: str = ""
    at_ms: int = 0
    flags: tuple[str, ...] = ()
    models: tuple[Model, ...] = ()

    @property
    def online(self) -> bool:
        return self.presence == "online"

    def model(self, name: str) -> Model | None:
        return next((one for one in self.models if one.name == name), None)


class Published(msgspec.Struct, frozen=True):
    """A want or an undo as the broker keeps it: under which model and `to`, the very envelope, whether its
    signatures count (None: nobody could check).
    """

    model: str
    to: str
    order: Order
    content: bytes
    signed: bool | None = None


class Fleet(msgspec.Struct, frozen=True):
    """`boxes` by name; `wants` is what boxes listen to (undos that were used among it), `undos` what lies ready.

    `incomplete`: why this picture may lack something; `strange`: messages that could not be understood.
    """

    boxes: tuple[Box, ...] = ()
    wants: tuple[Published, ...] = ()
    undos: tuple[Published, ...] = ()
    strange: int = 0
    incomplete: tuple[str, ...] = ()

    def box(self, name: str) -> Box | None:
        return next((one for one in self.boxes if one.name == name), None)

    def newest(self, model: str, box: Box) -> Published | None:
        """The order that counts for this box: of all that cover it, the one with the highest place in the sequence."""
        covering = (one for one in self.wants if one.model == model and one.signed is not False)
        return max((one for one in covering if covers(one, box)), key=lambda one: one.order.place, default=None)

    def last(self, model: str) -> Published | None:
        """The newest order of a model, whomever it is for."""
        found = (one for one in self.wants if one.model == model and one.signed is not False)
        return max(found, key=lambda one: one.order.place, default=None)


def covers(published: Published, box: Box) -> bool:
    """Whether a box listens where this order lies, and the order is meant for it."""
    return within(published.to, box) and within(published.order.to, box)


def within(to: str, box: Box) -> bool:
    """Whether `to` (all, group/<g>, device/<d>) means this box."""
    return want.covers(to, want.Box(box.name, box.groups))


# --- from topics to values ------------------------------------------------------------------------------


def build(
    retained: Mapping[str, bytes], base: str, *, counts: Counts | None = None, incomplete: Iterable[str] = ()
) -> Fleet:
    """`retained`: topic -> payload, as a broker keeps it. `counts` says which orders are signed as they must be."""
    facts: dict[str, dict[str, bytes]] = {}
    lying: dict[str, list[Published]] = {"want": [], "undo": []}
    strange = 0
    for topic, payload in retained.items():
        levels = topic.removeprefix(f"{base}/").split("/")
        if not topic.startswith(f"{base}/") or len(payload) > LARGEST:
            strange += 1
        elif _is_of_a_box(levels):
            facts.setdefault(levels[0], {})["/".join(levels[1:])] = payload
        elif levels[0] == "ota" and levels[1:2] in (["want"], ["undo"]):
            found = _published(levels, payload, counts)
            strange += found is None
            lying[levels[1]] += [found] if found else []
        else:
            strange += 1
    boxes = []
    for name in sorted(facts):
        box, unread = _box(name, facts[name])
        boxes.append(box)
        strange += unread
    return Fleet(tuple(boxes), tuple(lying["want"]), tuple(lying["undo"]), strange, tuple(incomplete))


def _is_of_a_box(levels: list[str]) -> bool:
    if not is_name(levels[0]) or levels[0] in RESERVED_DEVICES:
        return False
    return levels[1:] in (["status"], ["info"]) or (len(levels) == 3 and levels[1] == "install" and is_name(levels[2]))


def _box(name: str, facts: Mapping[str, bytes]) -> tuple[Box, int]:
    """A box, and how much of what it says could not be read."""
    said = facts.get("status")
    presence: Presence = "online" if said == b"online" else "offline" if said == b"offline" else "unknown"
    info = _read(facts["info"]) if "info" in facts else {}
    unread = (info is None) + (said is not None and presence == "unknown")
    info = info or {}
    models = {}
    for served in _objects(info, "models"):
        called = _text(served, "name")
        if is_name(called):
            models[called] = Model(called, _text(served, "state"), _text(served, "version"))
    for topic, payload in facts.items():
        kind, _, called = topic.partition("/")
        if kind == "install":
            document = _read(payload)
            unread += document is None
            before = models.get(called, Model(called))
            models[called] = msgspec.structs.replace(before, install=install(document or {}))
    box = Box(
        name,
        presence,
        tuple(filter(is_name, _texts(info, "groups"))),
        _text(info, "edged"),
        _text(info, "host"),
        _text(info, "boot"),
        _number(info, "ts"),
        _texts(info, "flags"),
        tuple(models[called] for called in sorted(models)[:_MODELS]),
    )
    return box, unread


def install(document: Mapping[str, Any]) -> Install:
    """A status of `install/<m>`, of whatever version; what is missing or of another kind is left out."""
    wanted = document.get("want")
    probation = document.get("probation")
    watched = probation if isinstance(probation, dict) else {}
    return Install(
        phase=_text(document, "phase"),
        verdict=_text(document, "verdict"),
        code=_text(document, "code"),
        message=_text(document, "message"),
        hint=_text(document, "hint"),
        active=_version(document.get("active")),
        previous=_version(document.get("previous")),
        candidate=_version(document.get("candidate")),
        about=_version(document.get("push")),
        want=_wanted(wanted) if isinstance(wanted, dict) else None,
        bytes_have=_number(document, "bytes_have"),
        bytes_total=_number(document, "bytes_total") or _number(document, "bytes"),
        chunks_reused=_number(document, "chunks_reused"),
        bad_chunks=_number(document, "bad_chunks"),
        replays=_number(document, "replays"),
        left_s=_seconds(watched.get("left_s")),
        most_s=_seconds(watched.get("most_s")),
        held=bool(document.get("held")),
        flags=_texts(document, "flags"),
        refused=_words(document, "refused"),
        at_ms=_number(document, "ts"),
    )


def _wanted(found: Mapping[str, Any]) -> Wanted:
    seen = found.get("seen")
    return Wanted(
        _text(found, "release"),
        _text(found, "version"),
        _number(found, "epoch"),
        _number(found, "seq"),
        _texts(found, "signers"),
        (_number(seen, "epoch"), _number(seen, "seq")) if isinstance(seen, dict) else (0, 0),
    )


def _version(found: object) -> Version | None:
    if not isinstance(found, dict):
        return None
    read = Version(_text(found, "version"), _text(found, "release"), _text(found, "sha256"))
    return read if read != Version() else None


def _published(levels: list[str], payload: bytes, counts: Counts | None) -> Published | None:
    """An order from `ota/want/<m>/<to>` or `ota/undo/<m>/<to>`; None when it is none, or lies where it must not."""
    if len(levels) < 4:
        return None
    model, to = levels[2], "/".join(levels[3:])
    order = _order(payload)
    if order is None or order.model != model or not is_scope(to) or not is_hash(order.release):
        return None
    if order.to != to and not (isinstance(order, Undo) and levels[1] == "want"):
        return None  # an undo alone may be used for less than it was signed for
    return Published(model, to, order, payload, counts(payload) if counts else None)


def _order(payload: bytes) -> Want | Undo | None:
    for kind, read in (("want", read_want), ("undo", read_undo)):
        try:
            return read(envelope.decode(payload, kind).payload)
        except strict.Malformed:
            continue
    return None


def topics(base: str, box: str, models: Iterable[str]) -> tuple[str, ...]:
    """The topics that a box with these models keeps on the broker, as far as `build` reads them."""
    return (f"{base}/{box}/status", f"{base}/{box}/info", *(f"{base}/{box}/install/{model}" for model in models))


def orders(base: str, model: str) -> tuple[str, ...]:
    """The filters of a model's wants and undos; of all models for `+`."""
    root = Ota(base).root
    return f"{root}/want/{model}/#", f"{root}/undo/{model}/#"


# --- lenient JSON ---------------------------------------------------------------------------------------


def _read(payload: bytes) -> dict[str, Any] | None:
    try:
        found = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)[:_TEXT]


def _texts(found: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = found.get(key)
    return tuple(one[:_TEXT] for one in value[:_MODELS] if isinstance(one, str)) if isinstance(value, list) else ()


def _words(found: Mapping[str, Any], key: str) -> dict[str, str]:
    value = found.get(key)
    return {name[:_TEXT]: _text(value, name) for name in list(value)[:_MODELS]} if isinstance(value, dict) else {}


def _number(found: Mapping[str, Any], key: str) -> int:
    value = found.get(key)
    return int(value) if isinstance(value, int | float) and 0 <= value < 2**63 else 0


def _seconds(value: object) -> float | None:
    return value if isinstance(value, int | float) and value >= 0 else None


def _objects(found: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = found.get(key)
    return [one for one in value[:_MODELS] if isinstance(one, dict)] if isinstance(value, list) else []
