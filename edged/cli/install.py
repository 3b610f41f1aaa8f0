"""`edged install`: a release from a folder onto this box, without a broker; or the word to one that waits for it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edged.cli import local
from edged.errors import CODES, EdgedError
from edged.topics import is_name

if TYPE_CHECKING:
    from edged.cli.local import Daemon
    from edged.fleet.parcel import Parcel

HELP = "install a release from a folder or a stick on this box, or let one begin that waits for `edged install`"
EXAMPLES = """
edged install /media/stick/digits-3
edged install digits
"""

DOCUMENT: Final = "release.json"
_LOOK_S: Final = 0.2
_FRESH_S: Final = 1.0
_AGAIN_S: Final = 2.0  # a chunk that is still missing then is sent once more


class Install(msgspec.Struct, frozen=True):
    """What the box says of an installation, as far as it is shown here."""

    phase: str
    verdict: str | None = None
    code: str | None = None
    message: str = ""
    hint: str = ""
    push: dict[str, str] = {}
    want: dict[str, object] | None = None

    def about(self, release: str) -> bool:
        return self.push.get("release") == release


class _Model(msgspec.Struct, frozen=True):
    name: str
    install: Install | None = None


class _Status(msgspec.Struct, frozen=True):
    models: tuple[_Model, ...]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="RELEASE or MODEL", help=f"a folder with {DOCUMENT}, or the name of a model")
    parser.add_argument("--wait", metavar="15m", default="15m", help="for the verdict; 0: only until the box has it")
    local.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 when the release answers, or may begin; 1 when it was refused or gone back from."""
    from edged.config.units import Duration

    try:
        wait_s = float(Duration.parse(0 if args.wait == "0" else args.wait))
    except ValueError as error:
        raise EdgedError("bad_config", f"--wait {args.wait}: {error}", "For example --wait 15m.") from error
    folder = Path(args.what)
    if is_name(args.what) and not (folder / DOCUMENT).exists():
        return _let(local.connect(args), folder)
    from edged.fleet.parcel import Parcel

    return _Delivery(local.connect(args), Parcel.open(folder)).run(wait_s)


def _let(daemon: Daemon, what: Path) -> int:
    """`what` is a model's name, and a folder may be called the same."""
    model = str(what)
    try:
        said = daemon.post(f"/edged/models/{local.segment(model)}/install").body
    except EdgedError as error:
        if error.fault.code == "unknown_model" and what.is_dir():
            text = f"there is no {what / DOCUMENT}, and no model {model} here"
            raise EdgedError("bad_config", text, CODES["bad_release"].hint) from error
        raise
    want = msgspec.json.decode(said, type=Install).want or {}
    print(f"{model}: version {want.get('version', '')} may begin")
    return 0


class _Delivery:
    """One release on its way from here to the daemon, which asks for what it lacks."""

    def __init__(self, daemon: Daemon, parcel: Parcel) -> None:
        self._daemon = daemon
        self._parcel = parcel
        self._model = parcel.release.model
        self._blobs = {one.sha256: one for one in parcel.blobs}
        self._sent_s: dict[str, float] = {}
        self._said = ""

    def run(self, wait_s: float) -> int:
        reply = self._daemon.request("POST", "/edged/install", self._parcel.content)
        now = msgspec.json.decode(reply.body, type=Install)
        began_s = time.monotonic()
        end_s = began_s + wait_s
        while not self._ended(now, began_s):
            self._say(now)
            if self._bring():
                end_s = max(end_s, time.monotonic() + wait_s)  # the wait is for the verdict
            elif time.monotonic() > end_s:
                if not wait_s and self._is_there(now):
                    return 0
                if wait_s:
                    raise EdgedError("timeout", f"no verdict within {wait_s:g} s", "`edged status` says more.")
            else:
                time.sleep(_LOOK_S)
            now = self._look()
        return self._verdict(now)

    def _ended(self, now: Install, began_s: float) -> bool:
        """Whether the verdict is that of this installation: right at first it may be the one before's."""
        if now.verdict is None or not now.about(self._parcel.sha256):
            return False
        return now.verdict == "active" or time.monotonic() - began_s >= _FRESH_S

    def _bring(self) -> bool:
        """Sends what the box lacks and we have; whether that was anything."""
        asked = msgspec.json.decode(self._daemon.get("/edged/install/missing").body, type=dict[str, list[str]])
        now_s = time.monotonic()
        due = [
            self._blobs[one]
            for one in asked["missing"]
            if one in self._blobs and now_s - self._sent_s.get(one, now_s - _AGAIN_S) >= _AGAIN_S
        ]
        for blob in due:
            headers = {"Content-Type": "application/octet-stream"}
            self._daemon.request("POST", f"/edged/install/chunk/{blob.sha256}", self._parcel.read(blob), headers)
            self._sent_s[blob.sha256] = time.monotonic()
        return bool(due)

    def _look(self) -> Install:
        """Where it stands. Raises EdgedError superseded."""
        found = msgspec.json.decode(self._daemon.get("/edged/status").body, type=_Status)
        now = next((one.install for one in found.models if one.name == self._model and one.install), None)
        if now is None:
            raise EdgedError("unknown_model", f"{self._model} was taken out of the configuration meanwhile")
        if now.want is not None and now.want.get("release") != self._parcel.sha256:
            raise EdgedError("superseded", f"another release of {self._model} is wanted meanwhile")
        return now

    def _is_there(self, now: Install) -> bool:
        """Whether all of it is on the box."""
        return now.about(self._parcel.sha256) and now.phase in ("verified", "trial", "probation")

    def _say(self, now: Install) -> None:
        text = f"{now.phase}: {now.message} [{now.code}]" if now.code else now.phase
        if text != self._said and now.verdict is None and now.about(self._parcel.sha256):
            self._said = text
            print(f"{self._model}: {text}", flush=True)

    def _verdict(self, now: Install) -> int:
        if now.verdict == "active":
            print(f"{self._model}: version {self._parcel.release.version} is live")
            return 0
        print(f"{self._model}: {now.verdict}: {now.message} [{now.code}]")
        if now.hint:
            print(f"  {now.hint}")
        return 1
