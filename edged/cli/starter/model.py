"""Getting to know a model's file: what it says of itself, what it did when it was started, and the names beside it."""

from __future__ import annotations

import json
import math
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edged.cli.starter import labels
from edged.cli.starter.likely import likely
from edged.cli.starter.results import Sample
from edged.cli.starter.text import Section
from edged.errors import EdgedError

if TYPE_CHECKING:
    from edged.config.schema import Model
    from edged.serving.glimpse import Glimpse

_MIB: Final = 2**20
_USUAL: Final = 256 * _MIB
_PICTURE: Final = (64, 48)  # pixels: a made-up one


def meet(name: str, file: Path, folder: Path, memory: int) -> Section:
    """What can be written of the model in a configuration that lies in `folder`. `memory`: the box's, in bytes.

    Raises EdgedError for a file that is no model, or that does not run here.
    """
    from edged.worker import clues

    file, folder = file.resolve(), folder.resolve()
    said = clues.read(file)
    settings, seen = _started(name, file, memory)
    lists = dict(labels.beside(file))
    found = likely(seen.facts.signature, said, _outputs(seen), frozenset(lists.values()))
    beside = next((path for path, count in lists.items() if count == found.classes), None)
    return Section(
        name=name,
        file=_path(file, folder),
        signature=seen.facts.signature,
        likely=found,
        memory=int(settings.limits.memory),
        run_ms=1000 * seen.facts.run_s,
        labels=_path(beside, folder) if beside else "",
    )


def trial(section: Section) -> tuple[str, bytes]:
    """A made-up input of the kind that the steps are for: its content type, and itself; nothing where none can be."""
    kind = section.likely.kind
    if kind == "picture":
        return "image/png", png(*_PICTURE)
    shapes = [spec.shape for spec in section.signature.inputs]
    if kind == "values" and all(side >= 0 for side in shapes[0][1:]):
        return "application/json", json.dumps([0] * math.prod(map(abs, shapes[0]))).encode()
    return "", b""


def png(width: int, height: int) -> bytes:
    """A picture in 8-bit RGB that grows lighter to the right and downwards (PNG, third edition: 5, 7 and 10)."""
    rows = b"".join(
        b"\0" + bytes(value for x in range(width) for value in (x * 255 // width, y * 255 // height, 128))
        for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _started(name: str, file: Path, memory: int) -> tuple[Model, Glimpse]:
    """The model started once; with more memory where the usual limit is too little, up to half of the box's."""
    from edged.config.load import from_models
    from edged.config.mistakes import ConfigErrors
    from edged.config.units import Size
    from edged.serving.glimpse import glimpse

    try:
        settings = from_models({name: str(file)}).models[0]
    except ConfigErrors as errors:
        raise EdgedError("not_a_model", errors.mistakes[0].what) from errors
    limit = _USUAL
    while True:
        limits = msgspec.structs.replace(settings.limits, memory=Size(limit))
        settings = msgspec.structs.replace(settings, limits=limits)
        try:
            return settings, glimpse(settings)
        except EdgedError as error:
            if error.fault.code != "over_memory" or 2 * limit > memory // 2:
                raise
            limit *= 2


def _outputs(seen: Glimpse) -> dict[str, Sample]:
    outputs = json.loads(seen.answer)["outputs"] if seen.answer else []
    return {one["name"]: Sample(tuple(one["shape"]), one["data"]) for one in outputs}


def _path(file: Path, folder: Path) -> str:
    """As the configuration says it: relative where it lies beside or below it."""
    path = str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file)
    if "${" in path or not path.isprintable():
        raise EdgedError("bad_config", f"{path!r}: no configuration can name this path", "Rename it.")
    return path
