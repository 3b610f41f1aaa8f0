"""Which topics have a retained result, within bounds."""

from __future__ import annotations

from edged.transports.mqtt.kept import Kept


def test_only_what_is_kept_no_more_is_taken_back_and_once() -> None:
    kept = Kept()
    kept.add("a/1", "m", "a/{n}")
    kept.add("a/2", "other", "a/{n}")
    kept.add("a/2", "m", "a/{n}")  # the last one to publish there
    kept.add("b", "n", "b")
    assert kept.take_back(lambda model, template: (model, template) != ("m", "a/{n}")) == ["a/1", "a/2"]
    assert kept.take_back(lambda _model, _template: False) == ["b"]


def test_it_is_bounded() -> None:
    kept = Kept()
    kept.add("x" * 1025, "m", "")
    for number in range(5000):
        kept.add(str(number), "m", "")
    found = kept.take_back(lambda _model, _template: False)
    assert (len(found), found[-1]) == (4096, "4999")
