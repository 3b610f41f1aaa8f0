"""The four signed documents as values: trust (who may sign), release (what), want (who, when, how), undo (go back).

Times are milliseconds of the wall clock, hashes SHA-256 in hex. A document's name is the hash of its payload.
`read_*` give a document from the bytes of a payload or raise Malformed; whether anybody signed it is
trust.py's question, whether it applies here want.py's and manifest.py's. Pure.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, Final, Literal

import msgspec

from edged.delivery import strict
from edged.delivery.strict import Malformed
from edged.tensors import BY_OIP, Signature, TensorSpec
from edged.topics import is_name

KEYS: Final = 64
BANNED: Final = 256
FILES: Final = 16
TENSORS: Final = 64
CHUNK: Final = 96 * 1024  # fits AWS IoT, EMQX, HiveMQ and Mosquitto 2.1 as they come
CHUNK_MIN: Final = 1024
CHUNK_MAX: Final = 4 * 2**20
HASH_SIZE: Final = 32
MODEL_FILE: Final = "model.onnx"
SETTINGS_FILE: Final = "model.yaml"

RELEASE_FILE: Final = "release.json"  # the envelope itself, beside the files: no file's name

_HASH: Final = re.compile(r"[0-9a-f]{64}")
_KEYID: Final = re.compile(r"[0-9a-f]{16}")
_VERSION: Final = re.compile(r"(?:\d{1,6}(?:\.\d{1,6}){0,3})?")
_LONGEST: Final = {"label": 64, "notes": 4096}  # characters
_LONGEST_NAME: Final = 256  # of a tensor or an axis, in characters
_MOST_AXES: Final = 16
_FILE: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What an older edged does not know, it refuses; so a field that is not used is not written (`encode`)."""


# --- trust ----------------------------------------------------------------------------------------------


class Key(_Document, frozen=True):
    """`public`: the SubjectPublicKeyInfo (RFC 5280, 4.1) as base64 of DER; its hash gives the key's id."""

    scheme: Literal["ed25519", "ecdsa-p256"]
    public: str


class Role(_Document, frozen=True):
    """How many of which keys have to sign."""

    keyids: tuple[str, ...]
    threshold: int = 1


class Roles(_Document, frozen=True):
    """root signs trust, release signs what a model is, deploy signs where it goes."""

    root: Role
    release: Role
    deploy: Role


class Trust(_Document, frozen=True):
    """Whom a box believes. `epoch`: sequences of wants begin anew in a higher one; `min_version`: nothing below
    it is installed; `banned`: releases by hash, with the reason: boxes that run one go back.
    """

    version: int
    keys: dict[str, Key]
    roles: Roles
    expires: int | None = None
    epoch: int = 0
    min_version: dict[str, int] = {}
    banned: dict[str, str] = {}


# --- release --------------------------------------------------------------------------------------------


