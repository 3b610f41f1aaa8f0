"""What needs an NVIDIA GPU, onnxruntime-gpu and CUDA; tests/integration/test_providers.py is for boxes without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import models
from tests.box import DIGITS, Box, box
from tests.gpu import CUDA, missing
from tests.senders import HttpSender

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no GPU to test with: {missing()}")


def configuration(folder: Path, **words: str) -> str:
    """The digits and a convolution, each once for each of `words`: `gpu="[cuda]"` makes digits_gpu and conv_gpu."""
    (folder / "conv.onnx").write_bytes(models.convolution())
    lines = ["device: box", "models:"]
    for name, providers in words.items():
        lines += [
            f"  digits_{name}: {{file: {DIGITS / 'digits_v1_int8.onnx'}, providers: {providers}}}",
            f"  conv_{name}: {{file: {folder / 'conv.onnx'}, providers: {providers}}}",
        ]
    return "\n".join(lines) + "\n"


def asked(one: Box, model: str, name: str, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    shape, data = list(x.shape), x.ravel().tolist()
    code, answer = one.infer(model, [{"name": name, "datatype": "FP32", "shape": shape, "data": data}])
    assert code == 200, answer
    (output,) = answer["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def test_answers_are_the_cpus(tmp_path: Path) -> None:
    """Float32 is not TF32, and int8 goes the way of the CPU where CUDA has no kernel."""
    noise = np.random.default_rng(1)
    with box(configuration(tmp_path, gpu="[cuda]", cpu="[cpu]")) as one:
        for model, name, shape in (("digits", "image", (1, 8, 8)), ("conv", "x", (3, 32, 32))):
            found = one.model(f"{model}_gpu")
            assert (found["providers"], found["fallback"]) == (list(CUDA), "")
            assert one.model(f"{model}_cpu")["providers"] == ["CPUExecutionProvider"]
            for rows in (1, 1, 4):
                x = noise.uniform(0, 1, (rows, *shape)).astype(np.float32)
                mine, theirs = (asked(one, f"{model}_{kind}", name, x) for kind in ("gpu", "cpu"))
                np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
        _, body, _ = one.request("GET", "/v2/models/conv_gpu/config")
        assert json.loads(body)["instance_group"][0]["kind"] == "KIND_GPU"


def test_a_swap_under_load_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "digits.onnx"
    shutil.copy(DIGITS / "digits_v1_int8.onnx", file)
    text = f"""
device: box
models:
  digits:
    file: {file}
    providers: [cuda, cpu]
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, argmax]
"""
    with box(text) as one, HttpSender(one) as sender:
        for version in (2, 1, 2):
            seen, before = sender.answers, one.model("digits")["pid"]
            one.wait(lambda seen=seen: sender.answers > seen + 100)
            shutil.copy(DIGITS / f"digits_v{version}_int8.onnx", file)
            assert one.request("POST", "/edged/reload")[0] == 200
            found = one.model("digits")
            assert found["pid"] != before
            assert (found["providers"], found["fallback"]) == (list(CUDA), "")
        seen = sender.answers
        one.wait(lambda: sender.answers > seen + 100)
        # And one that dies is followed by another on the GPU.
        one.workers()[0].kill()
        one.wait(lambda: one.model("digits")["restarts"] == 1 and one.model("digits")["state"] == "serving")
        assert one.model("digits")["providers"] == list(CUDA)
    assert (sender.lost, sender.errors) == (0, [])
