"""TLS from files: whom this box trusts, who it is, and what is wrong with a file in words.

The same functions check the files when the configuration is read, and read them again at each connection,
so that a certificate that was renewed is taken up without a restart. All files are PEM.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from edged.config import files
from edged.config.mistakes import Refusal


def context(ca: str, cert: str, key: str) -> ssl.SSLContext:
    """What a connection is made with; "" = the system's authorities, no certificate of our own. Raises Refusal."""
    if ca:
        check_certificates(Path(ca))
    made = ssl.create_default_context(cafile=ca or None)
    if cert:
        _identify(made, Path(cert), Path(key or cert))
    return made


def server_context(cert: str, key: str, client_ca: str, protocol: str = "http/1.1") -> ssl.SSLContext:
    """What connections are taken with; "" = the key is in `cert`, clients need no certificate. Raises Refusal.

    `protocol`: what is spoken inside, in ALPN's words.
    """
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if client_ca:
        check_certificates(Path(client_ca))
        made.load_verify_locations(client_ca)
        made.verify_mode = ssl.CERT_REQUIRED
    _identify(made, Path(cert), Path(key or cert))
    made.set_alpn_protocols([protocol])
    return made


def check_certificates(path: Path) -> None:
    """Raises Refusal unless there are certificates in `path`."""
    files.readable(path)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError as error:
        raise Refusal(f"{path} holds no certificate", "expected -----BEGIN CERTIFICATE-----") from error


def check_key(cert: Path, key: Path) -> None:
    """Raises Refusal unless `key` has no passphrase and belongs to the certificate in `cert`."""
    _identify(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert, key)
    files.warn_if_open(key)


def _identify(made: ssl.SSLContext, cert: Path, key: Path) -> None:
    def refuse() -> str:
        # Without this OpenSSL would ask on the terminal, and wait.
        raise Refusal(f"{key} has a passphrase", f"`openssl pkey -in {key} -out FILE` takes it off")

    for path in (cert, key):
        files.readable(path)
    try:
        made.load_cert_chain(cert, key, refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Refusal(f"{key} is not the key to the certificate in {cert}") from error
        raise Refusal(f"{key} holds no key", "expected -----BEGIN PRIVATE KEY-----") from error
