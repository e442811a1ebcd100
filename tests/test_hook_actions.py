"""`lash_actions`: typed operations of plugins, called by an application: queries, commands and tasks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from attrs import evolve, frozen
from cli_kit import Cli
from hook_kit import file_store, installed

from lash_hookspecs import (
    Action,
    ActionContext,
    ActionKind,
    ActionProgress,
    AppendedNodes,
    AppendSessionNodesRequest,
    CapabilityMissing,
    ConfigurationError,
    Message,
    MessageRole,
    Mode,
    Part,
    PartKind,
    PluginConflictError,
    PluginError,
    SessionAppendNode,
    SessionBusy,
    SessionCreateRequest,
    SessionStateSpec,
    ToolCallContext,
    UnknownName,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


@frozen
class Goal:
    """What is to be reached."""

    text: str
    steps: int = 1


@frozen
class Noted:
    """What the plugin remembers."""

    goals: tuple[Goal, ...] = ()


@Action.query
async def list_goals(ctx: ActionContext) -> list[Goal]:
    """All goals."""
    return list(ctx.state.goals)


@Action.command(session="required")
async def add_goal(ctx: ActionContext, goal: Goal) -> int:
    """Add a goal."""
    ctx.set_state(evolve(ctx.state, goals=(*ctx.state.goals, goal)))
    return len(ctx.state.goals)


@Action.query(session="forbidden")
def double(number: int) -> int:
    """Twice the number."""
    return 2 * number


def goals(*actions: Action, plugin_id: str = "goals", **info: Any) -> object:
    def lash_actions() -> list[Action]:
        return list(actions)

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Noted)

    return plugin(plugin_id, lash_actions, lash_session_state, **info)


# ---- what there is --------------------------------------------------------------------------------------------------


async def test_hook_lash_actions_are_listed_with_their_owner_and_called() -> None:
    async with agent([], plugins=[goals(list_goals, add_goal, double)]) as lash:
        found = {name: (each.plugin_id, each.value.kind) for name, each in lash.actions().items()}
        assert {name: each for name, each in found.items() if each[0] != "plan"} == {
            "list_goals": ("goals", ActionKind.QUERY),
            "add_goal": ("goals", ActionKind.COMMAND),
            "double": ("goals", ActionKind.QUERY),
        }
        assert lash.actions()["add_goal"].value.description == "Add a goal."
        assert await lash.call("double", 4) == 8
        session = await lash.session("s")
        assert await lash.call("add_goal", Goal("walk"), session=session) == 1
        assert await lash.call("add_goal", {"text": "run", "steps": 2}, session="s") == 2
        assert await session.call("list_goals") == [Goal("walk"), Goal("run", 2)]


async def test_hook_lash_actions_that_raises_fails_the_opening() -> None:
    """Its author is named; an application that counts on an action must not start without it."""

    def lash_actions() -> list[Action]:
        raise OSError("no disk")

    with pytest.raises(PluginError, match="plugin `broken`, hook `lash_actions`: OSError: no disk"):
        async with agent([], plugins=[plugin("broken", lash_actions)]):
            pass


@pytest.mark.statement(8, page="plugin-system")
async def test_two_actions_of_one_name_are_refused_whatever_their_kinds() -> None:
    """8: a query and a command of one name are a conflict that names both plugins."""

    def make(kind: Any) -> Action:
        def same() -> None:
            """The same name."""

        made: Action = kind(same)
        return made

    plugins = [goals(make(Action.query), plugin_id="one"), goals(make(Action.command), plugin_id="two")]
    text = "action `same`: plugin `one` offers it as a query, and plugin `two` as a command"
    with pytest.raises(PluginConflictError, match=text):
        async with agent([], plugins=plugins):
            pass


@pytest.mark.statement(9, page="plugin-system")
@pytest.mark.parametrize("kind", list(ActionKind))
def test_what_an_action_is_follows_from_what_made_it(kind: ActionKind) -> None:
    """9: there is no way to say a kind besides the three constructors."""
    made = getattr(Action, kind.value)(double.run)
    assert (made.kind, made.name) == (kind, "double")
    with pytest.raises(ConfigurationError, match="has no option `kind`"):
        Action.query(kind=kind)


@pytest.mark.statement(10, page="plugin-system")
async def test_an_action_of_another_kind_is_unknown() -> None:
    """10: who wants to read doesn't change anything by a wrong name."""
    async with agent([], plugins=[goals(list_goals, add_goal, double)]) as lash:
        with pytest.raises(UnknownName, match="unknown query `add_goal`"):
            await lash.call("add_goal", Goal("walk"), session="s", kind="query")
        with pytest.raises(UnknownName, match="unknown action `duble`: did you mean `double`"):
            await lash.call("duble", 1)
        assert await lash.call("double", 1, kind=ActionKind.QUERY) == 2


