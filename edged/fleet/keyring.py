"""The operator's keys: a folder with NAME.pem (the private half) and NAME.pub.pem, or the public one alone.

Where only the public half lies, something else signs: a card, a cloud, a CI. The only writer of that folder.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from edged.config.files import warn_if_open
from edged.delivery import keys
from edged.delivery.keys import PrivateKey, PublicKey, Scheme
from edged.errors import EdgedError
from edged.topics import is_name

_LARGEST: Final = 64 * 1024  # a guard: a key, not a mistaken path to something else
_MOST: Final = 256
_ENCRYPTED: Final = b"BEGIN ENCRYPTED PRIVATE KEY"
_PUBLIC: Final = ".pub.pem"
_PRIVATE: Final = ".pem"

T = TypeVar("T")
Ask = Callable[[str], bytes]  # from a key's name to its passphrase


class Held(msgspec.Struct, frozen=True):
    """One of the keys. `secret`: the file with its private half, "" where that is elsewhere."""

    name: str
    public: PublicKey
    secret: str = ""
    encrypted: bool = False


class Keyring:
    """The keys in one folder, read anew at each question."""

    def __init__(self, folder: str | Path) -> None:
        self.folder: Final = Path(folder)

    def held(self) -> tuple[Held, ...]:
        """All keys, by name. Raises EdgedError bad_key for a file that is none."""
        try:
            files = sorted(self.folder.glob("*" + _PUBLIC))
        except OSError as error:
            raise EdgedError("bad_key", f"{self.folder}: {error.strerror}") from error
        if len(files) > _MOST:
            raise EdgedError("bad_key", f"{self.folder} has {len(files)} keys", "Is it the folder of your keys?")
        return tuple(self._held(path) for path in files)

    def find(self, word: str) -> PublicKey:
        """The public key that `word` names: a name in the ring, an id, or a file. Raises EdgedError bad_key."""
        found = self._meant(word)
        if found is not None:
            return found
        hint = f"`edged keys new {word}` makes one." if is_name(word) else "`edged keys show` lists the keys."
        raise EdgedError("bad_key", f"there is no key {word} in {self.folder}", hint)

    def id_of(self, word: str) -> str:
        """The id of the key that `word` names as in `find`, "" for none. Raises EdgedError bad_key."""
        found = self._meant(word)
        return "" if found is None else found.keyid

    def _meant(self, word: str) -> PublicKey | None:
        for one in self.held():
            if word in (one.name, one.public.keyid):
                return one.public
        return public_of(Path(word)) if Path(word).is_file() else None

    def name_of(self, keyid: str) -> str:
        """What the operator calls a key, "" when the ring does not have it."""
        return next((one.name for one in self.held() if one.public.keyid == keyid), "")

    def create(self, name: str, scheme: Scheme, passphrase: bytes | None = None) -> PublicKey:
        """A new key, readable by its owner alone. Raises EdgedError bad_config, bad_key; what is there stays."""
        if not is_name(name):
            raise EdgedError("bad_config", f"{name[:70]!r} is no name for a key", "Letters, digits, - and _.")
        secret = keys.generate(scheme)
        private, public = self.folder / (name + _PRIVATE), self.folder / (name + _PUBLIC)
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write_new(private, secret.pem(passphrase), 0o600)
            try:
                _write_new(public, secret.public.pem(), 0o644)
            except OSError:
                private.unlink()
                raise
        except FileExistsError as error:
            hint = "A key is never overwritten: give the new one another name."
            raise EdgedError("bad_key", f"{error.filename} is there already", hint) from error
        except OSError as error:
            raise EdgedError("bad_key", f"{error.filename}: {error.strerror}") from error
        return secret.public

    def unlock(self, held: Held, ask: Ask) -> PrivateKey:
        """The private half; `ask` gives a passphrase where it needs one. Raises EdgedError bad_key."""
        found = private_of(Path(held.secret), lambda: ask(held.name))
        warn_if_open(Path(held.secret))
        if found.keyid != held.public.keyid:
            raise EdgedError("bad_key", f"{held.secret} and {held.name}{_PUBLIC} are two different keys")
        return found

    def _held(self, path: Path) -> Held:
        name = path.name.removesuffix(_PUBLIC)
        private = path.with_name(name + _PRIVATE)
        there = private.exists()
        encrypted = there and _ENCRYPTED in _read(private)
        return Held(name, public_of(path), str(private) if there else "", encrypted)


def public_of(path: Path) -> PublicKey:
    """The public key in a PEM file. Raises EdgedError bad_key."""
    return _named(path, keys.load_public)


def private_of(path: Path, ask: Callable[[], bytes]) -> PrivateKey:
    """The private key in a PEM file; `ask` is called where it needs a passphrase. Raises EdgedError bad_key."""
    encrypted = _ENCRYPTED in _read(path)
    return _named(path, lambda pem: keys.load_private(pem, ask() if encrypted else None))


def _named(path: Path, load: Callable[[bytes], T]) -> T:
    try:
        return load(_read(path))
    except EdgedError as error:
        raise EdgedError("bad_key", f"{path}: {error.fault.message}", error.fault.hint) from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise EdgedError("bad_key", f"{path}: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise EdgedError("bad_key", f"{path} is too large for a key")
    return content


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Raises OSError, FileExistsError among them; nothing half written is left then."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            file.write(content)
            os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
