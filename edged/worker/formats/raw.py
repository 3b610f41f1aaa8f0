"""A payload that is nothing but numbers in binary: little-endian, row-major."""

from __future__ import annotations

from edged.channel import InputHead
from edged.config.steps import Form
from edged.tensors import BY_NUMPY, BY_OIP, Signature
from edged.worker.formats import elements
from edged.worker.formats.decoded import Decoded, bad_input, target


def decode(form: Form, head: InputHead, payload: memoryview, signature: Signature) -> Decoded:  # noqa: ARG001 - table.Decode
    """One tensor of `form.dtype`, or of the model's own; [-1, columns] with `columns`, else flat."""
    spec = target(form, signature)
    kind = BY_NUMPY.get(form.dtype) if form.dtype else BY_OIP[spec.datatype]
    if kind is None or not kind.size:
        raise bad_input(f"input {spec.name}: raw bytes cannot be {form.dtype or 'strings'}")
    columns = form.columns
    row = kind.size * (columns or 1)
    if not payload or len(payload) % row:
        per = f"{columns} columns of {kind.numpy}" if columns else kind.numpy
        raise bad_input(f"input {spec.name}: {len(payload)} bytes are not a number of rows of {row} bytes ({per})")
    found = len(payload) // row
    shape = (found, columns) if columns else (found,)
    tensor = elements.from_bytes(payload, spec.name, kind.oip, shape)
    return Decoded({spec.name: tensor}, plain=True, stepped=spec.name, laid_out=columns > 0)
