"""edged: the inference daemon for edge boxes.

Two variables must be in the environment before numpy or onnxruntime is imported in any process:
OpenBLAS's own thread would make the fork server unsafe to fork, and onnxruntime's Linux wheels
send telemetry unless told not to.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
