"""Where to dial, and what a failed attempt tells a person."""

from __future__ import annotations

import socket
import ssl

import pytest

from edged.config.addresses import broker
from edged.config.mistakes import Refusal
from edged.transports.mqtt.dialer import explain


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ssl.SSLCertVerificationError("no"), "mqtt.ca"),
        (ssl.SSLError(1, "wrong version number"), "TLS port"),
        (Refusal("key has a passphrase", "take it off"), "(take it off)"),
        (socket.gaierror(-2, "unknown"), "host"),
        (TimeoutError(), "within 5 s"),
        (ConnectionRefusedError(111, "refused"), "running"),
        (OSError(101, "Network is unreachable"), "unreachable"),
    ],
)
def test_explanations(error: OSError | ValueError, word: str) -> None:
    assert word in explain(error, broker("mqtts://b"))
