"""What the daemon does over each broker, in the words of the table in docs/brokers.md, which is read here.

One broker and one daemon for all rows of a column. A row's test returns a word for what it saw, and fails when that is
not what the table has: a broker that has learnt something fails it too. Mosquitto and amqtt always, the others with
`scripts/test --brokers`. Versions in the table are those of the run that the words came from.
"""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from tests import models
from tests.box import DIGITS, ROOT, Box, box
from tests.brokers import PASSWORD
from tests.guarded_brokers import BROKERS, Guarded
from tests.integration.mqtt.box import User
from tests.senders import scans
from tests.waiting import until

COUNT: Final = 50
LARGE: Final = (4, 65_536)  # 1 MiB
PATIENCE_S: Final = 60
FIVE: Final = {"Mosquitto", "ejabberd"}
SCAN: Final = "cells/west/scan"


@functools.cache
def table() -> dict[str, dict[str, str]]:
    """The table of docs/brokers.md: what is in the row of a name, by the broker's name."""
    _, _, text = (ROOT / "docs" / "brokers.md").read_text().partition("## What works over which broker\n")
    lines = [line for line in text.partition("\n## ")[0].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = [cell.split()[0] for cell in rows[0][1:]]
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows[2:]}


@dataclass
class Site:
    """A broker, and a daemon that it serves."""

    name: str
    broker: Guarded
    folder: Path
    one: Box | None = None

    @property
    def box(self) -> Box:
        assert self.one is not None
        return self.one

    def user(self, *filters: str, name: str = "user") -> User:
        five = self.name in FIVE
        return User(self.broker.port, *filters, five=five, auth=(name, PASSWORD))

    def says(self, row: str, seen: str) -> None:
        assert seen == table()[row][self.name], f"{self.name} {self.broker.version()}, {row}"

    def configuration(self, device: str = "box", inputs: str = "") -> str:
        return f"""
device: {device}
mqtt: {{url: "{self.broker.url}", username: box, password_file: "{self.folder}/box-password", session: 1h}}
defaults: {{limits: {{message: 2MiB}}}}
models:
  digits:
    file: {DIGITS / "digits_v1_int8.onnx"}
    inputs: [{inputs or '{topic: "cells/+cell/scan", format: values, field: pixels, time: ts}'}]
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, argmax]
    output: {{topic: "cells/{{cell}}/digit"}}
  large:
    file: {self.folder}/large.onnx
    inputs: [{{topic: big/in, format: raw, dtype: float32, columns: {LARGE[1]}}}]
    output: {{topic: big/out, format: raw}}
push: {{require_signature: false, probation: {{time: 1s, runs: 1}}}}
""".replace('output: {topic: "cells/{cell}/digit"}' if inputs else "\0", "")

    def scan(self, number: int) -> bytes:
        return json.dumps({"pixels": scans()[number % len(scans())][1], "ts": 1_700_000_000_000 + number}).encode()


ALWAYS: Final = ("Mosquitto", "amqtt")
UNORDERED: Final = ("RabbitMQ",)


