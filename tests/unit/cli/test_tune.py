"""What `edged tune` prints and writes."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from edged.cli.tune import lines, report, write
from edged.config.load import load
from edged.config.mistakes import ConfigErrors
from edged.errors import EdgedError
from edged.serving.tuning import Row
from tests.box import DIGITS

ONE = Row(1, 1, 12345.6, 0.5, 80.0)
TWO = Row(2, 16, 45000.0, 1.25, 21.5)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "edged.yaml"
    found.write_text(f"models: {{digits: {{file: {DIGITS / 'digits_v1_int8.onnx'}, batch: {{wait: 1ms}}}}}}\n")
    return found


def test_the_table_marks_what_is_chosen_and_ends_with_yaml() -> None:
    assert "\n".join(report("digits", [ONE, TWO], TWO, lines("digits", TWO))) == (
        "threads  batch  inputs/s  ms a batch  CPU us an input\n"
        "      1      1    12,346       0.500             80.0\n"
        "      2     16    45,000       1.250             21.5  <\n"
        "\n"
        "# digits: the fewest threads within a tenth of the most inputs a second; with these the smallest batch\n"
        "# within a tenth of the least CPU an input\n"
        "models:\n"
        "  digits:\n"
        "    threads: 2\n"
        "    batch: {max: 16}"
    )


def test_the_page_shows_the_table_as_it_is_printed() -> None:
    """Its figures are of one machine; the rest is what `edged tune` says of the row that is marked there."""
    page = (DIGITS.parents[1] / "docs/configuration.md").read_text()
    shown = page.partition("    $ edged tune digits\n")[2].partition("\n(")[0]
    table, _, below = textwrap.dedent(shown).partition("\n\n")
    head, *rows = table.splitlines()
    found = [Row(int(row[0]), int(row[1]), 1.0, 1.0, 1.0) for row in map(str.split, rows)]
    (choice,) = (row for row, line in zip(found, rows, strict=True) if line.endswith("<"))
    printed = "\n".join(report("digits", found, choice, lines("digits", choice)))
    assert (printed.splitlines()[0], printed.partition("\n\n")[2]) == (head, below.rstrip())


def test_the_lines_go_into_a_file_of_their_own_and_change_nothing_else(file: Path) -> None:
    for choice in (TWO, ONE):
        written = write(file, "digits", choice, lines("digits", choice))
        assert written == file.parent / "conf.d" / "tune-digits.yaml"
        (found,) = load(file).models
        assert (found.threads, found.batch.max, found.batch.wait) == (choice.threads, choice.batch, 0.001)
    assert [one.name for one in written.parent.iterdir()] == ["tune-digits.yaml"]


def test_nothing_stays_of_lines_that_the_configuration_does_not_take(file: Path) -> None:
    write(file, "digits", ONE, lines("digits", ONE))
    impossible = Row(100, 1, 1.0, 1.0, 1.0)
    with pytest.raises(ConfigErrors):
        write(file, "digits", impossible, lines("digits", impossible))
    assert load(file).models[0].threads == 1


def test_a_later_file_that_says_otherwise_is_told(file: Path) -> None:
    (file.parent / "conf.d").mkdir()
    (file.parent / "conf.d" / "z.yaml").write_text("models: {digits: {threads: 1}}\n")
    with pytest.raises(EdgedError, match=r"a later file of conf\.d overrules tune-digits\.yaml"):
        write(file, "digits", TWO, lines("digits", TWO))
