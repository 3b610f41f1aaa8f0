"""What a start makes of the trust document that it has kept, and of one that is damaged, gone or cannot be read."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edged.delivery import footing
from edged.delivery.store import Store, Walked
from tests.signing import Operator, sha256_of

OPERATOR = Operator()
FIFTH = msgspec.structs.replace(OPERATOR.trust, version=5)


def again(store: Store, root: Path) -> Store:
    store.close()
    opened = Store(root)
    opened.open()
    return opened


@pytest.fixture
def anchor(tmp_path: Path) -> Path:
    file = tmp_path / "trust.json"
    file.write_bytes(OPERATOR.sign_trust())
    return file


@pytest.fixture
def walked(store: Store) -> Store:
    """Of a box that has come to version 5."""
    store.keep_trust(sha256_of(OPERATOR.trust), 5, OPERATOR.sign_trust(FIFTH))
    return store


def version(found: footing.Footing) -> int:
    assert found.anchored is not None
    return found.anchored.trust.version


def test_what_was_kept_is_taken_up(walked: Store, anchor: Path) -> None:
    found = footing.take_up(walked, str(anchor))
    assert (version(found), found.least, found.told) == (5, 5, "")


def test_without_anything_kept_it_is_the_root(store: Store, anchor: Path, tmp_path: Path) -> None:
    found = footing.take_up(store, str(anchor))
    assert (version(found), found.least, found.told) == (1, 1, "")
    assert not (tmp_path / "state/state.json").exists()
    assert footing.take_up(store, "") == footing.Footing()


@pytest.mark.parametrize("content", [b"", b"half", b"0" * 64 + b"\n{}", b"x" * 100_000])
def test_damaged_it_is_set_aside_and_nothing_older_counts(
    walked: Store, anchor: Path, tmp_path: Path, content: bytes
) -> None:
    kept = tmp_path / "state/trust.kept"
    if content.startswith(b"0"):
        content = content.replace(b"0" * 64, sha256_of(OPERATOR.trust).encode())
    kept.write_bytes(content)
    found = footing.take_up(walked, str(anchor))
    assert (version(found), found.least) == (1, 5)
    assert "trust.kept was damaged" in found.told
    assert "trust version 5 held here and is lost" in found.told
    assert kept.with_name("trust.kept.damaged").read_bytes() == content
    assert not kept.exists()
    opened = again(walked, tmp_path / "state")
    found = footing.take_up(opened, str(anchor))
    assert (version(found), found.least) == (1, 5)  # for as long as it takes
    opened.close()


def test_an_older_one_in_its_place_does_not_count_either(walked: Store, anchor: Path, tmp_path: Path) -> None:
    second = msgspec.structs.replace(OPERATOR.trust, version=2)
    walked.keep_trust(sha256_of(OPERATOR.trust), 2, OPERATOR.sign_trust(second))
    found = footing.take_up(walked, str(anchor))
    assert (version(found), found.least) == (2, 5)


def test_damaged_with_a_state_that_says_nothing_of_it_one_step_at_least_is_missing(
    walked: Store, anchor: Path, tmp_path: Path
) -> None:
    """As an edged has left it that kept no more than the document."""
    root = tmp_path / "state"
    (root / "state.json").write_bytes(b'{"schema": 1, "models": {}}')
    opened = again(walked, root)
    assert footing.take_up(opened, str(anchor)).least == 5  # while it can be read, it is said
    assert opened.walked == Walked(sha256_of(OPERATOR.trust), 5)
    (root / "state.json").write_bytes(b'{"schema": 1, "models": {}}')
    (root / "trust.kept").write_bytes(b"half")
    opened = again(opened, root)
    for _ in range(2):
        found = footing.take_up(opened, str(anchor))
        assert (version(found), found.least) == (1, 2)
        opened = again(opened, root)
    opened.close()


@pytest.mark.parametrize("content", [b"half", None])
def test_another_root_begins_anew(walked: Store, anchor: Path, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "state/trust.kept").write_bytes(content)
        footing.take_up(walked, str(anchor))
    anchor.write_bytes(OPERATOR.sign_trust(FIFTH))
    found = footing.take_up(walked, str(anchor))
    assert (version(found), found.least, found.told) == (5, 5, "")


def test_one_that_cannot_be_read_is_not_done_without(walked: Store, anchor: Path, tmp_path: Path) -> None:
    kept = tmp_path / "state/trust.kept"
    kept.unlink()
    kept.mkdir()
    with pytest.raises(OSError, match="is no file") as caught:
        footing.take_up(walked, str(anchor))
    assert caught.value.filename == str(kept)
