"""fleet.yaml: found, read, and refused with its lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.mistakes import ConfigErrors
from edged.errors import EdgedError
from edged.fleet import config


def read(tmp_path: Path, text: str, **environment: str) -> config.Fleet:
    file = tmp_path / "fleet.yaml"
    file.write_text(text)
    return config.read({"EDGED_FLEET": str(file), **environment})


def mistakes(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read(tmp_path, text)
    return [str(one).removeprefix(f"{tmp_path}/") for one in caught.value.mistakes]


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush\n")
    found = read(
        tmp_path,
        "mqtt: {url: mqtts://broker.plant, username: anna, password_file: secret, base: plant/edged}\n"
        "keys: ${HOME}/keys\ntrust: /srv/trust.json\n",
        HOME="/home/anna",
    )
    assert found.broker().url == ("mqtts://broker.plant",)
    assert found.broker().password == "hush"  # noqa: S105 - the test's own
    assert found.broker().base == "plant/edged"
    assert (found.keys, found.trust) == ("/home/anna/keys", "/srv/trust.json")


def test_an_empty_file_names_places_beside_it_and_no_broker(tmp_path: Path) -> None:
    found = read(tmp_path, "")
    assert (found.keys, found.trust) == (f"{tmp_path}/keys", f"{tmp_path}/trust.json")
    with pytest.raises(EdgedError, match="no broker") as caught:
        found.broker()
    assert caught.value.fault.code == "bad_config"


def test_without_a_file_the_users_own_folder_is_meant(tmp_path: Path) -> None:
    assert config.read({"HOME": str(tmp_path)}).keys == f"{tmp_path}/.config/edged/keys"
    assert config.read({"XDG_CONFIG_HOME": str(tmp_path)}).trust == f"{tmp_path}/edged/trust.json"


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="does not exist"):
        config.read({"EDGED_FLEET": str(tmp_path / "none.yaml")})


def test_mistakes_have_their_lines(tmp_path: Path) -> None:
    assert mistakes(tmp_path, "mqtt:\n  url: http://broker\nkey: keys\ntrust: [a]\n") == [
        "fleet.yaml:2: mqtt.url: http:// is no address of a broker (did you mean ws://broker?)",
        "fleet.yaml:3: key: unknown key (did you mean keys?)",
        "fleet.yaml:4: trust: expected text, found a list",
    ]
    assert mistakes(tmp_path, "mqtt: {}\n")[0].startswith("fleet.yaml:1: mqtt.url: is missing")
    assert mistakes(tmp_path, "a: [\n")[0].startswith("fleet.yaml:2: ")


def test_drop_ins_are_the_boxs_not_the_operators(tmp_path: Path) -> None:
    """Both files may lie in one folder."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "box.yaml").write_text("device: press-07\n")
    assert read(tmp_path, "keys: k\n").keys == f"{tmp_path}/k"
