"""The files for containers and clusters agree with each other, with the unit and with edged; no image is built here."""

from __future__ import annotations

import json
import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

import edged
from edged import cli
from edged.config.load import load
from edged.config.schema import Config

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
KUBERNETES = ROOT / "configs/kubernetes"
UNIT = (ROOT / "systemd/edged.service").read_text()
IMAGE = f"edged:{edged.__version__}"


def manifests(name: str) -> dict[str, dict[str, Any]]:
    """Each document of a file under its kind."""
    return {document["kind"]: document for document in yaml.safe_load_all((KUBERNETES / name).read_text())}


DAEMON_SET = manifests("daemonset.yaml")
KSERVE = manifests("kserve.yaml")
POD: dict[str, Any] = DAEMON_SET["DaemonSet"]["spec"]["template"]["spec"]
RUNTIME: dict[str, Any] = KSERVE["ServingRuntime"]["spec"]


def setting(name: str) -> str:
    """What the unit says."""
    found = re.search(rf"^{name}=(.*)$", UNIT, re.MULTILINE)
    assert found is not None, name
    return found[1]


def environment() -> dict[str, str]:
    """What the image sets."""
    found = re.search(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
    assert found is not None
    return dict(word.split("=", 1) for word in found[1].replace("\\\n", " ").split())


def loads(text: str, folder: Path, variables: dict[str, str]) -> Config:
    """A configuration as the image has it, with the example's file where it is here."""
    (folder / "edged.yaml").write_text(
        text.replace("/usr/share/edged/digits.onnx", str(ROOT / "examples/digits/digits_v1_int8.onnx"))
    )
    return load(folder / "edged.yaml", variables)


def test_one_user_has_one_number_everywhere() -> None:
    (user,) = re.findall(r"useradd --uid (\d+) --gid edged", DOCKERFILE)
    (group,) = re.findall(r"groupadd --gid (\d+) edged ", DOCKERFILE)
    assert f"\nUSER {user}:{group}\n" in DOCKERFILE
    assert COMPOSE["services"]["edged"]["tmpfs"] == [f"/run/edged:uid={user},gid={group},mode=0750"]
    of_pod = POD["securityContext"]
    assert (of_pod["runAsUser"], of_pod["runAsGroup"], of_pod["fsGroup"]) == (int(user), int(group), int(group))
    command = POD["initContainers"][0]["command"]
    assert command[:-1] == ["install", "-d", "-o", user, "-g", group, "-m", setting("StateDirectoryMode")]
    served, door = (container["securityContext"] for container in RUNTIME["containers"])
    assert (served["runAsUser"], served["runAsGroup"]) == (int(user), int(group))
    # The door may infer and not control: of edged's group, neither edged nor root.
    assert door["runAsGroup"] == int(group)
    assert door["runAsUser"] not in (0, int(user))


def test_the_images_users_are_the_services() -> None:
    words = [line.split() for line in (ROOT / "systemd/edged.sysusers").read_text().splitlines() if line[0] in "ug"]
    assert set(re.findall(r"groupadd --gid \d+ ([\w-]+)", DOCKERFILE)) == {line[1] for line in words}
    assert re.findall(r"useradd .* (\S+) \\", DOCKERFILE) == [line[1] for line in words if line[0] == "u"]


def test_the_image_sets_what_the_unit_sets() -> None:
    for word in setting("Environment").split():
        name, value = word.split("=")
        assert environment()[name] == value
    for name in ("State", "Cache", "Runtime"):
        folder = {"State": "/var/lib", "Cache": "/var/cache", "Runtime": "/run"}[name]
        assert environment()[f"{name.upper()}_DIRECTORY"] == f"{folder}/{setting(f'{name}Directory')}"


def test_everything_that_is_written_has_a_place_beside_the_image() -> None:
    """The root is only read in all of them."""
    written = {environment()[f"{name}_DIRECTORY"] for name in ("STATE", "CACHE", "RUNTIME")}
    assert environment()["TMPDIR"] in written
    of_compose = COMPOSE["services"]["edged"]
    assert of_compose["read_only"]
    assert {place.split(":")[0] for place in of_compose["tmpfs"]} | {
        place.split(":")[1] for place in of_compose["volumes"]
    } == written
    for container in (POD["containers"][0], RUNTIME["containers"][0]):
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert written <= {mount["mountPath"] for mount in container["volumeMounts"]}
    for pod in (POD, RUNTIME):
        named = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]} == named


