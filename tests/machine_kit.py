"""The other half of a turn machine, for its tests: scripted drivers, a scripted host, and builders of values.

Nothing here is a mock: a `ScriptedDriver` is an ordinary driver, a `ScriptedHost` an ordinary host, both of few words.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from attrs import define, field, frozen

from lash_framework.machine import ChatProjector, MessageSequence, TurnMachine, TurnMachineConfig, TurnStart
from lash_hookspecs.checkpoints import CheckpointDelivery, CheckpointKind
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.llm import (
    LlmCallError,
    LlmOutputPart,
    LlmResponse,
    LlmTerminalReason,
    TextOutput,
    TokenUsage,
    ToolCallOutputPart,
)
from lash_hookspecs.messages import (
    AttachmentRef,
    Message,
    MessageRole,
    Part,
    PartKind,
    PluginMessage,
    PluginOrigin,
    ProcessOrigin,
    ProviderReplayMeta,
    TurnCause,
    text_message,
)
from lash_hookspecs.tools import (
    AttachmentPart,
    CompletedToolCall,
    ExecResponse,
    ModelToolReturn,
    ModelToolReturnPart,
    PendingToolCall,
    TextPart,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolControl,
    ToolFailureClass,
)
from lash_hookspecs.turn_effects import (
    Checkpoint,
    CheckpointDone,
    Done,
    Effect,
    Emit,
    EnvironmentSynced,
    ExecCode,
    ExecDone,
    ExecutionEnvironmentSync,
    LlmCall,
    LlmComplete,
    Response,
    SyncExecutionEnvironment,
    ToolCalls,
    ToolResults,
)
from lash_hookspecs.turn_events import ErrorEnvelope, ErrorEvent
from lash_hookspecs.turn_outcomes import AssistantMessage, Finished, Stopped, StopReason
from lash_hookspecs.turn_snapshot import MachineSnapshot
from lash_hookspecs.turn_steps import DriverContextView, PrepareIteration, StartCheckpoint, StartLlm, Step

TOOL = {"type": "object", "properties": {}}
PICTURE = AttachmentRef(id="sha256:" + "0" * 64, media_type="image/png", size=3)
NO_DELIVERY = CheckpointDelivery()


# ---- values ---------------------------------------------------------------------------------------------------------


def user(text: str, id: str = "u1") -> Message:  # reads as the field it fills
    return text_message(id, MessageRole.USER, text)


def assistant(text: str, id: str = "a1") -> Message:  # as above
    return text_message(id, MessageRole.ASSISTANT, text, kind=PartKind.PROSE)


def message(id: str, role: MessageRole, *parts: Part) -> Message:  # as above
    return Message(id=id, role=role, parts=parts)


def part(kind: PartKind, content: str = "", **more: Any) -> Part:
    return Part(id="p", kind=kind, content=content, **more)


def cause(id: str, text: str = "it is done") -> TurnCause:  # as above
    origin = ProcessOrigin(process_id="proc", event_type="done", sequence=1)
    return TurnCause(id=id, event_type="done", origin=origin, text=text)


def note(text: str, role: MessageRole = MessageRole.USER, **more: Any) -> PluginMessage:
    return PluginMessage(role=role, content=text, **more)


def delivery(*messages: PluginMessage, causes: Iterable[TurnCause] = (), **more: Any) -> CheckpointDelivery:
    return CheckpointDelivery(messages=messages, turn_causes=tuple(causes), **more)


def says(*parts: str | LlmOutputPart, reason: LlmTerminalReason = LlmTerminalReason.STOP, **more: Any) -> LlmResponse:
    """An answer of these parts; text may be given as such."""
    given = tuple(TextOutput(text=each) if isinstance(each, str) else each for each in parts)
    full = "".join(each.text for each in given if isinstance(each, TextOutput))
    return LlmResponse(full_text=full, parts=given, terminal_reason=reason, **more)


def calls(call_id: str, tool: str = "look", args: object = None, **more: Any) -> ToolCallOutputPart:
    """A tool call; `args` may be raw text."""
    raw = args if isinstance(args, str) else json.dumps(args or {})
    return ToolCallOutputPart(call_id=call_id, tool_name=tool, input_json=raw, **more)


def pending(call_id: str, replay: str | None = None) -> PendingToolCall:
    meta = None if replay is None else ProviderReplayMeta(opaque=replay)
    return PendingToolCall(call_id=call_id, tool_name="look", args={"at": call_id}, replay=meta)


def returned(
    call: PendingToolCall, *parts: str | AttachmentRef, output: ToolCallOutput | None = None
) -> CompletedToolCall:
    shown: tuple[ModelToolReturnPart, ...] = tuple(
        TextPart(each) if isinstance(each, str) else AttachmentPart(each) for each in parts
    )
    return CompletedToolCall(
        call_id=call.call_id,
        tool_name=call.tool_name,
        args=call.args,
        output=output or ToolCallOutput(ToolCallSuccess("ok")),
        model_return=ModelToolReturn(call.call_id, call.tool_name, shown),
        duration_ms=7,
        replay=call.replay,
    )


def worked(call: PendingToolCall, control: ToolControl | None = None) -> CompletedToolCall:
    return returned(call, f"{call.tool_name} of {call.call_id}", output=ToolCallOutput(ToolCallSuccess("ok"), control))


def failed(call: PendingToolCall, control: ToolControl | None = None) -> CompletedToolCall:
    failure = ToolCallFailure(failure_class=ToolFailureClass.EXECUTION, code="broken", message="it broke")
    return returned(call, "it broke", output=ToolCallOutput(failure, control))


def call_error(message: str = "no", **more: Any) -> LlmCallError:
    return LlmCallError(message=message, **more)


# ---- the driver -----------------------------------------------------------------------------------------------------

Answer = Step | Callable[[DriverContextView, Any], Step]


def ask_model(ctx: DriverContextView, _: Any) -> Step:
    return Step(next=StartLlm(ctx.project_llm_request()))


def end_with_text(ctx: DriverContextView, answer: LlmResponse) -> Step:
    """End the turn with the answer's words, after the checkpoint before completion."""
    return Step(next=before_completion(answer.full_text))


