"""Results under settings that change while inputs wait, and answers that are none."""

from __future__ import annotations

from edged.config import schema
from edged.messages import Answer, Input, Outcome, Source
from edged.topics import Tree
from edged.transports.mqtt.outbox import Publication
from edged.transports.mqtt.results import Results

EVERYWHERE = schema.Model("m", output=schema.Output(from_="all"))
NUMBERS = schema.Model("m", output=schema.Output(from_="all", format="value"))


def test_the_copy_of_a_result_has_the_form_of_the_process_that_made_it() -> None:
    """It waited while a reload changed `output.format`: what came was a number, no longer an object."""
    published, answered, dropped = list[Publication](), list[Outcome](), list[str]()
    results = Results(
        Tree("edged", "box"),
        [EVERYWHERE],
        publish=published.append,
        acknowledge=lambda _number, _mid: None,
        packet_limit=lambda: 2**20,
        dropped=lambda _model, reason: dropped.append(reason),
    )
    item = results.also(Input("m", b"", Source.HTTP, answered.append, 0.0))
    results.adopt([NUMBERS])
    item.reply(Answer(b'{"outputs":[]}', 0, "1", copy=b"7"))
    assert [(one.topic, one.payload) for one in published] == [("edged/box/models/m/result", b"7")]
    results.adopt([EVERYWHERE])
    item.reply(Answer(b'{"outputs":[]}', 0, "1", copy=b"7"))  # and what fits no form ends nothing
    assert (len(published), dropped, len(answered)) == (1, ["internal"], 2)
