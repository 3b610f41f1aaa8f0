"""`edged status`: what the daemon on this box does, read from GET /edged/status."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from edged.cli import local
from edged.cli.words import columns, duration, plain, size
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.observe.resources import Box, Total
    from edged.observe.status import ModelStatus, Status

HELP = "show the models, their rates and latencies, memory, the broker and the last install"
EXAMPLES = """
edged status
edged status --watch
edged status --json
edged status --ready && echo all models answer
"""

_EVERY_S: Final = 2.0
_CLEAR: Final = "\x1b[H\x1b[2J"
_HEAD: Final = ("MODEL", "STATE", "VERSION", "RATE/s", "P50 ms", "P99 ms", "WAITING", "RUNNING")
_MORE: Final = ("REQUESTS", "ERRORS", "DROPPED", "MEMORY", "LAST PUSH")
_NUMBERS: Final = frozenset(range(3, 12))


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the daemon's own document; with --watch one a line")
    parser.add_argument(
        "--ready", action="store_true", help="only whether no configured model has failed, by the exit code: for probes"
    )
    parser.add_argument("--watch", action="store_true", help=f"again every {_EVERY_S:g} s, until Ctrl-C")
    local.arguments(parser)


def run(args: argparse.Namespace) -> int:
    daemon = local.connect(args, timeout_s=10)
    if args.ready:
        daemon.get("/v2/health/ready")
        return 0
    if not args.watch:
        _show(daemon, as_json=args.json)
        return 0
    try:
        for _ in itertools.count():
            _show_again(daemon, as_json=args.json)
            time.sleep(_EVERY_S)
    except KeyboardInterrupt:
        pass
    return 0


def _show(daemon: local.Daemon, *, as_json: bool) -> None:
    document = daemon.get("/edged/status")
    if as_json:
        print(json.dumps(document.json(), indent=2))
    else:
        print("\n".join(report(_read(document))))


def _show_again(daemon: local.Daemon, *, as_json: bool) -> None:
    """One round of --watch. A daemon that is away, restarting perhaps, is waited for."""
    try:
        document = daemon.get("/edged/status")
    except EdgedError as error:
        if error.fault.code != "no_daemon":
            raise
        print(f"edged: {error.fault.message}", file=sys.stderr, flush=True)
        return
    if as_json:
        print(json.dumps(document.json()), flush=True)
    else:
        clear = _CLEAR if sys.stdout.isatty() else ""
        print(clear + "\n".join(report(_read(document))), end="\n" if clear else "\n\n", flush=True)


def _read(reply: local.Reply) -> Status:
    import msgspec

    from edged.observe.status import Status

    try:
        return msgspec.json.decode(reply.body, type=Status)
    except msgspec.DecodeError as error:
        hint = "The daemon is another version than this command: `edged status --json` shows what it says."
        raise EdgedError("internal", f"the status cannot be read: {error}", hint) from error


def report(status: Status) -> Iterator[str]:
    """The status as lines for people."""
    daemon = status.daemon
    yield f"{daemon.device}  edged {daemon.version}, up {duration(daemon.uptime_s)}, process {daemon.pid}"
    if status.box is not None:
        yield _box(status.box, status.tree)
    yield from _mqtt(daemon.mqtt)
    if "unsigned_ok" in daemon.flags:
        yield "pushes need no signature: push.require_signature is false [unsigned_ok]"
    if daemon.audit.waiting or daemon.audit.lost:
        yield f"audit: {daemon.audit.waiting} lines wait for the disk, {daemon.audit.lost} are lost"
    if daemon.reload is not None and daemon.reload.code:
        yield f"{plain(daemon.reload.message)} [{daemon.reload.code}]"
        yield f"  {plain(daemon.reload.hint)}"
    yield ""
    if not status.models:
        yield "no model is configured"
        return
    yield from columns([(*_HEAD, *_MORE), *map(_row, status.models)], right=_NUMBERS)
    for model in status.models:
        yield from _remarks(model)


def _box(box: Box, tree: Total | None) -> str:
    parts = []
    if box.cpu is not None:
        parts.append(f"CPU {box.cpu:.0%} of {box.cores}")
    if box.memory_total is not None and box.memory_available is not None:
        parts.append(f"memory {size(box.memory_total - box.memory_available)} of {size(box.memory_total)}")
    if box.disk_free is not None:
        parts.append(f"disk {size(box.disk_free)} free")
    if box.temperature is not None:
        parts.append(f"{box.temperature:.0f} °C")
    if tree is not None:
        parts.append(f"edged itself {size(tree.memory)} in {tree.processes} processes")
    return ", ".join(parts)


def _mqtt(facts: dict[str, object] | None) -> Iterator[str]:
    if facts is None:
        yield "MQTT off: no broker is configured"
        return
    url = plain(facts.get("url", ""))
    if facts.get("connected"):
        urls = facts.get("urls")
        place = f", {urls.index(url) + 1} of {len(urls)}" if isinstance(urls, list) and url in urls[1:] else ""
        yield f"MQTT {plain(facts.get('version', ''))} connected to {url}{place}"
    else:
        why = plain(facts.get("last_error") or "")
        yield f"MQTT away from {url}{': ' + why if why else ''}"
    if facts.get("pushes_url") and facts.get("pushes_url") != url:
        state = "connected to" if facts.get("pushes_connected") else "away from"
        yield f"     pushes: {state} {plain(facts['pushes_url'])}"
    yield from _outbox(facts.get("outbox"))
    for name, meaning in (("refused", "the broker refused the subscription"), ("quarantined", "not subscribed")):
        topics = facts.get(name)
        if isinstance(topics, list):
            yield from (f"     {meaning} {plain(topic)}" for topic in topics)


def _outbox(stored: object) -> Iterator[str]:
    """What waits for the broker on the disk; nothing where all is well."""
    if not isinstance(stored, dict):
        return
    if stored.get("messages"):
        yield f"     {stored['messages']} messages wait in the outbox, {size(stored.get('bytes'))}"
    for what in ("fault", "unread"):
        if stored.get(what):
            yield f"     {plain(stored[what])}"


def _row(model: ModelStatus) -> tuple[str, ...]:
    return (
        model.name,
        model.state,
        plain(model.version) or "-",
        f"{model.rate:.1f}",
        _ms(model.p50_ms),
        _ms(model.p99_ms),
        str(model.queue),
        str(model.in_flight),
        str(model.requests),
        str(model.errors),
        str(sum(model.dropped.values())),
        size(model.memory_bytes),
        _install(model),
    )


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _install(model: ModelStatus) -> str:
    install = model.install
    if install is None or (install.verdict is None and install.phase == "idle"):
        return "-"
    return f"{install.verdict or install.phase}{f' ({install.code})' if install.code else ''}"


def _remarks(model: ModelStatus) -> Iterator[str]:
    """What a line of the table has no room for."""
    if model.fault is not None:
        yield f"{model.name}: {plain(model.fault['message'])} [{model.fault['code']}]"
        yield f"  {plain(model.fault['hint'])}"
    if model.fallback:
        yield f"{model.name}: runs on the CPU: {plain(model.fallback)} [no_provider]"
        yield "  `edged doctor` says what is missing"
    if model.install is not None and model.install.message:
        yield f"{model.name}: last push: {plain(model.install.message)}"
    for whom, code in (model.install.refused if model.install else {}).items():
        yield f"{model.name}: what lies on the topic want/{model.name}/{plain(whom)} is refused [{plain(code)}]"
    if model.install is not None and model.install.held:
        who, pinned = plain(str(model.install.held.get("by", ""))), model.install.held.get("pinned")
        how = "at this version: no want and no push counts" if pinned else "against wants: none counts"
        yield f"{model.name}: {who} holds it {how} until `edged unpin {model.name}`"
    if model.dropped:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(model.dropped.items()))
        yield f"{model.name}: dropped {reasons}"
    if model.restarts:
        yield f"{model.name}: its process was started again {model.restarts} times"
