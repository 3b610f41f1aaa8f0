"""Who this box is when the configuration does not say: its name in topics, its client id at the broker, itself."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final

MACHINE_ID: Final = Path("/etc/machine-id")
NETWORK: Final = Path("/sys/class/net")
_LONGEST: Final = 64


def device_name(host: str) -> str:
    """The host name in lower case, other characters as `-`."""
    return re.sub(r"[^a-z0-9_-]", "-", host.lower())[:_LONGEST] or "edged"


def client_id(device: str, host: str, machine_id: Path = MACHINE_ID) -> str:
    """`edged-<device>-<8 of machine-id>`; where there is no machine-id yet, 8 of the host name's SHA-256."""
    found = _read(machine_id)
    if re.fullmatch(r"[0-9a-f]{32}", found) is None:  # machine-id(5): also "uninitialized", or empty
        found = hashlib.sha256(host.encode()).hexdigest()
    return f"edged-{device}-{found[:8]}"


def instance(state: Path, machine_id: Path = MACHINE_ID, network: Path = NETWORK) -> str:
    """Tells this machine's edged from any other of the same name; stays the same when it is started again.

    16 digits of a hash: of the machine-id, of the network hardware, which a copied card does not bring along,
    and of the state directory, as two may run on one machine.
    """
    return hashlib.sha256("\n".join([_read(machine_id), str(state), *_hardware(network)]).encode()).hexdigest()[:16]


def _hardware(network: Path) -> list[str]:
    """The permanent addresses of the network devices; virtual ones, and made-up addresses, come and go."""
    try:
        devices = sorted(one for one in network.iterdir() if (one / "device").exists())
    except OSError:
        return []
    return sorted(_read(one / "address") for one in devices if _read(one / "addr_assign_type") == "0")


def _read(file: Path) -> str:
    """A small file's text, "" when there is none."""
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
