"""What a driver sees of a turn: one moment of it, unchanging."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lash_framework.machine.config import TurnMachineConfig
from lash_framework.machine.projection import ProjectionView
from lash_framework.machine.sequence import MessageSequence
from lash_hookspecs.llm import LlmRequest, LlmRequestScope, LlmToolSpec
from lash_hookspecs.messages import Message, TurnCause
from lash_hookspecs.turn_effects import ProtocolEvent
from lash_hookspecs.turn_interventions import TurnIntervention
from lash_hookspecs.values import frozen

__all__ = ["DriverContext"]


@frozen(kw_only=True)
class DriverContext:
    """What a driver may read of the turn: `DriverContextView` over one moment of it.

    `requests` are those that were made in it, each with whose drivers made something else of the one before.
    """

    config: TurnMachineConfig
    messages: MessageSequence
    base_count: int
    events: tuple[ProtocolEvent, ...]
    turn_causes: tuple[TurnCause, ...]
    protocol_iteration: int
    protocol_run_offset: int
    turn_limit_scheduled: bool
    system_prompt: str
    tool_specs: tuple[LlmToolSpec, ...]
    requests: list[tuple[LlmRequest, tuple[TurnIntervention, ...]]]

    @property
    def turn_id(self) -> str:
        return self.config.turn_id

    @property
    def session_id(self) -> str:
        return self.config.session_id

    @property
    def max_turns(self) -> int | None:
        return self.config.max_turns

    @property
    def autonomous(self) -> bool:
        return self.config.autonomous

    @property
    def options(self) -> Any:
        return self.config.options

    @property
    def turn_extension(self) -> Any:
        return self.config.turn_extension

    @property
    def session_extension(self) -> Any:
        return self.config.session_extension

    @property
    def turn_messages(self) -> Sequence[Message]:
        return self.messages[self.base_count :]

    @property
    def should_force_exit_after_grace_turn(self) -> bool:
        return self.turn_limit_scheduled

    @property
    def turn_limit_final_to_schedule(self) -> int | None:
        limit = self.config.max_turns
        if limit is None or self.turn_limit_scheduled or self.protocol_iteration < self.protocol_run_offset + limit:
            return None
        return limit

    def project_llm_request(self, use_tools: bool = True) -> LlmRequest:
        config, messages = self.config, self.messages
        if config.view is not None:
            messages = config.view.extended(messages[self.base_count :])
        request = config.projector.project(
            ProjectionView(
                messages=messages,
                turn_causes=self.turn_causes,
                events=self.events,
                protocol_iteration=self.protocol_iteration,
                use_tools=use_tools,
                system_prompt=self.system_prompt,
                tool_specs=self.tool_specs,
                model=config.model,
                model_variant=config.model_variant,
                generation=config.generation,
                output_spec=config.output_spec,
                scope=LlmRequestScope(
                    session_id=config.session_id,
                    agent_frame_id=config.agent_frame_id,
                    request_id=f"{config.turn_id}:{self.protocol_iteration}:llm",
                ),
            )
        )
        self.requests.append((request, ()))
        return request