def test_all_name_the_image_of_this_version() -> None:
    assert COMPOSE["services"]["edged"]["image"] == IMAGE
    assert f"`docker build -t {IMAGE} .`" in DOCKERFILE
    containers = chain(POD["initContainers"], POD["containers"], RUNTIME["containers"][:1])
    assert {container["image"] for container in containers} == {IMAGE}


def test_every_command_in_them_is_one_of_edgeds() -> None:
    commands = [
        json.loads(found) for found in re.findall(r"^(?:CMD| *HEALTHCHECK.* CMD) (\[.*\])$", DOCKERFILE, re.MULTILINE)
    ]
    commands[-1].insert(0, "edged")  # the entry point
    for container in (*POD["containers"], RUNTIME["containers"][0]):
        probes = [container[name] for name in container if name.endswith("Probe")]
        assert probes
        commands += [probe["exec"]["command"] for probe in probes]
    commands.append(["edged", *RUNTIME["containers"][0]["args"]])
    assert len(commands) == 7
    for program, *arguments in commands:
        assert program == "edged"
        cli.parser().parse_args(arguments)
    assert json.loads(re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.MULTILINE)[0]) == ["edged"]


def test_a_stop_has_the_units_time() -> None:
    assert COMPOSE["services"]["edged"]["stop_grace_period"] == f"{setting('TimeoutStopSec')}s"
    assert POD["terminationGracePeriodSeconds"] == int(setting("TimeoutStopSec"))


def test_the_daemon_sets_configuration_is_one(tmp_path: Path) -> None:
    (variable,) = POD["containers"][0]["env"]
    mounted = {mount["mountPath"] for mount in POD["containers"][0]["volumeMounts"]}
    assert "/etc/edged" in mounted
    config = loads(DAEMON_SET["ConfigMap"]["data"]["edged.yaml"], tmp_path, {variable["name"]: "node-1"})
    assert config.device == "node-1"
    (model,) = config.models
    assert model.inputs[0].share == "cluster"
    # Past the container's limit Kubernetes ends all of it, and not the model that took too much.
    limit = POD["containers"][0]["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) * 2**20 >= sum(one.limits.memory for one in config.models) + 100 * 2**20


def test_composes_configuration_is_one(tmp_path: Path) -> None:
    """The image's, with the drop-in over it that leads to the broker beside it."""
    (mounted,) = COMPOSE["services"]["edged"]["configs"]
    place = Path(mounted["target"])
    assert place.parent == Path("/etc/edged/conf.d")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / place.name).write_text(COMPOSE["configs"][mounted["source"]]["content"])
    config = loads((ROOT / "configs/installed.yaml").read_text(), tmp_path, {})
    assert config.mqtt is not None
    assert [str(url) for url in config.mqtt.url] == ["mqtt://broker:1883"]
    assert "broker" in COMPOSE["services"]
    assert "listener 1883\n" in COMPOSE["configs"]["mosquitto"]["content"]


def test_kserves_door_leads_to_the_socket_and_lets_nobody_control() -> None:
    nginx = KSERVE["ConfigMap"]["data"]["nginx.conf"]
    assert re.findall(r"server unix:(.*);", nginx) == [f"{environment()['RUNTIME_DIRECTORY']}/edged.sock"]
    served, door = RUNTIME["containers"]
    assert served["name"] == "kserve-container"
    assert re.findall(r"listen (\d+);", nginx) == [str(port["containerPort"]) for port in served["ports"]]
    assert re.findall(r"location (?:= )?(\S+) {", nginx) == ["/v2", "/v2/health/", "/v2/models/", "/"]
    assert "nginx.conf" in {mount.get("subPath") for mount in door["volumeMounts"]}


def test_what_the_image_is_made_from_is_sent_to_its_builder() -> None:
    """Every file that scripts/install names, and what pyproject.toml has hatchling read."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert [name for name in sent if not (ROOT / name).exists()] == []
    text = "".join((ROOT / name).read_text() for name in ("scripts/install", "scripts/deb/tree.sh"))
    named = {name for name in re.findall(r"[\w./-]+", text) if name[0] not in "./" and (ROOT / name).is_file()}
    assert {"requirements.lock", "README.md", "systemd/edged.service"} <= named
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in {*named, "pyproject.toml", project["readme"], *project["license-files"]}:
        assert any(name == one or name.startswith(f"{one}/") for one in sent), name
