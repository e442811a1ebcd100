"""A server's request for a model's words, as a direct completion: recorded, paid by the turn, and only so many."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import mcp_types as types

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import GenerationOptions, LlmRequest, LlmTerminalReason
from lash_hookspecs.llm_messages import LlmMessage, LlmRole, TextBlock

if TYPE_CHECKING:
    from lash_plugin_tools_mcp.asking import Leg
    from lash_plugin_tools_mcp.connection import Connection

__all__ = ["sampled"]

log = logging.getLogger("lash.mcp")

CHARS_PER_TOKEN = 4
"""About; what a request takes is known only when it was paid."""


async def sampled(
    connection: Connection, leg: Leg, params: types.CreateMessageRequestParams, question: str
) -> types.CreateMessageResult | types.ErrorData:
    """Ask the turn's model. Text only: neither images nor tools of the server's own.

    A call may do so `max_samples` times, and take `max_sample_tokens` by that. A refusal is told to the server, to
    whoever watches the turn, and in the log. What was answered to the `question` before, when this call was made for
    the first time, is the answer.
    """
    assert leg.completions is not None  # who asks has seen to it
    if (known := leg.samples.again(question)) is not None:
        return _as_result(known)
    if params.tools:
        return types.ErrorData(code=types.INVALID_REQUEST, message="sampling with tools is not supported")
    messages = [_message(LlmRole.SYSTEM, params.system_prompt)] if params.system_prompt else []
    for each in params.messages:
        blocks = each.content if isinstance(each.content, list) else [each.content]
        if not all(isinstance(block, types.TextContent) for block in blocks):
            return types.ErrorData(code=types.INVALID_REQUEST, message="only text can be sampled from")
        text = "\n".join(block.text for block in blocks if isinstance(block, types.TextContent))
        messages.append(_message(LlmRole.ASSISTANT if each.role == "assistant" else LlmRole.USER, text))
    size = _estimate(messages)
    left = connection.options.max_sample_tokens - leg.samples.tokens - size
    if refusal := _refusal(connection, leg, left):
        await leg.samples.settled()  # the refusal may end the call, and what is paid for it at this moment
        log.warning("%s: %s", connection, refusal)
        if leg.show is not None:
            await leg.show("sampling_refused", {"server": connection.name, "reason": refusal})
        return types.ErrorData(code=types.INVALID_REQUEST, message=refusal)
    most = max(1, min(params.max_tokens, left))
    generation = GenerationOptions(
        output_token_cap=most,
        temperature=params.temperature,
        stop_sequences=tuple(params.stop_sequences or ()),
    )
    asked = LlmRequest(model="", messages=messages, generation=generation)
    key, sample = leg.samples.begin(question, size + most)  # also one that comes to nothing: it may have been paid
    if leg.timer is not None and leg.samples.open == 1:
        leg.timer.pause()  # it is the model that takes its time
    try:
        done = await leg.completions.complete(asked, key=key, source=f"mcp:{connection.name}")
    except LlmCallFailed as error:
        sample.answer = {"error": f"the model could not be asked: {error}"}
    else:
        if not done.usage.at_least:
            sample.tokens = done.usage.total
        cut = done.response.terminal_reason is LlmTerminalReason.OUTPUT_LIMIT
        sample.answer = {"text": done.text, "stop_reason": "maxTokens" if cut else "endTurn"}
    finally:
        leg.samples.end()
        if leg.timer is not None and not leg.samples.open:
            leg.timer.go_on()
    return _as_result(sample.answer)


def _as_result(answer: Mapping[str, Any]) -> types.CreateMessageResult | types.ErrorData:
    if "error" in answer:
        return types.ErrorData(code=types.INTERNAL_ERROR, message=answer["error"])
    content = types.TextContent(type="text", text=answer["text"])
    return types.CreateMessageResult(role="assistant", content=content, model="lash", stop_reason=answer["stop_reason"])


def _refusal(connection: Connection, leg: Leg, left: int) -> str:
    options = connection.options
    if leg.samples.count >= options.max_samples:
        return f"a call may ask the model {options.max_samples} times (`max_samples`), and it did"
    if left <= 0:
        most = f"{options.max_sample_tokens:,} tokens of the model (`max_sample_tokens`)"
        return f"a call may take {most}, and this would be more"
    return ""


def _estimate(messages: list[LlmMessage]) -> int:
    texts = (block.text for each in messages for block in each.blocks if isinstance(block, TextBlock))
    return sum(map(len, texts)) // CHARS_PER_TOKEN


def _message(role: LlmRole, text: str) -> LlmMessage:
    return LlmMessage(role=role, blocks=(TextBlock(text=text),))
