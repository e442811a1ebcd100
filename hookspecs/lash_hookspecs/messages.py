"""What a conversation is made of: messages, their parts, and where each came from.

Values only. A message is immutable; what a projector or a provider derived from it (its rendering for a model, its
encoding for a wire) may be kept in `Message.memo`, which is no part of the value.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Literal, Union

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.values import frozen

__all__ = [
    "AttachmentRef",
    "CausalRef",
    "CausedByEffect",
    "CausedByProcess",
    "CausedByProcessEvent",
    "CausedBySessionNode",
    "CausedByToolCall",
    "CausedByTriggerOccurrence",
    "CausedByTurn",
    "Cleared",
    "Deleted",
    "Intact",
    "Message",
    "MessageOrigin",
    "MessageRole",
    "Part",
    "PartKind",
    "PluginMessage",
    "PluginOrigin",
    "ProcessOrigin",
    "ProviderReasoningMeta",
    "ProviderReplayMeta",
    "ProviderRoute",
    "PruneState",
    "ResponseTextMeta",
    "Summarized",
    "TurnCause",
    "text_message",
]


class MessageRole(StrEnum):
    """Who speaks. `EVENT` is something that happened, told to the model as such.

    `SYSTEM` is a note, of the runtime's or a plugin's. It is told where it stands, as a note in a user's role:
    instructions are in the prompt alone, whose pieces have owners, and which changes only with these.
    """

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"
    EVENT = "event"


class PartKind(StrEnum):
    """What a part is. `PROSE` is text that the assistant wrote; `TOOL_CALL` holds raw JSON arguments."""

    TEXT = "text"
    IMAGE = "image"
    CODE = "code"
    OUTPUT = "output"
    ERROR = "error"
    PROSE = "prose"
    TOOL_CALL = "tool_call"
    TOOL_RESULT = "tool_result"
    REASONING = "reasoning"


@frozen
class AttachmentRef:
    """Bytes kept in the blob store, by content.

    `id` is `sha256:<64 hex digits>` of the bytes; `media_type` an IANA media type; `size` in bytes.
    """

    id: str
    media_type: str
    size: int


@frozen
class ProviderRoute:
    """The path on which opaque provider state is valid: another provider, endpoint or model can't read it."""

    provider_id: str
    endpoint: str
    model: str


@frozen
class ProviderReplayMeta:
    """Opaque state of a tool call that its provider wants back unchanged."""

    item_id: str | None = None
    opaque: str | None = None
    origin: ProviderRoute | None = None


@frozen
class ProviderReasoningMeta:
    """Opaque state of a piece of reasoning that its provider wants back unchanged."""

    item_id: str | None = None
    encrypted_content: str | None = None
    signature: str | None = None
    redacted: bool = False
    summary: tuple[str, ...] = ()
    origin: ProviderRoute | None = None


@frozen
class ResponseTextMeta:
    """What a provider said about a piece of its text. `phase` is `commentary` or `final_answer` where it says so."""

    id: str | None = None
    status: str | None = None
    phase: str | None = None
    provider_payload: str | None = None
    origin: ProviderRoute | None = None


# ---- prune states: how a stored part is shown, never what is stored -------------------------------------------------


@frozen
class Intact:
    """Shown as it is."""

    tag: ClassVar[str] = "intact"


@frozen
class Cleared:
    """Shown as a placeholder."""

    tag: ClassVar[str] = "cleared"


@frozen
class Deleted:
    """Shown as its breadcrumb. `archive_hash` names where the content can be found."""

    tag: ClassVar[str] = "deleted"
    breadcrumb: str
    archive_hash: str


@frozen
class Summarized:
    """Shown as its summary. `archive_hash` names where the content can be found."""

    tag: ClassVar[str] = "summarized"
    summary: str
    archive_hash: str


PruneState = Union[Intact, Cleared, Deleted, Summarized]
_INTACT = Intact()


# ---- causes and origins ---------------------------------------------------------------------------------------------


@frozen
class CausedByTurn:
    """A turn."""

    tag: ClassVar[str] = "turn"
    session_id: str
    turn_id: str


@frozen
class CausedByEffect:
    """An effect of a turn, or of a session outside a turn."""

    tag: ClassVar[str] = "effect"
    session_id: str
    effect_id: str
    turn_id: str | None = None


@frozen
class CausedByToolCall:
    """A tool call of a turn."""

    tag: ClassVar[str] = "tool_call"
    session_id: str
    call_id: str
    turn_id: str | None = None


