"""What stands there when a push is not waited for any longer."""

from __future__ import annotations

from edged.cli.outcomes import last
from edged.fleet.outcome import Line, Outcome


def test_what_to_do_about_a_box_that_still_waits_is_said_too() -> None:
    waits = Line("b", "open", "waiting", "no_space", "no room for 9 MB", "Make room.")
    assert last(Outcome((waits,))) == ["b: waiting: no room for 9 MB [no_space]", "  Make room.", "1 not done"]
