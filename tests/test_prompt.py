"""The system prompt: what is said, in which order, and by whom."""

from __future__ import annotations

from hashlib import sha256

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from lash_framework.prompt import (
    KERNEL_OWNER,
    REMEMBERED,
    OwnedContribution,
    OwnedLayer,
    PromptInputs,
    PromptRenderer,
    render_prompt,
    resolve_layers,
)
from lash_hookspecs.prompts import (
    BuiltinEntry,
    DroppedPiece,
    DropReason,
    PromptBuiltin,
    PromptContribution,
    PromptLayer,
    PromptSection,
    PromptSlot,
    PromptTemplate,
    SlotEntry,
    SlotLayer,
    TextEntry,
)

GUIDANCE, EXECUTION, ENVIRONMENT = PromptSlot.GUIDANCE, PromptSlot.EXECUTION, PromptSlot.ENVIRONMENT
ONLY_GUIDANCE = PromptTemplate((PromptSection((SlotEntry(GUIDANCE),)),))


def says(content: str, slot: PromptSlot = GUIDANCE, **more) -> PromptContribution:
    return PromptContribution(content=content, slot=slot, **more)


def layers(*given: PromptLayer) -> tuple[OwnedLayer, ...]:
    return tuple(OwnedLayer(owner, layer) for owner, layer in zip(("host", "session", "turn"), given, strict=False))


def owned(*given: PromptContribution) -> tuple[OwnedContribution, ...]:
    return tuple(OwnedContribution(f"plugin-{n}", each) for n, each in enumerate(given))


def held(*given: PromptLayer) -> list[tuple[str, str, PromptSlot]]:
    _, kept, _ = resolve_layers(layers(*given))
    return [(each.owner, each.contribution.content, each.contribution.slot) for each in kept]


def bare(*contributions: PromptContribution, **more) -> PromptInputs:
    """Inputs whose template shows the guidance slot alone."""
    lowest = OwnedLayer("host", PromptLayer(template=ONLY_GUIDANCE))
    return PromptInputs(layers=(lowest,), contributions=owned(*contributions), **more)


# ---- layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.statement(68)
def test_the_last_template_wins():
    """A higher layer's template replaces a lower one's; a layer without one leaves it."""
    first, second = (PromptTemplate((PromptSection((TextEntry(each),)),)) for each in ("first", "second"))
    inputs = PromptInputs(layers=layers(PromptLayer(first), PromptLayer(second), PromptLayer()))
    prompt = render_prompt(inputs)
    assert prompt.text == "second"
    assert prompt.pieces[0].owners == ("session",)


@pytest.mark.statement(68)
@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (
            PromptLayer().with_contribution(says("a")),
            PromptLayer().with_contribution(says("b")),
            [("host", "a", GUIDANCE), ("session", "b", GUIDANCE)],
        ),
        (
            PromptLayer().with_contribution(says("a")).with_contribution(says("e", EXECUTION)),
            PromptLayer().without_slot(GUIDANCE),
            [("host", "e", EXECUTION)],
        ),
        (
            PromptLayer().with_contribution(says("a")),
            PromptLayer().with_slot(GUIDANCE, says("b", EXECUTION)),
            [("session", "b", GUIDANCE)],
        ),
        (
            PromptLayer().with_contribution(says("a")),
            PromptLayer().with_slot(GUIDANCE, says("b")).with_contribution(says("c")),
            [("session", "b", GUIDANCE), ("session", "c", GUIDANCE)],
        ),
        (
            PromptLayer().with_slot(GUIDANCE, says("a")),
            PromptLayer().with_contribution(says("b")),
            [("host", "a", GUIDANCE), ("session", "b", GUIDANCE)],
        ),
    ],
    ids=["append", "clear-one", "replace-moves", "append-after-replace", "append-onto-replace"],
)
def test_how_layers_add_up(low, high, expected):
    """Slots append; clearing affects one slot; replacing puts contributions into its slot and still takes more."""
    assert held(low, high) == expected


def _layer(draw_slots) -> PromptLayer:
    return PromptLayer(
        slots={
            slot: SlotLayer(reset=reset, contributions=tuple(says(text, slot) for text in texts))
            for slot, (reset, texts) in draw_slots.items()
        }
    )


