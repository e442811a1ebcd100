"""The scripted provider: a model that says what it was told to say, and remembers what it was asked."""

from __future__ import annotations

import re
from functools import partial
from inspect import isawaitable
from pathlib import Path

from lash_hookspecs.errors import ConfigurationError, LlmCallFailed
from lash_hookspecs.llm import (
    LlmCallError,
    LlmEventSender,
    LlmOutputPart,
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    ProviderContext,
    ProviderFailureKind,
    ReasoningOutput,
    StreamDelta,
    StreamReasoningDelta,
    StreamUsage,
    TextOutput,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import LlmRole
from lash_hookspecs.models import ModelCapability, ModelPrices
from lash_plugin_provider_scripted.demo import demo_reply
from lash_plugin_provider_scripted.script import Reply, ReplyFunction, Script, load_script
from lash_plugin_provider_scripted.specs import ScriptedSettings

__all__ = ["ScriptedProvider", "ScriptedSettings", "open_scripted"]


FREE = ModelPrices(input=0, output=0, cache_read=0, cache_write=0)


class ScriptedProvider:
    """A provider whose answers are given: a sequence of replies, used up one by one, or a function of the request.

    Plain text stands for a reply of that text. `requests` holds what was asked, in order. A sequence that is used up
    fails the next call with `script_exhausted`.
    """

    def __init__(self, script: Script, *, context_window: int | None = None) -> None:
        self.requests: list[LlmRequest] = []
        self.closed = False
        self._capability = ModelCapability(context_window=context_window, prices=FREE)
        self._reply: ReplyFunction = script if callable(script) else partial(_next_of, [*script][::-1], len(script))

    def capability(self, model: str) -> ModelCapability:
        """The same for every model: everything is possible."""
        return self._capability

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        """Say the next reply, one list of events per delta. Raises `LlmCallFailed` where the script says so."""
        self.requests.append(request)
        answer = self._reply(request)
        if isawaitable(answer):
            answer = await answer
        reply = Reply(text=answer) if isinstance(answer, str) else answer
        for event in _events(reply):
            await send([event])
        if reply.error is not None:
            raise LlmCallFailed(reply.error)
        return _response(reply, request)

    async def aclose(self) -> None:
        """Nothing to release; tests may look at `closed`."""
        self.closed = True


def open_scripted(context: ProviderContext) -> ScriptedProvider:
    """The provider that `scripted:demo` and `scripted:<path>` name."""
    settings: ScriptedSettings = context.settings
    return ScriptedProvider(_by_model_name, context_window=settings.context_window)


def _by_model_name(request: LlmRequest) -> Reply:
    if request.model == "demo":
        return demo_reply(request)
    path = Path(request.model).expanduser()
    if not path.suffix and not path.exists():
        raise ConfigurationError(f"`scripted:{request.model}` is neither `scripted:demo` nor the path of a script file")
    replies = load_script(path)
    # The conversation tells how far the script has got, not a counter: the next process goes on where this one stops.
    said = sum(message.role is LlmRole.ASSISTANT for message in request.messages)
    if said >= len(replies):
        raise _exhausted(len(replies), f" in `{path}`")
    return replies[said]


def _next_of(rest: list[Reply | str], count: int, request: LlmRequest) -> Reply | str:
    if not rest:
        raise _exhausted(count)
    return rest.pop()


def _exhausted(count: int, where: str = "") -> LlmCallFailed:
    message = f"scripted: this is call {count + 1} or later, and the script{where} has {count} replies: add one to it"
    return LlmCallFailed(
        LlmCallError(message=message, kind=ProviderFailureKind.VALIDATION, code="script_exhausted", retryable=False)
    )


def _events(reply: Reply) -> list[LlmStreamEvent]:
    events: list[LlmStreamEvent] = [StreamReasoningDelta(piece) for piece in _pieces(reply.reasoning)]
    deltas = _pieces(reply.text) if reply.deltas is None else reply.deltas
    events += [StreamDelta(piece) for piece in deltas]
    if reply.error is None:
        events.append(StreamUsage(reply.usage))
    return events


def _pieces(text: str) -> list[str]:
    return re.findall(r"\S*\s*", text)[:-1]


def _response(reply: Reply, request: LlmRequest) -> LlmResponse:
    parts: list[LlmOutputPart] = []
    text = reply.text if reply.deltas is None else "".join(reply.deltas)
    if reply.reasoning:
        parts.append(ReasoningOutput(text=reply.reasoning))
    if text:
        parts.append(TextOutput(text=text))
    # Counted by messages rather than by calls, so that a resumed process makes the same ids.
    base = len(request.messages)
    for index, call in enumerate(reply.tool_calls):
        call_id = call.call_id or f"call-{base}-{index}"
        parts.append(ToolCallOutputPart(call_id=call_id, tool_name=call.tool_name, input_json=call.arguments))
    reason = reply.terminal_reason
    if reason is None:
        reason = LlmTerminalReason.TOOL_USE if reply.tool_calls else LlmTerminalReason.STOP
    return LlmResponse(
        full_text=text,
        parts=tuple(parts),
        usage=reply.usage,
        terminal_reason=reason,
        response_id=f"scripted-{base}",
        served_model=request.model,
    )
