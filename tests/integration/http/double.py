"""A small real double of the daemon behind the HTTP transport: models that echo, wait, fail; served in a thread."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from array import array
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edged.config.schema import Sockets
from edged.errors import EdgedError, fault
from edged.messages import Admission, Answer, Input
from edged.observe.executions import Spent, Statistics
from edged.oip.backend import Backend
from edged.oip.regions import Regions
from edged.serving.router import ModelView
from edged.tensors import Signature, TensorSpec
from edged.transports.rest.limits import Limits
from edged.transports.rest.listeners import bind
from edged.transports.rest.server import rest
from tests.hosted import Hosted

MESSAGE_LIMIT = 1_000_000
SIGNATURE = Signature((TensorSpec("x", "FP32", (-1, 2)),), (TensorSpec("x", "FP32", (-1, 2)),))


def view(name: str, state: str = "serving", *, deadline_s: float | None = None) -> ModelView:
    serving = state == "serving"
    return ModelView(
        name=name,
        state=state,
        version="3" if serving else "",
        sha256="",
        signature=SIGNATURE if serving else None,
        fault=fault("not_a_model", "it is a text file") if state == "failed" else None,
        queue=0,
        in_flight=0,
        pid=None,
        message_limit=MESSAGE_LIMIT,
        deadline_s=deadline_s,
    )


MODELS = ("echo", "seen", "held", "slow", "lost", "bug", "full", "late")


def echo(item: Input) -> Answer:
    """The input's tensors as outputs, binary when the request asks for it; bad bytes answer nothing good."""
    end = item.json_length if item.json_length >= 0 else len(item.payload)
    request = json.loads(bytes(item.payload[:end]))
    binary = request.get("parameters", {}).get("binary_data_output", False)
    asked = {one["name"]: one.get("parameters", {}).get("binary_data", binary) for one in request.get("outputs", [])}
    outputs, raw, start = [], [], end
    for tensor in request["inputs"]:
        size = tensor.get("parameters", {}).get("binary_data_size", 0)
        values = array("f", item.payload[start : start + size] or tensor.get("data", []))
        output = {key: tensor[key] for key in ("name", "datatype", "shape")}
        if asked.get(tensor["name"], binary):
            output["parameters"] = {"binary_data_size": values.itemsize * len(values)}
            raw.append(values.tobytes())
        else:
            output["data"] = values.tolist()
        start += size
        outputs.append(output)
    known = {"id": request["id"]} if "id" in request else {}
    text = json.dumps({"model_name": item.model, "model_version": "3", **known, "outputs": outputs}).encode()
    return Answer(text + b"".join(raw), len(text) if raw else 0, "3")


class Crowd:
    """Questions about models, each a millisecond's work; the second waits until others have sent theirs."""

    def __init__(self) -> None:
        self.asked = 0
        self.begun, self.others = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.asked += 1
        if self.asked == 2:
            self.begun.set()
            assert self.others.wait(10)
        time.sleep(0.001)


class Double:
    """The rest of the daemon. Every input offered is in `offered`, every refusal is counted in `refused`.

    `looked` is called whenever somebody asks for models.
    """

    def __init__(self) -> None:
        self.looked: Callable[[], None] = lambda: None
        self.offered: list[Input] = []
        self.refused: Counter[tuple[str, str]] = Counter()
        self.held: list[Input] = []
        self.views = {name: view(name) for name in MODELS}
        self.views["late"] = view("late", deadline_s=0.05)
        self.control_calls: list[tuple[str, str]] = []
        self.control_arguments: list[dict[str, Any]] = []
        self.asked_by: list[str] = []
        self.regions = Regions()

    def backend(self) -> Backend:
        return Backend(
            offer=self.offer,
            view=self._view,
            views=self._views,
            metrics=lambda: b"# HELP edged_up x\nedged_up 1\n",
            status=lambda: {"device": "press-07", "models": []},
            control=self.control,
            refused=self._count,
            statistics=lambda _view: (Statistics(inferences=7, executions=2, success=Spent(3, 9)), 4096),
            regions=self.regions,
        )

    def _view(self, name: str) -> ModelView | None:
        self.looked()
        return self.views.get(name)

    def _views(self) -> tuple[ModelView, ...]:
        self.looked()
        return tuple(self.views.values())

    def _count(self, model: str, code: str) -> None:
        self.refused[model, code] += 1

    async def control(self, verb: str, arguments: dict[str, Any], by: str) -> dict[str, Any]:
        model = arguments.get("model", "")
        self.control_calls.append((verb, model))
        self.control_arguments.append(arguments)
        self.asked_by.append(by)
        if model == "full":
            raise EdgedError("no_previous", "there is nothing to go back to")
        return {"model": model, "version": "2"}

    def offer(self, item: Input) -> Admission:
        self.offered.append(item)
        if item.model == "echo":
            try:
                item.reply(echo(item))
            except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
                item.reply(fault("bad_input", f"not a request: {error!r}"))
        elif item.model == "seen":
            facts = (item.content_type, item.json_length, item.binary, len(item.payload))
            item.reply(Answer(msgspec.json.encode({"seen": facts}), 0, "3", nonfinite=True))
        elif item.model == "held":
            self.held.append(item)
        elif item.model == "slow":
            asyncio.get_running_loop().call_later(0.2, item.reply, echo(item))
        elif item.model == "bug":
            raise ZeroDivisionError("a bug on purpose")
        elif item.model == "full":
            item.reply(fault("queue_full", "the queue of full is full"))
            return Admission.REFUSED
        return Admission.TAKEN  # `lost` and `late` never hear of it again


class Served(Hosted):
    """HTTP, hosted."""

    def __init__(
        self,
        folder: Path,
        limits: Limits | None = None,
        *,
        tcp: bool = True,
        loop: str = "uvloop",
        stop_s: float = 2.0,
        sockets: Sockets | None = None,
    ) -> None:
        self.double = Double()
        path = str(folder / "run" / "http.sock")
        sockets = sockets or Sockets(http=("127.0.0.1:0",) if tcp else ())
        listeners = bind(msgspec.structs.replace(sockets, unix=path))
        self.rest = rest(listeners, self.double.backend(), limits=limits)
        super().__init__(self.rest, listeners, path, loop=loop, stop_s=stop_s)

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own: status, headers in lower case, body."""
        with self.connect() as client:
            lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
            client.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            return response(client, method)


def response(client: socket.socket, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """The next response on a socket, and no byte more: status, headers in lower case, body."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = client.recv(1)
        if not piece:
            raise ConnectionError(f"the connection ended after {head!r}")
        head += piece
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body, size = b"", 0 if method == "HEAD" else int(headers["content-length"])
    while len(body) < size:
        piece = client.recv(size - len(body))
        if not piece:
            raise ConnectionError(f"the connection ended after {len(body)} of {size} bytes of body")
        body += piece
    return int(first.split()[1]), headers, body


def infer(path: str, body: bytes, *headers: str) -> bytes:
    """A whole infer request as bytes."""
    lines = [f"POST /v2/models/{path}/infer HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
