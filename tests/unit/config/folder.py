"""A folder with a configuration in it, for the tests of reading one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edged.config.load import load
from edged.config.mistakes import ConfigErrors
from edged.config.schema import Config


class Folder:
    """`environment` is what `${NAME}` sees; every path in a file starts at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment: dict[str, str] = {"RUNTIME_DIRECTORY": "/run/edged"}

    def write(self, text: str | bytes, name: str = "edged.yaml") -> Path:
        file = self.path / name
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    def load(self, text: str | bytes) -> Config:
        return load(self.write(text), self.environment)

    def mistakes(self, text: str | bytes) -> list[str]:
        """Each as `line: path: what (hint)`."""
        file = self.write(text)
        with pytest.raises(ConfigErrors) as found:
            load(file, self.environment)
        assert str(found.value) == "\n".join(map(str, found.value.mistakes))
        return [str(one).removeprefix(f"{file}:").strip() for one in found.value.mistakes]

    def mistake(self, text: str | bytes) -> str:
        (only,) = self.mistakes(text)
        return only
