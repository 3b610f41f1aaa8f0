"""Whether a release fits this box, asked of its document before a byte of its files is fetched. Pure."""

from __future__ import annotations

import re
from typing import Final

from edged.delivery.documents import Release, Trust, Want
from edged.errors import Fault, fault
from edged.tensors import Signature, differences

_NUMBERS: Final = re.compile(r"\d+(?:\.\d+)*")


def refusal(
    release: Release,
    model: str,
    want: Want | None,
    *,
    sha256: str,
    trust: Trust,
    live: Signature | None,
    active_version: int | None,
    max_size: int,
    onnxruntime: str,
) -> Fault | None:
    """Why `release`, whose document's hash is `sha256`, cannot be `model` here; None when it may be fetched.

    `want` None: a person on the box asks for it, whose word allows an older version and no more than that.
    `live`: what the running model takes and gives, None without one. `active_version`: its version. `max_size`
    in bytes, `onnxruntime` the box's version.
    """
    if release.model != model:
        return fault("bad_document", f"the release is for the model {release.model}, not for {model}")
    if want is not None and (want.release != sha256 or want.version != release.version):
        return fault("bad_document", f"the want is for another release than version {release.version}")
    if sha256 in trust.banned:
        return fault("banned", f"the release is banned: {trust.banned[sha256] or 'without a reason'}")
    return (
        _old(release, want, trust, active_version)
        or _large(release, max_size)
        or _runtime(release, onnxruntime)
        or _other(release, live)
    )


def _old(release: Release, want: Want | None, trust: Trust, active_version: int | None) -> Fault | None:
    least = trust.min_version.get(release.model, 1)
    if release.version < least:
        hint = "The floor is the trust document's: no want can allow less."
        return fault("downgrade", f"version {release.version} is below {least}, the least that may run", hint)
    if want is None or want.allow_downgrade or active_version is None or release.version >= active_version:
        return None
    return fault("downgrade", f"version {release.version} is below {active_version}, which runs")


def _large(release: Release, max_size: int) -> Fault | None:
    if release.size <= max_size:
        return None
    text = f"the files of the release have {release.size} bytes, more than {max_size}"
    return fault("too_large", text, "Raise push.max_size on the box, or release a smaller model.")


def _runtime(release: Release, onnxruntime: str) -> Fault | None:
    if _numbers(onnxruntime) >= _numbers(release.onnxruntime):
        return None
    text = f"the release needs onnxruntime {release.onnxruntime}, the box has {onnxruntime}"
    return fault("unsupported", text, "Update edged on the box, or export the model for an older onnxruntime.")


def _other(release: Release, live: Signature | None) -> Fault | None:
    found = differences(live, release.signature) if live is not None else []
    return fault("io_mismatch", "; ".join(found[:8])) if found else None


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with, without zeros at its end: 1.21.0+cu12 -> (1, 21)."""
    found = _NUMBERS.match(version)
    numbers = [int(one) for one in found[0].split(".")] if found else []
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)
