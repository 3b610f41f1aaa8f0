"""The calls of the Open Inference Protocol's service, Triton's among them, and of gRPC's health service."""

from __future__ import annotations

from typing import Final

import msgspec

from edged.oip.shared import NO_CUDA


class Method(msgspec.Struct, frozen=True):
    """`streaming`: any number of messages each way. `unserved`: why it is known and not served."""

    kind: str
    streaming: bool = False
    unserved: str = ""


_SERVICE: Final = "/inference.GRPCInferenceService/"
_NO_TRACE: Final = "requests are not traced"
_NO_LOG: Final = "the journal's settings are systemd's"

METHODS: Final[dict[bytes, Method]] = {
    f"{_SERVICE}{name}".encode(): method
    for name, method in {
        "ServerLive": Method("live"),
        "ServerReady": Method("ready"),
        "ModelReady": Method("model_ready"),
        "ServerMetadata": Method("server"),
        "ModelMetadata": Method("model"),
        "ModelConfig": Method("config"),
        "ModelStatistics": Method("statistics"),
        "RepositoryIndex": Method("index"),
        "RepositoryModelLoad": Method("load"),
        "RepositoryModelUnload": Method("unload"),
        "ModelInfer": Method("infer"),
        "ModelStreamInfer": Method("infer", streaming=True),
        "SystemSharedMemoryStatus": Method("shared_status"),
        "SystemSharedMemoryRegister": Method("shared_register"),
        "SystemSharedMemoryUnregister": Method("shared_unregister"),
        "CudaSharedMemoryStatus": Method("nothing"),  # there is none, which is what the client wants to hear
        "CudaSharedMemoryRegister": Method("unserved", unserved=NO_CUDA),
        "CudaSharedMemoryUnregister": Method("nothing"),
        "TraceSetting": Method("unserved", unserved=_NO_TRACE),
        "LogSettings": Method("unserved", unserved=_NO_LOG),
    }.items()
} | {b"/grpc.health.v1.Health/Check": Method("health")}
