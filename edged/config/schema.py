"""The configuration as frozen values: every key, its type, its default and what it means.

load.py turns a YAML file into these; a field's description is what `edged check` and the
documentation print.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from edged.config.steps import Form, Postprocess, Preprocess
from edged.config.units import Duration, Factor, Percent, Size

Overflow = Literal["reject", "drop-oldest", "block"]


class Mqtt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The broker that inputs come from and results go to."""

    url: str  # mqtt://host[:1883] or mqtts://host[:8883]
    version: Literal["auto", "5", "3.1.1"] = "auto"
    username: str = ""
    password: str = ""  # resolved by load.py from password: ${ENV} or password_file
    ca: str = ""  # absolute path; "" = the system's own certificate authorities
    client_id: str = ""  # filled in by load.py: edged-<device>-<8 of machine-id>
    keepalive: Duration = Duration(30)
    session: Duration = Duration(3600)  # how long the broker keeps our session; 0 = clean
    base: str = "edged"


class Sockets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The local doors. `unix` is filled in by load.py where the file does not say."""

    unix: str = ""
    http: tuple[str, ...] = ()  # loopback "host:port"


class Input(msgspec.Struct, frozen=True):
    """One MQTT subscription of a model: `topic` may have named levels (`cells/+cell/scan`)."""

    topic: str
    qos: Literal[0, 1] = 1
    form: Form = Form()


class Output(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where results of `inputs` go; "" = edged/<device>/models/<model>/result."""

    topic: str = ""
    qos: Literal[0, 1] = 1


class Queue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's waiting inputs. `overflow` None: by source (reject HTTP, drop-oldest QoS 0, block QoS 1)."""

    size: int = 64
    overflow: Overflow | None = None
    deadline: Duration | None = None  # None: 10 s on HTTP, none on MQTT


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most `max` inputs in one run, where the measurement at load says that it pays."""

    max: int = 16
    wait: Duration = Duration(0)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one model may take. `run` None: max(2 s, 20 x the measurement at load)."""

    memory: Size = Size(256 * 2**20)
    run: Duration | None = None
    message: Size = Size(16 * 2**20)


class Model(msgspec.Struct, frozen=True):
    """One model: a name, how its inputs become tensors and what becomes of its results."""

    name: str
    file: str = ""  # absolute path of the factory model; "" = waits for its first push
    threads: int = 1
    inputs: tuple[Input, ...] = ()
    preprocess: tuple[Preprocess, ...] = ()
    postprocess: tuple[Postprocess, ...] = ()
    output: Output = Output()
    queue: Queue = Queue()
    batch: Batch = Batch()
    limits: Limits = Limits()


class Probation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a switched model is kept (RULES 26)."""

    time: Duration = Duration(60)
    runs: int = 100
    max_errors: Percent = Percent(0.01)
    max_latency: Factor = Factor(3)


class Push(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How models arrive over MQTT."""

    require_signature: bool = True
    max_size: Size = Size(256 * 2**20)
    record: bool = True
    probation: Probation = Probation()


class Telemetry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    interval: Duration = Duration(10)


class Config(msgspec.Struct, frozen=True):
    """Everything the daemon needs to know, checked."""

    device: str
    sockets: Sockets
    mqtt: Mqtt | None = None
    models: tuple[Model, ...] = ()
    push: Push = Push()
    telemetry: Telemetry = Telemetry()
