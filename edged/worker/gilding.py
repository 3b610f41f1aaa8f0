"""Makes a golden file: inputs that somebody has chosen, and what the model answers to them (golden.py reads it).

The .npz that comes in has `in/<input>` or `<input>` for each input. Where it has `out/<output>` too, those are the
golden answers, and the model has to give them. Each case is run twice: an answer that is not the same again, or no
number, is no golden one.
"""

from __future__ import annotations

import zipfile
from typing import Any, Final

import numpy as np
from numpy.lib import format as npy

from edged.channel import Gild
from edged.errors import EdgedError
from edged.tensors import BY_OIP, Compared, TensorSpec
from edged.worker.deviation import deviation
from edged.worker.formats.elements import has_nonfinite
from edged.worker.golden import CASES, INPUT, OUTPUT, guarded
from edged.worker.session import Array, Model
from edged.worker.stack import Feeds

_THEN: Final = (1980, 1, 1, 0, 0, 0)  # of every member: the same arrays make the same bytes
_LEVEL: Final = 6

Arrays = dict[str, Array]


def gild(model: Model, asked: Gild) -> Compared:
    """Writes `asked.to`. Raises EdgedError: golden for inputs or answers that do not do, over_memory."""
    given = _loaded(asked.inputs)
    inputs = _inputs(model, given)
    (cases,) = {len(array) for array in inputs.values()} or {0}
    golden = {name.removeprefix(OUTPUT): array for name, array in given.items() if name.startswith(OUTPUT)}
    rows = [_row(model, _case(model, inputs, number), number, golden, asked) for number in range(cases)]
    answers = {name: _stacked(name, [row[name] for row in rows]) for name in rows[0]}
    _write(
        asked.to, {INPUT + name: array for name, array in inputs.items()} | {OUTPUT + n: a for n, a in answers.items()}
    )
    return Compared(cases=cases)


def _loaded(file: str) -> Arrays:
    with guarded():
        found = np.load(file, allow_pickle=False)
        if isinstance(found, np.lib.npyio.NpzFile):
            with found:
                return {name: found[name] for name in found.files}
    raise EdgedError("golden", "it is one array; numpy.savez names the inputs: numpy.savez(FILE, INPUT=array)")


def _inputs(model: Model, given: Arrays) -> Arrays:
    """Each input's array in the model's own dtype, with as many cases as the others."""
    specs = {spec.name: spec for spec in model.signature.inputs}
    found: Arrays = {}
    for name, array in given.items():
        if name.startswith(OUTPUT) and name.removeprefix(OUTPUT) in {spec.name for spec in model.signature.outputs}:
            continue
        spec = specs.get(name.removeprefix(INPUT)) or specs.get(name)
        if spec is None:
            raise EdgedError("golden", f"{name[:70]!r} is none of the model's inputs: {', '.join(specs)}"[:400])
        found[spec.name] = _typed(array, spec)
    missing = [name for name in specs if name not in found]
    if missing:
        raise EdgedError("golden", f"there is no array for the input {missing[0]}")
    counts = {len(array) for array in found.values()}
    if len(counts) > 1 or not 1 <= min(counts) <= CASES:
        text = f"each array has one case on its first axis after another, the same number in all: 1 to {CASES}"
        raise EdgedError("golden", f"{text}, not {', '.join(map(str, sorted(counts)))}")
    return found


def _typed(array: Array, spec: TensorSpec) -> Array:
    wanted = np.dtype(BY_OIP[spec.datatype].numpy)
    if not array.ndim:
        raise EdgedError("golden", f"{spec.name} has no first axis for the cases")
    if spec.datatype == "BYTES":
        if array.dtype.kind != "U":
            raise EdgedError("golden", f"{spec.name} takes strings, an array of dtype U, and this is {array.dtype}")
        return array
    if not np.can_cast(array.dtype, wanted, "same_kind"):
        raise EdgedError("golden", f"{spec.name} is {array.dtype}, the model takes {wanted}")
    return np.ascontiguousarray(array, dtype=wanted)


def _case(model: Model, inputs: Arrays, number: int) -> Feeds:
    """One case as the model takes it: with the first axis that its tensor has and the array has not."""
    feeds: Feeds = {}
    for spec in model.signature.inputs:
        value = inputs[spec.name][number]
        value = value if value.ndim == len(spec.shape) else value[np.newaxis]
        feeds[spec.name] = value.astype(object) if spec.datatype == "BYTES" else value
    return feeds


def _row(model: Model, feeds: Feeds, number: int, golden: Arrays, asked: Gild) -> Arrays:
    """The golden answers of one case. Raises EdgedError golden where there are none."""
    plain = [spec.name for spec in model.signature.outputs if not spec.json]
    names = [name for name in plain if name in golden or not golden]
    if not names:
        raise EdgedError("golden", "the model has no output that is a tensor")
    try:
        first, second = model.run(feeds, names), model.run(feeds, names)
    except EdgedError as error:
        if error.fault.code == "over_memory":
            raise
        raise EdgedError("golden", f"the run of case {number} fails: {error.fault.message}") from error
    row: Arrays = {}
    for name, value in first.items():
        again = deviation(name, second.get(name), value, asked)
        if again.beyond or again.misfit:
            text = f"two runs of case {number} differ: {name} is {again.given} and then {again.golden}"
            raise EdgedError("golden", text, "A model with random numbers in it has no golden answers.")
        if name not in golden:
            if has_nonfinite(value):
                raise EdgedError("golden", f"case {number}: {name} has NaN or infinity in it")
            row[name] = value[0] if value.shape[:1] == (1,) else value
            continue
        row[name] = _wanted(golden[name], number, name)
        away = deviation(name, value, row[name], asked)
        if away.beyond or away.misfit:
            why = away.misfit or f"is {away.given}, the golden one {away.golden}"
            raise EdgedError("golden", f"case {number}: {away.where} {why}")
    return row


def _wanted(golden: Array, number: int, name: str) -> Array:
    if number >= len(golden):
        raise EdgedError("golden", f"{OUTPUT}{name} has {len(golden)} cases, fewer than the inputs")
    value: Array = golden[number]
    return value.astype(object) if value.dtype.kind == "U" else value


def _stacked(name: str, values: list[Array]) -> Array:
    if len({value.shape for value in values}) > 1:
        raise EdgedError("golden", f"{name} has another shape in each case: make one release file of equal ones")
    stacked = np.stack(values)
    return stacked.astype(str) if stacked.dtype.kind == "O" else stacked


def _write(file: str, arrays: dict[str, Any]) -> None:
    with zipfile.ZipFile(file, "x") as archive:
        for name, array in sorted(arrays.items()):
            member = zipfile.ZipInfo(f"{name}.npy", _THEN)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w") as stream:
                npy.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
