"""`edged init`: a commented configuration to begin with, from what is on the box and in a model's file."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edged.config.mistakes import ConfigErrors, Refusal
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.cli.starter.box import Surroundings
    from edged.cli.starter.text import Section

HELP = "write a configuration to begin with, from what is on this box and in a model's file"
EXAMPLES = """
edged init digits.onnx
edged init photos.onnx --output edged.yaml
edged init photos.onnx --output -
edged init --broker mqtt://broker.plant
sudo edged init /usr/local/share/edged/digits.onnx --force && sudo systemctl reload edged
"""

_BROKER: Final = "mqtt://127.0.0.1:1883"
# What a file's name says of its making, and not of the model: the next version keeps the model's name.
_MAKING: Final = re.compile(
    r"[-_. ](v\d+|u?int8|float(16|32)?|fp(16|32)|q8|qdq|quant(ized)?|dynamic|static|sim(plified)?|opset\d+)$"
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE.onnx", nargs="?", type=Path, help="a model to begin with")
    parser.add_argument("--model", metavar="NAME", help="what it is called (default: by its file)")
    parser.add_argument(
        "--output", metavar="FILE", help="where to write (default: this box's, /etc/edged/edged.yaml); - only shows it"
    )
    parser.add_argument("--force", action="store_true", help="write over a configuration that is there already")
    parser.add_argument("--broker", metavar="URL", help="the broker (default: the one on this box, where it answers)")


def run(args: argparse.Namespace) -> int:
    """0 when it is written, and valid. Raises EdgedError, and ConfigErrors for what conf.d beside it has."""
    from edged.cli.starter import box
    from edged.config.places import places

    name = name_of(args) if args.file else ""
    target = Path(args.output) if args.output else places().config
    if args.output != "-" and target.exists() and not args.force:
        hint = "Name another with --output, look at it with --output -, or write over it with --force."
        raise EdgedError("bad_config", f"{target} is there already", hint)
    try:
        around = box.look(args.broker or _BROKER)
    except Refusal as error:
        raise EdgedError("bad_config", f"--broker {args.broker}: {error}", error.hint) from error
    if args.output == "-":
        with tempfile.TemporaryDirectory(prefix="edged-init-") as folder:
            text, section = _made(args, name, around, Path(folder) / "edged.yaml")
        print(text, end="")
        print("\n".join(_report(None, section, around)), file=sys.stderr)
        return 0
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        text, section = _made(args, name, around, target)
        with target.open("w" if args.force else "x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise EdgedError("bad_config", f"{target}: {error.strerror}", "Name another with --output.") from error
    print("\n".join(_report(target, section, around)))
    return 0


def name_of(args: argparse.Namespace) -> str:
    """A model's name out of its file's, or the one that was said. Raises EdgedError bad_config."""
    from edged.topics import is_name

    if args.model is not None:
        if not is_name(args.model):
            hint = "Letters, digits, _ and -, at most 64."
            raise EdgedError("bad_config", f"--model {args.model}: that is no name", hint)
        return str(args.model)
    stem = args.file.name.lower().removesuffix(".onnx")
    while _MAKING.search(stem):
        stem = _MAKING.sub("", stem)
    return re.sub(r"[^a-z0-9_-]+", "_", stem).strip("_-")[:64] or "model"


def _made(args: argparse.Namespace, name: str, around: Surroundings, target: Path) -> tuple[str, Section | None]:
    """The text, which is valid where `target` lies, and whose model has answered with its steps.

    Steps that turn out not to fit are left out, with the reason in their place.
    """
    from edged.cli.starter import model, text

    asked = args.broker is not None
    if not args.file:
        written = text.whole(around, None, asked=asked)
        _tried(written, target, None)
        return written, None
    section = model.meet(name, args.file, target.parent, around.memory)
    written = text.whole(around, section, asked=asked)
    if why := _tried(written, target, section):
        section = section.bare(why)
        written = text.whole(around, section, asked=asked)
        if why := _tried(written, target, section):
            raise EdgedError("bad_config", f"{args.file}: {why}")
    return written, section


def _tried(text: str, target: Path, section: Section | None) -> str:
    """Why the model of this configuration does not answer; "" when it does.

    Raises ConfigErrors for mistakes that are not in the text: those of conf.d beside it.
    """
    from edged.cli.starter.model import trial
    from edged.config.load import load
    from edged.serving.glimpse import attempt

    draft = target.with_name(f".{target.name}.draft")
    try:
        draft.write_text(text, "utf-8")
        config = load(draft)
    except ConfigErrors as errors:
        ours = [one for one in errors.mistakes if one.file == str(draft)]
        if section is None or len(ours) < len(errors.mistakes):
            raise
        return ours[0].what
    finally:
        draft.unlink(missing_ok=True)
    if section is None:
        return ""
    model = next(one for one in config.models if one.name == section.name)
    problem = attempt(model, *trial(section))
    return problem.message if problem else ""


def _report(target: Path | None, section: Section | None, around: Surroundings) -> Iterator[str]:
    """What was found, and what to do with it, line by line. `target`: None where it was only shown."""
    from edged.cli.words import plain, size

    if target:
        yield f"{target}: written"
    yield f"  box     {around.cores} cores, {size(around.memory)}, onnxruntime for {', '.join(around.providers)}"
    broker = around.broker
    state = f"refuses: {plain(broker.refused)}" if broker.refused else "answers" if broker.there else "does not answer"
    yield f"  broker  {broker.url} {state}"
    if section is None:
        yield "  model   none: `edged init FILE.onnx` writes one"
    else:
        yield f"  model   {section.name}: {section.likely.about}"
        for why in filter(None, (section.likely.before_why, section.likely.after_why, *section.likely.notes)):
            yield f"          {plain(why)}"
    if target:
        yield from _next(target, section)


def _next(target: Path, section: Section | None) -> Iterator[str]:
    from edged.cli.starter.box import hidden
    from edged.cli.symptoms import UNIT
    from edged.config.places import places

    named = "" if target.absolute() == places().config.absolute() else f" --config {shlex.quote(str(target))}"
    service = not named and UNIT.exists()
    if section is not None and service and hidden(target.parent / section.file):
        yield f"  beware  the service does not see {section.file}: put it into /usr/local/share/edged, say"
    yield f"  next    {'sudo systemctl reload-or-restart edged' if service else f'edged run{named}'}"
    if section is not None:
        given = {"picture": "PICTURE.jpg", "values": "NUMBERS.json", "raw": "ARRAY.npy"}
        what = given.get(section.likely.kind, "--input NAME=ARRAY.npy")
        yield f"          edged infer {section.name} {what}{named}"
