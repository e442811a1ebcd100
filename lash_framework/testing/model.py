"""A model for tests: it says what it is told to say, and remembers what it was asked.

It is no plugin and needs none, so that a plugin can be tested with the kernel, a mode and a store alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

from attrs import field

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    LlmCallError,
    LlmEventSender,
    LlmOutputPart,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    ProviderSpec,
    StreamDelta,
    TextOutput,
    TokenUsage,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import LlmRole
from lash_hookspecs.markers import hookimpl
from lash_hookspecs.models import ModelCapability, ModelPrices
from lash_hookspecs.plugins import PluginInfo
from lash_hookspecs.values import frozen

__all__ = ["MODEL", "Reply", "Says", "ScriptedModel", "ToolUse", "call"]

MODEL = "test:model"
"""The name under which a host in a test has it."""


@frozen
class ToolUse:
    """A tool call of the model."""

    tool_name: str
    arguments: Mapping[str, Any] = field(factory=dict)


def call(tool_name: str, /, **arguments: Any) -> ToolUse:
    """The model calls this tool: `call("count_words", text="to be")`."""
    return ToolUse(tool_name, arguments)


Reply = Union[str, ToolUse, Sequence[ToolUse], LlmCallError]
"""What the model says: a text, a tool call, several at once, or that the service fails."""

Says = Union[Sequence[Reply], Callable[[LlmRequest], Reply]]
"""One reply after the other, or a function of the request."""


@frozen
class _NoSettings:
    """There is nothing to set."""


class ScriptedModel:
    """A model whose replies are given; `requests` is what it was asked, in order. It is the plugin that offers itself.

    With `by_request` a reply's place is told by the conversation (how many answers it holds), not by a count of calls:
    so a new process goes on where the one before it stopped.
    """

    def __init__(self, says: Says, *, by_request: bool = False) -> None:
        self.requests: list[LlmRequest] = []
        self._says = says
        self._by_request = by_request

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="test-model", summary="The model of a test.")

    @hookimpl
    def lash_providers(self) -> list[ProviderSpec]:
        return [ProviderSpec(provider_id="test", settings=_NoSettings, open=lambda _: self, live=False)]

    def system_prompt(self, call: int = -1) -> str:
        """What the model was told before the conversation, in one of its calls (the last)."""
        messages = self.requests[call].messages
        return _text(messages[:1]) if messages and messages[0].role is LlmRole.SYSTEM else ""

    def conversation(self, call: int = -1) -> str:
        """What it was shown after that: prompts, answers, what tools returned; a line's end between two of them."""
        messages = self.requests[call].messages
        return _text(messages[1:] if messages and messages[0].role is LlmRole.SYSTEM else messages)

    # ---- the provider -----------------------------------------------------------------------------------------------

    def capability(self, model: str) -> ModelCapability:
        """The same for every model: nothing is known of it, but that it costs nothing."""
        return ModelCapability(prices=ModelPrices(input=0, output=0, cache_read=0, cache_write=0))

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        """Say the next reply. Raises `LlmCallFailed` where the script says so, and where it is used up."""
        self.requests.append(request)
        reply = self._says(request) if callable(self._says) else self._next(self._says, request)
        if isinstance(reply, LlmCallError):
            raise LlmCallFailed(reply)
        if isinstance(reply, str):
            await send([StreamDelta(reply)])
        return _response(reply, request)

    async def aclose(self) -> None:
        """Nothing to release."""

    def _next(self, script: Sequence[Reply], request: LlmRequest) -> Reply:
        said = sum(each.role is LlmRole.ASSISTANT for each in request.messages)
        at = said if self._by_request else len(self.requests) - 1
        if at < len(script):
            return script[at]
        message = f"the test's model is asked for reply {at + 1}, and `says` has {len(script)}: add one"
        raise LlmCallFailed(
            LlmCallError(message=message, kind=ProviderFailureKind.VALIDATION, code="script_exhausted", retryable=False)
        )


def _response(reply: str | ToolUse | Sequence[ToolUse], request: LlmRequest) -> LlmResponse:
    place = len(request.messages)  # ids follow from the conversation, so that they are the same after a crash
    parts: list[LlmOutputPart] = []
    if isinstance(reply, str):
        parts += [TextOutput(text=reply)] if reply else []
    else:
        uses = [reply] if isinstance(reply, ToolUse) else reply
        parts += [
            ToolCallOutputPart(
                call_id=f"call-{place}-{at}", tool_name=use.tool_name, input_json=json.dumps(use.arguments)
            )
            for at, use in enumerate(uses)
        ]
    return LlmResponse(
        full_text=reply if isinstance(reply, str) else "",
        parts=tuple(parts),
        usage=TokenUsage(input=10, output=5),
        terminal_reason=LlmTerminalReason.STOP if isinstance(reply, str) else LlmTerminalReason.TOOL_USE,
        response_id=f"test-{place}",
        served_model=request.model,
    )


def _text(messages: Sequence[Any]) -> str:
    blocks = [block for message in messages for block in message.blocks]
    texts = (getattr(block, "text", "") or getattr(block, "content", "") for block in blocks)
    return "\n".join(str(each) for each in texts if each)
