"""A session's tools: shown, hidden, out of reach, found, remembered; what the model is told of them is in a record."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin

from lash_framework.session_tools import tool_state
from lash_framework.state import TOOLS
from lash_hookspecs import (
    CatalogEdit,
    CheckpointHookContext,
    CheckpointKind,
    CompositionContext,
    ConfigurationError,
    FunctionTool,
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    PluginInfo,
    StaleToolState,
    ToolActivation,
    ToolCallContext,
    ToolManifest,
    ToolSet,
    ToolWord,
    ToolWords,
    TurnHookContext,
    UnknownName,
    encode,
    hookimpl,
    tool,
)
from lash_plugin_provider_scripted import ScriptedProvider
from lash_plugin_provider_scripted.script import Call, Reply


def named(name: str, text: str = "", **options: Any) -> FunctionTool:
    @tool(name=name, description=text, effect="pure", **options)
    async def made() -> str:
        return f"{name} ran"

    return made


def offering(*tools: object, plugin_id: str = "p") -> object:
    def lash_tools(ctx: CompositionContext) -> list[object]:
        return list(tools)

    return plugin(plugin_id, lash_tools)


def mine(names: Iterable[str]) -> list[str]:
    """These without the tools that are installed here anyway."""
    return [each for each in names if each not in ("batch", "roll")]


class Watched(ScriptedProvider):
    """A model that remembers which tools it was told of."""

    def __init__(self, script: Any) -> None:
        super().__init__(script)
        self.told: list[list[str]] = []

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        self.told.append(mine(each.name for each in request.tools))
        return await super().complete(request, send)


def calls(*names: str, **args: Any) -> Reply:
    return Reply(tool_calls=[Call(name, args) for name in names])


def codes(turn: Any) -> list[str]:
    """What became of a turn's calls: a failure's code, or ok."""
    return [getattr(each.output.outcome, "code", "ok") for each in turn.tool_calls]


# ---- hidden and shown -----------------------------------------------------------------------------------------------


@pytest.mark.statement(45, 46, page="plugin-system")
async def test_a_tool_that_a_session_hides_is_neither_told_of_nor_run() -> None:
    """45: who is no member is rejected before its contract is looked at. 46: a hidden tool can't be run by its name."""
    model = Watched(["a", calls("x"), "b", "c"])
    broken = named("x")
    async with agent(model, plugins=[offering(broken, named("y"))]) as lash:
        session = await lash.session("s")
        await session.run("1")
        state = await session.edit_tools(hide=["x"])
        assert (state.generation, state.tools["x"].member, state.tools["y"].member) == (1, False, True)
        assert state.tools["x"].reason == "hidden in this session by `application`"
        turn = await session.run("2")
        assert codes(turn) == ["unknown_tool"]
        other = await lash.session("other")
        await other.run("1")
    assert model.told == [["x", "y"], ["y"], ["y"], ["x", "y"]]


async def test_a_hidden_tools_schema_is_not_even_compiled() -> None:
    broken = FunctionTool(named("x").function, name="x")
    broken.manifest = ToolManifest(name="x", input_schema={"$ref": "https://example.invalid/"})
    async with agent([calls("x"), "b"], plugins=[offering(broken)]) as lash:
        session = await lash.session("s")
        await session.edit_tools(hide=["x"])
        assert codes(await session.run("1")) == ["unknown_tool"]


async def test_what_a_session_says_of_its_tools_survives_a_restart(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'a.db'}"
    for told, edit in (([["y"]], True), ([["y"]], False), ([["y"]], False)):
        model = Watched(["a"])
        async with agent(model, store=store, plugins=[offering(named("x"), named("y"))]) as lash:
            session = await lash.session("s")
            if edit:
                await session.edit_tools(hide=["x"])
            await session.run("q")
            assert (await session.tools()).generation == 1
        assert model.told == told


async def test_what_is_said_while_a_turn_fails_is_not_forgotten() -> None:
    def lash_after_turn(ctx: TurnHookContext, turn: Any) -> None:
        if turn.turn_id == "bad":
            raise ValueError("no")

    model = Watched(["a", "b"])
    async with agent(model, plugins=[offering(named("x"), named("y")), plugin("q", lash_after_turn)]) as lash:
        session = await lash.session("s")
        await session.edit_tools(hide=["x"])
        await session.run("1", turn_id="bad")
        await session.run("2")
        assert (await session.tools()).tools["x"].member is False
    assert model.told == [["y"], ["y"]]


