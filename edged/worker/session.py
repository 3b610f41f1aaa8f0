"""An ONNX model in this process: open, describe, warm up, run. The only user of onnxruntime."""

from __future__ import annotations

import contextlib
import io
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from edged.channel import Open
from edged.errors import EdgedError
from edged.tensors import BY_OIP, Signature, TensorSpec
from edged.worker.axes import batch_names, stackable
from edged.worker.memory import limit_memory
from edged.worker.noise import Noise
from edged.worker.prepared import PREPARED_MODEL, PREPARED_WEIGHTS
from edged.worker.providers import cpu, cuda
from edged.worker.providers.table import PROVIDERS, Provider
from edged.worker.signature import described

Array = np.ndarray[Any, Any]

# What a free axis other than the first may be in a made-up input: the first size that runs is kept.
_FREE_SIZES: Final = (1, 16, 64, 224)
# onnxruntime's log severity: one real model prints 244 lines of warnings a load, and what is an error is raised too.
_FATAL: Final = 4
_CODE: Final = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .* failed:)?")
# Where in onnxruntime's source it was said: the line, and the function with its arguments.
_WHERE: Final = re.compile(r"/onnxruntime_src/\S+ (?:[^()]*\([^()]*(?:\([^()]*\)[^()]*)*\)(?: const)? )?")
_TRIAL_ROWS: Final = 8
_STACKED_LIMIT_S: Final = 1.0  # no stacked run that would take longer is tried: limits.run may be as short as one run
_PAYS: Final = 1.2
# In what onnxruntime and CUDA say of too little memory: the box's, an arena's, the GPU's.
_NO_MEMORY: Final = ("bad_alloc", "Failed to allocate memory", "bfc_arena", "out of memory", "Cannot allocate memory")
_REASON: Final = 500  # characters of what onnxruntime or the linker says
# y = x + x, float32 of one element, opset 13: what any provider runs, and has to start its device for.
_ONE_NODE: Final = (
    b'\x08\x08:5\n\x0e\n\x01x\n\x01x\x12\x01y"\x03Add\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def installed() -> tuple[str, tuple[str, ...]]:
    """onnxruntime's version, and the execution providers that it was built with."""
    return str(ort.__version__), tuple(ort.get_available_providers())


class DeviceLost(Exception):
    """The GPU takes nothing more from this process, whatever it is sent: nobody catches this, the process ends."""


class Measurement:
    """What the model cost on this box. Seconds; `batch_max` 1 where stacking is impossible or does not pay."""

    def __init__(self, run_s: float, batch_max: int, gain: float) -> None:
        self.run_s = run_s
        self.batch_max = batch_max
        self.gain = gain


class Model:
    """A loaded model. Not for threads: one process, one model, one run at a time."""

    def __init__(self, session: Any, signature: Signature, fallback: str = "") -> None:
        self._session = session
        self.signature: Final = signature
        self.providers: Final = tuple(str(name) for name in session.get_providers())
        self.fallback: Final = fallback  # why the first provider that was asked for does not run it
        on_cpu = self.providers[0] == cpu.NAME
        # What a run costs: CPU time, but on a GPU, where the process waits or spins, the wall's (RULES 25).
        self.spent_ns: Final[Callable[[], int]] = time.process_time_ns if on_cpu else time.perf_counter_ns
        self._names = [spec.name for spec in signature.outputs]
        self._unusual = any(spec.json or spec.optional for spec in signature.outputs)
        self._batch = batch_names(signature)
        self._free_size = _FREE_SIZES[0]

    @classmethod
    def open(
        cls,
        file: str | Path,
        *,
        threads: int = 1,
        providers: Sequence[str] = ("cpu",),
        memory: int = 0,
        prepared: bool = False,
    ) -> Model:
        """The model on the first of `providers` that can run it, which may take `memory` bytes from now on, 0: any.

        Raises EdgedError, of the last one: no_provider, not_a_model, over_memory, or unsupported (see
        signature.described). `prepared`: the file is one that `write_prepared` made, and is not optimised again.
        """
        options = _options(threads)
        if prepared:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        fallback = ""
        for word in providers[:-1]:
            try:
                return cls(*_opened(str(file), options, word, memory), fallback)
            except EdgedError as error:
                fallback = fallback or f"{word}: {error.fault.message}"[:_REASON]
        return cls(*_opened(str(file), options, providers[-1], memory), fallback)

    @classmethod
    def told(cls, opening: Open) -> Model:
        """The one that the daemon's first message names. Raises EdgedError as `open`."""
        return cls.open(
            opening.file,
            threads=opening.threads,
            providers=opening.providers,
            memory=opening.memory,
            prepared=opening.prepared,
        )

    @property
    def stackable(self) -> bool:
        """Whether several inputs can share a run (see axes.stackable)."""
        return stackable(self.signature)

    def run(self, feeds: dict[str, Array], outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """The outputs named, or all, in the model's order; without the optional ones that this run left out.

        Raises EdgedError: bad_input when the graph refuses the values (an index out of bounds),
        over_memory, model_failed for everything else; DeviceLost.
        """
        names = self._names if outputs is None else list(outputs)
        try:
            values = self._session.run(names, feeds)
        except Exception as error:
            if cuda.is_lost(str(error)):
                raise DeviceLost(_worded(error)) from error
            raise _explained(error, "model_failed") from error
        found = dict(zip(names, values, strict=True))
        if not self._unusual:
            return found
        return {name: _items(value) for name, value in found.items() if value is not None}

    def generate(self, seed: int, *, rows: int = 1) -> dict[str, Array]:
        """A made-up input: free axes filled in, values from a generator with this seed."""
        noise = Noise(seed)
        return {spec.name: self._made_up(noise, spec, rows, seed) for spec in self.signature.inputs}

    def measure(self, *, batch_max: int, budget_s: float = 0.2) -> Measurement:
        """Warms the model up and times it: one row, and where the graph allows it, stacked rows.

        Raises EdgedError over_memory when a run of one row does not fit the limit. A model that fails on made-up
        values is not to blame: it is measured as zero seconds and never stacked.
        """
        if not self._settle_free_axes():
            return Measurement(0.0, 1, 1.0)
        one = self.generate(0)
        run_s, alone_s = self._timed(one, budget_s)
        alone = Measurement(run_s, 1, 1.0)
        if batch_max < 2 or not self.stackable or _TRIAL_ROWS * run_s > _STACKED_LIMIT_S:
            return alone
        try:
            # cuDNN plans anew whenever the shape is another than the one before: 0.6 s for MobileNetV2's convolutions,
            # which a run of one row takes a millisecond for. So on a GPU what stacks pay for is a change of shape.
            before = None if self.spent_ns is time.process_time_ns else one
            _, stacked_s = self._timed(self.generate(1, rows=_TRIAL_ROWS), budget_s, before)
        except EdgedError:  # so many rows do not fit the memory
            return alone
        gain = round(alone_s * _TRIAL_ROWS / max(stacked_s, 1e-9), 2)
        pays = gain >= _PAYS and self._rows_are_independent()
        if before is not None:
            self.run(one)  # or the first input would pay for the way back
        return Measurement(run_s, batch_max if pays else 1, gain)

    def _settle_free_axes(self) -> bool:
        for size in _FREE_SIZES:
            self._free_size = size
            try:
                self.run(self.generate(0))
            except EdgedError as error:
                if error.fault.code == "over_memory":
                    raise
                continue
            return True
        self._free_size = _FREE_SIZES[0]
        return False

    def _timed(
        self, feeds: dict[str, Array], budget_s: float, before: dict[str, Array] | None = None
    ) -> tuple[float, float]:
        """The best wall seconds and cost of a run, from as many runs as the budget allows (at most 50).

        `before` is run before each of them, and not counted.
        """
        wall: list[int] = []
        cost: list[int] = []
        end = time.perf_counter() + budget_s
        while not wall or (len(wall) < 50 and time.perf_counter() < end):
            if before is not None:
                self.run(before)
            started, spent = time.perf_counter_ns(), self.spent_ns()
            self.run(feeds)
            cost.append(self.spent_ns() - spent)
            wall.append(time.perf_counter_ns() - started)
        return min(wall) / 1e9, min(cost) / 1e9

    def _rows_are_independent(self) -> bool:
        """Whether a stacked run answers each row as it would alone.

        A graph that scales by a maximum over the whole tensor (dynamic quantization) must not mix senders.
        """
        one, other = self.generate(2), self.generate(3)
        rows = [one, other, one]  # no order of values is this one: a model that sorts rows is found out
        stacked = {name: np.concatenate([row[name] for row in rows]) for name in one}
        try:
            together = self.run(stacked)
            alone = [self.run(row) for row in rows]
        except EdgedError:
            return False
        return all(
            output.shape[:1] == (len(rows),) and _close(output, np.concatenate([row[name] for row in alone]))
            for name, output in together.items()
        )

    def _made_up(self, noise: Noise, spec: TensorSpec, rows: int, seed: int) -> Array:
        names = spec.axes or ("",) * len(spec.shape)
        shape = [
            size if size >= 0 else (self._free_size if axis and name not in self._batch else rows)
            for axis, (size, name) in enumerate(zip(spec.shape, names, strict=True))
        ]
        dtype = np.dtype(BY_OIP[spec.datatype].numpy)
        if dtype.kind == "f":
            values = noise.uniform(shape)
            return np.asarray(values if seed % 2 == 0 else 10 * values - 5, dtype=dtype)
        if dtype.kind == "O":
            return np.full(shape, "a", dtype=object)
        return np.asarray(noise.coins(shape), dtype=dtype)


def _opened(file: str, options: Any, word: str, memory: int) -> tuple[Any, Signature]:
    """A session of the model on one provider, and its signature. Raises EdgedError as Model.open."""
    provider = PROVIDERS[word]
    if provider.unloadable is not None and (why := _unusable(provider)):
        raise EdgedError("no_provider", why, provider.hint(why))
    if provider.unloadable is None and memory:
        limit_memory(memory, threads=options.intra_op_num_threads)
    try:
        chosen = [(provider.name, provider.options(memory))]
        session = ort.InferenceSession(file, options, providers=chosen, enable_fallback=0)
        return session, described(session.get_inputs(), session.get_outputs())
    except EdgedError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        raise _explained(error, "not_a_model") from error


def _unusable(provider: Provider) -> str:
    """Why no model at all runs on it here, "" when one does: onnxruntime keeps quiet, and runs it on the CPU.

    A model of one node is run, so that what is wrong with the model itself is told apart. What the provider takes for
    itself, its libraries and the device's context, is there from then on.
    """
    if provider.name not in ort.get_available_providers():
        return f"onnxruntime {ort.__version__} is built without {provider.name}"
    ort.set_default_logger_severity(_FATAL)  # what it would tell the journal, in colours, is told better
    said = io.StringIO()
    with contextlib.redirect_stdout(said):  # it prints what it cannot find, and goes on
        getattr(ort, "preload_dlls", lambda: None)()  # from 1.21 on: NVIDIA's libraries, as wheels beside it
    try:
        chosen = [(provider.name, provider.options(0))]
        session = ort.InferenceSession(_ONE_NODE, _options(1), providers=chosen, enable_fallback=0)
        session.run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions share no base class but this
        return _worded(error)
    if session.get_providers()[0] == provider.name:
        return ""
    why = provider.unloadable(Path(ort.__file__).parent / "capi") if provider.unloadable is not None else ""
    return why or " ".join(said.getvalue().split())[:_REASON] or f"onnxruntime leaves {provider.name} out"


def write_prepared(file: str | Path, folder: str | Path, *, threads: int = 1) -> None:
    """Writes the model as onnxruntime runs it on this CPU: PREPARED_MODEL, and PREPARED_WEIGHTS beside it.

    The weights are optimised and packed for the CPU's kernels already, and are mapped from the file: loading costs
    less, and all processes share one copy (docs/adr/0012). Raises EdgedError as Model.open.
    """
    options = _options(threads)
    options.optimized_model_filepath = str(Path(folder) / PREPARED_MODEL)
    for key, value in {
        "session.optimized_model_external_initializers_file_name": PREPARED_WEIGHTS,
        "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
        "session.save_external_prepacked_constant_initializers": "1",
    }.items():
        options.add_session_config_entry(key, value)
    try:
        ort.InferenceSession(str(file), options, providers=[cpu.NAME])
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        raise _explained(error, "not_a_model") from error


def _options(threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    # An arena grows by doubling: after one input above limits.memory the next small ones failed as well, for
    # good (measured: 4 MB of 64). It costs no CPU to be without, and memory is given back after each run.
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for key, value in cpu.session_entries().items():
        options.add_session_config_entry(key, value)
    return options


def _close(one: Array, other: Array) -> bool:
    if one.dtype.kind == "O" and one.shape == other.shape:
        pairs = zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)
        return all(_same_item(mine, theirs) for mine, theirs in pairs)
    if one.dtype.kind != "f":
        return np.array_equal(one, other)
    return bool(one.shape == other.shape and np.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True))


def _same_item(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return _close(one, other)
    if isinstance(one, dict) and one.keys() == other.keys():
        return _close(np.asarray(list(one.values())), np.asarray(list(other.values())))
    return bool(one == other)


def _items(value: Any) -> Array:
    """An output as an array; of a list, an array [items] of its maps or arrays."""
    if not isinstance(value, list):
        return np.asarray(value)
    items = np.empty(len(value), dtype=object)
    for index, item in enumerate(value):
        items[index] = item
    return items


def _explained(error: Exception, code: str) -> EdgedError:
    """onnxruntime's exception in edged's words; its types tell little, its texts more."""
    if isinstance(error, UnicodeDecodeError):
        where = "a string in an output" if code == "model_failed" else "a name in it"
        return EdgedError(code, f"{where} is not UTF-8: {error.reason}")
    text = _worded(error)
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return EdgedError("over_memory", f"the model asked for more memory than limits.memory allows: {text}")
    if code == "model_failed" and type(error).__name__ == "InvalidArgument":
        return EdgedError("bad_input", f"the model refuses this input: {text}")
    return EdgedError(code, f"onnxruntime cannot load it: {text}" if code == "not_a_model" else text)


def _worded(error: Exception) -> str:
    """What onnxruntime says, shortened; of a failed call of CUDA's what the call says, which comes late in its text."""
    text = _WHERE.sub("", _CODE.sub("", " ".join(str(error).split())))[:_REASON]
    return cuda.said(str(error)) or text or type(error).__name__
