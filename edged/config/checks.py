"""What a single value must be beyond its type: each check raises ValueError with the reason."""

from __future__ import annotations

from typing import Final

from edged.config.mistakes import Refusal
from edged.tensors import BY_NUMPY
from edged.topics import RESERVED_DEVICES, TopicFilter, check_topic, is_name, template_names

_NAME_HINT: Final = "letters, digits, _ and -, at most 64"
_SUN_PATH: Final = 107  # unix(7): 108 bytes with the NUL
_TOPIC: Final = 4096  # bytes, of 65,535 that MQTT has room for: $share and its group come before it
_BASE: Final = 256  # bytes: the longest of edged's own topics below it add 280, and have to fit 65,535
_LEVELS: Final = 128  # Mosquitto ends a connection over more than 200, $share and its group among them
_CLIENT_ID: Final = 128  # a guard: brokers take more, some old ones only 23


def device_name(text: str) -> None:
    """A level of its own in topics, and no word that the topic tree needs."""
    if text in RESERVED_DEVICES:
        raise Refusal(f"{text!r} is a word of edged's own topics", "choose another name")
    model_name(text)


def model_name(text: str) -> None:
    if not is_name(text):
        raise Refusal(f"{text!r} is no name", _NAME_HINT)


def group_name(text: str) -> None:
    model_name(text)


def client_id(text: str) -> None:
    if not text.isprintable() or len(text) > _CLIENT_ID:
        raise Refusal(f"expected at most {_CLIENT_ID} printable characters")


def base_topic(text: str) -> None:
    check_topic(text)
    if text.startswith(("/", "$")) or text.endswith("/") or "//" in text:
        raise Refusal("expected levels such as edged or plant/edged", "without / at the ends, and no $ at the start")
    if len(text.encode()) > _BASE:
        raise Refusal(f"has {len(text.encode())} bytes, {_BASE} at most: all of edged's own topics begin with it")


def topic_filter(text: str) -> None:
    """A filter to subscribe to. `{` in it is the mix-up of an input's `+name` with an output's `{name}`."""
    names = template_names(text)
    if names:
        raise Refusal("an input's topic names a level with +", f"did you mean +{names[0]}?")
    if text.startswith("$share/"):
        group, _, topic = text.removeprefix("$share/").partition("/")
        raise Refusal("the group is a key of its own", f"write topic: {topic}, share: {group}")
    TopicFilter.parse(text)
    _bounded(text)


def output_topic(text: str) -> None:
    """A topic to publish to once its `{name}`s are filled; whether they are known is the model's check."""
    if "+" in text:
        raise Refusal("an output's topic names a level with {}", "such as cells/{cell}/digit")
    check_topic(text)
    _bounded(text)


def _bounded(text: str) -> None:
    if len(text.encode()) > _TOPIC:
        raise Refusal(f"has {len(text.encode())} bytes, {_TOPIC} at most")
    count = text.count("/") + 1
    if count > _LEVELS:
        raise Refusal(
            f"has {count} levels, {_LEVELS} at most", "brokers end the connection over a topic of many levels"
        )


def socket_path(text: str) -> None:
    if not text.startswith("/"):
        raise Refusal("expected a path from the root", "such as /run/edged/edged.sock")
    if len(text.encode()) > _SUN_PATH:
        raise Refusal(f"a socket's path has at most {_SUN_PATH} bytes")


def dtype(text: str) -> None:
    """A dtype of fixed size, in numpy's words."""
    known = [name for name, kind in BY_NUMPY.items() if kind.size]
    if text not in known:
        raise Refusal(f"{text!r} is no dtype", f"one of {', '.join(known)}")


def shape(sizes: tuple[int, ...]) -> None:
    if not sizes or 0 in sizes or sizes.count(-1) > 1:
        raise Refusal("expected sizes above 0, with -1 at most once", "the batch axis is not part of it")


def size(found: tuple[int, ...]) -> None:
    if len(found) != 2:
        raise Refusal("expected [width, height]", "such as [224, 224]")


def providers(found: tuple[str, ...]) -> None:
    """The first that works is taken, and the CPU always does."""
    if not found:
        raise Refusal("expected at least one", "such as [cuda, cpu]")
    if "cpu" in found[:-1]:
        raise Refusal("cpu always works: nothing after it is tried", "write it last, such as [cuda, cpu]")


def numbers(found: tuple[float, ...]) -> None:
    if not found:
        raise Refusal("expected at least one number")


def divisor(found: tuple[float, ...]) -> None:
    numbers(found)
    if 0 in found:
        raise Refusal("expected numbers other than 0")
