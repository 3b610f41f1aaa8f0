"""DTLN takes noise out of speech, 8 ms at a time: two models in a row, each with a state that its client feeds back."""

from __future__ import annotations

import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.box import Box, box
from tests.clients.oip import Array, Client
from tests.real.conftest import Case

FRAME, HOP, STATE = 512, 128, (1, 2, 128, 2)
Infer = Callable[[str, dict[str, Array]], dict[str, Array]]  # model and its inputs by name -> its outputs
CONFIGURATION = """
device: ear-1
models:
  mask: {{file: {models}/dtln_1_float.onnx}}
  voice: {{file: {models}/dtln_2_float.onnx}}
"""


@pytest.fixture(scope="module")
def ear(data: Path) -> Iterator[Box]:
    with box(CONFIGURATION.format(models=data / "models")) as running:
        yield running


def sound(path: Path) -> Array:
    """16 kHz mono as float32 from -1 to 1."""
    with wave.open(str(path)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return (samples / 32768).astype(np.float32)


def cleaned(infer: Infer, samples: Array) -> Array:
    """What both models make of a recording: mask on the magnitudes, then frames, added up where they overlap."""
    mask_state = voice_state = np.zeros(STATE, dtype=np.float32)
    heard, said = np.zeros(FRAME, dtype=np.float32), np.zeros(FRAME, dtype=np.float32)
    parts = []
    for start in range(0, len(samples) - HOP + 1, HOP):
        heard = np.concatenate([heard[HOP:], samples[start : start + HOP]])
        spectrum = np.fft.rfft(heard)
        magnitude = np.abs(spectrum).astype(np.float32).reshape(1, 1, -1)
        masked = infer("mask", {"input_2": magnitude, "input_3": mask_state})
        mask_state = masked["tf_op_layer_stack_2"]
        frame = np.fft.irfft(spectrum * masked["activation_2"][0, 0]).astype(np.float32)
        spoken = infer("voice", {"input_4": frame.reshape(1, 1, -1), "input_5": voice_state})
        voice_state = spoken["tf_op_layer_stack_5"]
        said = np.concatenate([said[HOP:], np.zeros(HOP, dtype=np.float32)]) + spoken["conv1d_3"][0, 0]
        parts.append(said[:HOP])
    return np.concatenate(parts)


def rms(samples: Array) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("name", ["yes", "no", "noise"])
def test_speech_stays_and_noise_goes(ear: Box, data: Path, name: str, expected: Callable[[str, str], Case]) -> None:
    file = f"{name}_1000ms.wav"
    case = expected("dtln_1_float.onnx + dtln_2_float.onnx", file)
    samples = sound(data / "inputs" / file)
    assert rms(samples) == pytest.approx(case["rms_in"], abs=5e-5)
    with Client(ear.socket) as client:
        assert rms(cleaned(client.infer, samples)) == pytest.approx(case["rms_out"], abs=5e-4)
