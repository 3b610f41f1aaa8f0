"""`edged push`: a signed release to many boxes, or with --simple a model file to one; and what waits and tidies up."""

from __future__ import annotations

import argparse
from pathlib import Path

from edged.cli import brokers, signing
from edged.errors import EdgedError

HELP = (
    "bring a release to the broker and order boxes to run it; waiting: 1 unless every online box runs it, and one does"
)
EXAMPLES = """
edged push releases/digits-7 --to all --wait
edged push releases/digits-7 --to group:line-2 --percent 10 --wait=30m
edged push releases/digits-6 --to device:press-07 --allow-downgrade --retry --wait
edged push releases/digits-7 --to all --probation 10m --expires 7d
edged push releases/digits-7 --to all --serve
edged push --gc --dry-run
edged push --simple digits_v2.onnx --model digits --to device:press-07 --broker mqtts://broker.plant --version 7
edged push --simple digits_v2.onnx --model digits --to device:press-07 --wait 0
"""

_WAIT = "15m"
_ONE_OF_TWO = "Push the release first; then `edged push --gc`."


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="RELEASE|FILE.onnx", nargs="?", default="", help="a release's folder")
    parser.add_argument("--to", metavar="WHOM", default="", help="all, group:G or device:D")
    parser.add_argument(
        "--wait", metavar=_WAIT, nargs="?", const=_WAIT, help="for the verdict of each box that is online (15m)"
    )
    terms = parser.add_argument_group("terms of the order")
    terms.add_argument("--percent", metavar="N", type=float, default=100.0, help="of the boxes; raising it adds boxes")
    terms.add_argument("--allow-downgrade", action="store_true", help="also where a newer version runs")
    terms.add_argument("--retry", action="store_true", help="also where it failed before, or somebody holds the model")
    terms.add_argument(
        "--urgent", action="store_true", help="in another release's probation, and outside of hours, too"
    )
    terms.add_argument("--download-only", action="store_true", help="boxes fetch it and do not switch to it")
    terms.add_argument("--expires", metavar="30d", default="30d", help="boxes begin within this time (30d)")
    terms.add_argument(
        "--probation",
        metavar="10m",
        default="",
        help="how long it is watched, or time=10m,runs=500,max_errors=1%%,max_latency=3x (default: as the box says)",
    )
    ways = parser.add_argument_group("other ways")
    ways.add_argument(
        "--serve", action="store_true", help="for brokers without room: stay, and send pieces to boxes that ask"
    )
    ways.add_argument("--rate", metavar="N", type=float, default=0.0, help="at most N messages a second to the broker")
    ways.add_argument("--gc", action="store_true", help="remove what no order on the broker refers to any more")
    ways.add_argument("--dry-run", action="store_true", help="with --gc: only say what would go")
    simple = parser.add_argument_group("the simple push")
    simple.add_argument("--simple", action="store_true", help="the whole file in one message, unsigned, to one box")
    simple.add_argument("--model", metavar="M", help="its name on the box")
    simple.add_argument("--version", metavar="N", type=int, help="default: the highest the box has seen, plus one")
    brokers.arguments(parser)
    signing.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0: done, or every online box that may runs it; 1: some box does not, or there is none that may now."""
    if args.gc:
        if args.what:
            raise EdgedError("bad_config", "--gc takes no release: it removes what no order refers to", _ONE_OF_TWO)
        from edged.cli.clearing import clear

        return clear(args)
    if not args.what and args.wait and Path(args.wait).exists():
        hint = f"`edged push {args.wait} --to {args.to or 'all'} --wait`, say."
        raise EdgedError("bad_config", f"--wait={_WAIT} takes its value with =: {args.wait} was taken for it", hint)
    for given, name in ((args.what, "RELEASE"), (args.to, "--to")):
        if not given:
            raise EdgedError("bad_config", f"{name} is missing", "Such as `edged push releases/digits-7 --to all`.")
    if args.simple:
        from edged.cli import simple

        if not args.model:
            raise EdgedError("bad_config", "--simple needs --model: the file does not say it", "")
        return simple.push(args, seconds("--wait", args.wait or _WAIT))
    from edged.cli import signed

    return signed.push(args)


def seconds(option: str, text: str) -> float:
    """A duration on the command line. Raises EdgedError `bad_config`."""
    from edged.config.units import Duration

    try:
        return float(Duration.parse(0 if text == "0" else text))
    except ValueError as error:
        raise EdgedError("bad_config", f"{option} {text}: {error}", f"For example {option} 15m.") from error
