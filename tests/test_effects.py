"""Whatever isn't deterministic crosses the effect boundary once, in an envelope that names who asks and for what."""

from __future__ import annotations

from typing import Any

import pytest
from agents import Unwritten, agent, inline_agent
from attrs import define, field, frozen

from lash_framework import Lash
from lash_framework.effects import InlineEffectHost, envelope
from lash_hookspecs import (
    CapabilityMissing,
    CheckpointCommand,
    CheckpointKind,
    EffectController,
    EffectControllerError,
    EffectRunner,
    LlmCallCommand,
    LlmCallOutcome,
    LlmResponse,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeScope,
    SleepOutcome,
    Stopped,
    StopReason,
    ToolCallCommand,
    ToolEffect,
    tool,
)
from lash_plugin_provider_scripted.script import Call, Reply


@define
class RecordingHost:
    """An inline host that keeps every envelope with its outcome."""

    seen: list[tuple[RuntimeEffectEnvelope, RuntimeEffectOutcome]] = field(factory=list)
    scopes: list[RuntimeScope] = field(factory=list)

    def scoped(self, scope: RuntimeScope) -> EffectController:
        self.scopes.append(scope)
        return _Recording(self)

    @property
    def kinds(self) -> list[str]:
        return [envelope.command.kind.value for envelope, _ in self.seen]


@frozen
class _Recording(Unwritten):
    host: RecordingHost
    durable: bool = False

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        outcome = await run(envelope)
        self.host.seen.append((envelope, outcome))
        return outcome


@tool(effect=ToolEffect.PURE)
def double(x: int) -> int:
    """Twice as much."""
    return 2 * x


SCRIPT = [Reply(tool_calls=[Call("double", {"x": 1}, "c1"), Call("double", {"x": 2}, "c2")]), "2 and 4"]


async def recorded(turn_id: str = "t", **options: Any) -> RecordingHost:
    host = RecordingHost()
    async with inline_agent(SCRIPT, tools=[double], **options) as lash:
        lash.effects = host
        await (await lash.session("s")).run("q", turn_id=turn_id)
    return host


@pytest.mark.statement(22, page="effects")
async def test_start_model_calls_tools_checkpoints_syncs_and_end_each_cross_once() -> None:
    """Each model call and each checkpoint of a turn crosses the boundary once."""
    host = await recorded()
    assert sorted(host.kinds) == sorted(
        [
            "turn_start",
            "llm_call",
            "tool_call",
            "tool_call",
            "checkpoint",  # after work
            "sync_execution_environment",
            "llm_call",
            "checkpoint",  # before completion
            "turn_end",
        ]
    )
    assert host.scopes == [RuntimeScope(session_id="s", turn_id="t")]


async def test_a_foreign_effect_host_is_not_asked_where_a_journal_is_kept() -> None:
    """Both would want to be the one that remembers."""
    host = RecordingHost()
    async with agent(SCRIPT, tools=[double]) as lash:
        lash.effects = host
        assert (await (await lash.session("s")).run("q")).text == "2 and 4"
    assert host.seen == []


@pytest.mark.statement(23, page="effects")
async def test_a_tools_envelope_names_its_owner_its_arguments_and_what_repeating_it_does() -> None:
    """Each call crosses in an envelope of its own."""
    host = await recorded()
    calls = [each.command.call for each, _ in host.seen if isinstance(each.command, ToolCallCommand)]
    assert [
        (each.call_id, each.plugin_id, each.args, each.effect) for each in sorted(calls, key=lambda c: c.call_id)
    ] == [
        ("c1", "application", {"x": 1}, ToolEffect.PURE),
        ("c2", "application", {"x": 2}, ToolEffect.PURE),
    ]


async def test_keys_are_unique_in_a_turn_and_the_same_when_it_runs_again() -> None:
    first, again, other = await recorded(), await recorded(), await recorded("another")
    keys = [each.key for each, _ in first.seen]
    assert len(set(keys)) == len(keys)
    assert sorted(keys) == sorted(each.key for each, _ in again.seen)
    assert not set(keys) & {each.key for each, _ in other.seen}


async def test_the_models_envelope_holds_the_request_but_no_attachments_bytes() -> None:
    host = await recorded()
    request = next(each.command.request for each, _ in host.seen if isinstance(each.command, LlmCallCommand))
    assert request.model == "model"
    assert request.scope is not None
    assert request.scope.session_id == "s"
    assert all(each.data == b"" for each in request.attachments)


async def test_children_of_a_batch_have_keys_of_their_own_below_their_parents() -> None:
    calls = [{"tool": "double", "parameters": {"x": 1}}, {"tool": "double", "parameters": {"x": 5}}]
    host = RecordingHost()
    async with inline_agent([Reply(tool_calls=[Call("batch", {"calls": calls}, "b")]), "done"], tools=[double]) as lash:
        lash.effects = host
        turn = await (await lash.session("s")).run("q")
    ids = {
        each.invocation.subject.effect_id: each.key
        for each, _ in host.seen
        if isinstance(each.command, ToolCallCommand)
    }
    assert set(ids) == {"b", "b:00", "b:01"}
    assert len(set(ids.values())) == 3
    results = turn.tool_calls[0].output.outcome.value["results"]  # type: ignore[union-attr]  # it succeeded
    assert [(each["index"], each["result"]) for each in results] == [(0, 2), (1, 10)]


@frozen
class _WrongAnswers(Unwritten):
    """A controller that answers model calls with the outcome of a sleep."""

    durable: bool = False

    def scoped(self, scope: RuntimeScope) -> EffectController:
        return self

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        return SleepOutcome() if isinstance(envelope.command, LlmCallCommand) else await run(envelope)


@pytest.mark.statement(9, page="effects")
async def test_a_controller_that_answers_with_the_wrong_kind_fails_the_turn_by_name() -> None:
    """The turn ends as a runtime error that names both kinds."""
    async with inline_agent(["never"]) as lash:
        lash.effects = _WrongAnswers()
        turn = await (await lash.session()).run("q")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert turn.errors[0].code == "runtime_effect_wrong_outcome"
        assert "llm_call" in turn.errors[0].message
        assert "sleep" in turn.errors[0].message


@frozen
class _Remembered(Unwritten):
    """A controller that answers model calls from a record, without running anything."""

    durable: bool = True

    def scoped(self, scope: RuntimeScope) -> EffectController:
        return self

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, LlmCallCommand):
            return LlmCallOutcome(LlmResponse(full_text="from the record"))
        return await run(envelope)


@pytest.mark.statement(25, page="effects")
async def test_a_controller_may_answer_without_running_and_the_result_says_that_it_is_durable() -> None:
    """A controller that remembers runs nothing."""
    async with inline_agent([]) as lash:
        lash.effects = _Remembered()
        turn = await (await lash.session()).run("q")
        assert turn.text == "from the record"
        assert turn.durable is True


async def test_the_inline_host_refuses_an_executors_wrong_outcome() -> None:
    async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        return SleepOutcome()

    scope = RuntimeScope(session_id="s")
    asked = envelope(scope, CheckpointCommand(CheckpointKind.AFTER_WORK), "1")
    with pytest.raises(EffectControllerError, match="checkpoint"):
        await InlineEffectHost().scoped(scope).execute(asked, run)


async def test_nothing_is_durable_on_the_inline_host_and_who_insists_is_refused_at_opening() -> None:
    async with agent(["a"]) as lash:
        assert (await (await lash.session()).run("q")).durable is False
    with pytest.raises(CapabilityMissing, match="require_durable"):
        async with Lash.open("sqlite://", model="scripted:demo", require_durable=True):
            raise AssertionError("unreachable")
