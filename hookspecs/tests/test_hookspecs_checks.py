"""What plugins and applications make is checked where it is made: a clear text beats a session that can't be loaded."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lash_hookspecs import (
    AbortTurn,
    AttachmentRef,
    Budget,
    CodecError,
    EmitEvents,
    EnqueueMessages,
    GenerationOptions,
    MessageRole,
    PluginMessage,
    PromptContribution,
    PromptSlot,
    SessionPolicy,
    SurfaceEvent,
    structure,
)

NOTE = PluginMessage(role=MessageRole.SYSTEM, content="x")

WRONG: list[tuple[type, dict[str, Any], type[Exception], str]] = [
    (PluginMessage, {"role": "user", "content": None}, TypeError, "`PluginMessage.content` must be text, and is None"),
    (PluginMessage, {"role": "user", "content": b"x"}, TypeError, "must be text, and is a `bytes`"),
    (PluginMessage, {"role": "user", "content": "a\ud800"}, ValueError, "surrogates not allowed.*character 1"),
    (PluginMessage, {"role": "boss", "content": "x"}, ValueError, "must be one of user, .*, and is 'boss'"),
    (PluginMessage, {"role": "user", "content": "x", "id": 1}, TypeError, "id` must be text or None, and is a `int`"),
    (PluginMessage, {"role": "user", "content": "x", "id": "\ud800"}, ValueError, "`PluginMessage.id` can't be stored"),
    (PluginMessage, {"role": "user", "content": "x", "origin": "me"}, TypeError, "a `PluginOrigin` or a `Process"),
    (PluginMessage, {"role": "user", "content": "x", "images": "x"}, TypeError, "a tuple of `AttachmentRef`"),
    (PromptContribution, {"content": None}, TypeError, "`PromptContribution.content` must be text, and is None"),
    (PromptContribution, {"content": "x", "slot": "top"}, ValueError, "slot` must be one of intro, .*, and is 'top'"),
    (PromptContribution, {"content": "x", "title": 1}, TypeError, "title` must be text or None"),
    (PromptContribution, {"content": "x", "priority": "high"}, TypeError, "priority` must be a whole number"),
    (PromptContribution, {"content": "x", "tools": "read"}, TypeError, "tools` must be a set of texts, and is a `str`"),
    (EnqueueMessages, {"messages": "x"}, TypeError, "must be a tuple of `PluginMessage`, and is a `str`"),
    (EnqueueMessages, {"messages": NOTE}, TypeError, "must be a tuple of `PluginMessage`"),
    (EnqueueMessages, {"messages": ("x",)}, TypeError, "a tuple of `PluginMessage` only; one of it, and is a `str`"),
    (EnqueueMessages, {"messages": (), "transient": 1}, TypeError, "transient` must be True or False"),
    (EmitEvents, {"events": SurfaceEvent(name="x")}, TypeError, "must be a tuple of `SurfaceEvent`"),
    (SurfaceEvent, {"name": None}, TypeError, "`SurfaceEvent.name` must be text"),
    (AbortTurn, {"code": "x", "message": None}, TypeError, "`AbortTurn.message` must be text"),
    (SessionPolicy, {"model": 1}, TypeError, "`SessionPolicy.model` must be text, and is a `int`"),
    (SessionPolicy, {"model": "m:x", "mode_id": None}, TypeError, "mode_id` must be text"),
    (SessionPolicy, {"model": "m:x", "max_turns": 0}, ValueError, "max_turns` must be at least 1, and is 0"),
    (SessionPolicy, {"model": "m:x", "max_turns": "3"}, TypeError, "max_turns` must be a whole number or None"),
    (SessionPolicy, {"model": "m:x", "max_turns": True}, TypeError, "max_turns` must be a whole number or None"),
    (SessionPolicy, {"model": "m:x", "generation": "hot"}, TypeError, "generation` must be a `GenerationOptions`"),
    (SessionPolicy, {"model": "m:x", "options": None}, TypeError, "options` must be a `Mapping`, and is None"),
    (SessionPolicy, {"model": "m:x", "extension": []}, TypeError, "extension` must be a `Mapping` or None"),
    (GenerationOptions, {"output_token_cap": 0}, ValueError, "output_token_cap` must be at least 1"),
    (GenerationOptions, {"seed": 2**64}, ValueError, "seed` must have no more than 64 bits"),
    (Budget, {"max_tokens": -1}, ValueError, "max_tokens` must be at least 0, and is -1"),
    (GenerationOptions, {"output_token_cap": 1.5}, TypeError, "output_token_cap` must be a whole number or None"),
    (GenerationOptions, {"temperature": math.nan}, ValueError, "temperature` must be a finite number, and is nan"),
    (GenerationOptions, {"temperature": -math.inf}, ValueError, "temperature` must be a finite number, and is -inf"),
    (GenerationOptions, {"temperature": True}, TypeError, "temperature` must be a number or None"),
    (GenerationOptions, {"seed": 1.5}, TypeError, "seed` must be a whole number or None"),
    (GenerationOptions, {"stop_sequences": "END"}, TypeError, "stop_sequences` must be a tuple of `str`"),
    (GenerationOptions, {"stop_sequences": ("\ud800",)}, ValueError, "stop_sequences` can't be stored"),
]


@pytest.mark.parametrize(("cls", "given", "error", "text"), WRONG, ids=lambda each: getattr(each, "__name__", None))
def test_a_wrong_value_is_refused_where_it_is_made(
    cls: type, given: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        cls(**given)


def test_what_means_the_same_is_taken() -> None:
    """Names for enums, lists for tuples, any set for a frozen one: nobody should have to look those up."""
    image = AttachmentRef(id="sha256:0", media_type="image/png", size=1)
    message = PluginMessage(role="system", content="x", images=[image])
    assert (message.role, message.images) == (MessageRole.SYSTEM, (image,))
    assert EnqueueMessages([message]).messages == (message,)
    assert EmitEvents([SurfaceEvent(name="x")]).events == (SurfaceEvent(name="x"),)
    contribution = PromptContribution(content="x", slot="intro", tools={"read"})
    assert (contribution.slot, contribution.tools) == (PromptSlot.INTRO, frozenset({"read"}))
    assert GenerationOptions(stop_sequences=["END"], temperature=0).stop_sequences == ("END",)


@pytest.mark.parametrize(
    ("data", "cls", "text"),
    [
        ({"model": "m:x", "max_turns": 0}, SessionPolicy, "max_turns` must be at least 1"),
        ({"output_token_cap": 0}, GenerationOptions, "output_token_cap` must be at least 1"),
    ],
)
def test_what_is_read_is_held_to_the_same(data: dict[str, Any], cls: type, text: str) -> None:
    with pytest.raises(CodecError, match=text):
        structure(data, cls)
