"""config.identity: who a box is when nobody says."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.identity import client_id, device_name
from edged.topics import is_name


@pytest.mark.parametrize(
    ("host", "device"),
    [("Press-07", "press-07"), ("box.plant.example", "box-plant-example"), ("käse_1", "k-se_1"), ("", "edged")],
)
def test_a_hosts_name_becomes_a_level(host: str, device: str) -> None:
    assert device_name(host) == device


def test_a_long_host_name_is_cut() -> None:
    assert is_name(device_name("x" * 200))


def test_the_machine_id_tells_two_boxes_of_one_name_apart(tmp_path: Path) -> None:
    file = tmp_path / "machine-id"
    file.write_text("0123456789abcdef0123456789abcdef\n")
    assert client_id("press", "host", file) == "edged-press-01234567"


@pytest.mark.parametrize("content", [None, "uninitialized\n", "", "\xff"])
def test_without_a_machine_id_the_host_name_stands_in(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "machine-id"
    if content is not None:
        file.write_text(content)
    one = client_id("press", "host-1", file)
    assert one == client_id("press", "host-1", file)
    assert one != client_id("press", "host-2", file)
    assert is_name(one)