@frozen
class CausedByProcess:
    """A process."""

    tag: ClassVar[str] = "process"
    process_id: str


@frozen
class CausedByProcessEvent:
    """One event of a process; `sequence` counts from 1."""

    tag: ClassVar[str] = "process_event"
    process_id: str
    sequence: int


@frozen
class CausedByTriggerOccurrence:
    """One occurrence of a trigger."""

    tag: ClassVar[str] = "trigger_occurrence"
    occurrence_id: str


@frozen
class CausedBySessionNode:
    """A node of a session's graph."""

    tag: ClassVar[str] = "session_node"
    session_id: str
    node_id: str


CausalRef = Union[
    CausedByTurn,
    CausedByEffect,
    CausedByToolCall,
    CausedByProcess,
    CausedByProcessEvent,
    CausedByTriggerOccurrence,
    CausedBySessionNode,
]


@frozen
class PluginOrigin:
    """A plugin put it there. A transient message is shown to the model and never stored."""

    tag: ClassVar[str] = "plugin"
    plugin_id: str
    transient: bool = False


@frozen
class ProcessOrigin:
    """A process reported it; `sequence` counts that process's events from 1."""

    tag: ClassVar[str] = "process"
    process_id: str
    event_type: str
    sequence: int
    wake_id: str | None = None
    caused_by: CausalRef | None = None


MessageOrigin = Union[PluginOrigin, ProcessOrigin]


# ---- messages -------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Part:
    """One piece of a message. `id` is `<message id>.p<index>`; `content` is text, or raw JSON for a tool call."""

    id: str
    kind: PartKind
    content: str
    attachment: AttachmentRef | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    tool_replay: ProviderReplayMeta | None = None
    prune_state: PruneState = _INTACT
    reasoning_meta: ProviderReasoningMeta | None = None
    response_meta: ResponseTextMeta | None = None


@frozen(kw_only=True)
class Message:
    """One entry of a conversation.

    `memo` holds what others derived from this immutable value, keyed by who derived it; it takes no part in equality,
    is never stored, and may be dropped at any time.
    """

    id: str
    role: MessageRole
    parts: tuple[Part, ...] = ()
    origin: MessageOrigin | None = None
    memo: dict[str, object] = field(factory=dict, eq=False, repr=False, init=False)

    @property
    def is_transient(self) -> bool:
        """Whether it lives for this turn's prompts only."""
        return isinstance(self.origin, PluginOrigin) and self.origin.transient

    @property
    def text(self) -> str:
        """Its readable text: text and prose parts, joined by newlines."""
        return "\n".join(part.content for part in self.parts if part.kind in (PartKind.TEXT, PartKind.PROSE))


def _role(value: MessageRole | str) -> MessageRole:
    try:
        return MessageRole(value)
    except ValueError:
        known = ", ".join(MessageRole)
        raise ValueError(f"`PluginMessage.role` must be one of {known}, and is {value!r}") from None


def _images(value: tuple[AttachmentRef, ...] | list[AttachmentRef]) -> tuple[AttachmentRef, ...]:
    return checks.as_tuple(value)


@frozen(kw_only=True)
class PluginMessage:
    """A message that a plugin or a caller wants appended; it gets its final id when it is.

    `images` hold references to stored bytes. `id`, when given, must be unique in the session.
    """

    role: MessageRole = field(converter=_role)
    content: str = field(validator=checks.text)
    id: str | None = field(default=None, validator=checks.optional_text)
    origin: MessageOrigin | None = field(default=None, validator=checks.a(PluginOrigin, ProcessOrigin, optional=True))
    images: tuple[AttachmentRef, ...] = field(default=(), converter=_images, validator=checks.tuple_of(AttachmentRef))


@frozen(kw_only=True)
class TurnCause:
    """Something that happened and woke the turn; told to the model as an event. `id` is unique in the session."""

    id: str
    event_type: str
    origin: MessageOrigin
    text: str

    def to_event_message(self) -> Message:
        """The message that remembers this cause once it is no longer news."""
        return text_message(self.id, MessageRole.EVENT, self.text, origin=self.origin)


def text_message(
    id: str,
    role: MessageRole,
    text: str,
    *,
    kind: Literal[PartKind.TEXT, PartKind.PROSE, PartKind.ERROR, PartKind.OUTPUT] = PartKind.TEXT,
    origin: MessageOrigin | None = None,
) -> Message:
    """A message of one text part."""
    return Message(id=id, role=role, parts=(Part(id=f"{id}.p0", kind=kind, content=text),), origin=origin)
