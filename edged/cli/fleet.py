"""`edged fleet`: many boxes, from what the broker keeps of them."""

from __future__ import annotations

import argparse
import json
import os
import sys

from edged.cli import connected, forget, waves
from edged.errors import EdgedError

HELP = "the boxes of a fleet: where each of them stands, rollouts in waves, the way back"
EXAMPLES = """
edged fleet status
edged fleet status --model digits --bad
edged fleet show press-07
edged fleet rollout releases/digits-7 --to all --waves 1,10,50,100 --soak 30m --max-fail 2% --min-fail 2
edged fleet rollout digits
edged fleet pause digits
edged fleet undo digits --only bad
edged fleet forget press-07
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    status = verbs.add_parser("status", help="every box: what it runs, what it should, and why not")
    status.add_argument("--model", metavar="M", help="of this model alone")
    status.add_argument("--bad", action="store_true", help="those alone that somebody should look at")
    status.add_argument("--json", action="store_true", help="for scripts")
    show = verbs.add_parser("show", help="everything that one box says")
    show.add_argument("box", metavar="BOX")
    show.add_argument("--json", action="store_true", help="for scripts")
    waves.arguments(verbs)
    forget.arguments(verbs)


def run(args: argparse.Namespace) -> int:
    verbs = {"status": _status, "show": _show, **waves.VERBS, "forget": forget.run}
    return verbs[args.verb](args)


def _status(args: argparse.Namespace) -> int:
    from edged.cli import standings as lines
    from edged.fleet.standing import standings

    if args.model:
        connected.check_model(args.model)
    with connected.broker() as broker:
        fleet = broker.read(args.model or "+")
    models = sorted({one.name for box in fleet.boxes for one in box.models if args.model in (None, one.name)})
    found = [one for model in models for one in standings(fleet, model)]
    shown = [one for one in found if one.bad or not args.bad]
    if args.json:
        document = lines.as_json(fleet, shown)
        names = {one.box.name for one in shown}
        document["boxes"] = [one for one in document["boxes"] if one["name"] in names or not (args.bad or args.model)]
        print(json.dumps(document, indent=2))
        return 0
    if shown:
        print("\n".join(lines.table(shown, colour=_colour())))
        print()
    print("\n".join(lines.summary(fleet, found, connected.now_ms()) if found else [_nobody(broker.base, args.model)]))
    for note in lines.notes(fleet):
        print(f"edged: {note}", file=sys.stderr)
    return 0


def _show(args: argparse.Namespace) -> int:
    from edged.cli import standings as lines
    from edged.fleet import standing

    with connected.broker() as broker:
        fleet = broker.read()
    box = fleet.box(args.box)
    if box is None:
        hint = "`edged fleet status` lists those that it knows."
        raise EdgedError("not_found", f"the broker knows no box {args.box[:70]!r} under {broker.base}", hint)
    found = [standing.of(box, model, fleet.newest(model.name, box)) for model in box.models]
    if args.json:
        print(
            json.dumps(
                lines.as_json(fleet, found)["boxes"][[one.name for one in fleet.boxes].index(box.name)], indent=2
            )
        )
    else:
        print("\n".join(lines.box_in_full(box, found, connected.now_ms())))
    return 0


def _nobody(base: str, model: str | None) -> str:
    return f"no box{f' with the model {model}' if model else ''} has said a word under {base} on this broker"


def _colour() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ
