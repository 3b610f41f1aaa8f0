"""Where things listen, from what people write: the broker's URL, and the places that edged itself listens at."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from edged.config import checks
from edged.config.mistakes import Refusal

_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
_OTHER_NAMES: Final = {"tcp": "mqtt", "ssl": "mqtts", "tls": "mqtts", "http": "ws", "https": "wss"}
_RELATIVE: Final = re.compile(r"[^:\s/][^:\s]*/[^:\s/]+")  # a path that begins somewhere
_WS_PATH: Final = "/mqtt"  # what Mosquitto, aedes, ejabberd and EMQX take; RabbitMQ has /ws


class Broker(msgspec.Struct, frozen=True):
    """A broker's address; `tls` when its certificate is to be checked, `path` when MQTT goes through a WebSocket."""

    host: str
    port: int
    tls: bool
    path: str = ""

    @property
    def url(self) -> str:
        """As people are shown it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'ws' if self.path else 'mqtt'}{'s' if self.tls else ''}://{host}:{self.port}{self.path}"


def broker(url: str) -> Broker:
    """The parts of `mqtt://host[:1883]`, `mqtts://host[:8883]`, `ws://host[:80][/path]` or `wss://host[:443][/path]`.

    Raises Refusal with the reason.
    """
    if re.search(r"\s", url):
        raise Refusal("an address has no space in it")
    scheme, separator, _ = url.partition("://")
    if not separator:
        raise Refusal("expected mqtt://host or mqtts://host", f"did you mean mqtt://{url}?")
    if scheme not in _PORTS:
        meant = _OTHER_NAMES.get(scheme, "mqtt")
        raise Refusal(f"{scheme}:// is no address of a broker", f"did you mean {url.replace(scheme, meant, 1)}?")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise Refusal(f"expected {scheme}://host:port", str(error)) from error
    if not host:
        raise Refusal("the broker's host is missing", f"such as {scheme}://broker.plant")
    if parts.username is not None or parts.password is not None:
        raise Refusal("an address holds no user and password", "they have keys of their own: username, password_file")
    webby = scheme in ("ws", "wss")
    if parts.query or parts.fragment or (parts.path.strip("/") and not webby):
        end = "path" if webby else "port"
        raise Refusal(f"an address ends after the {end}", f"did you mean {scheme}://{parts.netloc}?")
    if not parts.path.isascii() or not parts.path.isprintable():
        raise Refusal("a path has printable ASCII characters alone", "others are written as %C3%BC")
    if port is not None and not 1 <= port <= 65535:
        raise Refusal("a port is 1 to 65535")
    path = (parts.path or _WS_PATH) if webby else ""
    return Broker(host, port or _PORTS[scheme], tls=scheme in ("mqtts", "wss"), path=path)


class Place(msgspec.Struct, frozen=True):
    """Where a listener stands: `path` of a UNIX socket, else `host` and `port`. `local`: for this box alone."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def local(self) -> bool:
        return bool(self.path) or _is_loopback(self.host)


def place(text: str) -> Place:
    """The parts of `host:port`, `[::1]:port` or `unix:/path`. Raises Refusal with the reason."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        checks.socket_path(path)
        return Place(path=path)
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:/\s\[\]]+):([0-9]{1,5})", text)
    if found is None:
        meant = f"127.0.0.1:{text.strip(':')}" if re.fullmatch(r":?[0-9]{2,5}", text) else ""
        meant = f"unix:{text}" if text.startswith("/") else meant
        hint = f"did you mean {meant}?" if meant else "such as 127.0.0.1:8080"
        if re.fullmatch(r"localhost|(\d+\.){3}\d+|\[[0-9A-Fa-f:.]+\]", text):
            hint = f"the port is missing, such as {text}:8080"
        elif _RELATIVE.fullmatch(text):
            hint = f"a path begins at the root, such as unix:/run/edged/{text.rpartition('/')[2]}"
        raise Refusal("expected host:port or unix:/path", hint)
    host, port = found[1].strip("[]"), int(found[2])
    if not 1 <= port <= 65535:
        raise Refusal("a port is 1 to 65535")
    if host == "*":
        raise Refusal("* is no address", f"every one of this box is 0.0.0.0:{port}, and with IPv6 [::]:{port}")
    return Place(host, port)


def fast(text: str) -> Place:
    """The same for the fast lane, which has neither token nor TLS: a path with or without `unix:`, or loopback."""
    if text.startswith("/"):
        text = f"unix:{text}"
    elif _RELATIVE.fullmatch(text):
        raise Refusal("a path begins at the root", f"such as /run/edged/{text.rpartition('/')[2]}")
    found = place(text)
    if not found.local:
        raise Refusal(
            f"{found.host} is not this box alone, and the fast lane has neither a token nor TLS",
            f"did you mean 127.0.0.1:{found.port}? For others there are sockets.http and sockets.grpc",
        )
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
