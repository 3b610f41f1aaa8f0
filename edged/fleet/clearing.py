"""Finds what the broker keeps for no order any more, and removes it. What an order names is never touched.

By names, from the orders down: orders -> releases -> indexes -> chunks. A list of all pieces is not to be had: a
subscription by wildcard to 3200 of them loses most without a word, and makes the broker hold all at once. So what
can be removed are the pieces of releases whose document is still there, and of those pushed from this machine;
others go by themselves when their time is over (MQTT 5).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from edged.delivery import documents, envelope
from edged.delivery.chunks import read_index
from edged.delivery.documents import Release
from edged.delivery.strict import Malformed
from edged.errors import EdgedError
from edged.fleet.kept import Kept
from edged.topics import Ota
from edged.transports.mqtt.retained import Heard, Retained

YOUNG_MS: Final = 3600 * 1000  # somebody may be about to order it
_NO_ORDER: Final = "no order is to be seen on the broker, so every release would go"


class Rubbish(msgspec.Struct, frozen=True):
    """What may go: releases by hash, with model and version; pieces by hash. `kept` are releases that stay.

    `lost`: releases that may go too and whose pieces nobody can name; `names`: all that may go, also those of which
    this machine remembers the pieces alone.
    """

    releases: dict[str, str] = {}
    names: frozenset[str] = frozenset()
    blobs: tuple[str, ...] = ()
    kept: int = 0
    lost: tuple[str, ...] = ()


class Clearing:
    """One look and one removal over a connection, which `make` makes."""

    def __init__(self, make: Callable[[Callable[[Heard], None]], Retained], ota: Ota) -> None:
        self._ota: Final = ota
        self._broker: Final = Kept(make, ota.trust(0))

    def survey(self, remembered: Mapping[str, Iterable[str]], now_ms: int) -> Rubbish:
        """`remembered`: pieces by release, as this machine pushed them.

        Raises EdgedError `bad_document`, `no_blob`, `no_order` when it cannot be told what has to stay.
        """
        self._broker.connect()
        wanted = self._wanted()
        documents_there = self._releases(remembered)
        keep = {name for name in documents_there if name in wanted or _is_young(documents_there[name], now_ms)}
        needed: set[str] = set()
        for name in sorted(wanted | keep):
            release = documents_there.get(name)
            pieces = (self._pieces(release) if release else None) or list(remembered.get(name, ()))
            if not pieces:
                raise EdgedError(
                    "no_blob",
                    f"the release {name[:12]} has to stay and is not whole on the broker: its pieces are unknown",
                    "Push that release again, or another in its place.",
                )
            needed.update(pieces)
        rubbish = self._rest(documents_there, keep | wanted, needed, remembered)
        if rubbish.releases and not wanted:
            raise EdgedError(
                "no_order", _NO_ORDER, f"Does its ACL let this user read {self._ota.root}/want/#, undo too?"
            )
        return rubbish

    def remove(self, rubbish: Rubbish) -> None:
        """The pieces first: whoever is cut short can go on. Raises EdgedError `forbidden` when something stays."""
        self._broker.remove([*map(self._ota.blob, rubbish.blobs), *map(self._ota.release, rubbish.releases)])

    def close(self) -> None:
        self._broker.close()

    # --- inside -------------------------------------------------------------------------------------

    def _wanted(self) -> set[str]:
        """The releases of all orders, whoever signed them: better to keep too much."""
        found = set()
        for topic, content in self._broker.listed([f"{self._ota.root}/want/#", f"{self._ota.root}/undo/#"]).items():
            try:
                order = envelope.decode(content, "want", "undo")
                read = documents.read_want if order.kind == "want" else documents.read_undo
                found.add(read(order.payload).release)
            except Malformed as error:
                hint = "Remove it, or use the edged that made it."
                raise EdgedError("bad_document", f"{topic} is no order that this edged reads: {error}", hint) from error
        return found

    def _releases(self, remembered: Iterable[str]) -> dict[str, Release]:
        root = f"{self._ota.root}/release"
        there = self._broker.listed([f"{root}/+"])
        there |= self._broker.looked_up([one for name in remembered if (one := self._ota.release(name)) not in there])
        found = {}
        for topic, content in there.items():
            try:
                signed = envelope.decode(content, "release")
                release = documents.read_release(signed.payload)
            except Malformed:
                continue  # not ours to judge
            if topic == self._ota.release(signed.sha256):
                found[signed.sha256] = release
        return found

    def _pieces(self, release: Release) -> list[str] | None:
        """The indexes and chunks of a release; None when the broker does not have an index."""
        there = self._broker.looked_up([self._ota.blob(file.index) for file in release.files.values()])
        found = []
        for file in release.files.values():
            index = there.get(self._ota.blob(file.index), b"")
            if hashlib.sha256(index).hexdigest() != file.index:
                if file.count > 1:
                    return None
                found.append(file.sha256)
                continue
            try:
                found += [file.index, *read_index(index, file)]
            except Malformed:
                return None
        return found

    def _rest(
        self, there: Mapping[str, Release], kept: set[str], needed: set[str], remembered: Mapping[str, Iterable[str]]
    ) -> Rubbish:
        releases, names, blobs, lost = {}, set[str](), dict[str, None](), []
        for name in [*there, *(name for name in remembered if name not in there)]:
            if name in kept:
                continue
            names.add(name)
            release = there.get(name)
            pieces = (self._pieces(release) if release else None) or remembered.get(name)
            if release is not None:
                releases[name] = f"{release.model} version {release.version}"
            if pieces is None:
                lost.append(name)
            blobs.update(dict.fromkeys(one for one in pieces or () if one not in needed))
        return Rubbish(releases, frozenset(names), tuple(blobs), len(kept & set(there)), tuple(lost))


def _is_young(release: Release, now_ms: int) -> bool:
    return now_ms - release.created < YOUNG_MS
