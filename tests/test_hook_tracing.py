"""`lash_trace_sinks`: who is told what, that nothing is told twice, and that no sink stops a turn."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from hook_kit import Plugin, file_store, opened, opened_with_installed

import lash_framework.tracing
from lash_framework.hooks import SLOW_S, Owned
from lash_framework.tracing import FAULTS, Tracer
from lash_hookspecs import (
    CheckpointKind,
    EmitEvents,
    EmitTrace,
    HostContext,
    Mode,
    PluginSurface,
    PromptContribution,
    SurfaceEvent,
    TraceContext,
    TraceEffectCompleted,
    TraceEffectStarted,
    TraceLoadReport,
    TraceOverruled,
    TracePlugin,
    TracePrefixChange,
    TraceRecord,
    TraceToolCall,
    TraceTurnEnded,
    TraceTurnStarted,
    TurnBlocked,
    TurnEnd,
    decode,
    encode,
    hookimpl,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


class Sink:
    """Keeps what it gets, or does something else with it."""

    def __init__(self, act: Callable[[TraceRecord], None] | None = None) -> None:
        self.records: list[TraceRecord] = []
        self.flushed = 0
        self._act = act

    def append(self, record: TraceRecord) -> None:
        self.records.append(record)
        if self._act is not None:
            self._act(record)

    async def flush(self) -> None:
        self.flushed += 1

    def of(self, *classes: type) -> list[Any]:
        return [each.event for each in self.records if isinstance(each.event, classes)]


class Traces(Plugin):
    """A plugin with a sink."""

    def __init__(self, *sinks: Any, id: str = "traces") -> None:
        super().__init__(id)
        self.sinks = sinks or (Sink(),)

    @hookimpl
    def lash_trace_sinks(self, host: HostContext) -> list[Any]:
        self.calls.append(host.options)
        return list(self.sinks)


@tool(effect="pure")
def look() -> str:
    """Look."""
    return "a secret"


def tool_and_answer() -> list[Reply | str]:
    return [Reply(tool_calls=[Call("look", {})]), "Done."]


async def test_hook_lash_trace_sinks_are_told_of_a_turn_from_its_start_to_its_end() -> None:
    sink = Sink()
    async with opened(Traces(sink), tools=[look], says=tool_and_answer()) as lash:
        turn = await (await lash.session("s")).run("Look", turn_id="t")
    (report,) = sink.of(TraceLoadReport)
    assert {"traces", "told", "application"} <= set(report.loaded)
    (started,), (ended,), (called,) = sink.of(TraceTurnStarted), sink.of(TraceTurnEnded), sink.of(TraceToolCall)
    assert (started.mode_id, started.model) == ("standard", "told:model")
    assert (ended.end, ended.outcome, ended.usage) == (TurnEnd.COMMITTED, "finished", turn.usage)
    assert (called.tool_name, called.plugin_id, called.outcome) == ("look", "application", "success")
    done = sink.of(TraceEffectCompleted)
    assert [(each.kind.value, each.name) for each in done if each.name] == [
        ("llm_call", "told:model"),
        ("tool_call", "look"),
        ("llm_call", "told:model"),
    ]
    assert len(sink.of(TraceEffectStarted)) == len(done)
    assert sink.flushed == 1
    of_the_turn = [each.context for each in sink.records if each.event is not report]
    assert {(each.session_id, each.turn_id) for each in of_the_turn} == {("s", "t")}
    assert len({each.id for each in sink.records}) == len(sink.records)


async def test_records_are_data_that_comes_back_and_hold_nothing_that_was_said() -> None:
    """What a trace holds goes to whoever reads logs: no prompt, no argument, no result."""
    sink = Sink()
    async with opened(Traces(sink), tools=[look], says=tool_and_answer()) as lash:
        await (await lash.session("s")).run("My password")
    for each in sink.records:
        data = encode(each)
        assert decode(TraceRecord, data) == each
        assert b"password" not in data
        assert b"a secret" not in data


async def test_a_host_without_sinks_makes_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted, and counted with a sink as well, so that the count is one."""
    made: list[None] = []

    def record(**fields: Any) -> TraceRecord:
        made.append(None)
        return TraceRecord(**fields)

    monkeypatch.setattr(lash_framework.tracing, "TraceRecord", record)
    monkeypatch.setattr(lash_framework.tracing, "TraceContext", lambda **fields: made.append(None) or TraceContext())
    for plugins, expected in (([], False), ([Traces()], True)):
        made.clear()
        async with opened(*plugins, tools=[look], says=tool_and_answer()) as lash:
            assert (lash.tracer is not None) is expected
            await (await lash.session("s")).run("Look")
        assert bool(made) is expected


