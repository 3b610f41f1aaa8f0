"""config.sections: values that the type allows and we do not, and keys that do not go together."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from edged.config.load import load
from edged.config.mistakes import ConfigErrors
from edged.config.schema import Config
from tests.unit.config.folder import Folder

BROKER = "mqtt: {url: mqtt://b}\n"
NOT_LOOPBACK = "is not this box alone, which takes sockets.token_file and sockets.tls"
ELSEWHERE = "(leave it out, or choose one that edged has no use for, such as cells/digit)"
DTYPES = "(one of bool, uint8, uint16, uint32, uint64, int8, int16, int32, int64, float16, float32, float64)"


def model(text: str, *, broker: str = BROKER) -> str:
    """A model named `a`: `text` is its keys, in one line, and stands on line 2."""
    return f"{broker}models: {{a: {{{text}}}}}\n"


def inputs(text: str) -> str:
    return model(f"inputs: [{text}]")


WRONG = {
    "a device's name": (
        "device: press 07\n",
        "1: device: 'press 07' is no name (letters, digits, _ and -, at most 64)",
    ),
    "a reserved name": ("device: ota\n", "1: device: 'ota' is a word of edged's own topics (choose another name)"),
    "a model's name": ("models: {a.b: {}}\n", "1: models.a.b: 'a.b' is no name (letters, digits, _ and -, at most 64)"),
    "models as a list": (
        "models: [{name: a}]\n",
        "1: models: expected a name for each model, found a list (such as digits: {file: digits.onnx})",
    ),
    # --- mqtt
    "no url": (
        "device: a\nmqtt:\n  username: x\n",
        (
            "2: mqtt.url: is missing "
            "(the broker: `mqtt://host[:1883]` or `mqtts://host[:8883]`, or through a WebSocket "
            "`ws://host[:80][/mqtt]` or `wss://host[:443][/mqtt]`; several: the first that answers)"
        ),
    ),
    "no broker at all": (
        "mqtt: {url: []}\n",
        "1: mqtt.url: needs at least one address (such as mqtt://broker.plant)",
    ),
    "one wrong broker of several": (
        "mqtt: {url: [mqtt://a, b]}\n",
        "1: mqtt.url[1]: expected mqtt://host or mqtts://host (did you mean mqtt://b?)",
    ),
    "one broker twice": (
        "mqtt: {url: [mqtt://a, mqtt://b, mqtt://a]}\n",
        "1: mqtt.url: mqtt://a is given twice",
    ),
    "a keepalive out of range": (
        "mqtt: {url: mqtt://b, keepalive: 4s}\n",
        "1: mqtt.keepalive: 4s is out of range (it takes 5s to 1h)",
    ),
    "a base with a wildcard": (
        'mqtt: {url: mqtt://b, base: "a/+"}\n',
        "1: mqtt.base: a topic to publish to has no wildcard + or #",
    ),
    "a base with an empty level": (
        "mqtt: {url: mqtt://b, base: edged/}\n",
        "1: mqtt.base: expected levels such as edged or plant/edged (without / at the ends, and no $ at the start)",
    ),
    "a base that leaves no room for a topic": (
        f"mqtt: {{url: mqtt://b, base: {'b' * 65_530}}}\n",
        "1: mqtt.base: has 65530 bytes, 256 at most: all of edged's own topics begin with it",
    ),
    "an input of more levels than brokers take": (
        inputs(f"{{topic: {'a/' * 200}a}}"),
        (
            "2: models.a.inputs[0].topic: has 201 levels, 128 at most "
            "(brokers end the connection over a topic of many levels)"
        ),
    ),
    "an input's topic that leaves no room for its group": (
        inputs(f"{{topic: {'a' * 65_530}, share: g}}"),
        "2: models.a.inputs[0].topic: has 65530 bytes, 4096 at most",
    ),
    "a result of more levels than brokers take": (
        model(f"output: {{topic: {'a/' * 200}a}}"),
        (
            "2: models.a.output.topic: has 201 levels, 128 at most "
            "(brokers end the connection over a topic of many levels)"
        ),
    ),
    "a result for the box's state": (
        model("output: {topic: edged/box/status}", broker=f"device: box\n{BROKER}"),
        f"3: models.a.output.topic: edged/box/status is one that boxes publish their own state on {ELSEWHERE}",
    ),
    "a result for another box's state": (
        model('inputs: [{topic: +in/x}], output: {topic: "edged/{in}/status"}'),
        f"2: models.a.output.topic: edged/{{in}}/status is one that boxes publish their own state on {ELSEWHERE}",
    ),
    "a result for requests": (
        model('inputs: [{topic: +in/x}], output: {topic: "edged/box/request/{in}"}'),
        (
            "2: models.a.output.topic: edged/box/request/{in} is one that boxes take requests, inputs or pushes on "
            f"{ELSEWHERE}"
        ),
    ),
    "a result for a push": (
        model("output: {topic: edged/box/models/a/push}"),
        (
            "2: models.a.output.topic: edged/box/models/a/push is one that boxes take requests, inputs or pushes on "
            f"{ELSEWHERE}"
        ),
    ),
    "a result for a want": (
        model("output: {topic: e/ota/want/a/all}", broker="mqtt: {url: mqtt://b, base: e}\n"),
        (
            "2: models.a.output.topic: e/ota/want/a/all is one of the fleet's signed documents, which boxes follow "
            f"(below e/ota/) {ELSEWHERE}"
        ),
    ),
    "a result for the broker": (
        model('inputs: [{topic: +in/x}], output: {topic: "$SYS/{in}"}'),
        f"2: models.a.output.topic: $SYS/{{in}} begins with $, which is the broker's own {ELSEWHERE}",
    ),
    "a result in the box's own tree": (
        model('inputs: [{topic: +in/x}], output: {topic: "edged/box/{in}"}', broker=f"device: box\n{BROKER}"),
        (
            "3: models.a.output.topic: edged/box/{in} is in this box's own tree, where results have "
            f"edged/box/models/<model>/result {ELSEWHERE}"
        ),
    ),
    "results of what a release brings, for the box's state": (
        (
            f"device: box\n{BROKER}push: {{trust: edged.yaml, models: any}}\n"
            "defaults: {output: {topic: edged/box/info}}\n"
        ),
        f"4: defaults.output.topic: edged/box/info is one that boxes publish their own state on {ELSEWHERE}",
    ),
    "a password without a user": (
        "mqtt:\n  url: mqtt://b\n  password: x\n",
        "3: mqtt.password: there is no username for it (add mqtt.username)",
    ),
    "ca without TLS": (
        "mqtt:\n  url: mqtt://b\n  ca: edged.yaml\n",
        "3: mqtt.ca: has no use without TLS (did you mean mqtts:// or wss:// in mqtt.url?)",
    ),
    # --- sockets
    "open metrics": (
        "sockets: {metrics: '[::]:9464'}\n",
        "1: sockets.metrics: :: is not this box alone, which takes sockets.tls (did you mean 127.0.0.1:9464?)",
    ),
    "the UNIX socket twice": (
        "sockets:\n  unix: /run/e.sock\n  http: unix:/run/e.sock\n",
        "3: sockets.http: /run/e.sock is sockets.unix already",
    ),
    "a place with two purposes": (
        "sockets:\n  http: 127.0.0.1:80\n  metrics: [127.0.0.1:81, 127.0.0.1:80]\n",
        "3: sockets.metrics: 127.0.0.1:80 is in sockets.http already",
    ),
    "tls without a certificate": (
        "sockets:\n  tls: {key: edged.yaml}\n",
        "2: sockets.tls: needs a cert (and a key, if that is in a file of its own)",
    ),
    "an open address": (
        "sockets: {http: 0.0.0.0:8080}\n",
        f"1: sockets.http: 0.0.0.0 {NOT_LOOPBACK} (did you mean 127.0.0.1:8080?)",
    ),
    "an open address in a list": (
        "sockets:\n  http:\n    - 127.0.0.1:8080\n    - box.plant:8080\n",
        f"4: sockets.http[1]: box.plant {NOT_LOOPBACK} (did you mean 127.0.0.1:8080?)",
    ),
    "an address twice": (
        "sockets: {http: ['127.0.0.1:80', '127.0.0.1:80']}\n",
        "1: sockets.http: 127.0.0.1:80 is given twice",
    ),
    "a port alone": (
        "sockets: {http: 8080}\n",
        "1: sockets.http: expected host:port or unix:/path (did you mean 127.0.0.1:8080?)",
    ),
    "a relative socket": (
        "sockets: {unix: edged.sock}\n",
        "1: sockets.unix: expected a path from the root (such as /run/edged/edged.sock)",
    ),
    "a socket's path that is too long": (
        f"sockets: {{unix: /{'x' * 107}}}\n",
        "1: sockets.unix: a socket's path has at most 107 bytes",
    ),
    # --- inputs
    "inputs without a broker": (
        model("inputs: [{topic: a}]", broker="\n"),
        "2: models.a.inputs: there is no broker for them to come from (add mqtt: {url: ..})",
    ),
    "an input without a topic": (
        inputs("{qos: 1}"),
        (
            "2: models.a.inputs[0].topic: is missing "
            "(where inputs come from; `+`, `+name` (a level with a name) and `#` work)"
        ),
    ),
    "inputs without a list": (
        model("inputs: {topic: a}"),
        '2: models.a.inputs: expected a list, found a mapping (key: value) (begin with "- topic: ...")',
    ),
    "a filter that MQTT does not know": (
        inputs("{topic: a/#/b}"),
        "2: models.a.inputs[0].topic: '#': + stands at the start of a level, # alone at the end",
    ),
    "a level named twice": (
        inputs("{topic: +a/+a}"),
        "2: models.a.inputs[0].topic: a level name is used twice",
    ),
    "an output's word in an input": (
        inputs('{topic: "cells/{cell}/scan"}'),
        "2: models.a.inputs[0].topic: an input's topic names a level with + (did you mean +cell?)",
    ),
    "an input twice": (
        inputs("{topic: x}, {topic: x, qos: 0}"),
        "2: models.a.inputs[1].topic: is an input of this model already",
    ),
    "an unknown QoS": (inputs("{topic: x, qos: 2}"), "2: models.a.inputs[0].qos: expected 0 or 1, found '2'"),
    "field and fields": (
        inputs("{topic: x, format: values, field: a, fields: [b]}"),
        "2: models.a.inputs[0].field: there are fields beside it (keep one)",
    ),
    "a field of bytes": (
        inputs("{topic: x, format: raw, field: a}"),
        "2: models.a.inputs[0].field: is for format: values, and this input is raw",
    ),
    "columns of JSON": (
        inputs("{topic: x, format: values, columns: 3}"),
        "2: models.a.inputs[0].columns: is for format: raw, and this input is values",
    ),
    "an unknown dtype": (
        inputs("{topic: x, format: raw, dtype: float}"),
        f"2: models.a.inputs[0].dtype: 'float' is no dtype {DTYPES}",
    ),
    # --- results
    # --- inputs that run together
    "a held value for nobody": (
        inputs("{topic: x, hold: 5s}"),
        (
            "2: models.a.inputs[0].hold: there is no other input that it could lend its value to "
            "(give each input of the model its `tensor`)"
        ),
    ),
    "an input that feeds nothing": (
        inputs("{topic: x, tensor: t}, {topic: y, tensor: u}, {topic: z}"),
        (
            "2: models.a.inputs[2].topic: the other inputs feed a tensor each, and this one does not say which "
            "(add tensor)"
        ),
    ),
    "a tensor that is fed twice": (
        inputs("{topic: x, tensor: t}, {topic: y, tensor: u}, {topic: z, tensor: t}"),
        "2: models.a.inputs[2].tensor: inputs[0] feeds t already (keep one)",
    ),
    "a whole request among values": (
        inputs("{topic: x, tensor: t, format: oip}, {topic: y, tensor: u}"),
        (
            "2: models.a.inputs[0].format: a request of the protocol has all tensors in it, and runs alone "
            "(send it to infer)"
        ),
    ),
    "a level without a name among values": (
        inputs("{topic: +/t, tensor: t}, {topic: u, tensor: u, hold: 5s}"),
        (
            "2: models.a.inputs[0].topic: inputs that run together meet by named levels "
            "(give each + a name, and leave # out)"
        ),
    ),
    "a member remembered among values": (
        inputs("{topic: t, tensor: t, missing: last}, {topic: u, tensor: u}"),
        "2: models.a.inputs[0].missing: last is for an input that runs alone (send all members, or choose nan)",
    ),
    "a shared topic among values": (
        inputs("{topic: t, tensor: t, share: g}, {topic: u, tensor: u}"),
        "2: models.a.inputs[0].share: values that belong together would come to different boxes (leave share out)",
    ),
    "a group in a topic": (
        inputs("{topic: $share/g/a/+}"),
        "2: models.a.inputs[0].topic: the group is a key of its own (write topic: a/+, share: g)",
    ),
    "values that cannot meet": (
        inputs("{topic: +cell/t, tensor: t}, {topic: +line/u, tensor: u}"),
        "2: models.a.inputs[1].topic: it does not meet +cell/t: they need the same named levels (+cell)",
    ),
    "a held value with more levels than the others": (
        inputs("{topic: t, tensor: t}, {topic: +line/u, tensor: u, hold: 5s}"),
        "2: models.a.inputs[1].topic: it does not meet t: they need the same named levels (none)",
    ),
    "a request's result on a topic with levels": (
        model('inputs: [{topic: +cell/x}], output: {topic: "x/{cell}", from: all}'),
        (
            "2: models.a.output.from: a request over HTTP has no topic whose levels could be put in "
            "(name a topic without {})"
        ),
    ),
    "a prediction that nothing makes": (
        model("postprocess: [softmax], output: {format: prediction}"),
        (
            "2: models.a.output.format: no step of postprocess makes a prediction "
            "(add one of argmax, top_k, labels, min_score, detect, error)"
        ),
    ),
    "a level that no input has": (
        model('inputs: [{topic: cells/+cell/scan}], output: {topic: "x/{cel}"}'),
        "2: models.a.output.topic: {cel} is no level of the input cells/+cell/scan (it has {cell})",
    ),
    "a level that one input lacks": (
        model('inputs: [{topic: a/+cell}, {topic: b/#}], output: {topic: "x/{cell}"}'),
        "2: models.a.output.topic: {cell} is no level of the input b/# (name a level of it: +cell)",
    ),
    "a level without inputs": (
        model('output: {topic: "x/{cell}"}'),
        "2: models.a.output.topic: names a level of an input's topic, and there are no inputs (add inputs)",
    ),
    "an input's word in an output": (
        model("inputs: [{topic: cells/+cell}], output: {topic: x/+cell}"),
        "2: models.a.output.topic: an output's topic names a level with {} (such as cells/{cell}/digit)",
    ),
    "a loop": (
        model('inputs: [{topic: "cells/#"}], output: {topic: cells/a}'),
        "2: models.a.inputs[0].topic: cells/# takes the model's own results (cells/a) for inputs (keep the two apart)",
    ),
    "a loop through a level": (
        model('inputs: [{topic: "+line/+kind"}], output: {topic: "{line}/out"}'),
        (
            "2: models.a.inputs[0].topic: +line/+kind takes the model's own results ({line}/out) for inputs "
            "(keep the two apart)"
        ),
    ),
    # --- limits
    "block on QoS 0": (
        BROKER + "models:\n  a:\n    inputs: [{topic: y}, {topic: x, qos: 0}]\n    queue:\n      overflow: block\n",
        (
            "6: models.a.queue.overflow: block holds inputs back, which an input with qos: 0 does not allow "
            "(drop-oldest, or qos: 1)"
        ),
    ),
    "no queue": (model("queue: {size: 0}"), "2: models.a.queue.size: 0 is out of range (it takes 1 to 100000)"),
    "too large a batch": (
        model("batch: {max: 1025}"),
        "2: models.a.batch.max: 1025 is out of range (it takes 1 to 1024)",
    ),
    "a negative number": (model("threads: -1"), "2: models.a.threads: -1 is out of range (it takes auto, or 1 to 64)"),
    "a ratio above all": (
        "push: {probation: {max_errors: 101%}}\n",
        "1: push.probation.max_errors: expected at most 100%, found '101%'",
    ),
    # --- steps
    "steps without a list": (
        model("preprocess: {scale: 2}"),
        '2: models.a.preprocess: expected a list of steps, found a mapping (key: value) (begin each step with "- ")',
    ),
    "two steps in one item": (
        model("preprocess: [{scale: 2, cast: float32}]"),
        '2: models.a.preprocess[0]: one item is one step (begin each step with "- ")',
    ),
    "no step": (
        model("preprocess: [{}]"),
        "2: models.a.preprocess[0]: expected a step, found a mapping (key: value) (such as - softmax)",
    ),
    "a step in the wrong place": (
        model("preprocess: [softmax]"),
        "2: models.a.preprocess[0]: softmax is no step of preprocess (it belongs to postprocess)",
    ),
    "a step without its value": (
        model("postprocess: [top_k]"),
        "2: models.a.postprocess[0].top_k: needs a value (top_k: 3)",
    ),
    "a step with a value": (
        model("postprocess: [{softmax: true}]"),
        "2: models.a.postprocess[0].softmax: takes no value (write it alone: - softmax)",
    ),
    "a scale that is no number": (
        model("preprocess: [{scale: 1/16}]"),
        "2: models.a.preprocess[0].scale: expected a number, found '1/16'",
    ),
    "an endless scale": (
        model("preprocess: [{scale: 1e999}]"),
        "2: models.a.preprocess[0].scale: expected a number, found '1e999'",
    ),
    "an impossible shape": (
        model("preprocess: [{reshape: [-1, -1]}]"),
        (
            "2: models.a.preprocess[0].reshape: expected sizes above 0, with -1 at most once "
            "(the batch axis is not part of it)"
        ),
    ),
    "an unknown dtype to cast to": (
        model("preprocess: [{cast: object}]"),
        f"2: models.a.preprocess[0].cast: 'object' is no dtype {DTYPES}",
    ),
    "no mean": (
        model("preprocess: [{normalize: {std: 2}}]"),
        "2: models.a.preprocess[0].normalize.mean: is missing (what is taken away)",
    ),
    "division by zero": (
        model("preprocess: [{normalize: {mean: 1, std: 0}}]"),
        "2: models.a.preprocess[0].normalize.std: expected numbers other than 0",
    ),
    "means and deviations that do not match": (
        model("preprocess: [{normalize: {mean: 1, std: [1, 2]}}]"),
        "2: models.a.preprocess[0].normalize: std has 2 numbers and mean 1 (one for all, or one each)",
    ),
    "too many decimals": (
        model("postprocess: [{round: 16}]"),
        "2: models.a.postprocess[0].round: 16 is out of range (it takes 0 to 15)",
    ),
    "labels that are a mapping": (
        model("postprocess: [{labels: {0: zero}}]"),
        "2: models.a.postprocess[0].labels: expected a list, found a mapping (key: value) (such as [a, b])",
    ),
    "no labels": (
        model("postprocess: [{labels: []}]"),
        "2: models.a.postprocess[0].labels: needs at least one name",
    ),
    "no means": (
        model("preprocess: [{normalize: {mean: []}}]"),
        "2: models.a.preprocess[0].normalize.mean: expected at least one number",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_value_that_cannot_be_is_one_mistake_with_its_line(folder: Folder, name: str) -> None:
    text, expected = WRONG[name]
    assert folder.mistake(text) == expected


def test_an_own_result_beside_the_inputs_is_no_loop(folder: Folder) -> None:
    folder.load(model('inputs: [{topic: cells/+cell/scan}], output: {topic: "cells/{cell}/digit"}'))


def test_everything_includes_the_models_own_results(folder: Folder) -> None:
    assert "takes the model's own results (edged/box/models/a/result)" in folder.mistake(
        "device: box\n" + inputs('{topic: "#"}')
    )


# --- variables ------------------------------------------------------------------------------------


def test_variables_are_replaced_in_values(folder: Folder) -> None:
    folder.environment |= {"HOST": "b.plant", "THREADS": "4", "EMPTY": ""}
    text = """\
