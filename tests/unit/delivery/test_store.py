"""The state directory: what is durable when, and what a start makes of what it finds."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edged.delivery import rollout
from edged.delivery.folder import keep_document
from edged.delivery.record import Phase, Record, Stored
from edged.delivery.store import Store, Walked, decode
from edged.delivery.strict import LARGEST
from edged.disk import is_full
from edged.errors import EdgedError
from tests.couriers import key_of, release, unsigned

MODEL = b"a model"
SHA = hashlib.sha256(MODEL).hexdigest()


def again(store: Store, root: Path) -> tuple[Store, dict[str, Record]]:
    store.close()
    opened = Store(root)
    return opened, opened.open()


def test_a_file_is_stored_under_its_hash_and_read_only(store: Store) -> None:
    assert store.stage(MODEL) == SHA
    path = store.path(SHA)
    assert path.parts[-3:] == ("releases", SHA, "model.onnx")
    assert path.read_bytes() == MODEL
    assert stat.S_IMODE(path.stat().st_mode) == 0o440
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
    assert store.intact(SHA)


def test_staging_again_keeps_a_whole_file_and_replaces_a_damaged_one(store: Store) -> None:
    path = store.path(store.stage(MODEL))
    before = path.stat().st_ino
    store.stage(MODEL)
    assert path.stat().st_ino == before
    path.chmod(0o640)
    path.write_bytes(b"b model")
    assert not store.intact(SHA)
    store.stage(MODEL)
    assert store.intact(SHA)


def test_a_record_survives_and_the_one_before_is_kept(store: Store, tmp_path: Path) -> None:
    first, second = Record(highest=1), Record(highest=2)
    store.commit("m", first)
    store.commit("m", second)
    backup = decode((tmp_path / "state/state.json.bak").read_bytes())
    assert backup.models == {"m": first}
    opened, found = again(store, tmp_path / "state")
    assert found == {"m": second}
    opened.close()


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (lambda store: store.commit("m", Record(highest=2)), "state.json"),
        (lambda store: store.walk("root", 2), "state.json"),
        (lambda store: store.keep_trust("root", 2, b"one"), "trust.kept"),
        (lambda store: store.stage(MODEL), "model.onnx"),
    ],
    ids=["record", "walk", "trust", "file"],
)
def test_what_is_written_is_durable_when_that_returns(
    store: Store, monkeypatch: pytest.MonkeyPatch, write: Callable[[Store], object], name: str
) -> None:
    """Its bytes before it has its name, and the name before anything is done about it."""
    store.commit("m", Record(highest=1))
    steps: list[tuple[str, Path]] = []
    fsync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append(("fsync", Path(f"/proc/self/fd/{descriptor}").readlink()))
        fsync(descriptor)

    def renamed(path: Path, to: Path) -> Path:
        steps.append(("rename", path))
        return rename(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write(store)
    (at,) = [
        at for at, (what, path) in enumerate(steps) if what == "rename" and path.name in (f"{name}.tmp", f".{name}.tmp")
    ]
    assert ("fsync", steps[at][1]) in steps[:at]
    assert ("fsync", steps[at][1].parent) in steps[at:]


def test_models_do_not_overwrite_each_other(store: Store, tmp_path: Path) -> None:
    store.commit("a", Record(highest=1))
    store.commit("b", Record(highest=2))
    opened, found = again(store, tmp_path / "state")
    assert found == {"a": Record(highest=1), "b": Record(highest=2)}
    opened.close()


def test_an_unreadable_state_falls_back_to_the_one_before(store: Store, tmp_path: Path) -> None:
    store.commit("m", Record(highest=1))
    store.commit("m", Record(highest=2))
    (tmp_path / "state/state.json").write_bytes(b'{"schema": 1, "mod')
    opened, found = again(store, tmp_path / "state")
    assert found == {"m": Record(highest=1)}
    opened.close()


def test_with_no_state_that_makes_sense_nothing_is_deleted(store: Store, tmp_path: Path) -> None:
    record = rollout.staged(Record(), Stored(1, store.stage(MODEL)))
    store.commit("m", record)
    store.commit("m", record)
    (tmp_path / "state/state.json").write_bytes(b"")
    (tmp_path / "state/state.json.bak").write_bytes(b"\xff")
    opened, found = again(store, tmp_path / "state")
    assert found == {}
    assert opened.intact(SHA)
    opened.close()


def contents(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}


def test_what_is_damaged_is_set_aside_and_told(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "state"
    for highest in (1, 2):
        store.commit("m", Record(highest=highest))
    assert store.damaged == ""
    (root / "state.json").write_bytes(b"half")
    opened, found = again(store, root)
    assert found == {"m": Record(highest=1)}
    assert "state.json.damaged now: the state before it holds" in opened.damaged
    assert (root / "state.json.damaged").read_bytes() == b"half"
    opened.commit("m", Record(highest=3))
    assert decode((root / "state.json.bak").read_bytes()).models == {"m": Record(highest=1)}  # the good one stays
    opened, _ = again(opened, root)
    assert opened.damaged == ""
    for name in ("state.json", "state.json.bak"):
        (root / name).write_bytes(name.encode())
    opened, found = again(opened, root)
    assert found == {}
    assert "lost" in opened.damaged
    assert contents(root) == {
        "lock": b"",
        "state.json.damaged": b"state.json",  # the newest find alone
        "state.json.bak.damaged": b"state.json.bak",
    }
    opened.close()


@pytest.mark.parametrize("name", ["state.json", "state.json.bak"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_a_state_that_cannot_be_read_is_not_forgotten(store: Store, tmp_path: Path, name: str, kind: str) -> None:
    root = tmp_path / "state"
    for highest in (1, 2):
        store.commit("m", Record(highest=highest))
    store.close()
    (root / "state.json").write_bytes(b"half")  # so that the one before it is asked for
    (root / name).rename(root / "elsewhere")
    put(root / name, kind)
    before = contents(root)
    opened = Store(root)
    with pytest.raises(OSError, match="is no file") as caught:
        opened.open()
    assert caught.value.filename == str(root / name)
    opened.close()
    assert contents(root) == before


def put(path: Path, kind: str) -> None:
    """Something else in a file's place."""
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("name", ["lock", f"releases/{SHA}/model.onnx"])
def test_a_pipe_in_the_place_of_a_file_is_waited_for_by_nobody(store: Store, tmp_path: Path, name: str) -> None:
    root = tmp_path / "state"
    store.commit("m", rollout.staged(Record(), Stored(1, store.stage(MODEL))))
    store.close()
    (root / name).unlink()
    os.mkfifo(root / name)
    opened = Store(root)
    if name == "lock":
        with pytest.raises(OSError, match=r"is no file.*lock"):
            opened.open()
    else:
        opened.open()
        assert not opened.intact(SHA)
    opened.close()


