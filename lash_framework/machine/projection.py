"""From a conversation to the request that shows it to a model.

Pure, and flat in cost: a message is rendered once and remembered in its `memo`; the renderings of a whole history are
kept beside it (see `sequence`). The same `LlmMessage` objects come back in every request, because providers keep their
encodings in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from json import dumps
from typing import Any, Protocol

from attrs import frozen

from lash_framework.machine.replay import has_reasoning_replay, strip_foreign_replay
from lash_framework.machine.sequence import MessageSequence
from lash_hookspecs.llm import (
    GenerationOptions,
    ImageBlock,
    LlmAttachment,
    LlmBlock,
    LlmMessage,
    LlmOutputSpec,
    LlmRequest,
    LlmRequestScope,
    LlmRole,
    LlmToolChoice,
    LlmToolSpec,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import (
    Cleared,
    Deleted,
    Intact,
    Message,
    MessageRole,
    Part,
    PartKind,
    PluginOrigin,
    ProcessOrigin,
    ProviderRoute,
    PruneState,
    Summarized,
    TurnCause,
)
from lash_hookspecs.turn_effects import ProtocolEvent

__all__ = ["ChatProjector", "ContextProjector", "ProjectionView", "prune_weight", "render_message"]

CLEARED = "[This was removed to save space.]"
EVENTS_HEADING = "What has happened since, as the runtime reports it (nobody typed this):"
NOTE_PREFIX = "Runtime note: "
EVENT_PREFIX = "Runtime event: "


@frozen(kw_only=True)
class ProjectionView:
    """All that a projector may look at."""

    messages: MessageSequence
    turn_causes: tuple[TurnCause, ...]
    events: tuple[ProtocolEvent, ...]
    protocol_iteration: int
    use_tools: bool
    system_prompt: str
    tool_specs: tuple[LlmToolSpec, ...]
    model: str
    model_variant: str | None
    generation: GenerationOptions
    output_spec: LlmOutputSpec | None
    scope: LlmRequestScope


class ContextProjector(Protocol):
    """Makes the request that shows a conversation to a model. Pure; what it remembers must not show."""

    def project(self, view: ProjectionView) -> LlmRequest:
        """The request for this view."""
        ...


# ---- one message ----------------------------------------------------------------------------------------------------


def shown(content: str, state: PruneState) -> str:
    """What is shown of a part's content."""
    match state:
        case Intact():
            return content
        case Cleared():
            return CLEARED
        case Deleted(breadcrumb=text) | Summarized(summary=text):
            return text


def prune_weight(part: Part) -> int:
    """Characters that a part costs when history is weighed for pruning; pruning reasoning would free none."""
    if part.kind is PartKind.REASONING:
        return 0
    return len(shown(part.content, part.prune_state))


def render_message(message: Message, first_attachment: int = 0) -> tuple[LlmMessage | None, tuple[LlmAttachment, ...]]:
    """A message as a model sees it, None if nothing of it is shown, and the attachments that its blocks name.

    Attachments of a request are numbered through, this message's from `first_attachment`. The result is remembered in
    the message's memo under `chat`.
    """
    known: Any = message.memo.get("chat")
    if known is not None and (known[0] == first_attachment or not known[2]):
        return known[1], known[2]
    attachments: list[LlmAttachment] = []
    blocks = _blocks(message, first_attachment, attachments)
    role = _ROLES[message.role]
    rendered = LlmMessage(role, blocks) if blocks else None
    message.memo["chat"] = (first_attachment, rendered, tuple(attachments))
    return rendered, tuple(attachments)


_ROLES: Mapping[MessageRole, LlmRole] = {
    MessageRole.USER: LlmRole.USER,
    MessageRole.ASSISTANT: LlmRole.ASSISTANT,
    MessageRole.SYSTEM: LlmRole.SYSTEM,
    MessageRole.EVENT: LlmRole.USER,  # instructions come from the system alone; an event is something told
}


