"""What settings say."""

from __future__ import annotations

from edged.transports.rpc import frames


def test_of_one_setting_that_comes_often_the_last_holds() -> None:
    """Each change of the first window is one for every stream: thousands in a frame would take a while."""
    said = b"".join(frames.settings({frames.INITIAL_WINDOW: size})[frames.HEAD_BYTES :] for size in range(2000))
    assert list(frames.read_settings(said)) == [(frames.INITIAL_WINDOW, 1999)]