@pytest.mark.statement(61, page="plugin-system")
async def test_an_edit_of_a_stale_generation_is_refused() -> None:
    """61: applying a stale generation is refused, and changes nothing."""
    async with agent(["a"], plugins=[offering(named("x"), named("y"))]) as lash:
        session = await lash.session("s")
        seen = await session.tools()
        await session.edit_tools(hide=["x"], generation=seen.generation)
        with pytest.raises(StaleToolState, match="of generation 1 by now, not 0; look at"):
            await session.edit_tools(hide=["y"], generation=seen.generation)
        assert (await session.tools()).tools["y"].member
        await session.run("q")
        assert (await session.edit_tools(show=["x"], generation=1)).generation == 2
        assert (await session.edit_tools(show=["x"])).generation == 2


async def test_what_can_not_be_shown_is_refused_with_the_reason() -> None:
    def lash_tool_catalog(ctx: CompositionContext, catalog: Any) -> CatalogEdit:
        return CatalogEdit(hide=frozenset({"shell"}))

    tools = offering(named("shell"), named("inner", activation=ToolActivation.INTERNAL), named("open"))
    async with agent(["a"], plugins=[tools, plugin("guard", lash_tool_catalog)]) as lash:
        session = await lash.session("s")
        with pytest.raises(UnknownName, match="unknown tool `opn`: did you mean `open`"):
            await session.edit_tools(hide=["opn"])
        with pytest.raises(ConfigurationError, match="`shell` can't be shown: plugin `guard` hides it"):
            await session.edit_tools(show=["shell"])
        with pytest.raises(ConfigurationError, match="`inner` can't be shown: it is internal"):
            await session.edit_tools(show=["inner"])
        state = await session.tools()
        assert state.generation == 0
        assert {name: state.tools[name].reason for name in mine(state.tools)} == {
            "shell": "hidden by plugin `guard`",
            "inner": "internal: only other tools call it",
            "open": "",
        }


async def test_a_plugin_shows_and_hides_by_a_hook_and_its_word_is_stored(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'a.db'}"

    def lash_before_turn(ctx: TurnHookContext) -> None:
        if ctx.turn_index == 0:
            ctx.edit_tools(hide=["x"])

    def lash_checkpoint(ctx: CheckpointHookContext) -> None:
        if ctx.turn_index == 0 and ctx.kind is CheckpointKind.AFTER_WORK:
            assert mine(each.name for each in ctx.tools) == ["y", "z"]
            ctx.edit_tools(hide=["z"])

    plan = plugin("plan", lash_before_turn, lash_checkpoint)
    model = Watched([calls("y"), "a", "b"])
    async with agent(model, store=store, plugins=[offering(named("x"), named("y"), named("z")), plan]) as lash:
        session = await lash.session("s")
        await session.run("1", turn_id="one")
        await session.run("2")
        assert (await session.tools()).tools["z"].reason == "hidden in this session by `plan`"
        told = await lash.explain("one")
        assert mine(each.name for each in told.tools) == ["y"]
        assert {each.name: each.reason for each in told.withheld} == {
            "x": "hidden in this session by `plan`",
            "z": "hidden in this session by `plan`",
        }
    assert model.told == [["y", "z"], ["y"], ["y"]]


async def test_an_observer_can_not_change_the_tools() -> None:
    seen: list[str] = []

    def lash_turn_committed(ctx: TurnHookContext, turn: Any) -> None:
        try:
            ctx.edit_tools(hide=["x"])
        except Exception as error:
            seen.append(str(error))

    async with agent(["a"], plugins=[offering(named("x")), plugin("o", lash_turn_committed)]) as lash:
        await (await lash.session()).run("1")
    assert seen == ["plugin `o`, hook `lash_turn_committed`: an observer can't change the session's tools"]


# ---- internal -------------------------------------------------------------------------------------------------------


