"""A turn's input: made whole, checked, hashed, and turned into the user's message.

The hash says whether two inputs are the same question; it covers everything that reaches the turn, bytes of images and
documents by their own hash.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from lash_framework.arguments import shown
from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.codec import encode, unstructure
from lash_hookspecs.errors import CodecError, ConfigurationError
from lash_hookspecs.messages import AttachmentRef, Message, MessageRole, Part, PartKind, PluginOrigin, text_message
from lash_hookspecs.sessions import DocumentRefItem, ImageRefItem, TextItem, TurnInput
from lash_hookspecs.stores import Blobs, attachment_id

__all__ = [
    "input_hash",
    "media_type_of",
    "normalized",
    "partial_message",
    "stored_images",
    "user_message",
    "user_message_id",
]

# First bytes of the image formats that model services take.
_IMAGE_SIGNATURES: Sequence[tuple[bytes, int, str]] = (
    (b"\x89PNG\r\n\x1a\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF87a", 0, "image/gif"),
    (b"GIF89a", 0, "image/gif"),
    (b"WEBP", 8, "image/webp"),
)

_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9!#$&^_.+-]*")
_PDF_START = 1024
"""Bytes within which a PDF says that it is one."""


def media_type_of(data: bytes) -> str | None:
    """The media type of an image, by its first bytes; None if it is none that models take."""
    for signature, at, media_type in _IMAGE_SIGNATURES:
        if data[at : at + len(signature)] == signature:
            return media_type
    return None


def normalized(given: TurnInput | str) -> TurnInput:
    """The input as a `TurnInput`, with blank texts dropped.

    Raises `ConfigurationError` for an input without content, text that no store can hold, an image or document that is
    referred to but not given (or the other way round), and bytes that are none.
    """
    turn_input = TurnInput.text(given) if isinstance(given, str) else given
    if not isinstance(turn_input, TurnInput):
        raise ConfigurationError(f"the turn's input is {shown(given)}; expected is text or a `TurnInput`")
    if turn_input.compact is not None:
        blobs = turn_input.image_blobs or turn_input.document_blobs
        if turn_input.items or blobs or turn_input.output is not None:
            raise ConfigurationError("a turn that compacts says nothing else: send its text in a turn of its own")
        return turn_input
    items = tuple(each for each in turn_input.items if not (isinstance(each, TextItem) and not _text_of(each).strip()))
    if not items:
        raise ConfigurationError("the turn's input is empty: give it some text, an image or a document")
    texts = [each for each in items if isinstance(each, TextItem)]
    for each in items:
        if isinstance(each, TextItem):
            _require_text(each.text)
        elif not isinstance(each, ImageRefItem | DocumentRefItem):
            raise ConfigurationError(
                f"an item of the turn's input is {shown(each)}; expected is a `TextItem`, an image or a document"
            )
    if len(texts) == len(items) and not (turn_input.image_blobs or turn_input.document_blobs):
        return turn_input if items == turn_input.items else attrs.evolve(turn_input, items=items)  # as most are
    _require_bytes("image", {each.id for each in items if isinstance(each, ImageRefItem)}, turn_input.image_blobs)
    documents = [each for each in items if isinstance(each, DocumentRefItem)]
    _require_bytes("document", {each.id for each in documents}, turn_input.document_blobs)
    for name, data in turn_input.image_blobs.items():
        if media_type_of(data) is None:
            raise ConfigurationError(f"image `{name}` is no JPEG, PNG, GIF or WebP")
        if name in turn_input.document_blobs:
            raise ConfigurationError(f"`{name}` is an image and a document: give each a name of its own")
    for document in documents:
        _require_document(document, turn_input.document_blobs[document.id])
    return turn_input if items == turn_input.items else attrs.evolve(turn_input, items=items)


def _require_bytes(what: str, wanted: set[str], blobs: Mapping[str, bytes]) -> None:
    missing, unused = wanted - blobs.keys(), blobs.keys() - wanted
    if missing or unused:
        how = f"{what} `{min(missing)}` has no bytes" if missing else f"{what} `{min(unused)}` is in no item"
        raise ConfigurationError(f"{how}: `TurnInput.with_{what}(id, data)` keeps both together")


def _require_document(document: DocumentRefItem, data: bytes) -> None:
    name, kind = document.id, document.media_type
    if not _MEDIA_TYPE.fullmatch(kind):
        raise ConfigurationError(
            f"document `{name}` is said to be `{kind}`, which is no media type: `application/pdf` is one, in lower case"
        )
    if kind.startswith("image/"):
        raise ConfigurationError(f"document `{name}` is said to be an image: `TurnInput.with_image` is for those")
    if not data:
        raise ConfigurationError(f"document `{name}` is empty")
    if kind == "application/pdf" and b"%PDF-" not in data[:_PDF_START]:
        raise ConfigurationError(
            f"document `{name}` is no PDF: `with_document(id, data, media_type)` says what else it is"
        )


def _text_of(item: TextItem) -> str:
    if not isinstance(item.text, str):
        raise ConfigurationError(f"a text of the turn's input is {shown(item.text)}; expected is text")
    return item.text


def _require_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"the input is no text at character {error.start}: half of a surrogate pair, which nothing can store"
        ) from None


def input_hash(turn_input: TurnInput) -> str:
    """What makes two inputs the same question. Raises `ConfigurationError`, by name, for what can't be stored."""
    try:
        return _hash(turn_input)
    except (CodecError, RecursionError) as error:
        values = [(f"input for plugin `{key}`", value) for key, value in turn_input.context.plugin_inputs.items()]
        for what, value in (*values, ("turn extension", turn_input.mode_extension)):
            try:
                encode(value)
            except CodecError as fault:
                raise ConfigurationError(f"the {what} is {shown(value)}, which can't be stored: {fault}") from fault
        raise ConfigurationError(f"the turn's input can't be stored: {error}") from error


