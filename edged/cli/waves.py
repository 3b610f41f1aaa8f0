"""`edged fleet rollout`, `pause` and `undo`: orders to many boxes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edged.cli import connected, signing
from edged.errors import EdgedError
from edged.topics import Ota, is_name

if TYPE_CHECKING:
    from edged.delivery.documents import Release, Trust, Want
    from edged.fleet.ordering import Sign
    from edged.fleet.view import Fleet
    from edged.fleet.waves import Plan


def arguments(verbs: Any) -> None:
    rollout = verbs.add_parser(
        "rollout",
        help="a release to many boxes, wave after wave; may be ended at any time and begun again",
        description="Publishes wants with a rising percent, and goes on to the next wave when nine of ten online boxes "
        "of this one run the release and the soak has passed. Too many failures: it halts, and the want is paused. It "
        "keeps nothing of its own: the same command goes on where the broker says it is.",
    )
    rollout.add_argument(
        "what", metavar="RELEASE|MODEL", help="a release's folder; a model: go on with its newest want"
    )
    rollout.add_argument(
        "--to", metavar="WHOM", help="all, group:G or device:D (default: all, or whom the want is for)"
    )
    rollout.add_argument("--waves", metavar="P,P,..", default="1,10,50,100", help="percents of the boxes (1,10,50,100)")
    rollout.add_argument("--soak", metavar="30m", default="30m", help="how long a wave is watched at least (30m)")
    rollout.add_argument(
        "--max-fail", metavar="2%", default="2%", help="halts above this percent of failed boxes (2%%)"
    )
    rollout.add_argument("--min-fail", metavar="N", default="2", help="and above this number of them (2)")
    rollout.add_argument("--every", metavar="10s", default="10s", help="how often to look (10s)")
    rollout.add_argument("--spread", metavar="10m", help="boxes of a wave begin within this time (0)")
    rollout.add_argument("--retry", action="store_true", help="boxes that failed this release may try it again")
    rollout.add_argument("--allow-downgrade", action="store_true", help="also where a newer version runs")
    signing.arguments(rollout)
    pause = verbs.add_parser("pause", help="boxes that have not switched yet stop; those on probation finish")
    _model_and_whom(pause)
    signing.arguments(pause)
    undo = verbs.add_parser("undo", help="the boxes of the newest want go back; takes no key")
    _model_and_whom(undo)
    undo.add_argument("--only", choices=["bad"], help="those alone that `edged fleet status --bad` lists")


def _model_and_whom(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--to", metavar="WHOM", help="all, group:G or device:D (default: whom the newest want is for)")


def _rollout(args: argparse.Namespace) -> int:
    """0 when all waves are through, 1 when it must not go on."""
    from edged.config.units import Duration
    from edged.fleet.rollout import Conductor

    plan = _plan(args)
    if not Path(args.what).is_dir():
        _check_model(args.what)
    every_s = _quantity("--every", args.every, Duration.parse)
    trust, sign = connected.deployer(args)
    with connected.broker() as broker:
        want = _want(args, broker.read, trust, sign)
        print(f"{want.model} version {want.version} ({want.release[:10]}) to {want.to}", flush=True)
        conductor = Conductor(broker, want, plan, sign, _say, retry=args.retry, every_s=max(every_s, 0.1))
        end = conductor.run()
    wave = f" ({end.wave})" if end.wave else ""
    if not end.ok:
        raise EdgedError("halted", f"{end.why}{wave}")
    print(f"{want.model}: {end.why}{wave}")
    return 0


def _pause(args: argparse.Namespace) -> int:
    from edged.fleet import intervention, ordering

    connected.check_model(args.model)
    to = ordering.scope(args.to) if args.to else ""
    _, sign = connected.deployer(args)
    with connected.broker() as broker:
        fleet = broker.read(args.model)
        paused = intervention.pause(fleet, args.model, to, Ota(broker.base), sign, broker.bring, connected.now_ms())
    if paused is None:
        print(f"{args.model}: is paused already")
    else:
        print(f"{args.model}: version {paused.version} for {paused.to} is paused at {paused.rollout.percent:g} %")
    return 0


def _undo(args: argparse.Namespace) -> int:
    from edged.fleet import intervention, ordering

    connected.check_model(args.model)
    to = ordering.scope(args.to) if args.to else ""
    with connected.broker() as broker:
        fleet = broker.read(args.model)
        undone = intervention.undo(fleet, args.model, to, Ota(broker.base), broker.bring, only_bad=args.only == "bad")
    release = f"release {undone.undo.order.release[:10]}"
    if undone.all:
        print(f"{args.model}: {undone.undo.to} goes back from {release}")
    elif undone.boxes:
        print(f"{args.model}: told to go back from {release}: {', '.join(undone.boxes)}")
    elif args.only:
        print(f"{args.model}: no bad box is on {release}")
    else:
        print(f"{args.model}: {undone.undo.to} has been told already to go back from {release}")
    return 0


VERBS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {"rollout": _rollout, "pause": _pause, "undo": _undo}


def _want(args: argparse.Namespace, read: Callable[[str], Fleet], trust: Trust, sign: Sign) -> Want:
    """What goes where, without its place: from a release's folder, or from the newest want of a model."""
    import msgspec

    from edged.config.units import Duration
    from edged.delivery.documents import Rollout, Want
    from edged.fleet import intervention, ordering

    to = ordering.scope(args.to) if args.to else ""
    if Path(args.what).is_dir():
        release, sha256 = _ship(Path(args.what), trust, sign)
        want = Want(release.model, to or "all", 0, 0, 0, sha256, release.version)
    else:
        _, want = intervention.newest(read(args.what), args.what, to)
    spread_s = want.rollout.spread_s if args.spread is None else _quantity("--spread", args.spread, Duration.parse)
    return msgspec.structs.replace(
        want,
        epoch=trust.epoch,
        action="install",
        allow_downgrade=want.allow_downgrade or args.allow_downgrade,
        rollout=Rollout(spread_s=spread_s),
    )