@pytest.mark.parametrize("effects", ["journal", "inline"])
async def test_what_is_told_is_the_same_wherever_effects_are_executed(effects: str) -> None:
    sink = Sink()
    async with opened(Traces(sink), tools=[look], says=tool_and_answer(), effects=effects) as lash:
        await (await lash.session("s")).run("Look")
    assert [each.kind.value for each in sink.of(TraceEffectCompleted)] == [
        "turn_start",
        "llm_call",
        "tool_call",
        "checkpoint",
        "sync_execution_environment",
        "llm_call",
        "checkpoint",
        "turn_end",
    ]
    assert len(sink.of(TraceToolCall)) == 1


async def test_what_was_executed_before_a_crash_is_told_once(tmp_path: Path) -> None:
    """The second run is told, and of its effects those that it executes; the first told the others."""
    first, second = Sink(), Sink()
    store, runs = file_store(tmp_path), list[str]()

    @tool(effect="pure")
    async def reach() -> str:
        """Hang at first."""
        runs.append("reach")
        if len(runs) == 1:
            scope.cancel()
            await anyio.sleep_forever()
        return "there"

    script = [Reply(tool_calls=[Call("look", {})]), Reply(tool_calls=[Call("reach", {})]), "Done."]
    with anyio.CancelScope() as scope:
        async with opened(Traces(first), tools=[look, reach], says=script[:2], store=store) as lash:
            await (await lash.session("s")).run("Go", turn_id="t")
    async with opened(Traces(second), tools=[look, reach], says=script[2:], store=store) as lash:
        await lash.session("s")
    assert [each.end for each in first.of(TraceTurnEnded)] == [TurnEnd.INTERRUPTED]
    assert [each.end for each in second.of(TraceTurnEnded)] == [TurnEnd.COMMITTED]
    told = [each.tool_name for sink in (first, second) for each in sink.of(TraceToolCall)]
    assert told == ["look", "reach"]
    keys = [
        each.context.effect_key
        for sink in (first, second)
        for each in sink.records
        if isinstance(each.event, TraceEffectCompleted)
    ]
    assert len(keys) == len(set(keys))
    async with opened(Traces(third := Sink()), tools=[look, reach], store=store) as lash:
        await lash.upgrade_check()
        await (await lash.session("s")).run("Go", turn_id="t")  # which is stored
    assert [type(each.event) for each in third.records] == [TraceLoadReport]


async def test_all_that_differs_from_a_record_is_told_in_the_trace_only(tmp_path: Path) -> None:
    """People are told how many pieces differ and the first eight of them; a value is in neither."""
    store, sink = file_store(tmp_path), Sink()

    @tool
    async def reach(secret: str) -> str:
        """Hang."""
        scope.cancel()
        return await anyio.sleep_forever()

    script = [Reply(tool_calls=[Call("reach", {"secret": "sesame"})])]
    with anyio.CancelScope() as scope:
        async with opened(tools=[reach], says=script, store=store) as lash:
            await (await lash.session("s")).run("Go", turn_id="t")
    async with opened(Traces(sink), store=store) as lash:
        await lash.session("s")  # without its tool
    (ended,) = sink.of(TraceTurnEnded)
    assert "6 paths differ: `effect`, `effect` of plugin `application`, " in ended.error
    assert len(ended.difference) == 6
    assert all(re.fullmatch(r".+ was (\w+), is (?!\1)\w+", each) for each in ended.difference), ended.difference
    assert not [each for each in ended.difference if each in ended.error]
    assert "sesame" not in f"{ended}"


