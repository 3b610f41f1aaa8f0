"""A certificate authority for tests: what a TLS broker and its clients need, in files, valid for two days.

authority = Authority(folder)             # folder/ca.crt
authority.issue("localhost", server=True) # folder/localhost.crt, folder/localhost.key
authority.issue("press-07", passphrase="x")
"""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM: Final = serialization.Encoding.PEM


class Authority:
    """Writes its own certificate to `ca`, and what it issues beside it."""

    def __init__(self, folder: Path, name: str = "edged tests") -> None:
        self.folder = folder
        self.ca = folder / "ca.crt"
        self._name = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        root = self._builder(name, self._key.public_key())
        root = root.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self.ca.write_bytes(root.sign(self._key, hashes.SHA256()).public_bytes(_PEM))

    def issue(self, name: str, *, server: bool = False, passphrase: str = "") -> tuple[Path, Path]:
        """The files of a certificate and of its key; a server's is for localhost and 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = self._builder(name, key.public_key())
        if server:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            made = made.add_extension(x509.SubjectAlternativeName(names), critical=False)
        lock: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if passphrase:
            lock = serialization.BestAvailableEncryption(passphrase.encode())
        certificate, secret = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(_PEM))
        secret.touch(0o600)
        secret.write_bytes(key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, lock))
        return certificate, secret

    def _builder(self, subject: str, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]) for text in (subject, self._name)]
        return (
            x509.CertificateBuilder()
            .subject_name(names[0])
            .issuer_name(names[1])
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )
