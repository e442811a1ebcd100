"""What hooks have in hand: what they remember is what a crash leaves of it, and what they are shown they only read."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve, frozen
from hook_kit import Plugin

from lash_framework.testing import call, crash_at_every_effect, crash_host
from lash_hookspecs import (
    Action,
    EnqueueMessages,
    PluginError,
    ReplaceToolArgs,
    RetryIdempotent,
    SessionStateSpec,
    Tool,
    ToolCallContext,
    ToolError,
    encode,
    hookimpl,
    tool,
)
from lash_hookspecs.read_only_data import read_only

HostInTest = Any


# ---- what they remember ---------------------------------------------------------------------------------------------


@frozen
class Seen:
    """A state whose fields take more than is read from what is stored of them."""

    words: tuple[str, ...] = ()
    share: float = 0.0


@frozen
class SeenMore(Seen):
    """One that knows more than the class that is declared."""

    who: str = ""


class Remembering(Plugin):
    """Sets a state as a turn begins, and tells the model of it later."""

    def __init__(self, make: Callable[[Seen], Any], id: str = "mine") -> None:
        super().__init__(id)
        self._make = make

    @hookimpl
    def lash_session_state(self) -> SessionStateSpec:
        return SessionStateSpec(state=Seen)

    @hookimpl
    def lash_before_turn(self, ctx: Any) -> None:
        ctx.set_state(self._make(ctx.state))

    @hookimpl
    def lash_checkpoint(self, ctx: Any) -> EnqueueMessages | None:
        return EnqueueMessages.note(f"You saw {ctx.state!r}.") if ctx.iteration == 0 else None


async def test_a_state_is_live_what_it_is_after_a_crash() -> None:
    """A list in a field of tuples came back as a tuple: whoever went on saw another state than who had run on."""
    loose = Remembering(lambda before: Seen(words=[*before.words, "a"], share=1))  # type: ignore[arg-type]  # as authors slip
    report = await crash_at_every_effect(crash_host(loose, says=["One.", "Two."]), "Go ahead.")
    assert len(report.crashes) > 10


async def test_a_state_that_could_not_be_read_again_fails_the_turn_that_sets_it(lash_host: HostInTest) -> None:
    """It was stored, and from then on the session couldn't be opened."""
    vague = Remembering(lambda _: Seen(share="much"))  # type: ignore[arg-type]  # as authors slip
    async with lash_host(vague, says=["One."]) as host:
        turn = await host.run("Hello")
        (issue,) = turn.errors
        assert issue.plugin_id == "mine"
        assert "its state can be stored, but not read again" in issue.message
        assert issue.message.endswith("expected float, got str (at `Seen.share`)")
        assert [each.text for each in await (await host.lash.session("test")).messages()] == ["Hello"]


async def test_a_state_of_a_subclass_is_refused_where_it_is_set(lash_host: HostInTest) -> None:
    """What it knows more wasn't there any more when the session was opened again."""
    more = Remembering(lambda _: SeenMore(who="Ada"))
    async with lash_host(more, says=["One."]) as host:
        (issue,) = (await host.run("Hello")).errors
    assert issue.message.endswith("the state must be a `Seen`, not a `SeenMore`")


async def test_a_command_can_not_store_what_could_not_be_read_again(lash_host: HostInTest) -> None:
    @Action.command
    def remember(ctx: Any) -> None:
        "Remember something."
        ctx.set_state(Seen(share="much"))  # type: ignore[arg-type]  # as authors slip

    class Commands(Remembering):
        @hookimpl
        def lash_actions(self) -> list[Action]:
            return [remember]

    async with lash_host(Commands(lambda before: before), says=[str(each) for each in range(4)]) as host:
        await host.run("Hello")
        session = await host.lash.session("test")
        with pytest.raises(PluginError, match="can be stored, but not read again"):
            await session.call("remember")
        assert (await host.run("And now?")).is_success


async def test_a_policy_hook_that_fails_has_remembered_nothing(lash_host: HostInTest) -> None:
    """What it had set counted though it was passed over; and what could not be read again kept the session shut."""

    class Configures(Remembering):
        @hookimpl
        def lash_session_config(self, ctx: Any, policy: Any) -> Any:
            ctx.set_state(self._make(ctx.state))
            if self.info.id == "fails":
                raise ValueError("no")
            return evolve(policy, max_turns=7)

        @hookimpl
        def lash_before_turn(self, ctx: Any) -> None:
            self.calls.append(ctx.state)

    fine = Configures(lambda _: Seen(words=("a",)))
    fails = Configures(lambda _: Seen(words=("b",)), "fails")
    unread = Configures(lambda _: Seen(share="much"), "unread")  # type: ignore[arg-type]  # as authors slip
    async with lash_host(fine, fails, unread, says=[str(each) for each in range(4)]) as host:
        await host.run("Hello")
        assert (await host.lash.session("test")).policy.max_turns == 7
    assert [fine.calls, fails.calls, unread.calls] == [[Seen(words=("a",))], [Seen()], [Seen()]]


