"""`edged keys`, `trust` and `sign`: what an operator types, from the first key to a theft."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from edged import cli
from edged.delivery import documents, envelope, trust
from edged.delivery.envelope import Envelope
from edged.fleet.trustbook import TrustBook
from tests.signing import release_of

HASH = "ab" * 32
KEYS_MD = Path(__file__).resolve().parents[3] / "docs" / "keys.md"


class Desk:
    """An operator with a fleet.yaml: `run` gives exit code, output and errors."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        folder.mkdir()
        (folder / "fleet.yaml").touch()
        self.book = TrustBook(folder / "trust.json")

    def run(self, *words: str) -> tuple[int, str, str]:
        self._monkeypatch.setenv("EDGED_FLEET", str(self.folder / "fleet.yaml"))
        code = cli.main(words)
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def ok(self, *words: str) -> str:
        code, out, err = self.run(*words)
        assert (code, err) == (0, "")
        return out

    def release(self) -> Path:
        """The folder of an unsigned release."""
        path = self.folder / "digits-2"
        path.mkdir(exist_ok=True)
        found = Envelope("release", documents.encode(release_of({"model.onnx": b"model"})))
        (path / "release.json").write_bytes(found.encode())
        (path / "model.onnx").write_bytes(b"model")
        return path

    def signers(self, path: Path) -> tuple[str, ...]:
        return trust.release(self.book.anchored().trust, (path / "release.json").read_bytes()).signers


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path / "desk", capsys, monkeypatch)


