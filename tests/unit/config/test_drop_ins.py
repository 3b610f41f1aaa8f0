"""conf.d: what a file in it changes, in which order, and whose mistake is whose."""

from __future__ import annotations

import os
import re

import pytest

from edged.config.load import files_of, line_of, load
from edged.config.mistakes import ConfigErrors
from edged.config.schema import Config
from edged.config.units import Duration
from tests.unit.config.folder import Folder

MAIN = """\
device: press-07
groups: [line-2, pi4]
mqtt:
  url: mqtt://a
  keepalive: 60s
models:
  digits:
    threads: 2
    postprocess: [softmax, {top_k: 3}]
    queue: {size: 8, deadline: 1s}
"""


def with_drop_ins(folder: Folder, main: str = MAIN, **texts: str) -> Config:
    """Each keyword is a file of conf.d: `a="..."` is conf.d/a.yaml."""
    (folder.path / "conf.d").mkdir(exist_ok=True)
    for name, text in texts.items():
        folder.write(text, f"conf.d/{name}.yaml")
    return load(folder.write(main), folder.environment)


def mistakes(folder: Folder, main: str = MAIN, **texts: str) -> list[str]:
    with pytest.raises(ConfigErrors) as found:
        with_drop_ins(folder, main, **texts)
    return [str(one).removeprefix(f"{folder.path}/") for one in found.value.mistakes]


def test_mappings_merge_key_by_key_and_all_else_is_replaced(folder: Folder) -> None:
    change = """\
groups: [line-3]
mqtt: {keepalive: 5s, base: plant}
models:
  digits:
    postprocess: [argmax]
    queue: {size: 9}
  camera: {}
"""
    found = with_drop_ins(folder, a=change)
    assert (found.device, found.groups) == ("press-07", ("line-3",))
    assert found.mqtt is not None
    assert (found.mqtt.url, found.mqtt.keepalive, found.mqtt.base) == (("mqtt://a",), Duration(5), "plant")
    digits, camera = found.models
    assert (digits.threads, digits.queue.size, digits.queue.deadline, len(digits.postprocess)) == (2, 9, Duration(1), 1)
    assert camera.name == "camera"


def test_it_is_as_if_everything_stood_in_one_file(folder: Folder) -> None:
    sections = dict(zip("abcd", re.split(r"(?m)^(?=\w)", MAIN)[1:], strict=True))
    whole = folder.load(MAIN)
    assert with_drop_ins(folder, "", **sections) == whole


def test_the_name_decides_which_comes_last(folder: Folder) -> None:
    texts = {"9": "device: nine", "10": "device: ten", "b": "device: b", "B": "device: capital"}
    assert with_drop_ins(folder, **texts).device == "b"
    (folder.path / "conf.d/b.yaml").unlink()
    assert with_drop_ins(folder).device == "capital"
    assert [one.name for one in files_of(folder.path / "edged.yaml")] == ["edged.yaml", "10.yaml", "9.yaml", "B.yaml"]


@pytest.mark.parametrize("nothing", ["", "# nothing\n", "---\n", "~\n", "models:\nmqtt:\n", "models:\n  digits:\n"])
def test_what_says_nothing_changes_nothing(folder: Folder, nothing: str) -> None:
    assert with_drop_ins(folder, a=nothing) == folder.load(MAIN)


def test_a_value_of_another_kind_is_replaced(folder: Folder) -> None:
    assert with_drop_ins(folder, "mqtt: none\n", a="mqtt: {url: mqtt://b}\n").mqtt is not None
    assert mistakes(folder, a="mqtt: none\n") == [
        "conf.d/a.yaml:1: mqtt: expected keys and values, found 'none'",
    ]


def test_a_key_twice_is_a_mistake_in_one_file_and_a_change_in_another(folder: Folder) -> None:
    assert with_drop_ins(folder, a="device: a\n", b="device: b\n").device == "b"
    assert mistakes(folder, a="device: a\n\ndevice: b\n") == [
        "conf.d/a.yaml:3: device: key given twice (first on line 1)"
    ]