def before_completion(text: str) -> StartCheckpoint:
    return StartCheckpoint(kind=CheckpointKind.BEFORE_COMPLETION, on_empty=Finished(AssistantMessage(text)))


AFTER_WORK = StartCheckpoint(kind=CheckpointKind.AFTER_WORK, on_empty=PrepareIteration())


def after_work(ctx: DriverContextView, given: Any) -> Step:
    return Step(advance=True, next=AFTER_WORK)


@define
class ScriptedDriver:
    """Answers each question with a step, or what a function makes of it; a list is used up from the front."""

    prepare: Answer | list[Answer] = ask_model
    llm: Answer | list[Answer] = end_with_text
    tools: Answer | list[Answer] = after_work
    code: Answer | list[Answer] = after_work
    asked: list[tuple[str, Any]] = field(factory=list)

    def prepare_protocol_iteration(self, ctx: DriverContextView) -> Step:
        return self._answer("prepare", ctx, None)

    def handle_llm_success(self, ctx: DriverContextView, response: LlmResponse, streamed: bool, state: Any) -> Step:
        self.asked.append(("driver_state", state))
        return self._answer("llm", ctx, response)

    def handle_tool_results(self, ctx: DriverContextView, completed: Sequence[CompletedToolCall]) -> Step:
        return self._answer("tools", ctx, tuple(completed))

    def handle_exec_result(self, ctx: DriverContextView, result: ExecResponse | str, state: Any) -> Step:
        self.asked.append(("driver_state", state))
        return self._answer("code", ctx, result)

    def _answer(self, question: str, ctx: DriverContextView, given: Any) -> Step:
        self.asked.append((question, given))
        script = getattr(self, question)
        answer = script.pop(0) if isinstance(script, list) else script
        return answer(ctx, given) if callable(answer) else answer

    def times(self, question: str) -> int:
        return sum(1 for name, _ in self.asked if name == question)


# ---- the host -------------------------------------------------------------------------------------------------------


def config(driver: Any = None, **more: Any) -> TurnMachineConfig:
    given: dict[str, Any] = {
        "driver": driver or ScriptedDriver(),
        "session_id": "s",
        "turn_id": "t",
        "model": "m",
        "projector": ChatProjector(),
        "sync_execution_environment": False,
    }
    return TurnMachineConfig(**{**given, **more})


def start(*messages: Message, base: Iterable[Message] = (), **more: Any) -> TurnStart:
    return TurnStart(base=MessageSequence(base), messages=messages or (user("hello"),), **more)


