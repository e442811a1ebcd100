"""How a turn ends: finished with an answer or a value, handed on to another session, or stopped for a reason."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Union

from lash_hookspecs.values import frozen

__all__ = [
    "AssistantMessage",
    "FinalValue",
    "Finish",
    "Finished",
    "Handoff",
    "OverBudget",
    "StopReason",
    "Stopped",
    "SubmittedError",
    "TerminationPolicy",
    "ToolFailed",
    "ToolValue",
    "TurnOutcome",
]


@frozen
class AssistantMessage:
    """The model answered in words."""

    tag: ClassVar[str] = "assistant_message"
    text: str


@frozen
class FinalValue:
    """The turn ended in a value: code submitted it, or the answer was asked for in a schema."""

    tag: ClassVar[str] = "final_value"
    value: Any


@frozen
class ToolValue:
    """A tool ended the turn with a value."""

    tag: ClassVar[str] = "tool_value"
    tool_name: str
    value: Any


Finish = Union[AssistantMessage, FinalValue, ToolValue]


class StopReason(StrEnum):
    """Why a turn ended without an answer, where no value explains it."""

    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"
    INVALID_INPUT = "invalid_input"
    MAX_TURNS = "max_turns"
    TOOL_FAILURE = "tool_failure"
    PROVIDER_ERROR = "provider_error"
    PLUGIN_ABORT = "plugin_abort"
    RUNTIME_ERROR = "runtime_error"
    SUBMITTED_ERROR = "submitted_error"
    TOOL_ERROR = "tool_error"
    ABANDONED = "abandoned"
    """Somebody decided that a turn which couldn't go on is over: what was recorded of it is kept."""
    BUDGET = "budget"
    """The next model call would have gone beyond what may be spent, so it wasn't made."""


@frozen
class SubmittedError:
    """Code submitted this value as its error."""

    tag: ClassVar[str] = "submitted_error"
    value: Any


@frozen
class ToolFailed:
    """A tool ended the turn as failed."""

    tag: ClassVar[str] = "tool_error"
    tool_name: str
    value: Any


@frozen(kw_only=True)
class OverBudget:
    """Why a model wasn't asked. `limit` is the setting's name; what is in dollars is told in picodollars.

    `spent` is what is known to be spent (whether it may be more, the turn's usage says); `next` is what the call was
    expected to need.
    """

    tag: ClassVar[str] = "over_budget"
    limit: str
    allowed: int
    spent: int
    next: int


@frozen
class Finished:
    """The turn reached its end."""

    tag: ClassVar[str] = "finished"
    finish: Finish


@frozen
class Handoff:
    """Another session goes on, in the turn with this id, if the one that ended says what it is to do."""

    tag: ClassVar[str] = "handoff"
    session_id: str
    turn_id: str = ""


@frozen
class Stopped:
    """The turn ended early. `detail` is set for the reasons that carry a value."""

    tag: ClassVar[str] = "stopped"
    reason: StopReason
    detail: SubmittedError | ToolFailed | OverBudget | None = None


TurnOutcome = Union[Finished, Handoff, Stopped]


@frozen
class TerminationPolicy:
    """How a turn without a proper end is judged."""

    treat_missing_done_as_failure: bool = True
