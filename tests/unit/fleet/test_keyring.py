"""The folder of keys: what is written, what is found, what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edged.delivery import keys
from edged.errors import EdgedError
from edged.fleet.keyring import Keyring


def never(name: str) -> bytes:
    raise AssertionError(f"nobody should ask for the passphrase of {name}")


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys")


@pytest.mark.parametrize("scheme", keys.SCHEMES)
def test_a_new_key_is_its_owners_alone(ring: Keyring, scheme: keys.Scheme) -> None:
    os.umask(umask := os.umask(0))
    public = ring.create("ci", scheme)
    assert oct((ring.folder / "ci.pem").stat().st_mode & 0o777) == "0o600"
    assert oct((ring.folder / "ci.pub.pem").stat().st_mode & 0o777) == oct(0o644 & ~umask)
    assert oct(ring.folder.stat().st_mode & 0o777) == "0o700"
    (held,) = ring.held()
    assert (held.name, held.public, held.encrypted) == ("ci", public, False)
    signature = ring.unlock(held, never).sign(b"message")
    assert public.verify(signature, b"message")


def test_a_key_is_never_overwritten(ring: Keyring) -> None:
    ring.create("ci", "ed25519")
    before = {path.name: path.read_bytes() for path in ring.folder.iterdir()}
    for gone in ("", "ci.pub.pem", "ci.pem"):
        if gone:
            (ring.folder / gone).unlink()
        left = {path.name for path in ring.folder.iterdir()}
        with pytest.raises(EdgedError, match="is there already") as caught:
            ring.create("ci", "ed25519")
        assert caught.value.fault.code == "bad_key"
        assert {path.name for path in ring.folder.iterdir()} == left
        for name, content in before.items():
            (ring.folder / name).write_bytes(content)


@pytest.mark.parametrize("name", ["", "../ci", "a/b", "ci.pub", "a b"])
def test_a_name_is_a_name(ring: Keyring, name: str) -> None:
    with pytest.raises(EdgedError, match="no name"):
        ring.create(name, "ed25519")
    assert not ring.folder.exists()


def test_an_encrypted_key_asks_and_its_public_half_does_not(ring: Keyring) -> None:
    public = ring.create("root", "ed25519", b"sesame")
    (held,) = ring.held()
    assert held.encrypted
    assert held.public == public
    asked = []

    def ask(name: str) -> bytes:
        asked.append(name)
        return b"sesame"

    assert ring.unlock(held, ask).keyid == public.keyid
    assert asked == ["root"]
    with pytest.raises(EdgedError, match="passphrase is wrong"):
        ring.unlock(held, lambda _: b"simsalabim")


def test_a_key_is_found_by_name_id_and_file(ring: Keyring, tmp_path: Path) -> None:
    public = ring.create("ci", "ed25519")
    card = keys.generate("ecdsa-p256").public
    (tmp_path / "card.pem").write_bytes(card.pem())
    assert ring.find("ci") == ring.find(public.keyid) == public
    assert ring.find(str(tmp_path / "card.pem")) == card
    assert (ring.name_of(public.keyid), ring.name_of(card.keyid)) == ("ci", "")
    with pytest.raises(EdgedError, match="no key card"):
        ring.find("card")


def test_a_key_that_everybody_may_read_is_said(ring: Keyring, caplog: pytest.LogCaptureFixture) -> None:
    ring.create("ci", "ed25519")
    ring.unlock(ring.held()[0], never)
    assert caplog.messages == []
    (ring.folder / "ci.pem").chmod(0o644)
    ring.unlock(ring.held()[0], never)
    assert "everyone on this box can read it" in caplog.text


def test_where_only_the_public_half_is_another_signs(ring: Keyring) -> None:
    ring.create("ci", "ed25519")
    (ring.folder / "ci.pem").unlink()
    assert ring.held()[0].secret == ""


def test_halves_of_two_keys_are_noticed(ring: Keyring) -> None:
    ring.create("a", "ed25519")
    ring.create("b", "ed25519")
    (ring.folder / "a.pem").write_bytes((ring.folder / "b.pem").read_bytes())
    with pytest.raises(EdgedError, match="two different keys"):
        ring.unlock(ring.held()[0], never)


def test_a_file_that_is_no_key_is_named(ring: Keyring) -> None:
    ring.create("ci", "ed25519")
    (ring.folder / "old.pub.pem").write_text("what is this?")
    with pytest.raises(EdgedError, match=r"old\.pub\.pem: it is no public key"):
        ring.held()
    (ring.folder / "old.pub.pem").write_bytes(b"x" * 70_000)
    with pytest.raises(EdgedError, match="too large"):
        ring.held()


def test_a_folder_that_is_not_there_has_no_keys(ring: Keyring) -> None:
    assert ring.held() == ()
