"""The stored form of the most important values, in full: whoever changes it changes what every database holds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hookspecs_kit import envelope_of

from lash_hookspecs import (
    AssembledTurn,
    AssistantMessage,
    AssistantOutput,
    AttachmentPart,
    AttachmentRef,
    AwaitEventCommand,
    AwaitEventOutcome,
    CausedByToolCall,
    Checkpoint,
    CheckpointKind,
    CompletedToolCall,
    Deleted,
    Emit,
    EngineInput,
    ErrorEnvelope,
    ErrorEvent,
    ExecCode,
    ExecutionSummary,
    FailControl,
    Finished,
    GenerationOptions,
    InProcess,
    JsonSchemaOutput,
    LlmCall,
    LlmCallCommand,
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmRole,
    LlmTerminalReason,
    LlmToolSpec,
    MachineSnapshot,
    Message,
    MessageRole,
    ModelToolReturn,
    OutputState,
    Part,
    PartKind,
    PluginOrigin,
    ProcessAbandoned,
    ProcessAwaited,
    ProcessCommand,
    ProcessOrigin,
    ProcessOutcome,
    ProcessRecovery,
    ProcessStart,
    PromptContribution,
    PromptSlot,
    ProtocolEvent,
    ProviderFailureKind,
    ProviderReasoningMeta,
    ProviderReplayMeta,
    ProviderRoute,
    ResolvedError,
    ResponseTextMeta,
    SessionPolicy,
    SessionStateEnvelope,
    SignalWait,
    Stopped,
    StopReason,
    TextBlock,
    TextPart,
    TokenLedgerEntry,
    TokenUsage,
    ToolCallCancelled,
    ToolCallFailure,
    ToolCallOutcome,
    ToolCallOutput,
    ToolCallRecord,
    ToolCallSuccess,
    ToolFailed,
    ToolFailureClass,
    ToolRetrySafe,
    TurnCause,
    TurnInput,
    TurnIssue,
    Waiting,
    WaitKey,
    decode,
    encode,
    structure,
    text_message,
    unstructure,
)

ROUTE = ProviderRoute("openai", "https://models.example/v1", "m-1")
ROUTE_DATA = {"provider_id": "openai", "endpoint": "https://models.example/v1", "model": "m-1"}
FAILED = CompletedToolCall(
    call_id="c1",
    tool_name="look",
    args={"at": [1, 2.5, None]},
    output=ToolCallOutput(
        ToolCallFailure(
            failure_class=ToolFailureClass.IO, code="gone", message="no such file", retry=ToolRetrySafe(after_ms=10)
        ),
        FailControl({"why": "gone"}),
    ),
    model_return=ModelToolReturn("c1", "look", (TextPart("Error: no such file"),)),
    duration_ms=12,
)
FAILED_DATA = {
    "call_id": "c1",
    "tool_name": "look",
    "args": {"at": [1, 2.5, None]},
    "output": {
        "outcome": {
            "status": "failure",
            "failure_class": "io",
            "code": "gone",
            "message": "no such file",
            "source": "tool",
            "retry": {"type": "safe", "after_ms": 10},
        },
        "control": {"type": "fail", "value": {"why": "gone"}},
    },
    "model_return": {
        "call_id": "c1",
        "tool_name": "look",
        "parts": [{"type": "text", "text": "Error: no such file"}],
    },
    "duration_ms": 12,
}

SAMPLES: dict[str, tuple[Any, dict[str, Any]]] = {
    "Message": (
        Message(
            id="m1",
            role=MessageRole.ASSISTANT,
            parts=(
                Part(
                    id="m1.p0",
                    kind=PartKind.REASONING,
                    content="hm",
                    reasoning_meta=ProviderReasoningMeta(
                        item_id="r1", encrypted_content="opaque", redacted=True, summary=("s",), origin=ROUTE
                    ),
                ),
                Part(id="m1.p1", kind=PartKind.PROSE, content="Hé", response_meta=ResponseTextMeta(phase="commentary")),
                Part(
                    id="m1.p2",
                    kind=PartKind.TOOL_CALL,
                    content='{"a": 1}',
                    tool_call_id="c1",
                    tool_name="look",
                    tool_replay=ProviderReplayMeta(opaque="o"),
                ),
                Part(
                    id="m1.p3",
                    kind=PartKind.IMAGE,
                    content="",
                    attachment=AttachmentRef("sha256:00", "image/png", 3),
                    prune_state=Deleted("an image", "h"),
                ),
            ),
            origin=ProcessOrigin(
                process_id="p", event_type="tick", sequence=1, caused_by=CausedByToolCall("s", "c0", turn_id="t")
            ),
        ),
        {
            "id": "m1",
            "role": "assistant",
            "parts": [
                {
                    "id": "m1.p0",
                    "kind": "reasoning",
                    "content": "hm",
                    "reasoning_meta": {
                        "item_id": "r1",
                        "encrypted_content": "opaque",
                        "redacted": True,
                        "summary": ["s"],
                        "origin": ROUTE_DATA,
                    },
                },
                {"id": "m1.p1", "kind": "prose", "content": "Hé", "response_meta": {"phase": "commentary"}},
                {
                    "id": "m1.p2",
                    "kind": "tool_call",
                    "content": '{"a": 1}',
                    "tool_call_id": "c1",
                    "tool_name": "look",
                    "tool_replay": {"opaque": "o"},
                },
                {
                    "id": "m1.p3",
                    "kind": "image",
                    "content": "",
                    "attachment": {"id": "sha256:00", "media_type": "image/png", "size": 3},
                    "prune_state": {"state": "deleted", "breadcrumb": "an image", "archive_hash": "h"},
                },
            ],
            "origin": {
                "kind": "process",
                "process_id": "p",
                "event_type": "tick",
                "sequence": 1,
                "caused_by": {"type": "tool_call", "session_id": "s", "call_id": "c0", "turn_id": "t"},
            },
        },
    ),
    "AssembledTurn": (
        AssembledTurn(
            turn_id="t",
            state=SessionStateEnvelope(session_id="s", turn_index=1, head_revision=2, leaf_node_id="n"),
            outcome=Stopped(StopReason.TOOL_ERROR, ToolFailed("look", {"why": "gone"})),
            assistant_output=AssistantOutput(safe_text="a", raw_text="a ", state=OutputState.USABLE),
            execution=ExecutionSummary(mode="standard", had_tool_calls=True, llm_calls=1),
            token_usage=TokenUsage(input=3, output=5, at_least=True),
            children_usage=(TokenLedgerEntry(source="child", model="m", usage=TokenUsage(input=1)),),
            tool_calls=(
                ToolCallRecord(
                    call_id="c",
                    tool_name="shot",
                    args={},
                    output=ToolCallOutput(ToolCallSuccess(None, (AttachmentRef("sha256:00", "image/png", 3),))),
                    plugin_id="camera",
                ),
            ),
            errors=(TurnIssue(kind="llm_provider", message="m", terminal_reason=LlmTerminalReason.STOP),),
            durable=True,
            explain_ref="sha256:11",
            started_at_ms=1,
            finished_at_ms=2,
        ),
        {
            "turn_id": "t",
            "state": {"session_id": "s", "turn_index": 1, "head_revision": 2, "leaf_node_id": "n"},
            "outcome": {
                "type": "stopped",
                "reason": "tool_error",
                "detail": {"type": "tool_error", "tool_name": "look", "value": {"why": "gone"}},
            },
            "assistant_output": {"safe_text": "a", "raw_text": "a ", "state": "usable"},
            "execution": {"mode": "standard", "had_tool_calls": True, "llm_calls": 1},
            "token_usage": {
                "input": 3,
                "output": 5,
                "at_least": True,
            },
            "children_usage": [
                {
                    "source": "child",
                    "model": "m",
                    "usage": {
                        "input": 1,
                    },
                }
            ],
            "tool_calls": [
                {
                    "call_id": "c",
                    "tool_name": "shot",
                    "args": {},
                    "output": {
                        "outcome": {
                            "status": "success",
                            "attachments": [{"id": "sha256:00", "media_type": "image/png", "size": 3}],
                        }
                    },
                    "duration_ms": 0,
                    "plugin_id": "camera",
                }
            ],
            "errors": [{"kind": "llm_provider", "message": "m", "terminal_reason": "stop", "blocking": True}],
            "durable": True,
            "context_tokens": 0,
            "explain_ref": "sha256:11",
            "started_at_ms": 1,
            "finished_at_ms": 2,
        },
    ),
    "MachineSnapshot": (
        MachineSnapshot(
            state="waiting_checkpoint",
            waiting=Waiting(
                effect=Checkpoint(id=3, kind=CheckpointKind.BEFORE_COMPLETION),
                on_empty=Finished(AssistantMessage("done")),
                rejected=((1, FAILED),),
            ),
            pending=(Emit(ErrorEvent("m", ErrorEnvelope(kind="llm", user_message="m", retryable=False))),),
            next_effect_id=4,
            messages_added=(text_message("m", MessageRole.SYSTEM, "note", origin=PluginOrigin("plan", True)),),
            base_message_count=2,
            events=(ProtocolEvent(plugin_id="mode", payload={"n": 1}),),
            turn_causes=(TurnCause(id="w", event_type="tick", origin=PluginOrigin("plan"), text="t"),),
            reported_messages=0,
            reported_events=1,
            protocol_iteration=1,
            protocol_run_offset=0,
            usage=TokenUsage(),
            system_prompt="p",
            tool_specs=(),
        ),
        {
            "state": "waiting_checkpoint",
            "waiting": {
                "effect": {"type": "checkpoint", "id": 3, "kind": "before_completion"},
                "on_empty": {"type": "finished", "finish": {"type": "assistant_message", "text": "done"}},
                "rejected": [[1, FAILED_DATA]],
            },
            "pending": [
                {
                    "type": "emit",
                    "event": {
                        "type": "error",
                        "message": "m",
                        "envelope": {"kind": "llm", "user_message": "m", "retryable": False},
                    },
                }
            ],
            "next_effect_id": 4,
            "messages_added": [
                {
                    "id": "m",
                    "role": "system",
                    "parts": [{"id": "m.p0", "kind": "text", "content": "note"}],
                    "origin": {"kind": "plugin", "plugin_id": "plan", "transient": True},
                }
            ],
            "base_message_count": 2,
            "events": [{"plugin_id": "mode", "payload": {"n": 1}}],
            "turn_causes": [
                {"id": "w", "event_type": "tick", "origin": {"kind": "plugin", "plugin_id": "plan"}, "text": "t"}
            ],
            "reported_messages": 0,
            "reported_events": 1,
            "protocol_iteration": 1,
            "protocol_run_offset": 0,
            "usage": {},
            "checkpoint_count": 0,
            "system_prompt": "p",
            "tool_specs": [],
        },
    ),
    "RuntimeEffectEnvelope": (
        envelope_of(
            LlmCallCommand(
                "openai",
                LlmRequest(
                    model="m-1",
                    messages=(LlmMessage(LlmRole.USER, (TextBlock(text="hi", cache_breakpoint=True),)),),
                    tools=(LlmToolSpec(name="look", description="Look.", input_schema={"type": "object"}),),
                    generation=GenerationOptions(temperature=0.5),
                    scope=LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r"),
                    output_spec=JsonSchemaOutput(name="Answer", schema={}),
                ),
            )
        ),
        {
            "invocation": {
                "scope": {"session_id": "s", "turn_id": "t", "turn_index": 0, "protocol_iteration": 0},
                "subject": {"type": "effect", "effect_id": "1", "kind": "llm_call"},
                "replay": {"key": "7adf4edbcd83969c07155763dde11308654658d1698fbfb4839689f28fe279ab"},
            },
            "command": {
                "type": "llm_call",
                "provider_id": "openai",
                "request": {
                    "model": "m-1",
                    "messages": [
                        {"role": "user", "blocks": [{"type": "text", "text": "hi", "cache_breakpoint": True}]}
                    ],
                    "tools": [{"name": "look", "description": "Look.", "input_schema": {"type": "object"}}],
                    "tool_choice": "auto",
                    "generation": {"temperature": 0.5},
                    "scope": {"session_id": "s", "agent_frame_id": "f", "request_id": "r"},
                    "output_spec": {"type": "json_schema", "name": "Answer", "schema": {}, "strict": True},
                },
            },
        },
    ),
    "ProcessCommand": (
        ProcessCommand(
            ProcessStart(
                process_id="p",
                input=EngineInput("e", {"n": 1}),
                recovery=ProcessRecovery.RERUNNABLE,
                max_attempts=3,
            )
        ),
        {
            "type": "process",
            "operation": {
                "op": "start",
                "process_id": "p",
                "input": {"type": "engine", "engine": "e", "payload": {"n": 1}},
                "recovery": "rerunnable",
                "max_attempts": 3,
            },
        },
    ),
    "ProcessOutcome": (
        ProcessOutcome(ProcessAwaited(ProcessAbandoned("engine_gave_up"))),
        {
            "type": "process",
            "result": {"op": "await", "output": {"status": "abandoned", "reason": "engine_gave_up"}},
        },
    ),
    "AwaitEventCommand": (
        AwaitEventCommand(WaitKey(InProcess("p"), SignalWait("go", 1))),
        {
            "type": "await_event",
            "key": {
                "scope": {"type": "process", "process_id": "p"},
                "wait": {"type": "process_signal", "signal_name": "go", "ordinal": 1},
            },
        },
    ),
    "AwaitEventOutcome": (
        AwaitEventOutcome(ResolvedError("no", "not now")),
        {"type": "await_event", "resolution": {"status": "err", "code": "no", "message": "not now"}},
    ),
    "SessionPolicy": (
        SessionPolicy(model="openai:m", max_turns=3, options={"a": 1}).with_instructions("Be kind."),
        {
            "model": "openai:m",
            "mode_id": "standard",
            "max_turns": 3,
            "prompt": {
                "slots": {
                    "project_instructions": {
                        "contributions": [{"content": "Be kind.", "slot": "project_instructions", "priority": 0}]
                    }
                }
            },
            "options": {"a": 1},
        },
    ),
    "TurnInput": (TurnInput.text("hi"), {"items": [{"type": "text", "text": "hi"}]}),
    "PromptContribution": (
        PromptContribution(content="x", slot=PromptSlot.INTRO, title="T", priority=-1, tools=frozenset({"b", "a"})),
        {"content": "x", "slot": "intro", "title": "T", "priority": -1, "tools": ["a", "b"]},
    ),
    "ToolCallCancelled": (
        ToolCallCancelled(message="stopped"),
        {"status": "cancelled", "message": "stopped", "source": "cancellation"},
    ),
    "ModelToolReturn": (
        ModelToolReturn("c", "t", (TextPart("x"), AttachmentPart(AttachmentRef("sha256:00", "image/png", 3)))),
        {
            "call_id": "c",
            "tool_name": "t",
            "parts": [
                {"type": "text", "text": "x"},
                {"type": "attachment", "reference": {"id": "sha256:00", "media_type": "image/png", "size": 3}},
            ],
        },
    ),
}


@pytest.mark.parametrize(("value", "data"), SAMPLES.values(), ids=SAMPLES)
def test_the_stored_form_is_this_one(value: Any, data: dict[str, Any]) -> None:
    assert unstructure(value) == data
    assert json.loads(encode(value)) == data
    assert decode(type(value), json.dumps(data)) == value


def test_stored_bytes_are_compact_and_sorted() -> None:
    """Equal values are equal bytes, so that a hash of the bytes is a hash of the value."""
    assert encode(ToolCallSuccess({"b": "é", "a": [1, 1.0]})) == (
        '{"status":"success","value":{"a":[1,1.0],"b":"é"}}'.encode()
    )


# ---- what the reference asks of stored forms ------------------------------------------------------------------------


@pytest.mark.statement(29)
def test_a_waiting_model_call_keeps_its_id_and_its_whole_request() -> None:
    """A snapshot before the model answered has the same id, model and messages."""
    request = LlmRequest(model="m", messages=(LlmMessage(LlmRole.USER, (TextBlock(text="hi"),)),))
    waiting = Waiting(effect=LlmCall(id=2, request=request), driver_state={"draft": [1]})
    assert decode(Waiting, encode(waiting)) == waiting


@pytest.mark.statement(34)
def test_waiting_code_survives_json() -> None:
    """Code that waits is the same after it was stored and read."""
    waiting = Waiting(effect=ExecCode(id=7, language="python", code="1"), driver_state={"cell": 3, "names": ["a"]})
    assert decode(Waiting, json.dumps(json.loads(encode(waiting)))) == waiting


@pytest.mark.statement(60)
def test_a_message_of_old_has_neither_reasoning_nor_origin() -> None:
    """A message may lack both its reasoning and where it came from."""
    data = {"id": "m", "role": "user", "parts": [{"id": "m.p0", "kind": "text", "content": "hi"}]}
    assert structure(data, Message) == text_message("m", MessageRole.USER, "hi")
    assert unstructure(text_message("m", MessageRole.USER, "hi")) == data


@pytest.mark.statement(62)
def test_an_error_envelope_has_retry_fields_only_when_they_are_set() -> None:
    """Whether to retry is left out where nobody said so, and what lacks it can be read."""
    plain = ErrorEnvelope(kind="llm", user_message="m")
    assert unstructure(plain) == {"kind": "llm", "user_message": "m"}
    assert structure({"kind": "llm", "user_message": "m"}, ErrorEnvelope) == plain
    told = ErrorEnvelope(kind="llm", user_message="m", retryable=False, provider_failure_kind=ProviderFailureKind.QUOTA)
    assert unstructure(told) == {
        "kind": "llm",
        "user_message": "m",
        "retryable": False,
        "provider_failure_kind": "quota",
    }
    assert structure(unstructure(told), ErrorEnvelope) == told


@pytest.mark.statement(66)
def test_a_cancelled_call_is_neither_failed_nor_a_success() -> None:
    """Who was stopped didn't fail, and didn't succeed."""
    outcomes: list[ToolCallOutcome] = [
        ToolCallSuccess(),
        ToolCallFailure(failure_class=ToolFailureClass.IO, code="c", message="m"),
        ToolCallCancelled(message="m"),
    ]
    assert [ToolCallOutput(each).is_success for each in outcomes] == [True, False, False]
    assert [unstructure(each)["status"] for each in outcomes] == ["success", "failure", "cancelled"]


@pytest.mark.statement(72)
def test_a_failure_is_not_retried_unless_it_says_so() -> None:
    """Unless a tool says otherwise it is never tried again, and then nothing of it is stored."""
    failure = ToolCallFailure(failure_class=ToolFailureClass.IO, code="c", message="m")
    assert "retry" not in unstructure(failure)
    assert structure(unstructure(failure), ToolCallFailure) == failure
