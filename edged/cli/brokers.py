"""Which broker a command means: the one on its command line, this box's own, or the fleet's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edged.cli import named
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.config.schema import Mqtt
    from edged.fleet.config import Fleet

_LOCAL: Final = "mqtt://127.0.0.1:1883"


def arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("broker")
    group.add_argument(
        "--broker", metavar="URL", help="default: fleet.yaml's; for --simple this box's own, else " + _LOCAL
    )
    group.add_argument("--config", metavar="FILE", help="with --simple: the configuration whose broker is meant")
    group.add_argument("--username", metavar="NAME")
    group.add_argument("--password-file", metavar="FILE", help="its first line is the password")
    group.add_argument("--ca", metavar="FILE", help="the authority that signed the broker's certificate")
    group.add_argument("--base", metavar="TOPIC", help="the first level of edged's topics (default: edged)")


def local(args: argparse.Namespace) -> Mqtt:
    """The broker that was named, else this box's own one."""
    from edged.config.schema import Mqtt

    return _with(args, _named(args) or _configured(args.config) or Mqtt((_LOCAL,)))


def of_fleet(args: argparse.Namespace, fleet: Fleet) -> Mqtt:
    """The broker that was named, else fleet.yaml's. Raises EdgedError `bad_config` where there is none."""
    return _with(args, _named(args) or fleet.broker())


def _named(args: argparse.Namespace) -> Mqtt | None:
    from urllib.parse import unquote

    from edged.config import addresses
    from edged.config.mistakes import Refusal
    from edged.config.schema import Mqtt

    if not args.broker:
        return None
    scheme, separator, rest = args.broker.partition("://")
    user, _, where = rest.rpartition("@")
    name, _, password = user.partition(":")
    url = f"{scheme}{separator}{where}"
    try:
        addresses.broker(url)
    except Refusal as error:
        raise EdgedError("bad_config", f"--broker {url}: {error}", error.hint) from error
    return Mqtt((url,), username=unquote(name), password=unquote(password))


def _with(args: argparse.Namespace, settings: Mqtt) -> Mqtt:
    """What the command line says beside it."""
    password = settings.password
    if args.password_file:
        password = _first_line(args.password_file)
    return msgspec.structs.replace(
        settings,
        username=args.username or settings.username,
        password=password,
        ca=args.ca or settings.ca,
        base=args.base or settings.base,
        keepalive=type(settings.keepalive)(30),
    )


def _first_line(file: str) -> str:
    return named.content(Path(file)).decode(errors="replace").partition("\n")[0].rstrip("\r")


def _configured(file: str | None) -> Mqtt | None:
    from edged.config.load import find, load
    from edged.config.mistakes import ConfigErrors

    try:
        config = load(find(file))
    except ConfigErrors:
        if file:
            raise
        return None  # there is none here: an operator's own machine
    return config.push.mqtt or config.mqtt