def _blocks(message: Message, first: int, attachments: list[LlmAttachment]) -> tuple[LlmBlock, ...]:
    match message.role:
        case MessageRole.USER:
            blocks = [b for part in message.parts if (b := _user_block(part, first, attachments)) is not None]
            # Wires that know tool results want them at the start of the message; all else keeps its order.
            return tuple(sorted(blocks, key=lambda block: not isinstance(block, ToolResultBlock)))
        case MessageRole.ASSISTANT:
            return tuple(b for part in message.parts if (b := _assistant_block(part)) is not None)
        case MessageRole.SYSTEM:
            return _note(message, NOTE_PREFIX)
        case MessageRole.EVENT:
            return _note(message, EVENT_PREFIX)


def _user_block(part: Part, first: int, attachments: list[LlmAttachment]) -> LlmBlock | None:
    text = shown(part.content, part.prune_state)
    match part.kind:
        case PartKind.TOOL_RESULT:
            # Kept when empty: a call without a result makes most services refuse the whole request.
            return ToolResultBlock(call_id=part.tool_call_id or "", content=text, tool_name=part.tool_name)
        case PartKind.IMAGE if isinstance(part.prune_state, Intact) and part.attachment is not None:
            if not part.attachment.media_type.startswith("image/"):
                kind, size = part.attachment.media_type, part.attachment.size
                return TextBlock(text=f"[An attachment that can't be shown here: {kind}, {size} bytes.]")
            attachments.append(LlmAttachment(reference=part.attachment))
            return ImageBlock(attachment_idx=first + len(attachments) - 1, attachment=part.attachment)
        case PartKind.TOOL_CALL | PartKind.REASONING:
            return None  # only an assistant calls tools and reasons
        case _:
            return TextBlock(text=text) if text.strip() else None


def _assistant_block(part: Part) -> LlmBlock | None:
    text = shown(part.content, part.prune_state)
    intact = isinstance(part.prune_state, Intact)
    match part.kind:
        case PartKind.REASONING:
            if not intact or not has_reasoning_replay(part.reasoning_meta):
                return None
            return ReasoningBlock(text=text, replay=part.reasoning_meta)
        case PartKind.TOOL_CALL:
            return ToolCallBlock(
                call_id=part.tool_call_id or "",
                tool_name=part.tool_name or "",
                input_json=part.content if intact else dumps({"removed": text}),  # arguments stay a JSON object
                replay=part.tool_replay if intact else None,
            )
        case PartKind.TOOL_RESULT | PartKind.IMAGE:
            return None  # only a user message carries these
        case _:
            meta = part.response_meta if intact else None
            return TextBlock(text=text, response_meta=meta) if text.strip() else None


def _note(message: Message, prefix: str) -> tuple[LlmBlock, ...]:
    texts = []
    for part in message.parts:
        text = shown(part.content, part.prune_state)
        if not text.strip() or part.kind in (PartKind.IMAGE, PartKind.REASONING):
            continue
        if part.kind in (PartKind.OUTPUT, PartKind.ERROR):
            text = f"<{part.kind}>\n{text}\n</{part.kind}>"
        texts.append(text)
    return (TextBlock(text=prefix + "\n".join(texts)),) if texts else ()


# ---- active events --------------------------------------------------------------------------------------------------


def render_turn_events(causes: Sequence[TurnCause]) -> str:
    """The news of this turn as one text."""
    entries = [f"[{number}] {_caption(cause)}\n{cause.text.strip()}" for number, cause in enumerate(causes, start=1)]
    return "\n\n".join([EVENTS_HEADING, *entries])


def _caption(cause: TurnCause) -> str:
    match cause.origin:
        case ProcessOrigin(process_id=process, sequence=sequence):
            return f"{cause.event_type}, event {sequence} of process {process}"
        case PluginOrigin(plugin_id=plugin):
            return f"{cause.event_type}, from {plugin}"


# ---- a whole history ------------------------------------------------------------------------------------------------


