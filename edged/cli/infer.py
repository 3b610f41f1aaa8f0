"""`edged infer`: sends inputs from files or standard input to a model on this box and shows its answers."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from edged.cli import local, named, stream
from edged.cli.words import plain
from edged.errors import EdgedError
from edged.tensors import BY_NUMPY, BY_OIP
from edged.topics import check_topic

if TYPE_CHECKING:
    from edged.worker.formats.decoded import Array

HELP = "send inputs to a model and show its answers"
EXAMPLES = """
edged infer digits scan.npy
edged infer digits scan.json --json
edged infer digits scans.csv
edged infer photos dog.jpg
ffmpeg -i rtsp://camera/1 -r 1 -f mjpeg - | edged infer faces -
sensor | edged infer pump -
edged infer digits reading.json --topic cells/west/scan
edged infer voice --input audio=audio.npy --input state=state.npy
"""

_JSON: Final = "application/json"
_PICTURES: Final = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png"}
_SHOWN: Final = 12  # values of an output that people see
# What says nothing about one input: the next one would fail the same way.
_HOPELESS: Final = frozenset({"no_daemon", "forbidden", "unknown_model"})


class Request(msgspec.Struct, frozen=True):
    """One input as it goes to the daemon."""

    body: bytes
    content_type: str
    json_length: int | None = None  # of an Open Inference Protocol request with raw tensors behind it


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.set_defaults(refuse=parser.error)
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help=".npy, .json, .jpg, .png, or .csv (an input a row); - or none: lines (JSON, numbers) or MJPEG from stdin",
    )
    what.add_argument(
        "--input", metavar="NAME=FILE", action="append", help="one of the model's own tensors, .npy or .json; repeat it"
    )
    parser.add_argument("--topic", metavar="T", help="read FILE as if it had come on this topic; nothing is published")
    parser.add_argument("--json", action="store_true", help="the daemon's own answer, one a line")
    local.arguments(parser)


def run(args: argparse.Namespace) -> int:
    """0 when every input was answered, 1 when one was not."""
    if args.file is None and not args.input:
        if sys.stdin is None or sys.stdin.isatty():
            args.refuse("expected FILE or --input NAME=FILE, or inputs on standard input")
        args.file = "-"
    daemon = local.connect(args)
    path = f"/v2/models/{local.segment(args.model)}"
    topic = _topic(args)
    many = args.file is not None and (args.file == "-" or args.file.endswith(".csv"))
    failed = False
    for request in _requests(daemon, path, args):
        try:
            answer = _answer(daemon, f"{path}/infer", request, topic)
        except EdgedError as error:
            if not many or error.fault.code in _HOPELESS:
                raise
            failed = True
            print(_failure(error, as_json=args.json), flush=True)
            continue
        print(json.dumps(answer) if args.json else ("  " if many else "\n").join(show(answer)), flush=True)
    return int(failed)


def _requests(daemon: local.Daemon, path: str, args: argparse.Namespace) -> Iterator[Request]:
    """The inputs, read as they are needed: standard input may never end."""
    if args.input:
        yield _tensors(daemon, path, args.input)
    elif args.file == "-":
        yield from (Request(body, kind) for body, kind in stream.inputs(sys.stdin.buffer))
    elif args.file.endswith(".npy"):
        yield Request(_content(args.file), "application/x-npy")
    elif args.file.endswith(".json"):
        yield Request(_content(args.file), _JSON)
    elif (suffix := Path(args.file).suffix.lower()) in _PICTURES:
        yield Request(_content(args.file), _PICTURES[suffix])
    elif args.file.endswith(".csv"):
        yield from (Request(json.dumps(row).encode(), _JSON) for row in rows(_content(args.file), args.file))
    elif args.topic:
        yield Request(_content(args.file), "")
    else:
        raise _wrong(
            f"{args.file}: not a .npy, .json, .jpg, .png or .csv file", "`edged infer MODEL -` reads standard input."
        )


def _topic(args: argparse.Namespace) -> str:
    """The topic to send a file as if it came on, as HTTP's header takes it; "" for none."""
    if not args.topic:
        return ""
    if args.input:
        raise _wrong("--input and --topic: a message has all that it brings in one file", "Send one FILE.")
    try:
        check_topic(args.topic)
    except ValueError as error:
        raise _wrong(f"--topic {args.topic}: {error}") from error
    if not args.topic.isprintable():
        raise _wrong("--topic: one with control characters cannot be asked for")
    return str(args.topic).encode().decode("latin-1")


def _answer(daemon: local.Daemon, path: str, request: Request, topic: str) -> dict[str, Any]:
    # Messages rarely say of what type they are: what their topic's input says decides.
    headers = {"Edged-Topic": topic} if topic else {"Content-Type": request.content_type}
    if request.json_length is not None:
        headers["Inference-Header-Content-Length"] = str(request.json_length)
    answer = daemon.request("POST", path, request.body, headers).json()
    if not isinstance(answer, dict):
        raise EdgedError("internal", "the daemon's answer is no JSON object")
    return answer


