"""A server's request for a model's words, as a direct completion: recorded, and paid by the turn."""

from __future__ import annotations

import mcp_types as types

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import GenerationOptions, LlmRequest, LlmTerminalReason
from lash_hookspecs.llm_messages import LlmMessage, LlmRole, TextBlock
from lash_hookspecs.services import DirectCompletionClient

__all__ = ["sampled"]


async def sampled(
    params: types.CreateMessageRequestParams, completions: DirectCompletionClient, server: str
) -> types.CreateMessageResult | types.ErrorData:
    """Ask the turn's model. Text only: neither images nor tools of the server's own."""
    if params.tools:
        return types.ErrorData(code=types.INVALID_REQUEST, message="sampling with tools is not supported")
    messages = [_message(LlmRole.SYSTEM, params.system_prompt)] if params.system_prompt else []
    for each in params.messages:
        blocks = each.content if isinstance(each.content, list) else [each.content]
        if not all(isinstance(block, types.TextContent) for block in blocks):
            return types.ErrorData(code=types.INVALID_REQUEST, message="only text can be sampled from")
        text = "\n".join(block.text for block in blocks if isinstance(block, types.TextContent))
        messages.append(_message(LlmRole.ASSISTANT if each.role == "assistant" else LlmRole.USER, text))
    generation = GenerationOptions(
        output_token_cap=max(1, params.max_tokens),
        temperature=params.temperature,
        stop_sequences=tuple(params.stop_sequences or ()),
    )
    asked = LlmRequest(model="", messages=messages, generation=generation)
    try:
        done = await completions.complete(asked, source=f"mcp:{server}")
    except LlmCallFailed as error:
        return types.ErrorData(code=types.INTERNAL_ERROR, message=f"the model could not be asked: {error}")
    cut = done.response.terminal_reason is LlmTerminalReason.OUTPUT_LIMIT
    return types.CreateMessageResult(
        role="assistant",
        content=types.TextContent(type="text", text=done.text),
        model="lash",
        stop_reason="maxTokens" if cut else "endTurn",
    )


def _message(role: LlmRole, text: str) -> LlmMessage:
    return LlmMessage(role=role, blocks=(TextBlock(text=text),))
