"""What observers of a session see: its activities one by one, and a gap with the fresh state where some are missing.

An observer may come at any time, and come back with the cursor of the last thing that it saw.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Union

from lash_hookspecs.activity import ToolCallCompleted, ToolCallStarted, TurnActivity
from lash_hookspecs.inbox import InboxState
from lash_hookspecs.messages import Message
from lash_hookspecs.sessions import AssembledTurn
from lash_hookspecs.values import frozen

__all__ = [
    "GapReason",
    "Observation",
    "ObservationGap",
    "Observed",
    "SessionView",
    "TurnPhase",
    "TurnView",
    "WaitingTurn",
]


class TurnPhase(StrEnum):
    """What a turn is about right now."""

    PREPARING = "preparing"
    MODEL = "model"
    TOOLS = "tools"
    CODE = "code"
    CHECKPOINT = "checkpoint"
    ENDING = "ending"


@frozen(kw_only=True)
class TurnView:
    """A turn that runs in this process, as far as it is: what a display needs to draw it.

    `messages` are the turn's own so far, its input first. `text` and `reasoning` are what came of the reply that is
    under way, whose next deltas have this `correlation_id`. `tool_calls` are the calls that are under way together,
    each as it began or as it ended.
    """

    turn_id: str
    phase: TurnPhase
    protocol_iteration: int
    messages: tuple[Message, ...] = ()
    correlation_id: str = ""
    text: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCallStarted | ToolCallCompleted, ...] = ()


@frozen(kw_only=True)
class WaitingTurn:
    """A turn that is accepted and not committed, and that this process doesn't run. `reason` says why it is blocked."""

    turn_id: str
    state: InboxState
    reason: str | None = None


@frozen(kw_only=True)
class SessionView:
    """Where a session stands. `head_revision` and `turn_index` are its head's, `last_turn` was committed last.

    `running` is the turn that this process runs; `waiting` are the others that aren't committed, in their order.
    """

    session_id: str
    head_revision: int
    turn_index: int
    last_turn: AssembledTurn | None = None
    running: TurnView | None = None
    waiting: tuple[WaitingTurn, ...] = ()


class GapReason(StrEnum):
    """Why an observer gets the state instead of activities."""

    NEW = "new"
    """It came without a cursor."""
    OVERTAKEN = "overtaken"
    """It was slower than the turn by more activities than are kept."""
    OTHER_RUN = "other_run"
    """Its cursor is of another process, or from before nobody watched."""
    REPLAYED = "replayed"
    """A turn went on from its records: what was streamed before isn't streamed again."""


@frozen(kw_only=True)
class Observed:
    """An activity, and the cursor with which an observer gets what comes after it."""

    tag: ClassVar[str] = "activity"
    cursor: str
    activity: TurnActivity


@frozen(kw_only=True)
class ObservationGap:
    """Activities are missing here; `state` has what came of them. What follows comes after it."""

    tag: ClassVar[str] = "gap"
    cursor: str
    reason: GapReason
    state: SessionView


Observation = Union[Observed, ObservationGap]
