"""One part of a configuration laid over another: a drop-in over what it changes, a model over the defaults. Pure."""

from __future__ import annotations

from edged.config.nodes import Mapping, Member, Node, Scalar


def overlay(under: Node, over: Node) -> Node:
    """`over` laid on `under`: mappings merge key by key, lists and single values are replaced.

    Every value keeps the line of the file it came from. A section without keys (`models:`) changes
    nothing, as it says nothing where it stands alone.
    """
    if not isinstance(under, Mapping):
        return over
    if isinstance(over, Scalar) and over.empty:
        return Mapping(under.members, over.line)
    if not isinstance(over, Mapping):
        return over
    members = dict(under.members)
    for name, member in over.members.items():
        before = members.get(name)
        members[name] = member if before is None else Member(member.line, overlay(before.value, member.value))
    return Mapping(members, over.line)
