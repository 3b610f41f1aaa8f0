"""Both sides of a ring in one process."""

from __future__ import annotations

import os

from edged.rings import Ring


def both_sides(slot_bytes: int, *, daemon_writes: bool) -> tuple[Ring, Ring]:
    """(the daemon's side, the worker's side)."""
    ours, descriptor = Ring.create(slot_bytes, writer=daemon_writes)
    try:
        return ours, Ring.attach(descriptor, writer=not daemon_writes)
    finally:
        os.close(descriptor)
