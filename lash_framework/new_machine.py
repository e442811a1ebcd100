"""From a turn's plan, and what its start decided, to its machine."""

from __future__ import annotations

from lash_framework.context_views import shown
from lash_framework.conversation import Conversation, History
from lash_framework.machine import ChatProjector, TurnMachine, TurnMachineConfig, TurnStart
from lash_framework.turn_plan import DEFAULT_MAX_TURNS, TurnPlan
from lash_hookspecs.effect_outcomes import TurnStartOutcome
from lash_hookspecs.messages import Message
from lash_hookspecs.turn_outcomes import AssistantMessage, Finished

__all__ = ["new_machine"]


def new_machine(
    plan: TurnPlan,
    user: Message,
    begun: TurnStartOutcome | None = None,
    history: Conversation | History | None = None,
    injected: tuple[Message, ...] = (),
) -> TurnMachine:
    """The machine for a turn that begins with the user's message, and with what plugins injected before it.

    `history` is the conversation before the turn, if it isn't the plan's.
    """
    mode, policy, context = plan.composition.mode, plan.policy, plan.turn_input.context
    driver = mode.driver
    before = history or plan.conversation
    pieces = begun.context.pieces if begun is not None and begun.context is not None else None
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
        tool_specs=() if begun is None else begun.tool_specs,
        system_prompt="" if begun is None else begun.prompt.text,
        output_spec=plan.turn_input.output,
        options=plan.options,
        turn_extension=plan.turn_input.mode_extension,
        session_extension=plan.session_extension,
        checkpoints=driver.checkpoints if driver else (),
        view=None if pieces is None else shown(before.messages, pieces),
    )
    said = () if plan.only_compacts else (user,)
    machine = TurnMachine(config, TurnStart(base=before.messages, messages=(*said, *injected), events=before.events))
    if plan.only_compacts and begun is not None:
        machine.finish_with_outcome(Finished(AssistantMessage("")))
    return machine
