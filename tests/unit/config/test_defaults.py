"""`defaults`: what every model begins with, overridden key by key, and refused once."""

from __future__ import annotations

from edged.config.steps import Argmax, Softmax, TopK
from edged.config.units import Duration
from tests.unit.config.folder import Folder

TEXT = """\
defaults:
  threads: 4
  queue: {size: 7, deadline: 1s}
  limits: {memory: 64MiB}
  postprocess: [softmax, {top_k: 2}]
models:
  plain:
  other:
    threads: 1
    queue: {size: 8}
    postprocess: [argmax]
"""


def test_a_model_overrides_key_by_key(folder: Folder) -> None:
    plain, other = folder.load(TEXT).models
    assert (plain.threads, plain.queue.size, plain.queue.deadline, plain.limits.memory) == (4, 7, Duration(1), 2**26)
    assert plain.postprocess == (Softmax(), TopK(2))
    assert (other.threads, other.queue.size, other.queue.deadline, other.limits.memory) == (1, 8, Duration(1), 2**26)
    assert other.postprocess == (Argmax(),)


def test_without_models_they_are_checked_all_the_same(folder: Folder) -> None:
    assert folder.load("defaults: {threads: 2}\n").models == ()
    assert folder.load("defaults:\n") == folder.load("")
    assert (
        folder.mistake("defaults: {threads: 0}\n")
        == "1: defaults.threads: 0 is out of range (it takes auto, or 1 to 64)"
    )


def test_a_mistake_in_them_is_said_once(folder: Folder) -> None:
    text = "defaults:\n  thread: 2\n  queue: {sise: 1}\nmodels: {a: {}, b: {}, c: {batch: {max: 0}}}\n"
    assert folder.mistakes(text) == [
        "2: defaults.thread: unknown key (did you mean threads?)",
        "3: defaults.queue.sise: unknown key (did you mean size?)",
        "4: models.c.batch.max: 0 is out of range (it takes 1 to 1024)",
    ]


def test_what_makes_a_model_this_one_is_no_default(folder: Folder) -> None:
    text = "mqtt: {url: mqtt://b}\ndefaults:\n  file: a.onnx\n  inputs: [{topic: a}]\nmodels: {a: {}}\n"
    assert folder.mistakes(text) == [
        "3: defaults.file: is for one model (write it below models)",
        "4: defaults.inputs: is for one model (write it below models)",
    ]


def test_what_does_not_go_together_in_one_model_is_said_of_that_model(folder: Folder) -> None:
    text = "mqtt: {url: mqtt://b}\ndefaults:\n  queue: {overflow: block}\n"
    text += "models: {a: {inputs: [{topic: t, qos: 0}]}, b: }\n"
    what = "block holds inputs back, which an input with qos: 0 does not allow"
    assert folder.mistake(text) == f"3: models.a.queue.overflow: {what} (drop-oldest, or qos: 1)"


def test_defaults_that_are_no_keys(folder: Folder) -> None:
    assert folder.mistake("defaults: x\nmodels: {a: {}}\n") == "1: defaults: expected keys and values, found 'x'"
    assert folder.mistake("defaults: [a]\n") == "1: defaults: expected keys and values, found a list"


def test_a_model_that_is_no_model_is_refused_with_defaults_too(folder: Folder) -> None:
    found = folder.mistake("defaults: {threads: 2}\nmodels: {a: digits.onnx}\n")
    assert found == "2: models.a: expected keys and values, found 'digits.onnx' (did you mean a: {file: digits.onnx}?)"


def test_they_come_from_another_file_as_well(folder: Folder) -> None:
    (folder.path / "conf.d").mkdir()
    folder.write("defaults: {queue: {size: 9}}\n", "conf.d/a.yaml")
    plain, other = folder.load(TEXT).models
    assert (plain.threads, plain.queue.size, plain.queue.deadline, other.queue.size) == (4, 9, Duration(1), 8)
