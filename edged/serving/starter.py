"""The one thread that starts worker processes, through the standard library's fork server.

Everything that touches a `multiprocessing.Process` happens in that thread: starting blocks for
80-90 ms when the fork server is cold and longer when it is stalled (RULES 2), and reading an exit
code in two threads at once would lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from edged import channel
from edged.errors import EdgedError, Fault, fault
from edged.serving.forkserver import CONTEXT, end, warm
from edged.worker import entry

START_LIMIT_S: Final = 10.0
END_LIMIT_S: Final = 3.0  # it took 0.4 s where five others waited for each of two cores

T = TypeVar("T")


class Worker:
    """A started process: our end of its channel and a pidfd, which never names another process."""

    def __init__(self, process: BaseProcess, sock: socket.socket, pidfd: int) -> None:
        self.process: Final = process
        self.sock: Final = sock
        self.pid: Final = int(process.pid or 0)
        self._pidfd = pidfd

    def kill(self) -> None:
        """SIGKILL, to exactly this process; nothing when it has ended."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def ended(self, limit_s: float) -> bool:
        """Whether the process has ended, or does within the limit: then its pidfd can be read (pidfd_open(2))."""
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        loop.add_reader(self._pidfd, _tell, over)
        try:
            async with asyncio.timeout(limit_s):
                await over
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(self._pidfd)
        return True

    def forget(self) -> None:
        """Gives the descriptors back, after the end of the process."""
        channel.close(self.sock)
        # Its two pipes too: Python's collector would close them otherwise, whenever it comes by.
        with contextlib.suppress(ValueError):  # nobody knows how it has ended, or whether
            self.process.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


class Ended(msgspec.Struct, frozen=True):
    """How a worker ended: `code` is its exit code, minus a signal, None when unknown; `reason` why we killed it.

    `starved`: the kernel has killed for want of memory since the last one ended; it tells nobody whom.
    """

    code: int | None
    reason: Fault | None
    starved: bool = False

    def __str__(self) -> str:
        if self.reason is not None:
            return f"was ended: {self.reason.message}"
        if self.code is None:
            return "ended, nobody knows how"
        if self.code >= 0:
            return f"has ended with {self.code}"
        why = ", perhaps by the kernel, which has killed for want of memory" if self.starved else ""
        return f"was killed by signal {-self.code}{why}"


class Starter:
    """Starts workers one after the other."""

    def __init__(self) -> None:
        self._starved = _starved()
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        # A daemon thread: a stalled fork server must not keep the daemon from ending.
        self._thread = threading.Thread(target=self._work, name="starter", daemon=True)
        self._thread.start()

    async def warm(self) -> None:
        """Starts the fork server, unless the command that started us did, and sees whether it can be started at all."""
        await self._run(warm)

    async def start(self, name: str, *, candidate: bool = False) -> Worker:
        """A new worker process, of low priority for a `candidate` (RULES 6).

        Raises EdgedError model_failed when it cannot be started within the limit.
        """

        def job() -> Worker:
            try:
                return self._launch(name, candidate)
            except (OSError, EOFError):
                return self._launch(name, candidate)  # the fork server had died: now there is a new one

        started = asyncio.ensure_future(self._run(job))
        try:
            return await asyncio.wait_for(asyncio.shield(started), START_LIMIT_S)
        except TimeoutError as error:
            started.add_done_callback(_discard)
            message = f"no worker process could be started within {START_LIMIT_S:g} s"
            raise EdgedError("model_failed", message) from error
        except asyncio.CancelledError:
            started.add_done_callback(_discard)
            raise
        except (OSError, EOFError) as error:
            raise EdgedError("model_failed", f"no worker process could be started: {error}") from error

    def _launch(self, name: str, candidate: bool) -> Worker:  # noqa: FBT001 - its one caller names it
        ours, theirs = channel.pair()
        try:
            process = CONTEXT.Process(target=entry.main, args=(theirs, candidate), name=name)
            warm()  # which starts it as it is to be started, where it has died
            process.start()
        except BaseException:
            channel.close(ours)
            raise
        finally:
            channel.close(theirs)  # or its end would never be read on ours
        return Worker(process, ours, os.pidfd_open(int(process.pid or 0)))

    async def reap(self, worker: Worker, reason: Fault | None, *, patience_s: float = 1.0) -> Ended:
        """Waits for the end of a worker whose channel is closed, kills it past `patience_s`, and says how it ended.

        Its code is None when nobody can say: 255 is what the fork server's own death looks like, and then the
        worker may still be there (RULES 3). The waiting is the loop's, so that many workers share one second
        (RULES 5); the thread only asks.
        """
        if not await worker.ended(patience_s):
            worker.kill()
            reason = reason or fault("model_failed", f"it did not end by itself within {patience_s:g} s")
            await worker.ended(patience_s)

        def job() -> int | None:
            worker.process.join(1.0)  # the fork server's word follows the end at once
            code = worker.process.exitcode
            if code is None or code == 255:
                worker.kill()
                code = None
            worker.forget()
            return code

        code = await self._run(job)
        before, self._starved = self._starved, _starved()
        return Ended(code, reason, starved=code == -signal.SIGKILL and self._starved > before)

    async def end(self) -> None:
        """Ends the fork server too, when all workers have: what is still there when the daemon ends, systemd kills.

        Past the limit it is left to itself: it ends when it notices that the daemon has.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._run(end), END_LIMIT_S)
        self.stop()

    def stop(self) -> None:
        self._jobs.put(None)

    async def _run(self, job: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def settle(result: T) -> None:
            if not future.done():
                future.set_result(result)

        def fail(error: BaseException) -> None:
            if not future.done():
                future.set_exception(error)

        def work() -> None:
            report: Callable[[], None]
            try:
                report = partial(settle, job())
            except BaseException as error:  # noqa: BLE001 - handed to whoever awaits it
                report = partial(fail, error)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(report)

        self._jobs.put(work)
        return await future

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def clear_leftovers(folder: Path) -> None:
    """Removes what multiprocessing made in `folder` for daemons that were killed: each leaves a `pymp-*` with a socket.

    One that a process still listens on is another daemon's, and stays. Asked of the kernel: a connection
    without a request would end that daemon's fork server.
    """
    listening = {line.rpartition(" ")[2] for line in Path("/proc/net/unix").read_text().splitlines()}
    for left in folder.glob("pymp-*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            if not any(str(socket) in listening for socket in left.iterdir()):
                shutil.rmtree(left)


def _starved() -> int:
    """How many processes the kernel has killed for want of memory, the box's or a group's; 0 where it hides that."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return 0


def _tell(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _discard(started: asyncio.Future[Worker]) -> None:
    """Ends a worker that nobody waits for any more."""
    if not started.cancelled() and started.exception() is None:
        started.result().kill()
        started.result().forget()
