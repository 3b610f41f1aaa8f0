"""A signed release from an operator's folder to a box that runs it: real daemon, real brokers, real keys."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import onnx
import pytest

from edged.delivery import documents, envelope
from edged.delivery.documents import MODEL_FILE, RELEASE_FILE, Release
from edged.topics import Ota, Tree
from tests.box import box
from tests.brokers import Amqtt, Mosquitto, Nats, documented, have_mosquitto, have_nats
from tests.operators import Desk
from tests.proxy import proxied
from tests.senders import HttpSender, MqttSender, configuration
from tests.signing import sha256_of

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

OTA: Final = Ota("edged")
TREE: Final = Tree("edged", "box")


@contextlib.contextmanager
def documented_broker(folder: Path) -> Iterator[Mosquitto]:
    """Mosquitto as docs/brokers.md has it, its ACL too; but a user is believed without a password."""
    (folder / "acl").write_text(documented("acl"))
    config = documented("mosquitto.conf").replace("allow_anonymous false", "")
    with Mosquitto(folder, f"{config}\nacl_file {folder / 'acl'}") as broker:
        yield broker


@pytest.fixture(params=["mosquitto as documented", "nats", "amqtt"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mosquitto | Nats | Amqtt]:
    folder = tmp_path / "broker"
    folder.mkdir()
    if request.param == "nats" and not have_nats():
        pytest.skip("nats-server is not installed; scripts/test installs it")
    brokers: dict[str, Callable[[Path], contextlib.AbstractContextManager[Mosquitto | Nats | Amqtt]]] = {
        "mosquitto as documented": documented_broker,
        "nats": Nats,
        "amqtt": Amqtt,
    }
    with brokers[request.param](folder) as running:
        yield running


def released(desk: Desk, file: Path, version: int) -> Path:
    """What `edged release` makes of the file: the release's folder."""
    (desk.folder / "keys/release.pem").write_bytes(desk.release.pem())
    (desk.folder / "keys/release.pub.pem").write_bytes(desk.release.public.pem())
    folder = desk.folder / f"release-{version}"
    words = ("release", str(file), "--model", "digits", "--version", str(version), "--out", str(folder))
    code, said = desk.run(*words, "--key", "release")
    assert code == 0, said
    return folder


def document(folder: Path) -> Release:
    return documents.read_release(envelope.decode((folder / RELEASE_FILE).read_bytes(), "release").payload)


def signed_configuration(desk: Desk, url: str, version: str = "auto") -> str:
    found = configuration(url, push=f"trust: {desk.folder / 'trust.json'}\n  probation: {{time: 1s, runs: 20}}")
    return found.replace("require_signature: false", "").replace(
        f'url: "{url}"', f'url: "{url}", username: box, version: {version}'
    )


def test_a_release_is_pushed_and_installed_with_the_rights_that_the_documentation_gives(
    broker: Mosquitto | Nats | Amqtt, digits: Path, tmp_path: Path
) -> None:
    """While inputs are answered, and none is lost; over MQTT 5 with an ACL, and over brokers of 3.1.1 alone."""
    desk = Desk(tmp_path / "desk", broker.url)
    version = "auto" if isinstance(broker, Mosquitto) else '"3.1.1"'
    (desk.folder / "fleet.yaml").write_text(f'mqtt: {{url: "{broker.url}", username: fleet, version: {version}}}\n')
    folder = released(desk, digits / "digits_v2_int8.onnx", 2)
    release = document(folder)
    with box(signed_configuration(desk, broker.url, version)) as one:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["pushes_connected"])
        with HttpSender(one, pause_s=0.005) as sender:
            code, said = desk.run("push", str(folder), "--to", "all", "--wait=90s")
        assert code == 0, said
        assert (sender.lost, sender.errors, sender.versions) == (0, [], {"1", "2"})
        installed = one.folder / "state" / "releases" / sha256_of(release) / MODEL_FILE
        assert hashlib.sha256(installed.read_bytes()).hexdigest() == release.files[MODEL_FILE].sha256
        (found,) = desk.status()["boxes"]
        assert (found["name"], found["models"][0]["running"], found["models"][0]["done"]) == ("box", "2", True)


def padded(file: Path, size: int, folder: Path) -> Path:
    """The same model in a file that is larger by `size` bytes that nothing uses."""
    model = onnx.load(file)
    model.graph.initializer.append(
        onnx.helper.make_tensor("padding", onnx.TensorProto.UINT8, [size], os.urandom(size), raw=True)
    )
    onnx.save(model, folder / "padded.onnx")
    return folder / "padded.onnx"


def test_ota_F10_pushing_again_completes_what_a_broker_has_lost_in_the_middle(digits: Path, tmp_path: Path) -> None:
    """kill -9 in the middle of the transfer; it comes back with nothing, and the box waits with what it has."""
    (tmp_path / "broker").mkdir()
    with documented_broker(tmp_path / "broker") as broker, proxied(broker.port, rate=1.5e6) as proxy:
        desk = Desk(tmp_path / "desk", broker.url)
        (desk.folder / "fleet.yaml").write_text(f'mqtt: {{url: "{broker.url}", username: fleet}}\n')
        folder = released(desk, padded(digits / "digits_v2_int8.onnx", 6_000_000, tmp_path), 2)
        push = ("push", str(folder), "--to", "all")
        with box(signed_configuration(desk, proxy.url)) as one:

            def install() -> dict[str, Any]:
                return dict(one.model("digits")["install"])

            assert desk.run(*push)[0] == 0
            one.wait(lambda: proxy.bytes_of(b"-ota") > 2_000_000)
            broker.kill()
            broker.start()
            one.wait(lambda: install()["code"] == "no_blob", 60)
            assert one.model("digits")["version"] == "1"
            code, said = desk.run(*push, "--wait=90s")
            assert code == 0, said
            assert one.model("digits")["version"] == "2"
        assert proxy.bytes_of(b"-ota") < 1.15 * document(folder).size


def test_releases_come_over_the_connection_of_inputs_and_a_reload_changes_that(digits: Path, tmp_path: Path) -> None:
    """push.connection: one client at the broker, then two, then one; beside inputs, of which none is lost."""
    (tmp_path / "broker").mkdir()
    with Mosquitto(tmp_path / "broker") as broker:
        desk = Desk(tmp_path / "desk", broker.url)
        (desk.folder / "fleet.yaml").write_text(f'mqtt: {{url: "{broker.url}"}}\n')
        larger = padded(digits / "digits_v2_int8.onnx", 1_000_000, tmp_path)
        files = [digits / "digits_v2_int8.onnx", larger, digits / "digits_v2_int8.onnx"]
        shared = signed_configuration(desk, broker.url).replace("\npush:\n", "\npush:\n  connection: shared\n", 1)
        assert "connection: shared" in shared
        with box(shared) as one, MqttSender(broker.port, "a", pause_s=0.005) as sender:
            for version, (way, file) in enumerate(zip(("shared", "own", "shared"), files, strict=True), 2):
                one.config.write_text(shared.replace("connection: shared", f"connection: {way}"))
                assert one.request("POST", "/edged/reload")[0] == 200
                one.wait(lambda: one.status()["daemon"]["mqtt"]["pushes_connected"])
                code, said = desk.run("push", str(released(desk, file, version)), "--to", "all", "--wait=90s")
                assert code == 0, said
                assert broker.says("-ota") is (version > 2)
        assert sender.lost == 0
        assert sender.errors == []
