"""The fast lane as one part."""

from __future__ import annotations

from typing import Final

from edged.oip.doors import Kind
from edged.transports.fast.connection import Connection
from edged.transports.fast.limits import Limits
from edged.transports.fast.requests import App

fast: Final = Kind(App, Connection, Limits)
