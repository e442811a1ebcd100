"""Sessions: their policy, a turn's input and result, usage, and appends to the graph."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar, Union

from attrs import evolve, field

from lash_hookspecs import _checks as checks
from lash_hookspecs.compaction import Compacted, CompactRequest
from lash_hookspecs.costs import Budget, Cost
from lash_hookspecs.llm import GenerationOptions, LlmOutputSpec, LlmTerminalReason, ProviderFailureKind, TokenUsage
from lash_hookspecs.messages import Message, MessageRole, text_message
from lash_hookspecs.modes import ModeTurnOptions
from lash_hookspecs.prefix import PrefixChange
from lash_hookspecs.prompts import PromptContribution, PromptLayer, PromptSlot
from lash_hookspecs.read_only_data import read_only_table, read_only_table_or_none
from lash_hookspecs.tools import ToolCallRecord
from lash_hookspecs.turn_effects import ProtocolEvent
from lash_hookspecs.turn_interventions import TurnIntervention
from lash_hookspecs.turn_outcomes import Finished, Handoff, TurnOutcome
from lash_hookspecs.values import frozen

__all__ = [
    "AppendSessionNodesRequest",
    "AppendSessionNodesResult",
    "AppendedNodes",
    "AssembledTurn",
    "AssistantOutput",
    "DocumentRefItem",
    "ExecutionSummary",
    "FollowedTurn",
    "ImageRefItem",
    "InputItem",
    "OutputState",
    "SessionAppendNode",
    "SessionPolicy",
    "SessionSnapshot",
    "SessionStateEnvelope",
    "SessionUsageReport",
    "StaleBranch",
    "TextItem",
    "TokenLedgerEntry",
    "TurnContext",
    "TurnInput",
    "TurnIssue",
]


# ---- what goes in ---------------------------------------------------------------------------------------------------


@frozen
class TextItem:
    """Text from the user."""

    tag: ClassVar[str] = "text"
    text: str


@frozen
class ImageRefItem:
    """An image from the user; `id` is a key of the input's `image_blobs`."""

    tag: ClassVar[str] = "image_ref"
    id: str


@frozen
class DocumentRefItem:
    """A document from the user; `id` is a key of the input's `document_blobs`, `media_type` an IANA media type."""

    tag: ClassVar[str] = "document_ref"
    id: str
    media_type: str = "application/pdf"


InputItem = Union[TextItem, ImageRefItem, DocumentRefItem]


@frozen(kw_only=True)
class TurnContext:
    """What a caller changes for one turn: model, prompt, typed inputs for plugins.

    `plugin_inputs` maps a plugin's id to an attrs instance of a class that the plugin registered.
    """

    model: str | None = None
    model_variant: str | None = None
    generation: GenerationOptions = GenerationOptions()
    prompt: PromptLayer = PromptLayer()
    plugin_inputs: Mapping[str, Any] = field(factory=dict, converter=read_only_table)
    budget: Budget | None = None


def _count_of(blobs: Mapping[str, bytes]) -> str:
    return f"<{len(blobs)} blobs>"


@frozen(kw_only=True)
class TurnInput:
    """A turn's input.

    `image_blobs` are raw image bytes by id (jpeg, png, gif or webp), `document_blobs` those of documents; they are
    stored before the turn. `mode_extension` is an attrs instance of a class that the mode's driver accepts, stored
    under its id. With `compact` the turn only compacts the conversation, and there are no items. `told_by` is the
    plugin that says it, where that is no user.
    """

    items: tuple[InputItem, ...] = ()
    image_blobs: Mapping[str, bytes] = field(factory=dict, converter=read_only_table, repr=_count_of)
    document_blobs: Mapping[str, bytes] = field(factory=dict, converter=read_only_table, repr=_count_of)
    mode_turn_options: ModeTurnOptions = ModeTurnOptions()
    mode_extension: Any = None
    context: TurnContext = TurnContext()
    output: LlmOutputSpec | None = None
    compact: CompactRequest | None = None
    told_by: str | None = None

    @classmethod
    def text(cls, text: str) -> TurnInput:
        """An input of one text."""
        return cls(items=(TextItem(text),))

    def with_image(self, id: str, data: bytes) -> TurnInput:
        """This input and one image more."""
        return evolve(self, items=(*self.items, ImageRefItem(id)), image_blobs={**self.image_blobs, id: data})

    def with_document(self, id: str, data: bytes, media_type: str = "application/pdf") -> TurnInput:
        """This input and one document more: a PDF, or what else the model takes."""
        item = DocumentRefItem(id, media_type)
        return evolve(self, items=(*self.items, item), document_blobs={**self.document_blobs, id: data})


