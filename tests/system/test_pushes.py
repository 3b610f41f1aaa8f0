"""Models pushed over MQTT to a box as it is installed, its plug pulled in each phase, and upgrades that keep them.

The broker and the operator are elsewhere, so they see a box that is away; the machine's disk loses what was not synced.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import onnx
import pytest

from tests import disks
from tests.system.conftest import installed
from tests.system.machines import Machine
from tests.system.plant import Plant
from tests.system.service import CONFIGURATION, ROOT, answer, main_process, models, show, worker
from tests.waiting import until

_VERSIONS: Final = itertools.count(2)
_PUSH: Final = "push: {trust: trust.json, probation: {time: 1s, runs: 0}}\n"
_DISK_MB: Final = 2000  # of it only what is written takes room


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    """With keys and the first trust document."""
    with Plant(tmp_path_factory.mktemp("plant")) as found:
        found.edged("keys", "new", "root", "release", "deploy")
        found.edged("trust", "init")
        yield found


@pytest.fixture(scope="module")
def box(package: Path, plant: Plant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """The package installed, and the trust document put where its configuration says."""
    disk = tmp_path_factory.mktemp("machine") / "disk"
    disks.blank(disk, _DISK_MB)
    machine = installed("bookworm", package, disk, plant.network)
    try:
        machine.put(plant.folder / "trust.json", "/etc/edged/trust.json")
        machine.write("/etc/edged/conf.d/push.yaml", _PUSH)
        machine.run("rm /root/edged.deb; systemctl disable --now mosquitto; systemctl restart edged; sync", limit_s=300)
        yield machine
    finally:
        machine.poweroff()


def released(plant: Plant, *more: str) -> tuple[int, Path]:
    """The next version of the model, and its release's folder: no two have a file in common."""
    version = next(_VERSIONS)
    model = onnx.load(ROOT / "examples/digits/digits_v2_int8.onnx")
    padding = onnx.helper.make_tensor("padding", onnx.TensorProto.UINT8, [300_000], os.urandom(300_000), raw=True)
    model.graph.initializer.append(padding)
    onnx.save(model, plant.folder / "model.onnx")
    folder = plant.folder / f"digits-{version}"
    words = ("--model", "digits", "--version", str(version), "--out", str(folder), *more)
    plant.edged("release", plant.folder / "model.onnx", *words)
    return version, folder


def install(machine: Machine) -> dict[str, Any]:
    """What has become of the newest push."""
    found: dict[str, Any] = models(machine)[0]["install"]
    return found


def logged(machine: Machine) -> list[str]:
    """What the audit has of the model, a word each."""
    return [line.split()[3] for line in machine.says("edged log digits").splitlines()]


def answers(machine: Machine) -> int:
    """The version that answers, and rightly."""
    found = answer(machine)
    assert found["prediction"][0]["label"] == "three"
    return int(found["model_version"])


def test_a_push_over_mqtt_is_answered_by_the_new_version(box: Machine, plant: Plant) -> None:
    assert answers(box) == 1
    version, folder = released(plant)
    assert f"runs version {version}" in plant.edged("push", folder, "--to", "all", "--wait=100s")
    assert answers(box) == version
    box.wait(lambda: logged(box)[-1] == "committed")  # a moment later
    assert logged(box) == ["offered", "switched", "committed"]


def cut_off(box: Machine, new: int) -> int:
    """Pulls the plug; the version that answers when the box has come up again, one of two."""
    box.cut()
    box.boot()
    box.wait(lambda: show(box, "ActiveState") == "active")
    found = answers(box)
    assert found in (new - 1, new)
    return found


def kept(box: Machine, version: int) -> None:
    """Until the newest push has ended well; and what the audit says has nothing missing."""
    box.wait(lambda: install(box)["phase"] == "idle", 100)
    assert (install(box)["verdict"], answers(box)) == ("active", version)
    box.wait(lambda: logged(box)[-1] == "committed")  # a moment later


@contextlib.contextmanager
def serving(plant: Plant, folder: Path, rate: int) -> Iterator[None]:
    """The operator's command, which brings the box what it asks for, so many pieces a second."""
    process = plant.begin("push", folder, "--to", "all", "--serve", "--rate", str(rate))
    try:
        yield
    finally:
        process.kill()
        process.communicate()


