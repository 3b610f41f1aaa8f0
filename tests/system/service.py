"""What tests ask a machine with edged on it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Final

from tests.system.machines import Machine

ROOT: Final = Path(__file__).resolve().parents[2]
SCAN: Final = (ROOT / "examples/digits/pixels.json").read_text().strip()
CONFIGURATION: Final = "/etc/edged/edged.yaml"
MOST_EXPOSED: Final = 1.6  # of 10, by systemd-analyze security: what is promised


def answer(machine: Machine, limit_s: int = 20) -> dict[str, Any]:
    """To one scan, over MQTT."""
    said = machine.says(
        f"""mosquitto_sub -t cells/7/digit -C 1 -W {limit_s} >/tmp/answer & listener=$!
        sleep 0.3; mosquitto_pub -q 1 -t cells/7/scan -m '{SCAN}'; wait $listener; cat /tmp/answer"""
    )
    found: dict[str, Any] = json.loads(said)
    return found


def ask(machine: Machine, limit_s: int = 20) -> str:
    """The best guess for one scan, over MQTT."""
    return label(answer(machine, limit_s))


def label(answer: dict[str, Any]) -> str:
    return str(answer["prediction"][0]["label"])


def show(machine: Machine, name: str) -> str:
    return machine.says(f"systemctl show edged --property {name} --value")


def exposure(machine: Machine) -> float:
    shown = machine.says("systemd-analyze security --no-pager edged.service")
    found = re.search(r"exposure level for edged.service: ([\d.]+)", shown)
    assert found is not None, shown
    return float(found[1])


def entries(machine: Machine, options: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in machine.says(f"journalctl -u edged -o json {options}").splitlines()]


def main_process(machine: Machine) -> int:
    return int(show(machine, "MainPID"))


def models(machine: Machine) -> list[dict[str, Any]]:
    """What the box's status says of each."""
    said = machine.says("curl -s --unix-socket /run/edged/edged.sock http://box/edged/status")
    found: list[dict[str, Any]] = json.loads(said)["models"]
    return found


def worker(machine: Machine) -> int:
    """The process of the first model that answers."""
    return int(models(machine)[0]["pid"])