# ---- policy ---------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class SessionPolicy:
    """How a session runs until told otherwise. `model` is `provider:name`; `max_turns` bounds a turn's iterations,
    `budget` what may be spent.

    `options` are the mode's, by name; `prompt` is the session's prompt layer; `extension` its `ModeSessionExtension` as
    plain data: the id under which the mode's driver declared its class, and its fields.
    """

    model: str = field(validator=checks.text)
    mode_id: str = field(default="standard", validator=checks.text)
    model_variant: str | None = field(default=None, validator=checks.optional_text)
    generation: GenerationOptions = field(default=GenerationOptions(), validator=checks.a(GenerationOptions))
    max_turns: int | None = field(default=None, validator=checks.optional_positive)
    budget: Budget | None = field(default=None, validator=checks.a(Budget, optional=True))
    autonomous: bool = field(default=False, validator=checks.flag)
    prompt: PromptLayer = field(default=PromptLayer(), validator=checks.a(PromptLayer))
    options: Mapping[str, Any] = field(factory=dict, converter=read_only_table, validator=checks.a(Mapping))
    extension: Mapping[str, Any] | None = field(
        default=None, converter=read_only_table_or_none, validator=checks.a(Mapping, optional=True)
    )

    def with_instructions(self, text: str, plugin_id: str | None = None) -> SessionPolicy:
        """This policy with one more instruction: the application's, or a plugin's."""
        contribution = PromptContribution(content=text, slot=PromptSlot.PROJECT_INSTRUCTIONS, plugin_id=plugin_id)
        return evolve(self, prompt=self.prompt.with_contribution(contribution))


# ---- what comes out -------------------------------------------------------------------------------------------------


class OutputState(StrEnum):
    """What the answer's text is good for."""

    USABLE = "usable"
    EMPTY_OUTPUT = "empty_output"
    TRACEBACK_ONLY = "traceback_only"
    RECOVERED_FROM_ERROR = "recovered_from_error"


@frozen(kw_only=True)
class AssistantOutput:
    """The answer's text: as it was, and without trailing blanks."""

    safe_text: str
    raw_text: str
    state: OutputState


@frozen(kw_only=True)
class ExecutionSummary:
    """How the turn ran."""

    mode: str
    had_tool_calls: bool = False
    had_code_execution: bool = False
    llm_calls: int = 0


@frozen(kw_only=True)
class TurnIssue:
    """Something that went wrong in a turn, whether or not it ended it."""

    kind: str
    message: str
    code: str | None = None
    terminal_reason: LlmTerminalReason | None = None
    retryable: bool | None = None
    provider_failure_kind: ProviderFailureKind | None = None
    raw: str | None = None
    plugin_id: str | None = None
    blocking: bool = True


@frozen(kw_only=True)
class SessionStateEnvelope:
    """Where the session stands after the turn. Constant in size: the history is in the graph."""

    session_id: str
    turn_index: int
    head_revision: int
    leaf_node_id: str | None
    token_usage: TokenUsage = TokenUsage()


@frozen(kw_only=True)
class TokenLedgerEntry:
    """Usage by who caused it and which model was used."""

    source: str
    model: str
    usage: TokenUsage


