"""From a turn's plan to its machine."""

from __future__ import annotations

from lash_framework.machine import ChatProjector, TurnMachine, TurnMachineConfig, TurnStart
from lash_framework.turn_plan import DEFAULT_MAX_TURNS, TurnPlan
from lash_hookspecs.llm import LlmToolSpec
from lash_hookspecs.messages import Message

__all__ = ["new_machine"]


def new_machine(
    plan: TurnPlan,
    user: Message,
    system_prompt: str = "",
    tool_specs: tuple[LlmToolSpec, ...] = (),
    injected: tuple[Message, ...] = (),
) -> TurnMachine:
    """The machine for a turn that begins with the user's message, and with what plugins injected before it."""
    mode, policy, context = plan.composition.mode, plan.policy, plan.turn_input.context
    driver = mode.driver
    config = TurnMachineConfig(
        driver=plan.composition.driver,
        session_id=plan.session_id,
        turn_id=plan.turn_id,
        model=plan.model,
        projector=ChatProjector(plan.route),
        sync_execution_environment=driver.sync_execution_environment if driver else True,
        max_context_tokens=plan.capability.context_window,
        max_turns=policy.max_turns or mode.max_turns or DEFAULT_MAX_TURNS,
        model_variant=context.model_variant or policy.model_variant,
        generation=context.generation.over(policy.generation.over(mode.generation)),
        autonomous=policy.autonomous,
        tool_specs=tool_specs,
        system_prompt=system_prompt,
        output_spec=plan.turn_input.output,
        options=plan.options,
        turn_extension=plan.turn_input.mode_extension,
        session_extension=plan.session_extension,
        checkpoints=driver.checkpoints if driver else (),
    )
    base, events = plan.conversation.messages, plan.conversation.events
    return TurnMachine(config, TurnStart(base=base, messages=(user, *injected), events=events))
