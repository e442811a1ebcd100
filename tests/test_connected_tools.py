"""Toolsets that connect: a real server on a socket, which comes, goes, and offers something else by the next turn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from agents import agent, cancelled_when, inline_agent, plugin
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from attrs import define, evolve, field
from test_replay import Records
from test_session_tools import Watched, calls, mine, named

from lash_framework.settings import load_settings
from lash_framework.toolsets import MAX_OFFER_BYTES, Toolsets
from lash_hookspecs import (
    CatalogEdit,
    CompositionContext,
    ConfigurationError,
    ConnectedToolSet,
    ListTools,
    PluginError,
    PrefixChange,
    PrefixPart,
    Stopped,
    StopReason,
    ToolManifest,
    ToolsNotReady,
    ToolState,
    TurnHookContext,
)

# ---- a server with a line protocol ----------------------------------------------------------------------------------


@define
class Server:
    """Offers tools by a name and a description: `list` names them, `call NAME` answers how often it was called."""

    offers: dict[str, str] = field(factory=lambda: {"add": "Add."})
    seen: Counter[str] = field(factory=Counter)
    port: int = 0
    hangs: bool = False
    open: int = 0
    _scope: anyio.CancelScope | None = None
    _stopped: anyio.Event = field(factory=anyio.Event)

    async def start(self, tasks: Any) -> None:
        self._stopped = anyio.Event()
        await tasks.start(self._serve)

    async def die(self) -> None:
        """Its connections break, and nobody can make one."""
        assert self._scope is not None
        self._scope.cancel()
        await self._stopped.wait()

    async def _serve(self, *, task_status: Any) -> None:
        try:
            async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
                self.port = listener.extra(SocketAttribute.local_port)
                with anyio.CancelScope() as self._scope:
                    task_status.started()
                    await listener.serve(self._talk)
        finally:
            self._stopped.set()

    async def _talk(self, stream: SocketStream) -> None:
        self.seen["connected"] += 1
        self.open += 1
        try:
            await self._answer(stream)
        finally:
            self.open -= 1

    async def _answer(self, stream: SocketStream) -> None:
        async with stream:
            lines, hung = BufferedByteReceiveStream(stream), False
            while True:
                try:
                    verb, _, name = (await lines.receive_until(b"\n", 1000)).decode().partition(" ")
                except (anyio.EndOfStream, anyio.IncompleteRead):
                    break
                self.seen[verb] += 1
                hung = hung or self.hangs
                if hung:
                    continue
                answer = self.offers if verb == "list" else f"{name} {self.seen['call']}"
                await stream.send(json.dumps(answer).encode() + b"\n")


class Remote:
    """A tool of the server."""

    def __init__(self, ask: Callable[[str], Awaitable[Any]], name: str, description: str) -> None:
        self.manifest = ToolManifest(name=name, description=description)
        self._ask = ask

    async def call(self, ctx: Any, args: Any) -> object:
        return await self._ask(f"call {self.manifest.name}")


def toolset(server: Server, log: list[str], name: str = "calc", **options: Any) -> ConnectedToolSet:
    @asynccontextmanager
    async def connect() -> AsyncIterator[ListTools]:
        log.append(f"connect {name}")
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            lines = BufferedByteReceiveStream(stream)

            async def ask(line: str) -> Any:
                await stream.send(f"{line}\n".encode())
                return json.loads(await lines.receive_until(b"\n", 10_000))

            async def list_tools() -> list[Remote]:
                return [Remote(ask, *each) for each in (await ask("list")).items()]

            try:
                yield list_tools
            finally:
                log.append(f"leave {name}")

    return ConnectedToolSet(name=name, connect=connect, **options)


def offering(*offered: object, hooks: Any = ()) -> object:
    def lash_tools(ctx: CompositionContext) -> list[object]:
        return list(offered)

    return plugin("remote", lash_tools, *hooks)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Server, Any]]:
    server = Server()
    async with anyio.create_task_group() as tasks:
        await server.start(tasks)
        yield server, tasks
        tasks.cancel_scope.cancel()


def outcomes(turn: Any) -> list[Any]:
    return [
        getattr(each.output.outcome, "value", None) or (each.output.outcome.code, each.output.outcome.message)
        for each in turn.tool_calls
    ]


# ---- connecting -----------------------------------------------------------------------------------------------------


async def test_it_connects_as_the_first_turn_starts_once_for_a_host_and_is_left_in_reverse_order() -> None:
    log: list[str] = []
    async with serving() as (server, _):
        model = Watched([calls("x_add"), "done", "more"])
        both = [toolset(server, log, "a", prefix="x_"), toolset(server, log, "b", prefix="y_")]
        async with agent(model, plugins=[offering(*both)]) as lash:
            session = await lash.session("s")
            assert log == []
            assert dict((await session.tools()).absent) == {
                "toolset a": "not connected yet: a turn does it as it starts",
                "toolset b": "not connected yet: a turn does it as it starts",
            }
            turn = await session.run("go", turn_id="t")
            await (await lash.session("other")).run("go")
            assert sorted(log) == ["connect a", "connect b"]  # both at once
            state = await session.tools()
            assert state.absent == {}
            assert state.tools["x_add"].member
            explained = await lash.explain("t")
        assert log[2:] == ["leave b", "leave a"]
    assert outcomes(turn) == ["add 1"]
    assert turn.tool_calls[0].plugin_id == "remote"
    assert model.told == [["x_add", "y_add"]] * 3
    assert {each.plugin_id for each in explained.tools if each.name in mine(model.told[0])} == {"remote"}
    assert server.seen == {"connected": 2, "list": 4, "call": 1}


async def test_an_application_gives_one_like_a_tool_and_shows_and_hides_what_it_offers() -> None:
    async with serving() as (server, _):
        model = Watched(["one", "two"])
        async with agent(model, tools=[toolset(server, [])]) as lash:
            session = await lash.session("s")
            await session.run("go")
            await session.edit_tools(hide=["add"])
            await session.run("go")
    assert model.told == [["add"], []]


async def test_a_server_that_died_fails_calls_with_the_plugins_name_and_the_next_turn_connects_again() -> None:
    log: list[str] = []
    async with serving() as (server, tasks):

        async def script(request: Any) -> Any:
            last = request.messages[-1].blocks[-1]
            if last.tag == "tool_result":
                return "done"
            if last.text == "die":
                await server.die()
            return calls("add")

        async with agent(script, plugins=[offering(toolset(server, log))]) as lash:
            session = await lash.session("s")
            died = await session.run("die")
            await server.start(tasks)
            again = await session.run("go")
    ((code, text),) = outcomes(died)
    assert code == "tool_raised"
    assert text.startswith("toolset `calc` of plugin `remote`: ")
    assert died.is_success
    assert outcomes(again) == ["add 1"]
    assert log == ["connect calc", "leave calc", "connect calc", "leave calc"]


async def test_a_turn_goes_on_without_a_server_that_is_down_says_why_and_the_next_one_tries_again() -> None:
    states: list[ToolState] = []

    async def lash_before_turn(ctx: TurnHookContext) -> None:
        states.append(await ctx.sessions.tool_state())

    async with serving() as (server, tasks):
        await server.die()
        model = Watched([calls("add"), "nothing", "there", "gone"])
        hooks = [lash_before_turn]
        async with agent(model, plugins=[offering(named("own"), toolset(server, []), hooks=hooks)]) as lash:
            session = await lash.session("s")
            down = await session.run("go", turn_id="down")
            await server.start(tasks)
            await session.run("go", turn_id="up")
            await server.die()
            await session.run("go", turn_id="away")
            explained = {each: await lash.explain(each) for each in ("down", "up", "away")}
    assert model.told == [["own"], ["own"], ["own", "add"], ["own"]]
    assert outcomes(down)[0][0] == "unknown_tool"
    ((label, reason),) = states[0].absent.items()
    assert label == "toolset calc"
    assert "OSError" in reason
    assert "add" not in states[0].tools
    assert states[1].absent == {}
    assert states[1].tools["add"].member
    (withheld,) = [each for each in explained["down"].withheld if each.plugin_id == "remote"]
    assert (withheld.name, withheld.reason) == (label, reason)
    changes = [each for each in explained["up"].changes if each.part is PrefixPart.TOOL]
    assert changes == [PrefixChange(part=PrefixPart.TOOL, name="add", change="added", plugin_ids=("remote",))]
    changes = [each for each in explained["away"].changes if each.part is PrefixPart.TOOL]
    assert changes == [PrefixChange(part=PrefixPart.TOOL, name="add", change="removed", plugin_ids=("remote",))]


async def test_a_toolset_that_is_not_ready_keeps_its_connection_and_has_its_tools_when_it_is() -> None:
    """A server that takes longer to start than a turn waits used to be started anew by each turn, and never came up."""
    log: list[str] = []
    ready = False

    @asynccontextmanager
    async def connect() -> AsyncIterator[ListTools]:
        log.append("connect")

        async def list_tools() -> list[Remote]:
            if not ready:
                raise ToolsNotReady("it is still starting")
            return [Remote(ask, "add", "Add.")]

        async def ask(line: str) -> str:
            return "3"

        yield list_tools

    model = Watched(["later", calls("add"), "done"])
    async with agent(model, tools=[ConnectedToolSet(name="slow", connect=connect)]) as lash:
        session = await lash.session("s")
        await session.run("go")
        assert dict((await session.tools()).absent) == {"toolset slow": "it is still starting"}
        ready = True
        turn = await session.run("go")
    assert outcomes(turn) == ["3"]
    assert model.told == [[], ["add"], ["add"]]
    assert log == ["connect"]


@pytest.mark.parametrize("hangs_at", ["connecting", "listing"])
async def test_a_toolset_that_hangs_is_given_up_after_its_limit(hangs_at: str) -> None:
    @asynccontextmanager
    async def connect() -> AsyncIterator[ListTools]:
        if hangs_at == "connecting":
            await anyio.sleep_forever()
        yield anyio.sleep_forever

    hanging = ConnectedToolSet(name="slow", connect=connect, limit_s=0.01)
    async with agent(["done"], plugins=[offering(hanging)]) as lash:
        session = await lash.session("s")
        assert (await session.run("go")).is_success
        assert (await session.tools()).absent == {"toolset slow": "it took longer than 0.01 s (`limit_s`)"}


async def test_a_connection_that_hangs_is_replaced_by_the_next_turn() -> None:
    log: list[str] = []
    async with serving() as (server, _):
        model = Watched(["one", "two", "three"])
        async with agent(model, plugins=[offering(toolset(server, log, limit_s=1.0))]) as lash:
            session = await lash.session("s")
            await session.run("go")
            server.hangs = True
            await session.run("go")
            server.hangs = False
            await session.run("go")
    assert model.told == [["add"], [], ["add"]]
    assert log == ["connect calc", "leave calc", "connect calc", "leave calc"]


# ---- what goes wrong while turns run --------------------------------------------------------------------------------


async def test_a_connection_that_is_lost_within_a_turn_is_made_anew_by_the_next_call() -> None:
    """Who calls again in the same turn is not left with what is broken for the rest of it."""
    log: list[str] = []
    async with serving() as (server, tasks):
        scripted = iter(["lost", "call", "call", "end"])

        async def script(request: Any) -> Any:
            step = next(scripted)
            if step == "lost":
                await server.die()
                await server.start(tasks)
            return "done" if step == "end" else calls("add")

        async with agent(script, plugins=[offering(toolset(server, log))]) as lash:
            turn = await (await lash.session("s")).run("go")
    lost, *others = outcomes(turn)
    assert lost[0] == "tool_raised"
    assert others == ["add 1", "add 2"]
    assert log == ["connect calc", "leave calc", "connect calc", "leave calc"]
    assert server.seen["list"] == 2  # and not before the third call, since nothing was wrong with the second


async def test_a_server_that_answers_no_call_any_more_is_replaced_after_the_calls_time_limit() -> None:
    log: list[str] = []
    async with serving() as (server, _):
        scripted = iter(["hang", "call", "call", "end"])

        def script(request: Any) -> Any:
            step = next(scripted)
            server.hangs = step == "hang"
            return "done" if step == "end" else calls("add")

        limited = toolset(server, log, limit_s=0.3)

        @asynccontextmanager
        async def connect() -> AsyncIterator[ListTools]:
            async with limited.connect() as list_tools:

                async def with_limits() -> list[Any]:
                    listed: Any = list(await list_tools())
                    for each in listed:
                        each.manifest = evolve(each.manifest, timeout_s=1.5)
                    return listed

                yield with_limits

        async with agent(script, plugins=[offering(evolve(limited, connect=connect))]) as lash:
            turn = await (await lash.session("s")).run("go")
    told = [each if isinstance(each, str) else each[0] for each in outcomes(turn)]
    assert told == ["timeout", "tool_unavailable", "add 2"]
    assert log == ["connect calc", "leave calc", "connect calc", "leave calc"]


async def test_a_call_that_runs_is_not_cut_off_by_another_session_whose_turn_finds_the_server_too_busy() -> None:
    """A subagent's turn starts while its caller's call runs; a server that does one thing at a time lists late."""
    log: list[str] = []
    is_busy, go_on = anyio.Event(), anyio.Event()

    class Long:
        manifest = ToolManifest(name="long", description="Take long.")

        async def call(self, ctx: Any, args: Any) -> object:
            is_busy.set()
            await go_on.wait()
            return "kept" if log == ["connect"] else "cut off"

    @asynccontextmanager
    async def connect() -> AsyncIterator[ListTools]:
        async def list_tools() -> list[Any]:
            if is_busy.is_set() and not go_on.is_set():
                await anyio.sleep_forever()
            return [Long()]

        log.append("connect")
        yield list_tools
        log.append("leave")

    def script(request: Any) -> Any:
        last = request.messages[-1].blocks[-1]
        return "done" if last.tag == "tool_result" or last.text == "other" else calls("long")

    turns: list[Any] = []
    async with agent(script, plugins=[offering(ConnectedToolSet(name="calc", connect=connect, limit_s=0.02))]) as lash:

        async def run() -> None:
            turns.append(await (await lash.session("one")).run("go"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await is_busy.wait()
            other = await lash.session("two")
            assert (await other.run("other")).is_success
            (reason,) = (await other.tools()).absent.values()
            go_on.set()
        await other.run("other")
        assert (await other.tools()).absent == {}
    assert outcomes(turns[0]) == ["kept"]
    assert reason == "it took longer than 0.02 s (`limit_s`), while 1 call runs on its connection"
    assert log == ["connect", "leave"]


@pytest.mark.parametrize("hangs_at", ["connecting", "listing"])
async def test_a_turn_that_waits_for_a_toolset_can_be_cancelled_and_leaves_nothing_open(hangs_at: str) -> None:
    log: list[str] = []
    waits = anyio.Event()

    @asynccontextmanager
    async def connect() -> AsyncIterator[ListTools]:
        async def hang() -> list[Any]:
            waits.set()
            await anyio.sleep_forever()
            raise AssertionError

        log.append("connect")
        try:
            if hangs_at == "connecting":
                await hang()
            yield hang
        finally:
            log.append("leave")

    endless = ConnectedToolSet(name="slow", connect=connect, limit_s=3600)
    with anyio.fail_after(30):
        async with agent([], plugins=[offering(endless)]) as lash:
            turn = await cancelled_when(waits, (await lash.session("s")).turn("go"), "enough")
    assert turn.outcome == Stopped(StopReason.CANCELLED)
    assert log == ["connect", "leave"]


async def test_a_connection_that_can_not_be_made_is_tried_once_a_turn() -> None:
    tried: list[None] = []

    @asynccontextmanager
    async def connect() -> AsyncIterator[ListTools]:
        tried.append(None)
        raise FileNotFoundError("no such command")
        yield

    async with agent(["one", "two"], plugins=[offering(ConnectedToolSet(name="calc", connect=connect))]) as lash:
        session = await lash.session("s")
        for number in (1, 2):
            await session.run("go")
            assert len(tried) == number


async def test_a_host_that_is_closed_has_no_connection_left_at_the_server() -> None:
    """Whatever became of them: one in use, one that hung, one that broke."""
    async with serving() as (server, _):
        async with agent(["done"] * 3, plugins=[offering(toolset(server, [], limit_s=0.5))]) as lash:
            session = await lash.session("s")
            for server.hangs in (False, True, False):
                await session.run("go")
        with anyio.fail_after(10):
            while server.open:
                await anyio.lowlevel.checkpoint()
    assert server.seen["connected"] == 2


async def test_toolsets_of_one_name_from_two_plugins_are_told_apart() -> None:
    async with serving() as (server, _):
        await server.die()

        def lash_tools() -> list[object]:
            return [toolset(server, [])]

        async with agent(["done"], plugins=[plugin("a", lash_tools), plugin("b", lash_tools)]) as lash:
            session = await lash.session("s")
            await session.run("go", turn_id="t")
            absent, withheld = (await session.tools()).absent, (await lash.explain("t")).withheld
    assert list(absent) == ["toolset calc", "toolset calc of plugin b"]
    assert [(each.name, each.plugin_id) for each in withheld] == [*zip(absent, "ab", strict=True)]


async def test_a_server_that_offers_more_than_a_record_should_hold_offers_nothing() -> None:
    async with serving() as (server, _):
        server.offers = {"add": "x" * MAX_OFFER_BYTES}
        offered = toolset(server, [])

        @asynccontextmanager
        async def connect() -> AsyncIterator[ListTools]:
            async def list_tools() -> list[Any]:
                return [Remote(anyio.sleep, *each) for each in server.offers.items()]

            yield list_tools

        async with agent(["done"], plugins=[offering(evolve(offered, connect=connect))]) as lash:
            session = await lash.session("s")
            assert (await session.run("go")).is_success
            (reason,) = (await session.tools()).absent.values()
    assert "may have 4,194,304: offer fewer tools" in reason


# ---- what changes between turns -------------------------------------------------------------------------------------


async def test_what_is_offered_otherwise_in_the_next_turn_is_named_with_its_plugin() -> None:
    async with serving() as (server, _):
        model = Watched(["one", "two", "three"])
        async with agent(model, plugins=[offering(toolset(server, []))]) as lash:
            session = await lash.session("s")
            await session.run("go", turn_id="1")
            server.offers = {"add": "Add two.", "sub": "Subtract."}
            await session.run("go", turn_id="2")
            await session.run("go", turn_id="3")
            changes, none = (await lash.explain("2")).changes, (await lash.explain("3")).changes
    assert model.told == [["add"], ["add", "sub"], ["add", "sub"]]
    assert {(each.name, each.change, each.plugin_ids) for each in changes} == {
        ("add", "changed", ("remote",)),
        ("sub", "added", ("remote",)),
    }
    assert none == ()


async def test_a_name_that_is_taken_stays_with_who_has_it_and_the_reason_is_told() -> None:
    async with serving() as (server, _):
        server.offers = {"own": "Other.", "add": "Add."}
        model = Watched([calls("own"), "done"])
        async with agent(model, plugins=[offering(named("own"), toolset(server, []))]) as lash:
            session = await lash.session("s")
            turn = await session.run("go")
            absent = (await session.tools()).absent
    assert outcomes(turn) == ["own ran"]
    assert model.told[0] == ["own", "add"]
    assert absent == {"own of toolset calc": "there is a tool `own` of plugin `remote`"}


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ([object()], "`@tool` is for functions"),
        ([SimpleNamespace(manifest="add")], "it lists SimpleNamespace, which is no tool"),
        ([named("two"), named("two")], "two tools `two`"),
        ([Remote(anyio.sleep, "a b", "")], "no model service takes the tool name 'a b'"),
    ],
)
async def test_what_can_not_be_told_a_model_is_left_out_with_the_reason(listed: list[Any], reason: str) -> None:
    @asynccontextmanager
    async def connect() -> AsyncIterator[ListTools]:
        async def list_tools() -> list[Any]:
            return listed

        yield list_tools

    async with agent(["done"], plugins=[offering(ConnectedToolSet(name="odd", connect=connect))]) as lash:
        session = await lash.session("s")
        assert (await session.run("go")).is_success
        assert reason in (await session.tools()).absent["toolset odd"]


async def test_editors_see_what_is_connected_and_one_that_fails_on_it_costs_only_that() -> None:
    seen: list[list[str]] = []

    def lash_tool_catalog(ctx: CompositionContext, catalog: tuple[ToolManifest, ...]) -> CatalogEdit:
        seen.append(mine(each.name for each in catalog))
        if "bad" in seen[-1]:
            raise ValueError("no bad ones")
        return CatalogEdit(annotate={"add": "Exactly."}, hide=frozenset({"sub"}))

    async with serving() as (server, _):
        server.offers = {"add": "Add.", "sub": "Subtract."}
        model = Watched(["one", "two"])
        async with agent(model, plugins=[offering(toolset(server, []), hooks=[lash_tool_catalog])]) as lash:
            session = await lash.session("s")
            await session.run("go")
            state = await session.tools()
            server.offers["bad"] = ""
            await session.run("go")
            absent = (await session.tools()).absent
    assert seen[:2] == [[], ["add", "sub"]]
    assert model.told == [["add"], []]
    assert state.tools["add"].manifest.description == "Add.\n\nExactly."  # type: ignore[union-attr]  # it is there
    assert state.tools["sub"].reason == "hidden by plugin `remote`"
    assert "no bad ones" in absent["toolset calc"]


# ---- records --------------------------------------------------------------------------------------------------------


async def test_a_turn_goes_on_from_wherever_its_records_end_and_connects_only_for_a_call_that_runs() -> None:
    """Law 1: the manifests and their owner are in the record of the start."""
    async with serving() as (server, _):
        log: list[str] = []

        def opened() -> Any:
            def script(request: Any) -> Any:
                return "done" if request.messages[-1].blocks[-1].tag == "tool_result" else calls("add")

            return inline_agent(script, plugins=[offering(toolset(server, log))])

        records = Records()
        async with opened() as lash:
            lash.effects = records
            await (await lash.session("s")).run("go", turn_id="t")
        server.offers["sub"] = "Subtract."  # what is offered by then is nothing to this turn
        called = records.ran.index("tool_call") + 1
        for length in range(len(records.outcomes) + 1):
            left = records.up_to(length)
            log.clear()
            async with opened() as lash:
                lash.effects = left
                turn = await (await lash.session("s")).run("go", turn_id="t")
                names = mine(each.name for each in (await lash.explain("t")).tools)
            assert left.ran == records.ran[length:]
            assert log[:1] == (["connect calc"] if length < called else [])
            assert turn.tool_calls[0].plugin_id == "remote"
            assert turn.tool_calls[0].output.is_success
            assert names == (["add", "sub"] if length == 0 else ["add"])


async def test_a_call_that_runs_after_a_crash_says_what_became_of_its_tool() -> None:
    async with serving() as (server, _):

        def opened() -> Any:
            def script(request: Any) -> Any:
                return "done" if request.messages[-1].blocks[-1].tag == "tool_result" else calls("add")

            return inline_agent(script, plugins=[offering(toolset(server, []))])

        records = Records()
        async with opened() as lash:
            lash.effects = records
            await (await lash.session("s")).run("go", turn_id="t")
        started = records.ran.index("tool_call")
        server.offers = {}
        async with opened() as lash:
            lash.effects = records.up_to(started)
            without = await (await lash.session("s")).run("go", turn_id="t")
        await server.die()
        async with opened() as lash:
            lash.effects = records.up_to(started)
            down = await (await lash.session("s")).run("go", turn_id="t")
    gone = "toolset `calc` of plugin `remote` doesn't offer `add` any more"
    assert outcomes(without) == [("tool_unavailable", gone)]
    ((code, text),) = outcomes(down)
    assert code == "tool_unavailable"
    assert text.startswith("toolset `calc` of plugin `remote` is not connected: ")


async def test_a_journal_replays_without_a_connection(tmp_path: Path) -> None:
    log: list[str] = []
    async with serving() as (server, _):
        settings = load_settings(env={}, sets=["durability.keep_journal_h=1"])
        store = f"sqlite:///{tmp_path / 'sessions.db'}"
        offered = [offering(toolset(server, log))]
        async with agent([calls("add"), "done"], plugins=offered, store=store, settings=settings) as lash:
            await (await lash.session("s")).run("go", turn_id="t")
        await server.die()
        log.clear()
        async with agent([], plugins=offered, store=store, settings=settings) as lash:
            assert (await lash.replay("t")).differences == ()
    assert log == []


# ---- costs, slips ---------------------------------------------------------------------------------------------------


async def test_turns_without_connecting_toolsets_ask_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()
    for name in ("connect", "known", "connection"):
        monkeypatch.setattr(Toolsets, name, lambda *_, name=name: asked.update([name]))
    records = Records()
    async with inline_agent([calls("own"), "done"], tools=[named("own")]) as lash:
        lash.effects = records
        session = await lash.session("s")
        catalog = session.composition.catalog
        await session.run("go")
        await session.tools()
        assert lash.host.catalog(session.composition) is catalog
        assert catalog.with_toolsets(()) is catalog
    assert asked == {}
    assert b"toolsets" not in b"".join(records.outcomes.values())


async def test_turns_of_one_offer_share_one_catalog() -> None:
    async with serving() as (server, _), agent(["one", "two"], plugins=[offering(toolset(server, []))]) as lash:
        session = await lash.session("s")
        await session.run("go")
        catalog = lash.host.catalog(session.composition)
        await session.run("go")
        assert lash.host.catalog(session.composition) is catalog
        known = lash.host.toolsets.known(catalog.toolsets)
        other = session.composition.catalog.with_toolsets([evolve(each, tools=()) for each in known])
        assert lash.host.catalog(session.composition) is catalog, "two offers make two, once"
        assert session.composition.catalog.with_toolsets([evolve(each, tools=()) for each in known]) is other


async def test_two_toolsets_of_one_name_are_refused() -> None:
    twice = [toolset(Server(), []), toolset(Server(), [])]
    with pytest.raises(PluginError, match=r"plugin `remote`.* two toolsets `calc`"):
        async with agent([], plugins=[offering(*twice)]):
            pass


@pytest.mark.parametrize(("options", "text"), [({"name": "a b"}, "can't be named 'a b'"), ({"limit_s": 0}, "above 0")])
def test_slips_in_a_toolset_are_told_where_it_is_made(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        toolset(Server(), [], **options)
