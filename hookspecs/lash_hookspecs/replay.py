"""Which opaque provider state may go back to whom.

A provider hands out state (encrypted reasoning, item ids) that only the same provider, endpoint and model can read.
Who receives an answer stamps it; who asks strips what is stamped otherwise, or not at all, and keeps the neutral text.
"""

from __future__ import annotations

from typing import TypeVar

from attrs import evolve

from lash_hookspecs.llm import LlmOutputPart, LlmResponse, ReasoningOutput, TextOutput, ToolCallOutputPart
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmBlock,
    LlmMessage,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import ProviderReasoningMeta, ProviderReplayMeta, ProviderRoute, ResponseTextMeta

__all__ = ["foreign_origin", "has_reasoning_replay", "stamp_response", "strip_foreign_replay"]

_Meta = TypeVar("_Meta", ProviderReplayMeta, ProviderReasoningMeta, ResponseTextMeta)


def has_reasoning_replay(meta: ProviderReasoningMeta | None) -> bool:
    """Whether there is anything that a provider could want back; reasoning without it is for people only."""
    return meta is not None and bool(
        meta.item_id or meta.encrypted_content or meta.signature or meta.redacted or meta.summary
    )


def stamp_response(response: LlmResponse, route: ProviderRoute) -> LlmResponse:
    """The same answer, with `route` as the origin of all opaque state that has none yet."""
    parts = tuple(_stamped(part, route) for part in response.parts)
    return response if parts == response.parts else evolve(response, parts=parts)


def foreign_origin(response: LlmResponse, route: ProviderRoute) -> ProviderRoute | None:
    """The first route but this one that some of an answer's opaque state says it is from.

    Such an answer isn't stamped anew: its provider mixed up two services' state, and neither may get it.
    """
    metas = (part.response_meta if isinstance(part, TextOutput) else part.replay for part in response.parts)
    origins = (meta.origin for meta in metas if meta is not None)
    return next((origin for origin in origins if origin is not None and origin != route), None)


def _stamped(part: LlmOutputPart, route: ProviderRoute) -> LlmOutputPart:
    match part:
        case TextOutput(response_meta=meta) if meta is not None and meta.origin is None:
            return evolve(part, response_meta=evolve(meta, origin=route))
        case ReasoningOutput(replay=meta) if meta is not None and meta.origin is None:
            return evolve(part, replay=evolve(meta, origin=route))
        case ToolCallOutputPart(replay=meta) if meta is not None and meta.origin is None:
            return evolve(part, replay=evolve(meta, origin=route))
        case _:
            return part


def strip_foreign_replay(message: LlmMessage, route: ProviderRoute) -> LlmMessage | None:
    """The message as `route` may see it: the identical object if nothing is foreign, None if nothing is left.

    What was stripped is remembered in `message.memo`, so that the same object comes back for the same route.
    """
    if not any(map(_has_state, message.blocks)):
        return message  # as nearly always, and a whole history comes by here
    key = f"route:{route.provider_id}\n{route.endpoint}\n{route.model}"
    if key in message.memo:
        return message.memo[key]  # type: ignore[no-any-return]  # memo holds anything; this key holds messages
    blocks = tuple(kept for block in message.blocks if (kept := _own(block, route)) is not None)
    if len(blocks) == len(message.blocks) and all(a is b for a, b in zip(blocks, message.blocks, strict=True)):
        return message  # not remembered: a message must not point to itself
    stripped = LlmMessage(message.role, blocks) if blocks else None
    message.memo[key] = stripped
    return stripped


def _has_state(block: LlmBlock) -> bool:
    kind = type(block)
    if kind is TextBlock:
        return block.response_meta is not None  # type: ignore[union-attr]  # by its type
    if kind is ToolCallBlock:
        return block.replay is not None  # type: ignore[union-attr]  # by its type
    return kind is ReasoningBlock


def _own(block: LlmBlock, route: ProviderRoute) -> LlmBlock | None:
    match block:
        case TextBlock(response_meta=meta) if _is_foreign(meta, route):
            return evolve(block, response_meta=None)
        case ToolCallBlock(replay=meta) if _is_foreign(meta, route):
            return evolve(block, replay=None)
        case ReasoningBlock(replay=meta) if _is_foreign(meta, route):
            return None
        case TextBlock() | ToolCallBlock() | ReasoningBlock() | ImageBlock() | ToolResultBlock():
            return block


def _is_foreign(meta: _Meta | None, route: ProviderRoute) -> bool:
    return meta is not None and meta.origin != route
