"""The last values of JSON members, by stream, for inputs with `missing: last`. Lost when the process ends."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import msgspec

from edged.config.steps import Form

_STREAMS: Final = 1024  # the one that was silent longest is forgotten first
_BYTES: Final = 4 * 2**20  # of all members, as JSON
_NULL: Final = b"null"

Members = dict[str, msgspec.Raw]
Key = tuple[int, int]

_MEMBERS: Final = msgspec.json.Decoder(Members)


class Lasting:
    """What each stream of each input sent last, member by member, as JSON."""

    def __init__(self) -> None:
        self._last: OrderedDict[Key, Members] = OrderedDict()
        self._bytes = 0

    def complete(self, key: Key, form: Form, payload: memoryview) -> tuple[memoryview, Members]:
        """The payload with the last values in place of absent and null members; what `keep` is to have of it.

        `key` is (the input, the stream). A payload that is no JSON object is left as it is: its decoder says why.
        """
        try:
            members = _MEMBERS.decode(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return payload, {}
        last = self._last.get(key, {})
        sent = {path: found for path in form.fields if (found := _member(members, path)) is not None}
        gaps = {path: last[path] for path in form.fields if path not in sent and path in last}
        if gaps:
            payload = memoryview(msgspec.json.encode({**members, **gaps}))
        return payload, sent

    def keep(self, key: Key, sent: Members) -> None:
        """Remembers what an input has sent that turned out to be right."""
        if not sent:
            return
        last = self._last.pop(key, {})
        self._bytes -= _size(last)
        # A copy: what came is a view of the whole payload.
        last.update({path: msgspec.Raw(bytes(found)) for path, found in sent.items()})
        self._last[key] = last
        self._bytes += _size(last)
        while self._bytes > _BYTES or len(self._last) > _STREAMS:
            self._bytes -= _size(self._last.popitem(last=False)[1])


def _member(members: Members, path: str) -> msgspec.Raw | None:
    """The member named `path`, or, through nested objects, the one at `a.b`; None when it is absent or null."""
    if path in members:
        found = members[path]
        return None if bytes(found) == _NULL else found
    name, _, rest = path.partition(".")
    if not rest or name not in members:
        return None
    try:
        return _member(_MEMBERS.decode(members[name]), rest)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _size(members: Members) -> int:
    return sum(len(bytes(found)) for found in members.values())
