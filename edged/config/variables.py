"""`${NAME}` and `${NAME:-default}` in values: replaced from the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from edged.config.mistakes import Refusal

# Also matches a bare `${`, so that a misspelt variable is refused and not taken literally.
_VARIABLE: Final = re.compile(r"\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(?::-([^{}]*))?\})?")


def resolve(text: str, environment: Mapping[str, str]) -> str:
    """`text` with its variables replaced; Refusal for an undefined or misspelt one.

    An empty variable counts as undefined where there is a default, as in a shell.
    """

    def value(found: re.Match[str]) -> str:
        name, default = found[1], found[2]
        if name is None:
            raise Refusal(
                "${ begins no ${NAME} or ${NAME:-default}", "a password with ${ in it goes to a password_file"
            )
        if default is not None:
            return environment.get(name) or default
        if name not in environment:
            raise Refusal(f"the environment has no {name}", f"set it, or write ${{{name}:-default}}")
        return environment[name]

    return _VARIABLE.sub(value, text)