class _Rendered:
    """The renderings of a log's first messages for one route, flattened, with the end of each message's share."""

    __slots__ = ("attachment_ends", "attachments", "ends", "messages", "news", "system")

    def __init__(self) -> None:
        self.messages: list[LlmMessage] = []
        self.ends: list[int] = [0]
        self.attachments: list[LlmAttachment] = []
        self.attachment_ends: list[int] = [0]
        self.system: tuple[str, LlmMessage] | None = None
        self.news: tuple[tuple[TurnCause, ...], LlmMessage] | None = None

    def fork(self, length: int) -> _Rendered:
        made = _Rendered()
        made.ends = self.ends[: length + 1]
        made.attachment_ends = self.attachment_ends[: length + 1]
        made.messages = self.messages[: made.ends[-1]]
        made.attachments = self.attachments[: made.attachment_ends[-1]]
        made.system, made.news = self.system, self.news
        return made

    def cover(self, messages: MessageSequence, route: ProviderRoute | None) -> None:
        """Render what isn't yet: the only work per message, done once."""
        done = len(self.ends) - 1
        for message in messages[done:] if done < len(messages) else ():
            rendered, attachments = render_message(message, len(self.attachments))
            if rendered is not None and route is not None:
                rendered = strip_foreign_replay(rendered, route)
            if rendered is not None:
                self.messages.append(rendered)
            self.attachments.extend(attachments)
            self.ends.append(len(self.messages))
            self.attachment_ends.append(len(self.attachments))

    def system_message(self, prompt: str) -> tuple[LlmMessage, ...]:
        if not prompt.strip():
            return ()
        if self.system is None or self.system[0] != prompt:
            self.system = (prompt, LlmMessage(LlmRole.SYSTEM, (TextBlock(text=prompt),)))
        return (self.system[1],)

    def history(self, length: int, hidden: Sequence[int]) -> Sequence[LlmMessage]:
        """The first `length` messages but those at the `hidden` positions; to be read at once, not kept."""
        if not hidden:
            end = self.ends[length]
            return self.messages if end == len(self.messages) else self.messages[:end]
        kept: list[LlmMessage] = []
        start = 0
        for at in sorted(hidden):
            kept.extend(self.messages[start : self.ends[at]])
            start = self.ends[at + 1]
        kept.extend(self.messages[start : self.ends[length]])
        return kept

    def news_message(self, causes: tuple[TurnCause, ...]) -> tuple[LlmMessage, ...]:
        if not causes:
            return ()
        if self.news is None or self.news[0] != causes:
            self.news = (causes, LlmMessage(LlmRole.USER, (TextBlock(text=render_turn_events(causes)),)))
        return (self.news[1],)


@frozen
class ChatProjector:
    """The ordinary projection: system prompt, history, this turn's news; tools with free choice, or none.

    With a `route`, opaque provider state of every other route is left out; without one, all of it is passed on.
    """

    route: ProviderRoute | None = None

    def project(self, view: ProjectionView) -> LlmRequest:
        """The request for this view."""
        rendered = view.messages.derived(("chat", self.route), _Rendered)
        rendered.cover(view.messages, self.route)
        length = len(view.messages)
        return LlmRequest(
            model=view.model,
            messages=(
                *rendered.system_message(view.system_prompt),
                *rendered.history(length, _news_positions(view.messages, view.turn_causes)),
                *rendered.news_message(view.turn_causes),
            ),
            attachments=tuple(rendered.attachments[: rendered.attachment_ends[length]]),
            tools=view.tool_specs if view.use_tools else (),
            tool_choice=LlmToolChoice.AUTO if view.use_tools else LlmToolChoice.NONE,
            model_variant=view.model_variant,
            generation=view.generation,
            scope=view.scope,
            output_spec=view.output_spec,
        )


def _news_positions(messages: MessageSequence, causes: Sequence[TurnCause]) -> list[int]:
    """Where the history already holds what is shown as news, so that it isn't told twice."""
    found = (messages.position_of(cause.id) for cause in causes)
    return [at for at in found if at is not None and messages[at].role is MessageRole.EVENT]
