"""config.addresses: the broker's URL and loopback addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.addresses import Broker, Place, broker, fast, place
from edged.config.mistakes import Refusal


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://b", Broker("b", 1883, tls=False)),
        ("mqtts://broker.plant", Broker("broker.plant", 8883, tls=True)),
        ("mqtt://10.0.0.1:1884/", Broker("10.0.0.1", 1884, tls=False)),
        ("mqtts://[fe80::1]:8884", Broker("fe80::1", 8884, tls=True)),
        ("ws://b", Broker("b", 80, tls=False, path="/mqtt")),
        ("ws://b/", Broker("b", 80, tls=False, path="/")),
        ("wss://b:8084/ws/mqtt", Broker("b", 8084, tls=True, path="/ws/mqtt")),
        ("wss://[fe80::1]", Broker("fe80::1", 443, tls=True, path="/mqtt")),
    ],
)
def test_a_brokers_url(url: str, expected: Broker) -> None:
    assert broker(url) == expected
    assert broker(expected.url) == expected


@pytest.mark.parametrize(
    ("url", "reason", "hint"),
    [
        ("broker.plant", "expected mqtt://host", "did you mean mqtt://broker.plant?"),
        ("broker.plant:1883", "expected mqtt://host", "did you mean mqtt://broker.plant:1883?"),
        ("tcp://b:1883", "no address of a broker", "did you mean mqtt://b:1883?"),
        ("ssl://b", "no address of a broker", "did you mean mqtts://b?"),
        ("http://b/mqtt", "no address of a broker", "did you mean ws://b/mqtt?"),
        ("ws://", "host is missing", "such as ws://broker.plant"),
        ("ws://b/mqtt?x=1", "ends after the path", "did you mean ws://b?"),
        ("ws://b/m\u00fcll", "printable ASCII", "others are written as %C3%BC"),
        ("mqtt://", "host is missing", "such as mqtt://broker.plant"),
        ("mqtt://u:p@b", "no user and password", "they have keys of their own: username, password_file"),
        ("mqtt://b/topic", "ends after the port", "did you mean mqtt://b?"),
        ("mqtt://b?x=1", "ends after the port", "did you mean mqtt://b?"),
        ("mqtt://b:0", "a port is 1 to 65535", ""),
        ("mqtt://b:x", "expected mqtt://host:port", None),
        ("mqtt://b:99999", "expected mqtt://host:port", None),
        ("mqtt://[b", "expected mqtt://host:port", None),
        ("mqtt://a b", "no space", ""),
    ],
)
def test_no_brokers_url(url: str, reason: str, hint: str | None) -> None:
    with pytest.raises(Refusal, match=reason) as found:
        broker(url)
    assert hint is None or found.value.hint == hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8080", Place("127.0.0.1", 8080)),
        ("127.8.9.10:1", Place("127.8.9.10", 1)),
        ("localhost:65535", Place("localhost", 65535)),
        ("[::1]:8080", Place("::1", 8080)),
        ("unix:/run/x", Place(path="/run/x")),
    ],
)
def test_a_place_for_this_box_alone(text: str, expected: Place) -> None:
    assert place(text) == expected
    assert expected.local


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::]:80", "192.168.1.2:80", "box:80", "box.plant:8080"])
def test_a_place_that_others_can_reach(text: str) -> None:
    assert not place(text).local


@pytest.mark.parametrize(
    "text",
    [
        *("127.0.0.1", "127.0.0.1:", ":80", "127.0.0.1:0", "*:80", "unix:run/x", "unix:", "/run/x", "a b:1"),
        *("127.0.0.1:65536", "127.0.0.1:8080/x", "http://127.0.0.1:80", "::1:80", "", f"unix:/{'x' * 107}"),
    ],
)
def test_no_place(text: str) -> None:
    with pytest.raises(Refusal):
        place(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("8080", "did you mean 127.0.0.1:8080?"),
        ("/run/x", "did you mean unix:/run/x?"),
        ("*:80", "every one of this box is 0.0.0.0:80, and with IPv6 [::]:80"),
        ("localhost", "the port is missing, such as localhost:8080"),
        ("[::1]", "the port is missing, such as [::1]:8080"),
        ("run/x.sock", "a path begins at the root, such as unix:/run/edged/x.sock"),
    ],
)
def test_what_was_meant_by_no_place(text: str, hint: str) -> None:
    with pytest.raises(Refusal) as found:
        place(text)
    assert found.value.hint == hint


@pytest.mark.parametrize(("text", "name"), [("run/f.sock", "f"), ("./f.sock", "f"), ("../x/y", "y")])
def test_the_fast_lanes_path_begins_at_the_root(text: str, name: str) -> None:
    with pytest.raises(Refusal, match="a path begins at the root") as found:
        fast(text)
    assert found.value.hint.startswith(f"such as /run/edged/{name}")


@given(st.text() | st.from_regex(r"mqtts?://.*") | st.from_regex(r"\[?[0-9a-f.:]*\]?:[0-9]*"))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    for read in (broker, place):
        try:
            read(text)
        except Refusal as refusal:
            assert str(refusal)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("mqtt://broker", "mqtt://broker:1883"),
        ("mqtts://broker.plant", "mqtts://broker.plant:8883"),
        ("mqtt://[::1]:2000", "mqtt://[::1]:2000"),
    ],
)
def test_a_brokers_address_as_it_is_shown(url: str, shown: str) -> None:
    assert broker(url).url == shown
