"""What a key of the configuration means and takes: the annotation that schema.py and steps.py put on their fields."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import msgspec

from edged.config.units import spelled


class Key(msgspec.Struct, frozen=True):
    """One key: what it is `about`, for people, and what it takes beyond its type.

    `low` and `high` bound a number (each item of a list), both included. `check` raises ValueError for
    a value that the type allows and we do not. `one` lets a list of one be written without brackets, and
    a section as its first key's value alone; `distinct` refuses a list in which an item comes twice.
    `default` says in words what applies when the key is absent and the field's own default does not
    say it. `later` are words that a coming version takes; `word` is one that stands for None.
    """

    about: str
    low: float | None = None
    high: float | None = None
    check: Callable[[Any], object] | None = None
    one: bool = False
    distinct: bool = False
    default: str = ""
    later: tuple[str, ...] = ()
    word: str = ""


class Kind(NamedTuple):
    """A field's annotation, taken apart: the bare type, and its Key."""

    type: Any
    key: Key


@functools.cache
def told(owner: type) -> tuple[msgspec.structs.FieldInfo, ...]:
    """What msgspec tells of a struct's fields, for which it compiles every annotation anew."""
    return msgspec.structs.fields(owner)


@functools.cache
def fields(owner: type) -> Mapping[str, Any]:
    """The annotations of a struct's fields, by the names that a file has for them."""
    hints = get_type_hints(owner, include_extras=True)
    return types.MappingProxyType({field.encode_name: hints[field.name] for field in told(owner)})


def kind(annotation: Any) -> Kind:
    """Takes `Annotated[T | None, Key(...)]` apart; an annotation without a Key gets an empty one."""
    key = Key("")
    if get_origin(annotation) is Annotated:
        annotation, *notes = get_args(annotation)
        key = next((note for note in notes if isinstance(note, Key)), key)
    if get_origin(annotation) in (Union, types.UnionType):
        present = [part for part in get_args(annotation) if part is not type(None)]
        annotation = present[0] if len(present) == 1 else annotation
    return Kind(annotation, key)


def annotated(bare: Any, key: Key) -> Any:
    """An annotation made from its parts."""
    return Annotated[bare, key]


def takes(what: Kind) -> str:
    """What a key takes, in words: `5s to 1h`, `auto, 5 or 3.1.1`, `true or false`."""
    if get_origin(what.type) is tuple:
        inner = takes(Kind(get_args(what.type)[0], what.key))
        return f"{inner}, or a list" if what.key.one else f"a list of {inner}"
    if get_origin(what.type) is Literal:
        words = [str(word) for word in get_args(what.type)]
        return f"{', '.join(words[:-1])} or {words[-1]}"
    if what.type is bool:
        return "true or false"
    if what.key.low is None or what.key.high is None:
        return {str: "text", int: "a whole number", float: "a number"}.get(what.type, "text")
    word = f"{what.key.word}, or " if what.key.word else ""
    return f"{word}{bound(what, what.key.low)} to {bound(what, what.key.high)}"


def bound(what: Kind, number: float) -> str:
    """A bound as a person writes it in this key's unit."""
    return spelled(what.type(number))
