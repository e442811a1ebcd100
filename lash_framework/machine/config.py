"""What a turn machine is built from: the rules of a session's turns, and one turn's input."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from attrs import Attribute, field

from lash_framework.machine.projection import ChatProjector, ContextProjector
from lash_framework.machine.sequence import MessageSequence
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import GenerationOptions, LlmOutputSpec, LlmToolSpec
from lash_hookspecs.messages import Message, MessageRole, TurnCause, text_message
from lash_hookspecs.turn_effects import ProtocolEvent
from lash_hookspecs.turn_steps import ProtocolDriver
from lash_hookspecs.values import frozen

__all__ = ["TurnMachineConfig", "TurnStart", "turn_limit_message"]


def turn_limit_message(message_id: str, limit: int) -> Message:
    """What the model is told before its one extra iteration."""
    steps = "its only step" if limit == 1 else f"all {limit} of its steps"
    return text_message(
        message_id,
        MessageRole.SYSTEM,
        f"This turn has used {steps}. Answer now, in words, with what you know; say what is left undone.",
    )


def _at_least_one(_: object, attribute: Attribute[int | None], value: int | None) -> None:
    if value is not None and value < 1:
        raise ConfigurationError(f"`{attribute.name}` must be at least 1, not {value}; leave it out for no limit")


@frozen(kw_only=True)
class TurnMachineConfig:
    """How this session's turns run. Not part of a snapshot: the host rebuilds it.

    `system_prompt` and `tool_specs` are what the turn begins with; a sync may replace them. `options` are the mode's,
    with the turn's over them; the extensions go to the driver as they are. `checkpoints` are the kinds of the mode's
    own. `turn_limit_final_message` gets an id and the limit. `view` is what a model is shown in place of the
    conversation before the turn.
    """

    driver: ProtocolDriver
    session_id: str
    turn_id: str
    model: str
    projector: ContextProjector = field(factory=ChatProjector)
    sync_execution_environment: bool = True
    max_context_tokens: int | None = None
    max_turns: int | None = field(default=None, validator=_at_least_one)
    model_variant: str | None = None
    generation: GenerationOptions = GenerationOptions()
    autonomous: bool = False
    tool_specs: tuple[LlmToolSpec, ...] = ()
    system_prompt: str = ""
    output_spec: LlmOutputSpec | None = None
    options: Any = None
    turn_extension: Any = None
    session_extension: Any = None
    checkpoints: Collection[CheckpointKind] = ()
    turn_limit_final_message: Callable[[str, int], Message] = turn_limit_message
    agent_frame_id: str = "main"
    view: MessageSequence | None = None


@frozen(kw_only=True)
class TurnStart:
    """One turn's input. `base` is the conversation before it, `events` the protocol's records so far.

    `protocol_run_offset` is the number that this turn's first iteration gets.
    """

    base: MessageSequence = field(factory=MessageSequence)
    messages: tuple[Message, ...] = ()
    turn_causes: tuple[TurnCause, ...] = ()
    events: tuple[ProtocolEvent, ...] = ()
    protocol_run_offset: int = 0
