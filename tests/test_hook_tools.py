"""Hooks around a tool call: what each is told, what its return does, and what follows when it raises."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from agents import plugin
from attrs import frozen
from hook_kit import Plugin, Told, asked, opened

from lash_framework import Lash
from lash_hookspecs import (
    AbortTurn,
    AssembledTurn,
    AttachmentRef,
    CompletedToolCall,
    DenyToolCall,
    EmitEvents,
    EmitTrace,
    EnqueueMessages,
    FinishControl,
    ModelToolReturn,
    OutputEnd,
    PendingToolCall,
    PluginSurface,
    ReplaceToolArgs,
    ReplaceToolResult,
    SessionStateSpec,
    ShortCircuitTool,
    SurfaceEvent,
    TextPart,
    Tool,
    ToolActivation,
    ToolCallCompleted,
    ToolCallContext,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallStarted,
    ToolCallSuccess,
    ToolFailureClass,
    ToolFailureSource,
    ToolInterventionKind,
    hookimpl,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

CALL = Reply(text="Let me see.", tool_calls=[Call("shout", {"text": "hi"}, "c1")])

Kind = ToolInterventionKind


class Shouting(Plugin):
    """Offers a tool, and notes what it was called with."""

    def __init__(self) -> None:
        super().__init__("shouting")

    @hookimpl
    def lash_tools(self) -> list[Tool]:
        @tool(keeps=OutputEnd.TAIL)
        async def shout(text: str) -> str:
            "The text in capital letters."
            self.calls.append(text)
            return text.upper()

        @tool
        async def both(ctx: ToolCallContext, one: str, other: str) -> list[str]:
            "Shout twice."
            assert ctx.call_tool is not None
            found = [await ctx.call_tool(at, "shout", {"text": text}) for at, text in enumerate((one, other))]
            return ["".join(part.text for part in each.model_return.parts) for each in found]  # type: ignore[union-attr]

        return [shout, both]


def before(plugin_id: str, says: Callable[..., Any]) -> object:
    """A plugin with one hook; `says` is told the context and the call."""

    async def lash_before_tool_call(ctx: Any, call: PendingToolCall) -> Any:
        return says(ctx, call)

    return plugin(plugin_id, lash_before_tool_call)


def after(plugin_id: str, says: Callable[..., Any]) -> object:
    async def lash_after_tool_call(ctx: Any, call: PendingToolCall, result: ToolCallOutput) -> Any:
        return says(ctx, call, result)

    return plugin(plugin_id, lash_after_tool_call)


def view(plugin_id: str, says: Callable[..., Any]) -> object:
    async def lash_tool_result_view(ctx: Any, call: CompletedToolCall, view: ModelToolReturn) -> Any:
        return says(ctx, call, view)

    return plugin(plugin_id, lash_tool_result_view)


class Ran:
    """A turn that ran: its result, what the tool was called with, what was shown, what the model read."""

    def __init__(self) -> None:
        self.tool = Shouting()
        self.model = Told([CALL, "Done."])
        self.events: list[Any] = []
        self.turn: AssembledTurn | None = None

    @property
    def read(self) -> str:
        """What the model read of the first call."""
        return asked(self.model)

    def outcome(self, at: int = 0) -> Any:
        assert self.turn is not None
        return self.turn.tool_calls[at].output.outcome

    def did(self, at: int = 0) -> list[tuple[str, Kind]]:
        assert self.turn is not None
        return [(each.plugin_id, each.kind) for each in self.turn.tool_calls[at].interventions]


async def ran(*plugins: object, says: list[Any] | None = None, **options: Any) -> Ran:
    made = Ran()
    if says is not None:
        made.model = Told(says)
    async with opened(made.tool, *plugins, says=made.model, **options) as lash:
        session = await lash.session("s")
        async with session.turn("go") as running:
            made.events = [activity.event async for activity in running]
            made.turn = await running.result()
        if says is None:
            assert made.turn.text == "Done."
    return made


async def explained(lash: Lash, turn: AssembledTurn) -> list[tuple[str, str, str]]:
    found = await lash.explain(turn.turn_id)
    return [(each.tool_name, each.plugin_id, each.what) for each in found.calls]


# ---- lash_before_tool_call ------------------------------------------------------------------------------------------


@pytest.mark.statement(42, page="plugin-system")
async def test_hook_lash_before_tool_call_is_told_of_the_call_and_its_tool() -> None:
    """A hook gets the call with all that is known of its tool: id, name, arguments, manifest, owner, the turn."""
    told: list[Any] = []

    def says(ctx: Any, call: PendingToolCall) -> None:
        told.append((ctx.call_id, ctx.tool_name, ctx.args, ctx.manifest.description, ctx.tool_owner))
        told.append((ctx.parent_call_id, ctx.is_reinspection, ctx.iteration, ctx.plugin_id, call.args))
        told.append(ctx.manifest.keeps)

    found = await ran(before("guard", says))
    assert told == [
        ("c1", "shout", {"text": "hi"}, "The text in capital letters.", "shouting"),
        (None, False, 0, "guard", {"text": "hi"}),
        OutputEnd.TAIL,
    ]
    assert found.tool.calls == ["hi"]
    assert found.did() == []


@pytest.mark.statement(32, 33, page="plugin-system")
async def test_hook_lash_before_tool_call_denies_a_call_which_never_reaches_its_tool() -> None:
    """A denial wins over any answer; the model reads it, the turn goes on, and everybody sees whose it was."""
    answer = before("early", lambda ctx, call: ShortCircuitTool("never said"))
    guard = before("guard", lambda ctx, call: DenyToolCall("Shouting is not allowed here.", "quiet"))
    late = before("late", lambda ctx, call: ShortCircuitTool("nor this"))
    found = await ran(answer, guard, late)
    assert found.tool.calls == []
    outcome = found.outcome()
    assert (outcome.code, outcome.message) == ("quiet", "Shouting is not allowed here.")
    assert (outcome.failure_class, outcome.source) == (ToolFailureClass.PERMISSION_DENIED, ToolFailureSource.POLICY)
    assert "Error: Shouting is not allowed here." in found.read
    assert found.did() == [("guard", Kind.DENIED), ("early", Kind.OVERRULED), ("late", Kind.OVERRULED)]
    (completed,) = [each for each in found.events if isinstance(each, ToolCallCompleted)]
    assert [(each.plugin_id, each.kind, each.by) for each in completed.interventions] == [
        ("guard", Kind.DENIED, None),
        ("early", Kind.OVERRULED, "guard"),
        ("late", Kind.OVERRULED, "guard"),
    ]


async def test_hook_lash_before_tool_call_changes_the_arguments_that_the_tool_gets() -> None:
    found = await ran(before("polite", lambda ctx, call: ReplaceToolArgs({"text": f"{call.args['text']}, please"})))
    assert found.tool.calls == ["hi, please"]
    assert found.turn is not None
    assert found.turn.tool_calls[0].args == {"text": "hi, please"}
    assert found.did() == [("polite", Kind.ARGS_REPLACED)]
    (started,) = [each for each in found.events if isinstance(each, ToolCallStarted)]
    assert started.args == {"text": "hi, please"}


@pytest.mark.statement(43, page="plugin-system")
async def test_arguments_are_checked_after_the_hooks_so_that_those_of_a_plugin_are_checked_too() -> None:
    """Invalid arguments never reach the tool, whoever made them; what a hook mends is called."""
    broken = await ran(before("broken", lambda ctx, call: ReplaceToolArgs({"text": 1})))
    assert broken.tool.calls == []
    assert broken.outcome().code == "invalid_arguments"
    assert broken.did() == [("broken", Kind.ARGS_REPLACED)]
    wrong = Reply(tool_calls=[Call("shout", {"words": "hi"}, "c1")])
    mending = before("mending", lambda ctx, call: ReplaceToolArgs({"text": call.args["words"]}))
    assert (await ran(mending, says=[wrong, "Done."])).tool.calls == ["hi"]


async def test_hook_lash_before_tool_call_answers_in_the_tools_place() -> None:
    """With any JSON value, or with a whole output, which may end the turn as a tool's may."""
    found = await ran(before("cache", lambda ctx, call: ShortCircuitTool({"said": "HI"})))
    assert found.tool.calls == []
    assert found.outcome() == ToolCallSuccess({"said": "HI"})
    assert found.did() == [("cache", Kind.SHORT_CIRCUITED)]
    ends = ToolCallOutput(ToolCallSuccess(1), FinishControl("enough"))
    finished = await ran(before("ends", lambda ctx, call: ShortCircuitTool(ends)), says=[CALL])
    assert finished.turn is not None
    assert finished.turn.text == "enough"


