"""`lash_around_effect`: what stands around a model call and a tool call, and what goes wrong there."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from attrs import evolve
from model_call_kit import HELLO, Count, Model, count, counting, run, shown, watched

from lash_hookspecs import (
    FailLlmCall,
    LlmCallOutcome,
    LlmResponse,
    Stopped,
    StopReason,
    TextOutput,
    ToolCallEffectOutcome,
    ToolCallFailure,
    ToolCallSuccess,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


@tool(effect="pure")
async def twice(x: int) -> int:
    "Twice as much."
    return 2 * x


TOOLS = [Reply(tool_calls=[Call("twice", {"x": 1}, "a"), Call("twice", {"x": 2}, "b")]), "2 and 4"]


async def test_hook_lash_around_effect_stands_around_models_and_tools_and_nothing_else() -> None:
    """Outermost first; no checkpoint, no sync, no turn's start or end is wrapped."""
    seen: list[str] = []

    def wrapper(plugin_id: str) -> Any:
        async def lash_around_effect(ctx: Any, envelope: Any, call_next: Any) -> Any:
            assert ctx.plugin_id == plugin_id
            name = f"{plugin_id} {envelope.command.kind}"
            seen.append(f"{name} begins")
            outcome = await call_next()
            seen.append(f"{name} ends")
            return outcome

        return plugin(plugin_id, lash_around_effect)

    script = [Reply(tool_calls=[Call("twice", {"x": 1}, "a")]), "2"]
    async with agent(script, tools=[twice], plugins=[wrapper("b"), wrapper("a")]) as lash:
        turn = await run(lash)
    assert turn.text == "2"
    assert seen == [
        f"{who} {kind} {what}"
        for kind in ("llm_call", "tool_call", "llm_call")
        for who, what in (("a", "begins"), ("b", "begins"), ("b", "ends"), ("a", "ends"))
    ]


async def test_hook_lash_around_effect_may_answer_in_its_place() -> None:
    """A cache: the second of two equal calls isn't made. Whichever call the result is of, it is told as this one's."""
    kept: dict[str, Any] = {}
    made = Counter[str]()

    @tool(effect="pure")
    async def count_calls(x: int) -> int:
        "Count."
        made["tool"] += 1
        return x

    async def lash_around_effect(envelope: Any, call_next: Any) -> Any:
        if envelope.command.kind != "tool_call":
            return await call_next()
        if "it" not in kept:
            kept["it"] = await call_next()
        return kept["it"]

    script = [
        Reply(tool_calls=[Call("count_calls", {"x": 1}, "a")]),
        Reply(tool_calls=[Call("count_calls", {"x": 1}, "b")]),
        "Done.",
    ]
    async with agent(script, tools=[count_calls], plugins=[plugin("cache", lash_around_effect)]) as lash:
        turn = await run(lash)
    assert made["tool"] == 1
    assert [each.call_id for each in turn.tool_calls] == ["a", "b"]
    assert turn.is_success


async def test_hook_lash_around_effect_may_answer_in_the_models_place() -> None:
    async def lash_around_effect(envelope: Any, call_next: Any) -> Any:
        return LlmCallOutcome(LlmResponse(parts=(TextOutput(text="from the cache"),)), text_streamed=True)

    model = Model()
    async with agent(model, plugins=[plugin("cache", lash_around_effect)]) as lash:
        events, turn = await watched(lash)
    assert (turn.text, shown(events), model.calls) == ("from the cache", "from the cache", 0)


WRAPPERS: dict[str, str] = {
    "raises before": "RuntimeError: it is broken",
    "raises behind": "RuntimeError: it is broken",
    "calls twice": "called `call_next` twice; once is all it may",
    "calls twice and hides it": "called `call_next` twice; once is all it may",
    "returns nothing": "returned a `NoneType`; expected is `",
    "returns what can't be stored": "returned an outcome that can't be recorded",
}


