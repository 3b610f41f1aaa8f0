"""The trust documents on an operator's disk: versions, drafts, signatures from elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.delivery import keys, trust
from edged.delivery.envelope import Envelope
from edged.errors import EdgedError
from edged.fleet.signers import signed
from edged.fleet.successors import banned, following
from edged.fleet.trustbook import TrustBook, opened
from tests.signing import trust_of

A, B, C = (keys.generate() for _ in range(3))
FIRST = trust_of([A], [A], [A])
TWO = trust_of([A, B, C], [A], [A], threshold=2)
HASH = "a" * 64


@pytest.fixture
def book(tmp_path: Path) -> TrustBook:
    return TrustBook(tmp_path / "trust.json")


def begun(book: TrustBook, document: object = FIRST, *by: keys.PrivateKey) -> TrustBook:
    draft = book.propose(document)  # type: ignore[arg-type]
    assert book.keep(draft, signed(draft.envelope, by or (A,))).lacks == ()
    return book


def test_the_first_is_in_force_once_it_is_signed(book: TrustBook) -> None:
    begun(book)
    assert book.anchored().trust == FIRST
    assert book.versions() == {1: book.newest.read_bytes()}
    assert book.draft() is None


def test_every_version_is_kept_for_boxes_that_were_away(book: TrustBook) -> None:
    begun(book)
    begun(book, following(FIRST))
    begun(book, following(book.anchored().trust))
    found = book.versions()
    assert list(found) == [1, 2, 3]
    now = trust.root(found[1])
    for number in (2, 3):
        now = trust.advance(now, found[number])
    assert now == book.anchored()


def test_a_document_that_was_copied_here_counts_among_the_versions(book: TrustBook, tmp_path: Path) -> None:
    begun(book)
    other = TrustBook(tmp_path / "other" / "trust.json")
    other.newest.parent.mkdir()
    other.newest.write_bytes(book.newest.read_bytes())
    assert list(other.versions()) == [1]


def test_a_version_whose_making_was_cut_short_is_not_published(book: TrustBook) -> None:
    before = begun(book).newest.read_bytes()
    begun(book, banned(FIRST, HASH, ""))
    book.newest.write_bytes(before)  # killed after trust/2.json, before trust.json
    assert book.versions() == {1: before}
    begun(book, banned(FIRST, HASH, "once more"))
    assert list(book.versions()) == [1, 2]


def test_a_draft_says_who_has_to_sign_and_is_signed_in_two_places(book: TrustBook, tmp_path: Path) -> None:
    begun(book, TWO, A, B)
    after = banned(TWO, HASH, "")
    draft = book.propose(after)
    draft = book.keep(draft, signed(draft.envelope, [A]))
    assert [(one.version, one.count, set(one.keyids)) for one in draft.lacks] == [
        (1, 1, {B.keyid, C.keyid}),
        (2, 1, {B.keyid, C.keyid}),
    ]
    assert book.anchored().trust == TWO
    assert book.draft() == draft
    carried, _ = opened(draft.path.read_bytes())
    away = signed(Envelope(carried.kind, carried.payload), [C])  # its own signature alone comes back
    assert book.accept(away.encode()).lacks == ()
    assert book.anchored().trust == after
    assert not draft.path.exists()


def test_a_version_that_was_made_elsewhere_is_taken(book: TrustBook, tmp_path: Path) -> None:
    begun(book)
    other = TrustBook(tmp_path / "other" / "trust.json")
    assert other.accept(book.newest.read_bytes()).lacks == ()
    begun(book, following(FIRST))
    assert other.accept(book.newest.read_bytes()).lacks == ()
    assert other.anchored() == book.anchored()


def test_one_version_at_a_time(book: TrustBook) -> None:
    begun(book)
    draft = book.propose(following(FIRST))
    book.keep(draft, draft.envelope)
    with pytest.raises(EdgedError, match="on its way") as caught:
        book.propose(banned(FIRST, HASH, ""))
    assert caught.value.fault.code == "busy"
    other = Envelope("trust", banned_payload())
    with pytest.raises(EdgedError, match="another version 2"):
        book.accept(other.encode())


def banned_payload() -> bytes:
    from edged.delivery import documents

    return documents.encode(banned(FIRST, HASH, ""))


def test_versions_follow_each_other(book: TrustBook) -> None:
    begun(book)
    with pytest.raises(EdgedError, match="does not follow"):
        book.propose(following(following(FIRST)))


def test_signatures_of_strangers_are_not_carried_on(book: TrustBook) -> None:
    draft = book.propose(FIRST)
    found = book.keep(draft, signed(draft.envelope, [B, A]))
    assert [one.keyid for one in found.envelope.signatures] == [A.keyid]


def test_a_damaged_signature_takes_no_good_ones_place(book: TrustBook) -> None:
    draft = book.propose(TWO)
    draft = book.keep(draft, signed(draft.envelope, [A]))
    damaged = Envelope("trust", draft.envelope.payload).with_signature(A.keyid, b"\0" * 64)
    found = book.accept(damaged.encode())
    assert found.envelope == draft.envelope
    assert [one.count for one in found.lacks] == [1]


def test_without_a_document_the_next_step_is_said(book: TrustBook) -> None:
    with pytest.raises(EdgedError, match="no trust document") as caught:
        book.anchored()
    assert "trust init" in caught.value.fault.hint
    book.newest.write_bytes(b"x" * 70_000)
    with pytest.raises(EdgedError, match="too large"):
        book.anchored()


def test_a_file_is_the_old_or_the_new_one(book: TrustBook, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(book)
    draft = book.propose(following(FIRST))

    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(EdgedError, match="cannot be written"):
        book.keep(draft, signed(draft.envelope, [A]))
    assert book.anchored().trust == FIRST
    assert [path.name for path in book.folder.iterdir()] == ["1.json"]