@pytest.mark.parametrize("name", ["state.json", "state.json.bak"])
def test_a_newer_state_is_not_replaced(store: Store, tmp_path: Path, name: str) -> None:
    """Whatever it holds: its shape may be another one. The one before it is this edged's own."""
    root = tmp_path / "state"
    for highest in (1, 2):
        store.commit("m", Record(highest=highest))
    store.close()
    (root / "state.json").write_bytes(b"")
    (root / name).write_bytes(b'{"schema": 2, "models": []}')
    before = contents(root)
    opened = Store(root)
    with pytest.raises(EdgedError, match=f"bad_store: .*/{name} cannot be used: it has schema 2"):
        opened.open()
    opened.close()
    assert contents(root) == before


def test_a_newer_schema_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="schema 2"):
        decode(b'{"schema": 2, "models": {}}')


def test_a_hash_that_is_a_path_is_refused() -> None:
    bad = Record(active=Stored(2, "../../etc"))
    with pytest.raises(ValueError, match="hash"):
        decode(msgspec.json.encode({"schema": 1, "models": {"m": bad}}))


def test_pruning_keeps_what_a_record_names_and_what_is_being_staged(store: Store) -> None:
    named, fresh, old = store.stage(b"named"), store.stage(b"fresh"), store.stage(b"old")
    store.commit("m", rollout.staged(Record(), Stored(1, named)))
    store.commit("n", rollout.staged(Record(), Stored(1, old)))
    store.commit("n", Record())
    store.prune()
    assert store.intact(named)
    assert store.intact(fresh)
    assert not store.path(old).parent.exists()
    store.discard(fresh)
    assert not store.path(fresh).parent.exists()


