"""Who this box is when the configuration does not say: its name in topics, and its client id at the broker."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

MACHINE_ID: Final = Path("/etc/machine-id")
_LONGEST: Final = 64


def device_name(host: str) -> str:
    """The host name in lower case, other characters as `-`."""
    return re.sub(r"[^a-z0-9_-]", "-", host.lower())[:_LONGEST] or "edged"


def client_id(device: str, host: str, machine_id: Path = MACHINE_ID) -> str:
    """`edged-<device>-<8 of machine-id>`; where there is no machine-id yet, 8 of the host name's SHA-256."""
    try:
        found = machine_id.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        found = ""
    if re.fullmatch(r"[0-9a-f]{32}", found) is None:  # machine-id(5): also "uninitialized", or empty
        found = hashlib.sha256(host.encode()).hexdigest()
    return f"edged-{device}-{found[:8]}"
