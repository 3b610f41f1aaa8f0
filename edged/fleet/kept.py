"""What a broker keeps, for a command that lists it, looks it up and takes it away."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from edged.errors import EdgedError
from edged.fleet import verdict
from edged.transports.mqtt.retained import Heard, Put, Retained

_QUIET_TURNS: Final = 5  # of a tenth of a second


class Kept:
    """One connection at a time, which `make` makes around what hears it. `nothing`: a topic where nothing lies."""

    def __init__(self, make: Callable[[Callable[[Heard], None]], Retained], nothing: str) -> None:
        self._there: dict[str, bytes] = {}
        self._heard = 0
        self._nothing: Final = nothing
        self._connection: Final = make(self._hear)

    def connect(self) -> None:
        """Raises EdgedError `broker`, for one too that keeps nothing."""
        if not self._connection.connect().retains:
            raise EdgedError("broker", verdict.KEEPS_NOTHING, verdict.KEEPS_NOTHING_HINT)

    def close(self) -> None:
        self._connection.close()

    def listed(self, filters: Sequence[str]) -> dict[str, bytes]:
        """What is retained under wildcards; at QoS 0, where Mosquitto leaves nothing out of small messages.

        Silence is no proof that all has come, the line may stand still: the answer to another question is behind it.
        """
        self._there.clear()
        self._connection.listen(filters, qos=0)
        before = -1
        while len(self._there) > before:
            self._quieten()
            before = len(self._there)
            self._connection.look([self._nothing])
        return {topic: content for topic, content in self._there.items() if topic != self._nothing}

    def looked_up(self, topics: Sequence[str]) -> dict[str, bytes]:
        """What is retained under these names."""
        self._there.clear()
        self._connection.look(topics)
        return dict(self._there)

    def remove(self, topics: Iterable[str]) -> None:
        """In this order: whoever is cut short can go on. Raises EdgedError `forbidden` when something stays."""
        topics = list(topics)
        self._connection.put((Put(topic, b"") for topic in topics), _confirmed)
        if there := self.looked_up(topics):
            raise EdgedError(
                "forbidden", f"the broker still has {next(iter(there))}", "Does its ACL let this user write there?"
            )

    def _hear(self, heard: Heard) -> None:
        self._heard += 1
        if heard.retained and heard.payload:
            self._there[heard.topic] = heard.payload

    def _quieten(self) -> None:
        quiet = 0
        while quiet < _QUIET_TURNS:
            before = self._heard
            self._connection.turn()
            quiet = quiet + 1 if self._heard == before else 0


def _confirmed(put: Put, refusal: str) -> None:
    if refusal:
        raise EdgedError("forbidden", f"the broker refuses {put.topic}: {refusal}", "Check the broker's ACL.")