@pytest.mark.statement(47, page="plugin-system")
async def test_an_internal_tool_is_for_other_tools_only() -> None:
    """47: an internal tool is absent from the model's specs and not callable by it; a tool may call it."""

    @tool(effect="pure")
    async def outer(ctx: ToolCallContext, name: str) -> str:
        """Call another one."""
        assert ctx.call_tool is not None
        return str((await ctx.call_tool(0, name, {})).output.outcome)

    def lash_tool_catalog(ctx: CompositionContext, catalog: Any) -> CatalogEdit:
        return CatalogEdit(hide=frozenset({"gone"}))

    inner, gone = (named(each, activation=ToolActivation.INTERNAL) for each in ("inner", "gone"))
    script = [calls("inner"), calls("outer", name="inner"), calls("outer", name="gone"), "a"]
    model = Watched(script)
    async with agent(model, plugins=[offering(outer, inner, gone), plugin("g", lash_tool_catalog)]) as lash:
        turn = await (await lash.session()).run("1")
    assert codes(turn) == ["unknown_tool", "ok", "ok", "ok", "unknown_tool"]
    assert model.told == [["outer"]] * 4


# ---- out of reach ---------------------------------------------------------------------------------------------------


class Guarded:
    """A tool that may be out of reach."""

    def __init__(self) -> None:
        self.manifest = ToolManifest(name="remote")
        self.unavailable: str | None = "the server is down"

    async def call(self, ctx: ToolCallContext, args: Any) -> str:
        return "ok"


async def test_a_tool_out_of_reach_is_not_told_of_and_comes_back_within_the_turn() -> None:
    remote = Guarded()

    @tool(effect="pure")
    async def mend() -> None:
        """Mend it."""
        remote.unavailable = None

    model = Watched([calls("remote"), calls("mend"), calls("remote"), "a"])
    async with agent(model, plugins=[offering(remote, mend)]) as lash:
        session = await lash.session()
        assert (await session.tools()).tools["remote"].reason == "unavailable: the server is down"
        turn = await session.run("1", turn_id="one")
        failed = turn.tool_calls[0].output.outcome
        assert (failed.code, failed.message) == (  # type: ignore[union-attr]  # it failed
            "tool_unavailable",
            "`remote` can't be called now: the server is down",
        )
        remote.unavailable = "down again"
        await session.run("2", turn_id="two")
        assert [(each.name, each.reason) for each in (await lash.explain("two")).withheld] == [
            ("remote", "was not available")
        ]
    assert codes(turn) == ["tool_unavailable", "ok", "ok"]
    assert model.told == [["mend"], ["mend"], ["remote", "mend"], ["remote", "mend"], ["mend"]]


async def test_a_tool_that_fails_to_say_whether_it_is_there_is_not() -> None:
    class Odd(Guarded):
        @property
        def unavailable(self) -> str | None:
            raise LookupError("who knows")

        @unavailable.setter
        def unavailable(self, value: str | None) -> None: ...

    async with agent(["a"], plugins=[offering(Odd())]) as lash:
        session = await lash.session()
        assert (await session.tools()).tools["remote"].reason == "unavailable: LookupError: who knows"
        await session.run("1")


class Service:
    """A plugin whose tools need a connection, which may fail and come back."""

    def __init__(self) -> None:
        self.reason: str | None = "not connected yet"
        self.refuses = True
        self.entered = 0
        self.lash_plugin_info = hookimpl(lambda: PluginInfo(id="service"))
        self.tools = ToolSet([named("issues"), named("mails")], prefix="hub_", unavailable=lambda: self.reason)

    def connect(self) -> None:
        self.reason = "hub.example.com refused the connection" if self.refuses else None

    @hookimpl
    @asynccontextmanager
    async def lash_lifespan(self, host: Any) -> AsyncIterator[Service]:
        self.entered += 1
        self.connect()
        yield self
        self.reason = "disconnected"

    @hookimpl
    def lash_tools(self, ctx: CompositionContext) -> ToolSet:
        return self.tools


async def test_a_set_of_tools_without_its_connection_fails_no_start_and_comes_back() -> None:
    service = Service()
    model = Watched(["a", calls("hub_issues"), "b", "c"])
    async with agent(model, plugins=[service]) as lash:
        session = await lash.session()
        await session.run("1")
        turn = await session.run("2")
        assert turn.tool_calls[0].output.outcome.message == (  # type: ignore[union-attr]  # it failed
            "`hub_issues` can't be called now: hub.example.com refused the connection"
        )
        service.refuses = False
        service.connect()  # as a task of its lifespan would, in time
        await session.run("3")
    assert (model.told, service.entered) == ([[], [], [], ["hub_issues", "hub_mails"]], 1)


