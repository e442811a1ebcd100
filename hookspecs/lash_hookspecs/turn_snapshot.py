"""A turn machine at rest, as plain data."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.llm import LlmToolSpec, TokenUsage
from lash_hookspecs.messages import Message, TurnCause
from lash_hookspecs.tools import CompletedToolCall
from lash_hookspecs.turn_effects import Effect, ProtocolEvent, WaitingEffect
from lash_hookspecs.turn_outcomes import TurnOutcome
from lash_hookspecs.turn_steps import CheckpointResumeAction
from lash_hookspecs.values import frozen

__all__ = [
    "MachineSnapshot",
    "Waiting",
]


@frozen(kw_only=True)
class Waiting:
    """An effect is out and its response owed. `on_empty` belongs to checkpoints, `driver_state` to calls and code."""

    effect: WaitingEffect
    driver_state: Any = None
    on_empty: CheckpointResumeAction | None = None
    rejected: tuple[tuple[int, CompletedToolCall], ...] = ()


@frozen(kw_only=True)
class MachineSnapshot:
    """A turn machine at rest: plain data. The configuration is not part of it; the host rebuilds that."""

    state: str
    waiting: Waiting | None
    pending: tuple[Effect, ...]
    next_effect_id: int
    messages_added: tuple[Message, ...]
    base_message_count: int
    events: tuple[ProtocolEvent, ...]
    turn_causes: tuple[TurnCause, ...]
    reported_messages: int
    reported_events: int
    protocol_iteration: int
    protocol_run_offset: int
    usage: TokenUsage
    turn_limit_scheduled: bool = False
    synced_iteration: int | None = None
    checkpoint_count: int = 0
    system_prompt: str | None = None
    tool_specs: tuple[LlmToolSpec, ...] | None = None
    outcome: TurnOutcome | None = None
