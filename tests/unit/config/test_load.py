"""config.load: what is right becomes values; YAML's traps are mistakes with their line, all of them at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edged.config import files
from edged.config.load import find, from_models, load
from edged.config.mistakes import ConfigErrors
from edged.config.schema import Input, Mqtt, Output, Push, Queue, Sockets, Telemetry, Tls
from edged.config.steps import (
    Argmax,
    Cast,
    Form,
    Labels,
    MinScore,
    Normalize,
    Reshape,
    Round,
    Scale,
    Sigmoid,
    Softmax,
    TopK,
    UseOutput,
)
from edged.config.units import Duration, Factor, Size
from tests.certificates import Authority
from tests.unit.config.folder import Folder

WHOLE = """
device: press-07
groups: [line-2, pi4]
mqtt:
  url: [mqtts://broker.plant, mqtt://other]
  version: 5
  username: press
  password_file: password
  ca: ca.crt
  cert: box.crt
  key: box.key
  client_id: me
  keepalive: 1min
  session: 0
  base: plant/edged
sockets:
  unix: /tmp/e.sock
  http: ["127.0.0.1:8080", "[::]:8443", "unix:/run/other.sock"]
  grpc: ["127.0.0.1:8081", "unix:/run/grpc.sock"]
  metrics: 0.0.0.0:9464
  token_file: token
  admin_token_file: admin
  tls: {cert: box.crt, key: box.key, client_ca: ca.crt}
models:
  digits:
    file: digits.onnx
    threads: 2
    inputs:
      - {topic: cells/+cell/scan, qos: 0, format: values, field: pixels, missing: nan, time: ts, tensor: image}
      - {topic: raw/+cell, format: raw, dtype: float32, columns: 3}
    preprocess: [{scale: 0.0625}, {normalize: {mean: [0.5, 0.25], std: 2}}, {reshape: [1, 8, -1]}, {cast: float16}]
    postprocess:
      - output: logits
      - softmax
      - sigmoid
      - argmax
      - top_k: 3
      - labels: labels.txt
      - labels: [no, 1.10, "x"]
      - min_score: .5
      - round: 2
    output: {topic: "cells/{cell}/digit", qos: 0}
    queue: {size: 8, overflow: reject, deadline: 500ms}
    batch: {max: 4, wait: 1ms}
    limits: {memory: 64MiB, run: 3s, message: 1MiB}
push:
  require_signature: false
  max_size: 1MiB
  record: no
  probation: {time: 1s, runs: 5, max_errors: 5%, max_latency: 2x}
telemetry: {interval: 5s}
"""


def write_what_it_names(folder: Folder) -> None:
    folder.write("onnx", "digits.onnx")
    folder.write("zero\none\r\n\n", "labels.txt")
    Authority(folder.path).issue("box")
    folder.write("secret\r\n", "password").chmod(0o600)
    folder.write("a" * 16 + "\n", "token").chmod(0o600)
    folder.write("b" * 16 + "\n", "admin").chmod(0o600)


def test_a_whole_file_becomes_values(folder: Folder) -> None:
    write_what_it_names(folder)
    found = folder.load(WHOLE)
    assert found.device == "press-07"
    assert found.groups == ("line-2", "pi4")
    assert found.mqtt == Mqtt(
        url=("mqtts://broker.plant", "mqtt://other"),
        version="5",
        username="press",
        password="secret",  # noqa: S106  # it is in the file that the test wrote
        ca=str(folder.path / "ca.crt"),
        cert=str(folder.path / "box.crt"),
        key=str(folder.path / "box.key"),
        client_id="me",
        keepalive=Duration(60),
        session=Duration(0),
        base="plant/edged",
    )
    assert found.sockets == Sockets(
        "/tmp/e.sock",
        ("127.0.0.1:8080", "[::]:8443", "unix:/run/other.sock"),
        ("127.0.0.1:8081", "unix:/run/grpc.sock"),
        ("0.0.0.0:9464",),
        tls=Tls(*(str(folder.path / name) for name in ("box.crt", "box.key", "ca.crt"))),
        token="a" * 16,
        admin_token="b" * 16,
    )
    (digits,) = found.models
    assert (digits.name, digits.file, digits.threads) == ("digits", str(folder.path / "digits.onnx"), 2)
    assert digits.inputs == (
        Input("cells/+cell/scan", 0, Form("values", "image", ("pixels",), "nan", "ts")),
        Input("raw/+cell", 1, Form("raw", dtype="float32", columns=3)),
    )
    assert digits.preprocess == (Scale(0.0625), Normalize((0.5, 0.25), (2,)), Reshape((1, 8, -1)), Cast("float16"))
    assert digits.postprocess == (
        UseOutput("logits"),
        Softmax(),
        Sigmoid(),
        Argmax(),
        TopK(3),
        Labels(("zero", "one")),
        Labels(("no", "1.10", "x")),
        MinScore(0.5),
        Round(2),
    )
    assert digits.output == Output("cells/{cell}/digit", 0)
    assert digits.queue == Queue(8, "reject", Duration(0.5))
    assert (digits.batch.max, digits.batch.wait) == (4, 0.001)
    assert (digits.limits.memory, digits.limits.run, digits.limits.message) == (Size(2**26), Duration(3), Size(2**20))
    assert (found.push.require_signature, found.push.max_size, found.push.record) == (False, 2**20, False)
    assert (found.push.probation.time, found.push.probation.runs, found.push.probation.max_latency) == (
        Duration(1),
        5,
        Factor(2),
    )
    assert found.push.probation.max_errors == pytest.approx(0.05)
    assert found.telemetry.interval == Duration(5)


@pytest.mark.parametrize("empty", ["", "# nothing\n", "---\n", "models:\n", "push:\nsockets: # later\ntelemetry: {}\n"])
def test_without_keys_there_are_the_defaults(folder: Folder, empty: str) -> None:
    found = folder.load(empty)
    assert found.mqtt is None
    assert found.models == ()
    assert found.push == Push()
    assert found.telemetry == Telemetry()
    assert found.sockets == Sockets("/run/edged/edged.sock")


def test_a_model_without_keys_waits_for_its_first_push(folder: Folder) -> None:
    (model,) = folder.load("models:\n  digits:\n").models
    assert (model.name, model.file) == ("digits", "")


# --- traps ----------------------------------------------------------------------------------------

BROKER = "mqtt: {url: mqtt://b}\n"  # line 1 of a text that needs one

TRAPS = {
    "a duplicate key": (
        "device: a\nsockets: {}\ndevice: b\n",
        "3: device: key given twice (first on line 1)",
    ),
    "a duplicate key far inside": (
        "models:\n  a:\n    queue:\n      size: 1\n      size: 2\n",
        "5: models.a.queue.size: key given twice (first on line 4)",
    ),
    "a duplicate model": (
        "models:\n  a: {}\n  b: {}\n  a: {}\n",
        "4: models.a: key given twice (first on line 2)",
    ),
    "a value that is a comment": (
        BROKER + "models:\n  a:\n    inputs:\n      - topic: #x\n        qos: 1\n",
        '5: models.a.inputs[0].topic: has no value (# begins a comment: did you mean "#x"?)',
    ),
    "a value that is forgotten": (
        "device:\nsockets: {}\n",
        "1: device: has no value (it takes text)",
    ),
    "a value that is forgotten before a comment": (
        "device:  # the name of this box\n",
        "1: device: has no value (it takes text)",
    ),
    "~ is no value": (
        "device: ~\n",
        "1: device: has no value (it takes text)",
    ),
    "an octal number": (
        "models:\n  a:\n    threads: 010\n",
        (
            "3: models.a.threads: expected a whole number, found '010' "
            "(a leading 0 makes YAML read it as octal: did you mean 10?)"
        ),
    ),
    "a number in base 60": (
        "models:\n  a:\n    threads: 12:30\n",
        "3: models.a.threads: expected a whole number, found '12:30' (YAML reads digits with colons as base 60)",
    ),
    "a duration in base 60": (
        "telemetry:\n  interval: 0:30\n",
        (
            "2: telemetry.interval: expected a duration such as 500ms, 60s or 1h, found '0:30' "
            "(YAML reads digits with colons as base 60)"
        ),
    ),
    "a date": (
        "models:\n  a:\n    threads: 2024-01-01\n",
        "3: models.a.threads: expected a whole number, found '2024-01-01'",
    ),
    "a fraction": (
        "models:\n  a:\n    threads: 1.0\n",
        "3: models.a.threads: expected a whole number, found '1.0'",
    ),
    "a version that is a fraction": (
        "mqtt:\n  url: mqtt://b\n  version: 3.1\n",
        "3: mqtt.version: expected auto, 5 or 3.1.1, found '3.1' (did you mean 3.1.1?)",
    ),
    "a number in quotes": (
        "models:\n  a:\n    threads: '2'\n",
        "3: models.a.threads: expected auto, or 1 to 64, found text (did you mean 2 without quotes?)",
    ),
    "a choice of numbers in quotes": (
        BROKER + 'models:\n  a:\n    inputs:\n      - topic: a\n        qos: "1"\n',
        "6: models.a.inputs[0].qos: expected 0 or 1, found text (did you mean 1 without quotes?)",
    ),
    "truth in quotes": (
        'push:\n  record: "no"\n',
        "2: push.record: expected true or false, found text (did you mean no without quotes?)",
    ),
    "no truth": (
        "push:\n  record: 0\n",
        "2: push.record: expected true or false, found '0'",
    ),
    "a duration without a unit": (
        "telemetry:\n  interval: 10\n",
        "2: telemetry.interval: expected a duration such as 500ms, 60s or 1h, found '10' (did you mean 10s?)",
    ),
    "a size with half a unit": (
        "push:\n  max_size: 64M\n",
        "2: push.max_size: expected a size such as 64KiB, 16MiB or 1GB, found '64M' (did you mean 64MiB?)",
    ),
    "an unquoted { in a block": (
        BROKER + "models:\n  a:\n    output:\n      topic: {cell}/digit\n",
        "5: expected <block end>, but found '<scalar>' (a value with { in it is quoted: \"cells/{cell}/digit\")",
    ),
    "an unquoted { as a whole value": (
        BROKER + "models:\n  a:\n    output:\n      topic: {cell}\n",
        (
            "5: models.a.output.topic: expected text, found a mapping (key: value) "
            '(an unquoted { begins a mapping: did you mean "{cell}"?)'
        ),
    ),
    "an unquoted { in braces": (
        BROKER + "models:\n  a:\n    output: {topic: cells/{cell}/digit}\n",
        "4: expected ',' or '}', but got '{' (a value with { in it is quoted: \"cells/{cell}/digit\")",
    ),
    "a tab": (
        "mqtt:\n\turl: mqtt://b\n",
        "2: found character '\\t' that cannot start any token (YAML is indented with spaces, not with tabs)",
    ),
    "an unquoted @": (
        "mqtt:\n  url: mqtt://b\n  username: @me\n",
        "3: found character '@' that cannot start any token (a value that begins with @ is quoted)",
    ),
    "a colon in a value": (
        "device: a: b\n",
        (
            "1: mapping values are not allowed here "
            "(a value with a colon and a space in it is quoted; or the indentation is off)"
        ),
    ),
    "a forgotten colon": (
        "device: box\nsockets\nmodels: {}\n",
        "2: could not find expected ':' (a key is followed by a colon and a space)",
    ),
    "a forgotten space": (
        "mqtt:\n  url:mqtt://b\n",
        "2: mqtt: expected keys and values, found 'url:mqtt://b' (did you mean url: mqtt://b (with a space)?)",
    ),
    "an alias": (
        BROKER + "models:\n  a:\n    inputs:\n      - topic: *x\n",
        '5: models.a.inputs[0].topic: * begins an alias, which is not used here (did you mean "*x"?)',
    ),
    "another program's tag": (
        "mqtt:\n  url: mqtt://b\n  username: u\n  password: !secret broker\n",
        "4: mqtt.password: the tag !secret is not used here (${NAME} and password_file keep secrets)",
    ),
    "Python's tag": (
        "device: !!python/object/apply:os.getcwd []\n",
        "1: device: the tag !!python/object/apply:os.getcwd is not used here (quote a value that begins with !)",
    ),
    "a key that is no word": (
        "models:\n  {a: b}: {}\n",
        "2: models: a key is a plain word (quote what begins with {, [, * or !)",
    ),
    "a list instead of keys": (
        "- device: a\n",
        "1: expected keys and values, found a list",
    ),
    "text instead of keys": (
        "hello\n",
        "1: expected keys and values, found 'hello'",
    ),
    "two documents": (
        "device: a\n---\ndevice: b\n",
        "2: but found another document (look at the quotes, brackets and indentation of this line and the one before)",
    ),
    "no end": (
        "device: a\nsockets: {http: x\n",
        (
            "3: expected ',' or '}', but got '<stream end>' "
            "(look at the quotes, brackets and indentation of this line and the one before)"
        ),
    ),
    "a control character": (
        'device: "a\\u0000b"\n',
        "1: device: a value holds no control characters, and no halves of a character",
    ),
    "half a character": (
        'mqtt:\n  url: mqtt://b\n  username: "\\ud800"\n',
        "3: mqtt.username: a value holds no control characters, and no halves of a character",
    ),
    "a character that does not exist": (
        'device: a\nsockets: {unix: "\\UFFFFFFFF"}\n',
        "2: there is no character, or version, of this number",
    ),
    "a raw control character": (
        "device: a\n# \x01\n",
        "2: the character U+0001 is not allowed in YAML",
    ),
    "too deep": (
        "device: a\nmodels:\n  " + "[" * 5000 + "\n",
        "3: it is nested too deeply (look at the quotes, brackets and indentation of this line and the one before)",
    ),
}


@pytest.mark.parametrize("name", TRAPS)
def test_a_trap_of_yaml_is_one_mistake_with_its_line(folder: Folder, name: str) -> None:
    text, expected = TRAPS[name]
    assert folder.mistake(text) == expected


def test_bytes_that_are_no_text(folder: Folder) -> None:
    assert folder.mistake(b"device: a\n# caf\xe9\n") == "2: is no text in UTF-8 (save it as UTF-8)"


def test_a_byte_order_mark_and_windows_line_ends_are_fine(folder: Folder) -> None:
    assert folder.load(b"\xef\xbb\xbfdevice: a\r\nsockets: {}\r\n").device == "a"
    assert folder.mistake(b"device: a\r\nsockets:\r\n  unix: #x\r\n").startswith("3: sockets.unix: has no value (#")


@pytest.mark.parametrize("word", ["no", "on", "yes", "1.10", "0123", "12:30", "2024-01-01", "1e3", "true", "0x10"])
def test_where_text_is_meant_the_source_counts(folder: Folder, word: str) -> None:
    found = folder.load(f"mqtt: {{url: mqtt://b, username: {word}, password: {word}}}\n")
    assert found.mqtt is not None
    assert (found.mqtt.username, found.mqtt.password) == (word, word)


@pytest.mark.parametrize("word", ["no", "on", "yes", "0123", "2024-01-01", "null"])
def test_a_word_of_yaml_is_a_key_like_any_other(folder: Folder, word: str) -> None:
    assert folder.load(f"models:\n  {word}: {{}}\n").models[0].name == word


@pytest.mark.parametrize(
    ("word", "truth"), [("true", True), ("yes", True), ("on", True), ("False", False), ("no", False), ("off", False)]
)
def test_where_truth_is_meant_yamls_words_count(folder: Folder, word: str, truth: bool) -> None:
    assert folder.load(f"push: {{record: {word}}}\n").push.record is truth


@pytest.mark.parametrize("number", ["1e3", "1.0e3", "1000", "1000.0", "+1e+3"])
def test_an_exponent_is_a_number_where_one_is_meant(folder: Folder, number: str) -> None:
    """YAML 1.1 makes text of 1e3, and a number of 1.0e3."""
    (model,) = folder.load(f"models: {{a: {{preprocess: [{{scale: {number}}}]}}}}\n").models
    assert model.preprocess == (Scale(1000),)


def test_loading_twice_gives_the_same_and_a_change_shows(folder: Folder) -> None:
    """What a reload compares; nothing is remembered between two readings, and the environment is only read."""
    write_what_it_names(folder)
    environment = dict(folder.environment)
    first = folder.load(WHOLE)
    assert folder.load(WHOLE) == first
    assert folder.environment == environment
    assert folder.load(WHOLE.replace("size: 8", "size: 9")) != first
    folder.write("one\n", "labels.txt")
    changed = folder.load(WHOLE)
    assert changed != first
    assert (changed.mqtt, changed.push) == (first.mqtt, first.push)
    folder.write("other", "password")
    assert folder.load(WHOLE).mqtt != first.mqtt


# --- keys -----------------------------------------------------------------------------------------

UNKNOWN = {
    "devise: a\n": "1: devise: unknown key (did you mean device?)",
    "mqtt:\n  url: mqtt://b\n  keep-alive: 5s\n": "3: mqtt.keep-alive: unknown key (did you mean keepalive?)",
    "models:\n  a:\n    queue: {sise: 5}\n": "3: models.a.queue.sise: unknown key (did you mean size?)",
    "push: {probation: {Time: 5s}}\n": "1: push.probation.Time: unknown key (did you mean time?)",
    "telemetry: {x: 5s}\n": "1: telemetry.x: unknown key (known here: interval)",
    "models:\n  a:\n    postprocess: [sofmax]\n": (
        "3: models.a.postprocess[0]: 'sofmax' is no step (did you mean softmax?)"
    ),
}


@pytest.mark.parametrize("text", UNKNOWN)
def test_an_unknown_key_says_what_was_meant(folder: Folder, text: str) -> None:
    assert folder.mistake(text) == UNKNOWN[text]


LATER = {
    "mqtt:\n  url: mqtt://b\n  home_assistant: true\n": "3: mqtt.home_assistant",
    "models: {a: {window: {samples: 8}}}\n": "1: models.a.window",
    "models: {a: {providers: [tensorrt, cuda]}}\n": "1: models.a.providers[0]",
}


@pytest.mark.parametrize("text", LATER)
def test_what_a_later_version_has_is_no_typing_mistake(folder: Folder, text: str) -> None:
    found = folder.mistake(text)
    assert found.startswith(LATER[text])
    assert "is not in this version of edged" in found
    assert "did you mean" not in found


def test_every_mistake_of_a_file_is_said_at_once(folder: Folder) -> None:
    text = """\
device: "all"
mqtt:
  url: mqtt://broker.plant
  keepaliv: 30s
  session: 1
models:
  one:
    threads: 65
    inputs:
      - topic: #scan
    preprocess: [{scal: 2}]
  two:
    file: nowhere.onnx
    queue: {overflow: blok}
  two: {}
telemetry: 10s
"""
    assert folder.mistakes(text) == [
        "1: device: 'all' is a word of edged's own topics (choose another name)",
        "4: mqtt.keepaliv: unknown key (did you mean keepalive?)",
        "5: mqtt.session: expected a duration such as 500ms, 60s or 1h, found '1' (did you mean 1s?)",
        "8: models.one.threads: 65 is out of range (it takes auto, or 1 to 64)",
        '10: models.one.inputs[0].topic: has no value (# begins a comment: did you mean "#scan"?)',
        "11: models.one.preprocess[0]: 'scal' is no step (did you mean scale?)",
        f"13: models.two.file: {folder.path}/nowhere.onnx does not exist",
        (
            "14: models.two.queue.overflow: "
            "expected reject, drop-oldest, drop-newest, block or latest, found 'blok' (did you mean block?)"
        ),
        "15: models.two: key given twice (first on line 12)",
        "16: telemetry: expected keys and values, found '10s' (did you mean telemetry: {interval: 10s}?)",
    ]


# --- the file -------------------------------------------------------------------------------------


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"no.yaml: does not exist \(name another with --config"):
        load(tmp_path / "no.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_a_huge_file_is_refused_unread(folder: Folder) -> None:
    assert folder.mistake(b"#" * (2**20 + 1)) == "is above 1 MiB: no configuration"


def test_the_file_named_is_found_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert find("x.yaml") == Path("x.yaml")
    assert find(None).name == "edged.yaml"


@given(st.text() | st.binary())
@example("%YAML 1." + "9" * 5000 + "\n--- a")
@example('"\\UFFFFFFFF"')
@example("a: " + "9" * 5000)
@example("models: {a: {threads: " + "9" * 18 + "}}")
@example("push: {max_size: " + "9" * 400 + "GiB}")
@example("&a [*a]")
@example("<<: {a: b}")
@example("? [a]\n: b")
@example("\ud800")
@example("a: !<tag:yaml.org,2002:str> b\n!x c: d")
def test_no_text_does_anything_but_load_or_raise_config_errors(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes
) -> None:
    _load_or_refuse(tmp_path_factory.getbasetemp(), content)


# Pieces that lie near the real thing get past the parser and into every reader.
PIECES = st.sampled_from(
    [
        *("device", "mqtt", "url", "models", "a", "inputs", "topic", "qos", "preprocess", "postprocess", "labels"),
        *("normalize", "mean", "std", "scale", "reshape", "output", "queue", "overflow", "block", "push", "sockets"),
        *("http", "unix", "password_file", "file", "fields", "field", "format", "limits", "memory", "round", "softmax"),
        *(
            ": ",
            ":\n  ",
            "\n",
            "\n  ",
            "\n    ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "#",
            "'",
            '"',
            "*",
            "&",
            "!",
            "|",
            "~",
        ),
        *("0", "-1", "1e999", "64MiB", "5s", "mqtt://b", "mqtt://[", "127.0.0.1:80", "+x/#", "{x}", "${A}", "${", "/"),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_near_miss_does_anything_but_load_or_raise_config_errors(
    tmp_path_factory: pytest.TempPathFactory, content: str
) -> None:
    _load_or_refuse(tmp_path_factory.getbasetemp(), content)


NODES = st.recursive(
    PIECES | st.none() | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(PIECES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(PIECES, NODES, max_size=5))
def test_no_tree_does_anything_but_load_or_raise_config_errors(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]
) -> None:
    _load_or_refuse(tmp_path_factory.getbasetemp(), json.dumps(tree))


def _load_or_refuse(folder: Path, content: str | bytes) -> None:
    file = folder / "any.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    try:
        load(file, {"A": "b"})
    except ConfigErrors as errors:
        assert errors.mistakes


# --- without a file -------------------------------------------------------------------------------


def test_models_alone_make_a_configuration(tmp_path: Path, digits: Path) -> None:
    file = digits / "digits_v1_int8.onnx"
    found = from_models({"digits": str(file)}, {"RUNTIME_DIRECTORY": str(tmp_path)})
    assert [(model.name, model.file) for model in found.models] == [("digits", str(file))]
    assert found.mqtt is None
    assert found.sockets == Sockets(str(tmp_path / "edged.sock"))
    assert found.push == Push()


def test_models_alone_are_checked_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as found:
        from_models({"a.b": __file__, "c": str(tmp_path / "no.onnx")})
    assert [str(one) for one in found.value.mistakes] == [
        "--model: a.b: 'a.b' is no name (letters, digits, _ and -, at most 64)",
        f"--model: c: {tmp_path}/no.onnx does not exist",
    ]


def test_loading_imports_nothing_heavy(folder: Folder) -> None:
    file = folder.write(BROKER)
    program = (
        "import sys; from edged.config.load import load; load(sys.argv[1]);"
        "print({'numpy', 'onnxruntime', 'paho', 'uvloop', 'httptools', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_pipe_that_nobody_writes_to_is_told_instead_of_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "edged.yaml"
    os.mkfifo(pipe)
    with pytest.raises(TimeoutError, match="nobody writes"):
        files.beginning(pipe, 10, opened_s=0.05)
    writer = os.open(pipe, os.O_RDWR)
    try:
        with pytest.raises(TimeoutError, match="no end"):
            files.beginning(pipe, 10, opened_s=0.05, written_s=0.0)
    finally:
        os.close(writer)


def test_a_pipe_is_read_to_its_end() -> None:
    """As a shell's `--config <(..)` gives it."""
    text = "device: press-07\n" + "#" * 200_000 + "\nmodels: {m: {}}\n"  # more than a pipe holds
    reading, writing = os.pipe()

    def write() -> None:
        with os.fdopen(writing, "wb") as stream:
            stream.write(text.encode())

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert load(f"/dev/fd/{reading}").device == "press-07"
    finally:
        writer.join()
        os.close(reading)