def _hash(turn_input: TurnInput) -> str:
    told = turn_input
    if told.told_by is not None:  # who says it doesn't make it another question: two plugins may ask for one turn
        told = attrs.evolve(told, told_by=None)
    if told.context.budget is not None:  # nor does what may be spent on it
        told = attrs.evolve(told, context=attrs.evolve(told.context, budget=None))
    if told.image_blobs or told.document_blobs or told.mode_extension is not None:
        # Hashed in their own ways.
        told = attrs.evolve(told, image_blobs={}, document_blobs={}, mode_extension=None)
    plain = _plain(told)
    plain["images"] = {name: attachment_id(data) for name, data in turn_input.image_blobs.items()}
    if turn_input.document_blobs:
        plain["documents"] = {name: attachment_id(data) for name, data in turn_input.document_blobs.items()}
    plain["mode_extension"] = _tagged(turn_input.mode_extension)
    inputs = turn_input.context.plugin_inputs
    plain["plugin_inputs"] = {name: _tagged(value) for name, value in inputs.items()}
    return stable_hash("lash.turn-input", plain)


def _plain(told: TurnInput) -> dict[str, Any]:
    # Text alone is what most inputs are, and what it is stored as is known here: the codec is for all the rest.
    if told.items and told == TurnInput(items=tuple(each for each in told.items if isinstance(each, TextItem))):
        return {"items": [{"type": TextItem.tag, "text": each.text} for each in told.items]}  # type: ignore[union-attr]  # texts
    plain: dict[str, Any] = unstructure(told)
    return plain


def _tagged(value: Any) -> Any:
    return None if value is None else [type(value).__name__, unstructure(value)]


async def stored_images(store: Blobs, turn_input: TurnInput) -> dict[str, AttachmentRef]:
    """The input's images and documents, put into the store, by name."""
    images, documents = turn_input.image_blobs, turn_input.document_blobs
    kinds = {name: media_type_of(data) or "application/octet-stream" for name, data in images.items()}
    kinds |= {item.id: item.media_type for item in turn_input.items if isinstance(item, DocumentRefItem)}
    return {name: await store.put_blob(data, kinds[name]) for name, data in {**images, **documents}.items()}


def user_message_id(turn_id: str) -> str:
    """The id of the user's message of a turn."""
    return f"m_user_{turn_id}"


def user_message(turn_id: str, turn_input: TurnInput, images: Mapping[str, AttachmentRef]) -> Message:
    """The user's message of a turn."""
    id = user_message_id(turn_id)
    parts = []
    for index, item in enumerate(turn_input.items):
        part_id = f"{id}.p{index}"
        match item:
            case TextItem(text=text):
                parts.append(Part(id=part_id, kind=PartKind.TEXT, content=text))
            case ImageRefItem(id=name) | DocumentRefItem(id=name):
                parts.append(Part(id=part_id, kind=PartKind.IMAGE, content="", attachment=images[name]))
    origin = None if turn_input.told_by is None else PluginOrigin(turn_input.told_by)
    return Message(id=id, role=MessageRole.USER, parts=tuple(parts), origin=origin)


def partial_message(turn_id: str, text: str) -> Message:
    """What there is of a reply that was cut off, as a message of the turn."""
    return text_message(f"m_partial_{turn_id}", MessageRole.ASSISTANT, text, kind=PartKind.PROSE)
