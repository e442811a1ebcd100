"""From what a server answered to what a call returns: texts, values, images, and words for all else."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import mcp_types as types
import orjson

from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.tools import ToolCallFailure, ToolCallOutput, ToolCallSuccess, ToolFailureClass
from lash_plugin_tools_mcp.texts import Redactor

__all__ = ["MOST_OF_AN_IMAGE", "Put", "output_of", "prompt_text", "resource_texts"]

Put = Callable[[bytes, str], Awaitable[AttachmentRef]]

MOST_OF_AN_IMAGE = 5 * 1024 * 1024
"""Bytes; services refuse larger ones, and then every request of the session."""

MOST_OF_A_FAILURE = 64 * 1024
"""Characters; as of the failures that tools raise."""

_MAGIC = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


async def output_of(result: types.CallToolResult, put: Put | None, redactor: Redactor) -> ToolCallOutput:
    """The call's output. Without `put`, which stores bytes, images are left out like all that models can't be shown."""
    texts: list[str] = []
    images: list[AttachmentRef] = []
    for block in result.content:
        found = _image(block) if put is not None else None
        if found is not None and put is not None:
            images.append(await put(*found))
        else:
            texts.append(redactor.text(_words(block)))
    if result.is_error:
        said = "\n".join(texts) or "the server says that the call failed, and not why"
        failed = ToolCallFailure(
            failure_class=ToolFailureClass.EXECUTION,
            code="mcp_tool_error",
            message=said if len(said) <= MOST_OF_A_FAILURE else f"{said[:MOST_OF_A_FAILURE]} …",
            attachments=tuple(images),
        )
        return ToolCallOutput(failed)
    value = _value(texts, redactor.value(result.structured_content), "structured_content" in result.model_fields_set)
    return ToolCallOutput(ToolCallSuccess(value, attachments=tuple(images)))


def _value(texts: Sequence[str], structured: Any, has_structured: bool) -> Any:
    """Structured content is the value; texts beside it count where they aren't just the same once more."""
    text = "\n".join(texts)
    if not has_structured or structured is None:
        return text
    same: list[Any] = ["", structured]
    if isinstance(structured, dict) and len(structured) == 1:
        same += structured.values()  # a plain value, which servers wrap
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        read = text
    return structured if text in same or read in same else {"text": text, "structured": structured}


def resource_texts(contents: Sequence[types.TextResourceContents | types.BlobResourceContents]) -> str:
    """A resource that was read, as text."""
    return "\n".join(
        each.text if isinstance(each, types.TextResourceContents) else _left_out(each) for each in contents
    )


def prompt_text(prompt: types.GetPromptResult) -> str:
    """A prompt as text. It is the server's word: a model is told who speaks, and nobody speaks as the system."""
    said = (f"{each.role}:\n{_words(each.content)}" for each in prompt.messages)
    return "\n\n".join([*([prompt.description] if prompt.description else []), *said])


def _words(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent(text=text):
            return text
        case types.ResourceLink():
            about = f": {block.description}" if block.description else ""
            return f"[resource {block.name} at {block.uri}{about}]"
        case types.EmbeddedResource(resource=types.TextResourceContents() as resource):
            return f"[resource {resource.uri}]\n{resource.text}"
        case types.EmbeddedResource(resource=types.BlobResourceContents() as resource):
            return _left_out(resource)
        case types.ImageContent() | types.AudioContent():
            return f"[{block.type} of type {block.mime_type}, {_size(block.data):,} bytes, left out]"
    return f"[content of type {block.type}, left out]"


def _left_out(resource: types.BlobResourceContents) -> str:
    kind = resource.mime_type or "unknown type"
    return f"[resource {resource.uri} of {kind}, {_size(resource.blob):,} bytes, left out]"


def _size(data: str) -> int:
    return len(data) * 3 // 4 - data[-2:].count("=")


def _image(block: types.ContentBlock) -> tuple[bytes, str] | None:
    """An image that models take, by what its bytes say: a wrong one would fail each later request of the session."""
    match block:
        case types.ImageContent(data=encoded):
            pass
        case types.EmbeddedResource(resource=types.BlobResourceContents(blob=encoded)):
            pass
        case _:
            return None
    if _size(encoded) > MOST_OF_AN_IMAGE:
        return None
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None
    kind = next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    return (data, kind) if kind is not None else None