@pytest.mark.statement(38, 40, page="plugin-system")
async def test_a_change_is_shown_to_later_hooks_and_once_more_to_earlier_ones() -> None:
    """Of what they say then only a denial counts: no event is shown twice, no state is kept, no answer decides."""
    seen: list[tuple[str, str, bool]] = []

    @frozen
    class Count:
        seen: int = 0

    class Early(Plugin):
        @hookimpl
        def lash_session_state(self) -> SessionStateSpec:
            return SessionStateSpec(state=Count)

        @hookimpl
        async def lash_before_tool_call(self, ctx: Any, call: PendingToolCall) -> Any:
            seen.append(("early", call.args["text"], ctx.is_reinspection))
            ctx.set_state(Count(ctx.state.seen + 1))
            said = [EmitEvents((SurfaceEvent(name="look", payload=ctx.state.seen),)), EmitTrace("look")]
            return [*said, ShortCircuitTool("no")] if ctx.is_reinspection else said

        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> None:
            self.calls.append(ctx.state.seen)

    early = Early("early")

    def late(ctx: Any, call: PendingToolCall) -> None:
        seen.append(("late", call.args["text"], ctx.is_reinspection))

    found = await ran(early, before("f", lambda ctx, call: ReplaceToolArgs({"text": "ho"})), before("late", late))
    assert seen == [("early", "hi", False), ("late", "ho", False), ("early", "ho", True)]
    assert found.tool.calls == ["ho"]
    assert [each.payload for each in found.events if isinstance(each, PluginSurface)] == [1]
    assert set(early.calls) == {1}


