"""How a file is cut into chunks that are named by their hash, and what to ask for next until all of them are here.

1. A file is cut at each multiple of its `chunk` bytes; its index is the chunks' SHA-256, 32 bytes each, in order.
2. A few blobs are asked for at a time (`WINDOW`), in their order. The hash is the name, so it matters neither who
   sends one, nor in which order, nor how often; one that was not asked for is dropped before anybody looks at it.
3. Silence: a blob that does not come within 5 s is put on the need list, for whoever can publish it. Lists are 5 s
   apart, then ever more rarely, up to 10 min; a good blob starts that anew, and one that came because of a list
   lets the next list go out at once. After as long again a silent blob gives its place to one that waits, and comes
   again after that. It never fails by silence.
4. A damaged blob rests, longer each time (5 s to 10 min). What comes until its turn ends may still be the right one.
   Five turns in a row with nothing but damage: `failed`.

Pure: the clock (seconds, monotonic) comes in as an argument.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from edged.delivery.documents import CHUNK, HASH_SIZE, File
from edged.delivery.strict import Malformed

WINDOW: Final = 4  # subscriptions: EMQX allows ten a client in its cloud, and want and trust take some
PATIENCE_S: Final = 5.0
LONGEST_S: Final = 600.0  # between two need lists, and before a damaged blob is asked for again
NEED: Final = 64  # hashes in a need list
TURNS: Final = 5  # with damage alone, in a row
FLOOR: Final = 4096  # bytes a second; below it the link is `slow`
OVER_S: Final = 60.0  # measured over this time


def cut(blocks: Iterable[bytes], chunk: int = CHUNK) -> tuple[File, bytes]:
    """A file as its document names it, and its index. `blocks`: its bytes, `chunk` at a time, the last one shorter.

    Raises Malformed for a file of more chunks than an index can name: cut it into larger ones.
    """
    whole, index, size = hashlib.sha256(), bytearray(), 0
    for block in blocks:
        whole.update(block)
        index += hashlib.sha256(block).digest()
        size += len(block)
    if not index:
        index += whole.digest()
    if HASH_SIZE < chunk < len(index):
        raise Malformed(f"{size} bytes are too many for chunks of {chunk}")
    return File(size, whole.hexdigest(), hashlib.sha256(index).hexdigest(), chunk), bytes(index)


def read_index(index: bytes, file: File) -> tuple[str, ...]:
    """The hashes of a file's chunks, in order. Raises Malformed for an index of another length."""
    if len(index) != file.count * HASH_SIZE:
        raise Malformed(f"an index of {len(index)} bytes for {file.count} chunks")
    return tuple(index[at : at + HASH_SIZE].hex() for at in range(0, len(index), HASH_SIZE))


def size_of(file: File, position: int) -> int:
    """Bytes of the chunk at this position."""
    return min(file.chunk, file.size - position * file.chunk)