device: ${NAME:-box}
mqtt: {url: "mqtt://${HOST}:${PORT:-1884}", username: "${EMPTY}", client_id: "${EMPTY:-me}"}
models: {a: {threads: "${THREADS}"}}
"""
    found = folder.load(text)
    assert found.device == "box"
    assert found.mqtt is not None
    assert (found.mqtt.url, found.mqtt.username, found.mqtt.client_id) == (("mqtt://b.plant:1884",), "", "me")
    assert found.models[0].threads == 4


def test_a_variable_brings_no_keys_with_it(folder: Folder) -> None:
    folder.environment["X"] = "{threads: 4}"
    assert folder.mistake("models:\n  a: ${X}\n") == "2: models.a: expected keys and values, found '${X}'"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${NOPE}", "the environment has no NOPE (set it, or write ${NOPE:-default})"),
        ("a${b-c}d", "${ begins no ${NAME} or ${NAME:-default} (a password with ${ in it goes to a password_file)"),
        ("a${", "${ begins no ${NAME} or ${NAME:-default} (a password with ${ in it goes to a password_file)"),
    ],
)
def test_a_variable_that_cannot_be_replaced(folder: Folder, value: str, expected: str) -> None:
    assert folder.mistake(f"mqtt:\n  url: mqtt://b\n  username: '{value}'\n") == f"3: mqtt.username: {expected}"


def test_what_a_variable_brings_is_checked_like_any_value(folder: Folder) -> None:
    folder.environment["T"] = "many"
    assert (
        folder.mistake("models: {a: {threads: '${T}'}}\n")
        == "1: models.a.threads: expected a whole number, found 'many'"
    )


# --- files ----------------------------------------------------------------------------------------


def password(config: Config) -> str:
    assert config.mqtt is not None
    return config.mqtt.password


WITH_FILE = "mqtt:\n  url: mqtt://b\n  username: u\n  password_file: secret\n"


def test_a_password_file_lies_with_systemd_first_and_beside_the_configuration_then(folder: Folder) -> None:
    folder.write("beside", "secret").chmod(0o600)
    assert password(folder.load(WITH_FILE)) == "beside"
    credentials = folder.path / "credentials"
    credentials.mkdir()
    folder.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    assert password(folder.load(WITH_FILE)) == "beside"
    folder.write("systemd's\n", "credentials/secret").chmod(0o600)
    assert password(folder.load(WITH_FILE)) == "systemd's"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\n", "is empty"),
        (b"", "is empty"),
        (b"\xff\xfe", "is no text in UTF-8"),
        (b"x" * 70_000, "is too large for a password"),
    ],
)
def test_a_file_that_holds_no_password(folder: Folder, content: bytes, expected: str) -> None:
    folder.write(content, "secret")
    assert folder.mistake(WITH_FILE) == f"4: mqtt.password_file: {folder.path}/secret {expected}"


def test_a_password_file_that_is_not_there(folder: Folder) -> None:
    assert folder.mistake(WITH_FILE) == f"4: mqtt.password_file: {folder.path}/secret does not exist"


def test_two_passwords(folder: Folder) -> None:
    folder.write("x", "secret").chmod(0o600)
    found = folder.mistake(WITH_FILE + "  password: y\n")
    assert found == "4: mqtt.password_file: there is a password beside it (keep one of the two)"


def test_a_password_file_that_we_may_not_read(short_path: Path) -> None:
    short_path.chmod(0o755)
    folder = Folder(short_path)
    folder.write("x", "secret").chmod(0)
    folder.write(WITH_FILE)
    with an_ordinary_user():
        file = folder.path / "edged.yaml"
        with pytest.raises(ConfigErrors, match=r"yaml:4: mqtt.password_file: .*/secret cannot be read by the user "):
            load(file, folder.environment)


@contextlib.contextmanager
def an_ordinary_user() -> Iterator[None]:
    """Root may read everything: it steps down for a moment."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_password_that_everyone_can_read_is_a_warning(folder: Folder, caplog: pytest.LogCaptureFixture) -> None:
    file = folder.write("x", "secret")
    file.chmod(0o604)
    with caplog.at_level(logging.WARNING):
        assert password(folder.load(WITH_FILE)) == "x"
    assert "everyone on this box can read it" in caplog.text
    caplog.clear()
    file.chmod(0o640)
    folder.load(WITH_FILE)
    assert not caplog.text


