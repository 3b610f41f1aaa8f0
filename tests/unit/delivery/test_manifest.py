"""Whether a release fits this box."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from edged.delivery import manifest
from edged.delivery.documents import Release, Want
from edged.errors import Fault
from edged.tensors import Signature, TensorSpec
from tests.signing import Operator, release_of, sha256_of, want_of

TRUST = Operator().trust
RELEASE = release_of({"model.onnx": b"model", "labels.txt": b"a\nb\n"}, version=3)


def refusal(release: Release = RELEASE, want: Want | None = None, **facts: Any) -> Fault | None:
    known: dict[str, Any] = {
        "sha256": sha256_of(release),
        "trust": TRUST,
        "live": release.signature,
        "active_version": 2,
        "max_size": 1000,
        "onnxruntime": "1.21.0",
    }
    return manifest.refusal(release, "digits", want or want_of(release), **{**known, **facts})


def code(found: Fault | None) -> str:
    assert found is not None
    return found.code


def test_a_release_that_fits_is_not_refused() -> None:
    assert refusal() is None
    assert refusal(live=None, active_version=None) is None


def test_it_is_the_one_that_was_asked_for() -> None:
    assert code(refusal(release_of({"model.onnx": b""}, model="other"))) == "bad_document"
    assert code(refusal(sha256="0" * 64)) == "bad_document"
    assert code(refusal(want=want_of(RELEASE, version=4))) == "bad_document"


def test_ota_F20_an_older_version_needs_a_signed_word() -> None:
    assert code(refusal(active_version=4)) == "downgrade"
    assert refusal(active_version=3) is None
    assert refusal(want=want_of(RELEASE, allow_downgrade=True), active_version=4) is None


def test_ota_F20_nothing_goes_below_the_floor_of_the_trust_document() -> None:
    floor = msgspec.structs.replace(TRUST, min_version={"digits": 4})
    assert code(refusal(want=want_of(RELEASE, allow_downgrade=True), trust=floor, active_version=9)) == "downgrade"
    assert refusal(trust=msgspec.structs.replace(TRUST, min_version={"digits": 3})) is None
    other = msgspec.structs.replace(TRUST, min_version={"others": 4})
    assert refusal(trust=other) is None


def test_a_person_on_the_box_may_go_back_but_not_below_the_floor_nor_to_what_is_banned() -> None:
    def asked(**changes: Any) -> Fault | None:
        trust = msgspec.structs.replace(TRUST, **changes)
        return manifest.refusal(
            RELEASE,
            "digits",
            None,
            sha256=sha256_of(RELEASE),
            trust=trust,
            live=None,
            active_version=9,
            max_size=1000,
            onnxruntime="1.21",
        )

    assert asked() is None
    assert code(asked(min_version={"digits": 4})) == "downgrade"
    assert code(asked(banned={sha256_of(RELEASE): ""})) == "banned"


def test_a_banned_release_is_refused_with_the_reason() -> None:
    banned = msgspec.structs.replace(TRUST, banned={sha256_of(RELEASE): "it sees ghosts"})
    found = refusal(trust=banned)
    assert code(found) == "banned"
    assert found is not None
    assert "ghosts" in found.message


def test_all_files_together_stay_below_the_limit() -> None:
    assert refusal(max_size=RELEASE.size) is None
    assert code(refusal(max_size=RELEASE.size - 1)) == "too_large"


@pytest.mark.parametrize(
    ("needs", "has", "good"),
    [
        ("", "1.21.0", True),
        ("1.21", "1.21.0", True),
        ("1.21.0", "1.21", True),
        ("1.9", "1.21.0", True),
        ("1.22", "1.21.1", False),
        ("1.21.1", "1.21.0", False),
        ("2", "1.99", False),
        ("1.21", "1.22.0.dev20250301+cu12", True),
        ("1.22", "", False),
    ],
)
def test_onnxruntime_is_new_enough(needs: str, has: str, *, good: bool) -> None:
    release = msgspec.structs.replace(RELEASE, onnxruntime=needs)
    found = refusal(release, onnxruntime=has)
    assert (found is None) == good
    assert found is None or found.code == "unsupported"


def test_ota_F35_other_inputs_or_outputs_are_refused_before_anything_is_fetched() -> None:
    live = Signature(RELEASE.inputs, (TensorSpec("y", "FP32", (10,)),))
    found = refusal(live=live)
    assert code(found) == "io_mismatch"
    assert found is not None
    assert "output y" in found.message
