"""A release's golden file: inputs, and the outputs that they have to give; one case at a time.

An .npz (numpy.savez) with an array `in/<input>` for each input and `out/<output>` for one output at least. The
first axis of each is the case; what is left has the tensor's shape, or that without a first axis of 1.

The file is signed, and yet not trusted: nothing in it is unpickled, its arrays are bounded before they are read,
and only one case of it is in memory. Every mistake in it is EdgedError golden.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Final

import numpy as np
from numpy.lib import format as npy

from edged.channel import Compare
from edged.errors import EdgedError
from edged.tensors import BY_OIP, Compared, Signature, TensorSpec
from edged.worker.deviation import Deviation, deviation
from edged.worker.session import Array, Model
from edged.worker.stack import Feeds

CASES: Final = 256
LARGEST: Final = 64 * 2**20  # bytes of all arrays, unpacked
ARRAYS: Final = 128
INPUT: Final = "in/"
OUTPUT: Final = "out/"
_PACKED: Final = frozenset({zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED})
# What zipfile, zlib and numpy raise for a file that is not what it says (tests/unit/worker/test_golden.py).
_BROKEN: Final = (
    zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, ValueError, LookupError, RuntimeError,
    OverflowError, SyntaxError,
)  # fmt: skip


class Golden:
    """The golden file that is being worked through: it stays open from its first case to its last."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._file: GoldenFile | None = None

    def compare(self, asked: Compare) -> Compared:
        """Runs one case. Raises EdgedError: golden, and over_memory."""
        file = self._opened(asked)
        feeds, expected = file.case(asked.case)
        started_ns = self._model.spent_ns()
        try:
            outputs = self._model.run(feeds, list(expected))
        except EdgedError as error:
            if error.fault.code == "over_memory":
                raise
            raise EdgedError("golden", f"the run of case {asked.case} fails: {error.fault.message}") from error
        cpu_s = (self._model.spent_ns() - started_ns) / 1e9
        found = [deviation(name, outputs.get(name), value, asked) for name, value in expected.items()]
        return _summed(found, file.cases, cpu_s)

    def _opened(self, asked: Compare) -> GoldenFile:
        if self._file is None or not asked.case:
            self._file = GoldenFile(asked.file, self._model.signature)
        return self._file


def _summed(found: Sequence[Deviation], cases: int, cpu_s: float) -> Compared:
    """The worst of all outputs; numbers of elements together."""
    worst = max(found, key=lambda one: (bool(one.misfit), one.beyond > 0, one.difference))
    return Compared(
        cases=cases,
        cpu_s=cpu_s,
        elements=sum(one.elements for one in found),
        beyond=sum(one.beyond for one in found),
        nonfinite=sum(one.nonfinite for one in found),
        where=worst.where,
        given=worst.given,
        golden=worst.golden,
        difference=worst.difference,
        misfit=worst.misfit,
    )


class GoldenFile:
    """The cases of `file`, read from the first to the last. Raises EdgedError golden for anything that does not fit.

    Closes itself when it was refused, and after its last case.
    """

    def __init__(self, file: str, signature: Signature) -> None:
        with guarded():
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            self._stream: Final = os.fdopen(descriptor, "rb")
        try:
            with guarded():
                arrays = {array.name: array for array in _arrays(zipfile.ZipFile(self._stream))}
            self._inputs = _matched(arrays, INPUT, signature.inputs)
            self._outputs = _matched(arrays, OUTPUT, signature.outputs)
            _complete(self._inputs, self._outputs, signature, len(arrays))
            self.cases: Final = _cases(arrays)
        except BaseException:
            self.close()
            raise
        self._next = 0

    def close(self) -> None:
        """Nothing more is read."""
        self._stream.close()

    def case(self, number: int) -> tuple[Feeds, dict[str, Array]]:
        """Inputs and golden outputs of the next case, which has to be `number`."""
        if number != self._next or number >= self.cases:
            raise EdgedError("golden", f"case {number} does not come after {self._next - 1} of {self.cases}")
        self._next += 1
        try:
            with guarded():
                feeds = {spec.name: array.next(spec) for spec, array in self._inputs}
                golden = {spec.name: array.next(None) for spec, array in self._outputs}
        except BaseException:
            self.close()
            raise
        if self._next == self.cases:
            self.close()
        return feeds, golden


