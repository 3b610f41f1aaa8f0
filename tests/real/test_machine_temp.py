"""A machine's temperatures: 2,187 windows of 64 real readings, the next hour forecast by two versions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.box import Box, box
from tests.brokers import Mosquitto
from tests.clients.mqtt import collect
from tests.clients.oip import Array, Client
from tests.integration.mqtt.box import User
from tests.real.conftest import Case

VERSIONS = ("v1", "v2")
# int8 answers differ in the last digits between CPUs; v1 is four times as far off as v2.
TOLERANCE = 0.03
CONFIGURATION = """
device: press-07
mqtt: {{url: "{url}"}}
models:
  v1:
    file: {models}/machine_temp_v1_int8.onnx
    inputs: [{{topic: "plant/+machine/window", format: raw, dtype: float32}}]
    output: {{topic: "plant/{{machine}}/forecast/v1"}}
  v2:
    file: {models}/machine_temp_v2_int8.onnx
    inputs: [{{topic: "plant/+machine/window", format: raw, dtype: float32}}]
    output: {{topic: "plant/{{machine}}/forecast/v2"}}
"""


@pytest.fixture(scope="module")
def machine(data: Path, broker: Mosquitto) -> Iterator[Box]:
    with box(CONFIGURATION.format(url=broker.url, models=data / "models")) as running:
        yield running


@pytest.fixture(scope="module")
def windows(arrays: Callable[[str], dict[str, Array]]) -> dict[str, Array]:
    return arrays("machine_temp_test.npz")


@pytest.fixture(scope="module")
def forecasts(machine: Box, windows: dict[str, Array]) -> dict[str, Array]:
    """Both versions' forecasts for every window, by binary tensors: half a megabyte in one request."""
    with Client(machine.socket) as client:
        return {version: client.infer(version, {"window": windows["window"]})["forecast"] for version in VERSIONS}


def errors(forecast: Array, windows: dict[str, Array]) -> tuple[float, float]:
    """The mean absolute error in degrees Fahrenheit: normal windows, windows that touch an anomaly."""
    distance, anomaly = np.abs(forecast - windows["future"]), windows["anomaly"] == 1
    return float(distance[~anomaly].mean()), float(distance[anomaly].mean())


@pytest.mark.parametrize("version", VERSIONS)
def test_error_is_what_onnxruntime_alone_has(
    version: str, forecasts: dict[str, Array], windows: dict[str, Array], expected: Callable[[str, str], Case]
) -> None:
    case = expected(f"machine_temp_{version}_int8.onnx", "machine_temp_test.npz")
    assert forecasts[version].shape == (case["n"], 12)
    assert errors(forecasts[version], windows) == pytest.approx(
        (case["mae_normal"], case["mae_anomaly"]), rel=TOLERANCE
    )
    np.testing.assert_allclose(forecasts[version][0], case["first_forecast"], atol=0.5)


def test_the_second_version_beats_the_first(forecasts: dict[str, Array], windows: dict[str, Array]) -> None:
    first, second = (errors(forecasts[version], windows) for version in VERSIONS)
    assert second[0] < first[0] / 3
    assert second[1] < first[1] / 3


def test_both_outputs_and_only_the_one_asked_for(
    machine: Box, windows: dict[str, Array], expected: Callable[[str, str], Case]
) -> None:
    case = expected("machine_temp_v2_int8.onnx", "machine_temp_test.npz")
    with Client(machine.socket) as client:
        both = client.infer("v2", {"window": windows["window"][:1]})
        assert {name: array.shape for name, array in both.items()} == {"forecast": (1, 12), "trend": (1, 1)}
        assert float(both["trend"][0, 0]) == pytest.approx(case["first_trend"], abs=0.2)
        assert list(client.infer("v2", {"window": windows["window"][:1]}, ["trend"])) == ["trend"]


@pytest.mark.parametrize("version", VERSIONS)
def test_raw_windows_one_by_one(
    machine: Box, version: str, windows: dict[str, Array], forecasts: dict[str, Array]
) -> None:
    with Client(machine.socket) as client:
        answers = [
            client.post(version, window.tobytes(), "application/octet-stream").tensors()["forecast"]
            for window in windows["window"]
        ]
    np.testing.assert_allclose(np.concatenate(answers), forecasts[version], atol=1e-3)


def test_values_as_people_write_them(machine: Box, windows: dict[str, Array], forecasts: dict[str, Array]) -> None:
    """JSON lists, nested as the model's own shape or flat, and numbers in plain text."""
    with Client(machine.socket) as client:
        for index in range(0, len(windows["window"]), 20):
            flat = windows["window"][index][0].tolist()
            for body in (json.dumps(flat), json.dumps([flat]), ", ".join(map(str, flat))):
                answer = client.post("v2", body.encode(), "application/json").tensors()["forecast"]
                np.testing.assert_allclose(answer[0], forecasts["v2"][index], atol=1e-3)


def test_windows_over_mqtt(
    machine: Box, broker: Mosquitto, windows: dict[str, Array], forecasts: dict[str, Array]
) -> None:
    """Every window once at QoS 1; each message is answered by both versions, each in order."""
    with User(broker.port, "plant/press/forecast/+") as user:
        for window in windows["window"]:
            user.client.publish("plant/press/window", window.tobytes(), 1)
        count = len(windows["window"])
        found: dict[str, list[dict[str, Any]]] = {
            version: collect(user, f"plant/press/forecast/{version}", count) for version in VERSIONS
        }
    for version, answers in found.items():
        assert [answer["parameters"]["seq"] for answer in answers] == list(range(1, count + 1))
        assert {answer["model_name"] for answer in answers} == {version}
        forecast = np.array([answer["outputs"][0]["data"] for answer in answers], dtype=np.float32)
        np.testing.assert_allclose(forecast, forecasts[version], atol=1e-3)
