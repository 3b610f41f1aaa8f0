"""`edged push --gc`: what no order refers to any more goes from the broker."""

from __future__ import annotations

import argparse
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edged.cli import brokers
from edged.topics import Ota

if TYPE_CHECKING:
    from collections.abc import Callable

    from edged.transports.mqtt.retained import Heard, Retained


def clear(args: argparse.Namespace) -> int:
    """0 when nothing is left to remove, with --dry-run whatever is found."""
    from edged.fleet import config
    from edged.fleet.clearing import Clearing
    from edged.fleet.memory import NAME, Memory
    from edged.transports.mqtt.retained import Retained

    settings = config.read()
    mqtt = brokers.of_fleet(args, settings)
    memory = Memory(Path(settings.file).with_name(NAME))

    def make(hear: Callable[[Heard], None]) -> Retained:
        return Retained(mqtt, f"edged-gc-{secrets.token_hex(4)}", hear, rate=args.rate)

    clearing = Clearing(make, Ota(mqtt.base))
    try:
        rubbish = clearing.survey(memory.read(), time.time_ns() // 1_000_000)
        for name, what in rubbish.releases.items():
            print(f"{what} ({name[:10]})")
        verb = "would go" if args.dry_run else "went"
        if not args.dry_run:
            clearing.remove(rubbish)
            memory.forget(rubbish.names)
    finally:
        clearing.close()
    print(f"{len(rubbish.releases)} releases and {len(rubbish.blobs)} pieces {verb}, {rubbish.kept} releases stay")
    if rubbish.lost:
        print(
            f"  of {len(rubbish.lost)} releases the index is gone: with MQTT 5 their pieces go when their time is over"
        )
    return 0