@frozen(kw_only=True)
class AssembledTurn:
    """A finished turn, whole: what came out, how it ended, and what it cost.

    `durable` says whether every effect was journalled, so that a crash would have lost nothing.
    `output_value` is the parsed answer where a schema was asked for. `explain_ref` names the stored provenance.
    `compaction` tells of the new frame that the turn opened. `context_tokens` are those of its last model call, kept
    where a plugin compacts. `call_usage` is that of each model call of its own, in order, failed ones too.
    `prefix_changes` say why its model calls don't all begin alike, or the next turn's otherwise. `interventions` are
    what plugins did to it, those of its tool calls apart.
    """

    turn_id: str
    state: SessionStateEnvelope
    outcome: TurnOutcome
    assistant_output: AssistantOutput
    execution: ExecutionSummary
    token_usage: TokenUsage = TokenUsage()
    children_usage: tuple[TokenLedgerEntry, ...] = ()
    tool_calls: tuple[ToolCallRecord, ...] = ()
    errors: tuple[TurnIssue, ...] = ()
    durable: bool = False
    output_value: Any = None
    explain_ref: str | None = None
    compaction: Compacted | None = None
    context_tokens: int = 0
    prefix_changes: tuple[PrefixChange, ...] = ()
    call_usage: tuple[TokenUsage, ...] = ()
    interventions: tuple[TurnIntervention, ...] = ()
    started_at_ms: int = 0
    finished_at_ms: int = 0

    @property
    def text(self) -> str:
        """The answer, fit to show."""
        return self.assistant_output.safe_text

    @property
    def usage(self) -> TokenUsage:
        """Tokens of this turn, children included."""
        total = self.token_usage
        for entry in self.children_usage:
            total = total + entry.usage
        return total

    @property
    def cost(self) -> Cost:
        """What that cost."""
        return self.usage.cost

    @property
    def is_success(self) -> bool:
        """Whether it reached its end."""
        return isinstance(self.outcome, Finished)


@frozen
class FollowedTurn:
    """A turn, and those of the sessions that it was handed to, one after the other."""

    turns: tuple[AssembledTurn, ...]

    @property
    def final_turn(self) -> AssembledTurn:
        """The last one. If that was handed off too, it wasn't followed so far."""
        return self.turns[-1]

    @property
    def handoff_count(self) -> int:
        """How many of them were handed off."""
        return sum(isinstance(each.outcome, Handoff) for each in self.turns)


@frozen
class SessionUsageReport:
    """Usage of a session so far, by source and model."""

    entries: tuple[TokenLedgerEntry, ...] = ()

    @property
    def total(self) -> TokenUsage:
        """All of it."""
        total = TokenUsage()
        for entry in self.entries:
            total = total + entry.usage
        return total


@frozen(kw_only=True)
class SessionSnapshot:
    """A session at rest, as plugins may read it."""

    session_id: str
    policy: SessionPolicy
    state: SessionStateEnvelope
    messages: tuple[Message, ...] = ()
    usage: SessionUsageReport = SessionUsageReport()


# ---- appends --------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class SessionAppendNode:
    """A node to append outside a turn: a message or a protocol event."""

    message: Message | None = field(default=None, validator=checks.a(Message, optional=True))
    event: ProtocolEvent | None = field(default=None, validator=checks.a(ProtocolEvent, optional=True))

    @classmethod
    def user(cls, id: str, text: str) -> SessionAppendNode:
        """A user's message."""
        return cls(message=text_message(id, MessageRole.USER, text))


def _nodes(value: tuple[SessionAppendNode, ...] | list[SessionAppendNode]) -> tuple[SessionAppendNode, ...]:
    return checks.as_tuple(value)


@frozen(kw_only=True)
class AppendSessionNodesRequest:
    """Append nodes without a turn. The same `operation_id` with the same content is answered from its receipt.

    `requires_ancestor_node_id`: refuse as stale unless that node is on the active path; later nodes do no harm.
    """

    operation_id: str = field(validator=checks.text)
    nodes: tuple[SessionAppendNode, ...] = field(converter=_nodes, validator=checks.tuple_of(SessionAppendNode))
    requires_ancestor_node_id: str | None = field(default=None, validator=checks.optional_text)


@frozen(kw_only=True)
class AppendedNodes:
    """They are in."""

    tag: ClassVar[str] = "appended"
    node_ids: tuple[str, ...]
    leaf_node_id: str


@frozen(kw_only=True)
class StaleBranch:
    """The required node isn't on the active path; nothing was written."""

    tag: ClassVar[str] = "stale_branch"
    required_node_id: str
    current_leaf_node_id: str | None


AppendSessionNodesResult = Union[AppendedNodes, StaleBranch]
