"""What `edged doctor` looks at: each look yields what it found, and what to do where that is not as it should be."""

from __future__ import annotations

import grp
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import msgspec

from edged.cli import service
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.config.schema import Config, Mqtt

UNIT: Final = Path("/usr/lib/systemd/system/edged.service")
EXPOSURE: Final = 1.6  # what the unit as it is shipped stays below
_CHUNK: Final = 128 * 1024  # a chunk of a release in its message
_LOW_BYTES: Final = 500 * 2**20
_LOW_SHARE: Final = 0.05
_ASKED_S: Final = 30.0
_TELEMETRY: Final = Path(".cache/Microsoft/DeveloperTools/.onnxruntime")


class Finding(msgspec.Struct, frozen=True):
    """`level`: ok; note, to be known; bad, to be mended."""

    level: Literal["ok", "note", "bad"]
    what: str
    said: str
    hint: str = ""


Look = Callable[["Config | None"], Iterator[Finding]]


def of_box(file: Path, config: Config | None, unit: service.Service | None) -> Iterator[Finding]:
    """Everything, in the order in which it is best mended. Without a valid configuration what can be seen without one.

    `file`: where it lies; `unit`: edged's service, where it reads that file.
    """
    yield from _secrets(file, unit)
    yield from _hidden(file, config, unit)
    yield from _service(unit)
    for look in (_daemon, _broker, _socket, _disk, _memory, _clock, _providers, _telemetry, _unit):
        try:
            yield from look(config)
        except OSError as error:  # what one look stumbles over keeps no other from looking
            yield Finding("note", look.__name__.strip("_"), f"cannot be looked at: {error}")


def _daemon(config: Config | None) -> Iterator[Finding]:
    from edged.cli import local

    candidates = [Path(config.sockets.unix)] if config is not None else list(local.sockets())
    try:
        status: Any = local.Daemon(candidates, _ASKED_S).get("/edged/status").json()
    except EdgedError as error:
        level: Literal["note", "bad"] = "note" if error.fault.code == "no_daemon" else "bad"
        yield Finding(level, "daemon", error.fault.message, error.fault.hint)
        return
    daemon = status["daemon"]
    yield Finding("ok", "daemon", f"edged {daemon['version']} runs as process {daemon['pid']}")
    for model in status["models"]:
        if model["state"] == "failed":
            fault = model["fault"] or {}
            yield Finding("bad", "model", f"{model['name']}: {fault.get('message', 'failed')}", fault.get("hint", ""))
        else:
            version = f" version {model['version']}" if model["version"] else ""
            yield Finding("ok", "model", f"{model['name']}: {model['state']}{version}")
        if why := model.get("fallback"):
            yield Finding("bad", "model", f"{model['name']} runs on the CPU: {why}", _hint_of(why))
    connection = daemon["mqtt"]
    if connection is not None and not connection["connected"]:
        yield Finding("bad", "daemon", "it is not connected to its broker", "journalctl -u edged says why.")


def _service(unit: service.Service | None) -> Iterator[Finding]:
    """What systemd makes of it; a service that runs is told of by `_daemon`."""
    if unit is None or unit.state == "active":
        return
    why = "`journalctl -u edged -n 20` says why."
    if unit.state == "failed":
        yield Finding("bad", "service", f"it has failed: {unit.result}", why)
    elif unit.state == "activating" and (unit.restarts or unit.result != "success"):
        yield Finding("bad", "service", "it does not start, and systemd tries it again and again", why)
    else:
        yield Finding("note", "service", f"it is {unit.state}", "" if unit.process else "`systemctl start edged`")


def _hidden(file: Path, config: Config | None, unit: service.Service | None) -> Iterator[Finding]:
    """What root reads without noticing that the service cannot."""
    from edged.config.load import files_of

    named = [Path(model.file) for model in config.models if model.file] if config is not None else []
    for one in service.hidden(unit, [*files_of(file), *named]):
        hint = f"chgrp edged {one} && chmod g+r {one}, and g+rx for its folder."
        yield Finding("bad", "permissions", f"{one} cannot be read by edged's service", hint)


def _broker(config: Config | None) -> Iterator[Finding]:
    if config is None:
        return  # which one is meant nobody can tell
    if config.mqtt is None:
        yield Finding("note", "broker", "none is configured: edged serves its sockets alone")
        return
    yield from _asked(config.mqtt, "broker", "mqtt", pushes=config.push.mqtt is None)
    if config.push.mqtt is not None:
        yield from _asked(config.push.mqtt, "push broker", "push.mqtt", pushes=True)


def _asked(mqtt: Mqtt, what: str, section: str, *, pushes: bool) -> Iterator[Finding]:
    """Each address by itself: a broker that is there for the day on which the first is not has to be there."""
    from edged.transports.mqtt.retained import Retained

    for url in mqtt.url:
        one = msgspec.structs.replace(mqtt, url=(url,))
        began_s = time.monotonic()
        try:
            with Retained(one, f"edged-doctor-{secrets.token_hex(4)}", lambda _heard: None) as connection:
                greeting = connection.connect()
        except EdgedError as error:
            hint = f"Is it there, and are `url`, `username`, password and certificates of {section} what it asks for?"
            yield Finding("bad", what, error.fault.message, hint)
            continue
        took_ms = 1000 * (time.monotonic() - began_s)
        yield Finding("ok", what, f"{url}: MQTT {greeting.version}, connected in {took_ms:.0f} ms")
        if greeting.packet_limit < _CHUNK:
            said = f"{url}: takes packets of {greeting.packet_limit} bytes at most"
            yield Finding(
                "bad" if pushes else "note", what, said, "Releases need 128 KiB: max_packet_size 262144 in Mosquitto."
            )
        if not greeting.retains:
            yield Finding("bad", what, f"{url}: keeps no retained messages", "retain_available true in Mosquitto.")