def _check_model(what: str) -> None:
    """Raises EdgedError bad_config for what is neither a model nor, as it is no folder, a release."""
    if Path(what).is_file() and not is_name(what):
        hint = f"`edged release {what} --model M --version N` makes one; a rollout takes its folder."
        raise EdgedError("bad_config", f"{what} is a file, and no release", hint)
    if "/" in what:
        raise EdgedError("bad_config", f"{what}: there is no such folder", "Name a release's folder, or a model.")
    connected.check_model(what)


def _ship(folder: Path, trust: Trust, sign: Sign) -> tuple[Release, str]:
    """Brings what the broker does not have of a release, and gives it with its name. Raises EdgedError."""
    from edged.cli.bar import Bar
    from edged.cli.signed import show
    from edged.fleet import config
    from edged.fleet.memory import NAME, Memory
    from edged.fleet.ordering import LIVES_S
    from edged.fleet.parcel import Parcel
    from edged.fleet.pushing import Push
    from edged.fleet.trustbook import TrustBook

    settings, parcel = config.read(), Parcel.open(folder)
    book, bar = TrustBook(settings.trust), Bar("upload")
    push = Push(settings.broker(), parcel, book.versions(), book.anchored(), sign, connected.counts(trust))
    try:
        sent = push.ship(LIVES_S, lambda progress: show(bar, progress))
    finally:
        bar.end()
    Memory(Path(settings.file).with_name(NAME)).note(parcel.sha256, [one.sha256 for one in parcel.blobs])
    print(
        f"the broker has {sent.pieces} pieces: {sent.sent} were sent, {sent.pieces - sent.sent} were there", flush=True
    )
    return parcel.release, parcel.sha256


def _plan(args: argparse.Namespace) -> Plan:
    from edged.config.units import Duration, Percent
    from edged.fleet.waves import Plan

    def number(option: str, text: str) -> float:
        return _quantity(option, text.removesuffix("%"), float)

    try:
        waves = tuple(float(one.removesuffix("%")) for one in args.waves.split(","))
    except ValueError:
        waves = (0.0,)  # which is none either
    if list(waves) != sorted(set(waves)) or not 0 < waves[0] <= waves[-1] <= 100:
        raise EdgedError(
            "bad_config", f"--waves {args.waves}: percents above 0 up to 100, rising", "Such as 1,10,50,100."
        )
    min_fail = number("--min-fail", args.min_fail)
    if min_fail < 0 or not min_fail.is_integer():
        raise EdgedError("bad_config", f"--min-fail {args.min_fail}: a number of boxes", "")
    return Plan(
        waves,
        _quantity("--soak", args.soak, Duration.parse),
        100 * _quantity("--max-fail", args.max_fail, Percent.parse),
        int(min_fail),
    )


def _quantity(option: str, text: str, parse: Callable[[Any], float]) -> float:
    try:
        return float(parse(0 if text == "0" else text))
    except ValueError as error:
        raise EdgedError(
            "bad_config", f"{option} {text}: {error}", f"`edged fleet rollout --help` explains {option}."
        ) from error


def _say(text: str) -> None:
    print(text, flush=True)
