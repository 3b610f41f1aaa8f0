"""What a transport of the Open Inference Protocol asks of the rest of the daemon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from edged.messages import Admission, Input
from edged.oip.regions import Regions

if TYPE_CHECKING:
    from edged.observe.executions import Statistics
    from edged.serving.router import ModelView


class Backend(msgspec.Struct, frozen=True):
    """The daemon as HTTP and gRPC see it.

    `offer`, `view` and `views` are the router's. `metrics` gives Prometheus text, `status` what
    `edged status` shows. `control(verb, arguments, by)` does the verb (one of rest/routes.CONTROL), noting who
    asked, and tells how it went, or raises EdgedError; its arguments are the body's members and the `model` or
    `sha256` of the address, and the body itself as `payload` where it is no JSON. `refused(model, code)` is
    told of every request that is answered with an error without having been offered to a model, and of
    `client_gone`; model is "" but for an input of a known one. `statistics` gives what the version that serves
    has executed, and the bytes of its process, None before they are measured. `regions` are all transports'.
    """

    offer: Callable[[Input], Admission]
    view: Callable[[str], ModelView | None]
    views: Callable[[], tuple[ModelView, ...]]
    metrics: Callable[[], bytes]
    status: Callable[[], dict[str, Any]]
    control: Callable[[str, dict[str, Any], str], Awaitable[dict[str, Any]]]
    refused: Callable[[str, str], None]
    statistics: Callable[[ModelView], tuple[Statistics, int | None]]
    regions: Regions


class Transport(Protocol):
    """A transport that listens, as the daemon sees it."""

    async def start(self) -> None:
        """Returns when every listener accepts clients."""

    def adopt(self) -> None:
        """The models are others, or their limits are: from the next request on."""

    async def stop(self, deadline_s: float) -> None:
        """Closes the listeners, waits for what is under way, and answers `stopping` to what is left."""