def sensible_chunk(size: int) -> int:
    """The chunk for a file of `size` bytes: the usual one, doubled until an index can name all of them."""
    chunk = CHUNK
    while -(-size // chunk) * HASH_SIZE > chunk:
        chunk *= 2
    return chunk


class Look(enum.Enum):
    """What to do with a blob that has arrived, by its name and size alone."""

    TAKE = "look at its hash"
    UNASKED = "nobody asked"
    DUPLICATE = "it is here already"
    DAMAGED = "not of the size that it has to have"


class _Blob:
    """One that is missing. A turn is the time in which it is subscribed to."""

    __slots__ = ("asked_s", "held", "needed_s", "rests_until_s", "size", "spoilt", "turns")

    def __init__(self, size: int) -> None:
        self.size: Final = size
        self.asked_s = 0.0  # when its turn began
        self.needed_s: float | None = None  # when it was last on a need list in this turn
        self.held = False  # it has arrived, its hash is being looked at
        self.spoilt = False  # damaged in this turn
        self.turns = 0  # that ended in damage, in a row
        self.rests_until_s = 0.0


class Assembly:
    """Blobs that are wanted, by their hash, with their size in bytes, in the order in which to ask for them."""

    def __init__(
        self,
        sizes: Mapping[str, int],
        now_s: float,
        *,
        connected: bool = True,
        answered: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._base_s: Final = patience_s
        self._line: Final = {sha256: _Blob(size) for sha256, size in sizes.items()}
        self._names: Final = frozenset(sizes)
        self._turn: Final[dict[str, _Blob]] = {}
        self._connected = connected
        self._patience_s = patience_s
        self._pause_s, self._need_after_s = patience_s, now_s
        self.answered = answered  # the last blob came because a need list asked for it
        self._good_s = now_s
        self._since_s, self._bytes, self._slow = now_s, 0, False
        self.damaged = 0
        self.unasked = 0
        self.failed = ""  # the hash of the blob that came damaged too often

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(self._line)

    # --- asking -------------------------------------------------------------------------------------

    def connection(self, up: bool, now_s: float) -> None:  # noqa: FBT001 - it is what the call says
        """The broker can be asked from now on, or cannot; silence while it could not was nobody's fault."""
        self._connected, self._good_s = up, now_s
        self._since_s, self._bytes, self._slow = now_s, 0, False
        self._pause_s, self._need_after_s = self._base_s, now_s
        for blob in self._turn.values():
            blob.asked_s, blob.needed_s = now_s, None

    def ask(self, now_s: float) -> frozenset[str]:
        """Ends turns and begins others; what to be subscribed to then: at most WINDOW blobs."""
        for name, blob in list(self._turn.items()) if self._connected else ():
            if blob.held or now_s < self._ends_s(blob):
                continue
            if blob.spoilt or next(self._ready(now_s), None) is not None:
                self._end(name, blob)
        for name, blob in itertools.islice(self._ready(now_s), WINDOW - len(self._turn)):
            self._turn[name] = blob
            blob.asked_s = now_s
        return frozenset(self._turn)

    def need(self, now_s: float) -> bytes:
        """The need list to publish now: hashes of 32 bytes; b"" for none."""
        if not self._connected or now_s < self._need_after_s:
            return b""
        due = [name for name, blob in self._turn.items() if not blob.held and now_s >= self._due_s(blob)][:NEED]
        if not due:
            return b""
        for name in due:
            self._turn[name].needed_s = now_s
        if not self.answered:
            self._need_after_s = now_s + self._pause_s
            self._pause_s = min(2 * self._pause_s, LONGEST_S)
        self.answered = False
        return b"".join(map(bytes.fromhex, due))

    def waiting(self, now_s: float) -> str:
        """Why it does not go on: no_blob, slow, or "" while it does."""
        if not self._connected or not self._line:
            return ""
        if self._is_silent(now_s):
            return "no_blob"
        if now_s - self._since_s >= OVER_S:
            self._slow = self._bytes < FLOOR * (now_s - self._since_s)
            self._since_s, self._bytes = now_s, 0
        return "slow" if self._slow else ""

    def wake_s(self, now_s: float) -> float | None:
        """When to look again although nothing arrives; None: never."""
        if not self._connected:
            return None
        times = [self._good_s + 2 * self._patience_s, self._since_s + OVER_S]
        for blob in self._turn.values():
            times += [max(self._due_s(blob), self._need_after_s), self._ends_s(blob)]
        if self.damaged:
            times += [blob.rests_until_s for blob in self._line.values()]
        return min((time for time in times if time > now_s), default=None)

    def _ready(self, now_s: float) -> Iterator[tuple[str, _Blob]]:
        """What waits for a turn, and may have one."""
        for name, blob in self._line.items():
            if name not in self._turn and not blob.held and blob.rests_until_s <= now_s:
                yield name, blob

    def _end(self, name: str, blob: _Blob) -> None:
        del self._turn[name]
        blob.needed_s, blob.spoilt = None, False
        self._line[name] = self._line.pop(name)  # behind all others

    def _ends_s(self, blob: _Blob) -> float:
        return blob.asked_s + self._patience_s * (1 if blob.spoilt else 2)

    def _due_s(self, blob: _Blob) -> float:
        """When it is for the need list."""
        if blob.needed_s is not None:
            return blob.needed_s + self._patience_s
        return blob.asked_s + (0 if self.answered or blob.spoilt else self._patience_s)

    def _is_silent(self, now_s: float) -> bool:
        return now_s - self._good_s >= 2 * self._patience_s

    # --- arriving -----------------------------------------------------------------------------------

    def look(self, sha256: str, size: int, now_s: float) -> Look:
        """What to do with a blob that the broker has brought."""
        if sha256 not in self._turn and not (sha256 in self._names and sha256 not in self._line):
            self.unasked += 1
            return Look.UNASKED
        return self.offered(sha256, size, now_s)

    def offered(self, sha256: str, size: int, now_s: float) -> Look:
        """The same for one that somebody brings without having been asked for it."""
        blob = self._line.get(sha256)
        if blob is None:
            return Look.DUPLICATE if sha256 in self._names else Look.UNASKED
        if blob.held:
            return Look.DUPLICATE
        if size != blob.size:
            self.bad(sha256, now_s)
            return Look.DAMAGED
        blob.held = True
        return Look.TAKE

    def good(self, sha256: str, now_s: float, *, kept: bool = False) -> None:
        """Its hash is its name, and it is written. `kept`: the broker had it, it came because of no need list."""
        blob = self._line.pop(sha256)
        if self._is_silent(now_s):
            self._since_s, self._bytes = now_s, 0
        self._bytes += blob.size
        self._good_s = now_s
        self._pause_s, self._need_after_s = self._base_s, min(self._need_after_s, now_s)
        if self._turn.pop(sha256, None) is not None:
            # A large blob over a thin line takes longer than 5 s, and a need list would only add to it.
            self._patience_s = min(max(self._base_s, 2 * (now_s - blob.asked_s)), OVER_S)
            self.answered = blob.needed_s is not None and not kept

    def bad(self, sha256: str, now_s: float) -> None:
        """Its hash or its size is not what its name says."""
        self.damaged += 1
        blob = self._line[sha256]
        blob.held = False
        if blob.spoilt or sha256 not in self._turn:
            return
        blob.spoilt, blob.turns = True, blob.turns + 1
        rest_s = min(self._base_s * 2 ** (blob.turns - 1), LONGEST_S)
        blob.rests_until_s = max(now_s, blob.asked_s + self._patience_s) + rest_s
        if blob.turns >= TURNS:
            self.failed = sha256