async def test_an_earlier_hook_may_deny_what_a_later_one_made_of_the_call() -> None:
    def says(ctx: Any, call: PendingToolCall) -> Any:
        return DenyToolCall(f"not `{call.args['text']}`") if call.args["text"] == "rude" else None

    found = await ran(before("a", says), before("b", lambda ctx, call: ReplaceToolArgs({"text": "rude"})))
    assert found.tool.calls == []
    assert found.outcome().message == "not `rude`"
    assert found.did() == [("a", Kind.DENIED)]


@pytest.mark.statement(39, 41, page="plugin-system")
async def test_two_plugins_that_both_change_the_arguments_fail_the_call_and_are_both_named() -> None:
    """Two unconditional replacers fail closed: a typed failure with both names, and the tool isn't called."""

    def changes(text: str) -> Callable[..., Any]:
        return lambda ctx, call: ReplaceToolArgs({"text": text})

    found = await ran(before("one", changes("1")), before("other", changes("2")))
    assert found.tool.calls == []
    outcome = found.outcome()
    assert outcome.code == "tool_hooks_conflict"
    assert outcome.message == (
        "`shout` was not called: plugins `one` and `other` both change its arguments, each time in another way; "
        "let one change say all, or switch one of the plugins off"
    )
    assert found.did() == [("one", Kind.FAILED), ("other", Kind.FAILED)]


