"""Messages as a model sees them: blocks, and the runs in which a long conversation's messages stay together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from itertools import chain
from typing import Any, ClassVar, Union

from attrs import field

from lash_hookspecs.messages import AttachmentRef, ProviderReasoningMeta, ProviderReplayMeta, ResponseTextMeta
from lash_hookspecs.sequences import LazySequence
from lash_hookspecs.values import frozen

__all__ = [
    "EncodedRun",
    "ImageBlock",
    "LlmBlock",
    "LlmMessage",
    "LlmMessages",
    "LlmRole",
    "LlmTextMessage",
    "MessageRun",
    "ReasoningBlock",
    "TextBlock",
    "ToolCallBlock",
    "ToolResultBlock",
    "llm_block",
    "llm_text",
]


class LlmRole(StrEnum):
    """Who speaks, as a model knows it. Notes and events are told by `USER`.

    `SYSTEM` is the prompt, the first message of a turn's request. Only who asks a model directly can say it elsewhere;
    a provider must not lose it there, and may put it with the first.
    """

    USER = "user"
    ASSISTANT = "assistant"
    SYSTEM = "system"


@frozen(kw_only=True)
class TextBlock:
    """Text. `cache_breakpoint` marks the end of a prefix that is worth caching."""

    tag: ClassVar[str] = "text"
    text: str
    response_meta: ResponseTextMeta | None = None
    cache_breakpoint: bool = False


@frozen(kw_only=True)
class ImageBlock:
    """An image, or a document: `attachment` is the reference; the request's `attachments` hold its bytes by that id."""

    tag: ClassVar[str] = "image"
    attachment_idx: int
    attachment: AttachmentRef | None = None


@frozen(kw_only=True)
class ToolCallBlock:
    """A tool call that the model made. `input_json` is the raw JSON text of its arguments."""

    tag: ClassVar[str] = "tool_call"
    call_id: str
    tool_name: str
    input_json: str
    replay: ProviderReplayMeta | None = None


@frozen(kw_only=True)
class ToolResultBlock:
    """What a tool call returned, as the model sees it."""

    tag: ClassVar[str] = "tool_result"
    call_id: str
    content: str
    tool_name: str | None = None


@frozen(kw_only=True)
class ReasoningBlock:
    """Reasoning that goes back to the provider which made it."""

    tag: ClassVar[str] = "reasoning"
    text: str
    replay: ProviderReasoningMeta | None = None


LlmBlock = Union[TextBlock, ImageBlock, ToolCallBlock, ToolResultBlock, ReasoningBlock]


@frozen
class LlmMessage:
    """One message on its way to a model.

    `memo` is for whoever derives something costly from this immutable value (a provider: its encoding on the wire),
    keyed by who derived it; it takes no part in equality and is never stored.
    """

    role: LlmRole
    blocks: tuple[LlmBlock, ...]
    memo: dict[str, Any] = field(factory=dict, eq=False, repr=False, init=False)


class LlmTextMessage(LlmMessage):
    """A message of one text block, which is made when somebody reads it, as is `memo`: a long history has thousands.

    Equal to the `LlmMessage` that holds the same; `attrs.evolve` and copies make one of that class.
    """

    __slots__ = ("_kept_blocks", "_kept_memo", "text")

    text: str
    _kept_blocks: tuple[LlmBlock, ...]
    _kept_memo: dict[str, Any]

    def __new__(cls, role: LlmRole, blocks: tuple[LlmBlock, ...]) -> LlmMessage:  # type: ignore[misc]  # see above
        return LlmMessage(role, blocks)

    @property
    def blocks(self) -> tuple[LlmBlock, ...]:
        """The one block."""
        try:
            return self._kept_blocks
        except AttributeError:
            object.__setattr__(self, "_kept_blocks", (TextBlock(text=self.text),))
            return self._kept_blocks

    @property
    def memo(self) -> dict[str, Any]:
        """As of every message."""
        try:
            return self._kept_memo
        except AttributeError:
            object.__setattr__(self, "_kept_memo", {})
            return self._kept_memo

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LlmMessage):
            return NotImplemented
        return self.role == other.role and self.blocks == other.blocks

    def __hash__(self) -> int:
        return hash((LlmMessage, (self.role, self.blocks)))

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return LlmMessage, (self.role, self.blocks)


