"""onnxruntime alone, in a loop: what no service can cost less than. Prints the CPU time of a run in microseconds.

onnxruntime_raw.py MODEL SECONDS
"""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
if "vnni" not in Path("/proc/cpuinfo").read_text():  # else int8 sums are cut off there: docs/adr/0007
    options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = [1, *session.get_inputs()[0].shape[1:]]
inputs = {"x": np.random.default_rng(3).standard_normal(shape).astype(np.float32)}


def runs_for(seconds: float) -> int:
    runs, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(10):
            session.run(None, inputs)
        runs += 10
    return runs


runs_for(0.2)
before = time.process_time()
runs = runs_for(float(sys.argv[2]))
sys.stdout.write(f"{(time.process_time() - before) / runs * 1e6}\n")
