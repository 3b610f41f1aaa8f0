"""Takes connections on a TLS listener: a handshake counts as a connection, and has its time."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final

from edged.oip.gate import Gate

logger = logging.getLogger(__name__)

_REST_S: Final = 1.0  # after a failed accept: without a descriptor left, the next one fails too
_GOODBYE_S: Final = 2.0


class Greeter:
    """asyncio would start a handshake for whoever comes, and count nobody before it is done: here the gate does."""

    def __init__(
        self, gate: Gate[Any, Any, Any], tls: ssl.SSLContext, serve: Callable[[], asyncio.BaseProtocol]
    ) -> None:
        self._gate = gate
        self._serve = serve
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._socket = gate.listener.socket
        self._socket.setblocking(False)
        self._greetings: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._open()

    def close(self) -> None:
        """Takes nobody more, and ends the handshakes that are under way."""
        if self._again is None:
            self._loop.remove_reader(self._socket)
        else:
            self._again.cancel()
        for task in self._greetings:
            task.cancel()

    def _open(self) -> None:
        self._again = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            logger.error("%s: no connection can be taken: %s", self._gate.listener.address, error.strerror)
            self._loop.remove_reader(self._socket)
            self._again = self._loop.call_later(_REST_S, self._open)
            return
        if self._gate.crowded:
            client.close()
            return
        task = self._loop.create_task(self._greet(client))
        self._greetings.add(task)
        task.add_done_callback(self._greetings.discard)

    async def _greet(self, client: socket.socket) -> None:
        self._gate.greeting += 1
        try:
            await self._loop.connect_accepted_socket(
                self._serve,
                client,
                ssl=self._tls,
                ssl_handshake_timeout=self._gate.limits.header_s,
                ssl_shutdown_timeout=_GOODBYE_S,
            )
        except OSError as error:  # ssl.SSLError and TimeoutError are such too
            self._gate.count(_code(error))
            client.close()
        except asyncio.CancelledError:
            client.close()
            raise
        except Exception:  # the boundary of RULES 23
            logger.exception("a handshake could not be done")
            self._gate.count("internal")
            client.close()
        finally:
            self._gate.greeting -= 1


def _code(error: OSError) -> str:
    """What to count a failed handshake as; its client is told in TLS's own words."""
    if isinstance(error, TimeoutError | ConnectionAbortedError):  # the second one is uvloop's word for it
        return "timeout"
    if isinstance(error, ssl.SSLError) and "CERTIFICATE" in (error.reason or ""):
        return "unauthorized"
    return "bad_input"
