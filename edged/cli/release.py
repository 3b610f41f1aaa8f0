"""`edged release`: makes the signed folder that boxes install, or looks whether one is whole."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edged.cli import named, signing
from edged.cli.words import columns, size
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.delivery.documents import Trust
    from edged.delivery.envelope import Envelope
    from edged.fleet.making import Made, Order

HELP = "make a release of a model, tried as a box would and signed; or look whether one is whole"
EXAMPLES = """
edged release digits.onnx --model digits --version 7 --golden inputs.npz
edged release digits.onnx --model digits --version 7 --settings model.yaml --file labels.txt --unsigned
edged release big.onnx --model big --version 2 --file weights.bin --key card.pub.pem --sign-with "my-hsm sign"
edged release --verify digits-7
"""

T = TypeVar("T")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("onnx", metavar="FILE.onnx", nargs="?", type=Path)
    parser.add_argument("--verify", metavar="DIR", type=Path, help="look at one that was made, and change nothing")
    parser.add_argument("--trust", metavar="FILE", type=Path, help="for --verify (default: fleet.yaml's)")
    parser.add_argument("--model", metavar="M", help="its name on the boxes")
    parser.add_argument("--version", metavar="N", type=int, help="a whole number, above that of the one before")
    parser.add_argument("--out", metavar="DIR", type=Path, help="the folder to make (default: M-N)")
    parser.add_argument("--unsigned", action="store_true", help="sign it later, with `edged sign`")
    parser.add_argument(
        "--untried",
        action="store_true",
        help="do not try it here, as for a processor that this machine has not; --golden brings the answers then",
    )
    parser.add_argument("--label", metavar="TEXT", default="", help="what people call this version")
    parser.add_argument("--notes", metavar="TEXT", default="", help="what is new in it")
    parser.add_argument("--onnxruntime", metavar="V", default="", help="the oldest one that runs it, such as 1.21")
    brings = parser.add_argument_group("what it brings")
    brings.add_argument("--golden", metavar="F.npz", type=Path, help="inputs; what it answers here is golden then")
    brings.add_argument("--atol", metavar="X", type=float, help="how far an answer may be away (default: 1e-5)")
    brings.add_argument("--rtol", metavar="X", type=float, help="and how far as a part of it (default: 1e-3)")
    brings.add_argument("--settings", metavar="F", type=Path, help="a model.yaml: its preprocess, postprocess, batch")
    brings.add_argument(
        "--chunk", metavar="48KiB", default="", help="the size of its pieces, for a broker's limit (96KiB)"
    )
    brings.add_argument("--file", metavar="F", type=Path, action="append", default=[], help="labels, weights")
    limits = parser.add_argument_group("what it may take on a box, where that is less than the box allows")
    limits.add_argument("--max-load", metavar="5s", default="", help="the time to load it")
    limits.add_argument("--max-memory", metavar="128MiB", default="", help="the memory of its process")
    limits.add_argument("--max-cpu", metavar="3ms", default="", help="the CPU time of an input")
    signing.arguments(parser)


def run(args: argparse.Namespace) -> int:
    if args.verify is not None:
        return _verify(args)
    if args.onnx is None or args.model is None or args.version is None:
        hint = "edged release FILE.onnx --model M --version N"
        raise EdgedError("bad_config", "a release takes a file, a model's name and a version", hint)
    from edged.fleet.making import make

    order = _order(args)
    for file in (order.onnx, order.golden, order.settings, *order.files):
        if file is not None:
            named.check(file)
    sign = _signing(args)
    print("\n".join(_report(make(order, args.out or Path(f"{order.model}-{order.version}"), sign))))
    return 0


def _order(args: argparse.Namespace) -> Order:
    from edged.config.units import Duration, Size
    from edged.delivery.documents import Golden, Limits
    from edged.fleet.making import Order

    limits = Limits(
        load_s=float(_parsed("--max-load", args.max_load, Duration.parse) or 0),
        memory=int(_parsed("--max-memory", args.max_memory, Size.parse) or 0),
        cpu_ms=1000 * float(_parsed("--max-cpu", args.max_cpu, Duration.parse) or 0),
    )
    golden = Golden()
    return Order(
        model=args.model,
        version=args.version,
        onnx=args.onnx,
        golden=args.golden,
        settings=args.settings,
        files=tuple(args.file),
        atol=golden.atol if args.atol is None else args.atol,
        rtol=golden.rtol if args.rtol is None else args.rtol,
        label=args.label,
        notes=args.notes,
        onnxruntime=args.onnxruntime,
        limits=limits,
        untried=args.untried,
        chunk=_chunk(args.chunk),
    )


def _parsed(option: str, text: str, parse: Callable[[str], T]) -> T | None:
    try:
        return parse(text) if text else None
    except ValueError as error:
        raise EdgedError("bad_config", f"{option} {text}: {error}", "") from error


def _chunk(text: str) -> int:
    from edged.config.units import Size
    from edged.delivery.documents import CHUNK_MAX, CHUNK_MIN

    found = int(_parsed("--chunk", text, Size.parse) or 0)
    if found and not CHUNK_MIN <= found <= CHUNK_MAX:
        raise EdgedError("bad_config", f"--chunk {text}: from {size(CHUNK_MIN)} to {size(CHUNK_MAX)}", "")
    return found


def _signing(args: argparse.Namespace) -> Callable[[Envelope], Envelope]:
    """Asks for the keys now: a passphrase is not wanted after minutes of trying."""
    if args.unsigned:
        return lambda found: found
    from edged.fleet import config
    from edged.fleet.keyring import Keyring
    from edged.fleet.signers import signed
    from edged.fleet.trustbook import TrustBook

    fleet = config.read()
    _, chosen = signing.of_role(args, Keyring(fleet.keys), TrustBook(fleet.trust), "release")
    return lambda found: signed(found, chosen)


def _report(made: Made) -> list[str]:
    release = made.release
    for warning in made.warnings:
        print(f"edged: {warning}", file=sys.stderr)
    lines = [f"{made.folder}: {release.model} version {release.version} ({made.sha256[:12]})"]
    lines += [f"  {line}" for line in columns([(name, size(file.size)) for name, file in release.files.items()])]
    if made.keyids:
        return [*lines, f"  signed by {', '.join(made.keyids)}"]
    return [*lines, f"  not signed yet: edged sign {made.folder}"]


def _verify(args: argparse.Namespace) -> int:
    from edged.fleet.checking import check

    trust = _trust(args.trust)
    found = check(args.verify, trust)
    release = found.release
    print(f"{args.verify}: {release.model} version {release.version} ({found.sha256[:12]})")
    print(f"  {len(release.files)} files, {size(release.size)}: each is what was released")
    if trust is not None:
        print(f"  signed by {', '.join(found.signers)}: enough of the role release in trust version {trust.version}")
        return 0
    print(f"  signed by {', '.join(found.keyids) or 'nobody'}: no trust document says whether that counts")
    return 0


def _trust(file: Path | None) -> Trust | None:
    """The trust document that is named, else the operator's own, else none."""
    from edged.delivery import trust
    from edged.fleet import config
    from edged.fleet.trustbook import TrustBook, read

    if file is None:
        book = TrustBook(config.read().trust)
        return book.anchored().trust if book.newest.exists() else None
    named.check(file)
    return trust.root(read(file)).trust