def _secrets(configuration: Path, unit: service.Service | None) -> Iterator[Finding]:
    """Files that it names, and only edged should read."""
    from edged.config.load import secret_files

    for file in secret_files(configuration, service.environment(unit)):
        try:
            mode = file.stat().st_mode
        except OSError:
            continue  # one that is missing is the configuration's mistake; one that is hidden is not everybody's
        if mode & stat.S_IROTH:
            hint = f"chgrp edged {file} && chmod 640 {file}"
            yield Finding("bad", "permissions", f"{file} may be read by everybody", hint)


def _socket(config: Config | None) -> Iterator[Finding]:
    if config is None or not Path(config.sockets.unix).exists():
        return
    found = Path(config.sockets.unix).stat()
    owner, group = pwd.getpwuid(found.st_uid).pw_name, grp.getgrgid(found.st_gid).gr_name
    yield Finding("ok", "permissions", f"{config.sockets.unix} is for {owner} and the group {group}")


def _disk(_config: Config | None) -> Iterator[Finding]:
    from edged.cli.words import size
    from edged.config.places import places

    state = places().state
    there = next(folder for folder in (state, *state.parents) if folder.exists())
    usage = shutil.disk_usage(there)
    said = f"{size(usage.free)} of {size(usage.total)} are free below {state}"
    if usage.free < max(_LOW_BYTES, _LOW_SHARE * usage.total):
        yield Finding(
            "bad", "disk", said, "A push needs its model's size twice; results of a lost broker up to outbox.size."
        )
    else:
        yield Finding("ok", "disk", said)
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        yield Finding("bad", "disk", f"{there} is read-only", "A worn card shows so: look at dmesg.")
    elif state.exists() and not os.access(state, os.W_OK):
        yield Finding("note", "disk", f"{state} may not be written by this user", "Run it with sudo to see all.")
    for file in sorted(state.glob("*.damaged")):
        hint = f"`edged log` says what was lost. When that is mended: rm {file}"
        yield Finding("bad", "disk", f"{file} is what is left of a file that was damaged", hint)


def _memory(config: Config | None) -> Iterator[Finding]:
    from edged.cli.words import size

    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = sum(model.limits.memory or 0 for model in config.models) if config is not None else 0
    said = f"{size(total)}, {os.cpu_count()} cores"
    if limits > total:
        yield Finding(
            "note",
            "memory",
            f"{said}; the models' limits sum up to {size(limits)}",
            "They need not all reach them; `swap: stop_start` keeps two versions from being there at once.",
        )
    else:
        yield Finding("ok", "memory", said)


def _clock(_config: Config | None) -> Iterator[Finding]:
    from edged.observe.clock import WallClock

    if WallClock().synced():
        yield Finding("ok", "clock", time.strftime("synchronised: %Y-%m-%d %H:%M:%S %z"))
    else:
        said = time.strftime("nobody has set it: %Y-%m-%d %H:%M:%S %z")
        hint = "Install systemd-timesyncd or chrony. Until then results say so, and nothing expires."
        yield Finding("bad", "clock", said, hint)


def _providers(config: Config | None) -> Iterator[Finding]:
    """What onnxruntime was built with. Whether it finds a device a model's own process tells (`_daemon`)."""
    from edged.worker.providers.table import PROVIDERS
    from edged.worker.session import installed

    version, built = installed()
    yield Finding("ok", "onnxruntime", f"{version}: {', '.join(built)}")
    models = config.models if config is not None else ()
    for word, provider in PROVIDERS.items():
        wanted = [model for model in models if word in model.providers]
        if wanted and provider.name not in built:
            said = f"{provider.name} is not in it, which {', '.join(model.name for model in wanted)} is to run on"
            yield Finding("bad", word, said, provider.hint(said))


def _hint_of(fallback: str) -> str:
    """What to do about a provider that its model fell back from: `cuda: the reason`."""
    from edged.worker.providers.table import PROVIDERS

    word, _, why = fallback.partition(": ")
    return PROVIDERS[word].hint(why) if word in PROVIDERS else ""


def _telemetry(_config: Config | None) -> Iterator[Finding]:
    from edged.config.places import places

    homes = {Path.home(), places().state}
    found = [home / _TELEMETRY for home in homes if (home / _TELEMETRY).exists()]
    if os.environ.get("ORT_DISABLE_TELEMETRY") != "1":
        yield Finding("bad", "telemetry", "onnxruntime's is not switched off", "ORT_DISABLE_TELEMETRY=1")
    elif found:
        hint = f"Another program's, which uses onnxruntime without edged. rm -r {found[0]}"
        yield Finding("note", "telemetry", f"onnxruntime has written into {found[0]}", hint)
    else:
        yield Finding("ok", "telemetry", "onnxruntime's is off")


def _unit(_config: Config | None) -> Iterator[Finding]:
    analyze = shutil.which("systemd-analyze")
    if not UNIT.exists() or analyze is None:
        yield Finding("note", "unit", "edged is not installed as a service here")
        return
    command = [analyze, "security", "--no-pager", "edged.service"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=_ASKED_S)  # noqa: S603
    shown = done.stdout
    word, _, rest = shown.rpartition("exposure level for edged.service: ")
    if not word:
        yield Finding("note", "unit", "systemd does not say how open it is")
        return
    exposure = float(rest.split()[0])
    if exposure <= EXPOSURE:
        yield Finding("ok", "unit", f"exposure {exposure} of 10")
    else:
        hint = "systemctl cat edged shows which drop-in opens it."
        yield Finding("note", "unit", f"exposure {exposure} of 10, as shipped at most {EXPOSURE}", hint)