# ---- deferred -------------------------------------------------------------------------------------------------------


def deferred(*rows: tuple[str, str]) -> Iterable[FunctionTool]:
    return [named(name, text, activation="deferred") for name, text in rows]


MANY = [
    ("convert_currency", "Convert an amount of money."),
    ("weather_report", "What the sky will do in a city."),
    ("weather_alerts", "Storm warnings."),
    ("sky", "Stars over a city."),
]


async def test_deferred_tools_are_found_and_stay_with_the_session(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'a.db'}"
    search = calls("search_tools", query="weather in the city", limit=2)
    model = Watched([calls("sky"), search, calls("weather_report"), "a"])
    tools = [*deferred(*MANY), named("open")]
    async with agent(model, store=store, plugins=[offering(*tools)]) as lash:
        session = await lash.session("s")
        turn = await session.run("1")
        found: Any = turn.tool_calls[1].output.outcome
        assert [each["name"] for each in found.value] == ["weather_report", "weather_alerts"]
        assert (await session.tools()).tools["sky"].reason == "deferred: it wasn't found yet"
        provenance = {(each.name, each.plugin_id, each.detail) for each in session.composition.provenance}
        assert ("search_tools", "p", "finds `convert_currency`, and what else is deferred") in provenance
    assert codes(turn) == ["unknown_tool", "ok", "ok"]
    few, more = ["open", "search_tools"], ["weather_report", "weather_alerts", "open", "search_tools"]
    assert model.told == [few, few, more, more]
    again = Watched(["b", "c"])
    async with agent(again, store=store, plugins=[offering(*tools)]) as lash:
        await (await lash.session("s")).run("2")
        await (await lash.session("other")).run("1")
    assert again.told == [more, few]


async def test_a_tool_that_was_hidden_is_not_found() -> None:
    model = Watched([calls("search_tools", query="sky"), calls("search_tools", query="nothing like it"), "a"])
    async with agent(model, plugins=[offering(*deferred(*MANY))]) as lash:
        session = await lash.session("s")
        await session.edit_tools(hide=["sky"])
        turn = await session.run("1")
    one, none = (each.output.outcome for each in turn.tool_calls)
    assert [each["name"] for each in one.value] == ["weather_report"]  # type: ignore[union-attr]  # they worked
    assert none.value == "no tool matches; try other words"  # type: ignore[union-attr]  # it worked


async def test_a_plugins_own_search_is_taken_instead() -> None:
    async with agent(["a"], plugins=[offering(*deferred(*MANY), named("search_tools", "Mine."))]) as lash:
        session = await lash.session("s")
        assert session.composition.tools["search_tools"].tool.manifest.description == "Mine."


# ---- replay ---------------------------------------------------------------------------------------------------------


async def test_a_turn_that_goes_on_elsewhere_tells_the_model_what_it_was_told_before(tmp_path: Path) -> None:
    """Neither the search nor a hook runs again, and the application's word was in the turn's first record."""
    store = f"sqlite:///{tmp_path / 'a.db'}"
    searched: list[str] = []

    def lash_before_turn(ctx: TurnHookContext) -> None:
        searched.append("hook")
        ctx.edit_tools(hide=["y"])

    @tool(effect="pure")
    async def dies() -> None:
        """Die, the first time."""
        if "died" not in searched:
            searched.append("died")
            scope.cancel()
            await anyio.sleep_forever()

    tools = [offering(*deferred(*MANY), named("x"), named("y"), named("z"), dies), plugin("q", lash_before_turn)]
    first = Watched([calls("search_tools", query="sky", limit=1), calls("dies")])
    with anyio.CancelScope() as scope:
        async with agent(first, store=store, plugins=tools) as lash:
            session = await lash.session("s")
            await session.edit_tools(hide=["x"])
            await session.run("1", turn_id="one")
    second = Watched([calls("x", "y", "sky"), "done", "again"])
    async with agent(second, store=store, plugins=tools) as lash:
        session = await lash.session("s", recover=False)
        (recovered,) = await session.recover()
        assert recovered.turn is not None
        assert codes(recovered.turn) == ["ok", "ok", "unknown_tool", "unknown_tool", "ok"]
        await session.run("2")
        state = await session.tools()
        assert {name for name in mine(state.tools) if state.tools[name].member} == {"sky", "z", "dies", "search_tools"}
    assert searched == ["hook", "died", "hook"]
    assert first.told == [["z", "dies", "search_tools"], ["sky", "z", "dies", "search_tools"]]
    assert second.told == [["sky", "z", "dies", "search_tools"]] * 3


