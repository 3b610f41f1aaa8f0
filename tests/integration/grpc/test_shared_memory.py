"""Who may share memory over gRPC, and what comes of regions that are not there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tritonclient.grpc import service_pb2

from tests.integration.grpc.double import Served

OK, INVALID, NOT_FOUND, DENIED = 0, 3, 5, 7


@pytest.fixture
def folder(served: Served, tmp_path: Path) -> Iterator[Path]:
    """What is /dev/shm elsewhere, with the file `data` of 100 bytes, which is registered."""
    regions = served.double.regions
    before, regions._folder = regions._folder, str(tmp_path)
    (tmp_path / "data").write_bytes(bytes(range(100)))
    regions.register("data", "data", 0, 100)
    yield tmp_path
    regions.unregister()
    regions._folder = before


def request(size: int = 8, *, region: str = "data", offset: int = 0, model: str = "echo") -> bytes:
    made: Any = service_pb2.ModelInferRequest(model_name=model, id="a")
    given = made.inputs.add(name="x", datatype="UINT8", shape=[size])
    given.parameters["shared_memory_region"].string_param = region
    given.parameters["shared_memory_byte_size"].int64_param = size
    given.parameters["shared_memory_offset"].int64_param = offset
    return bytes(made.SerializeToString())


def test_a_tensor_is_read_from_its_region(served: Served, folder: Path) -> None:
    with served.client() as client:
        found = client.call(1, message=request(8, offset=10))
    assert (found.status, len(found.messages)) == (OK, 1)
    answer = service_pb2.ModelInferResponse.FromString(found.messages[0])
    assert list(answer.raw_output_contents) == [bytes(range(10, 18))]


def test_malformed_places_are_told_and_the_next_call_is_answered(served: Served, folder: Path) -> None:
    with served.client() as client:
        for stream, message in (
            (1, request(101)),
            (3, request(8, offset=93)),
            (5, request(8, region="nothing")),
            (7, request(2**62, offset=2**62)),
            (9, request(-1)),
        ):
            found = client.call(stream, message=message)
            assert found.code in ("bad_input", "input_too_large"), stream
        (folder / "data").write_bytes(bytes(4))
        found = client.call(11, message=request(8))
        assert (found.status, found.code) == (INVALID, "bad_input")
        client.open(13, b"ModelStreamInfer")
        client.data(13, request(101), end=False)
        client.data(13, request(4))
        found = client.outcome(13)
        assert (found.status, len(found.messages)) == (OK, 2)
        assert found.messages[0].startswith(b"\x0a")
    assert [region._users for region in served.double.regions._regions.values()] == [1]


def test_a_client_elsewhere_has_no_regions(served: Served, folder: Path) -> None:
    """Of a port that others than this box can reach; here the UNIX socket plays it."""
    bound = served.listeners[0].bound
    msgspec.structs.force_setattr(bound, "loopback", False)
    try:
        with served.client() as client:
            register = service_pb2.SystemSharedMemoryRegisterRequest(name="r", key="data", byte_size=8)
            for stream, method, message in (
                (1, b"SystemSharedMemoryStatus", b""),
                (3, b"SystemSharedMemoryRegister", register.SerializeToString()),
                (5, b"SystemSharedMemoryUnregister", b""),
            ):
                found = client.call(stream, method, message)
                assert (found.status, found.code) == (DENIED, "forbidden")
            assert client.call(7, message=request()).status == OK
            assert served.double.offered[-1].payload == request()  # as it came: nothing was read for it
    finally:
        msgspec.structs.force_setattr(bound, "loopback", True)
    assert [one.name for one in served.double.regions.listed()] == ["data"]


def test_regions_are_told_and_forgotten(served: Served, folder: Path) -> None:
    with served.client() as client:
        register = service_pb2.SystemSharedMemoryRegisterRequest(name="r", key="/data", offset=4, byte_size=8)
        assert client.call(1, b"SystemSharedMemoryRegister", register.SerializeToString()).status == OK
        found = client.call(3, b"SystemSharedMemoryStatus")
        told = service_pb2.SystemSharedMemoryStatusResponse.FromString(found.messages[0])
        assert set(told.regions) == {"data", "r"}
        assert (told.regions["r"].key, told.regions["r"].offset, told.regions["r"].byte_size) == ("/data", 4, 8)
        assert client.call(5, b"SystemSharedMemoryRegister").code == "bad_input"
        assert client.call(7, b"SystemSharedMemoryRegister", b"\xff").code == "bad_input"
        one = service_pb2.SystemSharedMemoryUnregisterRequest(name="r").SerializeToString()
        assert client.call(9, b"SystemSharedMemoryUnregister", one).status == OK
        assert client.call(11, b"SystemSharedMemoryStatus", one).status == NOT_FOUND
        assert client.call(13, b"SystemSharedMemoryUnregister").status == OK
    assert served.double.regions.listed() == []
