"""A model is replaced while gRPC clients ask without a pause, and none of their requests is lost."""

from __future__ import annotations

import json
import struct
import subprocess
import sys

import pytest

from edged import protobuf
from tests.box import DIGITS, ROOT, box
from tests.brokers import Mosquitto, free_port
from tests.senders import configuration, push

V2 = (DIGITS / "digits_v2_int8.onnx").read_bytes()


def request() -> bytes:
    """A ModelInferRequest for digits: an empty scan."""
    put = protobuf.put
    tensor = put(1, b"image") + put(2, b"FP32") + put(3, bytes((1, 1, 8, 8)))
    return put(1, b"digits") + put(5, tensor) + put(7, struct.pack("<64f", *[0.0] * 64))


@pytest.mark.slow
def test_a_swap_under_load_loses_nothing(broker: Mosquitto) -> None:
    port = free_port()
    configured = configuration(broker.url, push="probation: {time: 1s, runs: 20}")
    with box(f"{configured}\nsockets: {{grpc: '127.0.0.1:{port}'}}\n") as one:
        program = [sys.executable, str(ROOT / "tests" / "clients" / "plain_grpc.py"), f"127.0.0.1:{port}", "ModelInfer"]
        with subprocess.Popen([*program, request().hex(), "--load", "15"], stdout=subprocess.PIPE) as client:
            one.wait(lambda: one.model("digits")["requests"] > 200)
            push(broker.port, V2)
            one.wait(lambda: one.model("digits")["version"] == "2")
            after = one.model("digits")["requests"]
            one.wait(lambda: one.model("digits")["requests"] > after + 200)
            said, _ = client.communicate(timeout=60)
        found = json.loads(said)
        assert found["sent"] == found["OK"] > 400
        assert len(found["answers"]) == 2  # the versions differ in what they answer
        assert one.model("digits")["restarts"] == 0