# ---- tools that come and go -----------------------------------------------------------------------------------------


async def state_with(tools: Iterable[object], store: str, act: Callable[[Any], Any] | None = None) -> Any:
    """The session's tools in a host with these, after a turn."""
    async with agent(["a"], store=store, plugins=[offering(*tools)]) as lash:
        session = await lash.session("s")
        if act is not None:
            await act(session)
        await session.run("q")
        return await session.tools()


@pytest.mark.statement(62, 63, 64, 65, 66, page="plugin-system")
async def test_tools_come_and_go_and_a_session_remembers_its_word(tmp_path: Path) -> None:
    """62: a restore keeps what is gone as orphans. 63: an orphan rebinds when it is back. 64: membership survives.

    65: newly offered tools appear. 66: what nobody offers any more is gone.
    """
    store = f"sqlite:///{tmp_path / 'a.db'}"
    x, y, new = named("x"), named("y"), named("new")
    first = await state_with([x, y], store, lambda session: session.edit_tools(hide=["x"]))
    assert {name: first.tools[name].member for name in mine(first.tools)} == {"x": False, "y": True}
    without = await state_with([new], store)
    assert mine(without.tools) == ["new", "x"]
    orphan = without.tools["x"]
    assert (orphan.orphaned, orphan.member, orphan.manifest, orphan.reason) == (
        True,
        False,
        None,
        "no plugin offers it now",
    )
    assert without.tools["new"].member
    again = await state_with([named("x", "Another text."), y, new], store)
    assert {name: (again.tools[name].member, again.tools[name].orphaned) for name in mine(again.tools)} == {
        "x": (False, False),
        "y": (True, False),
        "new": (True, False),
    }
    assert again.tools["x"].manifest.description == "Another text."
    assert first.generation == without.generation == again.generation == 1


@pytest.mark.statement(67, page="plugin-system")
async def test_what_is_stored_of_tools_names_no_source(tmp_path: Path) -> None:
    """67: the exported state names no source: another plugin may offer the tool, and the word holds."""
    store = f"sqlite:///{tmp_path / 'a.db'}"
    await state_with([named("x")], store, lambda session: session.edit_tools(hide=["x"]))
    async with agent(["a"], store=store, plugins=[offering(named("x"), plugin_id="other")]) as lash:
        session = await lash.session("s")
        assert not (await session.tools()).tools["x"].member
        loaded = await lash.store.load_session("s")
        assert loaded is not None
        assert loaded.components[TOOLS].body == encode(
            ToolWords(generation=1, words={"x": ToolWord(False, "application")})
        )


# ---- what it costs --------------------------------------------------------------------------------------------------


async def test_a_session_that_says_nothing_of_its_tools_stores_nothing_of_them_and_asks_for_the_same_objects() -> None:
    async with agent(["a", "b"], plugins=[offering(named("x"))]) as lash:
        session = await lash.session("s")
        await session.run("1")
        await session.run("2")
        loaded = await lash.store.load_session("s")
        assert loaded is not None
        assert dict(loaded.components) == {}
        composition = session.composition
        assert composition.catalog.specs is composition.tool_specs
        assert tool_state(composition.catalog, ToolWords()).tools["x"].member


async def test_a_word_is_stored_once_and_its_size_does_not_grow_with_the_tools() -> None:
    sizes = []
    for count in (2, 50):
        async with agent(["a", "b"], plugins=[offering(*(named(f"x{at}", "A text.") for at in range(count)))]) as lash:
            session = await lash.session("s")
            await session.edit_tools(hide=["x1"])
            await session.run("1")
            loaded = await lash.store.load_session("s")
            assert loaded is not None
            first = loaded.components[TOOLS]
            await session.run("2")
            loaded = await lash.store.load_session("s")
            assert loaded is not None
            assert loaded.components[TOOLS].ref == first.ref
            sizes.append(len(first.body or b""))
    assert len(set(sizes)) == 1
