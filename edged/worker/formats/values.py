"""Numbers as people and sensors write them: a number, a list, members of an object, or plain text."""

from __future__ import annotations

import datetime
import itertools
import math
import re
from typing import Any, Final, Literal

import msgspec
import numpy as np

from edged.channel import InputHead
from edged.config.steps import Form
from edged.errors import EdgedError
from edged.tensors import Signature
from edged.worker.formats.decoded import Array, Decoded, bad_input, target

_JSON: Final = msgspec.json.Decoder()
_SEPARATOR: Final = re.compile(r"\s*,\s*|\s+")
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NO_FIELDS: Final = (
    "Send the numbers alone, or as if on a topic (`edged infer --topic`, the header Edged-Topic): "
    "`field` and `fields` are of an input's topic, and hold for what comes there."
)
_HINT: Final = "A number, a list of numbers, or an object whose `fields` the configuration names."
# Seconds from here on would be after the year 5138: milliseconds, then; milliseconds from there on, too.
_MS_FROM: Final = 1e11
_MS_UNTIL: Final = 1e14
_DEPTH: Final = 32
_PLAIN: Final = {int, float}
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def decode(form: Form, head: InputHead, payload: memoryview, signature: Signature) -> Decoded:  # noqa: ARG001 - table.Decode
    """One tensor: int64 when every number is whole and written so, else float64; raises EdgedError bad_input."""
    spec = target(form, signature)
    value, ts_ms = _parse(payload), None
    if isinstance(value, dict):
        if not form.fields:
            raise bad_input(f"input {spec.name}: an object, and no `fields` say which members to take", _NO_FIELDS)
        ts_ms = _time(_member(value, form.time), form.time) if form.time else None
        value = _members(value, form)
    elif form.fields:
        raise bad_input(f"expected an object with the members {', '.join(form.fields)}", _HINT)
    tensor = _array(value, form.missing)
    laid_out = tensor.ndim > 1
    return Decoded({spec.name: tensor}, plain=True, stepped=spec.name, laid_out=laid_out, numbers=True, ts_ms=ts_ms)


def _parse(payload: memoryview) -> Any:
    """JSON, or numbers in plain text when that is what it looks like."""
    if not len(payload):
        raise bad_input("neither JSON nor numbers: the payload is empty", _HINT)
    try:
        return _JSON.decode(payload)
    except RecursionError as error:
        raise bad_input("the JSON is nested too deep", _HINT) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        try:
            text = str(payload, "utf-8").strip()
        except UnicodeDecodeError:
            text = ""
        if not text or text[0] in '{["':
            raise bad_input(f"neither JSON nor numbers: {error}", _HINT) from error
        return _numbers(text)


def _numbers(text: str) -> list[int | float | None]:
    """`1.5, 2 3`: separated by commas or white space; an empty place between two commas is a missing number."""
    numbers: list[int | float | None] = []
    for index, word in enumerate(_SEPARATOR.split(text)):
        if word and not _NUMBER.fullmatch(word):
            raise bad_input(f"number {index} is {word[:40]!r}, which is no number", _HINT)
        try:
            numbers.append(int(word) if word.lstrip("+-").isdigit() else float(word) if word else None)
        except ValueError as error:  # int() refuses more than 4300 digits
            raise bad_input(f"number {index} has too many digits", _HINT) from error
    if {math.inf, -math.inf} & set(numbers):
        raise bad_input("a number is out of range", _HINT)
    return numbers


def _member(value: dict[str, Any], path: str) -> Any:
    """The member named `path`, or, through nested objects, the one at `a.b`; None when there is none."""
    if path in value:
        return value[path]
    found: Any = value
    for name in path.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


def _members(value: dict[str, Any], form: Form) -> Any:
    taken: list[Any] = []
    for path in form.fields:
        found = _member(value, path)
        if found is None and form.missing != "nan":
            raise bad_input(
                f"member {path} is missing or null", "Send it, or allow it with `missing: nan` in the configuration."
            )
        if len(form.fields) == 1:
            return found
        if isinstance(found, list):
            taken.extend(found)
        else:
            taken.append(found)
    return taken


def _array(value: Any, missing: Literal["reject", "nan", "last"]) -> Array:
    """A number or lists of one shape as an array; the elements are looked at before numpy sees them."""
    leaves = value if type(value) is list else [value]
    kinds = set(map(type, leaves))
    if not kinds <= _PLAIN:
        leaves = _leaves(leaves)
        kinds = set(map(type, leaves))
    if not leaves:
        raise bad_input("an empty list has no numbers", _HINT)
    gaps = missing == "nan" and type(None) in kinds
    if not kinds <= (_PLAIN | {bool, type(None)} if gaps else _PLAIN | {bool}):
        raise _no_number(leaves, allow_null=gaps)
    try:
        array = np.array(value, dtype=np.float64 if gaps else None)
    except (ValueError, OverflowError, TypeError) as error:
        raise bad_input(f"the lists are not of one shape, or a number is out of range: {error}", _HINT) from error
    if array.dtype.kind == "f" and float not in kinds and not gaps and min(leaves) >= 0:
        return np.array(value, dtype=np.uint64)  # numpy makes floats of numbers above and below int64's end
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    if array.dtype.kind == "O":  # whole numbers beyond 64 bits
        raise bad_input("a number is out of range", _HINT)
    return array


def _leaves(level: list[Any]) -> list[Any]:
    """The elements of nested lists, in order."""
    for _ in range(_DEPTH):
        if list not in map(type, level):
            return level
        level = list(itertools.chain.from_iterable(one if type(one) is list else (one,) for one in level))
    raise bad_input(f"the lists are nested deeper than {_DEPTH}", _HINT)


def _no_number(leaves: list[Any], *, allow_null: bool) -> EdgedError:
    index, found = next(
        (index, leaf)
        for index, leaf in enumerate(leaves)
        if not (isinstance(leaf, int | float) or (leaf is None and allow_null))
    )
    if found is None:
        return bad_input(f"number {index} is null", "Send a number, or allow it with `missing: nan`.")
    return bad_input(f"number {index} is {msgspec.json.encode(found).decode()[:40]}, which is no number", _HINT)


def _time(value: Any, path: str) -> int | None:
    """Milliseconds since 1970 from seconds (below 1e11), milliseconds, or ISO 8601 (UTC where it has no offset)."""
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MS_UNTIL:
        return round(value if abs(value) >= _MS_FROM else value * 1000)
    if isinstance(value, str):
        try:
            stamp = datetime.datetime.fromisoformat(value)
        except ValueError as error:
            raise bad_input(f"the time {path} is {value[:40]!r}, which is not ISO 8601") from error
        if stamp.tzinfo is None:
            stamp = stamp.replace(tzinfo=datetime.UTC)
        return (stamp - _EPOCH) // datetime.timedelta(milliseconds=1)
    shown = msgspec.json.encode(value).decode()[:40]
    raise bad_input(f"the time {path} is {shown}: expected seconds or milliseconds since 1970, or ISO 8601")
