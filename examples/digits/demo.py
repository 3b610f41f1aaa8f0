"""The story of edged in a minute: real scans in, answers out, three models pushed under load, of which one may stay.

Everything runs on this machine, in a folder of its own that is removed at the end: an embedded broker, the daemon, and
this program, which plays the cameras, an application and the operator who signs and pushes. `scripts/demo` runs it.
Exits 0 when all went as promised, 1 with the daemon's log when not.
"""

from __future__ import annotations

import csv
import http.client
import itertools
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from load import PER_S, Load
from plant import GOLDEN, HERE, Box, Operator, indented
from players import Application, Cameras, Failed, Scan, Score, broker, is_ready, process, wait

Scores = tuple[Score, Score]


def tell(folder: Path) -> None:
    started_s = time.monotonic()
    scans = read_scans()
    with ExitStack() as stack:
        port = stack.enter_context(broker(folder))
        url = f"mqtt://127.0.0.1:{port}"
        title("1  The operator makes three keys, and says what each may sign")
        operator = Operator(folder / "operator", url)
        operator.edged("keys", "new", "root", "release", "deploy")
        operator.edged("trust", "init")

        title("2  The box, from a configuration file; it knows whom to trust, and has the factory's model")
        box = Box(folder / "box", url, (operator.folder / "trust.json").read_bytes())
        print(indented(box.config.read_text()))
        run = box.command("run", "--config", str(box.config))
        daemon = stack.enter_context(process(run, folder / "edged.log", box.environment))
        wait(lambda: is_ready(box.socket), daemon, "the daemon")
        cameras, application = Cameras(port), Application(box.socket)
        stack.callback(cameras.close)
        wait(application.sees_the_broker, daemon, "the daemon's connection to the broker")
        print(f"   ready after {time.monotonic() - started_s:.1f} s")

        title(f"3  {len(scans)} real scans of digits, first over MQTT, then over the UNIX socket")
        for scan in scans[:2]:
            cameras.feed([scan])
            show(scan, cameras.last)
        before = ask_all(cameras, application, scans)

        with Load(cameras, application, scans) as load:
            deliver(operator, cameras, application, load, scans)
        during = told(cameras, application)

        title("7  The same scans again")
        after = ask_all(cameras, application, scans)

        title("8  What it takes from the box, and what was decided on it")
        box.edged("status")
        box.edged("log", "digits")
        daemon.send_signal(signal.SIGTERM)
        code = daemon.wait(20)
    judge(before, during, after, code, time.monotonic() - started_s)


def deliver(operator: Operator, cameras: Cameras, application: Application, load: Load, scans: list[Scan]) -> None:
    """Three releases, under a steady load."""
    follow(cameras, application, load)
    title(f"4  A better model, with {GOLDEN} golden scans; from here on {PER_S} scans/s come in on each path")
    golden = operator.golden(scans)
    release = operator.release(2, golden)
    operator.push(release)

    title("5  Version 3 was trained on labels that are off by one; its golden answers are those of version 2")
    answers = operator.folder / release / "golden.npz"
    release = operator.release(3, answers, "--untried")
    operator.push(release, answer=1)
    expect(cameras, "failed", "golden")

    title("6  Version 4 is as good as version 2, until scans come that are brighter than any before")
    release = operator.release(4, golden)
    operator.push(release, answer=1)
    expect(cameras, "rolled_back", "nonfinite")
    time.sleep(1)  # of bright scans on version 2


def follow(cameras: Cameras, application: Application, load: Load) -> None:
    """Prints each phase on the box, and lets the scans become brighter when version 4 is on probation."""
    began_s = time.monotonic()

    def changed(status: dict[str, Any]) -> None:
        so_far = cameras.score.answered + application.score.answered
        word = status.get("verdict") or status["phase"]
        version = status["push"]["version"]
        print(
            f"   {time.monotonic() - began_s:5.1f} s  version {version}: {word:<11} ({so_far} answers so far)",
            flush=True,
        )
        if (version, status["phase"]) == ("4", "probation"):
            load.bright.set()
            print("            the scans become two and a half times as bright")

    cameras.on_phase = changed


def expect(cameras: Cameras, verdict: str, code: str) -> None:
    found = cameras.wait_for_verdict()
    if (found.get("verdict"), found.get("code")) != (verdict, code):
        raise Failed(f"expected {verdict} with {code}, and the box says {found}")


def judge(before: Scores, during: Scores, after: Scores, code: int, took_s: float) -> None:
    """Says how it went. Raises Failed when it was not as promised."""
    title("Done")
    scores = [*before, *during, *after]
    lost, errors = sum(score.lost for score in scores), sum(score.errors for score in scores)
    for path, old, new in zip(("MQTT", "UNIX socket"), before, after, strict=True):
        print(f"   {path:<11}  accuracy {old.accuracy():.1f} % -> {new.accuracy():.1f} %")
    answers, nonfinite = sum(score.answered for score in scores), sum(score.nonfinite for score in scores)
    print(f"   {nonfinite} answers of version 4 were NaN before it was gone")
    print(f"   {answers} answers, lost {lost}, errors {errors}; stopped cleanly; {took_s:.0f} s\n")
    if lost or errors or code:
        raise Failed(f"lost {lost}, errors {errors}; the daemon ended with {code}")
    if max(old.accuracy() for old in before) > 90 or min(new.accuracy() for new in after) < 99:
        raise Failed("the accuracy is not what these models have: 82.9 % and 99.7 %")
    if not nonfinite:
        raise Failed("version 4 has answered NaN to nobody: nothing was shown")


def read_scans() -> list[Scan]:
    with (HERE / "digits_test.csv").open(newline="") as file:
        rows = [list(map(int, row)) for row in itertools.islice(csv.reader(file), 1, None)]
    return [Scan(label, pixels) for label, *pixels in rows]


def ask_all(cameras: Cameras, application: Application, scans: list[Scan]) -> Scores:
    """Every scan over MQTT and over the UNIX socket, counted from zero."""
    cameras.score, application.score = Score(), Score()
    cameras.feed(scans)
    for scan in scans:
        application.ask(scan)
    return told(cameras, application)


def told(cameras: Cameras, application: Application) -> Scores:
    print(f"   MQTT         {cameras.score}")
    print(f"   UNIX socket  {application.score}")
    return cameras.score, application.score


def show(scan: Scan, answer: dict[str, Any]) -> None:
    best = answer["prediction"][0]
    sure = f"the model reads {best['index']}, {100 * best['score']:.1f} % sure"
    beside = ["", "", f"a person read {scan.label}", sure, "", "", "", ""]
    print("\n".join(f"      |{row}|  {text}".rstrip() for row, text in zip(scan.drawn(), beside, strict=True)) + "\n")


def title(text: str) -> None:
    print(f"\n{text}\n", flush=True)


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
