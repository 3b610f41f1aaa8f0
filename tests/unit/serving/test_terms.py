"""Inputs that wait while the settings change keep the form they came with."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edged.config.schema import Batch, Input, Limits, Model, Output, Queue
from edged.config.steps import Form, Scale
from edged.config.units import Duration, Size
from edged.messages import Input as Item
from edged.messages import Source
from edged.serving.release import Release
from edged.serving.terms import Terms

RELEASE = Release("m", "1", "0" * 64, "m.onnx")
FORMS = [Form(), Form(format="raw", dtype="float32"), Form(format="values", fields=("a",)), Form(format="npy")]


def model(*forms: int, **fields: object) -> Model:
    inputs = tuple(Input(f"t/{index}", form=FORMS[form]) for index, form in enumerate(forms))
    return Model("m", inputs=inputs, **fields)  # type: ignore[arg-type]


def item(form: int) -> Item:
    return Item("m", b"x", Source.HTTP, lambda _outcome: None, 0.0, form=form)


@given(st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=2, max_size=6), st.data())
def test_an_input_keeps_its_form_through_any_number_of_changes(steps: list[list[int]], data: st.DataObject) -> None:
    terms = Terms.of(model(*steps[0]))
    waiting = [item(form) for form in range(-1, len(steps[0]))]
    meant = [None, *(FORMS[form] for form in steps[0])]
    for forms in steps[1:]:
        terms = terms.changed(model(*forms))
        assert terms.forms[: len(forms)] == tuple(FORMS[form] for form in forms)
        waiting = [terms.renumbered(one) for one in waiting]
        new = [data.draw(st.integers(0, len(forms) - 1))] if forms else []
        waiting += [item(form) for form in new]
        meant += [FORMS[forms[form]] for form in new]
    assert [terms.forms[one.form] if one.form >= 0 else None for one in waiting] == meant


def test_forms_of_long_ago_are_let_go() -> None:
    terms = Terms.of(model(1))
    oldest = item(0)
    for number in range(200):
        terms = terms.changed(Model("m", inputs=(Input("t", form=Form(fields=(f"f{number}",))),)))
        oldest = terms.renumbered(oldest)
    assert len(terms.forms) <= 64
    assert oldest.form == -1


def test_what_a_process_is_told_makes_a_new_one_and_nothing_else_does() -> None:
    terms = Terms.of(model(1, 2))
    same = [
        model(1, 2, queue=Queue(size=3)),
        model(1, 2, output=Output("x")),
        model(1, 2, batch=Batch(wait=Duration(1))),
        Model("m", inputs=(Input("other", form=FORMS[1]), Input("t/1", 0, FORMS[2]))),
    ]
    other = [
        model(1),
        model(2, 1),
        model(1, 2, threads=2),
        model(1, 2, preprocess=(Scale(2.0),)),
        model(1, 2, batch=Batch(max=1)),
        model(1, 2, limits=Limits(memory=Size(2**30))),
        model(1, 2, limits=Limits(run=Duration(1))),
    ]
    assert [terms.renews(one, RELEASE) for one in same] == [False] * len(same)
    assert [terms.renews(one, RELEASE) for one in other] == [True] * len(other)


def test_forms_that_are_left_over_make_no_new_process() -> None:
    terms = Terms.of(model(1)).changed(model(2))
    assert not terms.renews(model(2), RELEASE)
