"""config.arrivals: the section `push`, and config.hours: when what was pushed may begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edged.config.arrivals import with_arrived
from edged.config.changes import Changes, changes
from edged.config.hours import DAY_MIN, Hours, Install, install
from edged.config.mistakes import Refusal
from edged.config.schema import Model, Push, Queue
from tests.unit.config.folder import Folder


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("auto", "auto"),
        ("manual", "manual"),
        ("[manual]", "manual"),
        ('"02:00-04:00"', (Hours(120, 240),)),
        ("02:00 - 04:00", (Hours(120, 240),)),
        ('["22:00-05:30", "12:00-12:30"]', (Hours(1320, 330), Hours(720, 750))),
        ("00:00-24:00", (Hours(0, DAY_MIN),)),
    ],
)
def test_when_a_release_may_begin(folder: Folder, text: str, meant: Install) -> None:
    assert folder.load(f"push: {{install: {text}}}\n").push == Push(install=meant)


MISTAKES = {
    "2:00-4:00": "expected auto, manual or hours such as",
    "02:00": "expected auto, manual or hours such as",
    "atuo": "expected auto, manual or hours such as",
    "25:00-26:00": "25:00-26:00 has a time that no clock shows",
    "02:60-03:00": "02:60-03:00 has a time that no clock shows",
    "24:00-01:00": "24:00-01:00 has a time that no clock shows",
    "22:00-24:01": "22:00-24:01 has a time that no clock shows",
    "02:00-02:00": "02:00-02:00 has no minute in it",
    '[auto, "02:00-04:00"]': "auto goes with nothing beside it",
    "[manual, auto]": "auto goes with nothing beside it",
    "[]": "has no value",
    '["02:00-04:00", "02:00-04:00"]': "02:00-04:00 is given twice",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_what_no_clock_shows_is_refused_with_its_line(folder: Folder, text: str) -> None:
    found = folder.mistake(f"push:\n  install: {text}\n")
    assert found.startswith("2: push.install")
    assert MISTAKES[text] in found


@given(st.integers(0, DAY_MIN - 1), st.integers(0, DAY_MIN))
def test_hours_are_read_as_they_are_spelled(begin: int, end: int) -> None:
    if begin != end:
        assert Hours.parse(str(Hours(begin, end))) == Hours(begin, end)
        assert install([str(Hours(begin, end))]) == (Hours(begin, end),)


@given(st.text())
def test_any_other_text_is_a_refusal(text: str) -> None:
    try:
        Hours.parse(text)
    except Refusal:
        return
    assert "-" in text


def test_the_root_of_trust_lies_beside_the_configuration(folder: Folder) -> None:
    (folder.path / "trust.json").write_text("{}")
    found = folder.load("push: {trust: trust.json, models: any}\n").push
    assert found == Push(trust=str(folder.path / "trust.json"), models="any")


def test_a_root_of_trust_that_cannot_be_read_is_a_mistake(folder: Folder) -> None:
    assert "does not exist" in folder.mistake("push:\n  trust: none.json\n")
    assert "is no file" in folder.mistake("push:\n  trust: .\n")


def test_any_model_takes_somebody_whose_signature_counts(folder: Folder) -> None:
    found = folder.mistake("push:\n  models: any\n")
    assert found.startswith("2: push.models")
    assert "push.trust" in found


ANY = """\
defaults: {threads: 2, queue: {size: 8}}
models: {named: {threads: 1}}
push: {trust: trust.json, models: any}
"""


@pytest.fixture
def trusting(folder: Folder) -> Folder:
    folder.write("{}", "trust.json")
    return folder


def test_a_model_that_arrives_begins_with_the_defaults(trusting: Folder) -> None:
    config = trusting.load(ANY)
    found = with_arrived(config, ["new", "named", "new"])
    assert found.models == (*config.models, Model("new", threads=2, queue=Queue(size=8)))
    assert found.models[0] == Model("named", threads=1, queue=Queue(size=8))


def test_it_may_be_given_other_defaults_and_a_name_in_the_file(trusting: Folder) -> None:
    before = with_arrived(trusting.load(ANY), ["new"])
    other = with_arrived(trusting.load(ANY.replace("size: 8", "size: 9")), ["new"])
    assert changes(before, other) == Changes(changed=("named", "new"))
    named = with_arrived(trusting.load(ANY.replace("models: {", "models: {new: {threads: 4}, ")), ["new"])
    assert changes(before, named) == Changes(changed=("new",))
    assert {one.name: one.threads for one in named.models} == {"new": 4, "named": 1}


def test_none_has_arrived_where_none_may(trusting: Folder) -> None:
    config = trusting.load(ANY)
    found = with_arrived(trusting.load(ANY.replace(", models: any", "")), ["new"])
    assert [one.name for one in found.models] == ["named"]
    assert changes(with_arrived(config, ["new"]), found) == Changes(removed=("new",), settings=("push.models",))


def test_what_arrives_has_no_inputs_for_a_topic_with_levels(trusting: Folder) -> None:
    text = "push: {trust: trust.json, models: any}\ndefaults:\n  output: {topic: 'cells/{cell}/x'}\n"
    found = trusting.mistake(text)
    assert found.startswith("3: defaults.output.topic: {cell} is no level of an input")
    trusting.load(text.replace(", models: any", ""))


def test_pushes_may_have_a_broker_of_their_own(folder: Folder) -> None:
    push = "push:\n  mqtt: {url: [mqtt://a, mqtt://b], username: me}\n"
    text = f"device: box\nmqtt: {{url: mqtt://plant, base: plant/edged}}\n{push}"
    found = folder.load(text).push.mqtt
    assert found is not None
    assert (found.url, found.username, found.base) == (("mqtt://a", "mqtt://b"), "me", "plant/edged")
    assert found.client_id.startswith("edged-box-")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("push:\n  mqtt: {url: mqtt://a}\n", "2: push.mqtt: is for a second broker, and there is no first"),
        (
            "mqtt: {url: mqtt://a}\npush:\n  mqtt: {url: mqtt://b}\n  connection: shared\n",
            "4: push.connection: there is no connection to share: push.mqtt has pushes come from another broker",
        ),
        ("mqtt: {url: mqtt://a}\npush:\n  connection: both\n", "3: push.connection: "),
        ("mqtt: {url: mqtt://a}\npush:\n  mqtt: {url: mqtt://b, session: 1h}\n", "3: push.mqtt.session: unknown key"),
        ("mqtt: {url: mqtt://a}\npush:\n  mqtt: {url: mqtt://b, ca: x}\n", "3: push.mqtt.ca: has no use without TLS"),
        ("mqtt: {url: mqtt://a}\npush:\n  mqtt: {username: b}\n", "push.mqtt"),
        ("mqtt: {url: mqtt://a}\npush:\n  mqtt: {url: mqtt://b, password: x}\n", "3: push.mqtt.password: there is no"),
    ],
)
def test_mistakes_about_it_name_it(folder: Folder, text: str, expected: str) -> None:
    assert expected in folder.mistake(text)
