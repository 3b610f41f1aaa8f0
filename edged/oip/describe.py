"""What the API says about the server and its models, in the Open Inference Protocol's shapes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import edged
from edged.errors import EdgedError, as_oip, fault
from edged.tensors import metadata

if TYPE_CHECKING:
    from edged.oip.backend import Backend
    from edged.serving.router import ModelView

EXTENSIONS: Final = (  # only what is served
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
    "system_shared_memory",
)
_MODELS_SHOWN: Final = 10
_NAME_SHOWN: Final = 64


def server() -> dict[str, Any]:
    return {"name": "edged", "version": edged.__version__, "extensions": EXTENSIONS}


def model(view: ModelView) -> dict[str, Any]:
    """Metadata; EdgedError `starting` or `model_failed` while there is none."""
    check_serving(view)
    if view.signature is None:
        raise EdgedError("starting", f"{view.name} has not told its inputs and outputs yet")
    return metadata(view.name, view.version, view.signature)


def model_ready(view: ModelView) -> dict[str, Any]:
    """{"name", "ready": true}; EdgedError as `model`."""
    check_serving(view)
    return {"name": view.name, "ready": True}


def check_serving(view: ModelView) -> None:
    """Raises EdgedError `model_failed` or `starting` unless the model serves."""
    if view.state == "serving":
        return
    if view.state == "failed":
        why = view.fault or fault("model_failed", "see the journal")
        raise EdgedError("model_failed", f"{view.name} failed: {why.code}: {why.message}", why.hint)
    if view.unloaded:
        raise EdgedError("starting", f"{view.name} is unloaded", f"`POST /v2/repository/models/{view.name}/load`")
    waits = "waits for its first push" if view.state == "waiting" else "is loading"
    raise EdgedError("starting", f"{view.name} {waits}")


def named(backend: Backend, name: str, version: str = "") -> ModelView:
    """The model that a request names; EdgedError `unknown_model` when it, or that version of it, does not serve."""
    view = backend.view(name)
    if view is None:
        raise unknown(name, (one.name for one in backend.views()))
    check_version(view, version)
    return view


def check_version(view: ModelView, version: str) -> None:
    """Raises EdgedError `unknown_model` when a request names another version than the one that serves."""
    if version not in ("", view.version):
        serves = f"version {view.version} does" if view.version else "none does yet"
        raise EdgedError("unknown_model", f"{view.name} version {version[:_NAME_SHOWN]} does not serve; {serves}")


def unknown(name: str, known: Iterable[str]) -> EdgedError:
    names = sorted(known)
    shown = ", ".join(names[:_MODELS_SHOWN]) + (", ..." if len(names) > _MODELS_SHOWN else "")
    return EdgedError("unknown_model", f"no model {name[:_NAME_SHOWN]!r} here; there is: {shown or 'none'}")


def ready(views: Iterable[ModelView]) -> tuple[int, dict[str, Any]]:
    """The status and body of the readiness probe: 200 while no model is failed."""
    failed = [view.name for view in views if view.state == "failed"]
    if failed:
        return 503, {"ready": False, **as_oip(fault("model_failed", f"failed: {', '.join(failed)}"))}
    return 200, {"ready": True}
