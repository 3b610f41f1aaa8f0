"""What may be asked of a running box, by whom and how it is done; one table for HTTP and MQTT."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from edged import __version__
from edged.delivery import history
from edged.delivery.installer import Installer
from edged.delivery.trail import Trail
from edged.errors import EdgedError
from edged.oip import repository
from edged.reload import Reload

_MOST: Final = 1000

Verb = Callable[[dict[str, Any], str], Awaitable[Any]]


class Control:
    """`local` is for whoever may control the box, `remote` for whoever may publish to it: `push.remote` decides."""

    def __init__(self, device: str, state: Path, trail: Trail, installer: Installer, reload: Reload) -> None:
        self._device: Final = device
        self._state: Final = state
        self._trail: Final = trail
        self._installer: Final = installer
        self._reload: Final = reload
        self._started_s: Final = time.monotonic()
        self._remote: Final[dict[str, Verb]] = {
            "ping": self._ping,
            "install": self._install,
            "log": self._log,
            "rollback": self._rollback,
            "reload": self._reread,
        }
        self._local: Final[dict[str, Verb]] = {
            "offer": self._offer,
            "missing": self._missing,
            "chunk": self._chunk,
            "install": self._install,
            "rollback": self._rollback,
            "pin": self._pin,
            "unpin": self._unpin,
            "load": self._load,
            "unload": self._unload,
            "reload": self._reread,
            "reload_check": self._check,
        }

    async def local(self, verb: str, arguments: dict[str, Any], by: str) -> dict[str, Any]:
        """Raises EdgedError: why it is not done."""
        if verb not in self._local:
            raise EdgedError("not_found", f"no verb {verb!r} here")
        found: dict[str, Any] = await self._done(self._local[verb], arguments, by)
        return found

    async def remote(self, verb: str, arguments: dict[str, Any], by: str) -> Any:
        """Raises EdgedError: why it is not done."""
        allowed = self._reload.config.push.remote
        if verb not in self._remote:
            there_are = f"There are: {', '.join(self._remote)}."
            raise EdgedError("not_found", f"there is no request {verb[:64]!r}", there_are)
        if verb not in allowed:
            text = f"{verb} is not among what this box does at a request over MQTT"
            raise EdgedError("forbidden", text, f"Add {verb} to push.remote, or do it on the box.")
        return await self._done(self._remote[verb], arguments, by)

    async def _done(self, verb: Verb, arguments: dict[str, Any], by: str) -> Any:
        """What a verb answers, once the audit has what it decided."""
        try:
            return msgspec.to_builtins(await verb(arguments, by))
        finally:
            await self._trail.caught_up()

    # --- the verbs --------------------------------------------------------------------------------------

    async def _ping(self, _arguments: dict[str, Any], _by: str) -> dict[str, Any]:
        uptime_s = round(time.monotonic() - self._started_s, 3)
        return {"device": self._device, "edged": __version__, "uptime_s": uptime_s, "ts": time.time_ns() // 1_000_000}

    async def _offer(self, arguments: dict[str, Any], by: str) -> dict[str, object]:
        """A release whose chunks come after it, by `chunk`."""
        return await self._installer.install_local(arguments["payload"], by)

    async def _missing(self, _arguments: dict[str, Any], _by: str) -> dict[str, object]:
        return {"missing": self._installer.missing()}

    async def _chunk(self, arguments: dict[str, Any], _by: str) -> dict[str, object]:
        return {"taken": self._installer.offer(arguments["sha256"], arguments["payload"])}

    async def _install(self, arguments: dict[str, Any], by: str) -> dict[str, object]:
        """Lets a release begin that waits for it by `push.install: manual`; it can bring none."""
        return await self._installer.release_manual(_model(arguments), by)

    async def _log(self, arguments: dict[str, Any], _by: str) -> history.Excerpt:
        most = arguments.get("most", 100)
        if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= _MOST:
            raise EdgedError("bad_input", f"`most` is 1 to {_MOST}", "Leave it out for 100.")
        try:
            age = history.since(_text(arguments, "since"), datetime.datetime.now(datetime.UTC))
        except ValueError as error:
            raise EdgedError("bad_input", f"`since`: {error}", "Such as 30m, 12h or 7d.") from error
        question = history.Question(_text(arguments, "model"), age)
        await self._trail.flush()  # what was decided in this second too
        try:
            return await asyncio.to_thread(history.excerpt, self._state, question, most)
        except OSError as error:
            raise EdgedError("bad_store", f"the audit cannot be read: {error.strerror}") from error

    async def _rollback(self, arguments: dict[str, Any], by: str) -> dict[str, object]:
        return await self._installer.rollback(_model(arguments), by)

    async def _pin(self, arguments: dict[str, Any], by: str) -> dict[str, object]:
        version = arguments.get("version")
        if not isinstance(version, int) or isinstance(version, bool) or version < 1:
            raise EdgedError("bad_version", "`version` is a positive whole number", '{"version": 3}')
        return await self._installer.pin(_model(arguments), version, by)

    async def _unpin(self, arguments: dict[str, Any], by: str) -> dict[str, object]:
        return await self._installer.unpin(_model(arguments), by)

    async def _load(self, arguments: dict[str, Any], by: str) -> dict[str, object]:
        repository.check_load(arguments.get("parameters", {}))
        return await self._installer.load(_model(arguments), by)

    async def _unload(self, arguments: dict[str, Any], by: str) -> dict[str, object]:
        return await self._installer.unload(_model(arguments), by)

    async def _reread(self, _arguments: dict[str, Any], by: str) -> object:
        return await self._reload.now(by)

    async def _check(self, _arguments: dict[str, Any], _by: str) -> object:
        return await self._reload.check()


def _model(arguments: dict[str, Any]) -> str:
    found = _text(arguments, "model")
    if not found:
        raise EdgedError("bad_input", "which model is meant?", '{"model": "digits"}')
    return found


def _text(arguments: dict[str, Any], name: str) -> str:
    found = arguments.get(name, "")
    if not isinstance(found, str):
        raise EdgedError("bad_input", f"`{name}` is a text", f'{{"{name}": ".."}}')
    return found
