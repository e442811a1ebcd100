"""Nothing reaches a model without the name of the plugin that put it there: by whichever way it speaks."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve, frozen
from hook_kit import Plugin

from lash_framework.testing import call, crash_at_every_effect, crash_host
from lash_hookspecs import (
    Action,
    AppendSessionNodesRequest,
    Budget,
    CreateSession,
    DriverWrap,
    EnqueueMessages,
    MessageRole,
    Mode,
    ModeExtension,
    PluginError,
    PluginMessage,
    PluginOrigin,
    PreparedContext,
    ProcessOrigin,
    PromptContribution,
    PromptSlot,
    SessionAppendNode,
    SessionCreateRequest,
    SessionPolicy,
    Step,
    TextItem,
    Tool,
    ToolCallContext,
    TurnInput,
    hookimpl,
    text_message,
    tool,
)

HostInTest = Any

PROCESS = ProcessOrigin(process_id="p", event_type="done", sequence=1)


async def owners_of(host: Any, turn_id: str, text: str) -> tuple[str, ...]:
    """Whose a line of a turn's prompt is."""
    (line,) = [each for each in (await host.lash.explain(turn_id)).lines if text in each.text]
    owners: tuple[str, ...] = line.plugin_ids
    return owners


# ---- the policy -----------------------------------------------------------------------------------------------------


class Configures(Plugin):
    @hookimpl
    def lash_session_config(self, policy: SessionPolicy) -> SessionPolicy:
        return policy.with_instructions(f"Obey {self.info.id}.")


async def test_what_lash_session_config_says_to_the_model_has_the_plugins_name(
    lash_host: HostInTest, tmp_path: Any
) -> None:
    """It was the session's, as if a user had said it; and each opening said it once more."""
    store = f"sqlite:///{tmp_path}/sessions.db"
    for number in range(3):
        plugins = Configures("a"), Configures("b")
        async with lash_host(*plugins, says=["Yes."], store=store, instructions="Be brief.") as host:
            turn = await host.run("Hello", turn_id=f"turn-{number}")
            assert await owners_of(host, turn.turn_id, "Obey a.") == ("a",)
            assert await owners_of(host, turn.turn_id, "Obey b.") == ("b",)
            assert await owners_of(host, turn.turn_id, "Be brief.") == ("application",)
            policy = (await host.lash.session("test")).policy
    said = policy.prompt.slots[PromptSlot.PROJECT_INSTRUCTIONS].contributions
    assert [(each.content, each.plugin_id) for each in said] == [("Obey a.", "a"), ("Obey b.", "b")]


async def test_nobody_signs_with_another_ones_name(lash_host: HostInTest) -> None:
    class Forges(Plugin):
        @hookimpl
        def lash_session_config(self, policy: SessionPolicy) -> SessionPolicy:
            return policy.with_instructions("Obey.", "somebody-else")

        @hookimpl
        def lash_prompt_contributions(self) -> PromptContribution:
            return PromptContribution(content="Listen.", plugin_id="somebody-else")

    async with lash_host(Forges(), says=["Yes."]) as host:
        await host.run("Hello", turn_id="t")
        assert await owners_of(host, "t", "Obey.") == ("mine",)
        assert await owners_of(host, "t", "Listen.") == ("mine",)


async def test_a_setting_is_its_own_plugins_and_not_all_of_theirs(lash_host: HostInTest) -> None:
    """Two plugins that each changed a setting were both named for both."""

    class Turns(Plugin):
        @hookimpl
        def lash_session_config(self, policy: SessionPolicy) -> SessionPolicy:
            return evolve(policy, max_turns=7)

    class Variant(Plugin):
        @hookimpl
        def lash_session_config(self, policy: SessionPolicy) -> SessionPolicy:
            return evolve(policy, model_variant="long")

    async with lash_host(Turns("a"), Variant("b"), says=["Yes."]) as host:
        turn = await host.run("Hello")
        sources = {each.key: each.source for each in (await host.lash.explain(turn.turn_id)).settings}
    assert (sources["max_turns"], sources["model_variant"]) == ("plugin a", "plugin b")


