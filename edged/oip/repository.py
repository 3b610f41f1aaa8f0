"""The models of this box as Triton's model repository extension shows them, and what a client may ask of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.serving.router import ModelView

_STATES: Final = {"serving": "READY", "starting": "LOADING", "waiting": "UNAVAILABLE", "failed": "UNAVAILABLE"}
_HINT: Final = "`edged push` brings a version, with a trial and a way back."
_KNOWN: Final = frozenset({"unload_dependents"})  # of unload; there are no dependents


def index(views: Iterable[ModelView], *, ready: bool) -> list[dict[str, str]]:
    """A row for each model; with `ready` only those that answer."""
    return [_row(view) for view in views if view.state == "serving" or not ready]


def wants_ready(said: Any) -> bool:
    """What the body of an index request asks for; raises EdgedError `bad_input`."""
    ready = said.get("ready", False) if isinstance(said, dict) else None
    if not isinstance(ready, bool):
        raise EdgedError("bad_input", "`ready` is true or false", '{"ready": true}')
    return ready


def no_files() -> EdgedError:
    """What a load is told that brings the model itself."""
    return EdgedError("unsupported", "a load brings no files: it loads what the box has", _HINT)


def check_load(parameters: object) -> None:
    """Raises EdgedError `unsupported` where a load brings a configuration or files, `bad_input` for no parameters."""
    if not isinstance(parameters, dict):
        raise EdgedError("bad_input", "`parameters` is an object", "Leave it out.")
    for name in parameters:
        if name not in _KNOWN:
            what = f"a load takes no {str(name)[:64]!r}: it loads what the box has"
            raise EdgedError("unsupported", what, _HINT)


def _row(view: ModelView) -> dict[str, str]:
    state, reason = _STATES[view.state], ""
    if view.unloaded:
        reason = "unloaded"
    elif view.fault is not None:
        reason = f"{view.fault.code}: {view.fault.message}"
    elif view.state == "waiting":
        reason = "waits for its first push"
    return {"name": view.name, "version": view.version, "state": state, "reason": reason}
