"""Stopping: listeners first, then what is under way, then nothing more."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
import time
from pathlib import Path

import pytest

from edged.config.schema import Sockets
from edged.transports.rest.limits import Limits
from edged.transports.rest.listeners import bind
from edged.transports.rest.server import rest
from tests.integration.http.double import Double, Served, echo, infer, response

JSON = b'{"inputs":[]}'


def wait_for(condition: object, timeout_s: float = 5) -> None:
    assert callable(condition)
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.005)


def stopping(served: Served, deadline_s: float) -> threading.Thread:
    thread = threading.Thread(target=served.run, args=(served.rest.stop(deadline_s),))
    thread.start()
    return thread


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_what_is_under_way_is_answered(short_path: Path, loop: str) -> None:
    with Served(short_path, loop=loop) as served:
        idle, busy = served.connect(), served.connect()
        idle.sendall(b"GET /v2 HTTP/1.1\r\n\r\n")
        assert response(idle)[0] == 200
        busy.sendall(infer("held", JSON))
        wait_for(lambda: served.double.held)
        began = time.monotonic()
        stop = stopping(served, 5)
        assert idle.recv(1) == b""  # closed at once, as nothing is under way
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            served.connect()
        assert not Path(served.path).exists()
        assert stop.is_alive()
        item = served.double.held[0]
        served.loop.call_soon_threadsafe(item.reply, echo(item))
        status, headers, _ = response(busy)
        assert (status, headers["connection"]) == (200, "close")
        stop.join()
        assert time.monotonic() - began < 2
        idle.close()
        busy.close()


def test_what_takes_longer_than_the_deadline_is_told(short_path: Path) -> None:
    with Served(short_path) as served:
        waits, sends, reads = served.connect(), served.connect(), served.connect()
        waits.sendall(infer("held", JSON))
        sends.sendall(b"POST /v2/models/seen/infer HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc")
        reads.sendall(b"GET /v2 HT")
        wait_for(lambda: served.double.held)
        began = time.monotonic()
        stop = stopping(served, 0.3)
        assert reads.recv(1) == b""
        for client in (waits, sends):
            status, _, body = response(client)
            assert (status, json.loads(body)["code"]) == (503, "stopping")
        stop.join()
        assert time.monotonic() - began < 2
        for client in (waits, sends, reads):
            client.close()


def test_a_client_that_never_reads_does_not_hold_the_stop(short_path: Path) -> None:
    with Served(short_path, Limits(idle_s=60)) as served:
        client = served.connect()
        client.sendall(infer("echo", b'{"id":"' + b"a" * 900_000 + b'","inputs":[]}'))
        wait_for(lambda: served.double.offered)
        began = time.monotonic()
        stopping(served, 0.2).join()
        assert time.monotonic() - began < 2
        client.close()


def test_stopping_twice_and_before_the_start_is_harmless(short_path: Path) -> None:
    with Served(short_path) as served:
        served.run(served.rest.stop(1))
        served.run(served.rest.stop(1))
    listeners = bind(Sockets(unix=str(short_path / "s")))
    asyncio.run(rest(listeners, Double().backend()).stop(1))
    assert listeners[0].socket.fileno() == -1
    assert not (short_path / "s").exists()


def test_signals_are_left_alone(short_path: Path) -> None:
    async def scenario() -> None:  # on the main thread, the only one that could take them
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        doors = rest(bind(Sockets(unix=str(short_path / "s"))), Double().backend())
        await doors.start()
        after = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        await doors.stop(1)
        assert after == before

    asyncio.run(scenario())


def test_a_folder_that_another_daemon_took_over_is_left(short_path: Path) -> None:
    with Served(short_path) as served:
        Path(served.path).unlink()
        Path(served.path).touch()
        served.run(served.rest.stop(1))
        assert Path(served.path).exists()
