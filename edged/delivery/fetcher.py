"""Fetches what a want names: a release's document by its hash, then its files, chunk by chunk, into the store.

What to ask for and when is chunks.py's to say, what is on the disk folder.py's. Here they meet the courier, in
the loop; whatever takes longer than a moment (hashing, writing, fsync) is done in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from edged import disk
from edged.delivery import envelope
from edged.delivery.chunks import PATIENCE_S, WINDOW, Assembly, Look
from edged.delivery.courier import Courier
from edged.delivery.documents import Release
from edged.delivery.folder import Download
from edged.delivery.store import Store
from edged.delivery.strict import LARGEST, Malformed
from edged.errors import EdgedError
from edged.topics import Ota

_ROUNDS: Final = 3  # of fetching what the disk has lost again
_INBOX: Final = 2 * WINDOW  # chunks in memory

log = logging.getLogger("edged.delivery")


class Progress(msgspec.Struct, frozen=True):
    """How far a release has come: bytes of all its files, chunks that other releases lent, chunks that came damaged.

    `waiting`: why it does not go on, no_blob or slow; "" while it does.
    """

    total: int
    have: int = 0
    reused: int = 0
    bad_chunks: int = 0
    waiting: str = ""


Report = Callable[[Progress], None]


class _Arrived(msgspec.Struct, frozen=True):
    sha256: str
    payload: bytes
    kept: bool


class Fetcher:
    """One `files` at a time; any number of `document`. All of it in the loop, nothing blocks it."""

    def __init__(
        self,
        courier: Courier,
        store: Store,
        ota: Ota,
        *,
        clock: Callable[[], float] = time.monotonic,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._courier: Final = courier
        self._store: Final = store
        self._releases: Final = ota.release("")
        self._blobs: Final = ota.blob("")
        self._clock: Final = clock
        self._patience_s: Final = patience_s
        self._connected = False
        self._documents: Final[dict[str, list[asyncio.Queue[bytes]]]] = {}
        self._asked: frozenset[str] = frozenset()
        self._assembly: Assembly | None = None
        self._arrived: list[_Arrived] = []
        self._wake: Final = asyncio.Event()
        self.unasked = 0  # blobs and documents that nobody had asked for

    # --- what comes in ------------------------------------------------------------------------------

    def on_document(self, topic: str, payload: bytes, *, retained: bool = False) -> bool:
        """A message on release/<sha256> or blob/<sha256>; False: nobody here asked for it."""
        if topic.startswith(self._releases):
            taken = self._on_release(topic.removeprefix(self._releases), payload)
        elif topic.startswith(self._blobs):
            taken = self._on_blob(topic.removeprefix(self._blobs), payload, kept=retained)
        else:
            return False
        self.unasked += not taken
        return taken

    def offer(self, sha256: str, payload: bytes) -> bool:
        """A chunk that somebody brings by another way. False: it is not wanted, or not now; `missing` tells."""
        if self._assembly is None or len(self._arrived) >= _INBOX:
            return False
        look = self._assembly.offered(sha256, len(payload), self._clock())
        self._keep(look, sha256, payload, kept=True)
        return look is Look.TAKE

    def missing(self) -> tuple[str, ...]:
        """The hashes of the indexes and chunks that are wanted now, in their order; at most a few thousand."""
        return self._assembly.missing if self._assembly is not None else ()

    @property
    def connected(self) -> bool:
        return self._connected

    def on_connected(self) -> None:
        """The courier has a connection. What it listens to is the courier's to remember."""
        self._connection(up=True)

    def on_lost(self) -> None:
        self._connection(up=False)

    def _connection(self, *, up: bool) -> None:
        self._connected = up
        if self._assembly is not None:
            self._assembly.connection(up, self._clock())
        self._wake.set()

    def _on_blob(self, sha256: str, payload: bytes, *, kept: bool) -> bool:
        if self._assembly is None:
            return False
        look = self._assembly.look(sha256, len(payload), self._clock())
        self._keep(look, sha256, payload, kept=kept)
        return look is not Look.UNASKED

    def _keep(self, look: Look, sha256: str, payload: bytes, *, kept: bool) -> None:
        if look is Look.TAKE:
            self._arrived.append(_Arrived(sha256, payload, kept))
        if look in (Look.TAKE, Look.DAMAGED):
            self._wake.set()

    def _on_release(self, sha256: str, payload: bytes) -> bool:
        waiting = self._documents.get(sha256, [])
        for queue in waiting if len(payload) <= LARGEST else ():
            if not queue.full():
                queue.put_nowait(payload)
        return bool(waiting)

    # --- a document ---------------------------------------------------------------------------------

    async def document(self, sha256: str) -> bytes:
        """The envelope of the release with this hash, as soon as there is one; nobody has looked at its signatures."""
        queue: asyncio.Queue[bytes] = asyncio.Queue(WINDOW)
        self._documents.setdefault(sha256, []).append(queue)
        self._listen(anew=sha256)
        try:
            while await asyncio.to_thread(named, content := await queue.get()) != sha256:
                log.warning("not the release %s", sha256[:12], extra={"code": "bad_document"})
            return content
        finally:
            self._documents[sha256].remove(queue)
            if not self._documents[sha256]:
                del self._documents[sha256]
            self._listen()

    # --- its files ----------------------------------------------------------------------------------

    async def files(
        self,
        key: str,
        content: bytes,
        release: Release,
        report: Report = lambda _: None,
        *,
        lenders: Sequence[Path] = (),
    ) -> None:
        """Waits until the folder of `key` has all files of `release`, whole and durable, and its envelope `content`.
        `lenders`: files outside of the store that may have some of its chunks, such as the factory model.

        Raises EdgedError no_space (at once), bad_store, bad_chunk, bad_document. Cancelling gives up. In all these
        cases what is there stays, for the next attempt or for another release, as long as the store keeps the folder.
        """
        if self._assembly is not None:
            raise RuntimeError("one release at a time")
        if await asyncio.to_thread(named, content) != key:
            raise EdgedError("bad_document", "the envelope is not the one that the key names")
        others = await asyncio.to_thread(self._store.claim, key)
        download = Download(self._store.folder(key), release, others, lenders)
        drop = False
        try:
            await self._fetch(key, content, download, report)
        except OSError as error:
            drop, why = not disk.is_full(error), error.strerror or error
            code, what = ("bad_store", "cannot be kept") if drop else ("no_space", "find no room")
            raise EdgedError(code, f"{release.size} bytes {what}: {why}") from error
        except Malformed as error:
            drop = True
            raise EdgedError("bad_document", f"the release contradicts itself: {error}") from error
        finally:
            await asyncio.shield(asyncio.to_thread(download.close, drop=drop))

    async def _fetch(self, key: str, content: bytes, download: Download, report: Report) -> None:
        try:
            await asyncio.to_thread(download.begin, content)
        except OSError as error:
            if not disk.is_full(error):
                raise
            await asyncio.to_thread(self._store.make_room, key)
            await asyncio.to_thread(download.begin, content)
        await self._pull(download.indexes(), download, report)
        await asyncio.to_thread(download.place)
        await asyncio.to_thread(download.reuse, self._clock)
        for _ in range(_ROUNDS):
            await self._pull(download.missing(), download, report)
            if await asyncio.to_thread(download.finish):
                return
        raise EdgedError("bad_store", "the disk does not keep what is written to it")

    async def _pull(self, sizes: Mapping[str, int], download: Download, report: Report) -> None:
        """Until all of these blobs are in the download."""
        assembly = Assembly(
            sizes,
            self._clock(),
            connected=self._connected,
            answered=download.answered,
            patience_s=self._patience_s,
        )
        self._assembly, said = assembly, None
        try:
            while True:
                now_s = self._clock()
                self._asked = assembly.ask(now_s)
                self._listen()
                if need := assembly.need(now_s):
                    self._courier.need(need)
                now = Progress(
                    download.total,
                    download.total - download.lacking,
                    download.reused,
                    download.damaged + assembly.damaged,
                    assembly.waiting(now_s),
                )
                if now != said:
                    report(now)
                    said = now
                if assembly.failed:
                    raise EdgedError("bad_chunk", f"the blob {assembly.failed[:12]} came damaged again and again")
                if not assembly.missing:
                    return
                await self._wait(assembly.wake_s(now_s), now_s)
                self._wake.clear()  # before what has arrived is taken: more may arrive while that is written
                await self._take(assembly, download)
        finally:
            download.damaged += assembly.damaged
            download.answered = assembly.answered
            self._assembly, self._asked, self._arrived = None, frozenset(), []
            self._listen()

    async def _wait(self, until_s: float | None, now_s: float) -> None:
        try:
            async with asyncio.timeout(None if until_s is None else until_s - now_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _take(self, assembly: Assembly, download: Download) -> None:
        arrived, self._arrived = self._arrived, []
        if not arrived:
            return
        right = await asyncio.to_thread(download.take, [(one.sha256, one.payload) for one in arrived])
        now_s = self._clock()
        for one, is_right in zip(arrived, right, strict=True):
            if is_right:
                assembly.good(one.sha256, now_s, kept=one.kept)
            else:
                assembly.bad(one.sha256, now_s)

    def _listen(self, anew: str = "") -> None:
        """`anew`: a release that another one waits for already; only a new subscription brings what is retained."""
        blobs = frozenset(self._blobs + sha256 for sha256 in self._asked)
        releases = frozenset(self._releases + sha256 for sha256 in self._documents)
        if anew and len(self._documents[anew]) > 1:
            self._courier.listen(blobs | releases - {self._releases + anew})
        self._courier.listen(blobs | releases)


def named(content: bytes) -> str:
    """The hash of the release in an envelope; "" when there is none."""
    try:
        return envelope.decode(content, "release").sha256
    except Malformed:
        return ""
