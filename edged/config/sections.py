"""The configuration's sections as they are written, read into the schema, and checked against each other."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Annotated, Any, Final, get_args

from msgspec import UNSET

from edged.config import arrivals, broker, checks, doors, files, identity, joins, keys, nodes, schema
from edged.config.chain import chain
from edged.config.keys import Key
from edged.config.nodes import has, line_of, line_of_item
from edged.config.overlay import overlay
from edged.config.places import places
from edged.config.reader import Reader, below, make
from edged.config.steps import Form, Predicting
from edged.topics import TopicFilter, Tree, fill, template_names

_NOTHING: Final = nodes.Mapping({}, nodes.Line(0))
_FIELD: Final = Annotated[str, Key("values: the one JSON member taken", default="as `fields`")]
_BY_HAND: Final = {"inputs": nodes.Node, "preprocess": nodes.Node, "postprocess": nodes.Node}

# What each section is written with, where that is not the struct's own fields.
WRITTEN: Final[dict[type, dict[str, Any]]] = {
    schema.Config: {
        **{name: note for name, note in keys.fields(schema.Config).items() if name != "arriving"},
        **dict.fromkeys(("mqtt", "sockets", "defaults", "models", "push"), nodes.Node),
    },
    schema.Mqtt: broker.WRITTEN,
    schema.Sockets: doors.WRITTEN,
    schema.Push: arrivals.WRITTEN,
    schema.Courier: broker.OF_PUSHES,
    schema.Model: {name: note for name, note in keys.fields(schema.Model).items() if name != "name"} | _BY_HAND,
    schema.Input: {name: note for name, note in keys.fields(schema.Input).items() if name != "form"}
    | {"field": _FIELD}
    | dict(keys.fields(Form)),
}
# What `defaults` may say: not what makes a model this one.
OF_ONE_MODEL: Final = ("file", "inputs")
DEFAULTS: Final = {name: note for name, note in WRITTEN[schema.Model].items() if name not in OF_ONE_MODEL}
# Which payload formats an option is for; auto may turn out to be any.
_FOR_FORMAT: Final = {"fields": "values", "missing": "values", "time": "values", "dtype": "raw", "columns": "raw"}


def config(reader: Reader, node: nodes.Node) -> schema.Config:
    """The whole file. What could not be read is left at its default: the reader has the mistakes."""
    found = reader.members(node, "", schema.Config, WRITTEN[schema.Config])
    device = found.pop("device", None) or _own_name(reader, check=not has(node, "device"))
    mqtt = broker.section(reader, found.pop("mqtt"), device) if "mqtt" in found else None
    # With a broken mqtt section there is still a broker meant.
    tree = Tree(schema.BASE if mqtt is None else mqtt.base, device) if has(node, "mqtt") else None
    defaults = _defaults(reader, found.pop("defaults")) if "defaults" in found else _NOTHING
    models = _models(reader, found.pop("models"), tree, defaults) if "models" in found else ()
    sockets = default_sockets(reader)
    if "sockets" in found:
        sockets = doors.section(reader, found.pop("sockets"), sockets)
        doors.check_direct(reader, node, sockets, models)
    if "push" in found:
        found["push"] = arrivals.section(reader, found["push"], tree)
        if found["push"].models == "any":
            found["arriving"] = _arriving(reader, defaults, tree)
    return schema.Config(device=device, sockets=sockets, mqtt=mqtt, models=models, **found)


def _own_name(reader: Reader, *, check: bool) -> str:
    """The name from the host; without `check` it only stands in for one that was refused."""
    name = identity.device_name(socket.gethostname())
    if not check:
        return name
    try:
        checks.device_name(name)
    except ValueError as error:
        reader.refuse(0, "device", f"the host's name does not do: {error}", "write `device: NAME`")
    return name


def default_sockets(reader: Reader) -> schema.Sockets:
    """The UNIX socket where every command looks for it."""
    return schema.Sockets(unix=str(places(reader.environment).runtime / "edged.sock"))


def _defaults(reader: Reader, node: nodes.Node) -> nodes.Node:
    """The keys that every model begins with; none when one of them is wrong: said once, not for each model."""
    before = len(reader.mistakes)
    own = dict(node.members) if isinstance(node, nodes.Mapping) else {}
    for name in OF_ONE_MODEL:
        if name in own:
            line = own.pop(name).line
            reader.refuse(line, f"defaults.{name}", "is for one model", "write it below models")
    allowed = nodes.Mapping(own, node.line) if isinstance(node, nodes.Mapping) else node
    _model_keys(reader, allowed, "defaults", DEFAULTS)
    return node if len(reader.mistakes) == before and isinstance(node, nodes.Mapping) else _NOTHING


def _arriving(reader: Reader, defaults: nodes.Node, tree: Tree | None) -> schema.Model:
    """What a model begins with that a release brings: it has no topics but its own."""
    model = schema.Model(name="", **_model_keys(reader, defaults, "defaults", DEFAULTS))
    if names := template_names(model.output.topic):
        what = f"{{{names[0]}}} is no level of an input of a model that a release brings: it has none"
        reader.refuse(line_of(defaults, "output", "topic"), "defaults.output.topic", what, "write it below models")
    elif tree is not None:
        _check_place(reader, defaults, "defaults", model.output, tree)
    return model


def _models(reader: Reader, node: nodes.Node, tree: Tree | None, defaults: nodes.Node) -> tuple[schema.Model, ...]:
    if isinstance(node, nodes.Scalar) and node.empty:
        return ()
    if not isinstance(node, nodes.Mapping):
        what = f"expected a name for each model, found {nodes.describe(node)}"
        reader.refuse(node.line, "models", what, "such as digits: {file: digits.onnx}")
        return ()
    for name, member in node.members.items():
        try:
            checks.model_name(name)
        except ValueError as error:
            reader.refuse_error(member.line, f"models.{name}", error)
    return tuple(_model(reader, name, overlay(defaults, member.value), tree) for name, member in node.members.items())


def _model(reader: Reader, name: str, node: nodes.Node, tree: Tree | None) -> schema.Model:
    path = f"models.{name}"
    found = _model_keys(reader, node, path, WRITTEN[schema.Model])
    if tree is None and "inputs" in found:
        reader.refuse(
            line_of(node, "inputs"), f"{path}.inputs", "there is no broker for them to come from", "add mqtt: {url: ..}"
        )
    if "file" in found:
        found["file"] = _file(reader, node, path, "file", found["file"], needed=reader.need_models)
    if "inputs" in found:
        found["inputs"] = _inputs(reader, found["inputs"], f"{path}.inputs")
    model = schema.Model(name=name, **found)
    _check_overflow(reader, node, path, model)
    _check_format(reader, node, path, model)
    joins.check(reader, node, path, model)
    if _check_template(reader, node, path, model) and tree is not None:
        _check_place(reader, node, path, model.output, tree)
        _check_loop(reader, node, path, model, tree)
    return model


def _model_keys(reader: Reader, node: nodes.Node, path: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """The keys that a model and `defaults` have in common."""
    found = reader.members(node, path, schema.Model, known)
    for section in ("preprocess", "postprocess"):
        if section in found:
            found[section] = chain(reader, found[section], f"{path}.{section}", section)
    return found


def _inputs(reader: Reader, node: nodes.Node, path: str) -> tuple[schema.Input, ...]:
    if isinstance(node, nodes.Scalar) and node.empty:
        return ()
    if not isinstance(node, nodes.Sequence):
        reader.refuse(node.line, path, f"expected a list, found {nodes.describe(node)}", 'begin with "- topic: ..."')
        return ()
    found: list[schema.Input] = []
    for index, item in enumerate(node.items):
        one = _input(reader, item, f"{path}[{index}]")
        if one is UNSET:
            continue
        if any(one.topic == other.topic for other in found):
            reader.refuse(line_of(item, "topic"), f"{path}[{index}].topic", "is an input of this model already")
        found.append(one)
    return tuple(found)


def _input(reader: Reader, node: nodes.Node, path: str) -> Any:
    found = reader.members(node, path, schema.Input, WRITTEN[schema.Input], required=("topic",))
    if "field" in found:
        if "fields" in found:
            reader.refuse(line_of(node, "field"), below(path, "field"), "there are fields beside it", "keep one")
        found["fields"] = (found.pop("field"),)
    form = Form(**{name: found.pop(name) for name in Form.__struct_fields__ if name in found})
    for name, wanted in _FOR_FORMAT.items():
        written = "field" if name == "fields" and has(node, "field") else name
        if has(node, written) and form.format not in ("auto", wanted):
            what = f"is for format: {wanted}, and this input is {form.format}"
            reader.refuse(line_of(node, written), below(path, written), what)
    return make(schema.Input, {**found, "form": form})


def _file(reader: Reader, node: nodes.Node, section: str, name: str, text: str, *, needed: bool = True) -> str:
    """The absolute path of a file, relative to the configuration's folder; "" for one that is `needed` and no use."""
    path = reader.folder / text
    try:
        if needed:
            files.readable(path)
    except ValueError as error:
        reader.refuse_error(line_of(node, name), below(section, name), error)
        return ""
    return str(path)


