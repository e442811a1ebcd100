"""From a conversation to the request that shows it to a model.

Pure, and flat in cost: a message is rendered once and remembered in its `memo`; the renderings of a whole history are
kept beside it (see `sequence`). The same `LlmMessage` objects come back in every request, because providers keep their
encodings in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from json import dumps
from typing import Any, Protocol

from lash_framework.machine.sequence import RENDERED, MessageSequence
from lash_hookspecs.llm import (
    GenerationOptions,
    LlmAttachment,
    LlmOutputSpec,
    LlmRequest,
    LlmRequestScope,
    LlmToolChoice,
    LlmToolSpec,
)
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmBlock,
    LlmMessage,
    LlmMessages,
    LlmRole,
    MessageRun,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    llm_text,
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
from lash_hookspecs.replay import has_reasoning_replay, strip_foreign_replay
from lash_hookspecs.turn_effects import ProtocolEvent
from lash_hookspecs.values import frozen

__all__ = ["ChatProjector", "ContextProjector", "ProjectionView", "is_runtimes", "prune_weight", "render_message"]

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
    the message's memo.
    """
    known: Any = message.memo.get(RENDERED)
    if known is not None and (known[0] == first_attachment or not known[2]):
        return known[1], known[2]
    attachments: list[LlmAttachment] = []
    blocks = _blocks(message, first_attachment, attachments)
    role = _ROLES[message.role]
    rendered = LlmMessage(role, blocks) if blocks else None
    message.memo[RENDERED] = (first_attachment, rendered, tuple(attachments))
    return rendered, tuple(attachments)


_ROLES: Mapping[MessageRole, LlmRole] = {
    MessageRole.USER: LlmRole.USER,
    MessageRole.ASSISTANT: LlmRole.ASSISTANT,
    # On the wire only the prompt is the system's. A note stays where it was said, so the prefix before it does, too.
    MessageRole.SYSTEM: LlmRole.USER,
    MessageRole.EVENT: LlmRole.USER,
}


def is_runtimes(message: LlmMessage) -> bool:
    """Whether it is a note or an event, which have the role of a user's messages."""
    first = message.blocks[0] if message.blocks else None
    return isinstance(first, TextBlock) and first.text.startswith((NOTE_PREFIX, EVENT_PREFIX, EVENTS_HEADING))


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
            if not _is_shown(part, part.attachment.media_type):
                kind, size = part.attachment.media_type, part.attachment.size
                return TextBlock(text=f"[An attachment that can't be shown here: {kind}, {size} bytes.]")
            attachments.append(LlmAttachment(reference=part.attachment))
            return ImageBlock(attachment_idx=first + len(attachments) - 1, attachment=part.attachment)
        case PartKind.TOOL_CALL | PartKind.REASONING:
            return None  # only an assistant calls tools and reasons
        case _:
            return TextBlock(text=text) if text.strip() else None


def _is_shown(part: Part, media_type: str) -> bool:
    """Whether a model is given it: whoever sends something says what it is; a tool's results are anything."""
    return part.tool_call_id is None or media_type.startswith("image/") or media_type == "application/pdf"


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


_RUN = 64
"""How many messages are handed to the provider one by one before they are closed in a run."""


