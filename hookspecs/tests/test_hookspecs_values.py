"""Small behaviour of values: layers of prompts and options, sums of usage, contexts, services, errors."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

import attrs
import pytest
from attrs import frozen
from hookspecs_kit import values
from hypothesis import given, settings, strategies as st

from lash_hookspecs import (
    AppendSessionNodesRequest,
    AssembledTurn,
    AssistantMessage,
    AssistantOutput,
    CapabilityMissing,
    CheckpointHookContext,
    CheckpointKind,
    DirectCompletionClient,
    EnqueueMessages,
    ExecutionSummary,
    Finished,
    GenerationOptions,
    HookContext,
    LlmCallError,
    LlmCallFailed,
    Message,
    MessageRole,
    OutputState,
    Part,
    PartKind,
    PluginConflictError,
    PluginError,
    PluginMessage,
    PluginOrigin,
    PluginScope,
    PromptContribution,
    PromptLayer,
    PromptSection,
    PromptSlot,
    PromptTemplate,
    SessionAppendNode,
    SessionGraphService,
    SessionHookContext,
    SessionLifecycleService,
    SessionPolicy,
    SessionStateEnvelope,
    SessionStateService,
    SessionUsageReport,
    SlotEntry,
    SlotLayer,
    Stopped,
    StopReason,
    TextItem,
    TokenLedgerEntry,
    TokenUsage,
    TurnCall,
    TurnCause,
    TurnContext,
    TurnHookContext,
    TurnInput,
    UnknownName,
    declared_state,
    nearest,
    text_message,
)
from lash_hookspecs.contexts import binding

C = TypeVar("C", bound=HookContext)

GUIDANCE, INTRO = PromptSlot.GUIDANCE, PromptSlot.INTRO


def said(text: str, slot: PromptSlot = GUIDANCE) -> PromptContribution:
    return PromptContribution(content=text, slot=slot)


def texts(layer: PromptLayer, slot: PromptSlot = GUIDANCE) -> list[str]:
    return [each.content for each in layer.slots.get(slot, SlotLayer()).contributions]


ONE, TWO = PromptLayer().with_contribution(said("1")), PromptLayer().with_contribution(said("2"))
A = PromptTemplate((PromptSection((SlotEntry(INTRO),)),))
B = PromptTemplate((PromptSection((SlotEntry(GUIDANCE),)),))

# ---- prompt layers --------------------------------------------------------------------------------------------------

LAYERS = {
    "append": (TWO.over(ONE), ["1", "2"]),
    "replace": (PromptLayer().with_slot(GUIDANCE, said("2")).over(ONE), ["2"]),
    "append-after-replace": (PromptLayer().with_slot(GUIDANCE, said("2")).with_contribution(said("3")), ["2", "3"]),
    "append-over-replace": (TWO.over(PromptLayer().with_slot(GUIDANCE, said("0"))), ["0", "2"]),
    "append-over-clear": (TWO.over(PromptLayer().without_slot(GUIDANCE)), ["2"]),
    "clear": (PromptLayer().without_slot(GUIDANCE).over(ONE), []),
    "nothing-over": (PromptLayer().over(ONE), ["1"]),
    "over-nothing": (ONE.over(PromptLayer()), ["1"]),
    "replace-own": (ONE.with_slot(GUIDANCE, said("2")), ["2"]),
    "clear-own": (ONE.without_slot(GUIDANCE), []),
}


@pytest.mark.statement(68)
@pytest.mark.parametrize(("layer", "expected"), LAYERS.values(), ids=LAYERS)
def test_slots_append_or_are_replaced(layer: PromptLayer, expected: list[str]) -> None:
    """Slots append, also after a replace."""
    assert texts(layer) == expected


@pytest.mark.statement(68)
def test_the_last_template_wins() -> None:
    """The later template wins."""
    assert PromptLayer(template=B).over(PromptLayer(template=A)).template is B
    assert PromptLayer().over(PromptLayer(template=A)).template is A


@pytest.mark.statement(68)
def test_clearing_a_slot_leaves_the_others_alone() -> None:
    """A clear affects one slot."""
    below = ONE.with_contribution(said("hello", INTRO))
    assert texts(below.without_slot(GUIDANCE), INTRO) == ["hello"]
    assert texts(PromptLayer().without_slot(GUIDANCE).over(below), INTRO) == ["hello"]


@pytest.mark.statement(68)
def test_replacing_a_slot_moves_contributions_there() -> None:
    """Replace normalises the slot."""
    layer = PromptLayer().with_slot(INTRO, said("x", GUIDANCE), said("y", INTRO))
    assert [each.slot for each in layer.slots[INTRO].contributions] == [INTRO, INTRO]
    assert layer.slots[INTRO].reset


def test_a_reset_goes_on_to_hold_over_what_is_below() -> None:
    """Joined layers must say the same as the layers one by one, whichever are joined first."""
    upper = TWO.over(PromptLayer().with_slot(GUIDANCE, said("0")))
    assert texts(upper.over(ONE)) == ["0", "2"]


SAYINGS = st.lists(
    st.tuples(st.sampled_from(["say", "set", "clear"]), st.sampled_from("abc"), st.sampled_from([GUIDANCE, INTRO]))
)


@st.composite
def layers(draw: st.DrawFn) -> PromptLayer:
    layer = PromptLayer(template=draw(st.sampled_from([None, A, B])))
    for what, text, slot in draw(SAYINGS):
        match what:
            case "say":
                layer = layer.with_contribution(said(text, slot))
            case "set":
                layer = layer.with_slot(slot, said(text, slot))
            case _:
                layer = layer.without_slot(slot)
    return layer


@settings(max_examples=60, deadline=None)
@given(layers(), layers(), layers())
def test_layers_are_joined_in_any_grouping(top: PromptLayer, middle: PromptLayer, bottom: PromptLayer) -> None:
    assert top.over(middle).over(bottom) == top.over(middle.over(bottom))
    assert PromptLayer().over(top) == top == top.over(PromptLayer())


def test_instructions_of_a_policy_are_added_one_by_one() -> None:
    policy = SessionPolicy(model="m:x").with_instructions("a").with_instructions("b")
    assert texts(policy.prompt, PromptSlot.PROJECT_INSTRUCTIONS) == ["a", "b"]


# ---- options and usage ----------------------------------------------------------------------------------------------

FULL = GenerationOptions(output_token_cap=1, temperature=1.0, seed=1, stop_sequences=("x",))
ZERO = GenerationOptions(output_token_cap=2, temperature=0.0, seed=0, stop_sequences=("y",))


@pytest.mark.parametrize(
    ("options", "base", "expected"),
    [
        (GenerationOptions(), FULL, FULL),
        (FULL, GenerationOptions(), FULL),
        (ZERO, FULL, ZERO),  # 0 is a setting, not its absence
        (GenerationOptions(seed=2), FULL, attrs.evolve(FULL, seed=2)),
        (GenerationOptions(), GenerationOptions(), GenerationOptions()),
    ],
    ids=["open", "nothing-below", "zeros", "one-field", "nothing"],
)
def test_options_fill_in_what_is_left_open(
    options: GenerationOptions, base: GenerationOptions, expected: GenerationOptions
) -> None:
    assert options.over(base) == expected


OPTIONS = values(GenerationOptions)


@given(OPTIONS, OPTIONS, OPTIONS)
def test_options_are_joined_in_any_grouping(a: GenerationOptions, b: GenerationOptions, c: GenerationOptions) -> None:
    assert a.over(b).over(c) == a.over(b.over(c))
    assert a.over(a) == a


def test_the_options_know_all_their_fields() -> None:
    """A field that is added must be joined as well."""
    assert FULL.over(ZERO) == FULL
    assert all(getattr(FULL, each.name) != each.default for each in attrs.fields(GenerationOptions))


USAGES = values(TokenUsage)


@given(USAGES, USAGES, USAGES)
def test_usage_adds_up(a: TokenUsage, b: TokenUsage, c: TokenUsage) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + TokenUsage() == a
    assert (a + b).total == a.total + b.total
    assert (a + b).at_least is (a.at_least or b.at_least)


def test_totals_count_every_token_once() -> None:
    """Reasoning is a part of the output; cached tokens are none of the plain input."""
    usage = TokenUsage(input=1, output=10, cache_read_input=100, cache_write_input=1_000, reasoning_output=5)
    assert usage.input_total == 1_101
    assert usage.total == 1_111
    doubled = usage + usage
    numbers = [each.name for each in attrs.fields(TokenUsage) if each.name != "service_tier"]
    assert all(getattr(doubled, name) == 2 * getattr(usage, name) for name in numbers)


def entry(n: int) -> TokenLedgerEntry:
    return TokenLedgerEntry(source="s", model="m", usage=TokenUsage(input=n))


def assembled(**changes: Any) -> AssembledTurn:
    return attrs.evolve(
        AssembledTurn(
            turn_id="t",
            state=SessionStateEnvelope(session_id="s", turn_index=1, head_revision=1, leaf_node_id=None),
            outcome=Finished(AssistantMessage("hi")),
            assistant_output=AssistantOutput(safe_text="hi", raw_text="hi \n", state=OutputState.USABLE),
            execution=ExecutionSummary(mode="standard"),
        ),
        **changes,
    )


def test_a_turns_usage_includes_its_children() -> None:
    turn = assembled(token_usage=TokenUsage(input=1, output=1), children_usage=(entry(2), entry(4)))
    assert turn.usage == TokenUsage(input=7, output=1)
    assert SessionUsageReport((entry(1), entry(2))).total == TokenUsage(input=3)
    assert SessionUsageReport().total == TokenUsage()


def test_a_turn_is_a_success_if_it_reached_its_end() -> None:
    assert assembled().is_success
    assert assembled().text == "hi"
    assert not assembled(outcome=Stopped(StopReason.CANCELLED)).is_success


# ---- messages and inputs --------------------------------------------------------------------------------------------


def test_the_text_of_a_message_is_its_words() -> None:
    kinds = [PartKind.TEXT, PartKind.REASONING, PartKind.PROSE, PartKind.TOOL_CALL, PartKind.CODE]
    parts = tuple(Part(id=f"m.p{n}", kind=kind, content=str(n)) for n, kind in enumerate(kinds))
    assert Message(id="m", role=MessageRole.ASSISTANT, parts=parts).text == "0\n2"
    assert Message(id="m", role=MessageRole.ASSISTANT).text == ""


def test_only_a_plugins_passing_message_is_transient() -> None:
    for origin, expected in ((None, False), (PluginOrigin("p"), False), (PluginOrigin("p", transient=True), True)):
        assert text_message("m", MessageRole.SYSTEM, "x", origin=origin).is_transient is expected


def test_a_cause_becomes_an_event_that_knows_where_it_came_from() -> None:
    cause = TurnCause(id="w", event_type="tick", origin=PluginOrigin("p"), text="tick")
    assert cause.to_event_message() == text_message("w", MessageRole.EVENT, "tick", origin=PluginOrigin("p"))


def test_an_input_is_built_step_by_step() -> None:
    plain = TurnInput.text("look")
    both = plain.with_image("i", b"png")
    assert plain.items == (TextItem("look"),)
    assert [type(each).__name__ for each in both.items] == ["TextItem", "ImageRefItem"]
    assert plain.image_blobs == {}
    assert "png" not in repr(both)


def test_short_forms_for_one_message() -> None:
    note = PluginMessage(role=MessageRole.SYSTEM, content="x")
    assert EnqueueMessages.note("x", transient=True) == EnqueueMessages((note,), transient=True)
    assert SessionAppendNode.user("m", "x").message == text_message("m", MessageRole.USER, "x")


def test_values_cant_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        TextItem("x").text = "y"  # type: ignore[misc]  # that is the point


# ---- contexts -------------------------------------------------------------------------------------------------------


@frozen
class Counter:
    n: int = 0


@frozen
class Demanding:
    n: int


def scope(state_type: type | None = Counter, state: Any = Counter()) -> PluginScope:
    return PluginScope("plan", host="host", options={"a": 1}, state=state, state_type=state_type)


def call(**changes: Any) -> TurnCall:
    return TurnCall(
        **{
            "session_id": "s",
            "mode_id": "standard",
            "policy": SessionPolicy(model="m:x"),
            "turn_id": "t",
            "turn_input": TurnInput.text("hi"),
            "moment": lambda: (0, ()),
            "tools": tuple,
            "kind": CheckpointKind.AFTER_WORK,
            **changes,
        }
    )


def bound(context: type[C], corner: PluginScope, about: TurnCall) -> C:
    return binding(context, {"plan": corner}, about)("plan")


def test_a_context_shows_the_call_and_the_plugins_corner() -> None:
    ctx = bound(CheckpointHookContext, scope(), call(reason="opened", moment=lambda: (2, ()), turn_index=3))
    assert (ctx.plugin_id, ctx.host, ctx.options, ctx.state) == ("plan", "host", {"a": 1}, Counter())
    assert (ctx.session_id, ctx.mode_id, ctx.policy.model, ctx.reason) == ("s", "standard", "m:x", "opened")
    assert (ctx.turn_id, ctx.iteration, ctx.turn_index, ctx.kind) == ("t", 2, 3, CheckpointKind.AFTER_WORK)
    assert (ctx.messages, ctx.tools, ctx.turn_input, ctx.tool_owners) == ((), (), TurnInput.text("hi"), {})
    assert isinstance(ctx, TurnHookContext)
    assert isinstance(ctx, SessionHookContext)


def test_a_new_state_takes_the_place_of_the_old_one() -> None:
    corner = scope()
    first, second = bound(HookContext, corner, call()), bound(HookContext, corner, call())
    first.set_state(Counter(1))
    assert second.state == corner.state == Counter(1)


@pytest.mark.parametrize(
    ("corner", "new", "text"),
    [
        (scope(None, None), Counter(), "no session state is declared"),
        (scope(), Demanding(1), "must be a `Counter`, not a `Demanding`"),
        (scope(), None, "must be a `Counter`, not a `NoneType`"),
        (scope(), {"n": 1}, "not a `dict`"),
        (scope(), Counter, "not a `type`"),
    ],
    ids=["undeclared", "another-class", "none", "data", "class"],
)
def test_a_state_of_another_kind_is_refused(corner: PluginScope, new: Any, text: str) -> None:
    """The error names the plugin, and the old state stays."""
    before = corner.state
    with pytest.raises(PluginError, match=f"plugin `plan`, hook `lash_session_state`: .*{text}") as caught:
        bound(HookContext, corner, call()).set_state(new)
    assert (caught.value.plugin_id, caught.value.hook) == ("plan", "lash_session_state")
    assert corner.state is before


def test_a_context_takes_no_attributes_of_a_plugins() -> None:
    """What it hung on one would be gone with the turn: what lasts is its state."""
    with pytest.raises(AttributeError):
        bound(HookContext, scope(), call()).remembered = 1  # type: ignore[attr-defined]  # that is the point


def test_a_plugin_has_one_context_for_all_calls_of_a_turn_which_follows_them() -> None:
    """Making one for each call was most of what calling ten hooks cost. Where the turn stands is asked once a call."""
    moments = iter([(0, ()), (1, ())])
    about = call(moment=lambda: next(moments))
    bind = binding(TurnHookContext, {"plan": scope(), "other": scope()}, about)
    ctx = bind("plan")
    assert bind("plan") is ctx
    assert bind("other") is not ctx
    assert [ctx.iteration, ctx.iteration, bind("other").iteration] == [0, 0, 0]
    about.known = None
    assert ctx.iteration == 1


def test_a_plugin_sees_only_its_own_typed_input() -> None:
    given = TurnInput(context=TurnContext(plugin_inputs={"plan": Counter(3), "other": Demanding(1)}))
    ctx = bound(TurnHookContext, scope(), call(turn_input=given))
    assert ctx.plugin_input(Counter) == Counter(3)
    assert ctx.plugin_input(Demanding) is None
    assert bound(TurnHookContext, scope(), call()).plugin_input(Counter) is None


def test_a_first_state_is_made_of_defaults() -> None:
    assert declared_state(Counter) == Counter(0)
    with pytest.raises(TypeError, match="no attrs class"):
        declared_state(dict)
    with pytest.raises(TypeError, match="n"):
        declared_state(Demanding)


# ---- services -------------------------------------------------------------------------------------------------------

SERVICES = [SessionStateService, SessionLifecycleService, SessionGraphService, DirectCompletionClient]
METHODS = [(cls, name) for cls in SERVICES for name in vars(cls) if not name.startswith("_")]
GIVEN = {
    "session_id": "s",
    "turn_id": "t",
    "input": TurnInput.text("x"),
    "request": AppendSessionNodesRequest(operation_id="o", nodes=()),
    "asked": "x",
}


@pytest.mark.parametrize(("service", "method"), METHODS, ids=lambda each: getattr(each, "__name__", each))
async def test_a_service_that_isnt_offered_says_so(service: Any, method: str) -> None:
    """Every method has a default, so an embedding overrides what it can do and nothing else."""
    call_it = getattr(service(), method)
    needed = [each.name for each in inspect.signature(call_it).parameters.values() if each.default is each.empty]
    arguments = {name: GIVEN[name] for name in needed}
    with pytest.raises(CapabilityMissing, match=r"^[a-z].* is unavailable in this runtime$"):
        await call_it(**arguments)


async def test_an_embedding_overrides_what_it_offers() -> None:
    class Closing(SessionLifecycleService):
        async def close_session(self, session_id: str) -> None:
            return None

    assert await Closing().close_session("s") is None
    with pytest.raises(CapabilityMissing, match="running turns"):
        await Closing().start_turn("s", "t", TurnInput.text("x"))


# ---- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "known", "clause"),
    [
        ("standrad", ["standard", "code"], "did you mean `standard`?"),
        ("x", ["standard", "code"], "known: `code`, `standard`"),
        ("x", [], "none is known here"),
        ("x", [f"name{n:02}" for n in range(13)], "`name11`, …"),
    ],
)
def test_an_unknown_name_suggests_what_there_is(name: str, known: list[str], clause: str) -> None:
    assert clause in nearest(name, known)
    error = UnknownName("mode", name, known)
    assert (error.kind, error.name) == ("mode", name)
    assert str(error) == f"unknown mode `{name}`: {nearest(name, known)}"
    assert str(UnknownName("mode", name, known, hint="install it")) == f"unknown mode `{name}`: install it"


def test_errors_carry_what_a_program_needs() -> None:
    conflict = PluginConflictError(["a and b claim x", "c and d claim y"])
    assert conflict.conflicts == ("a and b claim x", "c and d claim y")
    assert "a and b claim x\n  c and d claim y" in str(conflict)
    failed = LlmCallFailed(LlmCallError(message="openai: no key", retryable=False))
    assert str(failed) == "openai: no key"
    assert not failed.error.retryable
