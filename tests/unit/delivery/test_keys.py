"""Keys: ids, signatures, what is refused."""

from __future__ import annotations

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.delivery import keys
from edged.delivery.documents import Key
from edged.delivery.strict import Malformed
from edged.errors import EdgedError

ROOT = Path(__file__).resolve().parents[3]
SECRETS = {scheme: keys.generate(scheme) for scheme in keys.SCHEMES}
# RFC 8410, 10.1: a public key; its id is from `openssl pkey -pubin -outform DER | sha256sum`.
RFC_8410 = b"""-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
"""


@pytest.mark.parametrize("scheme", keys.SCHEMES)
def test_a_key_signs_and_its_public_half_verifies(scheme: keys.Scheme) -> None:
    secret = SECRETS[scheme]
    public = keys.public(secret.key)
    signature = secret.sign(b"message")
    assert public.keyid == secret.keyid
    assert public.scheme == scheme
    assert public.verify(signature, b"message")
    assert not public.verify(signature, b"massage")
    other = next(one for name, one in SECRETS.items() if name != scheme)
    assert not keys.public(other.key).verify(signature, b"message")


@pytest.mark.parametrize("scheme", keys.SCHEMES)
@given(junk=st.binary(max_size=100))
def test_any_bytes_as_a_signature_are_an_answer_not_an_error(scheme: keys.Scheme, junk: bytes) -> None:
    assert not SECRETS[scheme].public.verify(junk, b"message")


def test_an_id_is_the_hash_of_the_public_key() -> None:
    public = keys.load_public(RFC_8410)
    assert public.scheme == "ed25519"
    assert public.keyid == keys.keyid(public.key) == "a1e9156054e04fac"
    assert public.pem() == RFC_8410


@pytest.mark.parametrize("scheme", keys.SCHEMES)
@pytest.mark.parametrize("passphrase", [None, b"open sesame"])
def test_a_private_key_comes_back_from_its_pem(scheme: keys.Scheme, passphrase: bytes | None) -> None:
    secret = SECRETS[scheme]
    back = keys.load_private(secret.pem(passphrase), passphrase)
    assert back.keyid == secret.keyid
    assert secret.public.verify(back.sign(b"message"), b"message")


@pytest.mark.parametrize(
    ("passphrase", "given_passphrase", "says"),
    [(b"right", b"wrong", "passphrase"), (b"right", None, "Password"), (None, b"some", "Password")],
)
def test_a_passphrase_that_does_not_fit_is_said(
    passphrase: bytes | None, given_passphrase: bytes | None, says: str
) -> None:
    pem = SECRETS["ed25519"].pem(passphrase)
    with pytest.raises(EdgedError, match=says) as caught:
        keys.load_private(pem, given_passphrase)
    assert caught.value.fault.code == "bad_key"


def test_a_secret_is_not_printed() -> None:
    assert repr(SECRETS["ed25519"]) == f"PrivateKey({SECRETS['ed25519'].keyid})"


@given(junk=st.binary(max_size=200))
def test_any_bytes_as_a_pem_are_a_key_or_bad_key(junk: bytes) -> None:
    for load in (keys.load_private, keys.load_public):
        with pytest.raises(EdgedError) as caught:
            load(junk)
        assert caught.value.fault.code == "bad_key"


@given(der=st.binary(max_size=120))
def test_any_der_is_a_key_or_malformed(der: bytes) -> None:
    with pytest.raises(Malformed):
        keys.public(Key("ed25519", base64.b64encode(der).decode()))


def openssl(*arguments: str) -> bytes:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=True).stdout


@pytest.mark.parametrize("kind", ["rsa", "ec:P-384", "x25519"])
def test_a_key_of_another_kind_is_refused(kind: str) -> None:
    name, _, curve = kind.partition(":")
    options = ["-pkeyopt", f"ec_paramgen_curve:{curve}"] if curve else []
    pem = openssl("genpkey", "-algorithm", name, *options)
    with pytest.raises(EdgedError, match="Ed25519"):
        keys.load_private(pem)


def test_one_key_has_one_id_however_its_point_is_written(tmp_path: Path) -> None:
    """A compressed point is the same key with another hash: it would count twice."""
    path = tmp_path / "key.pem"
    path.write_bytes(SECRETS["ecdsa-p256"].pem())
    usual = openssl("pkey", "-in", str(path), "-pubout", "-outform", "DER")
    short = openssl("ec", "-in", str(path), "-pubout", "-conv_form", "compressed", "-outform", "DER")
    assert keys.public(Key("ecdsa-p256", base64.b64encode(usual).decode())).keyid == SECRETS["ecdsa-p256"].keyid
    assert short != usual
    with pytest.raises(Malformed, match="one way"):
        keys.public(Key("ecdsa-p256", base64.b64encode(short).decode()))


def test_the_scheme_is_part_of_the_key() -> None:
    with pytest.raises(Malformed, match="scheme"):
        keys.public(Key("ecdsa-p256", SECRETS["ed25519"].key.public))


def test_cryptography_is_loaded_at_the_first_signature_and_not_before() -> None:
    code = (
        "import sys, edged.daemon, edged.delivery.trust, edged.delivery.want, edged.delivery.manifest; "
        "sys.exit('cryptography' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
