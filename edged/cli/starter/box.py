"""What `edged init` looks at on the box: cores, memory, execution providers, and whether a broker answers here."""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from typing import Final

import msgspec

from edged.errors import EdgedError

_KNOCK_S: Final = 2.0


class Broker(msgspec.Struct, frozen=True):
    """What came of an attempt to connect. `there`: somebody listens; `refused`: why that one let nobody in, "" else."""

    url: str
    there: bool
    refused: str = ""
    version: str = ""


class Surroundings(msgspec.Struct, frozen=True):
    """`memory`: bytes of the whole box. `providers`: what onnxruntime was built for, in the configuration's words."""

    host: str
    cores: int
    memory: int
    onnxruntime: str
    providers: tuple[str, ...]
    broker: Broker


def look(url: str) -> Surroundings:
    """`url`: the broker that is tried. Raises Refusal for one that is no broker's address."""
    from edged.serving.cores import cores
    from edged.worker.providers.table import PROVIDERS
    from edged.worker.session import installed

    version, built = installed()
    return Surroundings(
        host=socket.gethostname(),
        cores=cores(),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        onnxruntime=version,
        providers=tuple(word for word, provider in PROVIDERS.items() if provider.name in built),
        broker=knock(url),
    )


def knock(url: str) -> Broker:
    """Connects to a broker, as anybody may, and goes again."""
    from edged.config.addresses import broker
    from edged.config.schema import Mqtt
    from edged.transports.mqtt.retained import Retained

    try:
        address = broker(url)
        socket.create_connection((address.host, address.port), timeout=_KNOCK_S).close()
    except OSError:
        return Broker(url, there=False)
    try:
        with Retained(Mqtt(url=(url,)), f"edged-init-{secrets.token_hex(4)}", lambda _heard: None) as connection:
            return Broker(url, there=True, version=connection.connect().version)
    except EdgedError as error:
        return Broker(url, there=True, refused=error.fault.message.removeprefix(f"{url}: "))


def hidden(file: Path) -> bool:
    """Whether the service, as its unit is shipped, cannot see this file: homes and /tmp are its own or empty."""
    return any(file.is_relative_to(folder) for folder in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108  named, not used
