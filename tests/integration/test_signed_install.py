"""A signed release from an operator's folder to a box that runs it: real daemon, real brokers, real keys."""

from __future__ import annotations

import contextlib
import hashlib
import json
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from edged.delivery import documents, envelope
from edged.delivery.documents import MODEL_FILE, RELEASE_FILE, Release
from edged.topics import Ota, Tree
from tests.box import Box, box
from tests.brokers import Amqtt, Mosquitto, Nats, have_mosquitto, have_nats
from tests.conftest import ROOT
from tests.couriers import blobs
from tests.integration.mqtt.box import User
from tests.operators import Desk
from tests.senders import HttpSender, configuration
from tests.signing import sha256_of, want_of

pytestmark = pytest.mark.skipif(not have_mosquitto(), reason="Mosquitto is not installed")

OTA: Final = Ota("edged")
TREE: Final = Tree("edged", "box")


def documented(block: str) -> str:
    """What docs/model-push.md tells an administrator to write."""
    text = (ROOT / "docs" / "model-push.md").read_text()
    return textwrap.dedent(text.partition(f"<!-- {block} -->\n")[2].partition("<!--")[0])


@contextlib.contextmanager
def documented_broker(folder: Path) -> Iterator[Mosquitto]:
    """Mosquitto as docs/model-push.md has it, its ACL too; but a user is believed without a password."""
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


def released(desk: Desk, file: Path, version: int) -> tuple[Release, dict[str, bytes]]:
    """`edged release`: the document and everything to publish, by topic, its envelope last."""
    (desk.folder / "keys/release.pem").write_bytes(desk.release.pem())
    (desk.folder / "keys/release.pub.pem").write_bytes(desk.release.public.pem())
    folder = desk.folder / f"release-{version}"
    words = ("release", str(file), "--model", "digits", "--version", str(version), "--out", str(folder))
    code, said = desk.run(*words, "--key", "release")
    assert code == 0, said
    content = (folder / RELEASE_FILE).read_bytes()
    release = documents.read_release(envelope.decode(content, "release").payload)
    pieces = blobs(release, {name: (folder / name).read_bytes() for name in release.files})
    messages = {OTA.blob(sha256): piece for sha256, piece in pieces.items()}
    return release, {**messages, OTA.release(sha256_of(release)): content}


def ordered(desk: Desk, release: Release) -> dict[str, bytes]:
    """A want for all boxes, by topic."""
    now_ms = time.time_ns() // 1_000_000
    want = want_of(release, seq=now_ms, issued=now_ms, expires=now_ms + 3_600_000)
    return {OTA.want("digits", "all"): desk.sign_order(want)}


def signed_configuration(desk: Desk, url: str) -> str:
    found = configuration(url, push=f"trust: {desk.folder / 'trust.json'}\n  probation: {{time: 1s, runs: 20}}")
    return found.replace("require_signature: false", "").replace(f'url: "{url}"', f'url: "{url}", username: box')


def told(operator: User) -> dict[str, Any]:
    """The box's last status of the model; empty before the first."""
    found = operator.on(TREE.install("digits"))
    return dict(json.loads(found[-1].payload)) if found else {}


def wait_for_verdict(one: Box, operator: User, release: Release) -> dict[str, Any]:
    def decided() -> bool:
        said = told(operator)
        return bool(said.get("verdict")) and said["push"]["version"] == str(release.version)

    one.wait(decided, 60)
    return told(operator)


def test_a_release_is_installed_with_the_rights_that_the_documentation_gives(
    broker: Mosquitto | Nats | Amqtt, digits: Path, tmp_path: Path
) -> None:
    """While inputs are answered, and none is lost; over MQTT 5 with an ACL, and over brokers of 3.1.1 alone."""
    desk = Desk(tmp_path / "desk", broker.url)
    release, pieces = released(desk, digits / "digits_v2_int8.onnx", 2)
    five = isinstance(broker, Mosquitto)
    auth = ("fleet", None) if five else None
    with (
        box(signed_configuration(desk, broker.url)) as one,
        User(broker.port, TREE.install("digits"), five=five, auth=auth) as operator,
    ):
        with HttpSender(one, pause_s=0.005) as sender:
            for topic, payload in {**pieces, **ordered(desk, release)}.items():
                operator.send(topic, payload, retain=True)
            said = wait_for_verdict(one, operator, release)
        assert (sender.lost, sender.errors, sender.versions) == (0, [], {"1", "2"})
        assert (said["verdict"], said["active"]["version"]) == ("active", "2"), said
        assert said["bytes_have"] == said["bytes_total"] == release.size
        installed = one.folder / "state" / "releases" / sha256_of(release) / MODEL_FILE
        assert hashlib.sha256(installed.read_bytes()).hexdigest() == release.files[MODEL_FILE].sha256