SLOTS = st.dictionaries(
    st.sampled_from([GUIDANCE, EXECUTION]), st.tuples(st.booleans(), st.lists(st.text("ab", min_size=1), max_size=2))
)


@pytest.mark.statement(68)
@given(st.lists(SLOTS.map(_layer), min_size=1, max_size=3))
def test_layers_with_owners_add_up_like_layers_without(given_layers):
    """Resolving with owners holds exactly what `PromptLayer.over` holds."""
    merged = given_layers[0]
    for higher in given_layers[1:]:
        merged = higher.over(merged)
    plain = sorted((slot, each.content) for slot, held in merged.slots.items() for each in held.contributions)
    assert sorted((slot, content) for _, content, slot in held(*given_layers)) == plain


@pytest.mark.statement(77, page="plugin-system")
def test_a_reset_drops_layers_but_not_plugins():
    """Resetting a slot silences lower layers; what plugins contribute stays, and what was dropped is listed."""
    inputs = evolve(
        bare(says("from a plugin")),
        layers=layers(
            PromptLayer(template=ONLY_GUIDANCE).with_contribution(says("low")),
            PromptLayer().with_slot(GUIDANCE, says("high")),
        ),
    )
    prompt = render_prompt(inputs)
    assert prompt.text == "from a plugin\n\nhigh"
    (dropped,) = prompt.dropped
    assert dropped == DroppedPiece(
        owner="host", slot=GUIDANCE, title=None, reason=DropReason.RESET, because="layer `session`"
    )


# ---- contributions --------------------------------------------------------------------------------------------------


@pytest.mark.statement(69)
def test_the_same_words_are_said_once():
    """Equal contributions collapse into one that names everybody who made it."""
    prompt = render_prompt(bare(says("be brief"), says(" be brief\n", priority=5), says("be brief", title="Style")))
    assert prompt.text == "be brief\n\n### Style\n\nbe brief"
    assert prompt.pieces[0].owners == ("plugin-0", "plugin-1")
    assert [(each.owner, each.reason, each.because) for each in prompt.dropped] == [
        ("plugin-1", DropReason.DUPLICATE, "said by `plugin-0`")
    ]


@pytest.mark.statement(69)
def test_equal_inputs_give_the_identical_prompt():
    """Rendering equal inputs again returns the same object; other inputs another one, and only the latest are kept."""
    renderer = PromptRenderer()
    first = renderer.render(bare(says("a")))
    assert renderer.render(bare(says("a"))) is first
    second = renderer.render(bare(says("a"), callable_tools=frozenset({"look"})))
    assert second is not first
    assert second == first
    assert renderer.render(bare(says("a"))) is first
    for n in range(REMEMBERED):
        renderer.render(bare(says(str(n))))
    assert renderer.render(bare(says("a"))) is not first


@pytest.mark.statement(74, page="plugin-system")
@pytest.mark.statement(70)
def test_contributions_are_ordered():
    """Lower priority first, then title, then content; the order of plugins doesn't matter."""
    given_ones = [says("z", priority=-1), says("b"), says("c", title="A"), says("a", title="B"), says("a")]
    text = render_prompt(bare(*given_ones)).text
    assert text == "z\n\na\n\nb\n\n### A\n\nc\n\n### B\n\na"
    assert render_prompt(bare(*reversed(given_ones))).text == text


@pytest.mark.statement(75, page="plugin-system")
@pytest.mark.statement(70)
def test_empty_sections_vanish():
    """A section whose pieces are all blank leaves no heading."""
    prompt = render_prompt(PromptInputs(contributions=owned(says(" \n ", ENVIRONMENT, title="Time"))))
    assert "## Environment" not in prompt.text
    assert "## Execution" not in prompt.text
    assert [each.reason for each in prompt.dropped] == [DropReason.BLANK]


@pytest.mark.statement(70)
@pytest.mark.parametrize("tools", [frozenset(), frozenset({"ask"})], ids=["without", "with"])
def test_asking_is_explained_only_to_who_can_ask(tools):
    """The line about asking the user is there only if the tool `ask` can be called."""
    assert ("`ask`" in render_prompt(PromptInputs(callable_tools=tools)).text) == bool(tools)


