"""The story of edged in a minute: real scans in, answers out, a better model pushed under load, nothing lost.

Everything runs on this machine, in a folder of its own that is removed at the end: an embedded broker, the daemon, and
this program, which plays the cameras, an application and the person who pushes the model. `scripts/demo` runs it.
Exits 0 when all went as promised, 1 with the daemon's log when not.
"""

from __future__ import annotations

import csv
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from players import Application, Cameras, Failed, Scan, Score, broker, is_ready, process, wait

HERE = Path(__file__).resolve().parent
LOAD_PER_S = 100  # on each of the two paths, while the model is replaced
PROBATION_S = 4

CONFIGURATION = """\
device: demo
mqtt:
  url: {broker}
  version: 3.1.1                       # the embedded broker does not speak MQTT 5
models:
  digits:
    file: {model}
    inputs:
      - topic: cells/+cell/scan        # JSON {{"pixels": [64 numbers], "ts": milliseconds}}
        format: values
        field: pixels
        time: ts
    preprocess: [{{scale: 0.0625}}, {{reshape: [1, 8, 8]}}]
    postprocess: [softmax, {{top_k: 3}}]
    output: {{topic: "cells/{{cell}}/digit"}}
push:
  require_signature: false             # for a demonstration only
  probation: {{time: {probation}s, runs: 100}}
telemetry: {{interval: 2s}}
"""


