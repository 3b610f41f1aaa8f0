"""`edged push` as an operator uses it: real keys, a real Mosquitto, boxes that say what boxes say."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edged import cli
from edged.delivery import documents, envelope, trust
from edged.fleet.upload import BACK, LOST
from edged.topics import Ota
from edged.transports.mqtt.retained import Put
from tests.brokers import Mosquitto
from tests.integration.fleet.machines import CHUNK, Machine, Watcher, says
from tests.releases import content

OTA = Ota("edged")
SUBACK = 0x90


def test_everything_that_a_box_needs_lies_there_and_is_signed(machine: Machine, watcher: Watcher) -> None:
    folder = machine.release(content(5 * CHUNK + 1))
    assert machine.push(folder, "--to", "group:line-2", "--percent", 25, "--expires", "2d", "--probation", "10m") == 0
    there = watcher.kept("edged/ota/#")
    anchored = trust.root(there[OTA.trust(1)])
    release = trust.release(anchored.trust, there[OTA.release(machine.sha256)])
    want = trust.order(anchored.trust, there[OTA.want("digits", "group/line-2")]).document
    undo = trust.order(anchored.trust, there[OTA.undo("digits", "group/line-2")]).document
    assert isinstance(want, documents.Want)
    assert (want.release, want.version) == (release.sha256, 2)
    assert (want.rollout.percent, want.probation.time_s) == (25, 600)
    assert want.expires - want.issued == 2 * 86_400_000
    assert (undo.release, undo.to, undo.place) == (want.release, want.to, (want.epoch, want.seq + 1))
    assert sum(topic.startswith("edged/ota/blob/") for topic in there) == 7
    assert len(there) == 7 + 4


def test_the_order_comes_last_and_its_way_back_before_it(machine: Machine, watcher: Watcher) -> None:
    watcher.connection.connect()
    watcher.connection.listen(["edged/ota/#"])
    machine.push(machine.release(content(3 * CHUNK)), "--to", "all")
    for _ in range(10):
        watcher.connection.turn()
    kinds = list(dict.fromkeys(one.topic.split("/")[2] for one in watcher.heard))
    assert kinds == ["trust", "blob", "release", "undo", "want"]


def test_a_second_run_publishes_nothing(
    machine: Machine, watcher: Watcher, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = machine.release(content(4 * CHUNK))
    assert machine.push(folder, "--to", "all") == 0
    first = watcher.kept("edged/ota/#")
    published = broker.log.read_text().count("PUBLISH from edged-push")
    capsys.readouterr()
    assert machine.push(folder, "--to", "all") == 0
    assert watcher.kept("edged/ota/#") == first
    assert broker.log.read_text().count("PUBLISH from edged-push") == published
    told = capsys.readouterr().out
    assert "0 were sent" in told
    assert "has this order already" in told


@pytest.mark.parametrize("words", [["--retry"], ["--percent", "50"], ["--allow-downgrade"], ["--urgent"]])
def test_other_terms_are_a_new_order(machine: Machine, watcher: Watcher, words: list[str]) -> None:
    folder = machine.release(content(CHUNK))
    machine.push(folder, "--to", "all")
    first = watcher.want("digits", "all")
    assert machine.push(folder, "--to", "all", *words) == 0
    second = watcher.want("digits", "all")
    assert first
    assert second
    assert second.seq > first.seq + 1


def test_another_release_to_one_box_makes_the_order_to_all_needful_again(machine: Machine, watcher: Watcher) -> None:
    old, new = machine.release(content(CHUNK), version=2), machine.release(content(CHUNK, 1), version=3)
    machine.push(old, "--to", "all")
    first = watcher.want("digits", "all")
    machine.push(new, "--to", "device:press-07")
    machine.push(old, "--to", "all")
    last = watcher.want("digits", "all")
    assert first
    assert last
    assert last.seq > first.seq


def test_raising_the_percent_keeps_the_salt(machine: Machine, watcher: Watcher) -> None:
    folder = machine.release(content(CHUNK))
    salts = []
    for percent in (10, 50):
        machine.push(folder, "--to", "all", "--percent", percent)
        want = watcher.want("digits", "all")
        assert want
        salts.append(want.rollout.salt)
    assert salts[0] == salts[1] != ""


def test_a_sequence_ahead_of_this_clock_is_passed(
    machine: Machine, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = machine.release(content(CHUNK))
    machine.push(folder, "--to", "all")
    first = watcher.want("digits", "all")
    assert first
    monkeypatch.setattr("edged.fleet.pushing._now_ms", lambda: first.seq - 3_600_000)
    machine.push(folder, "--to", "device:press-07")
    want = watcher.want("digits", "device/press-07")
    assert want
    assert want.seq == first.seq + 2  # the undo of the first has the place between


def test_what_no_box_would_take_is_refused_before_anything_is_sent(
    machine: Machine, watcher: Watcher, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = machine.release(content(CHUNK))
    found = envelope.decode((folder / "release.json").read_bytes(), "release")
    unsigned = msgspec.structs.replace(found, signatures=())
    (folder / "release.json").write_bytes(unsigned.encode())
    assert machine.push(folder, "--to", "all") == 1
    assert "[signature]" in capsys.readouterr().err
    machine.release(content(CHUNK))
    assert cli.main(["trust", "ban", str(folder), "--reason", "wrong labels"]) == 0
    assert machine.push(folder, "--to", "all") == 1
    assert "wrong labels [banned]" in capsys.readouterr().err
    assert watcher.kept("edged/ota/#") == {}


def test_every_trust_document_is_there_for_boxes_that_were_away(machine: Machine, watcher: Watcher) -> None:
    assert cli.main(["trust", "rotate", "--expires", "365d"]) == 0
    assert cli.main(["trust", "rotate", "--new-epoch"]) == 0
    machine.push(machine.release(content(CHUNK)), "--to", "all")
    there = watcher.kept("edged/ota/trust/+")
    assert sorted(there) == [OTA.trust(1), OTA.trust(2), OTA.trust(3)]
    want = watcher.want("digits", "all")
    assert want
    assert want.epoch == 1


def test_a_machine_that_is_behind_the_fleets_trust_is_told(
    machine: Machine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = machine.release(content(CHUNK))
    before = (machine.folder / "trust.json").read_bytes()
    assert cli.main(["trust", "rotate", "--expires", "365d"]) == 0
    assert machine.push(folder, "--to", "all") == 0
    (machine.folder / "trust.json").write_bytes(before)
    (machine.folder / "trust" / "2.json").unlink()
    capsys.readouterr()
    assert machine.push(folder, "--to", "all") == 1
    assert "trust document is 2 by now" in capsys.readouterr().err


def test_another_fleet_on_the_same_broker_is_noticed(
    machine: Machine, tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch, watcher: Watcher
) -> None:
    machine.push(machine.release(content(CHUNK)), "--to", "all")
    theirs = watcher.kept("edged/ota/#")
    other = Machine(tmp_path / "other", broker, monkeypatch)
    assert other.push(other.release(content(CHUNK, 7)), "--to", "all") == 1
    assert watcher.kept("edged/ota/#") == theirs


# --- waiting --------------------------------------------------------------------------------------------


def later(act: Callable[[], None], condition: Callable[[], object]) -> threading.Thread:
    """Does something once a condition holds, beside the command under test."""

    def run() -> None:
        until_s = time.monotonic() + 30
        while not condition() and time.monotonic() < until_s:
            time.sleep(0.05)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def settled(broker: Mosquitto) -> None:
    """Until nobody has said anything to the broker for longer than a command pauses while it reads."""
    size, since_s = -1, time.monotonic()
    while time.monotonic() - since_s < 1.0:
        if (now := broker.log.stat().st_size) != size:
            size, since_s = now, time.monotonic()
        time.sleep(0.02)


def active(machine: Machine) -> dict[str, Any]:
    return {"verdict": "active", "active": {"version": "2", "release": machine.sha256}}


def test_waiting_ends_when_every_online_box_has_its_verdict(
    machine: Machine, watcher: Watcher, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = machine.release(content(CHUNK))
    about: dict[str, Any] = {"push": {"version": "2", "release": machine.sha256}}
    watcher.put(
        *says("a"),
        *says("b"),
        *says("away", presence="offline"),
        *says("night", phase="waiting", code="not_now", **about),
    )

    def answer() -> None:
        other = Watcher(broker)
        want = other.want("digits", "all")
        assert want
        followed: dict[str, Any] = {"want": {"release": want.release, "version": "2", "epoch": 0, "seq": want.seq}}
        other.put(*says("night", phase="waiting", code="not_now", message="outside 02:00-04:00", **about, **followed))
        other.put(*says("a", phase="downloading", bytes_have=5, bytes_total=10, **about, **followed))
        other.put(*says("a", **active(machine), **followed))
        failed: dict[str, Any] = {
            "verdict": "failed",
            "code": "golden",
            "message": "2 of 8 differ",
            "hint": "Compare them.",
        }
        other.put(*says("b", **failed, **about, **followed))

    thread = later(answer, lambda: broker.says("'edged/ota/want/digits/all'"))
    assert machine.push(folder, "--to", "all", "--wait=60s") == 1
    thread.join()
    told = capsys.readouterr().out
    assert "a: runs version 2" in told
    assert "b: failed: 2 of 8 differ [golden]\n  Compare them." in told
    assert "apart, offline: away" in told
    assert "apart, waits: outside 02:00-04:00: night" in told
    assert told.rstrip().endswith("1 active, 1 failed, 2 apart")


def test_waiting_is_good_when_all_that_can_have_it(machine: Machine, watcher: Watcher, broker: Mosquitto) -> None:
    folder = machine.release(content(CHUNK))
    watcher.put(*says("a"), *says("gone", presence="offline"))
    thread = later(
        lambda: Watcher(broker).put(*says("a", **active(machine))), lambda: broker.says("'edged/ota/want/digits/all'")
    )
    assert machine.push(folder, "--to", "all", "--wait") == 0
    thread.join()


def test_ota_F50_the_last_word_of_a_dead_box_is_no_success(
    machine: Machine, watcher: Watcher, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = machine.release(content(CHUNK))
    watcher.put(*says("a", presence="offline", **active(machine)))
    assert machine.push(folder, "--to", "device:a", "--wait=10s") == 1
    assert "apart, offline: a" in capsys.readouterr().out


def test_waiting_ends_where_the_only_box_refuses_the_order(
    machine: Machine, watcher: Watcher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edged.fleet.following._PATIENCE_S", 0.0)
    folder = machine.release(content(CHUNK))
    watcher.put(*says("a", refused={"all": "signature"}))
    assert machine.push(folder, "--to", "all", "--wait=10m") == 1
    told = capsys.readouterr().out
    assert "a: refuses the order [signature]\n  It believes another trust document than yours" in told
    assert told.rstrip().endswith("1 failed")


def test_a_wait_that_is_over_says_who_is_not_done(
    machine: Machine, watcher: Watcher, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = machine.release(content(CHUNK))
    watcher.put(*says("a"))
    assert machine.push(folder, "--to", "all", "--wait=1s") == 1
    assert "a: has not taken the order yet" in capsys.readouterr().out


def test_a_machine_without_a_clock_orders_nothing(
    machine: Machine, watcher: Watcher, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every box would find the order past its time, and say that its own clock is to blame."""
    folder = machine.release(content(CHUNK))
    monkeypatch.setattr("edged.fleet.pushing._now_ms", lambda: 978_307_200_000)
    assert machine.push(folder, "--to", "all") == 1
    assert (
        "clock says 2001-01-01: an order of that day is past its time on every box [expired]" in capsys.readouterr().err
    )
    assert watcher.kept("edged/ota/#") == {}