@pytest.mark.statement(76, page="plugin-system")
@pytest.mark.statement(71)
@pytest.mark.parametrize(
    ("tools", "kept"),
    [(frozenset(), False), (frozenset({"write"}), False), (frozenset({"look", "write"}), True)],
    ids=["none", "other", "one-of-them"],
)
def test_a_gate_needs_one_of_its_tools(tools, kept):
    """A contribution about tools is shown only if the model can call at least one of them. (Gates only: the catalog
    and its internal tools are tested with the kernel's.)"""
    prompt = render_prompt(bare(says("use it well", tools=frozenset({"look", "feel"})), callable_tools=tools))
    assert prompt.text == ("use it well" if kept else "")
    told = [(each.reason, each.because) for each in prompt.dropped]
    assert told == ([] if kept else [(DropReason.GATED, "no tool of `feel`, `look`")])


# ---- the whole ------------------------------------------------------------------------------------------------------


def test_the_default_prompt():
    """Intro, execution, guidance and environment in this order, with headings, separated by single blank lines."""
    prompt = render_prompt(
        PromptInputs(
            contributions=owned(
                says("It is Monday.", ENVIRONMENT),
                says("Use tabs.", PromptSlot.PROJECT_INSTRUCTIONS, title="AGENTS.md"),
                says("Think of tests."),
                says("Session 7.", PromptSlot.RUNTIME_CONTEXT),
                says("You are Ada.", PromptSlot.INTRO),
            ),
            execution_prompt="\nCall tools.\n",
            execution_owner="mode-standard",
        )
    )
    expected = ["You are an agent", "You are Ada.", "## Execution\n\nCall tools.\n\n## Guidance\n\n- Look"]
    expected += ["### AGENTS.md\n\nUse tabs.\n\nThink of tests.\n\n## Environment\n\nSession 7.\n\nIt is Monday."]
    positions = [prompt.text.index(each) for each in expected]
    assert positions == sorted(positions)
    assert prompt.text.endswith(expected[-1])
    assert "\n\n\n" not in prompt.text


def test_every_piece_is_accounted_for():
    """Each piece names its owner and stands where it says; pieces, headings and blank lines are the whole text."""
    inputs = PromptInputs(
        layers=layers(PromptLayer().with_contribution(says("für alle", title="Ü"))),
        contributions=owned(says("one", EXECUTION), says("two", ENVIRONMENT)),
        execution_prompt="Call tools.",
        execution_owner="mode-standard",
    )
    prompt = render_prompt(inputs)
    rest = prompt.text
    for piece in prompt.pieces:
        text = prompt.text[piece.start : piece.end]
        assert piece.sha256 == sha256(text.encode()).hexdigest()
        rest = rest.replace(text, "", 1)
    assert rest.split() == ["##", "Execution", "##", "Guidance", "##", "Environment"]
    rows = [(each.section, each.slot, each.title, each.owners) for each in prompt.pieces]
    assert rows == [
        (None, None, None, (KERNEL_OWNER,)),
        ("Execution", None, None, ("mode-standard",)),
        ("Execution", EXECUTION, None, ("plugin-0",)),
        ("Guidance", None, None, (KERNEL_OWNER,)),
        ("Guidance", GUIDANCE, "Ü", ("host",)),
        ("Environment", ENVIRONMENT, None, ("plugin-1",)),
    ]


def test_a_contribution_without_a_place_is_listed():
    """A template that doesn't show a slot drops what is in it, and says so."""
    prompt = render_prompt(bare(says("here"), says("nowhere", ENVIRONMENT)))
    assert prompt.text == "here"
    assert prompt.dropped == (DroppedPiece(owner="plugin-1", slot=ENVIRONMENT, title=None, reason=DropReason.NO_PLACE),)


def test_a_blank_template_is_a_blank_prompt():
    """Blank texts, builtins without text and empty slots leave nothing at all."""
    entries = (TextEntry(" "), BuiltinEntry(PromptBuiltin.EXECUTION_INSTRUCTIONS), SlotEntry(GUIDANCE))
    template = PromptTemplate((PromptSection(entries, title="Nothing"), PromptSection((), title=" ")))
    assert render_prompt(PromptInputs(layers=layers(PromptLayer(template)))).text == ""
