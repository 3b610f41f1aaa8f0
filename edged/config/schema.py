"""The configuration as frozen values: every key, its type, its bounds, its default and what it means.

load.py turns a YAML file into these; docs/configuration.md says the same in a table, which a test
compares with this file.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from edged.config import addresses, checks
from edged.config.hours import Install
from edged.config.keys import Key
from edged.config.steps import Form, Postprocess, Preprocess, ResultFormat
from edged.config.units import Duration, Factor, Percent, Rate, Size

Overflow = Literal["reject", "drop-oldest", "drop-newest", "block", "latest"]
Per = Literal["model", "stream"]
Provider = Literal["cuda", "cpu"]
QoS = Literal[0, 1]
Remote = Literal["ping", "install", "log", "rollback", "reload"]
BASE: Final = "edged"
LOOKED_UP: Final = "relative = $CREDENTIALS_DIRECTORY, then the configuration's folder"
_HOUR_S: Final = 3600
_DAY_S: Final = 24 * _HOUR_S


class Outbox(msgspec.Struct, frozen=True):
    """Where QoS 1 messages wait on the disk while the broker is away. `size` 0: they wait in memory."""

    size: Annotated[
        Size, Key("the most that it takes of the disk; 0 = nothing: 32 MiB wait in memory alone", 0, 2**36)
    ] = Size(64 * 2**20)
    age: Annotated[Duration, Key("what has waited for so long is dropped", 1, 366 * _DAY_S)] = Duration(7 * _DAY_S)
    overflow: Annotated[
        Literal["drop-oldest", "drop-newest"],
        Key("what goes when it is full and the broker away; the oldest go a sixteenth at a time"),
    ] = "drop-oldest"
    rate: Annotated[
        Rate, Key("how fast it is emptied, beside new results, when the broker is back", 1 / 3600, 100_000)
    ] = Rate(50)


class Mqtt(msgspec.Struct, frozen=True):
    """The broker that inputs come from and results go to."""

    url: Annotated[
        tuple[str, ...],
        Key(
            "the broker: `mqtt://host[:1883]` or `mqtts://host[:8883]`, or through a WebSocket `ws://host[:80][/mqtt]` "
            "or `wss://host[:443][/mqtt]`; several: the first that answers",
            check=addresses.broker,
            one=True,
            distinct=True,
        ),
    ]
    version: Annotated[
        Literal["auto", "5", "3.1.1"], Key("the protocol's version; auto: 5, and 3.1.1 after a refusal")
    ] = "auto"
    username: Annotated[str, Key("the user at the broker", default="none")] = ""
    password: Annotated[str, Key("the user's password, best as `${NAME}`", default="none")] = ""
    ca: Annotated[
        str,
        Key(f"a file with the certificates that vouch for the broker; {LOOKED_UP}", default="the system's"),
    ] = ""
    cert: Annotated[
        str, Key(f"a file with this box's certificate, where the broker asks for one; {LOOKED_UP}", default="none")
    ] = ""
    key: Annotated[str, Key(f"a file with the key to `cert`; {LOOKED_UP}", default="in the file `cert`")] = ""
    client_id: Annotated[
        str, Key("the name of the session", check=checks.client_id, default="edged-<device>-<first 8 of machine-id>")
    ] = ""
    keepalive: Annotated[Duration, Key("how soon a dead connection is noticed", 5, _HOUR_S)] = Duration(30)
    session: Annotated[
        Duration, Key("how long the broker keeps QoS 1 inputs for us while we are away; 0 = not at all", 0, 30 * _DAY_S)
    ] = Duration(3600)
    base: Annotated[str, Key("the first level, or levels, of edged's own topics", check=checks.base_topic)] = BASE
    outbox: Outbox = Outbox()


class Courier(Mqtt, frozen=True):
    """The broker that pushes come from, where it is another one. `base` is `mqtt.base`; no session is kept there."""


class Tls(msgspec.Struct, frozen=True):
    """Who this box is to those who connect to it, and whom it asks for a certificate."""

    cert: Annotated[str, Key(f"a file with this box's certificate; {LOOKED_UP}", default="none")] = ""
    key: Annotated[str, Key(f"a file with the key to `cert`; {LOOKED_UP}", default="in the file `cert`")] = ""
    client_ca: Annotated[
        str,
        Key(
            f"a file with the certificates that vouch for clients, each of which then needs one; {LOOKED_UP}",
            default="clients need none",
        ),
    ] = ""


class Fast(msgspec.Struct, frozen=True):
    """The fast lane's door; `direct` asks for one of each model."""

    path: Annotated[
        tuple[str, ...],
        Key(
            "where: `/run/edged/fast.sock`, `127.0.0.1:8082` for this box alone, or a list of both",
            check=addresses.fast,
            one=True,
            distinct=True,
        ),
    ]
    direct: Annotated[
        bool,
        Key("each model has a socket of its own, which its process serves itself: `fast.MODEL.sock` for `fast.sock`"),
    ] = False

    def of(self, model: str) -> str:
        """The path of a model's own socket, beside the first one."""
        return f"{self.path[0].removeprefix('unix:').removesuffix('.sock')}.{model}.sock"


