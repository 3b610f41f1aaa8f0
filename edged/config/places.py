"""Where edged keeps things on this box: as a systemd service, as root without it, and as an ordinary user."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec


class Places(msgspec.Struct, frozen=True):
    """`state` survives restarts, `cache` may be removed at any time, `runtime` holds sockets.

    `config` is the file used when none is named.
    """

    state: Path
    cache: Path
    runtime: Path
    config: Path


def places(environment: Mapping[str, str] = os.environ, uid: int | None = None) -> Places:
    """systemd's STATE_DIRECTORY and the like win (systemd.exec(5)); then root's or the user's own.

    A state directory that is named holds the cache as well where that has no name of its own.
    """
    uid = os.geteuid() if uid is None else uid
    if uid == 0:
        state, runtime, config = Path("/var/lib/edged"), Path("/run/edged"), Path("/etc/edged/edged.yaml")
        cache = Path("/var/cache/edged")
    else:
        home = Path(environment.get("HOME") or "/")
        state = Path(environment.get("XDG_STATE_HOME") or home / ".local/state") / "edged"
        cache = Path(environment.get("XDG_CACHE_HOME") or home / ".cache") / "edged"
        session = environment.get("XDG_RUNTIME_DIR")
        runtime = Path(session) / "edged" if session else Path(tempfile.gettempdir()) / f"edged-{uid}"
        config = Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "edged/edged.yaml"
    named = environment.get("STATE_DIRECTORY", "").split(":")[0]
    if named:
        state, cache = Path(named), Path(named) / "cache"
    return Places(
        state=state,
        cache=Path(environment.get("CACHE_DIRECTORY", "").split(":")[0] or cache),
        runtime=Path(environment.get("RUNTIME_DIRECTORY", "").split(":")[0] or runtime),
        config=config,
    )