def _failure(error: EdgedError, *, as_json: bool) -> str:
    """An input that was not answered, on its line among the answers."""
    problem = error.fault
    if as_json:
        return json.dumps({"error": problem.message, "code": problem.code, "hint": problem.hint})
    return f"error: {plain(problem.message)} [{problem.code}]"


# --- inputs -----------------------------------------------------------------------------------------


def rows(content: bytes, file: str) -> Iterator[list[float | None]]:
    """The rows of a CSV file as numbers, an empty cell as null; a first row of words is a header and left out."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise _misread(f"{file}: not UTF-8 text: {error}") from error
    for number, cells in enumerate(csv.reader(lines), start=1):
        if not cells:
            continue
        try:
            yield [float(cell) if cell.strip() else None for cell in cells]
        except ValueError as error:
            if number > 1:
                raise _misread(f"{file}:{number}: {error}") from error


def _tensors(daemon: local.Daemon, path: str, inputs: Iterable[str]) -> Request:
    """`NAME=FILE`s as one Open Inference Protocol request with raw tensors."""
    from edged.worker.formats.encode import encode_request

    files = {}
    for text in inputs:
        name, equals, file = text.partition("=")
        if not (name and equals and file):
            raise _wrong(f"--input {text}: expected NAME=FILE")
        files[name] = file
    metadata = daemon.get(path).json()
    wanted = {one["name"]: one["datatype"] for one in metadata["inputs"]} if isinstance(metadata, dict) else {}
    for name in files:
        if name not in wanted:
            raise EdgedError("bad_input", f"the model has no input {name!r}, only {', '.join(sorted(wanted))}")
    body, json_length = encode_request({name: _array(file, wanted[name]) for name, file in files.items()})
    return Request(body, "application/octet-stream", json_length)


def _array(file: str, datatype: str) -> Array:
    """A file's array in the datatype that the model takes; float64 becomes float32, 1.5 never becomes 1."""
    import numpy as np

    wanted, hint = np.dtype(BY_OIP[datatype].numpy), f"The model takes {datatype}."
    named.check(Path(file))
    try:
        array = _written(file) if file.endswith(".json") else np.load(file, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise EdgedError("bad_input", f"{file}: {error}", hint) from error
    if file.endswith(".json") and array.dtype.kind == "i" and wanted.kind in "uf":
        return array.astype(wanted)  # JSON has one kind of number
    if wanted.kind != "O" and not np.can_cast(array.dtype, wanted, "same_kind"):
        what = "text" if array.dtype.kind in "US" else array.dtype.name
        raise EdgedError("bad_input", f"{file}: {what} does not go for {datatype}", hint)
    array = array.astype(wanted)
    if array.dtype.name not in BY_NUMPY:
        raise EdgedError("bad_input", f"{file}: no model takes {array.dtype.name}")
    return array


def _written(file: str) -> Array:
    """The array that a JSON file's lists are."""
    import numpy as np

    value = json.loads(_content(file))
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):  # lists of different lengths
        array = np.asarray(None)
    if array.dtype.kind == "O":  # objects, null, whole numbers beyond 64 bits
        found = "an object" if isinstance(value, dict) else "something else"
        hint = "A request of the protocol goes as FILE, without --input."
        raise _misread(f"{file}: expected a number or text, or lists of one shape of them; found {found}", hint)
    return array


def _content(file: str) -> bytes:
    return named.content(Path(file))


def _misread(message: str, hint: str = "") -> EdgedError:
    """What a file has in it is no input."""
    return EdgedError("bad_input", message, hint)


def _wrong(message: str, hint: str = "") -> EdgedError:
    """What the command line says makes no sense."""
    return EdgedError("bad_config", message, hint)


# --- answers ----------------------------------------------------------------------------------------


def show(answer: dict[str, Any]) -> list[str]:
    """An answer in lines for people: its detections or its prediction where it has them, else its outputs."""
    if "detections" in answer:
        return [line for row in _rows(answer["detections"]) for line in map(_detected, row)] or ["nothing found"]
    if "prediction" in answer:
        return [", ".join(map(_scored, row)) or "nothing above min_score" for row in _rows(answer["prediction"])]
    return [_output(one) for one in answer.get("outputs", [])]


def _rows(found: list[Any]) -> Iterator[list[dict[str, Any]]]:
    """The entries of an input, or of each of its rows and places."""
    if not any(isinstance(one, list) for one in found):
        yield found
        return
    for one in found:
        yield from _rows(one)


def _detected(one: dict[str, Any]) -> str:
    left, top, right, bottom = one["box"]
    return f"{_scored(one)} at {left:.6g}, {top:.6g} to {right:.6g}, {bottom:.6g}"


def _scored(one: dict[str, Any]) -> str:
    name = plain(one.get("label") or one.get("index"))
    score = one.get("score")
    return name if score is None else f"{name} {score:.4g}"


def _output(output: dict[str, Any]) -> str:
    values = output.get("data", [])
    shown = " ".join(_value(value) for value in values[:_SHOWN])
    more = f" ... ({len(values)} values)" if len(values) > _SHOWN else ""
    return f"{plain(output['name'])} {output['datatype']}{output['shape']}: {shown}{more}"


def _value(value: object) -> str:
    if value is None:
        return "nan"
    return f"{value:.6g}" if isinstance(value, float) else plain(value)
