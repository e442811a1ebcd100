"""A command and an outcome of each kind of effect, and envelopes that ask for one."""

from __future__ import annotations

from typing import Any

from lash_framework.effects import envelope
from lash_hookspecs import (
    AssistantResponseCommand,
    AssistantResponseOutcome,
    AwaitEventCommand,
    AwaitEventOutcome,
    CheckpointCommand,
    CheckpointKind,
    CheckpointOutcome,
    CompactCommand,
    CompactOutcome,
    CompletedToolCall,
    DirectCommand,
    DirectOutcome,
    EngineInput,
    ExecCodeCommand,
    ExecCodeOutcome,
    ExecResponse,
    HookRecord,
    InTurn,
    LlmCallCommand,
    LlmCallOutcome,
    LlmRequest,
    LlmResponse,
    ModelToolReturn,
    OnUnknown,
    PreparedToolCall,
    ProcessCommand,
    ProcessOutcome,
    ProcessRecovery,
    ProcessStart,
    ProcessStarted,
    ProcessStatus,
    ResolvedOk,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeScope,
    SessionPolicy,
    SleepCommand,
    SleepOutcome,
    SyncEnvironmentCommand,
    SyncEnvironmentOutcome,
    ToolCallCommand,
    ToolCallDone,
    ToolCallEffectOutcome,
    ToolCallOutput,
    ToolCallSuccess,
    ToolCompletionWait,
    ToolEffect,
    ToolHooksCommand,
    ToolHooksOutcome,
    ToolSeam,
    TurnEndCommand,
    TurnEndOutcome,
    TurnStartCommand,
    TurnStartOutcome,
    WaitKey,
)

SCOPE = RuntimeScope(session_id="s", turn_id="t", turn_index=0, protocol_iteration=0)
REQUEST = LlmRequest(model="m", messages=())
CALL = CompletedToolCall(
    call_id="c",
    tool_name="pay",
    args={},
    output=ToolCallOutput(ToolCallSuccess("paid")),
    model_return=ModelToolReturn("c", "pay"),
)


def tool_call(effect: ToolEffect, on_unknown: OnUnknown = OnUnknown.FAIL) -> ToolCallCommand:
    return ToolCallCommand(
        PreparedToolCall(call_id="c", tool_name="pay", args={}, plugin_id="bank", effect=effect, on_unknown=on_unknown)
    )


REMEMBERED = HookRecord(states={"rules": {"version": 1, "state": {}}})

START = ProcessStart(process_id="p", input=EngineInput("e", {"n": 1}), recovery=ProcessRecovery.RERUNNABLE)

ASKED: dict[str, tuple[Any, RuntimeEffectOutcome]] = {
    "turn_start": (TurnStartCommand("h"), TurnStartOutcome(started_at_ms=1, policy=SessionPolicy(model="test:model"))),
    "turn_end": (TurnEndCommand(), TurnEndOutcome(finished_at_ms=1)),
    "llm_call": (LlmCallCommand("p", REQUEST), LlmCallOutcome(LlmResponse(full_text="a"))),
    "assistant_response": (
        AssistantResponseCommand(),
        AssistantResponseOutcome(response=LlmResponse(full_text="b")),
    ),
    "direct": (DirectCommand("p", REQUEST, "summary"), DirectOutcome(LlmResponse(full_text="a"))),
    "tool_call": (tool_call(ToolEffect.PURE), ToolCallEffectOutcome(ToolCallDone(CALL))),
    "tool_hooks": (
        ToolHooksCommand(seam=ToolSeam.BEFORE, call_id="c", tool_name="pay", args={}),
        ToolHooksOutcome(call_id="c"),
    ),
    "exec_code": (ExecCodeCommand("python", "1"), ExecCodeOutcome(ExecResponse())),
    "checkpoint": (CheckpointCommand(CheckpointKind.AFTER_WORK), CheckpointOutcome(hooks=REMEMBERED)),
    "compact": (CompactCommand(), CompactOutcome()),
    "sync_execution_environment": (SyncEnvironmentCommand(True), SyncEnvironmentOutcome()),
    "sleep": (SleepCommand(5), SleepOutcome()),
    "process": (ProcessCommand(START), ProcessOutcome(ProcessStarted(ProcessStatus.RUNNING))),
    "await_event": (
        AwaitEventCommand(WaitKey(InTurn("s", "t"), ToolCompletionWait("c"))),
        AwaitEventOutcome(ResolvedOk({"approved": True})),
    ),
}


async def answer(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
    """What each kind is answered in a test that asks for no more."""
    return ASKED[asked.command.kind][1]


async def never(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
    raise AssertionError("unreachable: it is recorded, or refused")


def call(name: str, effect: ToolEffect, on_unknown: OnUnknown = OnUnknown.FAIL, **args: Any) -> RuntimeEffectEnvelope:
    prepared = PreparedToolCall(
        call_id=name, tool_name=name, args=args, plugin_id="bank", effect=effect, on_unknown=on_unknown
    )
    return envelope(SCOPE, ToolCallCommand(prepared), name)


def asked(name: str, id: str = "1") -> RuntimeEffectEnvelope:
    match name:
        case "pure" | "idempotent" | "unsafe":
            return call(f"{name}-{id}", ToolEffect(name))
        case "llm":
            return envelope(SCOPE, LlmCallCommand("p", REQUEST), id)
        case "code":
            return envelope(SCOPE, ExecCodeCommand("python", "1"), id)
    return envelope(SCOPE, ASKED[name][0], id)
