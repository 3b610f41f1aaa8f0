"""The root of trust that a configuration names: what is none is a mistake of the configuration, with its line."""

from __future__ import annotations

from pathlib import Path

from edged.config.load import line_of
from edged.config.mistakes import ConfigErrors, Mistake
from edged.config.schema import Config
from edged.delivery import trust
from edged.delivery.documents import Trust
from edged.errors import EdgedError


def check(file: Path, config: Config) -> Trust | None:
    """The document that `config`, read from `file`, names in push.trust; None where it names none.

    It is believed as the daemon will: its signatures count only there. Raises ConfigErrors.
    """
    if not config.push.trust:
        return None
    try:
        return trust.root(Path(config.push.trust).read_bytes()).trust
    except EdgedError as error:
        what, hint = error.fault.message, "`edged trust init` makes one; `edged trust show FILE` says what is in it"
    except OSError as error:
        what, hint = f"{config.push.trust}: {error.strerror}", ""
    line = line_of(file, "push.trust")
    raise ConfigErrors(str(file), [Mistake(line.file, int(line), "push.trust", what, hint)])