FAULTS: dict[str, tuple[Any, str]] = {
    "raises": (None, "RuntimeError: it is broken"),
    "a foreign thing": ({"not": "a directive"}, "returned a `dict`"),
    "a turn's directive": (AbortTurn("stop", "Stop."), "returned a `AbortTurn`; expected is"),
    "one of the other seam": (ReplaceToolResult(1), "returned a `ReplaceToolResult`"),
    "no JSON": (ReplaceToolArgs({"text": object()}), "what its `ReplaceToolArgs` holds can't be stored"),
    "not in the store": (
        ShortCircuitTool(
            ToolCallOutput(ToolCallSuccess(1, (AttachmentRef(id="sha256-1", media_type="image/png", size=1),)))
        ),
        "attachment `sha256-1` is not in the store",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_hook_lash_before_tool_call_that_fails_is_its_calls_failure_and_named(fault: str) -> None:
    """What it raises, or may not say at this seam. The tool isn't called, and what other hooks changed is undone."""
    value, text = FAULTS[fault]

    def says(ctx: Any, call: PendingToolCall) -> Any:
        if fault == "raises":
            raise RuntimeError("it is broken")
        return value

    found = await ran(before("bad", says))
    assert found.tool.calls == []
    outcome = found.outcome()
    assert outcome.code == "before_tool_call_failed"
    assert outcome.message.startswith("`shout` was not called: plugin `bad`")
    assert text in outcome.message
    assert found.did() == [("bad", Kind.FAILED)]


async def test_nobody_is_asked_about_a_tool_that_is_not_there() -> None:
    told: list[str] = []
    wrong = Reply(tool_calls=[Call("whisper", {}, "c1")])
    hooks = [
        before("a", lambda ctx, call: told.append("before")),
        after("b", lambda ctx, call, result: told.append("after")),
        view("c", lambda ctx, call, view: told.append("view")),
    ]
    found = await ran(*hooks, says=[wrong, "Done."])
    assert found.outcome().code == "unknown_tool"
    assert told == []


# ---- lash_after_tool_call -------------------------------------------------------------------------------------------


@pytest.mark.statement(55, page="plugin-system")
async def test_hook_lash_after_tool_call_is_told_of_what_came_of_it_once_for_each_call_that_was_made() -> None:
    """Once per call that ran, failures included; never for one that was denied or answered."""
    told: list[Any] = []

    def says(ctx: Any, call: PendingToolCall, result: ToolCallOutput) -> None:
        told.append((ctx.call_id, call.args, result.outcome, ctx.result is result, ctx.duration_ms >= 0))

    await ran(after("audit", says))
    assert told == [("c1", {"text": "hi"}, ToolCallSuccess("HI"), True, True)]
    await ran(after("audit", says), before("guard", lambda ctx, call: DenyToolCall("no")))
    await ran(after("audit", says), before("cache", lambda ctx, call: ShortCircuitTool("HI")))
    assert len(told) == 1
    await ran(after("audit", says), before("broken", lambda ctx, call: ReplaceToolArgs({})))
    assert [each[2].code for each in told[1:]] == ["invalid_arguments"]


@pytest.mark.statement(35, page="plugin-system")
async def test_hook_lash_after_tool_call_replaces_the_result_and_the_first_of_two_wins(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Model and host see the new one; the second change is overruled, which the log tells, and so does the call."""
    caplog.set_level(logging.DEBUG, logger="lash.trace")
    one = after("one", lambda ctx, call, result: ReplaceToolResult("[redacted]"))
    other = after("other", lambda ctx, call, result: [ReplaceToolResult(f"{result.outcome.value}!"), EmitTrace("x", 1)])
    found = await ran(one, other)
    assert found.outcome() == ToolCallSuccess("[redacted]")
    assert "[redacted]" in found.read
    assert "HI" not in found.read
    assert found.did() == [("one", Kind.RESULT_REPLACED), ("other", Kind.OVERRULED)]
    assert caplog.messages[-2:] == [
        "plugin.other.x 1",
        "call `c1` of tool `shout`: plugin `one` decides it, and overrules `other` (replace_tool_result)",
    ]
    assert [each.output.outcome for each in found.events if isinstance(each, ToolCallCompleted)] == [found.outcome()]


async def test_hook_lash_after_tool_call_withholds_a_result() -> None:
    found = await ran(after("guard", lambda ctx, call, result: DenyToolCall("It is secret.")))
    assert found.tool.calls == ["hi"]
    assert (found.outcome().code, found.outcome().message) == ("denied", "It is secret.")
    assert "HI" not in found.read
    assert found.did() == [("guard", Kind.DENIED)]


async def test_an_earlier_hook_may_deny_what_a_later_one_made_of_a_result() -> None:
    def says(ctx: Any, call: PendingToolCall, result: Any) -> Any:
        return DenyToolCall("no secrets") if "secret" in result.outcome.value else None

    found = await ran(after("a", says), after("b", lambda ctx, call, result: ReplaceToolResult("a secret")))
    assert found.outcome().message == "no secrets"
    changing = after("a", lambda ctx, call, result: ReplaceToolResult("x") if ctx.is_reinspection else None)
    clash = await ran(changing, after("b", lambda ctx, call, result: ReplaceToolResult("a secret")))
    assert clash.outcome().code == "tool_hooks_conflict"
    assert "ran, and its result is withheld: plugins `b` and `a` both change that" in clash.outcome().message


async def test_hook_lash_after_tool_call_has_its_messages_said_at_the_next_checkpoint() -> None:
    """Those of all calls, in their order, before what the checkpoint's own hooks say."""

    def says(ctx: Any, call: PendingToolCall, result: ToolCallOutput) -> Any:
        return [EnqueueMessages.note(f"About {call.args['text']}."), EmitEvents((SurfaceEvent(name="said"),))]

    async def lash_checkpoint(ctx: Any) -> Any:
        return EnqueueMessages.note("Checked.") if ctx.kind == "after_work" else None

    twice = Reply(tool_calls=[Call("shout", {"text": "one"}, "c1"), Call("shout", {"text": "two"}, "c2")])
    found = await ran(after("z", says), plugin("a", lash_checkpoint), says=[twice, "Done."])
    assert [line for line in found.read.splitlines() if line.endswith(".")][-3:] == [
        "Runtime note: About one.",
        "Runtime note: About two.",
        "Runtime note: Checked.",
    ]
    assert [each.name for each in found.events if isinstance(each, PluginSurface)] == ["said", "said"]


async def test_messages_after_a_call_that_ends_the_turn_are_stored_with_it() -> None:
    """No checkpoint comes then."""
    ends = ToolCallOutput(ToolCallSuccess(1), FinishControl("enough"))

    def says(ctx: Any, call: PendingToolCall, result: ToolCallOutput) -> Any:
        return [ReplaceToolResult(ends), EnqueueMessages.note("It was enough.")]

    made = Told([CALL, "Again."])
    async with opened(Shouting(), after("z", says), says=made) as lash:
        session = await lash.session("s")
        assert (await session.run("go")).text == "enough"
        assert [each.text for each in await session.messages()].count("It was enough.") == 1


@pytest.mark.parametrize("fault", ["raises", "returns something else", "remembers what can't be stored"])
async def test_hook_lash_after_tool_call_that_fails_is_its_calls_failure_and_named(fault: str) -> None:
    """The result is withheld, since nobody can say what would have become of it; what it changed is taken back."""

    @frozen
    class Memory:
        value: Any = None

    class Bad(Plugin):
        @hookimpl
        def lash_session_state(self) -> SessionStateSpec:
            return SessionStateSpec(state=Memory)

        @hookimpl
        async def lash_after_tool_call(self, ctx: Any) -> Any:
            ctx.set_state(Memory(object() if "stored" in fault else 1))
            if fault == "raises":
                raise RuntimeError("it is broken")
            return ReplaceToolArgs({}) if fault == "returns something else" else EnqueueMessages.note("never said")

        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> None:
            self.calls.append(ctx.state.value)

    bad = Bad("bad")
    found = await ran(bad)
    outcome = found.outcome()
    assert outcome.code == "after_tool_call_failed"
    assert outcome.message.startswith("`shout` ran, and its result is withheld: plugin `bad`")
    assert "HI" not in found.read
    assert "never said" not in found.read
    assert set(bad.calls) == {None}
    assert found.did() == [("bad", Kind.FAILED)]


# ---- lash_tool_result_view ------------------------------------------------------------------------------------------


def only(text: str, view: ModelToolReturn) -> ModelToolReturn:
    return ModelToolReturn(view.call_id, view.tool_name, (TextPart(text),))


@pytest.mark.statement(71, page="plugin-system")
async def test_hook_lash_tool_result_view_changes_what_the_model_sees_and_nothing_else() -> None:
    """The host has the whole result. Each hook gets what the one before it made; who changes nothing isn't named."""
    seen: list[Any] = []

    def second(ctx: Any, call: CompletedToolCall, view: ModelToolReturn) -> ModelToolReturn:
        seen.append((call.output.outcome, ctx.result == call.output, view.parts))
        return only(f"{view.parts[0].text} (shortened)", view)  # type: ignore[union-attr]  # it is text

    hooks = [
        view("a", lambda ctx, call, view: only("H", view)),
        view("b", second),
        view("c", lambda ctx, call, view: None),
    ]
    found = await ran(*hooks)
    assert found.outcome() == ToolCallSuccess("HI")
    assert "H (shortened)" in found.read
    assert seen == [(ToolCallSuccess("HI"), True, (TextPart("H"),))]
    assert found.did() == [("a", Kind.VIEW_CHANGED), ("b", Kind.VIEW_CHANGED)]


async def test_hook_lash_tool_result_view_sees_what_the_other_hooks_made_of_a_call() -> None:
    """A denial too, and an answer in the tool's place: whatever the model is to read."""
    shown: list[Any] = []
    looks = view("looks", lambda ctx, call, view: shown.append(view.parts[0].text))
    await ran(looks, after("z", lambda ctx, call, result: ReplaceToolResult("new")))
    await ran(looks, before("z", lambda ctx, call: DenyToolCall("no")))
    await ran(looks, before("z", lambda ctx, call: ShortCircuitTool("mine")))
    assert shown == ["new", "Error: no", "mine"]


@pytest.mark.parametrize("fault", ["raises", "returns something else", "lone surrogate"])
async def test_hook_lash_tool_result_view_that_fails_leaves_its_errors_text_as_the_view(fault: str) -> None:
    def says(ctx: Any, call: CompletedToolCall, view: ModelToolReturn) -> Any:
        if fault == "raises":
            raise RuntimeError("it is broken")
        return only("\ud83d", view) if fault == "lone surrogate" else "text"

    found = await ran(view("bad", says))
    assert found.outcome() == ToolCallSuccess("HI")
    assert "plugin `bad`, hook `lash_tool_result_view`" in found.read
    assert "HI" not in found.read
    assert found.did() == [("bad", Kind.FAILED)]


# ---- calls within calls, and at once --------------------------------------------------------------------------------

BOTH = Reply(tool_calls=[Call("both", {"one": "a", "other": "b"}, "c1")])


async def test_the_calls_that_a_tool_makes_have_the_same_hooks() -> None:
    """Denied, changed and seen as those of the model are; and what their hooks have to say is said."""

    def guard(ctx: Any, call: PendingToolCall) -> Any:
        if call.tool_name == "shout":
            assert ctx.parent_call_id == "c1"
            return DenyToolCall("no b") if call.args["text"] == "b" else ReplaceToolArgs({"text": "x"})
        return None

    hooks = [
        before("guard", guard),
        after("z", lambda ctx, call, result: EnqueueMessages.note(f"After {call.call_id}.")),
        view("v", lambda ctx, call, view: only(f"<{view.parts[0].text}>", view)),
    ]
    found = await ran(*hooks, says=[BOTH, "Done."])
    assert found.tool.calls == ["x"]
    assert found.turn is not None
    assert [(each.call_id, each.parent_call_id) for each in found.turn.tool_calls] == [
        ("c1", None),
        ("c1:00", "c1"),
        ("c1:01", "c1"),
    ]
    assert found.outcome(0) == ToolCallSuccess(["<X>", "<Error: no b>"])
    assert isinstance(found.outcome(2), ToolCallFailure)
    assert found.did(1) == [("guard", Kind.ARGS_REPLACED), ("v", Kind.VIEW_CHANGED)]
    assert found.did(2) == [("guard", Kind.DENIED), ("v", Kind.VIEW_CHANGED)]
    notes = [line for line in found.read.splitlines() if "After" in line]
    assert notes == ["Runtime note: After c1:00.", "Runtime note: After c1."]


async def test_hooks_are_called_in_the_order_of_the_calls_before_all_of_them_and_after_all_of_them() -> None:
    order: list[str] = []

    class Noting(Plugin):
        @hookimpl
        def lash_tools(self) -> list[Tool]:
            @tool
            async def work(n: int) -> int:
                "Work."
                order.append(f"tool {n}")
                return n

            return [work]

    calls = Reply(tool_calls=[Call("work", {"n": n}, f"c{n}") for n in (2, 0, 1)])
    hooks = [
        Noting("noting"),
        before("b", lambda ctx, call: order.append(f"before {call.args['n']}")),
        after("a", lambda ctx, call, result: order.append(f"after {call.args['n']}")),
    ]
    await ran(*hooks, says=[calls, "Done."])
    assert order[:3] == ["before 2", "before 0", "before 1"]
    assert sorted(order[3:6]) == ["tool 0", "tool 1", "tool 2"]
    assert order[6:] == ["after 2", "after 0", "after 1"]


async def test_lash_explain_tells_who_did_what_to_which_call() -> None:
    """And says nothing of calls that nobody touched."""
    made = Told([CALL, "Done.", "Hi."])
    guard = before("guard", lambda ctx, call: DenyToolCall("no", "quiet"))
    async with opened(Shouting(), guard, before("b", lambda ctx, call: ShortCircuitTool(1)), says=made) as lash:
        session = await lash.session("s")
        turn = await session.run("go")
        assert await explained(lash, turn) == [
            ("shout", "guard", "denied: quiet"),
            ("shout", "b", "overruled by guard: short_circuit_tool"),
        ]
        assert await explained(lash, await session.run("hi")) == []


async def test_hooks_are_asked_about_every_tool_that_is_called_also_one_that_a_search_found() -> None:
    """A guard that wasn't asked about deferred tools, or about internal ones, would guard nothing."""
    asked_about: list[tuple[str, str]] = []

    class Hidden(Plugin):
        @hookimpl
        def lash_tools(self) -> list[Tool]:
            @tool(activation=ToolActivation.DEFERRED)
            async def treasure(ctx: ToolCallContext) -> str:
                "Where the treasure is."
                return str((await ctx.call_tool(0, "inner", {})).output.outcome.value)  # type: ignore[misc, union-attr]

            @tool(activation=ToolActivation.INTERNAL)
            async def inner() -> str:
                "For tools only."
                return "here"

            return [treasure, inner]

    guard = before("guard", lambda ctx, call: asked_about.append(("before", call.tool_name)))
    audit = after("audit", lambda ctx, call, result: asked_about.append(("after", call.tool_name)))
    says: list[Any] = [
        Reply(tool_calls=[Call("search_tools", {"query": "treasure"}, "c1")]),
        Reply(tool_calls=[Call("treasure", {}, "c2"), Call("inner", {}, "c3")]),
        "Done.",
    ]
    found = await ran(Hidden(), guard, audit, says=says)
    names = ["search_tools", "treasure", "inner"]
    assert [name for seam, name in asked_about if seam == "before"] == names
    assert sorted(name for seam, name in asked_about if seam == "after") == sorted(names)
    assert found.outcome(1).value == "here"
