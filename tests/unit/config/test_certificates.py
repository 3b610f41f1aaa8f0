"""mqtt.ca, cert and key: where they are found, and what is wrong with one in words."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import pytest

from edged.config.certificates import context
from edged.config.mistakes import Refusal
from tests.certificates import Authority
from tests.unit.config.folder import Folder

TEXT = "mqtt:\n  url: mqtts://b\n  ca: ca.crt\n  cert: box.crt\n  key: box.key\n"


@pytest.fixture
def authority(folder: Folder) -> Authority:
    made = Authority(folder.path)
    made.issue("box")
    return made


@pytest.mark.usefixtures("authority")
def test_the_three_files_are_found_and_loaded(folder: Folder) -> None:
    found = folder.load(TEXT).mqtt
    assert found is not None
    assert (found.ca, found.cert, found.key) == tuple(
        str(folder.path / name) for name in ("ca.crt", "box.crt", "box.key")
    )
    assert context(found.ca, found.cert, found.key).cert_store_stats()["x509_ca"] == 1


def test_certificate_and_key_may_be_one_file(folder: Folder, authority: Authority) -> None:
    certificate, key = authority.issue("one")
    both = folder.write(certificate.read_bytes() + key.read_bytes(), "both.pem")
    both.chmod(0o600)
    assert folder.load("mqtt: {url: mqtts://b, cert: both.pem}\n").mqtt is not None
    assert context("", str(both), "").verify_mode is ssl.CERT_REQUIRED


def test_systemds_credentials_come_first(folder: Folder) -> None:
    credentials = folder.path / "credentials"
    credentials.mkdir()
    Authority(credentials).issue("box")
    folder.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
    found = folder.load(TEXT).mqtt
    assert found is not None
    assert (found.ca, found.key) == (str(credentials / "ca.crt"), str(credentials / "box.key"))


def broken(folder: Folder, authority: Authority, how: str) -> None:
    key = folder.path / "box.key"
    match how:
        case "absent":
            key.unlink()
        case "empty":
            key.write_text("")
        case "text":
            key.write_text("no key")
        case "another's":
            key.write_bytes(authority.issue("other")[1].read_bytes())
        case "locked":
            authority.issue("box", passphrase="open sesame")  # noqa: S106  of a key that lives for this test


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("absent", "{key} does not exist"),
        ("empty", "{key} is empty"),
        ("text", "{key} holds no key (expected -----BEGIN PRIVATE KEY-----)"),
        ("another's", "{key} is not the key to the certificate in {cert}"),
        ("locked", "{key} has a passphrase (`openssl pkey -in {key} -out FILE` takes it off)"),
    ],
)
def test_a_key_that_does_not_do(folder: Folder, authority: Authority, how: str, expected: str) -> None:
    """Refused when the configuration is read, and, where it was changed since, with the same words at a connection."""
    cert, key = str(folder.path / "box.crt"), str(folder.path / "box.key")
    broken(folder, authority, how)
    assert folder.mistake(TEXT) == "5: mqtt.key: " + expected.format(key=key, cert=cert)
    with pytest.raises(Refusal) as refused:
        context("", cert, key)
    assert expected.format(key=key, cert=cert).startswith(str(refused.value))


@pytest.mark.usefixtures("authority")
@pytest.mark.parametrize(("name", "line"), [("ca", 3), ("cert", 4)])
def test_a_file_without_certificates(folder: Folder, name: str, line: int) -> None:
    file = folder.path / ("ca.crt" if name == "ca" else "box.crt")
    file.write_text("-----BEGIN CERTIFICATE-----\n")
    expected = f"{line}: mqtt.{name}: {file} holds no certificate (expected -----BEGIN CERTIFICATE-----)"
    assert folder.mistake(TEXT) == expected
    file.unlink()
    assert folder.mistake(TEXT) == f"{line}: mqtt.{name}: {file} does not exist"


@pytest.mark.usefixtures("authority")
def test_what_does_not_go_together(folder: Folder) -> None:
    assert folder.mistake("mqtt:\n  url: mqtts://b\n  key: box.key\n") == (
        "3: mqtt.key: there is no certificate for it (add mqtt.cert)"
    )
    plain = folder.mistakes(TEXT.replace("mqtts:", "mqtt:"))
    assert plain == [
        f"{line}: mqtt.{name}: has no use without TLS (did you mean mqtts:// or wss:// in mqtt.url?)"
        for line, name in ((3, "ca"), (4, "cert"), (5, "key"))
    ]


def test_a_key_that_everyone_can_read_is_a_warning(
    folder: Folder, authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    key: Path = authority.folder / "box.key"
    key.chmod(0o604)
    with caplog.at_level(logging.WARNING):
        folder.load(TEXT)
    assert f"{key}: everyone on this box can read it" in caplog.text
