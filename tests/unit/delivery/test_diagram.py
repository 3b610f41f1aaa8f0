"""The diagram in the documentation is the table."""

from __future__ import annotations

from pathlib import Path

from edged.delivery import rollout
from edged.delivery.rollout import TABLE

PAGE = Path(__file__).resolve().parents[3] / "docs" / "model-push.md"


def test_the_page_shows_the_table_as_it_is() -> None:
    assert f"```mermaid\n{rollout.diagram()}\n```" in PAGE.read_text()


def test_the_diagram_has_a_line_for_each_line_of_the_table() -> None:
    assert rollout.diagram().count(": ") == len(TABLE)


def test_the_page_names_every_code_a_push_can_end_with() -> None:
    text = PAGE.read_text()
    for code in ("trial_crash", "too_slow", "over_memory", "trial_error", "nonfinite", "io_mismatch", "no_space"):
        assert f"`{code}`" in text