async def test_only_the_policy_that_can_not_be_is_dropped(lash_host: HostInTest, caplog: Any) -> None:
    """What the others had made of it was dropped with it, and all were named."""

    class Turns(Plugin):
        @hookimpl
        def lash_session_config(self, policy: SessionPolicy) -> SessionPolicy:
            return evolve(policy, max_turns=7)

    class Wrong(Plugin):
        @hookimpl
        def lash_session_config(self, policy: SessionPolicy) -> SessionPolicy:
            return evolve(policy, model="nobody:none")

    for order in ((Turns("a"), Wrong("b")), (Wrong("a"), Turns("b"))):
        async with lash_host(*order, says=["Yes."]) as host:
            session = await host.lash.session("test")
            assert (session.policy.max_turns, session.policy.model) == (7, "test:model")
    assert "plugin `b` made a policy that can't be" in caplog.text
    assert "plugin `a` made a policy that can't be" in caplog.text


# ---- messages -------------------------------------------------------------------------------------------------------


async def test_a_plugin_does_not_speak_as_a_process(lash_host: HostInTest) -> None:
    """A message that said it was a process's reached the model with no plugin's name on it."""

    class Speaks(Plugin):
        @hookimpl
        def lash_before_turn(self) -> EnqueueMessages:
            message = PluginMessage(role=MessageRole.USER, content="It is done.", origin=PROCESS)
            return EnqueueMessages((message,))

        @hookimpl
        def lash_prepare_context(self, prepared: PreparedContext) -> PreparedContext:
            note = evolve(text_message("seen", MessageRole.USER, "Look."), origin=PROCESS)
            return prepared.showing([*prepared.messages, note])

    class Sees(Plugin):
        @hookimpl
        def lash_prepare_context(self, prepared: PreparedContext) -> None:
            self.calls += prepared.messages

    sees = Sees("z")
    async with lash_host(Speaks(), sees, says=["Yes."]) as host:
        await host.run("Hello")
        messages = await (await host.lash.session("test")).messages()
        assert "Look." in host.model.conversation()
    assert {each.text: each.origin for each in messages}["It is done."] == PluginOrigin("mine")
    assert [each.origin for each in sees.calls] == [PluginOrigin("mine", transient=True)]


@tool
async def ask_another(ctx: ToolCallContext) -> str:
    "Ask another session."
    request = SessionCreateRequest(session_id="other", instructions="You are another one.")
    await ctx.lifecycle.create_session(request)
    return (await ctx.lifecycle.start_turn("other", "first", "What is heat?")).text


class Asks(Plugin):
    @hookimpl
    def lash_tools(self) -> list[Tool]:
        return [ask_another]


async def test_what_a_tool_says_to_another_session_has_its_plugins_name(lash_host: HostInTest) -> None:
    """It stood there as if a user had said it."""
    async with lash_host(Asks(), says=[call("ask_another"), "Motion.", "Done."]) as host:
        await host.run("Go on.")
        other = await host.lash.session("other")
        asked_there, answered = await other.messages()
        assert await owners_of(host, "first", "You are another one.") == ("mine",)
    assert (asked_there.text, asked_there.origin) == ("What is heat?", PluginOrigin("mine"))
    assert answered.origin is None


async def test_what_a_successor_is_instructed_has_the_plugins_name(lash_host: HostInTest) -> None:
    class Hands(Plugin):
        @hookimpl
        def lash_after_turn(self, ctx: Any) -> CreateSession | None:
            return CreateSession(session_id="next", instructions="You go on.") if ctx.session_id == "test" else None

    async with lash_host(Hands(), says=["One.", "Two."]) as host:
        await host.run("Hello")
        await host.run("Hello", session="next", turn_id="t")
        assert await owners_of(host, "t", "You go on.") == ("mine",)


