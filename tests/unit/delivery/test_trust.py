"""Who may sign what: TUF's rules, each with a document that breaks it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from edged.delivery import documents, keys, trust
from edged.delivery.documents import Role, Roles, Trust
from edged.delivery.envelope import Envelope, Signature, decode
from edged.delivery.keys import PrivateKey
from edged.errors import EdgedError
from tests.signing import Operator, release_of, sha256_of, sign, trust_of, undo_of, want_of

OPERATOR = Operator()
RELEASE = release_of({"model.onnx": b"model"})
WANT = want_of(RELEASE)
A, B, C, D = (keys.generate() for _ in range(4))


def following(before: Trust, **changes: object) -> Trust:
    return msgspec.structs.replace(before, **{"version": before.version + 1, **changes})


def refused(code: str, call: Callable[..., object], *arguments: object) -> str:
    with pytest.raises(EdgedError) as caught:
        call(*arguments)
    assert caught.value.fault.code == code
    return caught.value.fault.message


# --- the root of trust ----------------------------------------------------------------------------------


def test_a_root_signs_itself() -> None:
    content = OPERATOR.sign_trust()
    found = trust.root(content)
    assert found == trust.Anchored(OPERATOR.trust, content, sha256_of(OPERATOR.trust))


def test_a_root_signed_by_others_is_refused() -> None:
    refused("signature", trust.root, sign(OPERATOR.trust, OPERATOR.release, A))
    refused("signature", trust.root, sign(OPERATOR.trust))


def test_any_version_may_be_the_first_that_a_box_has() -> None:
    later = following(OPERATOR.trust, version=7)
    assert trust.root(OPERATOR.sign_trust(later)).trust.version == 7


def test_a_threshold_counts_keys_not_signatures() -> None:
    two = trust_of([A, B, C], [A], [A], threshold=2)
    assert trust.root(sign(two, A, C)).trust == two
    found = decode(sign(two, A), "trust")
    twice = msgspec.structs.replace(found, signatures=found.signatures * 5)
    assert "1 of 2" in refused("signature", trust.root, twice.encode())


def test_a_key_with_an_id_that_is_not_its_own_is_refused() -> None:
    """Else one key under two names would be two keys."""
    alias = "0" * 16
    two = trust_of([A, B], [A], [A], threshold=2)
    two = msgspec.structs.replace(
        two,
        keys={A.keyid: A.key, alias: A.key},
        roles=Roles(root=Role((A.keyid, alias), 2), release=Role((A.keyid,)), deploy=Role((A.keyid,))),
    )
    found = Envelope("trust", documents.encode(two))
    signature = A.sign(found.signed)
    both = found.with_signature(A.keyid, signature).with_signature(alias, signature)
    assert "another id" in refused("bad_document", trust.root, both.encode())


def test_a_key_that_is_none_is_refused() -> None:
    broken = documents.Key("ed25519", "AAAA")
    kept = {**OPERATOR.trust.keys, keys.keyid(broken): broken}
    refused("bad_document", trust.root, OPERATOR.sign_trust(msgspec.structs.replace(OPERATOR.trust, keys=kept)))


def test_a_bad_signature_before_a_good_one_of_the_same_key_is_passed_over() -> None:
    found = decode(OPERATOR.sign_trust(), "trust")
    junk = Signature(OPERATOR.root.keyid, b"\0" * 64)
    assert trust.root(msgspec.structs.replace(found, signatures=(junk, *found.signatures)).encode())


# --- N to N + 1 -----------------------------------------------------------------------------------------


def walked(before: Trust, after: Trust, *by: PrivateKey) -> trust.Anchored:
    now = trust.Anchored(before, b"", "")
    return trust.advance(now, sign(after, *by))


def test_ota_F26_a_successor_needs_the_old_and_the_new_root() -> None:
    before = trust_of([A, B, C], [A], [A], threshold=2)
    after = following(before, **_roles([B, C, D], 2))
    assert walked(before, after, B, C).trust == after  # B and C are of both
    assert walked(before, after, A, B, D).trust == after
    refused("signature", walked, before, after, A, B)  # the new root: B alone
    refused("signature", walked, before, after, C, D)  # the old root: C alone
    refused("signature", walked, before, after, D)


def test_ota_F26_versions_are_walked_one_by_one() -> None:
    for version in (1, 3, 2**52):
        refused("bad_document", walked, OPERATOR.trust, following(OPERATOR.trust, version=version), OPERATOR.root)
    now = trust.root(OPERATOR.sign_trust())
    for version in range(2, 2 + trust.STEPS):
        now = trust.advance(now, OPERATOR.sign_trust(following(now.trust)))
        assert now.trust.version == version


def test_a_threshold_that_grows_is_kept_by_its_own_document() -> None:
    before = trust_of([A], [A], [A])
    after = following(before, **_roles([A, B], 2))
    refused("signature", walked, before, after, A)
    assert walked(before, after, A, B).trust == after


def test_an_epoch_does_not_go_back() -> None:
    before = msgspec.structs.replace(OPERATOR.trust, epoch=3)
    assert walked(before, following(before, epoch=4), OPERATOR.root)
    refused("bad_document", walked, before, following(before, epoch=2), OPERATOR.root)


# --- releases and orders --------------------------------------------------------------------------------


def test_a_release_and_an_order_are_signed_by_their_own_roles() -> None:
    found = trust.release(OPERATOR.trust, OPERATOR.sign_release(RELEASE))
    assert found == trust.Signed(RELEASE, sha256_of(RELEASE), (OPERATOR.release.keyid,))
    assert trust.order(OPERATOR.trust, OPERATOR.sign_order(WANT)).document == WANT
    assert trust.order(OPERATOR.trust, OPERATOR.sign_order(undo_of(WANT))).document == undo_of(WANT)


def test_ota_F17_what_others_signed_is_refused() -> None:
    for by in ((), (OPERATOR.root,), (OPERATOR.deploy,), (A,)):
        refused("signature", trust.release, OPERATOR.trust, sign(RELEASE, *by))
    for by in ((), (OPERATOR.root,), (OPERATOR.release,), (A,)):
        refused("signature", trust.order, OPERATOR.trust, sign(WANT, *by))


def test_ota_F17_a_signature_is_for_one_kind_and_one_payload() -> None:
    found = decode(OPERATOR.sign_order(WANT), "want")
    other = msgspec.structs.replace(found, payload=found.payload.replace(b"all", b"alt"))
    refused("signature", trust.order, OPERATOR.trust, other.encode())
    undo = documents.encode(undo_of(WANT))
    signature = OPERATOR.deploy.sign(Envelope("want", undo).signed)
    as_undo = Envelope("undo", undo, (Signature(OPERATOR.deploy.keyid, signature),))
    refused("signature", trust.order, OPERATOR.trust, as_undo.encode())


def test_ota_F17_too_few_signatures_are_refused() -> None:
    two = trust_of([A], [B], [A])
    two = msgspec.structs.replace(
        two,
        keys={**two.keys, C.keyid: C.key},
        roles=msgspec.structs.replace(two.roles, release=Role((B.keyid, C.keyid), 2)),
    )
    assert "1 of 2" in refused("signature", trust.release, two, sign(RELEASE, B))
    assert set(trust.release(two, sign(RELEASE, B, C, D)).signers) == {B.keyid, C.keyid}


def test_nothing_is_read_before_its_signatures_count() -> None:
    """What a stranger wrote does not even get to the parser."""
    junk = Envelope("release", b"{" * 60)
    refused("signature", trust.release, OPERATOR.trust, junk.encode())
    signed = junk.with_signature(OPERATOR.release.keyid, OPERATOR.release.sign(junk.signed))
    refused("bad_document", trust.release, OPERATOR.trust, signed.encode())


def test_a_document_of_another_kind_is_refused() -> None:
    refused("bad_document", trust.release, OPERATOR.trust, OPERATOR.sign_order(WANT))
    refused("bad_document", trust.order, OPERATOR.trust, OPERATOR.sign_release(RELEASE))
    refused("bad_document", trust.order, OPERATOR.trust, b"")


def test_ota_F27_a_key_that_was_dropped_counts_no_more() -> None:
    """What it signed once is asked again: the running model is flagged by this."""
    before = trust_of([A], [B], [C])
    content = sign(RELEASE, B)
    signers = trust.release(before, content).signers
    assert trust.counts(before, "release", signers)
    after = following(trust_of([A], [D], [C]), version=2)
    assert walked(before, after, A).trust == after
    assert not trust.counts(after, "release", signers)
    refused("signature", trust.release, after, content)


def _roles(root: list[PrivateKey], threshold: int) -> dict[str, object]:
    found = trust_of(root, [A], [A], threshold=threshold)
    return {"keys": found.keys, "roles": found.roles}
