"""Makes a release's folder: the files of a model's version, tried as a box would, and the document that names them.

    <folder>/release.json       the envelope, signed or not yet
             model.onnx         and golden.npz, model.yaml, labels, weights: as the document lists them

The same files, words and time make the same document: `created` is SOURCE_DATE_EPOCH (reproducible-builds.org), else
the newest of the files. The folder appears whole under its name, or not at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from edged import disk
from edged.channel import Gild, Ready
from edged.config import overrides
from edged.config.schema import Limits as BoxLimits
from edged.config.schema import Model
from edged.config.units import Duration, Size
from edged.delivery import chunks, documents, envelope
from edged.delivery.documents import MODEL_FILE, RELEASE_FILE, SETTINGS_FILE, Golden, Limits, Release
from edged.delivery.envelope import Envelope
from edged.delivery.examiner import examine
from edged.delivery.strict import LARGEST, Malformed
from edged.errors import EdgedError
from edged.serving.generation import Died
from edged.serving.rehearsal import stage
from edged.serving.release import Release as Loadable
from edged.tensors import Signature
from edged.topics import is_name
from edged.worker import graph

GOLDEN_FILE: Final = "golden.npz"
_LONGEST_TEXT: Final = 8192  # characters of label and notes: the document has 64 KiB
_GILDING_S: Final = 3600.0  # all golden inputs twice, on the operator's machine
_NO_LIMIT: Final = 2**38  # bytes of memory, where the release sets none

Sign = Callable[[Envelope], Envelope]


class Order(msgspec.Struct, frozen=True):
    """What is to be released. `files`: labels and weights, which keep their names; `golden`: an .npz with inputs.

    `untried`: it is loaded for what it takes and gives, and no more; then `golden` has the answers already.
    `chunk`: bytes of each piece, 0: the usual ones.
    """

    model: str
    version: int
    onnx: Path
    golden: Path | None = None
    settings: Path | None = None
    files: tuple[Path, ...] = ()
    atol: float = Golden().atol
    rtol: float = Golden().rtol
    label: str = ""
    notes: str = ""
    onnxruntime: str = ""
    limits: Limits = Limits()
    untried: bool = False
    chunk: int = 0

    def sources(self) -> dict[str, Path]:
        """The files that are copied, by the name that each gets. Raises EdgedError bad_config, golden."""
        found = {MODEL_FILE: self.onnx}
        if self.settings is not None:
            found[SETTINGS_FILE] = self.settings
        for path in self.files:
            if not documents.is_file_name(path.name):
                hint = "a-z, 0-9, . _ and -, at most 64, beginning with a letter or digit: rename it."
                raise EdgedError("bad_config", f"{path.name!r} cannot be the name of a release's file", hint)
            if path.name in found or path.name == GOLDEN_FILE:
                raise EdgedError("bad_config", f"two files would be called {path.name}", "")
            found[path.name] = path
        if self.untried and self.golden is not None:
            if not _has_answers(self.golden):
                hint = "Leave --untried out: then they are made here."
                raise EdgedError("golden", f"{self.golden} has no answers: no array out/OUTPUT", hint)
            found[GOLDEN_FILE] = self.golden
        return found


class Made(msgspec.Struct, frozen=True):
    """The folder, its document and that one's name, whose signatures are on it, what the operator should know."""

    folder: Path
    release: Release
    sha256: str
    keyids: tuple[str, ...]
    warnings: tuple[str, ...]


def make(order: Order, folder: Path, sign: Sign, environment: Mapping[str, str] = os.environ) -> Made:
    """Makes `folder`. One that is there with the same document gets the new signatures, and keeps those it has.

    Not for a running loop. Raises EdgedError: what a box would say of the release, bad_release, bad_config, bad_key.
    """
    _check(order)
    sources = order.sources()
    warnings = _remarks(order)
    with _beside(folder) as making:
        for name, source in sources.items():
            _copy(source, making / name)
        signature = asyncio.run(_tried(order, making, tuple(name for name in sources if name != MODEL_FILE)))
        release = _document(order, making, signature, _created(order, environment))
        found = Envelope("release", documents.encode(release))
        before = _there(folder, found)
        signed = sign(found if before is None else before)
        content = signed.encode()
        if len(content) > LARGEST:
            raise EdgedError("bad_release", f"its document has {len(content)} bytes, {LARGEST} is the most")
        disk.write(making / RELEASE_FILE, content, 0o644)
        if before is None:
            _publish(making, folder)
        else:
            (making / RELEASE_FILE).replace(folder / RELEASE_FILE)
            disk.sync_folder(folder)
    return Made(folder, release, found.sha256, tuple(one.keyid for one in signed.signatures), warnings)


def _check(order: Order) -> None:
    """What is wrong with the order itself. Raises EdgedError bad_config."""
    if not is_name(order.model):
        raise EdgedError("bad_config", f"{order.model!r} is no name for a model", "Letters, digits, - and _.")
    if not 1 <= order.version < 2**53:
        raise EdgedError("bad_config", f"{order.version} is no version: a whole number from 1 on", "")
    if len(order.label) + len(order.notes) > _LONGEST_TEXT:
        raise EdgedError("bad_config", f"label and notes have more than {_LONGEST_TEXT} characters", "")
    for name, figure in (("--atol", order.atol), ("--rtol", order.rtol)):
        if not 0 <= figure < 1e9:
            raise EdgedError("bad_config", f"{name} {figure:g}: a tolerance is a number from 0 on", "")