@pytest.mark.statement(11, page="plugin-system")
async def test_the_schemas_of_an_action_follow_from_its_types() -> None:
    """11: what it takes and gives is known from its hints, and held against them, both ways."""
    assert add_goal.input_schema["properties"].keys() == {"text", "steps"}
    assert add_goal.input_schema["required"] == ["text"]
    assert add_goal.output_schema == {"type": "integer"}
    assert list_goals.input_schema == {"type": "null"}

    @Action.query
    def lies() -> int:
        """Say that it is a number."""
        return "many"  # type: ignore[return-value]  # which is what is tried

    async with agent([], plugins=[goals(add_goal, double, lies)]) as lash:
        with pytest.raises(ConfigurationError, match=r"action `add_goal`: what it was given doesn't fit: .*text"):
            await lash.call("add_goal", {"steps": 2}, session="s")
        with pytest.raises(ConfigurationError, match="action `double`: what it was given doesn't fit"):
            await lash.call("double")
        with pytest.raises(PluginError, match=r"plugin `goals`.*action `lies`.*isn't its output"):
            await lash.call("lies")


@pytest.mark.statement(12, page="plugin-system")
async def test_an_action_called_on_a_session_is_about_that_one() -> None:
    """12: `session.call` says the session; without one, an action that may do without is called on none."""

    @Action.query
    def where(ctx: ActionContext) -> str | None:
        """Say the session."""
        return ctx.session_id

    async with agent([], plugins=[goals(where, add_goal, double)]) as lash:
        session = await lash.session("mine")
        assert await session.call("where") == "mine"
        assert await lash.call("where") is None
        with pytest.raises(ConfigurationError, match="action `add_goal` is called on a session"):
            await lash.call("add_goal", Goal("walk"))
        with pytest.raises(ConfigurationError, match="action `double` is called on no session"):
            await session.call("double", 1)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda one, two: None, "takes one, two"),
        (lambda value: None, "`value` has no type"),
    ],
)
def test_an_action_that_can_not_be_is_refused_where_it_is_made(function: Any, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        Action.query(function, name="odd")


# ---- what it may do -------------------------------------------------------------------------------------------------


async def test_what_a_command_remembers_is_there_in_the_next_host_and_in_turns(tmp_path: Any) -> None:
    store, seen = file_store(tmp_path), list[Noted]()

    def lash_before_turn(ctx: Any) -> None:
        seen.append(ctx.state)

    async with agent([], plugins=[goals(add_goal)], store=store) as lash:
        await lash.call("add_goal", Goal("walk"), session="s")
    made = goals(add_goal, list_goals)
    made.lash_before_turn = plugin("x", lash_before_turn).lash_before_turn  # type: ignore[attr-defined]  # one more hook
    async with agent(["Hi."] * 2, plugins=[made], store=store) as lash:
        session = await lash.session("s")
        await session.run("Hello")
        await session.call("add_goal", Goal("run"))
        await session.run("Hello")
        assert await session.call("list_goals") == [Goal("walk"), Goal("run")]
    assert [len(each.goals) for each in seen] == [1, 2]


async def test_a_query_changes_nothing_and_has_no_service_that_could() -> None:
    @Action.query
    async def writes(ctx: ActionContext) -> None:
        """Try to write."""
        ctx.set_state(Noted())

    @Action.query
    async def appends(ctx: ActionContext) -> None:
        """Try to append."""
        await ctx.graph.append_session_nodes("s", AppendSessionNodesRequest(nodes=(), operation_id="o"))

    async with agent([], plugins=[goals(writes, appends)]) as lash:
        with pytest.raises(PluginError, match="only reads the state"):
            await lash.call("writes", session="s")
        with pytest.raises(PluginError, match=r"`ctx.graph` is unavailable in a query") as caught:
            await lash.call("appends", session="s")
        assert isinstance(caught.value.__cause__, CapabilityMissing)
        assert not (await lash.session("s")).is_stored


async def test_a_command_appends_and_reads_what_is_there() -> None:
    @Action.command
    async def note(ctx: ActionContext, text: str) -> int:
        """Append a note, and count what is there."""
        part = Part(id="n.p0", kind=PartKind.TEXT, content=text)
        message = Message(id="n", role=MessageRole.SYSTEM, parts=(part,))
        request = AppendSessionNodesRequest(nodes=(SessionAppendNode(message=message),), operation_id=text)
        assert ctx.session_id is not None
        assert isinstance(await ctx.graph.append_session_nodes(ctx.session_id, request), AppendedNodes)
        return len((await ctx.sessions.snapshot_current()).messages)

    async with agent(["Hi."], plugins=[goals(note)]) as lash:
        session = await lash.session("s")
        await session.run("Hello")
        assert await session.call("note", "Remember this.") == 3


async def test_a_task_runs_turns_tells_its_progress_and_can_be_cancelled() -> None:
    ended: list[str] = []

    @Action.task
    async def work(ctx: ActionContext, times: int) -> list[str]:
        """Ask a session of its own, again and again; hang if there is no end."""
        await ctx.lifecycle.create_session(SessionCreateRequest(session_id="own"))
        said = []
        for number in range(times):
            turn = await ctx.lifecycle.start_turn("own", f"t{number}", "Go on")
            said.append(turn.text)
            ctx.progress(f"asked {number + 1} times", (number + 1) / times)
        try:
            if times == 1:
                await anyio.sleep_forever()
        finally:
            ended.append("ended")
        return said

    told: list[ActionProgress] = []
    async with agent(["One.", "Two.", "Three."], plugins=[goals(work)]) as lash:
        assert await lash.call("work", 2, on_progress=told.append) == ["One.", "Two."]
        assert told == [ActionProgress("asked 1 times", 0.5), ActionProgress("asked 2 times", 1.0)]
        with anyio.CancelScope() as scope:
            await lash.call("work", 1, on_progress=lambda progress: scope.cancel())
        assert scope.cancelled_caught
    assert ended == ["ended", "ended"]


async def test_a_state_that_a_turn_changed_meanwhile_is_not_overwritten() -> None:
    """Nobody waits for an action, and it loses nobody's change: it is to be called again."""

    def lash_before_turn(ctx: Any) -> None:
        ctx.set_state(Noted((Goal("of the turn"),)))

    @Action.command
    async def slow(ctx: ActionContext) -> None:
        """Have a turn run before it is done."""
        await (await lash.session("s")).run("Hello")
        ctx.set_state(Noted((Goal("of the action"),)))

    made = goals(slow, list_goals)
    made.lash_before_turn = plugin("x", lash_before_turn).lash_before_turn  # type: ignore[attr-defined]  # one more hook
    async with agent(["Hi."], plugins=[made]) as lash:
        session = await lash.session("s")
        with pytest.raises(SessionBusy, match="what plugin `goals` remembers was changed"):
            await session.call("slow")
        assert await session.call("list_goals") == [Goal("of the turn")]


async def test_actions_called_in_two_turns_on_each_others_sessions_wait_for_nobody() -> None:
    """They waited for ever; each could only store its state when the other one's turn was over."""
    inside, both = 0, anyio.Event()

    @Action.command
    async def note(ctx: ActionContext) -> None:
        """Remember something."""
        ctx.set_state(Noted((Goal("noted"),)))

    @Action.command
    async def note_more(ctx: ActionContext) -> None:
        """Remember something else."""
        ctx.set_state(Noted((Goal("more"),)))

    @tool
    async def poke(ctx: ToolCallContext) -> str:
        """Call the action on the other session."""
        nonlocal inside
        inside += 1
        if inside == 2:
            both.set()
        await both.wait()
        with pytest.raises(SessionBusy, match=r"runs a turn, and what plugin `goals` remembers can't be stored"):
            await lash.call("note", session="b" if ctx.session_id == "a" else "a")
        return "busy"

    def says(request: Any) -> Reply | str:
        return (
            "Done."
            if any(each.role == "assistant" for each in request.messages)
            else Reply(tool_calls=[Call("poke", {}, "c")])
        )

    async with agent(says, plugins=[goals(note, list_goals), goals(note_more, plugin_id="more")], tools=[poke]) as lash:
        sessions = [await lash.session("a"), await lash.session("b")]
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                for each in sessions:
                    group.start_soon(each.run, "Go.")
            async with anyio.create_task_group() as group:  # those of one session store one after the other
                for name in ("note", "note_more"):
                    group.start_soon(sessions[0].call, name)
        assert await sessions[0].call("list_goals") == [Goal("noted")]


async def test_an_action_of_a_plugin_that_the_mode_lacks_is_refused() -> None:
    def lash_modes() -> list[Mode]:
        return [Mode(mode_id="bare", extends="standard", without=("goals",))]

    async with agent([], plugins=[goals(list_goals), plugin("modes", lash_modes)]) as lash:
        session = await lash.session("s", mode="bare")
        with pytest.raises(ConfigurationError, match="plugin `goals`, which mode `bare` of session `s` lacks"):
            await session.call("list_goals")


async def test_an_action_that_raises_is_its_plugins_error_and_stores_nothing() -> None:
    @Action.command
    def fails(ctx: ActionContext) -> None:
        """Change the state, and fail."""
        ctx.set_state(Noted((Goal("never"),)))
        raise ValueError("no")

    async with agent([], plugins=[goals(fails, list_goals)]) as lash:
        with pytest.raises(PluginError, match=r"plugin `goals`.*action `fails`.*ValueError: no"):
            await lash.call("fails", session="s")
        assert await lash.call("list_goals", session="s") == []


# ---- on the command line --------------------------------------------------------------------------------------------


def test_actions_are_listed_and_called_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed is JSON; a wrong name or value is told with what is right."""

    @Action.task
    async def count(ctx: ActionContext, limit: int) -> list[int]:
        """Count."""
        ctx.progress("counted", 1.0)
        return list(range(limit))

    lash = Cli(tmp_path)
    with installed({"goals": goals(count, add_goal, list_goals)}):
        run = partial(lash.here, monkeypatch, capsys)
        listed = run("actions", "list")
        assert "count" in listed.out
        assert "goals" in listed.out
        rows = {each["name"]: each for each in run("actions", "list", "--json").object}
        assert (rows["count"]["kind"], rows["count"]["input"]) == ("task", {"type": "integer"})
        counted = run("actions", "call", "count", "3")
        assert (counted.object, counted.err) == ([0, 1, 2], "counted (100%)\n")
        assert run("actions", "call", "add_goal", "-", "--session", "s", stdin=b'{"text": "walk"}').object == 1
        assert run("actions", "call", "list_goals", "--session", "s").object == [{"text": "walk", "steps": 1}]
        for args, says in (
            (("cuont", "3"), "unknown action `cuont`: did you mean `count`"),
            (("count", "three"), "VALUE must be JSON"),
            (("count", '"three"'), "what it was given doesn't fit"),
        ):
            refused = run("actions", "call", *args)
            assert (refused.code, says in refused.err) == (2, True), refused.err
        assert "action count is of plugin goals" in run("plugins", "why", "count").out
        (row,) = [each for each in run("plugins", "list", "--json").object if each["id"] == "goals"]
        assert "action count" in row["offers"]