async def test_a_turn_that_can_not_be_gone_on_with_says_why_also_with_a_sink(tmp_path: Path) -> None:
    """Its trace was ended, which had not begun, and the fault in that came in the reason's place: nobody was told."""
    store, sink = file_store(tmp_path), Sink()

    @tool
    async def reach() -> str:
        """Hang."""
        scope.cancel()
        return await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        async with agent([Reply(tool_calls=[Call("reach", {})])], store=store, tools=[reach]) as lash:
            await (await lash.session("s")).run("Go", turn_id="t")
    async with opened(Traces(sink), tools=[reach], store=store) as lash:  # without its provider
        with pytest.raises(TurnBlocked, match="provider `test`"):
            await (await lash.session("s", recover=False)).recover()
    assert [type(each.event) for each in sink.records] == [TraceLoadReport]


# ---- what plugins say -----------------------------------------------------------------------------------------------

SEAMS = ["before_turn", "checkpoint", "after_turn", "before_tool_call", "after_tool_call"]


def says_everywhere(*directives: Any) -> object:
    def lash_before_turn() -> list[Any]:
        return [each("before_turn") for each in directives]

    def lash_checkpoint(ctx: Any) -> list[Any]:
        return [each("checkpoint") for each in directives] if ctx.kind is CheckpointKind.AFTER_WORK else []

    def lash_after_turn() -> list[Any]:
        return [each("after_turn") for each in directives]

    def lash_before_tool_call() -> list[Any]:
        return [each("before_tool_call") for each in directives]

    def lash_after_tool_call() -> list[Any]:
        return [each("after_tool_call") for each in directives]

    return plugin(
        "speaks", lash_before_turn, lash_checkpoint, lash_after_turn, lash_before_tool_call, lash_after_tool_call
    )


async def test_emitted_traces_and_events_come_from_every_seam(caplog: pytest.LogCaptureFixture) -> None:
    """Each reaches who it is for, with its plugin's name; the log has the traces where somebody debugs."""
    caplog.set_level(logging.DEBUG, logger="lash.trace")
    sink = Sink()
    speaks = says_everywhere(
        lambda seam: EmitTrace(seam, {"at": seam}), lambda seam: EmitEvents([SurfaceEvent(name=seam)])
    )
    async with opened(Traces(sink), speaks, tools=[look], says=tool_and_answer()) as lash:
        session = await lash.session("s")
        async with session.turn("Look") as running:
            seen = [activity.event async for activity in running]
    shown = [each.name for each in seen if isinstance(each, PluginSurface)]
    assert sorted(shown) == sorted(SEAMS)
    said = sink.of(TracePlugin)
    assert sorted(each.name for each in said) == sorted(SEAMS)
    assert {(each.plugin_id, tuple(each.payload)) for each in said} == {("speaks", ("at",))}
    assert all(f"plugin.speaks.{seam}" in caplog.text for seam in SEAMS)


async def test_emitted_traces_are_in_no_record(tmp_path: Path) -> None:
    """A turn that emits them writes what one writes that doesn't, and its replay tells nothing."""
    sink = Sink()
    plugins = [Traces(sink), says_everywhere(lambda seam: EmitTrace(seam))]
    sets = "[durability]\nkeep_journal_h = 1\n"
    async with opened(*plugins, tools=[look], says=tool_and_answer(), toml=sets, folder=tmp_path) as lash:
        await (await lash.session("s")).run("Look", turn_id="t")
        before = len(sink.records)
        replayed = await lash.replay("t")
        assert replayed.differences == ()
        assert len(sink.records) == before
        rows = await lash.require_journal("this").store.load_journal("s", "t")
    assert not [each for each in rows if b"emit_trace" in each.body or b"before_turn" in each.body]


async def test_a_trace_that_is_no_data_is_its_plugins_error() -> None:
    """Whoever emits it is told, not whoever writes it down."""

    def lash_before_turn() -> EmitTrace:
        return EmitTrace("bad", object())

    async with agent(["Done."], plugins=[plugin("odd", lash_before_turn)]) as lash:
        turn = await (await lash.session("s")).run("Go")
    assert "plugin `odd`, hook `lash_before_turn`" in turn.errors[0].message