@pytest.fixture(
    scope="module",
    params=[name if name in ALWAYS else pytest.param(name, marks=pytest.mark.brokers) for name in BROKERS],
)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    kind = BROKERS[request.param]
    if missing := kind.installed():
        pytest.skip(f"{request.param}: {missing} is not installed; scripts/test --brokers installs it where it may")
    with tempfile.TemporaryDirectory(prefix="edged-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "broker").mkdir()
        (folder / "box-password").write_text(PASSWORD)
        (folder / "box-password").chmod(0o600)
        (folder / "large.onnx").write_bytes(models.identity("float32", ("batch", *LARGE)))
        with kind(folder / "broker") as broker:  # type: ignore[call-arg]  # each knows its own port
            found = Site(request.param, broker, folder)
            until(lambda: welcome(found), PATIENCE_S)  # RabbitMQ's port answers before it knows its users
            with box(found.configuration()) as one:
                found.one = one
                one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"], PATIENCE_S)
                yield found


def welcome(site: Site) -> bool:
    with contextlib.suppress(AssertionError, OSError):
        site.user("edged/#").close()
        return True
    return False


def numbers(user: User, topic: str = "cells/west/digit") -> list[int]:
    """Which inputs these results answer, in the order in which they came."""
    return [result["parameters"]["ts"] - 1_700_000_000_000 for result in user.json(topic)]


def test_protocol(site: Site) -> None:
    site.says("protocol", site.box.status()["daemon"]["mqtt"]["version"])


@pytest.mark.parametrize("qos", [0, 1])
def test_every_input_is_answered_once_and_in_order(site: Site, qos: int) -> None:
    with site.user("cells/west/digit") as user:
        for number in range(COUNT):
            user.send(SCAN, site.scan(number), qos)
        with contextlib.suppress(AssertionError):
            until(lambda: len(numbers(user)) >= COUNT, PATIENCE_S)
        assert not set(range(COUNT)) - set(numbers(user)), site.box.status()
        site.says(f"inputs at QoS {qos}", "yes" if numbers(user) == list(range(COUNT)) else "disordered")


def test_a_level_by_its_name(site: Site) -> None:
    with site.user("cells/+/digit") as user:
        for cell in ("north", "south"):
            user.send(f"cells/{cell}/scan", site.scan(1))
        until(lambda: user.on("cells/north/digit") and user.on("cells/south/digit"), PATIENCE_S)
        site.says("named levels", "yes")


def test_what_is_retained(site: Site) -> None:
    with site.user("edged/box/status", "edged/box/models/digits/status") as user:
        until(lambda: len(user.messages) >= 2, PATIENCE_S)
        assert all(message.retain for message in user.messages)
        assert user.on("edged/box/status")[0].payload == b"online"
        site.says("retained, by name", "yes")
    with site.user("edged/+/status", "edged/box/ping") as user:
        user.send("edged/box/request/ping", b"{}")
        site.says("retained, by wildcard", "yes" if arrives(lambda: user.on("edged/box/status")) else "nothing comes")


def arrives(condition: Callable[[], object], limit_s: float = 5) -> bool:
    """Whether it does within a time that is long for loopback; only the absence of something takes that long."""
    with contextlib.suppress(AssertionError):
        until(condition, limit_s)
        return True
    return False


def test_a_large_message(site: Site) -> None:
    sent = np.arange(np.prod(LARGE), dtype=np.float32).tobytes()
    with site.user("big/out") as user:
        user.send("big/in", sent)
        until(lambda: user.on("big/out"), PATIENCE_S)
        site.says("1 MiB in and out", "yes" if user.on("big/out")[0].payload == sent else "damaged")


def test_a_response_topic(site: Site) -> None:
    if site.name not in FIVE:
        site.says("response topic", "-")
        return
    with site.user("big/answer") as user:
        user.send(SCAN, site.scan(7), ResponseTopic="big/answer", CorrelationData=b"7")
        until(lambda: user.on("big/answer"), PATIENCE_S)
        properties: Any = user.properties("big/answer")[0]
        site.says("response topic", "yes" if properties.CorrelationData == b"7" else "no correlation data")


def test_a_pushed_model(site: Site) -> None:
    with site.user("cells/west/digit", "edged/box/install/digits") as user:
        user.send("edged/box/models/digits/push", (DIGITS / "digits_v2_int8.onnx").read_bytes())
        site.box.wait(lambda: site.box.model("digits")["version"] == "2", PATIENCE_S)
        user.send(SCAN, site.scan(1))
        until(lambda: any(one["model_version"] == "2" for one in user.json("cells/west/digit")), PATIENCE_S)
        site.says("pushed model", "yes")


def test_what_was_sent_to_a_dead_box(site: Site) -> None:
    """kill -9 of the daemon: its will, and what comes at QoS 1 meanwhile."""
    with site.user("cells/west/digit", "edged/box/status") as user:
        until(lambda: user.on("edged/box/status"), PATIENCE_S)
        site.box.kill()
        until(lambda: user.on("edged/box/status")[-1].payload == b"offline", PATIENCE_S)
        site.says("will", "yes")
        for number in range(COUNT):
            user.send(SCAN, site.scan(number))
        site.box.start()
        until(lambda: set(numbers(user)) >= set(range(COUNT)), PATIENCE_S)
        came = list(dict.fromkeys(numbers(user)))  # one may come twice
        # RabbitMQ keeps their order in some runs, and in others not.
        ordered = came == list(range(COUNT)) and site.name not in UNORDERED
        site.says("inputs of a box that was away", "yes" if ordered else "in any order")


def test_a_broker_that_was_killed(site: Site) -> None:
    site.broker.kill()
    site.broker.start()
    until(lambda: welcome(site), PATIENCE_S)
    with site.user("cells/west/digit", "edged/box/status") as user:
        until(lambda: user.on("edged/box/status")[-1:] and user.on("edged/box/status")[-1].payload == b"online", 90)
        site.box.wait(lambda: site.box.status()["daemon"]["mqtt"]["connected"], PATIENCE_S)
        user.send(SCAN, site.scan(3))
        until(lambda: 3 in numbers(user), PATIENCE_S)
    site.says("broker killed and back", "yes")


@contextlib.contextmanager
def another(site: Site, topic: str) -> Iterator[Box]:
    """A daemon with one more input, of which only the broker knows what it will say to it."""
    inputs = [f'{{topic: "{one}", format: values, field: pixels}}' for one in ("cells/east/scan", topic)]
    with box(site.configuration("other", ", ".join(inputs))) as one:
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"], PATIENCE_S)
        yield one


def refused(one: Box, topic: str) -> str:
    """How the daemon tells of it, if it does."""
    mqtt = one.status()["daemon"]["mqtt"]
    return next((word for word in ("refused", "quarantined") if topic in mqtt[word]), "")


@pytest.mark.parametrize(
    ("row", "topic"), [("a subscription denied", "forbidden/scan"), ("a dot in a topic", "a.b/scan")]
)
def test_a_topic_that_a_broker_may_not_like(site: Site, row: str, topic: str) -> None:
    """Whatever it does to it, the input beside it is served."""
    with another(site, topic) as one, site.user("edged/other/models/digits/result") as user:
        results = "edged/other/models/digits/result"

        with contextlib.suppress(RuntimeError), site.user() as sender:  # NATS ends the connection of whoever sends it
            sender.send(topic, site.scan(1))
        if arrives(lambda: any(x["parameters"]["topic"] == topic for x in user.json(results))):
            seen = "yes"
        else:
            arrives(lambda: refused(one, topic), 20)
            seen = refused(one, topic) or "nothing comes"
        one.wait(lambda: one.status()["daemon"]["mqtt"]["connected"], PATIENCE_S)
        user.send("cells/east/scan", site.scan(2))
        until(lambda: any(x["parameters"]["topic"] == "cells/east/scan" for x in user.json(results)), PATIENCE_S)
        site.says(row, seen)
