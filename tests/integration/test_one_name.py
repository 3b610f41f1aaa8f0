"""Two whole daemons of one name at one broker, as users and a copied configuration make them."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.box import Box, box
from tests.brokers import Mosquitto
from tests.integration.mqtt.box import User
from tests.waiting import until


def configuration(digits: Path, broker: Mosquitto) -> str:
    return f"""\
device: press-07
mqtt: {{url: "{broker.url}"}}
telemetry: {{interval: 1s}}
models: {{digits: {{file: {digits}/digits_v1_int8.onnx}}}}
"""


@contextlib.contextmanager
def systemd(one: Box) -> Iterator[Callable[[], str]]:
    """A service manager's end of sd_notify: gives all that it was told so far."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(one.folder / "notify"))
        sock.setblocking(False)
        one.environment["NOTIFY_SOCKET"] = str(one.folder / "notify")
        said: list[str] = []

        def told() -> str:
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.append(sock.recv(65_536).decode())
            return "\n".join(said)

        yield told


def mqtt(one: Box) -> dict[str, object]:
    found: dict[str, object] = one.status()["daemon"]["mqtt"]
    return found


def test_the_later_daemon_waits_and_says_so_and_the_first_goes_on(digits: Path, broker: Mosquitto) -> None:
    text = configuration(digits, broker)
    with box(text) as first:
        first.wait(lambda: mqtt(first)["connected"])
        with box(text, start=False) as later, systemd(later) as told, User(broker.port, "edged/press-07/#") as user:
            later.start()
            later.wait(lambda: mqtt(later)["namesake"])
            until(lambda: " is online as press-07" in told())
            # Both serve their sockets; the broker knows one of them.
            for one in (first, later):
                assert one.request("GET", "/v2/health/ready")[0] == 200
            said = mqtt(later)
            assert said["connected"] is False
            assert str(said["last_error"]).startswith("another machine is online as press-07")
            assert "give one of the two another `device`" in later.log.read_text()
            user.send("edged/press-07/models/digits/infer", "{}")
            until(lambda: user.on("edged/press-07/models/digits/error"))
            first_pid = first.status()["daemon"]["pid"]
            assert (mqtt(first)["connected"], mqtt(first)["reconnects"]) == (True, 0)
            assert later.status()["models"][0]["requests"] == 0

            # The first dies: its will says so, and the name is free.
            first.kill()
            later.wait(lambda: mqtt(later)["connected"])
            first.start()
            first.wait(lambda: mqtt(first)["namesake"])
            assert first.status()["daemon"]["pid"] != first_pid
            assert mqtt(later)["reconnects"] == 0


def test_a_restart_after_kill_9_waits_for_nobody(digits: Path, broker: Mosquitto) -> None:
    """Even where `online` is still retained, as after a power cut that the broker has not noticed yet."""
    with box(configuration(digits, broker)) as one, User(broker.port, "edged/press-07/status") as user:
        one.wait(lambda: mqtt(one)["connected"])
        one.kill()
        until(lambda: user.on("edged/press-07/status")[-1].payload == b"offline")
        user.send("edged/press-07/status", "online", retain=True)
        one.start()
        one.wait(lambda: mqtt(one)["connected"])
        assert "another machine" not in one.log.read_text()