def _check_overflow(reader: Reader, node: nodes.Node, path: str, model: schema.Model) -> None:
    """Nothing can be held back on a QoS 0 subscription: the broker does not wait (RULES 19)."""
    if model.queue.overflow == "block" and any(one.qos == 0 for one in model.inputs):
        what = "block holds inputs back, which an input with qos: 0 does not allow"
        reader.refuse(line_of(node, "queue", "overflow"), f"{path}.queue.overflow", what, "drop-oldest, or qos: 1")


def _check_format(reader: Reader, node: nodes.Node, path: str, model: schema.Model) -> None:
    """A prediction is what postprocess makes."""
    if model.output.format == "prediction" and not any(isinstance(step, Predicting) for step in model.postprocess):
        line = line_of(node, "output", "format")
        what = "no step of postprocess makes a prediction"
        words = ", ".join(str(step.__struct_config__.tag) for step in get_args(Predicting))
        reader.refuse(line, f"{path}.output.format", what, f"add one of {words}")


def _check_template(reader: Reader, node: nodes.Node, path: str, model: schema.Model) -> bool:
    """Whether each `{name}` of the output is a level of each input; says so where not."""
    line, key = line_of(node, "output", "topic"), f"{path}.output.topic"
    unknown = [
        (name, one)
        for one in model.inputs
        if one.hold is None or not model.joined  # no result is a held value's own
        for name in dict.fromkeys(template_names(model.output.topic))
        if name not in TopicFilter.parse(one.topic).names
    ]
    for name, one in unknown:
        named = [f"{{{level}}}" for level in TopicFilter.parse(one.topic).names if level]
        hint = f"it has {', '.join(named)}" if named else f"name a level of it: +{name}"
        reader.refuse(line, key, f"{{{name}}} is no level of the input {one.topic}", hint)
    if model.output.from_ == "all" and template_names(model.output.topic):
        what = "a request over HTTP has no topic whose levels could be put in"
        reader.refuse(line_of(node, "output", "from"), f"{path}.output.from", what, "name a topic without {}")
    if not model.inputs and template_names(model.output.topic) and not has(node, "inputs"):
        reader.refuse(line, key, "names a level of an input's topic, and there are no inputs", "add inputs")
    return not unknown


def _check_place(reader: Reader, node: nodes.Node, path: str, output: schema.Output, tree: Tree) -> None:
    """No result may be read as something else. Levels of an input that make it so are refused when they come."""
    filled = fill(output.topic, dict.fromkeys(template_names(output.topic), "any")) if output.topic else ""
    if reason := tree.no_output(filled):
        hint = "leave it out, or choose one that edged has no use for, such as cells/digit"
        reader.refuse(line_of(node, "output", "topic"), f"{path}.output.topic", f"{output.topic} {reason}", hint)


def _check_loop(reader: Reader, node: nodes.Node, path: str, model: schema.Model, tree: Tree) -> None:
    """No result and no error of a model may come back as its own input."""
    for index, one in enumerate(model.inputs):
        topic = TopicFilter.parse(one.topic)
        result = model.output.topic or tree.result(model.name)
        filled = fill(result, dict.fromkeys([*topic.names, *template_names(result)], "any"))
        if any(topic.match(out) is not None for out in (filled, tree.error(model.name))):
            line = line_of_item(node, "inputs", index, "topic")
            what = f"{one.topic} takes the model's own results ({result}) for inputs"
            reader.refuse(line, f"{path}.inputs[{index}].topic", what, "keep the two apart")
