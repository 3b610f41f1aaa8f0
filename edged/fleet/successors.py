"""Trust documents as an operator changes them: the first one, and from each the next. Pure.

What comes out has been checked as a box would: a document that no box believes is never written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from edged.delivery import documents
from edged.delivery.documents import Role, Roles, Trust
from edged.delivery.envelope import SIGNATURES, Envelope, Signature, decode
from edged.delivery.keys import PublicKey
from edged.delivery.strict import Malformed
from edged.delivery.trust import ROLES, RoleName, check_keys, role_of
from edged.errors import EdgedError

Keys = Mapping[RoleName, Sequence[PublicKey]]
Counts = Mapping[RoleName, int]


def first(keys: Keys, thresholds: Counts, expires: int | None) -> Trust:
    """Version 1: these keys by role, each role with a threshold of 1 where none is given. Raises EdgedError."""
    roles = {name: Role(_ids(keys[name]), thresholds.get(name, 1)) for name in ROLES}
    known = {one.keyid: one.key for some in keys.values() for one in some}
    return _checked(Trust(version=1, keys=known, roles=Roles(**roles), expires=expires))


def following(
    before: Trust,
    *,
    add: Keys | None = None,
    drop: Mapping[RoleName, Iterable[str]] | None = None,
    thresholds: Counts | None = None,
    min_version: Mapping[str, int] | None = None,
    new_epoch: bool = False,
    **changes: object,
) -> Trust:
    """The next version. `drop` has ids; `min_version` 0 takes a model's floor away; keys of no role are left out.

    `changes` are other fields of Trust. Raises EdgedError bad_key, bad_config.
    """
    add, drop, thresholds = add or {}, drop or {}, thresholds or {}
    roles = {}
    for name in ROLES:
        role, gone = role_of(before, name), set(drop.get(name, ()))
        if strangers := gone - set(role.keyids):
            raise EdgedError("bad_key", f"{', '.join(sorted(strangers))}: no key of the role {name}")
        kept = tuple(one for one in role.keyids if one not in gone)
        added = tuple(one for one in _ids(add.get(name, ())) if one not in kept)
        roles[name] = Role(kept + added, thresholds.get(name, role.threshold))
    known = {**before.keys, **{one.keyid: one.key for some in add.values() for one in some}}
    used = {one for role in roles.values() for one in role.keyids}
    floors = {**before.min_version, **(min_version or {})}
    found = msgspec.structs.replace(
        before,
        version=before.version + 1,
        keys={keyid: key for keyid, key in known.items() if keyid in used},
        roles=Roles(**roles),
        min_version={model: floor for model, floor in floors.items() if floor},
        epoch=before.epoch + new_epoch,
        **changes,
    )
    return _checked(found)


def banned(before: Trust, release: str, reason: str) -> Trust:
    """The next version, under which no box runs `release`."""
    return following(before, banned={**before.banned, release: reason})


def unbanned(before: Trust, release: str) -> Trust:
    """The next version, under which `release` may run again."""
    if release not in before.banned:
        raise EdgedError("bad_config", f"{release} is not banned", "`edged trust show` lists what is.")
    return following(before, banned={name: why for name, why in before.banned.items() if name != release})


def revoked(before: Trust, keyid: str) -> Trust:
    """The next version, without this key in any role."""
    of: dict[RoleName, list[str]] = {name: [keyid] for name in ROLES if keyid in role_of(before, name).keyids}
    if not of:
        raise EdgedError("bad_key", f"{keyid} is no key of any role", "`edged trust show` lists them.")
    return following(before, drop=of)


def _ids(keys: Iterable[PublicKey]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(one.keyid for one in keys))


def _checked(found: Trust) -> Trust:
    for name in ROLES:
        role = role_of(found, name)
        if not 1 <= role.threshold <= len(role.keyids):
            raise EdgedError(
                "bad_key",
                f"{name}: {len(role.keyids) or 'no'} keys cannot make a threshold of {role.threshold}",
                f"Another key in the same step: `edged keys new {name}-2`, then "
                f"`edged trust rotate --add {name}={name}-2 --drop {name}=OLD`.",
            )
    try:
        payload = documents.encode(found)
        documents.read_trust(payload)
        check_keys(found)
        full = Envelope("trust", payload, (Signature("0" * 16, b"\0" * 72),) * SIGNATURES)
        decode(full.encode(), "trust")
    except Malformed as error:
        raise EdgedError("bad_config", f"no box would take that trust document: {error}", "") from error
    return found