# attrs' `__init__` sets the fields of a frozen value through `object.__setattr__`, which takes four times as long.
_new: Callable[[type[LlmTextMessage]], LlmTextMessage] = object.__new__
_make: Callable[[type[LlmMessage]], LlmMessage] = object.__new__
_set_role = LlmMessage.role.__set__  # type: ignore[attr-defined]  # a slot, until there is an instance
_set_blocks = LlmMessage.blocks.__set__  # type: ignore[attr-defined]  # the same
_set_memo = LlmMessage.memo.__set__  # type: ignore[attr-defined]  # the same
_set_text = LlmTextMessage.text.__set__  # type: ignore[attr-defined]  # the same


def llm_text(role: LlmRole, text: str) -> LlmTextMessage:
    """A message of one text."""
    message = _new(LlmTextMessage)
    _set_role(message, role)
    _set_text(message, text)
    return message


def llm_block(role: LlmRole, block: LlmBlock) -> LlmMessage:
    """A message of one block."""
    message = _make(LlmMessage)
    _set_role(message, role)
    _set_blocks(message, (block,))
    _set_memo(message, {})
    return message


class MessageRun:
    """Messages that stay together from one request to the next.

    `memo` is for whoever derives something costly from all of them, such as a provider their joined encoding: keyed by
    who derived it, no part of equality, never stored.
    """

    __slots__ = ("_messages", "memo")

    def __init__(self, messages: tuple[LlmMessage, ...]) -> None:
        self._messages = messages
        self.memo: dict[str, Any] = {}

    @property
    def messages(self) -> tuple[LlmMessage, ...]:
        """All of them, the same objects each time."""
        return self._messages

    def __len__(self) -> int:
        return len(self._messages)

    def __eq__(self, other: object) -> bool:
        return self.messages == other.messages if isinstance(other, MessageRun) else NotImplemented

    def __hash__(self) -> int:
        return hash((MessageRun, self.messages))


class EncodedRun(MessageRun):
    """A run of a stored history whose messages have one text each: they are made when somebody reads them.

    `encoded` is `{"role":…,"content":…}` of each, in JSON, with commas between them. A wire that says it so sends that
    as it is; none of the texts is blank.
    """

    __slots__ = ("_count", "encoded")

    def __init__(self, encoded: bytes, count: int) -> None:
        self.encoded = encoded
        self._count = count
        self.memo = {}

    @property
    def messages(self) -> tuple[LlmMessage, ...]:
        """All of them, the same objects each time."""
        try:
            return self._messages
        except AttributeError:
            import orjson  # nobody needs it to know what a message is

            read = orjson.loads(b"[%b]" % self.encoded)
            self._messages = tuple(llm_text(_ROLES[each["role"]], each["content"]) for each in read)
            return self._messages

    def __len__(self) -> int:
        return self._count


_ROLES = {role.value: role for role in LlmRole}


class LlmMessages(LazySequence[LlmMessage]):
    """The messages of a request: a sequence that is made of runs.

    A conversation is sent whole with every request, and grows at its end. Its earlier messages come in runs that are
    the same objects each time, few of them however long it is (their number grows with the logarithm), so who reads
    `runs`, and keeps what it derives in their memos, pays for what is new only.
    """

    __slots__ = ("_length", "runs")

    def __init__(self, runs: Iterable[MessageRun]) -> None:
        self.runs = tuple(runs)
        self._length = sum(map(len, self.runs))

    @classmethod
    def of(cls, messages: Iterable[LlmMessage]) -> LlmMessages:
        """These messages as one run, or just as they are if they come in runs already."""
        return messages if isinstance(messages, cls) else cls([MessageRun(tuple(messages))])

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[LlmMessage]:
        return chain.from_iterable(run.messages for run in self.runs)

    def entry(self, at: int) -> LlmMessage:
        """The message at a place."""
        for run in self.runs:
            if at < len(run):
                break
            at -= len(run)
        return run.messages[at]