@pytest.mark.parametrize(
    ("name", "expected"), [("none.onnx", "does not exist"), ("", "is no file"), ("empty", "is empty")]
)
def test_a_model_file_that_cannot_be_one(folder: Folder, name: str, expected: str) -> None:
    folder.write("", "empty")
    text = f"models:\n  a:\n    file: '{name or '.'}'\n"
    assert folder.mistake(text) == f"3: models.a.file: {folder.path / name} {expected}"


def test_a_pipe_does_not_hold_the_check_up(folder: Folder) -> None:
    os.mkfifo(folder.path / "pipe")
    assert folder.mistake("models: {a: {file: pipe}}\n") == f"1: models.a.file: {folder.path}/pipe is no file"


def test_labels_that_are_not_there(folder: Folder) -> None:
    found = folder.mistake("models:\n  a:\n    postprocess:\n      - labels: labels.txt\n")
    assert found == f"4: models.a.postprocess[0].labels: {folder.path}/labels.txt does not exist"


# --- names of this box ----------------------------------------------------------------------------


def test_a_hosts_name_becomes_the_devices(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Press_07.Plant")
    found = folder.load(BROKER)
    assert found.device == "press_07-plant"
    assert found.mqtt is not None
    assert found.mqtt.client_id.startswith("edged-press_07-plant-")


def test_a_host_with_a_reserved_name_needs_another(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "all")
    expected = "device: the host's name does not do: 'all' is a word of edged's own topics (write `device: NAME`)"
    assert folder.mistake("").removeprefix(f"{folder.path}/edged.yaml: ") == expected
    assert folder.load("device: box\n").device == "box"


def test_relative_paths_start_at_the_configuration(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("onnx", "m.onnx")
    monkeypatch.chdir("/")
    assert folder.load("models: {a: {file: m.onnx}}\n").models[0].file == str(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("text", "found", "meant"),
    [
        ("{mqtt: {url: mqtt://b, outbox: 64MiB}}", "mqtt.outbox", "outbox: {size: 64MiB}"),
        ("{mqtt: mqtt://b}", "mqtt", "mqtt: {url: mqtt://b}"),
        ("{push: {probation: 60s}}", "push.probation", "probation: {time: 60s}"),
        ("{models: {a: {queue: 64}}}", "models.a.queue", "queue: {size: 64}"),
        ("{models: {a: {limits: 2s}}}", "models.a.limits", "limits: {run: 2s}"),
        ("{models: {a: {output: out/a}}}", "models.a.output", "output: {topic: out/a}"),
        ("{mqtt: {url: mqtt://b}, models: {a: {inputs: [in/a]}}}", "models.a.inputs[0]", "{topic: in/a}"),
    ],
)
def test_one_value_in_the_place_of_a_section_may_be_the_one_of_a_key(
    folder: Folder, text: str, found: str, meant: str
) -> None:
    said = folder.mistake(text)
    assert said.startswith(f"1: {found}: expected keys and values, found ")
    assert said.endswith(f" (did you mean {meant}?)")


@pytest.mark.parametrize("text", ["{mqtt: none}", "{push: auto}", "{models: {a: {output: +}}}", "{models: {a: ${X}}}"])
def test_a_value_that_is_no_keys_is_taken_for_none(folder: Folder, text: str) -> None:
    assert "did you mean" not in folder.mistake(text)


def test_what_a_model_would_run_on_is_told_from_a_misspelt_key(folder: Folder) -> None:
    for name in ("gpu", "device", "provider"):
        assert folder.mistake(f"models: {{a: {{{name}: 0}}}}\n").endswith(
            f"models.a.{name}: unknown key (did you mean providers: [cuda, cpu]?)"
        )


def test_providers(folder: Folder) -> None:
    found = folder.load("models: {a: {providers: [cuda, cpu]}, b: {providers: cuda}, c: }\n")
    assert [model.providers for model in found.models] == [("cuda", "cpu"), ("cuda",), ("cpu",)]
    for text, mistake in {
        "[]": "providers: expected at least one (such as [cuda, cpu])",
        "[cpu, cuda]": "providers: cpu always works: nothing after it is tried (write it last, such as [cuda, cpu])",
        "[cuda, cuda]": "providers: cuda is given twice",
        "[CUDA]": "providers[0]: expected cuda or cpu, found 'CUDA' (did you mean cuda?)",
        "tensorrt": "providers: tensorrt is not in this version of edged (it takes cuda or cpu)",
        "openvino": "providers: expected cuda or cpu, found 'openvino'",
    }.items():
        assert mistake in folder.mistake(f"models: {{a: {{providers: {text}}}}}\n")


def test_defaults_may_say_what_models_run_on(folder: Folder) -> None:
    found = folder.load("defaults: {providers: [cuda, cpu]}\nmodels: {a: , b: {providers: [cpu]}}\n")
    assert [model.providers for model in found.models] == [("cuda", "cpu"), ("cpu",)]


def test_threads_auto_and_cores(folder: Folder) -> None:
    found = folder.load("models: {a: {threads: auto, cpus: 3}, b: {cpus: [2, 3]}, c: }\n")
    assert [(model.threads, model.cpus) for model in found.models] == [(None, (3,)), (1, (2, 3)), (1, ())]
    for text, mistake in {
        "threads: Auto": "threads: expected a whole number, found 'Auto'",
        "cpus: [1, 1]": "cpus: 1 is given twice",
        "cpus: -1": "cpus: -1 is out of range (it takes 0 to 4095)",
    }.items():
        assert mistake in folder.mistake(f"models: {{a: {{{text}}}}}\n")


def test_when_every_input_holds_its_value_nothing_would_run(folder: Folder) -> None:
    text = inputs("{topic: t, tensor: t, hold: 5s}, {topic: u, tensor: u, hold: 5s}")
    found = folder.mistakes(text)
    assert len(found) == 2
    assert "every input holds its value" in found[0]


def test_a_held_value_needs_none_of_the_results_levels(folder: Folder) -> None:
    joined = "{topic: +cell/t, tensor: t}, {topic: room, tensor: u, hold: 5s}"
    config = load(folder.write(model(f'inputs: [{joined}], output: {{topic: "out/{{cell}}"}}')))
    assert config.models[0].joined
