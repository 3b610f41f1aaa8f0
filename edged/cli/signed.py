"""`edged push RELEASE`: brings a release to the broker, orders it, and follows what the boxes make of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edged.cli import brokers, connected
from edged.cli.bar import Bar
from edged.cli.outcomes import Lines
from edged.cli.words import size
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.config.schema import Mqtt
    from edged.delivery.documents import Watching
    from edged.fleet.parcel import Parcel
    from edged.fleet.pushing import Pushed
    from edged.fleet.terms import Terms
    from edged.fleet.upload import Progress
    from edged.fleet.view import Counts

_SERVE_RATE: Final = 100.0  # pieces a second: 9 MB/s, and the broker's other traffic goes on

_FIGURES: Final = "10m, or some of time=10m,runs=500,max_errors=1%,max_latency=3x."


def push(args: argparse.Namespace) -> int:
    """0 when the order lies there, with --wait or --serve when every online box runs the release; else 1."""
    from edged.cli.push import seconds
    from edged.fleet import config
    from edged.fleet.memory import NAME, Memory
    from edged.fleet.parcel import Parcel
    from edged.fleet.pushing import Push
    from edged.fleet.trustbook import TrustBook

    terms = _terms(args)
    wait_s = seconds("--wait", args.wait) if args.wait is not None else None
    settings = config.read()
    mqtt = brokers.of_fleet(args, settings)
    book = TrustBook(settings.trust)
    parcel, anchored = Parcel.open(Path(args.what)), book.anchored()
    trust, sign = connected.deployer(args)
    counts = connected.counts(trust)
    release = parcel.release
    print(f"{release.model} version {release.version} ({parcel.sha256[:10]}), {size(release.size)}", flush=True)
    bar = Bar("upload")

    def note(text: str) -> None:
        bar.end()
        _note(text)

    try:
        pushed = Push(mqtt, parcel, book.versions(), anchored, sign, counts, rate=args.rate).run(
            terms, lambda progress: show(bar, progress), note, keep=not args.serve
        )
    finally:
        bar.end()
    Memory(Path(settings.file).with_name(NAME)).note(parcel.sha256, [one.sha256 for one in parcel.blobs])
    _tell(pushed, args)
    if not args.serve and not wait_s:
        return 0
    return _follow(args, mqtt, parcel, pushed, counts, wait_s)


def _note(text: str) -> None:
    print(f"edged: {text}", file=sys.stderr, flush=True)


def show(bar: Bar, progress: Progress) -> None:
    """How far an upload is."""
    note = f", {size(progress.reused)} were there" if progress.reused else ""
    if progress.there + progress.confirmed < progress.total or progress.confirmed:
        note += f", {size(progress.there)} read back"
    bar.show(progress.there + progress.confirmed, progress.total, note)


def _tell(pushed: Pushed, args: argparse.Namespace) -> None:
    sent, want = pushed.sent, pushed.want
    if sent is not None:
        again = f", {sent.again} of them more than once" if sent.again else ""
        print(
            f"the broker has {sent.pieces} pieces, {size(sent.size)}: {sent.sent} were sent "
            f"({size(sent.sent_size)}){again}, {sent.pieces - sent.sent} were there"
        )
    percent = f", {want.rollout.percent:g} %" if want.rollout.percent < 100 else ""
    if pushed.new:
        verb = "download" if want.action == "download_only" else "run"
        print(f"ordered: {args.to} shall {verb} version {want.version}{percent} (sequence {want.epoch}/{want.seq})")
    else:
        print(f"nothing to order: {args.to} has this order already{percent} (sequence {want.epoch}/{want.seq})")
        print(
            "  --retry orders it anew, for boxes that failed it, or where a person has installed something else",
            file=sys.stderr,
        )
    sys.stdout.flush()


def _follow(
    args: argparse.Namespace, mqtt: Mqtt, parcel: Parcel, pushed: Pushed, counts: Counts, wait_s: float | None
) -> int:
    from edged.fleet.following import Following, Server

    lines = Lines()
    following = Following(mqtt, pushed.want, counts, lines.show, online=pushed.online, note=_note)
    if args.serve:
        with Server(mqtt, parcel, args.rate or _SERVE_RATE) as server:
            print("sending pieces to boxes that ask; Ctrl-C ends it", flush=True)
            found = following.run(wait_s, server)
            print(f"{server.answers.sent} pieces were sent", file=sys.stderr)
    else:
        found = following.run(wait_s)
    lines.end(found)
    return 0 if found.good else 1


def _terms(args: argparse.Namespace) -> Terms:
    from edged.cli.push import seconds
    from edged.fleet import ordering
    from edged.fleet.terms import Terms

    if not 0 < args.percent <= 100:
        raise EdgedError("bad_config", f"--percent {args.percent:g}: above 0, up to 100", "")
    if not args.rate >= 0:
        raise EdgedError("bad_config", f"--rate {args.rate:g}: messages a second, 0 for no limit", "")
    lives_s = seconds("--expires", args.expires)
    if not 60 <= lives_s <= 10 * 365 * 86400:
        raise EdgedError("bad_config", f"--expires {args.expires}: from 1m to 3650d", "")
    return Terms(
        ordering.scope(args.to),
        args.percent,
        args.allow_downgrade,
        args.retry,
        args.urgent,
        args.download_only,
        lives_s,
        _watching(args.probation),
    )


def _watching(text: str) -> Watching:
    """`10m`, or `time=10m,runs=500,max_errors=1%,max_latency=3x` in any order."""
    from edged.config.units import Duration, Factor, Percent
    from edged.delivery.documents import Watching

    found: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.rpartition("=")
        try:
            match name.strip().replace("-", "_"):
                case "" | "time":
                    found["time_s"] = float(Duration.parse(value))
                case "runs":
                    found["runs"] = int(value)
                case "max_errors":
                    found["max_errors"] = float(Percent.parse(value))
                case "max_latency":
                    found["max_latency"] = float(Factor.parse(value))
                case other:
                    raise EdgedError("bad_config", f"--probation has no {other[:40]!r}", _FIGURES)
        except ValueError as error:
            raise EdgedError("bad_config", f"--probation {part}: {error}", _FIGURES) from error
    if min(found.values(), default=0) < 0:
        raise EdgedError("bad_config", f"--probation {text}: nothing is below 0", "")
    return Watching(**found)  # type: ignore[arg-type]  # runs is an int
