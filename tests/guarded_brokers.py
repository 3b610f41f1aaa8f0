"""Six brokers, each with two users, a rule against one topic and nothing else, for tests/integration/test_brokers.py.

`user` may do everything; `box` may too, but not publish or subscribe to `forbidden/#`. Each is started on loopback with
a port and a folder of its own, and ended with all of its processes. `installed()` says what is missing, in a word.
RabbitMQ and ejabberd (Debian's packages) run on a port mapper of their own too; aedes is npm's, in `.npm/`, where
`scripts/test --brokers` puts it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Final

import psutil
import yaml

from tests.brokers import PASSWORD, Mosquitto, Process
from tests.ports import free_port

ROOT: Final = Path(__file__).resolve().parent.parent
USERS: Final = ("box", "user")
ALLOWED: Final = ("edged/#", "cells/#", "big/#", "a.b/#")  # to `box`, where a broker takes no word for what is not
_MODULES: Final = ROOT / ".npm" / "node_modules"


class Guarded(Process):
    """What the suite asks of each."""

    programs: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def installed(cls) -> str:
        """ "" or the program that is missing."""
        return next((one for one in cls.programs if _path(one) is None), "")

    @classmethod
    def version(cls) -> str:
        raise NotImplementedError

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"


class GuardedMosquitto(Guarded):
    programs = ("mosquitto", "mosquitto_passwd")

    def __init__(self, folder: Path) -> None:
        passwords, acl = folder / "passwords", folder / "acl"
        passwords.write_text("".join(f"{name}:{PASSWORD}\n" for name in USERS))
        acl.write_text("user user\ntopic readwrite #\nuser box\ntopic readwrite #\ntopic deny forbidden/#\n")
        for file in (passwords, acl):
            file.chmod(0o600)
        subprocess.run([str(_path("mosquitto_passwd")), "-U", str(passwords)], check=True)
        plain = Mosquitto(folder, f"password_file {passwords}\nacl_file {acl}")
        config = folder / "mosquitto.conf"
        config.write_text(config.read_text().replace("allow_anonymous true", "allow_anonymous false"))
        super().__init__(folder, plain.port)
        self.command = plain.command  # type: ignore[method-assign]  # its command, word for word

    @classmethod
    def version(cls) -> str:
        return _said("mosquitto", "-h").split()[2]


class GuardedAmqtt(Guarded):
    """In this process's environment, as `pip install amqtt` puts it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, free_port())
        from pwdlib import PasswordHash  # amqtt's own

        hashed = PasswordHash.recommended().hash(PASSWORD)
        (folder / "passwords").write_text("".join(f"{name}:{hashed}\n" for name in USERS))
        rights = {"user": ["#"], "box": list(ALLOWED)}
        plugins = {
            "amqtt.plugins.authentication.FileAuthPlugin": {"password_file": str(folder / "passwords")},
            "amqtt.plugins.topic_checking.TopicAccessControlListPlugin": {"publish_acl": rights, "acl": rights},
        }
        listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}}
        (folder / "amqtt.yaml").write_text(yaml.safe_dump({"listeners": listeners, "plugins": plugins}))

    def command(self) -> list[str]:
        return [str(Path(sys.executable).parent / "amqtt"), "-c", str(self.folder / "amqtt.yaml")]

    @classmethod
    def version(cls) -> str:
        return version("amqtt")


class GuardedNats(Guarded):
    programs = ("nats-server",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, free_port())
        denied = 'permissions: {publish: {deny: "forbidden.>"}, subscribe: {deny: ["forbidden", "forbidden.>"]}}'
        users = ", ".join(
            f'{{user: "{name}", password: "{PASSWORD}"{", " + denied if name == "box" else ""}}}' for name in USERS
        )
        (folder / "nats.conf").write_text(
            f"server_name: edged-test\nhost: 127.0.0.1\nport: {free_port()}\nauthorization {{users: [{users}]}}\n"
            f'jetstream {{ store_dir: "{folder}" }}\nmqtt {{ host: 127.0.0.1, port: {self.port} }}\n'
        )

    def command(self) -> list[str]:
        return [str(_path("nats-server")), "-c", str(self.folder / "nats.conf")]

    @classmethod
    def version(cls) -> str:
        return _said("nats-server", "-v").split()[-1].lstrip("v")


class GuardedAedes(Guarded):
    programs = ("node",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, free_port())
        # Beside the program is where node looks for modules.
        shutil.copy(ROOT / "tests" / "aedes.mjs", folder / "aedes.mjs")
        (folder / "node_modules").symlink_to(_MODULES)

    @classmethod
    def installed(cls) -> str:
        return super().installed() or ("" if (_MODULES / "aedes").is_dir() else "npm's aedes")

    def command(self) -> list[str]:
        return ["node", "aedes.mjs", str(self.port), PASSWORD]

    @classmethod
    def version(cls) -> str:
        found: str = json.loads((_MODULES / "aedes" / "package.json").read_bytes())["version"]
        return found


