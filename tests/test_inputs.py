"""The hash of a turn's input: text has a short way to it, which must be no other hash."""

from __future__ import annotations

import pytest
from hypothesis import given, settings, strategies as st

from lash_framework import inputs
from lash_framework.inputs import input_hash
from lash_hookspecs import DocumentRefItem, ImageRefItem, TextItem, TurnContext, TurnInput
from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.codec import unstructure

NOTHING_ELSE = {"images": {}, "mode_extension": None, "plugin_inputs": {}}


@settings(deadline=None)  # the first example imports the converter
@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=3))
def test_text_has_the_hash_that_the_codec_gives_it(texts: list[str]) -> None:
    given_input = TurnInput(items=tuple(map(TextItem, texts)))
    long_way = {**unstructure(given_input), **NOTHING_ELSE}
    assert input_hash(given_input) == stable_hash("lash.turn-input", long_way)


def test_the_hash_of_a_text_never_changes() -> None:
    """A stored turn is found again by it."""
    golden = "a08202640205fe3d148889e3c4ef828cab38e3cf5ddb381d82e733415f8696e3"
    assert input_hash(TurnInput.text("What is the capital of Austria?")) == golden


@pytest.mark.parametrize(
    "more",
    [
        TurnInput(items=(TextItem("a"), ImageRefItem("b"))),
        TurnInput(items=(TextItem("a"), DocumentRefItem("b"))),
        TurnInput(items=(TextItem("a"),), context=TurnContext(model="p:m")),
        TurnInput(items=(TextItem("a"),), context=TurnContext(plugin_inputs={"p": TextItem("x")})),
    ],
    ids=["image", "document", "model", "plugin input"],
)
def test_what_is_more_than_text_takes_the_long_way(more: TurnInput) -> None:
    assert input_hash(more) != input_hash(TurnInput.text("a"))
    assert inputs._plain(more) == unstructure(more)
    assert unstructure(more) != unstructure(TurnInput.text("a"))
