"""Writes the documents that are made from the code: docs/errors.md from the table of codes, the tables of
docs/configuration.md from the configuration's schema, the diagram of docs/model-push.md from the rollout's table,
the documents that docs/push-protocol.md shows by example_documents.py.

generate_docs.py            writes them
generate_docs.py --check    exits 1 when one differs from what it would write
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import example_documents
import msgspec

from edged.config import chain, keys, nodes, schema, sections, steps
from edged.config.units import spelled
from edged.delivery import rollout
from edged.errors import CODES, grpc_word

ROOT = Path(__file__).resolve().parent.parent


def errors() -> str:
    """docs/errors.md: one line a code."""
    lines = [
        "# Error codes",
        "",
        "Made by `scripts/generate_docs.py` from `edged/errors.py`; change it there.",
        "",
        "Every error has a stable `code`, a `message` that says what happened and a `hint` that says what to do.",
        'Over HTTP it is `{"error": message, "code", "hint"}` with the status below, over gRPC the status and all',
        "three in its details, and the code alone as `edged-code` in the trailers; over MQTT it is",
        '`{"id", "code", "message", "hint", "topic"}`; on the command line the program prints the same and exits 1,',
        "or 2 for `bad_settings` and `bad_config`, which is said of what was typed too: words, files that cannot be",
        "read. Scripts key on `code`.",
        "",
        "| code | HTTP | gRPC | means | hint, where nothing better is known |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{code}` | {one.http} | {grpc_word(code)} | {one.means} | {one.hint} |" for code, one in CODES.items()
    ]
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """docs/configuration.md: what is written there by hand, with the tables between the marks made anew."""
    text = (ROOT / "docs/configuration.md").read_text()
    text = _between(text, "keys", ["| key | default | takes | what |", "|---|---|---|---|", *_keys("", schema.Config)])
    return _between(text, "steps", ["| step | in | what | shown |", "|---|---|---|---|", *_steps()])


def model_push() -> str:
    """docs/model-push.md: what is written there by hand, with the state diagram, and where each fault is tested."""
    text = (ROOT / "docs/model-push.md").read_text()
    text = _between(text, "states", ["```mermaid", rollout.diagram(), "```"])
    return _between(text, "faults", list(_faults(text)))


def _faults(text: str) -> Iterator[str]:
    """The rows as they are; the last cell names the files whose tests are named after it, unless it says why not."""
    tested: dict[str, set[str]] = {}
    for file in (ROOT / "tests").rglob("test_*.py"):
        for faults in re.findall(r"def test_ota((?:_[fF]\d\d)+)_", file.read_text()):
            for fault in faults.upper().split("_")[1:]:
                tested.setdefault(fault, set()).add(str(file.relative_to(ROOT / "tests")))
    for row in text.partition("<!-- faults -->\n")[2].partition("<!-- end of faults -->")[0].splitlines():
        cells = row.split(" | ")
        if (fault := cells[0].removeprefix("| ")) in tested:
            cells[-1] = ", ".join(f"`{file}`" for file in sorted(tested[fault])) + " |"
        yield " | ".join(cells)


def push_protocol() -> str:
    """docs/push-protocol.md: what is written there by hand, with the documents that it shows."""
    text = (ROOT / "docs/push-protocol.md").read_text()
    return _between(text, "documents", example_documents.shown())


def _between(text: str, mark: str, lines: list[str]) -> str:
    before, _, rest = text.partition(f"<!-- {mark} -->\n")
    after = rest.partition(f"<!-- end of {mark} -->\n")[2]
    return f"{before}<!-- {mark} -->\n" + "\n".join(lines) + f"\n<!-- end of {mark} -->\n{after}"


# The sections that are read by hand: where their keys stand, and whose keys they are.
BY_HAND: dict[str, tuple[str, type[msgspec.Struct]]] = {
    "mqtt": ("mqtt", schema.Mqtt),
    "sockets": ("sockets", schema.Sockets),
    "push": ("push", schema.Push),
    "push.mqtt": ("push.mqtt", schema.Courier),
    "models": ("models.NAME", schema.Model),
    "models.NAME.inputs": ("models.NAME.inputs[]", schema.Input),
}


def _keys(path: str, owner: type[msgspec.Struct]) -> Iterator[str]:
    """One line a key, section by section."""
    for name, annotation in sections.WRITTEN.get(owner, keys.fields(owner)).items():
        here = f"{path}.{name}" if path else name
        what = keys.kind(annotation)
        if here in BY_HAND:
            yield from _keys(*BY_HAND[here])
        elif here == "defaults":
            about = "what every model begins with; its own keys override them one by one"
            yield f"| `defaults` | none | keys of a model | {about} |"
        elif annotation is nodes.Node:
            yield f"| `{here}` | none | a list of steps | see below |"
        elif isinstance(what.type, type) and issubclass(what.type, msgspec.Struct):
            yield from _keys(here, what.type)
        else:
            yield f"| `{here}` | {_default(name, owner, what)} | {keys.takes(what)} | {what.key.about} |"


def _default(name: str, owner: type[msgspec.Struct], what: keys.Kind) -> str:
    if what.key.default:
        return what.key.default.replace("<", "&lt;")
    field: Any = next(
        one for kind in (owner, steps.Form) for one in msgspec.structs.fields(kind) if one.encode_name == name
    )
    return "required" if field.required else f"`{spelled(field.default)}`"


def _steps() -> Iterator[str]:
    for section, table in chain.TABLES.items():
        for name, step in table.items():
            yield f"| `{name}` | {section} | {(step.__doc__ or '').strip()} | `{chain.EXAMPLES[step]}` |"


DOCUMENTS = {
    "docs/errors.md": errors,
    "docs/configuration.md": configuration,
    "docs/model-push.md": model_push,
    "docs/push-protocol.md": push_protocol,
}


def main() -> int:
    stale = [name for name, make in DOCUMENTS.items() if not _is(ROOT / name, make())]
    if sys.argv[1:] == ["--check"]:
        for name in stale:
            print(f"{name} is not up to date: run scripts/generate_docs.py")
        return int(bool(stale))
    for name in stale:
        (ROOT / name).write_text(DOCUMENTS[name]())
        print(f"wrote {name}")
    return 0


def _is(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    sys.exit(main())
