"""Bringing pieces to a real Mosquitto with each of its limits, and reading them back."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from edged.config import schema
from edged.errors import EdgedError
from edged.fleet.upload import BACK, LOST, Piece, Progress, Sent, Upload, document
from edged.transports.mqtt.retained import Heard, Put, Retained
from tests.brokers import Mosquitto
from tests.proxy import Proxy
from tests.releases import content

CHUNK = 96 * 1024
TRUST = document("edged/ota/trust/1", b'{"trust": 1}')


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """These brokers are on loopback: what was put away is there at once."""
    monkeypatch.setattr("edged.fleet.upload._GRACE_S", (0.05, 0.3))


def blobs(count: int, size: int = CHUNK, **lives: int) -> list[Piece]:
    found = []
    for number in range(count):
        data = content(size, number)
        digest = hashlib.sha256(data).hexdigest()
        found.append(Piece(f"edged/ota/blob/{digest}", digest, size, partial(bytes, data), **lives))
    return found


@contextmanager
def uploading(
    broker: Mosquitto | str,
    version: str = "5",
    say: Callable[[Progress], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> Iterator[Upload]:
    def make(hear: Callable[[Heard], None]) -> Retained:
        url = broker if isinstance(broker, str) else broker.url
        settings = schema.Mqtt((url,), version=version)  # type: ignore[arg-type]  # one of the words
        return Retained(settings, f"edged-push-{secrets.token_hex(4)}", hear)

    upload = Upload(make, say, note)
    try:
        upload.connect()
        yield upload
    finally:
        upload.close()


def bring(broker: Mosquitto, pieces: list[Piece], version: str = "5") -> Sent:
    with uploading(broker, version) as upload:
        upload.ensure([TRUST])
        return upload.ensure(pieces)


def kept(broker: Mosquitto, topics: list[str]) -> dict[str, bytes]:
    """What is retained there, as anybody sees it."""
    found: dict[str, bytes] = {}

    def hear(heard: Heard) -> None:
        if heard.retained:
            found[heard.topic] = heard.payload

    with Retained(schema.Mqtt((broker.url,)), "reader", hear) as reader:
        reader.connect()
        reader.look(topics)
    return found


@contextmanager
def mosquitto(folder: Path, config: str) -> Iterator[Mosquitto]:
    folder.mkdir(exist_ok=True)
    with Mosquitto(folder, config) as running:
        yield running


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_what_is_missing_is_sent_and_what_is_there_is_not(broker: Mosquitto, version: str) -> None:
    pieces = blobs(20)
    first = bring(broker, pieces[:12], version)
    assert (first.sent, first.again) == (12, 0)
    assert bring(broker, pieces, version).sent == 8
    last = bring(broker, pieces, version)
    assert (last.pieces, last.sent, last.sent_size) == (20, 0, 0)
    found = kept(broker, [one.topic for one in pieces])
    assert found == {one.topic: one.read() for one in pieces}


def test_a_damaged_piece_is_mended(broker: Mosquitto) -> None:
    pieces = blobs(5)
    bring(broker, pieces)
    with Retained(schema.Mqtt((broker.url,)), "vandal", lambda _: None) as vandal:
        vandal.connect()
        vandal.put([Put(pieces[2].topic, b"not what its name says")], lambda *_: None)
    assert bring(broker, pieces).sent == 1
    assert kept(broker, [pieces[2].topic])[pieces[2].topic] == pieces[2].read()


def test_a_piece_that_will_not_live_long_enough_is_sent_anew(broker: Mosquitto) -> None:
    bring(broker, blobs(3, lives_s=100, expires_s=200))
    assert bring(broker, blobs(3, lives_s=150, expires_s=300)).sent == 0
    assert bring(broker, blobs(3, lives_s=250, expires_s=300)).sent == 3


def test_ota_F53_a_limit_that_the_broker_tells_is_kept(tmp_path: Path) -> None:
    with mosquitto(tmp_path / "m", "max_packet_size 50000") as broker:
        with pytest.raises(EdgedError) as refused:
            bring(broker, blobs(5))
        assert refused.value.fault.code == "too_large"
        assert "--chunk 48KiB" in refused.value.fault.hint
        assert not broker.says("blob")


@pytest.mark.parametrize("limit", ["max_packet_size 50000", "message_size_limit 50000"])
def test_ota_F53_a_limit_that_the_broker_does_not_tell_is_found_out(tmp_path: Path, limit: str) -> None:
    with mosquitto(tmp_path / "m", limit) as broker:
        pieces = blobs(40)
        with pytest.raises(EdgedError) as refused:
            bring(broker, pieces, "3.1.1")
        assert refused.value.fault.code == "too_large"
        assert "--chunk 48KiB" in refused.value.fault.hint
        sent = re.findall(r"PUBLISH from .*'(edged/ota/blob/[0-9a-f]{64})'", broker.log.read_text())
        assert len(set(sent) & {one.topic for one in pieces}) <= 1  # one had to go, to find out
        assert kept(broker, ["edged/ota/trust/1", *[f"edged/ota/blob/{one.sha256}" for one in pieces]]).keys() == {
            "edged/ota/trust/1"
        }


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_broker_that_keeps_nothing_is_named(tmp_path: Path, version: str) -> None:
    with mosquitto(tmp_path / "m", "retain_available false") as broker:
        with pytest.raises(EdgedError) as refused:
            bring(broker, blobs(5), version)
        assert refused.value.fault.code == "broker"
        assert "retain" in refused.value.fault.message
        assert "--serve" in refused.value.fault.hint


@pytest.mark.parametrize("version", ["5", "3.1.1"])
@pytest.mark.parametrize("right", ["read", "write", "deny"])
def test_an_acl_that_forbids_the_blobs_is_named(tmp_path: Path, version: str, right: str) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "acl").write_text(f"topic readwrite edged/ota/trust/#\ntopic {right} edged/ota/blob/#\n")
    (folder / "acl").chmod(0o600)
    with mosquitto(folder, f"acl_file {folder / 'acl'}") as broker:
        with pytest.raises(EdgedError) as refused:
            bring(broker, blobs(5), version)
        assert refused.value.fault.code == "forbidden"
        assert "ACL forbids edged/ota/blob" in refused.value.fault.message
        assert "topic readwrite edged/ota/#" in refused.value.fault.hint


@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_ota_F10_a_broker_that_comes_back_empty_in_the_middle_gets_everything(broker: Mosquitto, version: str) -> None:
    pieces, killed = blobs(60), list[Progress]()

    def say(progress: Progress) -> None:
        if not killed and progress.confirmed > 20 * CHUNK:
            killed.append(progress)
            broker.kill()
            broker.start()

    with uploading(broker, version, say) as upload:
        upload.ensure([TRUST])
        sent = upload.ensure(pieces)
    assert killed
    assert sent.sent == 60
    assert len(kept(broker, [TRUST.topic, *[one.topic for one in pieces]])) == 61


def test_ota_F10_what_came_before_is_brought_again_too(broker: Mosquitto) -> None:
    """A broker that forgot everything between the pieces and the document that names them."""
    pieces, release, noted = blobs(10), document("edged/ota/release/r", b"{}"), list[str]()
    with uploading(broker, note=noted.append) as upload:
        upload.ensure([TRUST])
        upload.ensure(pieces)
        broker.kill()
        broker.start()
        upload.ensure([release])
    assert noted == [LOST, BACK]
    assert len(kept(broker, [TRUST.topic, release.topic, *[one.topic for one in pieces]])) == 12


def test_a_line_that_breaks_again_and_again_costs_little(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen is not sent again, nor asked for; a connection that brought anything is no failure."""
    monkeypatch.setattr("edged.fleet.upload._AWAY_S", (0.05, 0.05))
    pieces = blobs(120, 16 * 1024)

    async def scenario() -> None:
        async with Proxy(broker.port) as proxy:
            loop, at = asyncio.get_running_loop(), [0]

            def say(progress: Progress) -> None:
                done = progress.there + progress.confirmed
                if done >= at[0] + 12 * 16 * 1024:
                    at[0] = done
                    loop.call_soon_threadsafe(proxy.cut_all)

            def run() -> Sent:
                with uploading(proxy.url, say=say) as upload:
                    upload.ensure([TRUST])
                    return upload.ensure(pieces)

            sent = await asyncio.to_thread(run)
            assert proxy.cuts >= 5
            assert sent.sent == 120
            assert sum(one.up for one in proxy.connections) < 2 * sent.size

    asyncio.run(scenario())
    assert len(kept(broker, [one.topic for one in pieces])) == 120


def test_a_broker_that_stays_away_is_told_of(broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edged.fleet.upload._AWAY_S", (0.01, 0.01))
    with uploading(broker) as upload:
        upload.ensure([TRUST])
        broker.kill()
        with pytest.raises(EdgedError, match="is the broker running"):
            upload.ensure(blobs(3))