@pytest.fixture
def safe(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Another one, offline."""
    return Desk(tmp_path / "safe", capsys, monkeypatch)


@pytest.fixture
def begun(desk: Desk) -> Desk:
    desk.ok("keys", "new", "root", "release", "deploy")
    desk.ok("trust", "init")
    return desk


def test_from_nothing_to_a_signed_release(desk: Desk) -> None:
    code, _, err = desk.run("trust", "init")
    assert code == 1
    assert "[bad_key]" in err
    assert "edged keys new root" in err
    assert desk.ok("keys", "new", "root", "release", "deploy").count("ed25519") == 3
    assert "version 1 is in force" in desk.ok("trust", "init")
    path = desk.release()
    assert "digits version 2" in desk.ok("sign", str(path))
    (signer,) = desk.signers(path)
    keys = {one["name"]: one for one in json.loads(desk.ok("keys", "show", "--json"))}
    assert keys["release"] == {
        "name": "release",
        "keyid": signer,
        "scheme": "ed25519",
        "private": "here",
        "roles": ["release"],
    }
    assert desk.ok("keys", "show", "release").startswith("-----BEGIN PUBLIC KEY-----")
    code, _, err = desk.run("trust", "init")
    assert code == 2
    assert "edged trust rotate" in err


def test_a_version_that_would_change_nothing_is_not_made(begun: Desk) -> None:
    for words in ((), ("--expires", "never"), ("--add", "release=release"), ("--min-version", "digits=0")):
        code, _, err = begun.run("trust", "rotate", *words)
        assert code == 2
        assert "nothing would change" in err
    assert begun.book.anchored().trust.version == 1
    begun.ok("trust", "rotate", "--expires", "365d")
    begun.ok("trust", "rotate", "--expires", "366d")
    assert begun.book.anchored().trust.version == 3


def test_a_release_of_two_signers(begun: Desk) -> None:
    begun.ok("keys", "new", "ci", "--scheme", "ecdsa-p256")
    begun.ok("trust", "rotate", "--add", "release=ci", "--threshold", "release=2")
    path = begun.release()
    assert "1 more of 2 keys" in begun.ok("sign", str(path), "--key", "ci")
    assert "more" not in begun.ok("sign", str(path), "--key", "release")
    assert len(begun.signers(path)) == 2
    code, _, err = begun.run("sign", str(path), "--key", "deploy")
    assert code == 1
    assert "none of the role release" in err


def test_what_is_not_what_its_document_says_is_not_signed(begun: Desk) -> None:
    path = begun.release()
    (path / "model.onnx").write_bytes(b"other")
    before = (path / "release.json").read_bytes()
    code, _, err = begun.run("sign", str(path))
    assert code == 1
    assert "is not the file that was released" in err
    assert (path / "release.json").read_bytes() == before
    begun.ok("sign", str(path / "release.json"))  # where the key is, the files need not be


def test_a_release_signed_by_openssl(begun: Desk) -> None:
    card = begun.folder / "card.pem"
    options = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    subprocess.run(["openssl", "genpkey", *options, "-out", card], check=True, capture_output=True)
    public = begun.folder / "card.pub.pem"
    subprocess.run(["openssl", "pkey", "-in", card, "-pubout", "-out", public], check=True)
    begun.ok("trust", "rotate", "--add", f"release={public}", "--drop", "release=release")
    path = begun.release()
    begun.ok("sign", str(path), "--key", str(public), "--sign-with", f"openssl dgst -sha256 -sign {card}")
    assert len(begun.signers(path)) == 1


def test_a_key_with_a_passphrase(begun: Desk) -> None:
    secret = begun.folder / "passphrase"
    secret.write_text("sesame\nrest\n")
    begun.ok("keys", "new", "ci", "--passphrase-file", str(secret))
    begun.ok("trust", "rotate", "--add", "release=ci", "--drop", "release=release")
    path = begun.release()
    code, _, err = begun.run("sign", str(path))
    assert code == 1
    assert "--passphrase-file" in err  # nobody sits at this terminal
    begun.ok("sign", str(path), "--passphrase-file", str(secret))
    assert len(begun.signers(path)) == 1


def test_a_version_is_signed_in_two_places(desk: Desk, safe: Desk) -> None:
    """One root key lies in a safe, on a machine that knows nothing but that key."""
    desk.ok("keys", "new", "root", "release", "deploy")
    safe.ok("keys", "new", "otto")
    public = safe.folder / "keys" / "otto.pub.pem"
    (desk.folder / "keys" / "otto.pub.pem").write_bytes(public.read_bytes())
    code, out, _ = desk.run("trust", "init", "--root", "root", "--root", "otto", "--threshold", "root=2")
    assert code == 1
    assert "1 more of the root keys of version 1: otto" in out
    assert not desk.book.newest.exists()
    draft = desk.folder / "trust" / "1.draft.json"
    stick = safe.folder / "1.draft.json"
    stick.write_bytes(draft.read_bytes())
    assert "2 of 2" in safe.ok("sign", str(stick))
    assert "in force" in desk.ok("trust", "accept", str(stick))
    code, out, _ = desk.run("trust", "ban", HASH, "--reason", "wrong labels")
    assert code == 1
    code, out, _ = desk.run("trust", "show")
    assert code == 1
    assert f"banned   {HASH}: wrong labels" in out
    stick.write_bytes((desk.folder / "trust" / "2.draft.json").read_bytes())
    safe.ok("sign", str(stick), "--key", "otto")
    desk.ok("trust", "accept", str(stick))
    assert desk.book.anchored().trust.banned == {HASH: "wrong labels"}
    assert list(desk.book.versions()) == [1, 2]


def test_a_root_key_that_goes_signs_its_own_end(desk: Desk, safe: Desk) -> None:
    """The safe has not seen the version before, which alone names its key."""
    safe.ok("keys", "new", "otto")
    desk.ok("keys", "new", "root", "release", "deploy")
    (desk.folder / "keys" / "otto.pub.pem").write_bytes((safe.folder / "keys" / "otto.pub.pem").read_bytes())
    desk.run("trust", "init", "--root", "otto")
    draft = desk.folder / "trust" / "1.draft.json"
    safe.ok("sign", str(draft))
    desk.ok("trust", "accept", str(draft))
    code, out, _ = desk.run("trust", "rotate", "--add", "root=root", "--drop", "root=otto")
    assert code == 1
    assert "1 more of the root keys of version 1: otto" in out
    draft = desk.folder / "trust" / "2.draft.json"
    code, _, _ = safe.run("sign", str(draft))
    assert code == 1
    safe.ok("sign", str(draft), "--key", "otto")
    desk.ok("trust", "accept", str(draft))
    assert desk.book.anchored().trust.version == 2


def test_after_a_theft(begun: Desk) -> None:
    """The key goes, what it signed is banned, and the sequence that it used up begins anew."""
    begun.ok("keys", "new", "deploy-2")
    stolen = next(one["keyid"] for one in json.loads(begun.ok("keys", "show", "--json")) if one["name"] == "deploy")
    code, _, err = begun.run("trust", "revoke", stolen)
    assert code == 1
    assert "`edged trust rotate --add deploy=deploy-2 --drop deploy=OLD`" in err
    begun.ok("trust", "rotate", "--add", "deploy=deploy-2", "--drop", "deploy=deploy", "--new-epoch")
    path = begun.release()
    begun.ok("trust", "ban", str(path))
    found = begun.book.anchored().trust
    assert stolen not in found.keys
    assert found.epoch == 1
    name = envelope.decode((path / "release.json").read_bytes(), "release").sha256
    assert found.banned == {name: ""}
    begun.ok("trust", "unban", name)
    assert begun.book.anchored().trust.banned == {}


def test_one_of_two_keys_is_revoked_by_its_name(begun: Desk) -> None:
    begun.ok("keys", "new", "ci")
    begun.ok("trust", "rotate", "--add", "release=ci", "--expires", "365d", "--min-version", "digits=3")
    begun.ok("trust", "revoke", "release")
    found = begun.book.anchored().trust
    assert len(found.roles.release.keyids) == 1
    assert found.expires is not None
    assert found.min_version == {"digits": 3}
    out = begun.ok("trust", "show")
    assert "version 3" in out
    assert "floor    digits: version 3" in out
    begun.ok("trust", "rotate", "--expires", "never")
    assert begun.book.anchored().trust.expires is None


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["trust", "rotate", "--add", "nobody=ci"], 2, "nobody is no role"),
        (["trust", "rotate", "--add", "release"], 2, "two words"),
        (["trust", "rotate", "--add", "release=none"], 1, "edged keys new none"),
        (["trust", "rotate", "--threshold", "root=two"], 2, "whole number"),
        (["trust", "rotate", "--threshold", "root=2"], 1, "threshold of 2"),
        (["trust", "rotate", "--expires", "soon"], 2, "365d"),
        (["trust", "rotate", "--min-version", "no name=1"], 2, "no box would take"),
        (["trust", "revoke", "0" * 16], 2, "no key that the boxes believe"),
        (["trust", "revoke", "zz"], 2, "`edged trust show` lists them"),
        (["trust", "revoke", "release"], 1, "edged trust rotate --add release=release-2 --drop release=OLD"),
        (["trust", "rotate", "--drop", "release=zz"], 2, "no key that the boxes believe"),
        (["trust", "ban", "/no/such/folder"], 2, "does not exist"),
        (["trust", "unban", HASH], 2, "is not banned"),
        (["trust", "accept", "/no/such/file"], 2, "does not exist"),
        (["trust", "show", "/dev/null"], 1, "bad_document"),
        (["sign", "/no/such/release"], 2, "there is no /no/such/release"),
        (["sign", "/dev/null"], 1, "bad_document"),
        (["keys", "show", "none"], 1, "there is no key none"),
        (["keys", "new", "../none"], 2, "no name for a key"),
        (["keys", "new", "root"], 1, "never overwritten"),
        (["keys", "new", "x", "--passphrase-file", "/no/such/file"], 2, "No such file"),
        (["keys", "new", "x", "--passphrase-file", "/dev/null"], 1, "first line is empty"),
    ],
)
def test_what_cannot_be_done_changes_nothing(begun: Desk, words: list[str], code: int, says: str) -> None:
    before = {path: path.read_bytes() for path in begun.folder.rglob("*") if path.is_file()}
    found, _, err = begun.run(*words)
    assert (found, says in err) == (code, True), err
    assert {path: path.read_bytes() for path in begun.folder.rglob("*") if path.is_file()} == before


def test_a_verbs_help_has_its_own_examples(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        desk.run("trust", "ban", "--help")
    said = capsys.readouterr().out.partition("examples:")[2]
    assert said.splitlines()[1:] == ['  edged trust ban releases/digits-7 --reason "wrong labels"']


def test_every_command_of_the_document_can_be_typed() -> None:
    lines = re.findall(r"^    (edged (?:keys|trust|sign) .*?)(?:  +#.*)?$", KEYS_MD.read_text(), re.MULTILINE)
    assert len(lines) > 8
    for line in lines:
        cli.parser().parse_args(shlex.split(line)[1:])


def test_nothing_of_a_secret_is_printed(begun: Desk) -> None:
    secret = (begun.folder / "keys" / "root.pem").read_text().splitlines()[1]
    for words in (["keys", "show"], ["keys", "show", "root"], ["keys", "show", "--json"], ["trust", "show"]):
        assert secret not in begun.ok(*words)