def test_a_box_that_is_started_again_in_the_middle_is_waited_for(
    machine: Machine, watcher: Watcher, broker: Mosquitto
) -> None:
    folder = machine.release(content(CHUNK))
    watcher.put(*says("a"))

    def course() -> None:
        other = Watcher(broker)
        other.put(*says("a", presence="offline", phase="trial", push={"version": "2", "release": machine.sha256}))
        time.sleep(1.5)  # longer than it takes to see that
        other.put(*says("a", **active(machine)))

    thread = later(course, lambda: broker.says("'edged/ota/want/digits/all'"))
    assert machine.push(folder, "--to", "all", "--wait=60s") == 0
    thread.join()


def test_waiting_goes_on_when_the_broker_was_restarted(
    machine: Machine, watcher: Watcher, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it kept is gone with it: the order is known all the same, and boxes say again what they have made of it."""
    folder = machine.release(content(CHUNK))
    watcher.put(*says("a"))

    def waits() -> bool:
        *_, last = broker.log.read_text().split("Received PUBLISH from edged-push")
        ordered = "'edged/ota/want/digits/all'" in last.partition("\n")[0]
        return ordered and "edged/+/install/digits (QoS 0)" in last

    def restart() -> None:
        want = watcher.kept(OTA.want("digits", "all"))
        settled(broker)  # the command has read the fleet, and listens
        broker.kill()
        time.sleep(1.5)  # longer than the first attempt to reach it
        broker.start()
        watcher.put(*[Put(topic, payload) for topic, payload in want.items()], *says("a", **active(machine)))

    thread = later(restart, waits)
    assert machine.push(folder, "--to", "all", "--wait=60s") == 0
    thread.join()
    told = capsys.readouterr().err
    assert [told.count(line) for line in (LOST, BACK)] == [1, 1]
    assert told.index(LOST) < told.index(BACK)


# --- serving --------------------------------------------------------------------------------------------


def test_pieces_are_served_to_boxes_that_ask_and_none_is_kept(
    machine: Machine, watcher: Watcher, broker: Mosquitto, capsys: pytest.CaptureFixture[str]
) -> None:
    data = content(3 * CHUNK)
    folder = machine.release(data)
    watcher.put(*says("a"))
    got: dict[str, bytes] = {}

    def fetch() -> None:
        box = Watcher(broker)
        file = machine.last.files["model.onnx"]
        chunks = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
        index = b"".join(bytes.fromhex(hashlib.sha256(one).hexdigest()) for one in chunks)
        hashes = [bytes.fromhex(file.index), *[index[at : at + 32] for at in range(0, len(index), 32)]]
        box.connection.connect()
        box.connection.listen([OTA.blob(one.hex()) for one in hashes])
        until_s = time.monotonic() + 30
        while len(got) < len(hashes) and time.monotonic() < until_s:
            need = b"".join(one for one in hashes if one.hex() not in got)
            box.connection.put([Put("edged/a/need", need, retain=False)], lambda *_: None)
            for _ in range(5):
                box.connection.turn()
            got.update({one.topic.rsplit("/", 1)[1]: one.payload for one in box.heard if not one.retained})
        box.put(*says("a", **active(machine)))

    thread = later(fetch, lambda: broker.says("edged/+/need"))
    assert machine.push(folder, "--to", "all", "--serve", "--wait=60s") == 0
    thread.join()
    assert len(got) == 4
    assert all(hashlib.sha256(payload).hexdigest() == name for name, payload in got.items())
    assert watcher.kept("edged/ota/blob/#") == {}
    assert "1 active" in capsys.readouterr().out
    assert machine.push("--gc") == 0  # this machine knows what the order needs
    assert "0 releases and 0 pieces went, 1 releases stay" in capsys.readouterr().out


def test_a_server_that_no_box_s_needs_come_to_says_what_may_be_missing(
    machine: Machine, watcher: Watcher, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr("edged.fleet.following._DEAF_S", 0.0)
    monkeypatch.setattr("edged.cli.signed._note", said.append)
    folder = machine.release(content(CHUNK))
    watcher.put(*says("a"))

    followed: dict[str, Any] = {}

    def waits() -> None:
        want = watcher.want("digits", "all")
        assert want
        followed["want"] = {"release": want.release, "version": "2", "epoch": 0, "seq": want.seq}
        about: dict[str, Any] = {"push": {"version": "2", "release": machine.sha256}}
        watcher.put(*says("a", phase="waiting", code="no_blob", **about, **followed))
        later(lambda: watcher.put(*says("a", **active(machine), **followed)), lambda: said).join()

    thread = later(waits, lambda: broker.says("'edged/ota/want/digits/all'"))
    assert machine.push(folder, "--to", "all", "--serve", "--wait=60s") == 0
    thread.join()
    assert ["may this user read edged/+/need?" in one for one in said] == [True]


# --- tidying up -----------------------------------------------------------------------------------------


def test_what_no_order_names_goes_and_what_one_names_stays(
    machine: Machine, watcher: Watcher, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = content(2 * CHUNK)
    old = machine.release(shared + content(2 * CHUNK, 1), version=2, created=1)
    gone = machine.sha256
    new = machine.release(shared + content(2 * CHUNK, 2), version=3, created=2)
    machine.push(old, "--to", "all")
    machine.push(new, "--to", "all")
    before = watcher.kept("edged/ota/#")
    assert machine.push("--gc", "--dry-run") == 0
    assert watcher.kept("edged/ota/#") == before
    assert "digits version 2" in capsys.readouterr().out
    assert machine.push("--gc") == 0
    after = watcher.kept("edged/ota/#")
    removed = before.keys() - after.keys()
    assert OTA.release(gone) in removed
    assert len(removed) == 1 + 3  # its document, its index, its two chunks that are its own
    assert after.keys() <= before.keys()
    capsys.readouterr()
    assert machine.push("--gc") == 0
    assert "0 releases and 0 pieces went, 1 releases stay" in capsys.readouterr().out


def test_orders_that_come_late_over_a_line_that_stands_still_count(machine: Machine, watcher: Watcher) -> None:
    machine.push(machine.release(content(CHUNK), created=1), "--to", "all")
    before = watcher.kept("edged/ota/#")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_standing_still, args=(listener, machine.broker.port), daemon=True).start()
        url = f"mqtt://127.0.0.1:{listener.getsockname()[1]}"
        assert machine.push("--gc", "--broker", url) == 0
    assert watcher.kept("edged/ota/#") == before


def _standing_still(listener: socket.socket, port: int) -> None:
    """Brings one client to the broker; after the answer to its first subscription nothing comes for two seconds."""
    client, _ = listener.accept()
    with client, socket.create_connection(("127.0.0.1", port)) as broker:
        threading.Thread(target=_copied, args=(client, broker), daemon=True).start()
        still = False
        while data := broker.recv(65536):
            if data[0] == SUBACK and not still:
                still = True
                length = 2 + data[1]
                client.sendall(data[:length])
                time.sleep(2)
                data = data[length:]
            client.sendall(data)


def _copied(source: socket.socket, to: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)


def test_nothing_goes_where_no_order_is_to_be_seen(
    machine: Machine, watcher: Watcher, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.push(machine.release(content(CHUNK), created=1), "--to", "all")
    watcher.put(Put(OTA.want("digits", "all"), b""), Put(OTA.undo("digits", "all"), b""))  # as an ACL hides them
    before = watcher.kept("edged/ota/#")
    assert machine.push("--gc") == 1
    assert "[no_order]" in capsys.readouterr().err
    assert watcher.kept("edged/ota/#") == before


@pytest.mark.parametrize("words", [("--gc",), ("--serve", "--wait", "5s")])
def test_a_broker_that_keeps_nothing_is_named_as_such(
    machine: Machine, tmp_path: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = machine.release(content(CHUNK), created=1)
    machine.push(folder, "--to", "all")
    capsys.readouterr()
    (tmp_path / "m").mkdir()
    with Mosquitto(tmp_path / "m", "retain_available false") as other:
        what = () if "--gc" in words else (folder, "--to", "all")
        assert machine.push(*what, "--broker", other.url, *words) == 1
    said = capsys.readouterr().err
    assert "does not keep retained messages [broker]" in said
    assert "or push with --serve" not in said


def test_what_was_made_just_now_stays_for_whoever_is_about_to_order_it(machine: Machine, watcher: Watcher) -> None:
    old = machine.release(content(CHUNK), version=2)
    machine.push(old, "--to", "all")
    machine.push(machine.release(content(CHUNK, 1), version=3), "--to", "all")
    before = watcher.kept("edged/ota/#")
    assert machine.push("--gc") == 0
    assert watcher.kept("edged/ota/#") == before


def test_nothing_goes_while_it_is_unknown_what_an_order_needs(
    machine: Machine, watcher: Watcher, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.push(machine.release(content(2 * CHUNK), version=2, created=1), "--to", "all")
    machine.push(machine.release(content(2 * CHUNK, 1), version=3, created=1), "--to", "all")
    watcher.put(Put(OTA.release(machine.sha256), b""))
    (machine.folder / "pushed.json").unlink()
    before = watcher.kept("edged/ota/#")
    assert machine.push("--gc") == 1
    assert "[no_blob]" in capsys.readouterr().err
    assert watcher.kept("edged/ota/#") == before


def test_pieces_without_a_document_go_where_this_machine_remembers_them(machine: Machine, watcher: Watcher) -> None:
    machine.push(machine.release(content(2 * CHUNK), version=2, created=1), "--to", "all")
    watcher.put(Put(OTA.release(machine.sha256), b""))
    machine.push(machine.release(content(2 * CHUNK, 1), version=3, created=1), "--to", "all")
    assert len(json.loads((machine.folder / "pushed.json").read_bytes())) == 2
    assert machine.push("--gc") == 0
    there = watcher.kept("edged/ota/blob/#")
    assert len(there) == 3
    assert len(json.loads((machine.folder / "pushed.json").read_bytes())) == 1  # and what has gone is forgotten