def _remarks(order: Order) -> tuple[str, ...]:
    found = []
    if graph.read(order.onnx).quantization == "none":
        found.append("it is not quantized: an int8 model is a quarter of the size, and mostly faster on small boxes")
    if order.golden is None:
        found.append("without --golden a box compares it with nothing but the model that runs there")
    if order.untried:
        found.append("it was not tried here: a box may refuse it")
    return tuple(found)


def _has_answers(golden: Path) -> bool:
    try:
        with zipfile.ZipFile(golden) as members:
            return any(name.startswith("out/") for name in members.namelist())
    except (OSError, zipfile.BadZipFile) as error:
        raise EdgedError("golden", f"{golden} is no .npz: {error}") from error


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A folder on the same disk, which is gone afterwards unless it was published."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        making = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise EdgedError("bad_release", f"{folder} cannot be made: {error.strerror}") from error
    try:
        making.chmod(0o755)
        yield making
    except OSError as error:
        raise EdgedError("bad_release", f"{folder} cannot be made: {error.filename}: {error.strerror}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise EdgedError("bad_release", f"{source}: {error.strerror}") from error
    target.chmod(0o644)


async def _tried(order: Order, making: Path, beside: tuple[str, ...]) -> Signature:
    """Loads and tries it as a box without a live model would; golden answers are made before that.

    Raises EdgedError: why a box would refuse it.
    """
    settings = overrides.read(making, beside) if order.settings is not None else None
    memory = order.limits.memory or _NO_LIMIT
    release = Loadable(order.model, str(order.version), "", str(making / MODEL_FILE), beside, settings, memory)
    box = Model(order.model, limits=BoxLimits(memory=Size(_NO_LIMIT), run=Duration(_GILDING_S)))
    golden = Golden(GOLDEN_FILE, order.atol, order.rtol) if order.golden is not None else None
    async with stage(box) as route:
        try:
            process = await route.start(release)
        except EdgedError as error:
            code = "bad_settings" if error.fault.code == "bad_config" else error.fault.code
            raise EdgedError(code, error.fault.message, error.fault.hint) from error
        if order.untried:
            return _signature(process.facts)
        if order.golden is not None:
            source, to = str(order.golden.absolute()), str(making / GOLDEN_FILE)
            try:
                await process.compare(Gild(0, source, to, order.atol, order.rtol))
            except Died as error:
                raise EdgedError("trial_crash", "its process ended by itself on the golden inputs") from error
        await route.retire(process)
        examined = await examine(route, release, factor=1.0, clock=time.monotonic, golden=golden, limits=order.limits)
        problem = examined.judgement.fault
        if problem is not None:
            raise EdgedError(problem.code, problem.message, problem.hint)
        return _signature(process.facts)


def _signature(facts: Ready | None) -> Signature:
    if facts is None:
        raise EdgedError("trial_crash", "its process ended by itself")
    return facts.signature


def _document(order: Order, making: Path, signature: Signature, created: int) -> Release:
    try:
        files = {path.name: cut(path, order.chunk) for path in sorted(making.iterdir())}
    except Malformed as error:
        raise EdgedError("bad_release", str(error), "Give --chunk more.") from error
    release = Release(
        model=order.model,
        version=order.version,
        created=created,
        files=files,
        inputs=signature.inputs,
        outputs=signature.outputs,
        label=order.label,
        notes=order.notes,
        onnxruntime=order.onnxruntime,
        limits=order.limits,
        golden=Golden(GOLDEN_FILE, order.atol, order.rtol) if order.golden is not None else None,
    )
    try:
        return documents.read_release(documents.encode(release))
    except Malformed as error:
        raise EdgedError("bad_release", str(error)) from error


def cut(path: Path, chunk: int = 0) -> documents.File:
    """The file as a document names it, in chunks of so many bytes, 0: of as many as it takes.

    Raises OSError, and Malformed for a chunk that is too small for it.
    """
    chunk = chunk or chunks.sensible_chunk(path.stat().st_size)
    with path.open("rb") as file:
        return chunks.cut(iter(lambda: file.read(chunk), b""), chunk)[0]


def _created(order: Order, environment: Mapping[str, str]) -> int:
    """Milliseconds since 1970."""
    epoch = environment.get("SOURCE_DATE_EPOCH", "")
    if epoch.isdecimal() and len(epoch) < 13:
        return int(epoch) * 1000
    given = (*order.sources().values(), *((order.golden,) if order.golden is not None else ()))
    return max(int(path.stat().st_mtime) for path in given) * 1000


def _there(folder: Path, found: Envelope) -> Envelope | None:
    """The envelope that `folder` has of the same document; None when there is no such folder. Raises EdgedError."""
    if not folder.exists():
        return None
    try:
        before = envelope.decode(disk.read(folder / RELEASE_FILE, LARGEST), "release")
    except (OSError, ValueError):
        before = None
    if before is None or before.sha256 != found.sha256:
        raise EdgedError("bad_release", f"{folder} is there already, with something else in it", "Name another: --out.")
    return before


def _publish(making: Path, folder: Path) -> None:
    """Each file durable, then the folder under its name."""
    for path in making.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    disk.sync_folder(making)
    making.rename(folder)
    disk.sync_folder(folder.parent)