async def test_who_was_overruled_and_what_changed_before_the_model_is_told() -> None:
    from lash_hookspecs import DenyToolCall, ShortCircuitTool

    def lash_before_tool_call() -> Any:
        return DenyToolCall("no")

    def other() -> Any:
        return ShortCircuitTool("yes")

    def lash_prompt_contributions(ctx: Any) -> PromptContribution:
        return PromptContribution(content=f"It is step {ctx.iteration}.", title="step")

    other.__name__ = "lash_before_tool_call"
    sink = Sink()
    plugins = [plugin("denies", lash_before_tool_call, lash_prompt_contributions), plugin("answers", other)]
    async with opened(Traces(sink), *plugins, tools=[look], says=tool_and_answer()) as lash:
        await (await lash.session("s")).run("Look")
    (overruled,), (changed,) = sink.of(TraceOverruled), sink.of(TracePrefixChange)
    assert (overruled.winner, overruled.loser, overruled.wanted) == ("denies", "answers", "short_circuit_tool")
    assert (changed.change.name, changed.change.plugin_ids) == ("step", ("denies",))
    assert [each.code for each in sink.of(TraceToolCall)] == ["denied"]


# ---- sinks that fail ------------------------------------------------------------------------------------------------


async def test_a_sink_that_raises_stops_nothing_and_is_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    def fail(record: TraceRecord) -> None:
        raise OSError("disk full")

    broken, whole = Sink(fail), Sink()
    async with opened(Traces(broken), Traces(whole, id="others")) as lash:
        assert (await (await lash.session("s")).run("Hello")).is_success
    assert len(broken.records) == FAULTS
    assert len(whole.records) > FAULTS
    told = [each.getMessage() for each in caplog.records if each.name == "lash.trace"]
    assert len(told) == 2
    assert all("plugin `traces`" in each and "OSError: disk full" in each for each in told)
    assert "switched off" in told[1]


def test_a_sink_that_keeps_everybody_waiting_is_named_and_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    """One that does so now and then is only named."""
    now = [0.0]

    def dawdle(record: TraceRecord) -> None:
        now[0] += 2 * SLOW_S if len(sink.records) != 2 else 0.0

    sink = Sink(dawdle)
    tracer = Tracer([Owned("slow", sink)], clock=lambda: now[0])
    for _ in range(10):
        tracer.tell(TraceContext(), TraceLoadReport())
    assert len(sink.records) == 2 + FAULTS
    assert [("switched off" in each.getMessage()) for each in caplog.records] == [False, True]
    assert all("plugin `slow`" in each.getMessage() for each in caplog.records)


async def test_a_sink_that_fails_or_hangs_at_the_end_is_named(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lash_framework.tracing, "FLUSH_LIMIT_S", 0.01)

    class Fails(Sink):
        async def flush(self) -> None:
            raise OSError("disk full")

    class Hangs(Sink):
        async def flush(self) -> None:
            await anyio.sleep_forever()

    async with opened(Traces(Fails()), Traces(Hangs(), id="hangs")):
        pass
    assert "plugin `traces`: its trace sink failed when the host closed: OSError: disk full" in caplog.text
    assert "plugin `hangs`: its trace sink wasn't done" in caplog.text


async def test_hook_lash_trace_sinks_that_raises_or_returns_no_sink_is_a_row() -> None:
    class Raises(Plugin):
        @hookimpl
        def lash_trace_sinks(self) -> Any:
            raise OSError("no disk")

    async with opened_with_installed(Raises("raises"), Traces("no sink", id="wrong")) as lash:
        rows = {each.plugin_id: each.message for each in lash.host.report.failed}
        assert (await (await lash.session("s")).run("Hello")).is_success
    assert "`lash_trace_sinks`" in rows["raises"]
    assert "no disk" in rows["raises"]
    assert "a `str` is no trace sink" in rows["wrong"]


async def test_hook_lash_trace_sinks_gets_the_plugins_options(tmp_path: Path) -> None:
    traces = Traces()
    async with opened(traces, toml='[plugin.traces]\nfile = "trace.jsonl"\n', folder=tmp_path):
        assert traces.calls == [{"file": "trace.jsonl"}]


async def test_a_sink_hears_of_every_mode_also_of_one_without_its_plugin() -> None:
    """It is the host's: what an operator wants to know doesn't depend on a session's mode."""
    sink = Sink()

    def lash_modes() -> list[Mode]:
        return [Mode(mode_id="bare", extends="standard", without=("traces",))]

    async with opened(Traces(sink), plugin("modes", lash_modes)) as lash:
        await (await lash.session("s", mode="bare")).run("Hello")
    assert [each.mode_id for each in sink.of(TraceTurnStarted)] == ["bare"]
