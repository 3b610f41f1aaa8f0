"""A steady load of scans on both paths, for as long as the operator is at work."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections.abc import Callable
from typing import Self

from players import Application, Cameras, Failed, Scan, Score

PER_S = 100  # on each of the two paths


class Load:
    """Sends `scans` round and round while it is entered; with `bright` set, each brighter than any before."""

    def __init__(self, cameras: Cameras, application: Application, scans: list[Scan]) -> None:
        self.bright = threading.Event()
        self._cameras, self._application = cameras, application
        self._scans = [(scan, scan.brighter()) for scan in scans]
        self._stop = threading.Event()
        self._failures: list[Exception] = []
        self._threads = [threading.Thread(target=self._feed, args=(send,)) for send in (cameras.send, application.ask)]

    def __enter__(self) -> Self:
        self._cameras.score, self._application.score = Score(), Score()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(20)
        if self._failures:
            raise Failed(f"the load stopped: {self._failures[0]!r}") from self._failures[0]
        self._cameras.settle()

    def _feed(self, send: Callable[[Scan], None]) -> None:
        due_s = time.monotonic()
        try:
            for pair in itertools.cycle(self._scans):
                if self._stop.wait(max(0.0, due_s - time.monotonic())):
                    return
                send(pair[self.bright.is_set()])
                due_s += 1 / PER_S
        except (Failed, OSError, http.client.HTTPException) as error:
            self._failures.append(error)