async def test_what_is_appended_to_a_session_has_the_plugins_name(lash_host: HostInTest) -> None:
    """By an observer of commits, or by a command: both reached the next turn's model without a name."""

    def request(text: str) -> AppendSessionNodesRequest:
        message = text_message(f"m-{text}", MessageRole.USER, text)
        return AppendSessionNodesRequest(operation_id=text, nodes=(SessionAppendNode(message=message),))

    @Action.command
    async def add(ctx: Any) -> None:
        "Add a message."
        await ctx.graph.append_session_nodes(ctx.session_id, request("From a command."))

    class Appends(Plugin):
        @hookimpl
        async def lash_turn_committed(self, ctx: Any) -> None:
            if ctx.turn_index == 0:
                await ctx.graph.append_session_nodes(ctx.session_id, request("From an observer."))

        @hookimpl
        def lash_actions(self) -> list[Action]:
            return [add]

    async with lash_host(Appends(), says=["One.", "Two."]) as host:
        await host.run("Hello")
        session = await host.lash.session("test")
        await session.call("add")
        origins = {each.text: each.origin for each in await session.messages()}
        await host.run("And?")
        assert "From an observer.\nFrom a command." in host.model.conversation()
    assert origins["From an observer."] == origins["From a command."] == PluginOrigin("mine")


async def test_two_plugins_may_ask_for_the_same_turn_of_another_session(lash_host: HostInTest) -> None:
    """It has the name of the first, and is no other question of the second."""

    @tool
    async def ask_it_too(ctx: ToolCallContext) -> str:
        "Ask the same."
        return (await ctx.lifecycle.start_turn("other", "first", "What is heat?")).text

    class AsksToo(Plugin):
        @hookimpl
        def lash_tools(self) -> list[Tool]:
            return [ask_it_too]

    says = [call("ask_another"), "Motion.", call("ask_it_too"), "Done."]
    async with lash_host(Asks("one"), AsksToo("two"), says=says) as host:
        turn = await host.run("Go on.")
        asked_there, _ = await (await host.lash.session("other")).messages()
    assert [each.output.outcome.value for each in turn.tool_calls] == ["Motion.", "Motion."]
    assert asked_there.origin == PluginOrigin("one")


# ---- drivers --------------------------------------------------------------------------------------------------------


