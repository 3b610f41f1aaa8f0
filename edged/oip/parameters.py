"""The request parameters that the daemon itself heeds, found without reading the request's tensors."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from edged.errors import EdgedError

_TIMEOUT: Final = b'"timeout"'
_PRIORITY: Final = b'"priority"'
_LONGEST: Final = 1024 * 1024  # bytes of JSON that are read for them: 1 ms; tensors of that size are sent as raw bytes
_MOST_US: Final = 2**53
_HINT: Final = "`timeout` is microseconds that the request may wait for its run, `priority` 1 (first), 2, and so on."


class Wishes(msgspec.Struct, frozen=True):
    """What a sender asks of the queue. `timeout_s`: how long it may wait for its run; None as long as it takes.

    `priority`: 1 is first; 0 is as if nothing had been said.
    """

    timeout_s: float | None = None
    priority: int = 0


class _Parameters(msgspec.Struct, frozen=True):
    timeout: Any = None
    priority: Any = None


class _Request(msgspec.Struct, frozen=True):
    parameters: _Parameters | None = None


NONE: Final = Wishes()
_REQUEST: Final = msgspec.json.Decoder(_Request)


def wishes(payload: bytes, json_length: int) -> Wishes:
    """What the `parameters` of an infer request say; `json_length` as in messages.Input.

    Only a request that has one of the words somewhere is read, and then without its tensors. One that cannot be read,
    or whose JSON is above 1 MiB, has no wishes: the worker says what is wrong with it. Raises EdgedError `bad_input`.
    """
    end = json_length if json_length >= 0 else len(payload)
    if json_length < 0 and payload[:16].lstrip()[:1] != b"{":  # a picture, or numbers
        return NONE
    if end > _LONGEST or (payload.find(_TIMEOUT, 0, end) < 0 and payload.find(_PRIORITY, 0, end) < 0):
        return NONE
    try:
        said = _REQUEST.decode(memoryview(payload)[:end]).parameters
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return NONE
    return NONE if said is None else of(said.timeout, said.priority)


def of(timeout: object, priority: object) -> Wishes:
    """`timeout` in microseconds and `priority` as they came, None where they did not. Raises EdgedError `bad_input`.

    As with Triton, 0 is for either as if nothing had been said.
    """
    waits_us, level = _number("timeout", timeout), _number("priority", priority)
    return Wishes(waits_us / 1e6 if waits_us else None, level)


def _number(name: str, value: object) -> int:
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_US:
        raise EdgedError("bad_input", f"the parameter `{name}` is no whole number from 0 on", _HINT)
    return value