def test_the_plug_is_pulled_while_it_downloads(box: Machine, plant: Plant) -> None:
    """What had come is not asked for again."""
    version, folder = released(plant, "--chunk", "4KiB")
    with serving(plant, folder, 10):
        box.wait(lambda: install(box)["phase"] == "downloading" and install(box)["bytes_have"] > 50_000)
        cut_off(box, version)
    with serving(plant, folder, 100):
        kept(box, version)


def test_the_plug_is_pulled_while_it_waits_for_a_person(box: Machine, plant: Plant) -> None:
    version, folder = released(plant)
    with manual(box):
        plant.edged("push", folder, "--to", "all", "--wait=0")
        box.wait(lambda: (install(box)["phase"], install(box)["code"]) == ("waiting", "manual"))
        assert cut_off(box, version) == version - 1
        box.wait(lambda: (install(box)["phase"], install(box)["code"]) == ("waiting", "manual"))
        box.run("edged install digits")
        kept(box, version)


@contextlib.contextmanager
def manual(box: Machine) -> Iterator[None]:
    """Pushes wait for a person."""
    box.write("/etc/edged/conf.d/manual.yaml", "push: {install: manual}\n")
    box.run("systemctl reload edged; sync")
    try:
        yield
    finally:
        box.run("rm /etc/edged/conf.d/manual.yaml; systemctl reload edged; sync")


def test_the_plug_is_pulled_in_the_trial(box: Machine, plant: Plant) -> None:
    """Which cannot begin as the process that starts others is stopped."""
    version, folder = released(plant)
    box.run(f"kill -STOP $(ps -o ppid= -p {worker(box)})")
    plant.edged("push", folder, "--to", "all", "--wait=0")
    box.wait(lambda: install(box)["phase"] == "trial")
    cut_off(box, version)
    kept(box, version)


def test_the_plug_is_pulled_at_the_commit_point(box: Machine, plant: Plant) -> None:
    """As soon as the record of the switch has its name."""
    version, folder = released(plant)
    record = box.path("/var/lib/edged/state.json")
    with plant.begin("push", folder, "--to", "all", "--wait=0") as push:
        until(lambda: json.loads(record.read_text())["models"]["digits"].get("phase") == "probation", 100)
        cut_off(box, version)
        push.communicate()
    kept(box, version)


def test_the_plug_is_pulled_in_the_probation(box: Machine, plant: Plant) -> None:
    version, folder = released(plant)
    plant.edged("push", folder, "--to", "all", "--wait=0", "--probation", "5s")
    box.wait(lambda: install(box)["phase"] == "probation")
    assert answers(box) == version
    assert cut_off(box, version) == version
    kept(box, version)


def repacked(package: Path, folder: Path) -> Path:
    """The package as its next version has it: another version, and another configuration to begin with."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    control, configuration = tree / "DEBIAN/control", tree / CONFIGURATION.lstrip("/")
    control.write_text(re.sub(r"(?m)^Version: .*", r"\g<0>.1", control.read_text()))
    configuration.write_text(configuration.read_text() + "# newer\n")
    subprocess.run(["dpkg-deb", "-Znone", "--build", tree, folder / "newer.deb"], check=True, stdout=subprocess.DEVNULL)
    return folder / "newer.deb"


def test_an_upgrade_keeps_what_is_the_users_and_so_does_the_way_back(
    box: Machine, package: Path, tmp_path: Path
) -> None:
    """Configuration, models and state; each time the service runs what was installed last."""
    version, history = answers(box), box.says("edged log digits")
    box.run(f"echo '# mine' >>{CONFIGURATION}")
    before = main_process(box)
    for file, suffix in ((repacked(package, tmp_path), ".1"), (package, "")):
        box.put(file, "/root/edged.deb")
        box.run("apt-get install -y --allow-downgrades -o Dpkg::Options::=--force-confold /root/edged.deb", limit_s=300)
        assert box.says("dpkg-query -W -f '${Version}' edged").endswith(f"bookworm{suffix}")
        assert box.says(f"tail -n 1 {CONFIGURATION}") == "# mine"
        assert ("# newer" in box.says(f"cat {CONFIGURATION}.dpkg-dist")) == (suffix == ".1")
        assert answers(box) == version
        assert box.says("edged log digits") == history
        assert main_process(box) not in (0, before)
        before = main_process(box)
