"""The HTTP transport as one part."""

from __future__ import annotations

from typing import Final

from edged.oip.doors import Kind
from edged.transports.rest.app import App
from edged.transports.rest.connection import Connection
from edged.transports.rest.limits import Limits

rest: Final = Kind(App, Connection, Limits)
