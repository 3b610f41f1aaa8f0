"""An ONNX model in this process: open, describe, warm up, run. The only user of onnxruntime."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from edged.errors import EdgedError
from edged.tensors import BY_OIP, BY_ONNX, Signature, TensorSpec
from edged.worker.providers.table import PROVIDERS

Array = np.ndarray[Any, Any]

# What a free axis other than the first may be in a made-up input: the first size that runs is kept.
_FREE_SIZES: Final = (1, 16, 64, 224)
_ERROR: Final = 3  # onnxruntime's log severity: one real model prints 244 lines of warnings a load
_TRIAL_ROWS: Final = 8
_PAYS: Final = 1.2


class Measurement:
    """What the model cost on this box. Seconds; `batch_max` 1 where stacking is impossible or does not pay."""

    def __init__(self, run_s: float, batch_max: int, gain: float) -> None:
        self.run_s = run_s
        self.batch_max = batch_max
        self.gain = gain


class Model:
    """A loaded model. Not for threads: one process, one model, one run at a time."""

    def __init__(self, session: Any, signature: Signature) -> None:
        self._session = session
        self.signature: Final = signature
        self.providers: Final = tuple(str(name) for name in session.get_providers())
        self._names = [spec.name for spec in signature.outputs]
        self._free_size = _FREE_SIZES[0]

    @classmethod
    def open(cls, file: str | Path, *, threads: int = 1, providers: Sequence[str] = ("cpu",)) -> Model:
        """Raises EdgedError: not_a_model, over_memory, or unsupported for an input that is no tensor."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = _ERROR
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(str(file), options, providers=[PROVIDERS[name] for name in providers])
        except Exception as error:
            raise _explained(error, "not_a_model") from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        return cls(session, Signature(tuple(map(_spec, inputs)), tuple(map(_spec, outputs))))

    @property
    def stackable(self) -> bool:
        """Whether every input and output has a free first axis to stack inputs along."""
        specs = self.signature.inputs + self.signature.outputs
        return bool(specs) and all(spec.shape and spec.shape[0] == -1 for spec in specs)

    def run(self, feeds: dict[str, Array], outputs: Sequence[str] | None = None) -> list[Array]:
        """The outputs named, or all, in the model's order.

        Raises EdgedError: bad_input when the graph refuses the values (an index out of bounds),
        over_memory, model_failed for everything else.
        """
        try:
            arrays: list[Array] = self._session.run(self._names if outputs is None else list(outputs), feeds)