class File(_Document, frozen=True):
    """A file and how it is cut: chunks of `chunk` bytes, the last one shorter; `index` is the hash of their
    hashes, 32 bytes each, one after the other.
    """

    size: int
    sha256: str
    index: str
    chunk: int = CHUNK

    @property
    def count(self) -> int:
        """How many chunks there are; at least one."""
        return max(1, -(-self.size // self.chunk))


class Golden(_Document, frozen=True):
    """`file` has inputs and the outputs they must give: |given - golden| <= atol + rtol * |golden| (numpy.allclose)."""

    file: str = "golden.npz"
    atol: float = 1e-5
    rtol: float = 1e-3


class Limits(_Document, frozen=True):
    """What the model may take on the box, 0 for no limit of its own: seconds to load, bytes, CPU ms an input."""

    load_s: float = 0.0
    memory: int = 0
    cpu_ms: float = 0.0


class Release(_Document, frozen=True):
    """One version of a model: its files by name, `model.onnx` among them, and what it takes and gives.

    `onnxruntime`: the oldest version that runs it, such as "1.21". `inputs` and `outputs` as TensorSpec lists.
    """

    model: str
    version: int
    created: int
    files: dict[str, File]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    label: str = ""
    notes: str = ""
    onnxruntime: str = ""
    limits: Limits = Limits()
    golden: Golden | None = None

    @property
    def signature(self) -> Signature:
        return Signature(self.inputs, self.outputs)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())


# --- want and undo --------------------------------------------------------------------------------------


class Rollout(_Document, frozen=True):
    """`percent` of the boxes take part, each by the hash of `salt` and its name, `spread_s` apart at most.

    `pause`: boxes that have not switched yet stop.
    """

    percent: float = 100.0
    salt: str = ""
    spread_s: float = 0.0
    pause: bool = False


class Watching(_Document, frozen=True):
    """How the release is watched after the switch; what is None is as the box's configuration says."""

    time_s: float | None = None
    runs: int | None = None
    max_errors: float | None = None
    max_latency: float | None = None


class Want(_Document, frozen=True):
    """`to` (all, group/<g>, device/<d>) shall have `release`. The highest (epoch, seq) counts; `seq` is made from
    the wall clock in ms, so that a broker which lost everything locks nobody out.
    """

    model: str
    to: str
    seq: int
    issued: int
    expires: int
    release: str
    version: int
    epoch: int = 0
    action: Literal["install", "download_only"] = "install"
    allow_downgrade: bool = False
    urgent: bool = False
    retry: bool = False
    rollout: Rollout = Rollout()
    probation: Watching = Watching()

    @property
    def place(self) -> tuple[int, int]:
        return self.epoch, self.seq


class Undo(_Document, frozen=True):
    """Boxes in `to` that run `release`, or are on the way to it, go back. Signed together with its want, as the
    next in the sequence: whoever may publish can use it, and can do no more with it than that.
    """

    model: str
    to: str
    seq: int
    issued: int
    expires: int
    release: str
    epoch: int = 0

    @property
    def place(self) -> tuple[int, int]:
        return self.epoch, self.seq


Order = Want | Undo


# --- reading --------------------------------------------------------------------------------------------


def encode(document: Trust | Release | Want | Undo) -> bytes:
    """A document as the payload of an envelope. Raises Malformed for a text that no file can hold."""
    try:
        return msgspec.json.encode(_written(document))
    except UnicodeEncodeError as error:  # a command line may bring halves of characters
        raise Malformed("a text has half a character") from error


def _written(value: Any) -> Any:
    """What is said at all. msgspec's own omit_defaults leaves out a number only where it is the default's object."""
    if isinstance(value, dict):
        return {name: _written(one) for name, one in value.items()}
    if not isinstance(value, _Document):
        return value
    fields = _fields(type(value))
    said = {name: getattr(value, field.name) for name, field in fields.items()}
    return {name: _written(one) for name, one in said.items() if one != _default(fields[name])}


@functools.cache
def _fields(kind: type[_Document]) -> dict[str, msgspec.structs.FieldInfo]:
    """By the names in a document; msgspec compiles every annotation anew to tell them."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def read_trust(payload: bytes) -> Trust:
    """Raises Malformed. That each key's id is its own is trust.py's to check: it takes cryptography's hash."""
    found = strict.read(payload, Trust)
    _number(found.version, "version", 1)
    _number(found.epoch, "epoch", 0)
    _number(found.expires, "expires", 1)
    _most(found.keys, KEYS, "keys")
    _most(found.banned, BANNED, "banned")
    _most(found.min_version, 1024, "min_version")
    for reason in found.banned.values():
        _most(reason, 256, "characters of a reason")
    _all(found.keys, _KEYID.fullmatch, "a key's id is 16 hex digits")
    _all(found.banned, _HASH.fullmatch, "a banned release is given by its hash")
    _all(found.min_version, is_name, "min_version is by model")
    for version in found.min_version.values():
        _number(version, "min_version", 1)
    for name, role in (("root", found.roles.root), ("release", found.roles.release), ("deploy", found.roles.deploy)):
        if len(set(role.keyids)) != len(role.keyids) or not set(role.keyids) <= set(found.keys):
            raise Malformed(f"roles.{name} names a key twice, or one that is not among the keys")
        if not 1 <= role.threshold <= len(role.keyids):
            raise Malformed(f"roles.{name}: {role.threshold} of {len(role.keyids)} keys cannot sign")
    return found


def read_release(payload: bytes) -> Release:
    """Raises Malformed."""
    found = strict.read(payload, Release)
    if not is_name(found.model):
        raise Malformed("model is a name")
    _number(found.version, "version", 1)
    _number(found.created, "created", 0)
    for name, longest in _LONGEST.items():
        _most(getattr(found, name), longest, f"characters of {name}")
    if _VERSION.fullmatch(found.onnxruntime) is None:
        raise Malformed("onnxruntime is a version such as 1.21")
    _most(found.files, FILES, "files")
    if MODEL_FILE not in found.files:
        raise Malformed(f"there is no {MODEL_FILE} among its files")
    for name, file in found.files.items():
        if not is_file_name(name):
            raise Malformed(f"{name[:70]!r} is no name of a file")
        _file(name, file)
    if found.golden is not None:
        if found.golden.file not in found.files:
            raise Malformed(f"golden names {found.golden.file[:70]!r}, which is none of its files")
        if not (0 <= found.golden.atol < 1e9 and 0 <= found.golden.rtol < 1e9):
            raise Malformed("golden: a tolerance is a number from 0 on")
    for figure in (found.limits.load_s, found.limits.memory, found.limits.cpu_ms):
        if not 0 <= figure < 2**53:
            raise Malformed("limits are numbers from 0 on")
    for specs in (found.inputs, found.outputs):
        _tensors(specs)
    return found


def read_want(payload: bytes) -> Want:
    """Raises Malformed."""
    found = strict.read(payload, Want)
    _check_order(found)
    _number(found.version, "version", 1)
    if not 0 <= found.rollout.percent <= 100 or not 0 <= found.rollout.spread_s < 1e9 or len(found.rollout.salt) > 64:
        raise Malformed("rollout: percent is 0 to 100, spread_s seconds, salt a short text")
    watching = found.probation
    for figure in (watching.time_s, watching.runs, watching.max_errors, watching.max_latency):
        if figure is not None and not 0 <= figure < 1e9:
            raise Malformed("probation: its figures are numbers from 0 on")
    return found


def read_undo(payload: bytes) -> Undo:
    """Raises Malformed."""
    found = strict.read(payload, Undo)
    _check_order(found)
    return found


def is_hash(text: str) -> bool:
    """Whether `text` is a SHA-256 in lower-case hex."""
    return _HASH.fullmatch(text) is not None


def is_file_name(text: str) -> bool:
    """Whether `text` may name a file of a release: no folder, no `..`, nothing hidden, not the release itself."""
    return _FILE.fullmatch(text) is not None and ".." not in text and text != RELEASE_FILE


def is_scope(text: str) -> bool:
    """Whether `text` is all, group/<g> or device/<d>."""
    kind, _, name = text.partition("/")
    return text == "all" or (kind in ("group", "device") and is_name(name))


def _check_order(found: Order) -> None:
    if not is_name(found.model) or not is_scope(found.to) or not is_hash(found.release):
        raise Malformed("model is a name, to is all, group/<g> or device/<d>, release a hash")
    _number(found.epoch, "epoch", 0)
    for name in ("seq", "issued", "expires"):
        _number(getattr(found, name), name, 1)


def _file(name: str, file: File) -> None:
    _number(file.size, f"{name}: size", 0)
    if not CHUNK_MIN <= file.chunk <= CHUNK_MAX:
        raise Malformed(f"{name}: a chunk has {CHUNK_MIN} to {CHUNK_MAX} bytes")
    if not is_hash(file.sha256) or not is_hash(file.index):
        raise Malformed(f"{name}: a hash is 64 hex digits")
    if file.count * HASH_SIZE > file.chunk and file.count > 1:
        raise Malformed(f"{name}: its index does not fit a chunk: larger chunks are needed")


def _tensors(specs: tuple[TensorSpec, ...]) -> None:
    _most(specs, TENSORS, "inputs or outputs")
    if len({spec.name for spec in specs}) != len(specs):
        raise Malformed("two tensors have one name")
    for spec in specs:
        named = max(map(len, (spec.name, *spec.axes))) <= _LONGEST_NAME and len(spec.axes) in (0, len(spec.shape))
        sized = len(spec.shape) <= _MOST_AXES and all(size >= -1 for size in spec.shape)
        if spec.datatype not in BY_OIP or not named or not sized:
            raise Malformed(f"{spec.name[:70]!r} is no tensor")


def _number(found: int | None, name: str, least: int) -> None:
    if found is not None and found < least:
        raise Malformed(f"{name} is {found}, the least is {least}")


def _most(found: Any, most: int, name: str) -> None:
    if len(found) > most:
        raise Malformed(f"{len(found)} {name} are more than {most}")


def _all(found: Iterable[str], check: Any, why: str) -> None:
    if not all(check(one) for one in found):
        raise Malformed(why)
