"""MQTT topics and topic filters as values: validation, named levels, matching, and edged's own tree."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import msgspec

NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
RESERVED_DEVICES: Final = frozenset({"ota", "all", "group"})
_ASKED: Final = frozenset({"infer", "push", "request"})
_STATES: Final = frozenset({"status", "info", "telemetry", "install", "event", "need"})
_RESULT: Final = re.compile(r"/models/[^/]+/result(?:/[^/]+)?")
SHARED: Final = "$share/"
_LONGEST_FILTER: Final = 4096, 128  # characters and levels of one that a configuration may have
_MAX_BYTES: Final = 65_535  # MQTT 5, 1.5.4: a UTF-8 string's length is two bytes


def is_name(text: str) -> bool:
    """Whether `text` may be a device, model or id level: letters, digits, `_` and `-`, 1 to 64."""
    return NAME.fullmatch(text) is not None


def check_topic(topic: str) -> str:
    """`topic` if one can publish to it (MQTT 5, 4.7). Raises ValueError with the reason."""
    if "+" in topic or "#" in topic:
        raise ValueError("a topic to publish to has no wildcard + or #")
    return _check_text(topic)


def _check_text(text: str) -> str:
    if not text:
        raise ValueError("a topic has at least one character")
    if "\x00" in text:
        raise ValueError("a topic has no NUL character")
    if len(text.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
        raise ValueError(f"a topic has at most {_MAX_BYTES} bytes")
    return text


class TopicFilter(msgspec.Struct, frozen=True):
    """A subscription filter whose `+` levels may carry a name: `cells/+cell/scan`.

    `wire` is what goes to the broker; `names` are the names of its `+` levels, "" for a bare `+`.
    """

    text: str
    wire: str
    names: tuple[str, ...]
    _pattern: re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> TopicFilter:
        """Raises ValueError with the reason for a filter that MQTT does not allow."""
        levels = _check_text(text).split("/")
        wire, names, pattern = [], [], []
        for index, level in enumerate(levels):
            if level.startswith("+"):
                if level != "+" and not re.fullmatch(r"\+[A-Za-z_][A-Za-z0-9_]*", level):
                    raise ValueError(f"{level!r}: a named level is + and a name of letters, digits and _")
                names.append(level[1:])
                wire.append("+")
                pattern.append("([^/]*)")
            elif level == "#" and index == len(levels) - 1:
                wire.append("#")
            elif "#" in level or "+" in level:
                raise ValueError(f"{level!r}: + stands at the start of a level, # alone at the end")
            else:
                wire.append(level)
                pattern.append(re.escape(level))
        named = [name for name in names if name]
        if len(set(named)) != len(named):
            raise ValueError("a level name is used twice")
        expression = "/".join(pattern)
        if wire[-1] == "#":  # a/# also matches a (MQTT 5, 4.7.1.2)
            expression = f"{expression}(?:/.*)?" if pattern else ".*"
        # A wildcard in the first level does not match $SYS and the like (MQTT 5, 4.7.2).
        guard = r"(?!\$)" if wire[0] in "+#" else ""
        return cls(text, "/".join(wire), tuple(names), re.compile(guard + expression, re.DOTALL))

    def match(self, topic: str) -> dict[str, str] | None:
        """The named levels of `topic`, or None when it does not match."""
        found = self._pattern.fullmatch(topic)
        if found is None:
            return None
        return {name: value for name, value in zip(self.names, found.groups(), strict=True) if name}


def on_wire(topic: str, share: str = "") -> str:
    """What a broker is asked for: a configured filter without its names; for the group of boxes that `share` names."""
    plain = TopicFilter.parse(topic).wire
    return f"{SHARED}{share}/{plain}" if share else plain


def is_wire(text: str) -> bool:
    """Whether `on_wire` may have made it: anything else in an UNSUBSCRIBE ends the connection."""
    most, levels = _LONGEST_FILTER
    if len(text) > most + len(SHARED) + 64 or text.count("/") > levels + 2:
        return False
    share, topic = "", text
    if text.startswith(SHARED):
        share, _, topic = text.removeprefix(SHARED).partition("/")
        if not is_name(share):
            return False
    try:
        return on_wire(topic, share) == text
    except ValueError:
        return False


def fill(template: str, levels: dict[str, str]) -> str:
    """An output topic with `{name}` replaced by the input topic's levels; ValueError for an unknown name."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in levels:
            raise ValueError(f"{{{found[1]}}} names no + level of the input's topic")
        return levels[found[1]]

    return check_topic(re.sub(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", value, template))


def template_names(template: str) -> list[str]:
    """The `{name}`s that a template asks for."""
    return re.findall(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", template)


class Tree(msgspec.Struct, frozen=True):
    """edged's own topics on one box: the table of docs/mqtt-api.md, in one place."""

    base: str
    device: str

    @property
    def root(self) -> str:
        return f"{self.base}/{self.device}"

    @property
    def status(self) -> str:
        return f"{self.root}/status"

    @property
    def info(self) -> str:
        return f"{self.root}/info"

    @property
    def telemetry(self) -> str:
        return f"{self.root}/telemetry"

    @property
    def event(self) -> str:
        return f"{self.root}/event"

    def requests(self, groups: Sequence[str]) -> tuple[str, ...]:
        """The filters for requests: to this box, to all, to each of its groups."""
        whom = [self.root, f"{self.base}/all", *(f"{self.base}/group/{group}" for group in groups)]
        return tuple(f"{one}/request/+" for one in whom)

    def infer(self, model: str) -> str:
        return f"{self.root}/models/{model}/infer"

    def result(self, model: str, id: str = "") -> str:
        return self._with_id(f"{self.root}/models/{model}/result", id)

    def error(self, model: str, id: str = "") -> str:
        return self._with_id(f"{self.root}/models/{model}/error", id)

    def model_status(self, model: str) -> str:
        return f"{self.root}/models/{model}/status"

    def push(self, model: str) -> str:
        return f"{self.root}/models/{model}/push"

    def request(self, verb: str) -> str:
        return f"{self.root}/request/{verb}"

    def response(self, verb: str) -> str:
        return f"{self.root}/response/{verb}"

    def install(self, model: str) -> str:
        return f"{self.root}/install/{model}"

    @property
    def need(self) -> str:
        return f"{self.root}/need"

    def claimed(self, topic: str) -> str:
        """Why neither a result nor an answer may go to `topic`, "" where one may: somebody reads it as something else.

        States, requests, inputs and pushes of this box and of others, and signed documents. What else is below another
        box's name is its owner's: an answer may go there.
        """
        if topic.startswith("$"):
            return "begins with $, which is the broker's own"
        base = f"{self.base}/"
        if not topic.startswith(base):
            return ""
        whose, *levels = topic[len(base) :].split("/")
        of_model = levels[2] if levels[:1] == ["models"] and len(levels) > 2 else ""
        if of_model == "result":  # whatever its id
            return ""
        if whose == "ota":
            return f"is one of the fleet's signed documents, which boxes follow (below {Ota(self.base).root}/)"
        if whose in RESERVED_DEVICES or _ASKED.intersection(levels):
            return "is one that boxes take requests, inputs or pushes on"
        own = topic.startswith(self.response(""))  # another box's is where it waits for answers
        if own or of_model == "status" or _STATES.intersection(levels[:1]):
            return "is one that boxes publish their own state on"
        return ""

    def no_output(self, topic: str) -> str:
        """Why no model's results may go to `topic`, "" where they may: in this box's own tree they have their place."""
        reason = self.claimed(topic)
        if not reason and topic.startswith(f"{self.root}/") and not _RESULT.fullmatch(topic[len(self.root) :]):
            return f"is in this box's own tree, where results have {self.root}/models/<model>/result"
        return reason

    @staticmethod
    def _with_id(topic: str, id: str) -> str:
        return f"{topic}/{id}" if id else topic


class Ota(msgspec.Struct, frozen=True):
    """The fleet's topics: signed documents and the chunks that they name. `to` is all, group/<g> or device/<d>."""

    base: str

    @property
    def root(self) -> str:
        return f"{self.base}/ota"

    def trust(self, version: int) -> str:
        return f"{self.root}/trust/{version}"

    def release(self, sha256: str) -> str:
        return f"{self.root}/release/{sha256}"

    def blob(self, sha256: str) -> str:
        return f"{self.root}/blob/{sha256}"

    def want(self, model: str, to: str) -> str:
        return f"{self.root}/want/{model}/{to}"

    def undo(self, model: str, to: str) -> str:
        return f"{self.root}/undo/{model}/{to}"