def machine(driver: Any = None, given: TurnStart | None = None, **more: Any) -> TurnMachine:
    return TurnMachine(config(driver, **more), given or start())


@define
class ScriptedHost:
    """Answers effects from its scripts and keeps all it was given. An empty script has a harmless answer."""

    llm: list[LlmResponse | LlmCallError] = field(factory=list)
    deliveries: list[CheckpointDelivery] = field(factory=list)
    syncs: list[ExecutionEnvironmentSync | str | None] = field(factory=list)
    tool: Callable[[PendingToolCall], CompletedToolCall] = worked
    code: ExecResponse | str = ExecResponse()
    streamed: bool = False
    seen: list[Effect] = field(factory=list)

    def answer(self, effect: Effect) -> Response | None:
        match effect:
            case SyncExecutionEnvironment(id=id_):
                sync = self.syncs.pop(0) if self.syncs else None
                if isinstance(sync, str):
                    return EnvironmentSynced(id=id_, error=sync)
                return EnvironmentSynced(id=id_, update=sync)
            case LlmCall(id=id_):
                result = self.llm.pop(0) if self.llm else says("done")
                return LlmComplete(id=id_, result=result, text_streamed=self.streamed)
            case ToolCalls(id=id_, calls=batch):
                return ToolResults(id=id_, results=tuple(self.tool(each) for each in batch))
            case ExecCode(id=id_):
                return ExecDone(id=id_, result=self.code)
            case Checkpoint(id=id_):
                return CheckpointDone(id=id_, delivery=self.deliveries.pop(0) if self.deliveries else NO_DELIVERY)
            case _:
                return None

    def run(self, turn: TurnMachine, until: type[Effect] | None = None) -> Trace:
        """Drive the turn to its end, or to the first effect of a class, which is left unanswered."""
        given: list[Effect] = []
        while (effect := turn.poll()) is not None:
            given.append(effect)
            if until is not None and isinstance(effect, until):
                break
            response = self.answer(effect)
            if response is not None:
                assert turn.respond(response)
        self.seen.extend(given)
        return Trace(tuple(given))


@frozen
class Trace:
    """Effects in the order in which a host got them."""

    effects: tuple[Effect, ...]

    def of(self, kind: type[Any]) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    def events(self, kind: type[Any]) -> list[Any]:
        emitted = (effect.event for effect in self.of(Emit))
        return [event for event in emitted if isinstance(event, kind)]

    @property
    def kinds(self) -> list[str]:
        return [f"emit {each.event.tag}" if isinstance(each, Emit) else each.tag for each in self.effects]

    @property
    def steps(self) -> list[str]:
        """The kinds without what is only shown."""
        return [kind for kind in self.kinds if not kind.startswith(("emit", "log"))]


def play(turn: TurnMachine, *llm: LlmResponse | LlmCallError, **more: Any) -> Trace:
    """The whole turn, with these answers of the model."""
    return ScriptedHost(llm=list(llm), **more).run(turn)


def rewritten(snapshot: MachineSnapshot) -> MachineSnapshot:
    """The snapshot as it comes back from disk."""
    return decode(MachineSnapshot, encode(snapshot))


def restored(turn: TurnMachine, driver: Any = None, given: TurnStart | None = None, **more: Any) -> TurnMachine:
    """The same turn in a process that has only the history, the configuration and the bytes of a snapshot."""
    base = MessageSequence((given or start()).base)
    return TurnMachine.restore(config(driver, **more), base, rewritten(turn.snapshot()))


def prompt_texts(call: LlmCall) -> list[str]:
    """All text that a model is shown, block by block."""
    return [block.text for each in call.request.messages for block in each.blocks if hasattr(block, "text")]


LAST = ["emit turn_outcome", "emit done", "done"]


def stopped(trace: Trace) -> StopReason:
    """Why the turn stopped; it did not end well."""
    outcome = trace.of(Done)[0].outcome
    assert isinstance(outcome, Stopped)
    return outcome.reason


def envelope(trace: Trace) -> ErrorEnvelope:
    """The one error that was shown."""
    (error,) = trace.events(ErrorEvent)
    return error.envelope  # type: ignore[no-any-return]  # events() gives what its argument says


USAGE = TokenUsage(input=10, output=5, cache_read_input=3, cache_write_input=2, reasoning_output=1)
PLUGIN = PluginOrigin(plugin_id="guard")
