"""Real MQTT brokers on loopback for tests: own configuration, a free port, ended by their own pid.

    with Mosquitto(tmp_path) as broker:
        ... broker.url, broker.port ...

`Mosquitto` takes extra lines of mosquitto.conf and, with `tls=True`, listens with TLS, a password and
a certificate authority of its own (`broker.ca`; `broker.authority` issues more); with `websockets=True` it speaks
MQTT in WebSockets there, and as it is on `broker.plain`; with `keeps=True` it writes down at once what it must not
forget, so that it survives `kill()`, which is SIGKILL. `start()` starts it again on the same port with the same files.
`Amqtt` is the broker of PyPI: 3.1.1 only, silent to MQTT 5. `Nats` is Debian's nats-server: 3.1.1 only, and says so.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests import ports
from tests.certificates import Authority

free_port = ports.free_port
_MEMORY = Path("/dev/shm")  # of brokers that are killed: nobody ends this machine
USERNAME = "press-07"
PASSWORD = "not-a-secret"  # noqa: S105  only ever of a broker on loopback that lives for one test


def documented(block: str) -> str:
    """What docs/brokers.md tells an administrator to write: its `mosquitto.conf`, its `acl`."""
    text = (Path(__file__).resolve().parent.parent / "docs" / "brokers.md").read_text()
    return textwrap.dedent(text.partition(f"<!-- {block} -->\n")[2].partition("<!--")[0])


def have_mosquitto() -> bool:
    return _found("mosquitto") is not None


def have_nats() -> bool:
    return _found("nats-server") is not None


class Process:
    """A broker's process: starts, is waited for until its port answers, and ends with those that it has started."""

    patience_s = 15.0

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self.log = folder / "broker.log"
        self.environment: dict[str, str] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._after = contextlib.ExitStack()

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, cwd=self.folder, env=self.environment, start_new_session=True
            )
        deadline = time.monotonic() + self.patience_s
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    self.stop()
                    raise RuntimeError(f"the broker did not start: {self.log.read_text()}") from None
                time.sleep(0.02)
            else:
                return

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the broker is not running")
        return self._process.pid

    def says(self, text: str) -> bool:
        """Whether its log has `text`: a filter, once somebody has subscribed to it."""
        return text in self.log.read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM, as an operator would."""
        self._end(kill=False)

    def kill(self) -> None:
        """SIGKILL: what was not saved is gone."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        _signal(process, signal.SIGKILL if kill else signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait(10)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._after.close()


class Mosquitto(Process):
    """Eclipse Mosquitto; `config` is appended to its configuration file as it is."""

    def __init__(
        self,
        folder: Path,
        config: str = "",
        *,
        tls: bool = False,
        port: int = 0,
        websockets: bool = False,
        keeps: bool = False,
    ) -> None:
        super().__init__(folder, port or free_port())
        self.tls = tls
        self.plain = free_port() if websockets else self.port
        self.ca = folder / "ca.crt"
        owner = pwd.getpwuid(os.geteuid()).pw_name
        # As root Mosquitto becomes its own user, which may not read a test's folder.
        lines = [
            f"user {owner}",
            # 2.0.11 does not start with WebSockets alone ("Unable to start any listening sockets").
            *([f"listener {self.plain} 127.0.0.1"] if websockets else []),
            f"listener {self.port} 127.0.0.1",
            "set_tcp_nodelay true",
            "log_type all",
        ]
        if websockets:
            lines.append("protocol websockets")
        if keeps:
            # It syncs its file for each change: on the disk of a small box that is 30 messages a second.
            parent = _MEMORY if _MEMORY.is_dir() else folder
            kept = self._after.enter_context(tempfile.TemporaryDirectory(dir=parent))
            lines += ["persistence true", "autosave_interval 1", "autosave_on_changes true"]
            lines.append(f"persistence_location {kept}/")
        if tls:
            self.authority = Authority(folder)
            certificate, key = self.authority.issue("localhost", server=True)
            passwords = folder / "passwords"
            passwords.write_text(f"{USERNAME}:{PASSWORD}\n")
            passwords.chmod(0o600)
            # -U turns the plain password into a hash, in place.
            subprocess.run([_tool("mosquitto_passwd"), "-U", str(passwords)], check=True)
            lines += [f"certfile {certificate}", f"keyfile {key}"]
            lines += ["allow_anonymous false", f"password_file {passwords}"]
        else:
            lines.append("allow_anonymous true")
        (folder / "mosquitto.conf").write_text("\n".join([*lines, config, ""]))

    @property
    def url(self) -> str:
        scheme = "mqtt" if self.plain == self.port else "ws"
        return f"{scheme}s://localhost:{self.port}" if self.tls else f"{scheme}://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [_tool("mosquitto"), "-c", str(self.folder / "mosquitto.conf")]

    def __enter__(self) -> Self:
        self.start()
        return self


class Amqtt(Process):
    """amqtt: pure Python, MQTT 3.1.1; it never answers a CONNECT of MQTT 5."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        super().__init__(folder, port or free_port())
        (folder / "amqtt.yaml").write_text(
            f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{self.port}\n"
            "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n"
        )

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [
            str(Path(sys.executable).parent / "amqtt"),
            "-c",
            str(self.folder / "amqtt.yaml"),
        ]

    def __enter__(self) -> Self:
        self.start()
        return self


class Nats(Process):
    """NATS Server with its MQTT gateway: 3.1.1; retained messages and sessions live in JetStream."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        super().__init__(folder, port or free_port())
        (folder / "nats.conf").write_text(
            f"server_name: edged-test\nhost: 127.0.0.1\nport: {free_port()}\n"
            f'jetstream {{ store_dir: "{folder}" }}\nmqtt {{ host: 127.0.0.1, port: {self.port} }}\n'
        )

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def command(self) -> list[str]:
        return [_tool("nats-server"), "-c", str(self.folder / "nats.conf")]

    def __enter__(self) -> Self:
        self.start()
        return self


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _found(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _tool(name: str) -> str:
    found = _found(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed; scripts/test installs it")
    return found
