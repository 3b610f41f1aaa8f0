"""Where to dial, and what a failed attempt tells a person."""

from __future__ import annotations

import socket
import ssl

import pytest

from edged.transports.mqtt.dialer import Broker, explain


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", Broker("broker", 1883, False, "mqtt://broker:1883")),
        ("mqtts://broker.plant", Broker("broker.plant", 8883, True, "mqtts://broker.plant:8883")),
        ("mqtt://[::1]:2000", Broker("::1", 2000, False, "mqtt://[::1]:2000")),
        ("mqtt://user:secret@broker:1", Broker("broker", 1, False, "mqtt://broker:1")),
    ],
)
def test_url(url: str, expected: Broker) -> None:
    assert Broker.parse(url) == expected


@pytest.mark.parametrize("url", ["http://x", "mqtt://", "broker:1883", "mqtt://x:99999"])
def test_url_that_is_none(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|Port"):
        Broker.parse(url)


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ssl.SSLCertVerificationError("no"), "mqtt.ca"),
        (ssl.SSLError(1, "wrong version number"), "TLS port"),
        (FileNotFoundError(2, "No such file"), "mqtt.ca"),
        (socket.gaierror(-2, "unknown"), "host"),
        (TimeoutError(), "within 5 s"),
        (ConnectionRefusedError(111, "refused"), "running"),
        (OSError(101, "Network is unreachable"), "unreachable"),
    ],
)
def test_explanations(error: OSError, word: str) -> None:
    assert word in explain(error, Broker.parse("mqtts://b"))