class Around:
    """Lays a driver around another one: it adds a note, and changes what the model answered."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def prepare_protocol_iteration(self, ctx: Any) -> Step:
        step: Step = self._inner.prepare_protocol_iteration(ctx)
        if ctx.protocol_iteration:
            return step
        note = text_message(f"note-{ctx.turn_id}", MessageRole.SYSTEM, "A note of the mode.")
        return evolve(step, messages=(*step.messages, note))

    def handle_llm_success(self, *given: Any) -> Step:
        step: Step = self._inner.handle_llm_success(*given)
        if not any(each.text for each in step.messages):
            return step
        (answer,) = step.messages
        parts = tuple(evolve(each, content=each.content.upper()) for each in answer.parts)
        return evolve(step, messages=(evolve(answer, parts=parts),))


class Outer(Around):
    """Passes everything on."""

    def prepare_protocol_iteration(self, ctx: Any) -> Step:
        step: Step = self._inner.prepare_protocol_iteration(ctx)
        return step

    def handle_llm_success(self, *given: Any) -> Step:
        step: Step = self._inner.handle_llm_success(*given)
        return step


class Modes(Plugin):
    @hookimpl
    def lash_modes(self) -> list[Mode]:
        return [Mode(mode_id="noted", extends="standard", wrap=DriverWrap(around=Around))]


class OuterModes(Plugin):
    @hookimpl
    def lash_modes(self) -> list[Mode]:
        return [Mode(mode_id="outer", extends="noted", wrap=DriverWrap(around=Outer))]


async def test_what_a_driver_around_another_one_says_has_its_plugins_name(lash_host: HostInTest) -> None:
    """Its note stood there as nobody's, what it had made of the answer as the model's. Who passes on signs nothing."""

    @tool(effect="pure")
    async def now() -> str:
        "The time."
        return "noon"

    async with lash_host(
        Modes("one"), OuterModes("two"), says=[call("now"), "It is noon."], mode="outer", tools=[now]
    ) as host:
        await host.run("What time is it?")
        messages = await (await host.lash.session("test")).messages()
    assert [(each.role.value, each.text, each.origin) for each in messages] == [
        ("user", "What time is it?", None),
        ("system", "A note of the mode.", PluginOrigin("one")),
        ("assistant", "", None),
        ("user", "", None),
        ("assistant", "IT IS NOON.", PluginOrigin("one")),
    ]


async def test_the_note_of_a_modes_own_driver_has_its_plugins_name(lash_host: HostInTest) -> None:
    @tool(effect="pure")
    async def now() -> str:
        "The time."
        return "noon"

    async with lash_host(says=[call("now")], max_turns=1, tools=[now]) as host:
        await host.run("What time is it?")
        *_, note = await (await host.lash.session("test")).messages()
    assert (note.role, note.origin) == (MessageRole.SYSTEM, PluginOrigin("mode-standard"))


async def test_a_driver_that_can_not_be_laid_around_is_told_of_its_own_plugin(lash_host: HostInTest) -> None:
    """The plugin whose driver it was to be laid around was named."""

    class Wrong(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Mode]:
            return [Mode(mode_id="noted", extends="standard", wrap=DriverWrap(around=lambda inner: inner.nothing))]

    with pytest.raises(PluginError, match=r"plugin `mine`, hook `lash_modes`: mode `noted` can't lay its driver"):
        async with lash_host(Wrong(), says=["Yes."], mode="noted"):
            pass


# ---- what stands around a call --------------------------------------------------------------------------------------


class Shouts(Plugin):
    @hookimpl
    async def lash_around_effect(self, envelope: Any, call_next: Any) -> Any:
        made = await call_next()
        if envelope.command.kind != "direct":
            return made
        parts = tuple(evolve(each, text=each.text.upper()) for each in made.result.parts)
        return evolve(made, result=evolve(made.result, full_text=made.result.full_text.upper(), parts=parts))


@tool(effect="pure")
async def shorten(text: str, ctx: ToolCallContext) -> str:
    "Say it shorter."
    return (await ctx.completions.complete(text)).text


async def test_who_changed_what_a_model_told_a_tool_is_named(lash_host: HostInTest) -> None:
    """What came of the turn's own model calls was told, and what came of those that tools and hooks make wasn't."""
    says = [call("shorten", text="It is long."), "short", "Done."]
    async with lash_host(Shouts(), says=says, tools=[shorten]) as host:
        turn = await host.run("Go on.")
        acts = (await host.lash.explain(turn.turn_id)).acts
    assert turn.tool_calls[0].output.outcome.value == "SHORT"
    told = ("mine", "stood around a model call, and changed what came of it")
    assert [(each.plugin_id, each.what) for each in acts] == [told]


async def test_who_changed_it_is_named_after_a_crash_too() -> None:
    says = [call("shorten", text="It is long."), "Done."]

    def model(request: Any) -> Any:
        if not request.tools:  # the tool asks, aside from the conversation
            return "short"
        return says[sum(each.role == "assistant" for each in request.messages)]

    def named(crash: Any) -> None:
        (did,) = crash.ending.turn.interventions
        assert did.plugin_id == "mine"

    opened = crash_host(Shouts(), says=model, tools=[shorten])
    await crash_at_every_effect(opened, "Go on.", points=lambda each: each.kind == "effect", checks=[named])


# ---- what isn't named yet -------------------------------------------------------------------------------------------


@frozen
class Tone:
    """A turn's extension, which says something to the model."""

    word: str = "kind"

    def prompt_contributions(self) -> tuple[PromptContribution, ...]:
        return (PromptContribution(content=f"Be {self.word}."),)


async def test_what_an_extension_says_has_the_name_of_the_plugin_that_declared_it(lash_host: HostInTest) -> None:
    class Extends(Plugin):
        @hookimpl
        def lash_mode_extensions(self) -> ModeExtension:
            return ModeExtension(turn_extensions={"tone": Tone})

    async with lash_host(Extends(), says=["Yes."]) as host:
        await host.run(TurnInput(items=(TextItem("Hello"),), mode_extension=Tone()), turn_id="t")
        assert await owners_of(host, "t", "Be kind.") == ("mine",)


async def test_every_setting_of_a_policy_that_a_plugin_changes_is_its(lash_host: HostInTest) -> None:
    class Limits(Plugin):
        @hookimpl
        def lash_session_config(self, policy: SessionPolicy) -> SessionPolicy:
            return evolve(policy, budget=Budget(max_tokens=5000), autonomous=True)

    async with lash_host(Limits(), says=["Yes."]) as host:
        turn = await host.run("Hello")
        sources = {each.source for each in (await host.lash.explain(turn.turn_id)).settings}
    assert "plugin mine" in sources
