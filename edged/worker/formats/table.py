"""Which format a payload has, and who reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from edged.channel import InputHead
from edged.config.steps import Form
from edged.errors import EdgedError
from edged.messages import GRPC
from edged.tensors import Signature
from edged.worker.formats import image, npy, oip, raw, rpc, values
from edged.worker.formats.decoded import Decoded
from edged.worker.pictures import JPEG, PNG

Decode = Callable[[Form, InputHead, memoryview, Signature], Decoded]

FORMATS: Final[dict[str, Decode]] = {
    "oip": oip.decode,
    "values": values.decode,
    "raw": raw.decode,
    "npy": npy.decode,
    "image": image.decode,
}

_TYPES: Final = {"application/x-npy": "npy", "application/octet-stream": "raw", "application/json": "json"}


class _Peek(msgspec.Struct, frozen=True):
    inputs: msgspec.Raw


_PEEK: Final = msgspec.json.Decoder(_Peek)


def decode(form: Form, head: InputHead, payload: memoryview, signature: Signature) -> Decoded:
    """One payload as tensors. Raises EdgedError: bad_input, or over_memory when it does not fit limits.memory."""
    try:
        read = rpc.decode if head.form == GRPC else FORMATS[detect(form, head, payload)]
        decoded = read(form, head, payload, signature)
    except MemoryError as error:
        raise EdgedError("over_memory", f"decoding {len(payload)} bytes takes more than limits.memory") from error
    if decoded.ts_ms is not None and head.oldest_ms and decoded.ts_ms < head.oldest_ms:
        raise EdgedError("too_old", f"it is of {decoded.ts_ms}, {head.oldest_ms - decoded.ts_ms} ms too old")
    return decoded


def detect(form: Form, head: InputHead, payload: memoryview) -> str:
    """The format's name: the configuration's word, then the content type, then the first bytes.

    Clients of the Open Inference Protocol label its JSON as octet-stream or not at all, so a JSON object
    with `inputs` is that protocol's under every label but a picture's or npy's.
    """
    if form.format != "auto":
        return form.format
    if head.json_length >= 0:
        return "oip"
    label = head.content_type.partition(";")[0].strip().lower()
    if label.startswith("image/"):
        return "image"
    known = _TYPES.get(label)
    if known == "npy":
        return known
    start = bytes(payload[:64]).lstrip()
    if start[:1] == b"{" and _has_inputs(payload):
        return "oip"
    if known == "json":
        return "values"
    return known or _by_first_bytes(start)


def _has_inputs(payload: memoryview) -> bool:
    try:
        _PEEK.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _by_first_bytes(start: bytes) -> str:
    if start.startswith(npy.MAGIC):
        return "npy"
    if start.startswith((JPEG, PNG)):
        return "image"
    return "values" if not start or start[:1] in b"{[0123456789+-" else "raw"
