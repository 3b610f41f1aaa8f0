"""Gives one parser what atheris finds: `python tests/fuzz/parsers.py NAME FOLDER [libFuzzer's options]`.

FOLDER holds what it began with and found on the way. Ends with libFuzzer's code: 77 with the input printed where
the parser did anything but read or refuse.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["edged.delivery", "edged.tensors", "json"]):
    from tests.parsers import PARSERS, SEEDS


def main() -> None:
    name, folder = sys.argv[1:3]
    (Path(folder) / "good").write_bytes(SEEDS[name])
    atheris.Setup([sys.argv[0], folder, *sys.argv[3:]], PARSERS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
