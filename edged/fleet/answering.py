"""Publishes pieces to whoever says that they miss them, for brokers that have no room to keep them.

A box writes up to 64 hashes on its `need`; what is asked for goes out on the piece's own topic, not retained, and
reaches every box that waits for it. What was sent less than a second ago is not sent again. Pure but for `read`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edged.delivery.chunks import NEED
from edged.delivery.documents import HASH_SIZE
from edged.fleet.parcel import Blob, Parcel

_AGAIN_S: Final = 1.0


class Answers:
    """The pieces of one release that were asked for and wait for their turn; no more than there are."""

    def __init__(self, parcel: Parcel) -> None:
        self._parcel: Final = parcel
        self._blobs: Final = {bytes.fromhex(one.sha256): one for one in parcel.blobs}
        self._due: dict[bytes, None] = {}
        self._sent_s: dict[bytes, float] = {}
        self.sent = 0
        self.strange = 0  # lists that were none, and hashes of other releases

    def asked(self, payload: bytes, now_s: float) -> None:
        """A need list. Whatever it has in it, no more than this release's pieces come of it."""
        if not payload or len(payload) % HASH_SIZE or len(payload) > NEED * HASH_SIZE:
            self.strange += 1
            return
        for start in range(0, len(payload), HASH_SIZE):
            digest = payload[start : start + HASH_SIZE]
            if digest not in self._blobs:
                self.strange += 1
            elif now_s - self._sent_s.get(digest, -_AGAIN_S) >= _AGAIN_S:
                self._due[digest] = None

    def due(self, now_s: float) -> Iterator[tuple[Blob, bytes]]:
        """Takes out what waits, piece by piece, with its bytes. Raises EdgedError `bad_release`."""
        while self._due:
            digest = next(iter(self._due))
            del self._due[digest]
            self._sent_s[digest] = now_s
            self.sent += 1
            blob = self._blobs[digest]
            yield blob, self._parcel.read(blob)