def faulty(fault: str, kind: str) -> Any:
    async def lash_around_effect(envelope: Any, call_next: Any) -> Any:
        if envelope.command.kind != kind:
            return await call_next()
        if fault == "raises before":
            raise RuntimeError("it is broken")
        outcome = await call_next()
        if fault == "raises behind":
            raise RuntimeError("it is broken")
        if fault == "calls twice":
            await call_next()
        if fault == "calls twice and hides it":
            with pytest.raises(Exception, match="twice"):
                await call_next()
        if fault == "returns nothing":
            return None
        if fault == "returns what can't be stored":
            if kind == "llm_call":
                return LlmCallOutcome(LlmResponse(provider_usage={"x": object()}))
            result = outcome.launch.result
            bad = evolve(result, output=evolve(result.output, outcome=ToolCallSuccess(object())))
            return ToolCallEffectOutcome(evolve(outcome.launch, result=bad))
        return outcome

    return plugin("bad", lash_around_effect)


@pytest.mark.parametrize("fault", WRAPPERS)
async def test_hook_lash_around_effect_that_goes_wrong_fails_a_model_call_as_one_fails(fault: str) -> None:
    """It is an error outcome that names the plugin; what the call has cost, if it was made, is counted."""
    model = Model(HELLO)
    async with agent(model, plugins=[faulty(fault, "llm_call")]) as lash:
        turn = await run(lash)
    assert turn.outcome == Stopped(StopReason.PROVIDER_ERROR)
    (issue,) = [each for each in turn.errors if each.blocking]
    assert issue.code == "plugin_around_effect"
    assert f"plugin `bad`, hook `lash_around_effect`: {WRAPPERS[fault]}" in issue.message
    assert model.calls == (fault != "raises before")
    assert turn.usage.total == (0 if fault == "raises before" else 15)
    (did,) = turn.interventions
    assert (did.plugin_id, did.kind, did.detail) == ("bad", "call_failed", "lash_around_effect")


@pytest.mark.parametrize("fault", WRAPPERS)
async def test_hook_lash_around_effect_that_goes_wrong_fails_a_tool_call_as_one_fails(fault: str) -> None:
    """The model reads of it, and the turn goes on; the other call of the batch is wrapped, too, and fails alike."""
    async with agent(TOOLS, tools=[twice], plugins=[faulty(fault, "tool_call")]) as lash:
        events, turn = await watched(lash)
    assert turn.is_success
    for each in turn.tool_calls:
        assert isinstance(each.output.outcome, ToolCallFailure)
        assert each.output.outcome.code == "plugin_around_effect"
        assert f"plugin `bad`, hook `lash_around_effect`: {WRAPPERS[fault]}" in each.output.outcome.message
        assert [(part.plugin_id, part.kind) for part in each.interventions] == [("bad", "failed")]
    assert Counter(type(each).__name__ for each in events)["ToolCallCompleted"] == 2


async def test_hook_lash_around_effect_only_reads_its_plugins_state() -> None:
    """Those of calls that run at once run at once."""

    async def lash_around_effect(ctx: Any, call_next: Any) -> Any:
        assert ctx.state == Count()
        count(ctx)

    async with agent([HELLO], plugins=[plugin("p", counting, lash_around_effect)]) as lash:
        turn = await run(lash)
    assert "this hook only reads the state" in turn.errors[0].message


async def test_hook_lash_around_effect_can_limit_how_many_calls_run_at_once() -> None:
    limiter, running, most = anyio.Semaphore(1), Counter[str](), []

    @tool(effect="pure")
    async def busy(x: int) -> int:
        "Be busy."
        running["now"] += 1
        most.append(running["now"])
        await anyio.lowlevel.checkpoint()
        running["now"] -= 1
        return x

    async def lash_around_effect(call_next: Any) -> Any:
        async with limiter:
            return await call_next()

    script = [Reply(tool_calls=[Call("busy", {"x": each}, str(each)) for each in range(5)]), "Done."]
    async with agent(script, tools=[busy], plugins=[plugin("limit", lash_around_effect)]) as lash:
        turn = await run(lash)
    assert turn.is_success
    assert most == [1] * 5


async def test_a_veto_before_a_call_is_not_passed_by_what_stands_around_it() -> None:
    """A cache must not answer what a guard has refused: the decision comes first."""
    called: list[str] = []

    def lash_before_llm_call() -> FailLlmCall:
        return FailLlmCall("no", "not today")

    async def lash_around_effect(call_next: Any) -> Any:
        called.append("around")
        return await call_next()

    plugins = [plugin("z-guard", lash_before_llm_call), plugin("a-cache", lash_around_effect)]
    async with agent([HELLO], plugins=plugins) as lash:
        turn = await run(lash)
    assert (turn.errors[0].code, called) == ("no", [])