def test_every_mistake_has_its_own_file_and_line_the_first_files_first(folder: Folder) -> None:
    main = MAIN.replace("url: mqtt://a", "url: a").replace("threads: 2", "threads: many").replace("pi4", "p i")
    found = mistakes(
        folder,
        main,
        a="devise: x\nmqtt:\n  keepalive: 1s\n",
        b="models:\n  digits:\n    queue:\n      size: 0\n  digits: {}\n",
        c="push: {record: maybe}\n",
    )
    assert found == [
        "edged.yaml:2: groups[1]: 'p i' is no name (letters, digits, _ and -, at most 64)",
        "edged.yaml:4: mqtt.url: expected mqtt://host or mqtts://host (did you mean mqtt://a?)",
        "edged.yaml:8: models.digits.threads: expected a whole number, found 'many'",
        "conf.d/a.yaml:1: devise: unknown key (did you mean device?)",
        "conf.d/a.yaml:3: mqtt.keepalive: 1s is out of range (it takes 5s to 1h)",
        "conf.d/b.yaml:4: models.digits.queue.size: 0 is out of range (it takes 1 to 100000)",
        "conf.d/b.yaml:5: models.digits: key given twice (first on line 2)",
        "conf.d/c.yaml:1: push.record: expected true or false, found 'maybe'",
    ]


def test_a_file_that_cannot_be_read_at_all(folder: Folder) -> None:
    found = mistakes(folder, a="\tx: 1\n", b="- 1\n", c="device: !x y\n", d="hello\n")
    assert [one.split(" (")[0] for one in found] == [
        "conf.d/a.yaml:1: found character '\\t' that cannot start any token",
        "conf.d/b.yaml:1: expected keys and values, found a list",
        "conf.d/c.yaml:1: device: the tag !x is not used here",
        "conf.d/d.yaml:1: expected keys and values, found 'hello'",
    ]


def test_what_is_no_drop_in(folder: Folder) -> None:
    """Editors' copies, hidden files and other programs' files are passed over; a .yml is a slip and said."""
    (folder.path / "conf.d").mkdir()
    for name in (".a.yaml", "a.yaml~", "a.yaml.bak", "a.yaml.dpkg-old", ".#a.yaml", "README"):
        folder.write("{", f"conf.d/{name}")
    assert with_drop_ins(folder) == folder.load(MAIN)
    folder.write("device: x\n", "conf.d/a.yml")
    assert mistakes(folder) == ["conf.d/a.yml: is not read (rename it to a.yaml)"]


def test_a_file_that_does_not_open(folder: Folder) -> None:
    drop_ins = folder.path / "conf.d"
    drop_ins.mkdir()
    (drop_ins / "a.yaml").symlink_to("nowhere")
    (drop_ins / "b.yaml").mkdir()
    os.mkfifo(drop_ins / "c.yaml")
    folder.write(b"device: \xff\n", "conf.d/d.yaml")
    folder.write(b"#" * (2**20 + 1), "conf.d/e.yaml")
    assert mistakes(folder) == [
        "conf.d/a.yaml: does not exist",
        "conf.d/b.yaml: is no file",
        "conf.d/c.yaml: is no file",
        "conf.d/d.yaml:1: is no text in UTF-8 (save it as UTF-8)",
        "conf.d/e.yaml: is above 1 MiB: no configuration",
    ]


def test_a_folder_that_is_none_or_of_something_else(folder: Folder) -> None:
    folder.write("", "conf.d")
    with pytest.raises(ConfigErrors, match=r"/conf\.d: is no folder"):
        folder.load(MAIN)
    (folder.path / "conf.d").unlink()
    found = mistakes(folder, **{f"f{number}": "" for number in range(101)})
    assert found == ["conf.d: has more than 100 files: no drop-ins"]


def test_relative_files_start_at_the_configurations_folder(folder: Folder) -> None:
    folder.write("onnx", "digits.onnx")
    found = with_drop_ins(folder, a="models: {digits: {file: digits.onnx}}\n")
    assert found.models[0].file == str(folder.path / "digits.onnx")


def test_where_a_key_stands(folder: Folder) -> None:
    with_drop_ins(folder, a="\nmodels: {camera: {}}\n")
    file = folder.path / "edged.yaml"
    digits, camera = (line_of(file, f"models.{name}") for name in ("digits", "camera"))
    assert (digits, digits.file) == (7, str(file))
    assert (camera, camera.file) == (2, str(folder.path / "conf.d/a.yaml"))
    assert line_of(file, "models.none") == 0
