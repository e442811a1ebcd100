"""Attachments: inline, or by the URI of a file that the service holds itself."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from lash_hookspecs.llm import LlmAttachment
from lash_hookspecs.llm_messages import ImageBlock
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_google.endpoint import Endpoint
from lash_plugin_provider_google.models import Model
from lash_plugin_provider_google.wire import CHECKS
from lash_provider_kit.request_parts import UNSUPPORTED_ATTACHMENT

__all__ = ["part_of_attachment"]

# What Gemini documents.
_TYPES: dict[str, frozenset[str]] = {
    "image": frozenset({"image/heic", "image/heif", "image/jpeg", "image/png", "image/webp"}),
    "audio": frozenset(
        f"audio/{each}"
        for each in ("aac", "aiff", "flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "ogg", "opus", "pcm", "wav", "webm")
    )
    | {"audio/x-aac", "audio/x-flac", "audio/x-m4a", "audio/x-wav"},
    "video": frozenset(
        f"video/{each}"
        for each in ("3gpp", "avi", "mov", "mp4", "mpeg", "mpg", "mpegps", "quicktime", "webm", "wmv", "x-flv")
    ),
    "PDF": frozenset({"application/pdf"}),
    "text": frozenset({"application/json", "application/rtf", "application/xml"}),  # and all of text/
}


def part_of_attachment(
    block: ImageBlock, attachments: tuple[LlmAttachment, ...], model: Model, endpoint: Endpoint
) -> dict[str, Any]:
    """The part that shows an attachment; refuses what the model can't take."""
    found = CHECKS.attachment(block, attachments)
    reference = found.reference
    media_type = reference.media_type.lower().partition(";")[0].strip()
    if not _takes(model.capability, media_type):
        takes = ", ".join(kind for kind in _TYPES if _can(model.capability, kind))
        CHECKS.refuse(
            f"this model doesn't take attachments of type `{media_type}`; it takes {takes}", UNSUPPORTED_ATTACHMENT
        )
    if found.data:
        return {"inlineData": {"mimeType": media_type, "data": b64encode(found.data).decode()}}
    if "://" not in reference.id:
        CHECKS.not_loaded(found)
    if not _holds(endpoint, reference.id):
        CHECKS.refuse(
            "an attachment is a URL, and the service fetches none but its own files "
            f"({'`gs://…`' if endpoint.is_vertex else 'those of its Files API'}): attach the bytes instead",
            UNSUPPORTED_ATTACHMENT,
        )
    return {"fileData": {"mimeType": media_type, "fileUri": reference.id}}


def _takes(capability: ModelCapability, media_type: str) -> bool:
    if media_type.startswith("text/"):
        return True
    return any(media_type in types and _can(capability, kind) for kind, types in _TYPES.items())


def _can(capability: ModelCapability, kind: str) -> bool:
    """Whether a model takes a kind of media; what isn't known is tried."""
    known = {
        "image": capability.images,
        "audio": capability.audio,
        "video": capability.video,
        "PDF": capability.documents,
    }
    return known.get(kind) is not False


def _holds(endpoint: Endpoint, uri: str) -> bool:
    if endpoint.is_vertex:
        return uri.startswith("gs://")
    return uri.startswith(f"{endpoint.url.partition('?')[0]}/files/")