def test_a_start_removes_what_an_interrupted_write_left(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "state"
    store.commit("m", rollout.staged(Record(), Stored(1, store.stage(MODEL))))
    strays = [root / "state.json.tmp", root / "releases" / SHA / ".model.onnx.tmp"]
    orphan = root / "releases" / ("0" * 64) / "model.onnx"
    orphan.parent.mkdir()
    for stray in [*strays, orphan]:
        stray.write_bytes(b"half")
    (root / "releases" / "mine").mkdir()
    opened, _ = again(store, root)
    assert not any(stray.exists() for stray in [*strays, orphan, orphan.parent])
    assert (root / "releases" / "mine").exists()  # what is not named as ours is left alone
    assert opened.intact(SHA)
    opened.close()


def test_a_trust_document_is_kept_until_the_next_one(store: Store, tmp_path: Path) -> None:
    assert store.trust() is None
    store.keep_trust("root", 2, b"one")
    store.keep_trust("root", 3, b"two")
    (tmp_path / "state/trust.kept.tmp").write_bytes(b"half of thr")
    opened, _ = again(store, tmp_path / "state")
    assert opened.trust() == b"root\ntwo"
    assert opened.walked == Walked("root", 3)
    opened.walk("root", 2)
    assert opened.walked == Walked("root", 3)
    (tmp_path / "state/trust.kept").write_bytes(b"x" * 100_000)
    with pytest.raises(ValueError, match="above"):
        opened.trust()
    opened.close()


def test_a_release_is_whole_when_all_of_its_files_are(store: Store) -> None:
    contents = {"model.onnx": MODEL, "labels.txt": b"zero"}
    document = release(contents)
    key = key_of(document)
    folder = store.folder(key)
    assert not store.intact(key)
    keep_document(folder, unsigned(document))
    for name, content in contents.items():
        assert not store.intact(key)
        (folder / name).write_bytes(content)
    assert store.intact(key)
    assert store.path(key) == folder / "model.onnx"
    assert store.document(key) == unsigned(document)
    for spoilt in (unsigned(release(contents, version=9)), b"{}", b"x" * 100_000):
        (folder / "release.json").chmod(0o640)
        (folder / "release.json").write_bytes(spoilt)
        assert not store.intact(key)
    keep_document(folder, unsigned(document))
    assert store.intact(key)
    (folder / "labels.txt").write_bytes(b"ones")
    assert not store.intact(key)


def test_a_claimed_folder_stays_and_so_does_the_one_before_it(store: Store) -> None:
    keys = [hashlib.sha256(bytes([number])).hexdigest() for number in range(4)]
    for key in keys:
        store.claim(key)
        store.folder(key).mkdir()
    store.prune()
    assert [store.folder(key).exists() for key in keys] == [False, False, True, True]
    assert store.claim(keys[3]) == [store.folder(keys[2])]
    store.make_room(keys[3])
    assert [store.folder(key).exists() for key in keys] == [False, False, False, True]
    store.commit("m", rollout.staged(Record(), Stored(1, keys[3])))
    store.prune()
    assert store.folder(keys[3]).exists()
    store.commit("m", Record())
    store.prune()
    assert not store.folder(keys[3]).exists()


def test_one_daemon_per_directory(store: Store, tmp_path: Path) -> None:
    with pytest.raises(EdgedError) as caught:
        Store(tmp_path / "state").open()
    assert caught.value.fault.code == "state_in_use"


def test_a_file_above_the_size_limit_fails_before_its_first_byte(store: Store) -> None:
    store.commit("m", Record(highest=1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
    try:
        with pytest.raises(OSError, match=r".") as caught:
            store.stage(b"x" * 2**20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_full(caught.value)
    assert not any((store.path(SHA).parent.parent).iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_says_so_and_harms_nothing(tmp_path: Path) -> None:
    root = tmp_path / "small"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", root], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"mount: {mounted.stderr.decode().strip()}")
    store = Store(root)
    try:
        store.open()
        store.commit("m", Record(highest=1))
        small = store.stage(b"small")
        with pytest.raises(OSError, match=r".") as caught:
            store.stage(os.urandom(2**20))
        assert caught.value.errno == errno.ENOSPC
        (root / "filler").write_bytes(b"x" * (os.statvfs(root).f_bavail * os.statvfs(root).f_frsize))
        with pytest.raises(OSError, match=r".") as caught:
            store.commit("m", Record(highest=2))
        assert is_full(caught.value)
        assert not list(root.glob("*.tmp"))
        assert store.intact(small)
        store, found = again(store, root)
        assert found == {"m": Record(highest=1)}
    finally:
        store.close()
        subprocess.run(["umount", root], check=True)


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
@example(b"[" * 100_000)
@example(b'{"models": {"m": {"phase": "trial"}}}')
@example(b'{"models": {"m": {"highest": 1e400}}}')
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
def test_no_content_of_the_state_stops_a_start(tmp_path: Path, content: bytes) -> None:
    root = tmp_path / "any"
    root.mkdir(exist_ok=True)
    (root / "state.json").write_bytes(content)
    store = Store(root)
    store.open()
    store.close()


RECORDS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(Record.__struct_fields__), RECORDS))
def test_what_decodes_can_be_resumed(fields: dict[str, object]) -> None:
    try:
        state = decode(msgspec.json.encode({"models": {"m": fields}}))
    except ValueError:
        return
    record, _ = rollout.restarted(state.models["m"])
    assert record.phase in set(Phase) - {Phase.OFFERED}


WRITER = """
import hashlib, itertools, os, sys
from pathlib import Path
from edged.errors import fault
from edged.delivery import rollout
from edged.delivery.record import Baseline, Phase, Record, Stored
from edged.delivery.store import Store
store = Store(Path(sys.argv[1]))
record = store.open().get("m", Record())
print("up", flush=True)
while True:
    if record.phase is Phase.IDLE:
        content = os.urandom(20_000)
        sha = store.stage(content)
        record = rollout.staged(record, Stored(record.highest + 1, sha))
    elif record.phase is Phase.TRIAL and record.candidate.version % 3 == 0:
        record = rollout.failed(record, fault("nonfinite", ""))
    elif record.phase is Phase.TRIAL:
        record = rollout.passed(record, record.active, Baseline())
    elif record.active.version % 5 == 0 and record.previous:
        record = rollout.faulted(record, fault("probation_errors", ""), record.previous)
    else:
        record = rollout.kept(record)
    store.commit("m", record)
    print("committed", flush=True)
    store.prune()
"""


def test_killed_at_any_moment_it_finds_whole_files_and_one_state(tmp_path: Path) -> None:
    root, highest = tmp_path / "state", 0
    for round_ in range(40):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, root], stdout=subprocess.PIPE, cwd=Path.cwd())
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"up\n"
        start_s, commits = time.monotonic(), round_ % 5
        for _ in range(commits):
            assert writer.stdout.readline() == b"committed\n"
        commit_s = (time.monotonic() - start_s) / commits if commits else 0.01
        time.sleep(commit_s * (round_ % 8) / 7)  # however slow the disk is, the end is somewhere in the next commit
        writer.kill()
        assert writer.wait() == -9  # it had not ended by itself
        writer.stdout.close()
        store = Store(root)
        record = store.open().get("m", Record())
        assert all(store.intact(sha256) for sha256 in record.needs())
        if (root / "state.json").exists():  # before the first commit nobody knows what matters
            assert {entry.name for entry in (root / "releases").iterdir()} == record.needs()
        assert record.highest >= highest  # nothing that was committed is forgotten
        highest = record.highest
        store.close()
    assert highest > 5


def test_the_longest_trust_document_is_found_again_with_the_line_before_it(tmp_path: Path) -> None:
    content = b"x" * LARGEST
    store = Store(tmp_path)
    store.keep_trust("0" * 64, 2, content)
    assert store.trust() == b"0" * 64 + b"\n" + content