class Sockets(msgspec.Struct, frozen=True):
    """The doors of this box. `unix` is filled in by load.py where the file does not say; "" = no token is asked for."""

    unix: Annotated[
        str,
        Key("the UNIX socket, HTTP inside", check=checks.socket_path, default="edged.sock in the runtime directory"),
    ] = ""
    http: Annotated[
        tuple[str, ...],
        Key(
            "the same elsewhere: `127.0.0.1:8080`, `unix:/path`; where others can reach it with `token_file` and `tls`",
            check=addresses.place,
            one=True,
            distinct=True,
            default="off",
        ),
    ] = ()
    grpc: Annotated[
        tuple[str, ...],
        Key(
            "the same over gRPC: `127.0.0.1:8081`, `unix:/path`; where others can reach it with `token_file` and `tls`",
            check=addresses.place,
            one=True,
            distinct=True,
            default="off",
        ),
    ] = ()
    metrics: Annotated[
        tuple[str, ...],
        Key(
            "`/metrics` and nothing else, without a token: `127.0.0.1:9464`; where others can reach it with `tls`",
            check=addresses.place,
            one=True,
            distinct=True,
            default="off",
        ),
    ] = ()
    tls: Tls = Tls()
    token: str = ""
    admin_token: str = ""
    fast: Annotated[Fast | None, Key("the fast lane: see docs/fast.md", one=True, default="off")] = None


class Input(msgspec.Struct, frozen=True):
    """One MQTT subscription of a model: `topic` may have named levels (`cells/+cell/scan`)."""

    topic: Annotated[
        str, Key("where inputs come from; `+`, `+name` (a level with a name) and `#` work", check=checks.topic_filter)
    ]
    qos: Annotated[QoS, Key("with 1 an input that a crash cut short comes again")] = 1
    form: Form = Form()
    max_rate: Annotated[
        Rate | None, Key("of each topic; what comes above it is dropped", 1 / 3600, 100_000, default="none")
    ] = None
    max_age: Annotated[
        Duration | None,
        Key(
            "what is older when its turn comes is dropped: by `time`, else since arrival", 0.001, _DAY_S, default="none"
        ),
    ] = None
    hold: Annotated[
        Duration | None,
        Key("where several inputs run together: lends its last value for so long", 0.001, 30 * _DAY_S, default="none"),
    ] = None
    share: Annotated[
        str,
        Key(
            "a group of boxes that share this topic, each input for one of them; brokers that can: docs/brokers.md",
            check=checks.group_name,
            default="each box gets every input",
        ),
    ] = ""


class Output(msgspec.Struct, frozen=True, rename={"from_": "from"}):
    """Where results of `inputs` go; "" = edged/<device>/models/<model>/result."""

    topic: Annotated[
        str,
        Key(
            "where results of `inputs` go; `{name}` is the level `+name` of the input's topic",
            check=checks.output_topic,
            default="<base>/<device>/models/<model>/result",
        ),
    ] = ""
    qos: Annotated[QoS, Key("the results' QoS")] = 1
    format: Annotated[
        ResultFormat, Key("what a result of `inputs` is: the protocol's response, or no more than is said here")
    ] = "oip"
    retain: Annotated[bool, Key("the broker keeps the newest result of each topic")] = False
    expire: Annotated[
        Duration | None,
        Key(
            "how long a result may be under way; then it is dropped, by MQTT 5 brokers too",
            1,
            30 * _DAY_S,
            default="none",
        ),
    ] = None
    from_: Annotated[
        Literal["mqtt", "all"],
        Key(
            "all: the results of requests over HTTP, gRPC and the fast lane are published here, too; "
            "not the direct lane's"
        ),
    ] = "mqtt"


class Queue(msgspec.Struct, frozen=True):
    """A model's waiting inputs. `overflow` None: by source (reject requests, drop-oldest QoS 0, block QoS 1)."""

    size: Annotated[int, Key("how many inputs may wait, of each stream with `per: stream`", 1, 100_000)] = 64
    overflow: Annotated[
        Overflow | None,
        Key(
            "what becomes of an input when the queue is full",
            default="by source: reject for requests, drop-oldest for QoS 0, block for QoS 1",
        ),
    ] = None
    deadline: Annotated[
        Duration | None,
        Key(
            "how long a sender waits before the answer is an error",
            0.001,
            _HOUR_S,
            default="10s for requests, none for MQTT",
        ),
    ] = None
    per: Annotated[Per, Key("stream: a queue for each topic, one input of each in turn")] = "model"


class Batch(msgspec.Struct, frozen=True):
    """At most `max` inputs in one run, where the measurement at load says that it pays."""

    max: Annotated[int, Key("at most so many inputs in one run, where that pays", 1, 1024)] = 16
    wait: Annotated[Duration, Key("how long an input may wait for company", 0, 10)] = Duration(0)


