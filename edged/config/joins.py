"""Inputs that feed different tensors of one model run together: what they have to say for that (RULES 16)."""

from __future__ import annotations

from edged.config import nodes, schema
from edged.config.reader import Reader
from edged.topics import TopicFilter


def check(reader: Reader, node: nodes.Node, path: str, model: schema.Model) -> None:
    """Refuses what does not go together. Whether all of the model's tensors are fed, the worker knows."""
    for index, one in enumerate(model.inputs):
        for key, what, hint in _mistakes(model, index, one):
            line = nodes.line_of_item(node, "inputs", index, key)
            reader.refuse(line, f"{path}.inputs[{index}].{key}", what, hint)


def _mistakes(model: schema.Model, index: int, one: schema.Input) -> list[tuple[str, str, str]]:
    """Each as (key, what, hint)."""
    if not model.joined:
        alone = "there is no other input that it could lend its value to"
        return [] if one.hold is None else [("hold", alone, "give each input of the model its `tensor`")]
    found: list[tuple[str, str, str]] = []
    if one.share:
        found.append(("share", "values that belong together would come to different boxes", "leave share out"))
    others = [other.form.tensor for other in model.inputs[:index]]
    if not one.form.tensor:
        found.append(("topic", "the other inputs feed a tensor each, and this one does not say which", "add tensor"))
    elif one.form.tensor in others:
        found.append(("tensor", f"inputs[{others.index(one.form.tensor)}] feeds {one.form.tensor} already", "keep one"))
    if one.form.format == "oip":
        found.append(("format", "a request of the protocol has all tensors in it, and runs alone", "send it to infer"))
    if one.form.missing == "last":
        found.append(("missing", "last is for an input that runs alone", "send all members, or choose nan"))
    return found + _stream_mistakes(model, one)


def _stream_mistakes(model: schema.Model, one: schema.Input) -> list[tuple[str, str, str]]:
    """Values meet by the named levels of their topics, so every level that varies needs a name."""
    names = TopicFilter.parse(one.topic).names
    if "" in names or one.topic.endswith("#"):
        return [("topic", "inputs that run together meet by named levels", "give each + a name, and leave # out")]
    first = next((other for other in model.inputs if other.hold is None), None)
    if first is None:
        return [("hold", "every input holds its value, and none makes the model run", "leave hold out of one")]
    wanted = TopicFilter.parse(first.topic).names
    if set(names) == set(wanted) or (one.hold is not None and set(names) < set(wanted)):
        return []
    listed = ", ".join(f"+{name}" for name in wanted) or "none"
    return [("topic", f"it does not meet {first.topic}: they need the same named levels ({listed})", "")]
