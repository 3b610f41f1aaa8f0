"""`edged push --simple`: sends a model file to one box over the broker and waits for its verdict."""

from __future__ import annotations

import argparse
import hashlib
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edged.cli import brokers, named
from edged.cli.words import left
from edged.errors import EdgedError
from edged.topics import RESERVED_DEVICES, Tree, is_name

if TYPE_CHECKING:
    from edged.config.schema import Mqtt

_SILENT_S: Final = 30.0  # after this without a word from the box the person is told


class Fate(msgspec.Struct, frozen=True):
    """What the box says of a push, as far as it is shown here."""

    phase: str
    verdict: str | None = None
    code: str | None = None
    message: str = ""
    hint: str = ""
    push: dict[str, str] = {}
    bytes: int = 0
    active: dict[str, str] | None = None
    probation: dict[str, float] | None = None
    flags: tuple[str, ...] = ()


def push(args: argparse.Namespace, wait_s: float) -> int:
    """0 when the model is live on the box, 1 when it was refused or gone back from."""
    if args.version is not None and args.version < 1:
        raise EdgedError("bad_config", f"--version {args.version}: a whole number from 1 on", "")
    settings = brokers.local(args)
    tree = Tree(args.base or settings.base, _device(args.to))
    if not is_name(args.model):
        raise EdgedError("bad_config", f"--model {args.model}: letters, digits, - and _", "")
    return _Push(settings, tree, args.model, named.content(Path(args.what)), args.version).run(wait_s)


class _Push:
    def __init__(self, settings: Mqtt, tree: Tree, model: str, payload: bytes, version: int | None) -> None:
        from edged.transports.mqtt.publisher import Publisher

        self._tree = tree
        self._model = model
        self._payload = payload
        self._version = version
        self._sha256 = hashlib.sha256(payload).hexdigest()
        self._presence = ""
        self._sent = False
        self._fate: Fate | None = None
        self._said = ""
        self._away = ""
        # Two with one client id would evict each other; process ids are the same in every container.
        self._publisher = Publisher(settings, f"edged-push-{secrets.token_hex(4)}", self._take)

    def run(self, wait_s: float) -> int:
        with self._publisher as publisher:
            hello = publisher.connect([self._tree.status, self._tree.install(self._model)])
            if self._presence != "online":
                raise EdgedError(
                    "no_daemon",
                    f"{self._tree.device} is {self._presence or 'not known to this broker'}",
                    "A simple push reaches a box only while it is online, and one with push.mqtt over that broker.",
                )
            if self._version is not None and hello.version != "5":
                print("the broker speaks MQTT 3.1.1, which carries no version: the box counts on", file=sys.stderr)
            user = [("version", str(self._version))] if self._version is not None else []
            self._sent = True
            publisher.publish(self._tree.push(self._model), self._payload, user)
            print(f"{self._model}: the broker has {len(self._payload)} bytes for {self._tree.device}", flush=True)
            return self._wait(wait_s) if wait_s > 0 else 0

    def _wait(self, wait_s: float) -> int:
        began_s = time.monotonic()
        warned = False
        while self._fate is None or self._fate.verdict is None:
            waited_s = time.monotonic() - began_s
            if waited_s > wait_s:
                raise EdgedError("timeout", f"no verdict within {wait_s:g} s", "`edged status` on the box says more.")
            if self._fate is None and waited_s > _SILENT_S and not warned:
                warned = True
                print(f"{self._model}: no word from {self._tree.device} yet", file=sys.stderr)
            if not self._publisher.turn():
                self._again()
        return self._verdict(self._fate)

    def _again(self) -> None:
        """The connection was lost while waiting: the retained status says what happened meanwhile."""
        self._publisher.close()
        time.sleep(1)
        try:
            self._publisher.connect([self._tree.status, self._tree.install(self._model)])
            self._away = ""
        except EdgedError as error:
            self._publisher.close()  # it may be up and deaf: then the next turn would wait for nothing
            if error.fault.message != self._away:  # once, however long it takes
                print(f"{error.fault.message}; trying again", file=sys.stderr)
            self._away = error.fault.message

    def _take(self, topic: str, payload: bytes, retained: bool) -> None:  # noqa: FBT001  a callback
        if topic == self._tree.status:
            self._presence = payload.decode(errors="replace")
            return
        if not self._sent:
            return  # what the box said of earlier pushes
        try:
            fate = msgspec.json.decode(payload, type=Fate)
        except msgspec.MsgspecError:
            return
        if self._is_ours(fate, retained=retained):
            self._fate = fate
            self._say(fate)

    def _is_ours(self, fate: Fate, *, retained: bool) -> bool:
        """A file that was refused unread has no hash, but a size, and none where it was refused before it was there.

        So has a signed document that somebody else has sent meanwhile.
        """
        if about := fate.push.get("sha256", ""):
            return about == self._sha256
        return fate.verdict == "rejected" and not retained and fate.bytes in (0, len(self._payload))

    def _say(self, fate: Fate) -> None:
        figures = fate.probation or {}
        text = fate.phase
        if fate.phase == "probation" and "runs" in figures:
            wanted = f" of {figures['runs_wanted']:.0f}" if "runs_wanted" in figures else ""
            text += f", {figures['runs']:.0f}{wanted} runs, {left(figures.get('left_s', 0), figures.get('most_s'))}"
        if text != self._said and fate.verdict is None:
            self._said = text
            print(f"{self._model}: {text}", flush=True)

    def _verdict(self, fate: Fate) -> int:
        flags = f" ({', '.join(fate.flags)})" if fate.flags else ""
        if fate.verdict == "active":
            version = (fate.active or {}).get("version", "")
            print(f"{self._model}: version {version} is live on {self._tree.device}{flags}")
            return 0
        print(f"{self._model}: {fate.verdict}: {fate.message} [{fate.code}]{flags}")
        if fate.hint:
            print(f"  {fate.hint}")
        return 1


def _device(to: str) -> str:
    kind, _, name = to.partition(":")
    if kind != "device" or not is_name(name) or name in RESERVED_DEVICES:
        raise EdgedError("bad_config", f"--to {to}: a simple push goes to one box", "For example --to device:press-07.")
    return name