class _Array:
    """One array of the file, read case by case from its start."""

    def __init__(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
        self.name: Final = info.filename.removesuffix(".npy")
        self._stream: Final[IO[bytes]] = archive.open(info)
        version = npy.read_magic(self._stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise ValueError(f"{self.name} is of the npy version {version}")
        shape, fortran, self.dtype = read(self._stream)
        if self.dtype.hasobject:
            raise ValueError(f"{self.name} holds pickled objects; strings are an array of dtype U")
        if not shape:
            raise ValueError(f"{self.name} has no first axis for the cases")
        if fortran and len(shape) > 1:
            raise ValueError(f"{self.name} is in Fortran's order; numpy.ascontiguousarray makes it C's")
        self.cases, self.shape = int(shape[0]), tuple(map(int, shape[1:]))
        size = math.prod(shape) * self.dtype.itemsize
        if size != info.file_size - self._stream.tell() or len(shape) > 32:
            raise ValueError(f"{self.name} is not as long as its shape {list(shape)} says")
        self._size = math.prod(self.shape) * self.dtype.itemsize

    def next(self, spec: TensorSpec | None) -> Array:
        """The next case, for an input with the first axis that its tensor has and the array has not."""
        content = self._stream.read(self._size)
        if len(content) != self._size:
            raise EOFError(f"{self.name} ends early")
        shape = self.shape if spec is None or len(spec.shape) == len(self.shape) else (1, *self.shape)
        found = np.frombuffer(content, self.dtype, math.prod(shape)).reshape(shape)
        return found.astype(object) if self.dtype.kind == "U" else found


def _arrays(archive: zipfile.ZipFile) -> Iterator[_Array]:
    members = archive.infolist()
    if len(members) > ARRAYS:
        raise ValueError(f"it has {len(members)} arrays, and may have {ARRAYS}")
    size = sum(info.file_size for info in members)
    if size > LARGEST:
        raise ValueError(f"its arrays take {size} bytes, and may take {LARGEST}")
    for info in members:
        if info.compress_type not in _PACKED:
            raise ValueError(f"{info.filename[:70]!r} is packed in a way that numpy does not use")
        yield _Array(archive, info)


Matched = list[tuple[TensorSpec, _Array]]


def _matched(arrays: dict[str, _Array], prefix: str, specs: tuple[TensorSpec, ...]) -> Matched:
    """Each tensor with its array, which has to fit it; tensors without one are left out."""
    found: Matched = []
    for spec in specs:
        array = arrays.get(prefix + spec.name)
        if array is None:
            continue
        wanted = np.dtype(BY_OIP[spec.datatype].numpy)
        if spec.json:
            raise EdgedError("golden", f"{array.name}: items of a sequence are not compared; leave it out")
        if array.dtype != wanted and not (array.dtype.kind == "U" and spec.datatype == "BYTES"):
            raise EdgedError("golden", f"{array.name} is {array.dtype}, the model's is {wanted}")
        inputs = prefix == INPUT  # what an output's shape is, the run says
        if inputs and not (_fits(spec.shape, array.shape) or _fits(spec.shape, (1, *array.shape))):
            said = f"a case of {array.name} has the shape {list(array.shape)}, the model's tensor {list(spec.shape)}"
            raise EdgedError("golden", said)
        found.append((spec, array))
    return found


def _complete(inputs: Matched, outputs: Matched, signature: Signature, arrays: int) -> None:
    missing = [spec.name for spec in signature.inputs if spec.name not in {one.name for one, _ in inputs}]
    if missing:
        raise EdgedError("golden", f"there is no {INPUT}{missing[0][:70]} in it, which the model takes")
    if not outputs:
        raise EdgedError("golden", f"there is no {OUTPUT}NAME of any of the model's outputs in it")
    if len(inputs) + len(outputs) != arrays:
        known = [INPUT + spec.name for spec in signature.inputs] + [OUTPUT + spec.name for spec in signature.outputs]
        raise EdgedError("golden", f"it has arrays of other names than {', '.join(known)}"[:400])


def _cases(arrays: dict[str, _Array]) -> int:
    counts = {array.cases for array in arrays.values()}
    if len(counts) != 1:
        listed = ", ".join(f"{array.name} has {array.cases}" for array in arrays.values())
        raise EdgedError("golden", f"its arrays have not the same number of cases: {listed}"[:400])
    cases = counts.pop()
    if not 1 <= cases <= CASES:
        raise EdgedError("golden", f"it has {cases} cases, and may have 1 to {CASES}")
    return cases


def _fits(tensor: tuple[int, ...], found: tuple[int, ...]) -> bool:
    return len(tensor) == len(found) and all(a in (-1, b) for a, b in zip(tensor, found, strict=True))


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """What a damaged file, or one that lies, raises in the libraries that read it."""
    try:
        yield
    except _BROKEN as error:
        raise EdgedError("golden", f"the file cannot be read: {str(error)[:300] or type(error).__name__}") from error
    except MemoryError as error:
        raise EdgedError("golden", "the file takes more than limits.memory to read") from error
