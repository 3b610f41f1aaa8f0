"""The FastAPI service that one writes by hand: raw float32 in and out, a session with one thread that does not spin.

fastapi_raw.py MODEL PORT
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI, Request, Response

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
if "vnni" not in Path("/proc/cpuinfo").read_text():  # else int8 sums are cut off there: docs/adr/0007
    options.add_session_config_entry("session.x64quantprecision", "1")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
shape = [1, *session.get_inputs()[0].shape[1:]]
app = FastAPI()


@app.post("/infer")
async def infer(request: Request) -> Response:
    x = np.frombuffer(await request.body(), np.float32).reshape(shape)
    return Response(session.run(None, {"x": x})[0].tobytes(), media_type="application/octet-stream")


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), access_log=False, log_level="warning")