# ---- what they are shown --------------------------------------------------------------------------------------------


@tool(effect="pure")
async def look_up(where: dict[str, Any]) -> dict[str, Any]:
    "Look something up."
    return {"found": where.get("name"), "more": [1]}


ASKED = {"name": "Ada"}
FOUND = {"found": "Ada", "more": [1]}


class Hand(Plugin):
    """Changes in place what it is shown in one hook."""

    def __init__(self, name: str, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.name, self.change = name, change

    @hookimpl
    def lash_tools(self) -> list[Tool]:
        return [look_up]

    @hookimpl
    def lash_before_turn(self, ctx: Any) -> None:
        self._do(lambda: ctx.options, "before_turn")

    @hookimpl
    def lash_before_tool_call(self, ctx: Any, call: Any) -> None:
        self._do(lambda: call.args, "before_tool_call")

    @hookimpl
    async def lash_around_effect(self, envelope: Any, call_next: Any) -> Any:
        if envelope.command.kind == "tool_call":
            self._do(lambda: envelope.command.call.args, "around_before")
        made = await call_next()
        if envelope.command.kind == "tool_call":
            self._do(lambda: made.launch.result.output.outcome.value, "around_after")
        return made

    @hookimpl
    def lash_after_tool_call(self, call: Any, result: Any) -> None:
        self._do(lambda: call.args, "after_tool_call_args")
        self._do(lambda: result.outcome.value, "after_tool_call")

    @hookimpl
    def lash_tool_result_view(self, call: Any) -> None:
        self._do(lambda: call.output.outcome.value, "tool_result_view")

    @hookimpl
    def lash_after_turn(self, turn: Any) -> None:
        self._do(lambda: turn.tool_calls[0].args, "after_turn")

    @hookimpl
    def lash_turn_committed(self, turn: Any) -> None:
        self._do(lambda: turn.tool_calls[0].output.outcome.value, "turn_committed")

    def _do(self, value: Callable[[], Any], where: str) -> None:
        if self.name == where:
            self.change(value())


@pytest.mark.parametrize(
    "where",
    [
        "before_tool_call",
        "around_before",
        "around_after",
        "after_tool_call_args",
        "after_tool_call",
        "tool_result_view",
        "after_turn",
        "turn_committed",
    ],
)
async def test_what_a_hook_is_shown_of_a_call_is_not_changed_in_place(lash_host: HostInTest, where: str) -> None:
    """It counted: the tool got it, or it was stored, in nobody's name; and a turn that went on knew nothing of it."""
    hand = Hand(where, lambda value: value.update(name="Eve", found="Eve"))
    async with lash_host(hand, says=[call("look_up", where=ASKED), "Done."]) as host:
        turn = await host.run("Who is there?")
        (done,) = turn.tool_calls
        outcome = done.output.outcome
        told = [*(issue.message for issue in turn.errors), getattr(outcome, "message", ""), host.model.conversation()]
    assert done.args == {"where": ASKED}
    assert getattr(outcome, "value", FOUND) == FOUND
    hook = {"around": "lash_around_effect"}.get(where.partition("_")[0], f"lash_{where.removesuffix('_args')}")
    assert any(f"plugin `mine`, hook `{hook}`: TypeError: this is only shown" in each for each in told)


async def test_deep_in_the_arguments_neither(lash_host: HostInTest) -> None:
    async with lash_host(
        Hand("before_tool_call", lambda args: args["where"].pop("name")), says=[call("look_up", where=ASKED), "Done."]
    ) as host:
        (done,) = (await host.run("Who is there?")).tool_calls
    assert "change a copy, `{**it}`" in done.output.outcome.message


async def test_a_copy_is_the_hooks_own(lash_host: HostInTest) -> None:
    class Renames(Hand):
        @hookimpl
        def lash_before_tool_call(self, ctx: Any, call: Any) -> Any:
            args = {**call.args}
            args["where"] = {**args["where"], "name": "Grace"}
            return ReplaceToolArgs(args)

    async with lash_host(Renames("", print), says=[call("look_up", where=ASKED), "Done."]) as host:
        (done,) = (await host.run("Who is there?")).tool_calls
    assert done.output.outcome.value == {**FOUND, "found": "Grace"}


async def test_options_are_the_same_in_all_sessions_whatever_a_hook_does(lash_host: HostInTest) -> None:
    """What it put into their list was there in every other session of the host."""
    hand = Hand("before_turn", lambda options: options["words"].append("more"))
    async with lash_host(hand, says=["One.", "Two."], toml='[plugin.mine]\nwords = ["a"]\n') as host:
        for session in ("one", "two"):
            (issue,) = (await host.run("Hello", session=session)).errors
            assert "hook `lash_before_turn`: TypeError: this is only shown" in issue.message
        composition = (await host.lash.session("one")).composition
    assert composition.options["mine"] == {"words": ["a"]}


async def test_what_a_catalog_hook_changes_of_a_schema_is_nobodys(lash_host: HostInTest) -> None:
    """The tool's own schema was changed, in all modes and hosts."""

    class Hides(Plugin):
        @hookimpl
        def lash_tool_catalog(self, catalog: Any) -> None:
            for each in catalog:
                each.input_schema["properties"].pop("where", None)

    with pytest.raises(PluginError, match="hook `lash_tool_catalog`: TypeError: this is only shown"):
        async with lash_host(Hides(), says=["Done."], tools=[look_up]):
            pass
    assert "where" in look_up.manifest.input_schema["properties"]


def test_read_only_data_is_plain_data_for_all_who_read() -> None:
    data = {"a": [1, {"b": None}], "c": "text"}
    shown = read_only(data)
    assert shown == data
    assert read_only(shown) is shown
    assert encode(shown) == encode(data) == json.dumps(shown, separators=(",", ":")).encode()
    mine = copy.deepcopy(shown)
    mine["a"][1]["b"] = 2
    mine["a"].append(3)
    assert type(mine) is dict
    assert shown == data
    for change in (
        lambda: shown.pop("a"),
        lambda: shown.__setitem__("a", 1),
        lambda: shown.__ior__({"a": 1}),
        lambda: shown["a"].append(1),
        lambda: shown["a"].sort(),
        lambda: shown["a"].__iadd__([1]),
        lambda: shown["a"][1].clear(),
    ):
        with pytest.raises(TypeError, match="can't be changed in place"):
            change()
    assert shown == data


async def test_a_tool_may_change_its_arguments_and_the_next_attempt_has_all_of_them(lash_host: HostInTest) -> None:
    """The second attempt got what the first one had left of them; after a crash it got all, so it was another call."""
    got = []

    @tool(effect="idempotent", retry=RetryIdempotent(max_attempts=3, base_delay_ms=1))
    async def send(batch: list[Any]) -> str:
        "Send these."
        got.append([*batch])
        while batch:
            batch.pop()
        if len(got) < 3:
            raise ToolError("the line is busy")
        return "sent"

    batch = ["a", {"b": 1}]
    async with lash_host(says=[call("send", batch=batch), "Done."], tools=[send]) as host:
        (done,) = (await host.run("Send it.")).tool_calls
    assert got == [batch] * 3
    assert done.args == {"batch": batch}


async def test_a_snapshot_has_what_is_stored_and_no_transient_note(lash_host: HostInTest) -> None:
    """What is shown in this turn only reaches nobody by way of a service."""
    snapshots = []

    @tool(effect="pure")
    async def look_back(ctx: ToolCallContext) -> str:
        "Look at the session."
        snapshots.append(await ctx.sessions.snapshot_current())
        return "seen"

    class Notes(Plugin):
        @hookimpl
        def lash_before_turn(self) -> list[EnqueueMessages]:
            return [EnqueueMessages.note("Once.", transient=True), EnqueueMessages.note("For good.")]

    async with lash_host(Notes(), says=[call("look_back"), "Done."], tools=[look_back]) as host:
        await host.run("Hello")
        assert "Once." in host.model.conversation()
    (snapshot,) = snapshots
    assert [each.text for each in snapshot.messages if each.text] == ["Hello", "For good."]


# ---- whom they are asked about --------------------------------------------------------------------------------------


async def test_nobody_is_asked_about_a_tool_that_is_hidden(lash_host: HostInTest) -> None:
    """Also where no plugin decides before a call, so that it comes to nothing only when it would be made."""

    class Looks(Plugin):
        @hookimpl
        def lash_after_tool_call(self) -> None:
            self.calls.append("after")

        @hookimpl
        def lash_tool_result_view(self) -> None:
            self.calls.append("view")

    looks = Looks()
    async with lash_host(looks, says=[call("look_up", where=ASKED), "Done."], tools=[look_up]) as host:
        session = await host.lash.session("test")
        await session.edit_tools(hide=["look_up"])
        (done,) = (await host.run("Who is there?")).tool_calls
    assert (done.output.outcome.code, looks.calls) == ("unknown_tool", [])


async def test_what_a_user_said_before_a_checkpoint_failed_waits_for_a_turn_of_its_own(lash_host: HostInTest) -> None:
    class Fails(Plugin):
        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> None:
            if ctx.turn_index == 0:
                raise ValueError("no")

    @tool(effect="pure")
    async def interrupt() -> str:
        "The user says something meanwhile."
        await session.enqueue("And be quick.")
        return "heard"

    async with lash_host(Fails(), says=[call("interrupt"), "Quick."], tools=[interrupt]) as host:
        session = await host.lash.session("test")
        assert not (await host.run("Hello")).is_success
        await session.recover()  # if nobody else has run it yet
        said = [each.text for each in await session.messages() if each.text]
    assert said == ["Hello", "And be quick.", "Quick."]  # the answer of the turn behind it