class _Rendered:
    """The renderings of a log's messages for one route, flattened, with the end of each message's share.

    `runs` hold all but the last of them. They grow like the digits of a binary counter: a new run is joined with those
    before it that aren't longer, so there are few, and each message is copied a few times in the session's whole life.
    What came told out of a store isn't among them: it is a run of its own, and positions are counted from behind it.
    """

    __slots__ = ("attachment_ends", "attachments", "closed", "ends", "messages", "news", "runs", "system")

    def __init__(self) -> None:
        self.messages: list[LlmMessage] = []
        self.ends: list[int] = [0]
        self.attachments: list[LlmAttachment] = []
        self.attachment_ends: list[int] = [0]
        self.runs: list[MessageRun] = []
        self.closed = 0
        self.system: tuple[str, MessageRun] | None = None
        self.news: tuple[tuple[TurnCause, ...], MessageRun] | None = None

    def fork(self, length: int) -> _Rendered:
        made = _Rendered()
        made.ends = self.ends[: length + 1]
        made.attachment_ends = self.attachment_ends[: length + 1]
        made.messages = self.messages[: made.ends[-1]]
        made.attachments = self.attachments[: made.attachment_ends[-1]]
        made.runs = list(self._runs_within(made.ends[-1]))
        made.closed = sum(map(len, made.runs))
        made.system, made.news = self.system, self.news
        return made

    def cover(self, messages: MessageSequence, route: ProviderRoute | None) -> None:
        """Render what isn't yet: the only work per message, done once."""
        done = len(messages.told) + len(self.ends) - 1
        if done >= len(messages):
            return
        for at, entry in enumerate(messages.unread(done), start=done):
            rendered: LlmMessage | None
            if isinstance(entry, LlmMessage):
                rendered = entry  # plain, so without any state that a route could be alien to
            else:
                rendered, attachments = render_message(messages[at], len(self.attachments))
                if rendered is not None and route is not None:
                    rendered = strip_foreign_replay(rendered, route)
                self.attachments.extend(attachments)
            if rendered is not None:
                self.messages.append(rendered)
            self.ends.append(len(self.messages))
            self.attachment_ends.append(len(self.attachments))
        if len(self.messages) - self.closed > _RUN:
            self._close()

    def _close(self) -> None:
        start = self.closed
        while self.runs and len(self.runs[-1]) <= len(self.messages) - start:
            start -= len(self.runs.pop())
        self.runs.append(MessageRun(tuple(self.messages[start:])))
        self.closed = len(self.messages)

    def _runs_within(self, end: int) -> Iterator[MessageRun]:
        """The runs that hold none of the messages behind `end`."""
        at = 0
        for run in self.runs:
            at += len(run)
            if at > end:
                break
            yield run

    def request(self, messages: MessageSequence, prompt: str, causes: tuple[TurnCause, ...]) -> LlmMessages:
        """The prompt, the messages but those that are shown as news, and the news."""
        told = messages.told
        end = self.ends[len(messages) - len(told)]
        hidden = [at - len(told) for at in _news_positions(messages, causes)]  # what is told is no event
        runs = list(self._runs_within(min((self.ends[at] for at in hidden), default=end)))
        start = sum(map(len, runs))
        rest: list[LlmMessage] = []
        for at in sorted(hidden):
            rest += self.messages[start : self.ends[at]]
            start = self.ends[at + 1]
        rest += self.messages[start:end]
        if rest:
            runs.append(MessageRun(tuple(rest)))
        return LlmMessages([*self._system(prompt), *((told,) if told else ()), *runs, *self._news(causes)])

    def attached(self, messages: MessageSequence) -> tuple[LlmAttachment, ...]:
        """The attachments of the messages and of those before them."""
        return tuple(self.attachments[: self.attachment_ends[len(messages) - len(messages.told)]])

    def _system(self, prompt: str) -> tuple[MessageRun, ...]:
        if not prompt.strip():
            return ()
        if self.system is None or self.system[0] != prompt:
            self.system = (prompt, MessageRun((llm_text(LlmRole.SYSTEM, prompt),)))
        return (self.system[1],)

    def _news(self, causes: tuple[TurnCause, ...]) -> tuple[MessageRun, ...]:
        if not causes:
            return ()
        if self.news is None or self.news[0] != causes:
            self.news = (causes, MessageRun((llm_text(LlmRole.USER, render_turn_events(causes)),)))
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
        return LlmRequest(
            model=view.model,
            messages=rendered.request(view.messages, view.system_prompt, view.turn_causes),
            attachments=rendered.attached(view.messages),
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
