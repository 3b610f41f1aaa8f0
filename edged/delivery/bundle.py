"""A signed release's folder as what serving loads: the model, its own settings and limit, the files it may name."""

from __future__ import annotations

from pathlib import Path

from edged.config import overrides
from edged.delivery.documents import MODEL_FILE, SETTINGS_FILE, Release
from edged.serving import release as serving


def loadable(document: Release, folder: Path) -> serving.Release:
    """`folder` has the files that `document` lists, each as it should be.

    Blocking: reads the release's model.yaml. Raises EdgedError bad_settings for one that is not valid here.
    """
    return serving.Release(
        model=document.model,
        version=str(document.version),
        sha256=document.files[MODEL_FILE].sha256,
        file=str(folder / MODEL_FILE),
        beside=tuple(name for name in document.files if name != MODEL_FILE),
        settings=overrides.read(folder, document.files) if SETTINGS_FILE in document.files else None,
        memory=document.limits.memory,
        signature=document.signature,
    )