class Erlang(Guarded):
    """A node of Erlang's brings a port mapper, which outlives it if nobody ends it, and does not end before it."""

    patience_s = 120.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, free_port())
        self._mapper = free_port()
        places = {"ERL_EPMD_PORT": str(self._mapper), "ERL_EPMD_ADDRESS": "127.0.0.1", "HOME": str(folder)}
        self.environment = os.environ | places
        folder.chmod(0o777)  # ejabberd becomes its own user

    def _end(self, *, kill: bool) -> None:
        # ejabberd's node is in a session of its own, where no signal to ours comes.
        began = [] if self._process is None else psutil.Process(self.pid).children(recursive=True)
        super()._end(kill=kill)
        for one in began:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        for one in psutil.wait_procs(began, 15)[1]:
            one.kill()
        psutil.wait_procs(began, 15)
        until_s = time.monotonic() + 15
        # While it knows of a node it stays, and says so.
        while self._mapped() and time.monotonic() < until_s:
            subprocess.run(["epmd", "-port", str(self._mapper), "-kill"], capture_output=True)
            time.sleep(0.1)

    def _mapped(self) -> bool:
        return not subprocess.run(["epmd", "-port", str(self._mapper), "-names"], capture_output=True).returncode


class GuardedRabbit(Erlang):
    programs = ("rabbitmqctl",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        salt = os.urandom(4)
        hashed = base64.b64encode(salt + hashlib.sha256(salt + PASSWORD.encode()).digest()).decode()
        algorithm = "rabbit_password_hashing_sha256"
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        allowed = "^(?!forbidden).*"
        definitions = {
            "vhosts": [{"name": "/"}],
            "users": [
                {
                    "name": name,
                    "password_hash": hashed,
                    "hashing_algorithm": algorithm,
                    "tags": [],
                }
                for name in USERS
            ],
            "permissions": [{"user": name, "vhost": "/", **everything} for name in USERS],
            "topic_permissions": [
                {"user": "box", "vhost": "/", "exchange": "amq.topic", "write": allowed, "read": allowed}
            ],
        }
        (folder / "definitions.json").write_text(json.dumps(definitions))
        (folder / "plugins").write_text("[rabbitmq_mqtt].\n")
        (folder / "rabbit.conf").write_text(
            textwrap.dedent(f"""\
                listeners.tcp = none
                load_definitions = {folder}/definitions.json
                mqtt.listeners.tcp.1 = 127.0.0.1:{self.port}
                mqtt.allow_anonymous = false
                log.console = true
                """)
        )
        self.environment = (self.environment or {}) | {
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbit.conf",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_NODENAME": f"edged{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }

    def command(self) -> list[str]:
        return ["/usr/lib/rabbitmq/bin/rabbitmq-server"]

    @classmethod
    def version(cls) -> str:
        # Not rabbitmqctl's word: it starts a port mapper to say it.
        return _said("dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server").partition("-")[0]


class GuardedEjabberd(Erlang):
    programs = ("ejabberdctl",)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for name in ("spool", "logs"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        (folder / "ctl.cfg").write_text(f"INET_DIST_INTERFACE=127.0.0.1\nERLANG_NODE=edged{self.port}@localhost\n")
        # Whatever rule allows it does: what `box` may is listed, and all else is denied to it.
        rights = {"#": [{"deny": "box"}, {"allow": "all"}]} | {topic: [{"allow": "all"}] for topic in ALLOWED}
        module = {"access_publish": rights, "access_subscribe": rights}
        settings = {
            "hosts": ["localhost"],
            "auth_method": "internal",
            "acl": {"box": {"user": ["box"]}},
            "listen": [{"port": self.port, "ip": "127.0.0.1", "module": "mod_mqtt"}],
            "modules": {"mod_mqtt": module},
        }
        (folder / "ejabberd.yml").write_text(json.dumps(settings))  # which is YAML too

    def _control(self) -> list[str]:
        places = {"-c": "ctl.cfg", "-f": "ejabberd.yml", "-s": "spool", "-l": "logs"}
        words = [word for option, name in places.items() for word in (option, str(self.folder / name))]
        return ["ejabberdctl", *words, "-d", "/etc/ejabberd"]

    def command(self) -> list[str]:
        return [*self._control(), "foreground"]

    def start(self) -> None:
        super().start()
        for name in USERS:
            until_s = time.monotonic() + self.patience_s
            register = [*self._control(), "register", name, "localhost", PASSWORD]
            while True:
                done = subprocess.run(register, env=self.environment, capture_output=True, text=True)
                if done.returncode == 0 or "already registered" in done.stdout + done.stderr:
                    break
                if time.monotonic() > until_s:
                    self.stop()
                    raise RuntimeError(f"ejabberd takes no user: {done.stdout}{done.stderr}")
                time.sleep(0.5)

    @classmethod
    def version(cls) -> str:
        return _said("dpkg-query", "-W", "-f", "${Version}", "ejabberd").partition("-")[0]


BROKERS: Final[dict[str, type[Guarded]]] = {
    "Mosquitto": GuardedMosquitto,
    "amqtt": GuardedAmqtt,
    "RabbitMQ": GuardedRabbit,
    "NATS": GuardedNats,
    "aedes": GuardedAedes,
    "ejabberd": GuardedEjabberd,
}


def _path(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _said(name: str, *words: str) -> str:
    return subprocess.run([str(_path(name)), *words], capture_output=True, text=True).stdout
