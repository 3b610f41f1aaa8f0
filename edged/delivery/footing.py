"""The trust that a start takes up: the configured root, or what has followed it and was kept.

A box does not fall behind a trust document that held here: keys that it dropped would count again. So `state.json`
says how far the box has come. Where the document itself is damaged or gone, nothing signed is taken before the
documents up to there have come again, each signed by the one before, or the configuration names another root. One
that cannot be read ends the start. Everything blocks.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Final

import msgspec

from edged.delivery import trust
from edged.delivery.store import DAMAGED, TRUST_FILE, Store
from edged.delivery.trust import Anchored
from edged.errors import EdgedError

_HASH: Final = re.compile(rb"[0-9a-f]{64}")

log = logging.getLogger("edged.delivery")


class Footing(msgspec.Struct, frozen=True):
    """`root` is as configured, `anchored` what the box goes on from, which counts from version `least` on.

    `told`: what is wrong with that, in a sentence; "" where all is well.
    """

    root: Anchored | None = None
    anchored: Anchored | None = None
    least: int = 0
    told: str = ""


def take_up(store: Store, file: str) -> Footing:
    """The footing with the root of trust in `file`, "" for none. Raises OSError: what was kept cannot be read."""
    root = _configured(Path(file)) if file else None
    if root is None:
        return Footing()
    why = ""
    try:
        anchored = _successor(root, store.trust()) or root
    except ValueError as error:
        anchored, why = root, f"{TRUST_FILE} was damaged ({error}) and is {TRUST_FILE}{DAMAGED} now: "
    least = _least(store, root, anchored.trust.version, damaged=bool(why))
    try:
        if least > root.trust.version:
            store.walk(root.sha256, least)
        if why:  # not before the record says what it had said
            store.set_aside(TRUST_FILE)
    except OSError as error:  # a full disk keeps nobody from starting; the next start finds the same
        log.error("how far trust has come cannot be kept: %s", error, extra={"code": "bad_store"})
    if anchored.trust.version < least:
        why += f"trust version {least} held here and is lost, signed releases wait until it has come again"
    return Footing(root, anchored, least, why.removesuffix(": "))


def _least(store: Store, root: Anchored, version: int, *, damaged: bool) -> int:
    """The version that the box may not fall behind."""
    walked = store.walked
    if walked.root == root.sha256:
        return max(walked.version, version)
    if damaged and not walked.root:  # nobody knows how far it was, but that it had followed a root
        return version + 1
    return version


def _configured(file: Path) -> Anchored | None:
    try:
        return trust.root(file.read_bytes())
    except OSError as error:
        log.error("%s cannot be read: %s", file, error.strerror, extra={"code": "no_trust"})
    except EdgedError as error:
        log.error("%s is no trust document: %s", file, error.fault.message, extra={"code": error.fault.code})
    return None


def _successor(configured: Anchored, kept: bytes | None) -> Anchored | None:
    """What was kept, if it has followed the configured root, whose hash is its first line: another root begins anew.

    Raises ValueError for what is damaged.
    """
    if kept is None:
        return None
    followed, _, content = kept.partition(b"\n")
    if _HASH.fullmatch(followed) is None:
        raise ValueError("its first line is no hash")
    if followed.decode() != configured.sha256:
        return None
    try:
        anchored = trust.root(content)
    except EdgedError as error:
        raise ValueError(error.fault.message) from error
    return anchored if anchored.trust.version > configured.trust.version else None
