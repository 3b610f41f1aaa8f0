"""Programs that sign, with the real openssl as one, and who is chosen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edged.delivery import documents, envelope, keys, trust
from edged.delivery.documents import Role
from edged.delivery.envelope import Envelope
from edged.errors import EdgedError
from edged.fleet.keyring import Keyring, public_of
from edged.fleet.signers import Program, Signer, choose, missing, signed
from tests.signing import release_of, trust_of

RELEASE = Envelope("release", documents.encode(release_of({"model.onnx": b"model"})))


def openssl(*words: str | Path) -> bytes:
    return subprocess.run(["openssl", *map(str, words)], capture_output=True, check=True).stdout


@pytest.fixture
def card(tmp_path: Path) -> tuple[Path, Path]:
    """A P-256 key that openssl made: private and public PEM."""
    private, public = tmp_path / "card.pem", tmp_path / "card.pub.pem"
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", public)
    return private, public


def release_signed_by(signer: Signer, public: keys.PublicKey) -> trust.Signed[documents.Release]:
    """What a box makes of it."""
    root = keys.generate()
    document = trust_of([root], [root], [root])
    document = documents.Trust(
        1,
        {**document.keys, public.keyid: public.key},
        documents.Roles(document.roles.root, Role((public.keyid,)), document.roles.deploy),
    )
    return trust.release(document, signed(RELEASE, [signer]).encode())


@pytest.mark.parametrize("more", ["", " | base64", " | base64 -w0"])
def test_openssl_signs_with_p256(card: tuple[Path, Path], more: str) -> None:
    private, path = card
    public = public_of(path)
    command = f"openssl dgst -sha256 -sign {private}"
    signer = Program(f"sh -c '{command}{more}'" if more else command, public)
    assert release_signed_by(signer, public).signers == (public.keyid,)


def test_openssl_signs_with_ed25519_from_a_file(tmp_path: Path) -> None:
    """OpenSSL 3.0 signs with Ed25519 in one go, from a file whose size it can ask: not from a pipe."""
    private, path = tmp_path / "key.pem", tmp_path / "key.pub.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", private)
    openssl("pkey", "-in", private, "-pubout", "-out", path)
    public = public_of(path)
    signer = Program(f"openssl pkeyutl -sign -inkey {private} -rawin -in {{}}", public)
    assert release_signed_by(signer, public).signers == (public.keyid,)


def test_openssl_reads_the_keys_that_we_make_and_verifies_what_we_sign(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    for scheme in keys.SCHEMES:
        ring.create(scheme, scheme)
    (tmp_path / "message").write_bytes(RELEASE.signed)
    for one in ring.held():
        (tmp_path / "signature").write_bytes(ring.unlock(one, lambda _: b"").sign(RELEASE.signed))
        raw = ["-rawin"] if one.name == "ed25519" else ["-rawin", "-digest", "sha256"]
        key, message, signature = (tmp_path / name for name in (f"{one.name}.pub.pem", "message", "signature"))
        assert b"Success" in openssl(
            "pkeyutl", "-verify", "-pubin", "-inkey", key, *raw, "-in", message, "-sigfile", signature
        )


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("true", "ended with 0, 0 bytes"),
        ("false", "ended with 1"),
        ("cat", "no signature of the key"),
        ("head -c 99999 /dev/zero", "99999 bytes"),
        ("/no/such/program", "No such file"),
        ("", "names no program"),
        ("'", "No closing quotation"),
    ],
)
def test_a_program_that_does_not_sign_is_told_apart(card: tuple[Path, Path], command: str, says: str) -> None:
    with pytest.raises(EdgedError, match=says) as caught:
        Program(command, public_of(card[1])).sign(b"message")
    assert caught.value.fault.code == "bad_key"


def test_a_signature_of_another_key_is_never_put_in(card: tuple[Path, Path], tmp_path: Path) -> None:
    Keyring(tmp_path / "keys").create("other", "ecdsa-p256")
    command = f"openssl dgst -sha256 -sign {tmp_path}/keys/other.pem"
    with pytest.raises(EdgedError, match="no signature of the key"):
        Program(command, public_of(card[1])).sign(b"message")


def test_a_program_that_never_ends_is_given_up(card: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edged.fleet.signers._PATIENCE_S", 0.05)
    with pytest.raises(EdgedError, match="no answer"):
        Program(f"{sys.executable} -c 'import time; time.sleep(60)'", public_of(card[1])).sign(b"message")


def test_who_signs(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    a, b, far = (ring.create(name, "ed25519").keyid for name in ("a", "b", "far"))
    (tmp_path / "far.pem").unlink()

    def chosen(keyids: list[str], **options: Any) -> set[str]:
        return {one.keyid for one in choose(ring, keyids, "the role release", lambda _: b"", **options)}

    assert chosen([a, far]) == {a}
    assert chosen([a, b]) == {a, b}
    assert chosen([a, b], key="b") == {b}
    assert chosen([], key="b") == {b}
    assert chosen([far], key="far", command="true") == {far}
    for keyids, options, says in (
        ([far], {}, "no private key of the role release"),
        ([a], {"key": "b"}, "none of the role release"),
        ([a], {"command": "true"}, "--sign-with needs --key"),
        ([far], {"key": "far"}, "no private key"),
    ):
        with pytest.raises(EdgedError, match=says):
            chosen(keyids, **options)
    assert choose(ring, [far], "the role root", lambda _: b"", needed=False) == ()


def test_no_document_gets_more_signatures_than_a_box_reads() -> None:
    full = signed(RELEASE, [keys.generate() for _ in range(16)])
    assert len(envelope.decode(full.encode(), "release").signatures) == 16
    with pytest.raises(EdgedError, match="at most 16"):
        signed(full, [keys.generate()])


def test_signatures_are_counted_towards_the_threshold() -> None:
    a, b = keys.generate(), keys.generate()
    document = trust_of([a], [a, b], [a])
    document = documents.Trust(
        1,
        document.keys,
        documents.Roles(document.roles.root, Role((a.keyid, b.keyid), 2), document.roles.deploy),
    )
    once = signed(RELEASE, [a])
    assert missing(RELEASE, document, "release") == 2
    assert missing(once, document, "release") == 1
    assert missing(signed(once, [a]), document, "release") == 1
    assert missing(signed(once, [b]), document, "release") == 0
    assert len(envelope.decode(signed(signed(once, [a]), [b]).encode(), "release").signatures) == 2
