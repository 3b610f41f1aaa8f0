"""What a tensor is called: datatypes in the three vocabularies, shapes, and a model's signature.

Pure values: the daemon holds signatures without importing numpy.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec


class Datatype(msgspec.Struct, frozen=True):
    """One element type. `size` is bytes per element in binary form; 0 for the variable BYTES."""

    oip: str
    onnx: str
    numpy: str
    size: int


DATATYPES: Final = (
    Datatype("BOOL", "tensor(bool)", "bool", 1),
    Datatype("UINT8", "tensor(uint8)", "uint8", 1),
    Datatype("UINT16", "tensor(uint16)", "uint16", 2),
    Datatype("UINT32", "tensor(uint32)", "uint32", 4),
    Datatype("UINT64", "tensor(uint64)", "uint64", 8),
    Datatype("INT8", "tensor(int8)", "int8", 1),
    Datatype("INT16", "tensor(int16)", "int16", 2),
    Datatype("INT32", "tensor(int32)", "int32", 4),
    Datatype("INT64", "tensor(int64)", "int64", 8),
    Datatype("FP16", "tensor(float16)", "float16", 2),
    Datatype("FP32", "tensor(float)", "float32", 4),
    Datatype("FP64", "tensor(double)", "float64", 8),
    Datatype("BYTES", "tensor(string)", "object", 0),
)
BY_OIP: Final = {kind.oip: kind for kind in DATATYPES}
BY_ONNX: Final = {kind.onnx: kind for kind in DATATYPES}
BY_NUMPY: Final = {kind.numpy: kind for kind in DATATYPES}


class TensorSpec(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One input or output of a model: `datatype` in the Open Inference Protocol's words, -1 = free axis.

    `axes` names the axes, "" for one without a name; () when none has one. Free axes of one name have one
    size in a run. `json`: an output that is no tensor but a sequence of maps or of tensors; it is carried as
    BYTES[-1], each element one item as JSON. `optional`: an output that a run may leave out.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    axes: tuple[str, ...] = ()
    json: bool = False
    optional: bool = False

    def __str__(self) -> str:
        marks = (", JSON" if self.json else "") + (", optional" if self.optional else "")
        return f"{self.name} {self.datatype}{list(self.shape)}{marks}"


class Signature(msgspec.Struct, frozen=True, array_like=True):
    """What goes in and what comes out of a model, in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Compared(msgspec.Struct, frozen=True):
    """How one golden case came out, of `cases` in its file. Numbers of elements, of all outputs together.

    `beyond`: those farther from their golden value than is allowed; `nonfinite`: NaN or infinity where that is a
    number. `where` is the worst, such as `logits[0, 3]`, `difference` how far it is away. `misfit`: an output that
    cannot be compared at all, and why.
    """

    cases: int
    cpu_s: float = 0.0
    elements: int = 0
    beyond: int = 0
    nonfinite: int = 0
    where: str = ""
    difference: float = 0.0
    given: str = ""
    golden: str = ""
    misfit: str = ""

    @property
    def fault(self) -> str:
        """Why it is not golden; "" when it is."""
        if self.misfit:
            return f"{self.where} {self.misfit}"
        if not self.beyond:
            return ""
        several = f"; {self.beyond} of {self.elements} elements are too far away" if self.beyond > 1 else ""
        return f"{self.where} is {self.given}, the golden one {self.golden}{several}"


def metadata(model: str, version: str, signature: Signature) -> dict[str, Any]:
    """A model's metadata, as the Open Inference Protocol has it."""
    return {
        "name": model,
        "versions": [version],
        "platform": "onnx_onnxv1",  # the specification's word for an ONNX file
        "inputs": [_described(spec) for spec in signature.inputs],
        "outputs": [_described(spec) for spec in signature.outputs],
    }


def _described(spec: TensorSpec) -> dict[str, Any]:
    said: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
    parameters = ({"content_type": "application/json"} if spec.json else {}) | (
        {"optional": True} if spec.optional else {}
    )
    return said | {"parameters": parameters} if parameters else said


def contradictions(said: Signature, found: Signature) -> list[str]:
    """Where a model is not what its document says: another tensor, dtype, number of axes or size. Free axes may be
    known to one of the two alone: versions of onnxruntime differ in what they infer.
    """
    wrong = []
    for kind, ours, theirs in (("input", said.inputs, found.inputs), ("output", said.outputs, found.outputs)):
        if [spec.name for spec in ours] != [spec.name for spec in theirs]:
            names = [", ".join(spec.name for spec in specs) or "none" for specs in (ours, theirs)]
            wrong.append(f"its {kind}s are {names[1]}, its document says {names[0]}")
            continue
        for mine, other in zip(ours, theirs, strict=True):
            sizes = zip(mine.shape, other.shape, strict=False)
            same = len(mine.shape) == len(other.shape) and all(-1 in pair or pair[0] == pair[1] for pair in sizes)
            if not same or mine.datatype != other.datatype or mine.json != other.json:
                wrong.append(f"its {kind} is {other}, its document says {mine}")
    return wrong


def differences(live: Signature, candidate: Signature) -> list[str]:
    """Why `candidate` cannot take the place of `live`; empty when every client of `live` goes on working.

    A free axis where the live model's input is fixed is harmless; so is a fixed axis where the live
    model's output was free. The other way round breaks somebody.
    """
    found = _tensors("input", live.inputs, candidate.inputs, wider_is_fine=True)
    return found + _tensors("output", live.outputs, candidate.outputs, wider_is_fine=False)


def _tensors(
    kind: str, live: tuple[TensorSpec, ...], candidate: tuple[TensorSpec, ...], *, wider_is_fine: bool
) -> list[str]:
    theirs = {spec.name: spec for spec in candidate}
    found = [f"{kind} {spec.name} is new" for spec in candidate if spec.name not in {one.name for one in live}]
    for mine in live:
        other = theirs.get(mine.name)
        if other is None:
            found.append(f"{kind} {mine.name} is missing")
        elif other.datatype != mine.datatype:
            found.append(f"{kind} {mine.name} is {other.datatype}, not {mine.datatype}")
        elif other.json != mine.json:
            words = ("strings", "items as JSON")
            found.append(f"{kind} {mine.name} has {words[other.json]}, not {words[mine.json]}")
        elif other.optional and not mine.optional:
            found.append(f"{kind} {mine.name} may be left out, which it never was")
        elif not _fits(mine.shape, other.shape, wider_is_fine=wider_is_fine):
            found.append(f"{kind} {mine.name} has shape {list(other.shape)}, not {list(mine.shape)}")
    return found


def _fits(live: tuple[int, ...], candidate: tuple[int, ...], *, wider_is_fine: bool) -> bool:
    if len(live) != len(candidate):
        return False
    return all(a == b or (b if wider_is_fine else a) == -1 for a, b in zip(live, candidate, strict=True))
