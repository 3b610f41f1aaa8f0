"""What an operator may change of a trust document, and what comes out."""

from __future__ import annotations

from typing import Any

import pytest

from edged.delivery import keys
from edged.delivery.documents import Trust
from edged.errors import EdgedError
from edged.fleet import successors
from edged.fleet.successors import following

A, B, C = (keys.generate().public for _ in range(3))
FIRST = successors.first({"root": [A], "release": [B], "deploy": [C]}, {}, None)
HASH = "a" * 64


def test_the_first_names_each_key_once() -> None:
    one = successors.first({"root": [A, B, A], "release": [A], "deploy": [A]}, {"root": 2}, 5)
    assert (one.version, one.expires, set(one.keys)) == (1, 5, {A.keyid, B.keyid})
    assert (one.roles.root.keyids, one.roles.root.threshold) == ((A.keyid, B.keyid), 2)


def test_a_key_takes_the_place_of_another_in_one_step() -> None:
    found = following(FIRST, add={"release": [A]}, drop={"release": [B.keyid]})
    assert found.version == 2
    assert found.roles.release.keyids == (A.keyid,)
    assert set(found.keys) == {A.keyid, C.keyid}  # nobody needs B any more
    assert found.roles.deploy == FIRST.roles.deploy


def test_what_is_not_named_stays() -> None:
    one = following(FIRST, expires=7, min_version={"digits": 3}, new_epoch=True)
    two = following(one, min_version={"cam": 2})
    assert (two.version, two.expires, two.epoch, two.min_version) == (3, 7, 1, {"digits": 3, "cam": 2})
    assert following(two, min_version={"digits": 0}).min_version == {"cam": 2}


def test_a_ban_and_its_end() -> None:
    found = successors.banned(FIRST, HASH, "wrong labels")
    assert found.banned == {HASH: "wrong labels"}
    assert successors.unbanned(found, HASH).banned == {}
    with pytest.raises(EdgedError, match="not banned"):
        successors.unbanned(FIRST, HASH)


def test_a_key_is_revoked_from_every_role() -> None:
    both = following(FIRST, add={"release": [A, C], "deploy": [A, B]})
    found = successors.revoked(both, B.keyid)
    assert B.keyid not in found.keys
    assert found.roles.release.keyids == (A.keyid, C.keyid)
    assert found.roles.deploy.keyids == (C.keyid, A.keyid)
    with pytest.raises(EdgedError, match="no key of any role"):
        successors.revoked(FIRST, "0" * 16)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"drop": {"release": [B.keyid]}}, "bad_key"),
        ({"drop": {"release": [A.keyid]}}, "bad_key"),
        ({"thresholds": {"root": 2}}, "bad_key"),
        ({"thresholds": {"root": 0}}, "bad_key"),
        ({"min_version": {"no name!": 1}}, "bad_config"),
        ({"banned": {"xyz": ""}}, "bad_config"),
        ({"expires": 0}, "bad_config"),
    ],
)
def test_what_no_box_would_take_is_not_made(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(EdgedError) as caught:
        following(FIRST, **changes)
    assert caught.value.fault.code == code


def test_a_document_stays_below_what_a_box_reads() -> None:
    """256 bans with their reasons are the most."""
    found: Trust = FIRST
    for number in range(256):
        found = successors.banned(found, f"{number:064x}", "")
    with pytest.raises(EdgedError, match="more than 256"):
        successors.banned(found, HASH, "")
    with pytest.raises(EdgedError, match="bytes are more than"):
        following(FIRST, banned={f"{number:064x}": "x" * 256 for number in range(256)})
    with pytest.raises(EdgedError, match="half a character"):
        successors.banned(FIRST, HASH, "\udcff")  # what a command line makes of a stray byte
