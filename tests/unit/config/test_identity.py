"""config.identity: who a box is when nobody says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edged.config.identity import client_id, device_name, instance
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


def hardware(folder: Path, **addresses: str) -> Path:
    """A /sys/class/net: a device of hardware for each keyword, and one of software."""
    for name, address in addresses.items():
        (folder / name / "device").mkdir(parents=True)
        (folder / name / "address").write_text(f"{address}\n")
        (folder / name / "addr_assign_type").write_text("0\n")
    (folder / "docker0").mkdir(parents=True)
    (folder / "docker0" / "address").write_text("02:42:00:00:00:01\n")
    return folder


def test_an_instance_is_of_one_machine_one_card_and_one_state_directory(tmp_path: Path) -> None:
    machine = tmp_path / "machine-id"
    machine.write_text("0123456789abcdef0123456789abcdef\n")
    network = hardware(tmp_path / "net", eth0="aa:bb", wlan0="cc:dd")
    copied = hardware(tmp_path / "other", eth0="aa:bc", wlan0="cc:de")
    state = Path("/var/lib/edged")
    one = instance(state, machine, network)
    assert re.fullmatch("[0-9a-f]{16}", one)
    assert instance(state, machine, network) == one
    assert instance(Path("/tmp/x"), machine, network) != one
    assert instance(state, machine, copied) != one
    (network / "veth1").mkdir()
    (network / "wlan0" / "addr_assign_type").write_text("3\n")  # made up, as some do for privacy
    without = instance(state, machine, network)
    (network / "wlan0" / "address").write_text("12:34\n")
    assert instance(state, machine, network) == without


def test_an_instance_needs_no_file(tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    assert len(instance(Path("/a"), nowhere, nowhere)) == 16