class Limits(msgspec.Struct, frozen=True):
    """What one model may take. `run` None: max(2 s, 20 x the measurement at load)."""

    memory: Annotated[Size, Key("the memory of the model's process", 2**20, 2**38)] = Size(256 * 2**20)
    run: Annotated[
        Duration | None,
        Key(
            "the longest run of one batch",
            0.001,
            _HOUR_S,
            default="2s, on a GPU 10s, or 20 x the run measured at load if longer",
        ),
    ] = None
    message: Annotated[Size, Key("the largest input and the largest result", 2**10, 2**30)] = Size(16 * 2**20)


class Model(msgspec.Struct, frozen=True):
    """One model: a name, how its inputs become tensors and what becomes of its results. `threads` None: auto."""

    name: str
    file: Annotated[
        str,
        Key("the factory model; relative = the configuration's folder", default="waits for its first push"),
    ] = ""
    threads: Annotated[
        int | None, Key("threads of one run; auto: fitted to the cores and the number of models", 1, 64, word="auto")
    ] = 1
    cpus: Annotated[
        tuple[int, ...],
        Key("the cores that the model's processes run on", 0, 4095, one=True, distinct=True, default="all of edged's"),
    ] = ()
    providers: Annotated[
        tuple[Provider, ...],
        Key(
            "what the model runs on, the first that works: `[cuda, cpu]` falls back to the CPU and says so, "
            "`[cuda]` alone never does",
            check=checks.providers,
            one=True,
            distinct=True,
            default="`[cpu]`",
            later=("tensorrt",),
        ),
    ] = ("cpu",)
    swap: Annotated[
        Literal["parallel", "stop_start"],
        Key(
            "when the box has no memory for a new version beside the one that answers: parallel refuses it, "
            "stop_start ends the old one first, and inputs wait meanwhile; on a GPU, stop_start always does"
        ),
    ] = "parallel"
    inputs: tuple[Input, ...] = ()
    preprocess: tuple[Preprocess, ...] = ()
    postprocess: tuple[Postprocess, ...] = ()
    output: Output = Output()
    queue: Queue = Queue()
    batch: Batch = Batch()
    limits: Limits = Limits()

    @property
    def joined(self) -> bool:
        """Whether its inputs feed different tensors, so that they run together (RULES 16)."""
        return len({one.form.tensor for one in self.inputs if one.form.tensor}) > 1


class Probation(msgspec.Struct, frozen=True):
    """When a switched model is kept (RULES 26)."""

    time: Annotated[Duration, Key("how long a new model is watched", 0.1, _DAY_S)] = Duration(60)
    runs: Annotated[int, Key("how many runs it is watched for, at least", 0, 1_000_000)] = 100
    max_errors: Annotated[Percent, Key("more failed runs than this, and at least 5: back to the one before", 0, 1)] = (
        Percent(0.01)
    )
    max_latency: Annotated[Factor, Key("slower than this, compared with the one before: back", 1, 1000)] = Factor(3)


class Push(msgspec.Struct, frozen=True):
    """How models arrive over MQTT. `trust` "": no signature counts, and what is signed is refused."""

    trust: Annotated[
        str,
        Key(
            "the root of trust, a file made by `edged trust init`: without one, signed pushes are refused; "
            "relative = the configuration's folder",
            default="none",
        ),
    ] = ""
    require_signature: Annotated[bool, Key("false allows the simple push: a bare .onnx file in one message")] = True
    install: Install = "auto"
    models: Annotated[
        Literal["configured", "any"],
        Key("any: a signed release that brings a `model.yaml` may add a model that this file does not name"),
    ] = "configured"
    max_size: Annotated[Size, Key("the largest model file", 2**10, 2**34)] = Size(256 * 2**20)
    record: Annotated[bool, Key("keep the last 16 inputs in memory, to try a new model on")] = True
    remote: Annotated[
        tuple[Remote, ...],
        Key(
            "what may be asked of this box over MQTT, by whoever may publish to it",
            one=True,
            distinct=True,
            default="`[ping, install, log]`",
        ),
    ] = ("ping", "install", "log")
    probation: Probation = Probation()
    mqtt: Courier | None = None
    connection: Annotated[
        Literal["own", "shared"],
        Key("whether pushes have a connection of their own, or share that of inputs and results"),
    ] = "own"


class Telemetry(msgspec.Struct, frozen=True):
    """What the box reports about itself."""

    interval: Annotated[Duration, Key("how often the box's figures are published", 1, _HOUR_S)] = Duration(10)


class Config(msgspec.Struct, frozen=True):
    """Everything the daemon needs to know, checked. `arriving` is what a model begins with that no file names
    (arrivals.py): `defaults`, and no name yet.
    """

    device: Annotated[
        str,
        Key(
            "this box's name in topics; it waits while another machine is online under it",
            check=checks.device_name,
            default="the host name, lower case, other characters become -",
        ),
    ]
    sockets: Sockets
    groups: Annotated[
        tuple[str, ...],
        Key("the groups that this box is in", check=checks.group_name, one=True, distinct=True, default="none"),
    ] = ()
    mqtt: Mqtt | None = None
    models: tuple[Model, ...] = ()
    push: Push = Push()
    telemetry: Telemetry = Telemetry()
    arriving: Model = Model("")
