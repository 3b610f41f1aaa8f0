"""The operator's trust documents on disk: `trust/<n>.json`, every version, and `trust.json`, the newest.

A version that still lacks signatures lies as `trust/<n>.draft.json`: it may be carried to where other keys are,
signed there, and its signatures brought back. The only writer of these files. Boxes that were away walk the
versions one by one, so none is ever removed.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from edged.delivery import documents, envelope, trust
from edged.delivery.documents import Trust
from edged.delivery.envelope import Envelope, Signature
from edged.delivery.strict import LARGEST, Malformed
from edged.delivery.trust import Anchored
from edged.errors import EdgedError

_VERSION: Final = re.compile(r"([1-9]\d{0,8})\.json")
_KIND: Final = "trust"


class Lack(msgspec.Struct, frozen=True):
    """Signatures that a draft still wants: `count` more of the root keys of `version`, from `keyids`."""

    version: int
    count: int
    keyids: tuple[str, ...]


class Draft(msgspec.Struct, frozen=True):
    """A version on its way: its document, its signatures so far, and what is missing, () when nothing is."""

    path: Path
    trust: Trust
    envelope: Envelope
    lacks: tuple[Lack, ...]


class TrustBook:
    """The documents beside `newest`, which is trust.json."""

    def __init__(self, newest: str | Path) -> None:
        self.newest: Final = Path(newest)
        self.folder: Final = self.newest.with_name("trust")

    def anchored(self) -> Anchored:
        """The newest version. Raises EdgedError no_trust, bad_document, signature."""
        try:
            content = read(self.newest)
        except FileNotFoundError as error:
            hint = "`edged trust init` makes the first; before it, `edged keys new root release deploy`."
            raise EdgedError("no_trust", f"there is no trust document at {self.newest}", hint) from error
        return trust.root(content)

    def versions(self) -> dict[int, bytes]:
        """Every version that was in force, by number: what `edged push` publishes. Raises EdgedError.

        One above trust.json is none of them: whoever made it was killed before that was written.
        """
        found = {}
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if number := _VERSION.fullmatch(path.name):
                    found[int(number[1])] = read(path)
        if self.newest.exists():
            newest = self.anchored().trust.version
            found = {number: one for number, one in found.items() if number < newest} | {newest: read(self.newest)}
        return dict(sorted(found.items()))

    def draft(self) -> Draft | None:
        """The version on its way. Raises EdgedError."""
        path = self._draft_path()
        try:
            return self._draft(path, read(path))
        except FileNotFoundError:
            return None

    def propose(self, document: Trust) -> Draft:
        """`document` as the draft, without a signature. Raises EdgedError busy where there is one already."""
        path = self._draft_path()
        if path.exists():
            hint = f"Finish it, or take it back: rm {path}"
            raise EdgedError("busy", f"version {document.version} is on its way already: {path}", hint)
        return self._draft(path, Envelope(_KIND, documents.encode(document)).encode())

    def accept(self, content: bytes) -> Draft:
        """A version that comes from elsewhere, with its signatures: beside those that are here. Raises EdgedError."""
        found, _ = opened(content)
        path = self._draft_path()
        return self.keep(
            self.draft() or self._draft(path, msgspec.structs.replace(found, signatures=()).encode()), found
        )

    def keep(self, draft: Draft, found: Envelope) -> Draft:
        """The draft with the signatures of `found`, written; in force where none is missing. Raises EdgedError."""
        if found.payload != draft.envelope.payload:
            text = f"that is another version {draft.trust.version} than {draft.path}"
            raise EdgedError("bad_document", text, "Two were made of one: keep one of them, and sign that.")
        merged = draft.envelope
        for one in self._draft(draft.path, found.encode()).envelope.signatures:
            merged = merged.with_signature(one.keyid, one.sig)
        kept = self._draft(draft.path, merged.encode())
        content = kept.envelope.encode()
        if kept.lacks:
            write(kept.path, content)
            return kept
        write(self.folder / f"{kept.trust.version}.json", content)
        write(self.newest, content)
        kept.path.unlink(missing_ok=True)
        return kept

    def _draft_path(self) -> Path:
        following = self.anchored().trust.version + 1 if self.newest.exists() else 1
        return self.folder / f"{following}.draft.json"

    def _draft(self, path: Path, content: bytes) -> Draft:
        found, document = opened(content)
        before = self.anchored().trust if self.newest.exists() else None
        if document.version != (before.version + 1 if before else 1):
            raise EdgedError("bad_document", f"version {document.version} does not follow what is in force")
        asked = [one for one in (before, document) if one is not None]
        found = msgspec.structs.replace(found, signatures=_good(found, asked))
        lacks = [_lack(one, found) for one in asked]
        return Draft(path, document, found, tuple(one for one in lacks if one.count > 0))


def opened(content: bytes) -> tuple[Envelope, Trust]:
    """A trust document whoever signed it. Raises EdgedError bad_document."""
    try:
        found = envelope.decode(content, _KIND)
        document = documents.read_trust(found.payload)
        trust.check_keys(document)
    except Malformed as error:
        raise EdgedError("bad_document", f"a trust document: {error}") from error
    return found, document


def _good(found: Envelope, asked: Iterable[Trust]) -> tuple[Signature, ...]:
    """The signatures that count for one of `asked`; a damaged one must not take a good one's place."""
    alone = [(one, msgspec.structs.replace(found, signatures=(one,))) for one in found.signatures]
    return tuple(one for one, only in alone if any(trust.signers(each, "root", only) for each in asked))


def _lack(asked: Trust, found: Envelope) -> Lack:
    good = trust.signers(asked, "root", found)
    others = tuple(one for one in asked.roles.root.keyids if one not in good)
    return Lack(asked.version, asked.roles.root.threshold - len(good), others)


def read(path: Path) -> bytes:
    """A document's file. Raises FileNotFoundError, and EdgedError bad_document for what cannot be read."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise EdgedError("bad_document", f"{path}: {error.strerror}") from error
    if len(content) > LARGEST:
        raise EdgedError("bad_document", f"{path} is too large for a document")
    return content


def write(path: Path, content: bytes) -> None:
    """The whole file or the one before, whatever happens. Raises EdgedError bad_document."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fchmod(descriptor, 0o644)
                os.fsync(descriptor)
            Path(name).replace(path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise EdgedError("bad_document", f"{path} cannot be written: {error.strerror}") from error
