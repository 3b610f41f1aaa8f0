"""What goes to the broker for one release, and in which order: trust, pieces, the release. Its order comes after it.

A box that hears of something finds all of it there. Each document of trust that was ever in force goes too: a box
that was away walks them one by one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from edged.delivery import trust as trusts
from edged.delivery.trust import Anchored
from edged.errors import EdgedError
from edged.fleet.parcel import Blob, Parcel
from edged.fleet.upload import Piece, Sent, Upload, document
from edged.observe.clock import RELEASED_S
from edged.topics import Ota

_DAY_S: Final = 86_400
# A piece lives longer than the order that names it: then an order can be repeated for a while and costs nothing.
SLACK_S: Final = 15 * _DAY_S


def check(parcel: Parcel, anchored: Anchored, now_ms: int) -> None:
    """Refuses what every box would refuse. Raises EdgedError `signature`, `banned`, `downgrade`, `expired`."""
    if now_ms < RELEASED_S * 1000:
        day = time.strftime("%Y-%m-%d", time.gmtime(now_ms / 1000))
        text = f"this machine's clock says {day}: an order of that day is past its time on every box"
        raise EdgedError("expired", text, "Set the clock of this machine.")
    if anchored.trust.expires is not None and anchored.trust.expires <= now_ms:
        raise EdgedError(
            "expired", "the trust document is past its time", "A new one: `edged trust rotate --expires 365d`."
        )
    trusts.release(anchored.trust, parcel.content)
    reason = anchored.trust.banned.get(parcel.sha256)
    if reason is not None:
        raise EdgedError("banned", f"the release is banned: {reason or 'without a reason'}")
    floor = anchored.trust.min_version.get(parcel.release.model, 0)
    if parcel.release.version < floor:
        text = f"version {parcel.release.version} is below {floor}, the least that the trust document lets in"
        raise EdgedError("downgrade", text, "`edged trust rotate --min-version` moves it.")


class Shipment:
    """One release on its way over `upload`, which is connected."""

    def __init__(self, upload: Upload, ota: Ota, versions: Mapping[int, bytes], anchored: Anchored) -> None:
        """`versions`: the trust documents by number, `anchored` the newest of them."""
        self._upload: Final = upload
        self._ota: Final = ota
        self._versions: Final = versions
        self._anchored: Final = anchored

    def trust(self) -> None:
        """Raises EdgedError `seq_conflict`, `no_trust` when others are further, or elsewhere, than this operator."""
        self._compare()
        self._upload.ensure([document(self._ota.trust(number), one) for number, one in self._versions.items()])

    def blobs(self, parcel: Parcel, lives_s: float) -> Sent:
        """All pieces, to stay for `lives_s` at least."""
        return self._upload.ensure([self._piece(parcel, blob, round(lives_s)) for blob in parcel.blobs])

    def release(self, parcel: Parcel) -> None:
        """The document, once its pieces are there."""
        self.bring(self._ota.release(parcel.sha256), parcel.content)

    def bring(self, topic: str, payload: bytes) -> None:
        """Any document, and returns when it was seen there."""
        self._upload.ensure([document(topic, payload)])

    def _piece(self, parcel: Parcel, blob: Blob, lives_s: int) -> Piece:
        topic = self._ota.blob(blob.sha256)
        return Piece(topic, blob.sha256, blob.size, partial(parcel.read, blob), lives_s, lives_s + SLACK_S)

    def _compare(self) -> None:
        """Looks whether the broker knows of other trust documents than these."""
        newest = self._anchored.trust.version
        there = self._upload.peek([self._ota.trust(number) for number in (*self._versions, newest + 1)])
        for number, ours in self._versions.items():
            theirs = there.get(self._ota.trust(number), b"")
            if theirs != ours and self._is_another(number, theirs):
                raise EdgedError(
                    "seq_conflict",
                    f"the broker has another trust document {number} than this machine",
                    "Two fleets on one broker need a `base` each; of two versions for one fleet one has to go.",
                )
        following = there.get(self._ota.trust(newest + 1), b"")
        try:
            trusts.advance(self._anchored, following)
        except EdgedError:
            return  # there is none, or nobody would believe it
        raise EdgedError(
            "no_trust",
            f"the fleet's trust document is {newest + 1} by now, and this machine's {newest}",
            "Get the newer one from whoever made it: `edged trust accept FILE`.",
        )

    def _is_another(self, number: int, content: bytes) -> bool:
        """Whether `content` is a good document of this number that says something else."""
        try:
            before = self._versions.get(number - 1)
            found = trusts.advance(trusts.root(before), content) if before else trusts.root(content)
        except EdgedError:
            return False
        return found.sha256 != trusts.root(self._versions[number]).sha256 and found.trust.version == number