class Box:
    """The daemon of this demonstration, and how to call it: folder, environment, command line."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.broker = f"mqtt://127.0.0.1:{port}"
        self.socket = folder / "run" / "edged.sock"
        self.config = folder / "edged.yaml"
        model = json.dumps(str(HERE / "digits_v1_int8.onnx"))  # quoted as YAML wants it
        self.config.write_text(CONFIGURATION.format(broker=self.broker, model=model, probation=PROBATION_S))
        self.environment = {
            **os.environ,
            "STATE_DIRECTORY": str(folder / "state"),
            "RUNTIME_DIRECTORY": str(folder / "run"),
        }

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "edged", *words]

    def edged(self, *words: str) -> None:
        """Runs a command, shows it as one would type it, and what it says."""
        print("   $ edged", *(Path(word).name if word.startswith("/") else word for word in words))
        done = subprocess.run(
            self.command(*words), env=self.environment, capture_output=True, text=True, timeout=90, check=False
        )
        print(indented(done.stdout + done.stderr))
        if done.returncode:
            raise Failed(f"edged {words[0]} ended with {done.returncode}")


def tell(folder: Path) -> None:
    started_s = time.monotonic()
    scans = read_scans()
    with ExitStack() as stack:
        title("1  An embedded broker and the daemon, from a configuration file")
        port = stack.enter_context(broker(folder))
        box = Box(folder, port)
        print(indented(box.config.read_text()))
        run = box.command("run", "--config", str(box.config))
        daemon = stack.enter_context(process(run, folder / "edged.log", box.environment))
        wait(lambda: is_ready(box.socket), daemon, "the daemon")
        cameras, application = Cameras(port), Application(box.socket)
        stack.callback(cameras.close)
        wait(application.sees_the_broker, daemon, "the daemon's connection to the broker")
        print(f"   ready after {time.monotonic() - started_s:.1f} s")

        title(f"2  {len(scans)} real scans of digits, first over MQTT, then over the UNIX socket")
        for scan in scans[:2]:
            cameras.feed([scan])
            show(scan, cameras.last)
        before = ask_all(cameras, application, scans)

        title(f"3  A better model, pushed over MQTT; meanwhile {LOAD_PER_S} scans/s on each path")
        during = push(box, cameras, application, scans)

        title("4  The same scans again")
        after = ask_all(cameras, application, scans)

        title("5  What it takes from the box")
        box.edged("status")
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(20)

    title("Done")
    scores = [*before, *during, *after]
    lost, errors = sum(score.lost for score in scores), sum(score.errors for score in scores)
    for path, old, new in zip(("MQTT", "UNIX socket"), before, after, strict=True):
        print(f"   {path:<11}  accuracy {old.accuracy():.1f} % -> {new.accuracy():.1f} %")
    answers = sum(score.answered for score in scores)
    print(
        f"   {answers} answers, lost {lost}, errors {errors}; stopped cleanly; {time.monotonic() - started_s:.0f} s\n"
    )
    if lost or errors or code:
        raise Failed(f"lost {lost}, errors {errors}; the daemon ended with {code}")
    if max(old.accuracy() for old in before) > 90 or min(new.accuracy() for new in after) < 99:
        raise Failed("the accuracy is not what these models have: 82.9 % and 99.7 %")


def read_scans() -> list[Scan]:
    with (HERE / "digits_test.csv").open(newline="") as file:
        return [Scan(row) for row in itertools.islice(csv.reader(file), 1, None)]


def ask_all(cameras: Cameras, application: Application, scans: list[Scan]) -> tuple[Score, Score]:
    """Every scan over MQTT and over the UNIX socket, counted from zero."""
    cameras.score, application.score = Score(), Score()
    cameras.feed(scans)
    for scan in scans:
        application.ask(scan)
    return told(cameras, application)


def told(cameras: Cameras, application: Application) -> tuple[Score, Score]:
    print(f"   MQTT         {cameras.score}")
    print(f"   UNIX socket  {application.score}")
    return cameras.score, application.score


def push(box: Box, cameras: Cameras, application: Application, scans: list[Scan]) -> tuple[Score, Score]:
    """Pushes v2 under a steady load on both paths, until it is kept."""
    cameras.score, application.score = Score(), Score()
    stop, failures = threading.Event(), []

    def load(send: Callable[[Scan], None]) -> None:
        due_s = time.monotonic()
        try:
            for scan in itertools.cycle(scans):
                if stop.wait(max(0.0, due_s - time.monotonic())):
                    return
                send(scan)
                due_s += 1 / LOAD_PER_S
        except (Failed, OSError, http.client.HTTPException) as error:
            failures.append(error)

    started_s = time.monotonic()

    def follow(status: dict[str, Any]) -> None:
        so_far = cameras.score.answered + application.score.answered
        word = status.get("verdict") or status.get("phase")
        print(f"   {time.monotonic() - started_s:5.1f} s  {word:<10} ({so_far} answers so far)")

    cameras.on_phase = follow
    threads = [threading.Thread(target=load, args=(send,)) for send in (cameras.send, application.ask)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        model = str(HERE / "digits_v2_int8.onnx")
        box.edged("push", "--simple", model, "--model", "digits", "--to", "device:demo", "--broker", box.broker)
        verdict = cameras.wait_for_verdict(30)
        time.sleep(1)
    finally:
        stop.set()
        for thread in threads:
            thread.join(20)
    if failures:
        raise Failed(f"the load stopped: {failures[0]!r}") from failures[0]
    if verdict.get("verdict") != "active":
        raise Failed(f"the pushed model did not become active: {verdict}")
    cameras.settle()
    return told(cameras, application)


def show(scan: Scan, answer: dict[str, Any]) -> None:
    best = answer["prediction"][0]
    sure = f"the model reads {best['index']}, {100 * best['score']:.1f} % sure"
    beside = ["", "", f"a person read {scan.label}", sure, "", "", "", ""]
    print("\n".join(f"      |{row}|  {text}".rstrip() for row, text in zip(scan.drawn(), beside, strict=True)) + "\n")


def title(text: str) -> None:
    print(f"\n{text}\n", flush=True)


def indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.strip().splitlines()) + "\n"


def main() -> int:
    # A UNIX socket's address has at most 107 bytes: an odd TMPDIR must not make it longer.
    short = None if len(tempfile.gettempdir()) < 60 else "/tmp"  # noqa: S108 - TemporaryDirectory makes a private folder
    with tempfile.TemporaryDirectory(prefix="edged-demo-", dir=short) as name:
        folder = Path(name)
        try:
            tell(folder)
        except (Failed, OSError, http.client.HTTPException, subprocess.SubprocessError) as error:
            print(f"\nFAILED: {error}", file=sys.stderr)
            for log in (folder / "broker.log", folder / "edged.log"):
                if log.exists():
                    lines = log.read_text(errors="replace").splitlines()[-40:]
                    print(f"\n--- the end of {log.name}", *lines, sep="\n", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
