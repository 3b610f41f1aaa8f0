"""The documents: every link leads somewhere, every rule has its place, every generated one is up to date."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("examples/**/*.md"))]
RULES = (ROOT / "docs/rules.md").read_text()


def anchors(document: Path) -> set[str]:
    """The anchors that headings make, in GitHub's way."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if not target.startswith(("http:", "https:")):
            file, _, anchor = target.partition("#")
            found = document.parent / file if file else document
            assert found.exists(), target
            assert not anchor or anchor in anchors(found), target


def test_no_two_decisions_have_one_number() -> None:
    names = sorted(path.name for path in (ROOT / "docs/adr").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    for name in names:
        assert (ROOT / "docs/adr" / name).read_text().startswith(f"# {int(name[:4])}. "), name


def test_every_rule_that_the_code_names_is_written_down() -> None:
    numbers = {int(number) for number in re.findall(r"^\| (\d+) \|", RULES, re.MULTILINE)}
    assert numbers == set(range(1, max(numbers) + 1))
    for folder in ("edged", "tests", "systemd", "configs"):
        for file in (ROOT / folder).rglob("*"):
            if file.is_file() and file.suffix in (".py", ".service", ".yaml"):
                for found in re.findall(r"RULES ((?:\d+(?:, | and | to )?)+)", file.read_text()):
                    assert set(map(int, re.findall(r"\d+", found))) <= numbers, file


def named_rules(text: str) -> set[int]:
    """The numbers in `RULES 7`, `RULES 6, 7` and `RULES 1 to 5 and 7`."""
    numbers: set[int] = set()
    for found in re.findall(r"RULES ((?:\d+(?:, | and | to )?)+)", text):
        numbers |= set(map(int, re.findall(r"\d+", found)))
        for first, last in re.findall(r"(\d+) to (\d+)", found):
            numbers |= set(range(int(first), int(last) + 1))
    return numbers


def test_every_rule_has_a_test_that_names_it_or_a_word_why_not() -> None:
    for line in RULES.splitlines():
        if found := re.match(r"\| (\d+) \|", line):
            cell = line.split("|")[4]
            folder, named = "", set[int]()
            for name in re.findall(r"`([^`]+)`", cell):
                folder, file = name.rpartition("/")[::2] if "/" in name else (folder, name)
                named |= named_rules((ROOT / "tests" / folder / file).read_text())
            assert int(found[1]) in named or "no test can tell" in cell, line


def test_every_rule_names_files_that_are_there() -> None:
    for line in RULES.splitlines():
        if re.match(r"\| \d+ \|", line):
            _, _, _, code, tests, _ = line.split("|")
            folder = ""
            for name in re.findall(r"`([^`]+)`", code):  # `transports/mqtt/link.py`, `wire.py`: the same folder
                folder, file = name.rpartition("/")[::2] if "/" in name else (folder, name)
                places = (ROOT / "edged" / folder / file, ROOT / "edged" / file, ROOT / folder / file)
                assert any(place.exists() for place in places), name
            for name in re.findall(r"`([^`]+)`", tests):
                folder, file = name.rpartition("/")[::2] if "/" in name else (folder, name)
                assert (ROOT / "tests" / folder / file).exists(), name


@pytest.mark.parametrize("document", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_a_module_that_is_named_exists(document: str) -> None:
    """`worker/session.py` with its folder is looked up; a bare `session.py` anywhere below edged/ will do."""
    for name in re.findall(r"`([\w/]+\.py)`", (ROOT / document).read_text()):
        path = name.removeprefix("edged/")
        assert any(ROOT.glob(f"edged/**/{path}")) or (ROOT / path).exists(), name
