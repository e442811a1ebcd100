"""What a model is told before the conversation: the system prompt, from all who have something to say there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Any

from lash_framework.prompt import OwnedContribution, PromptInputs
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.effect_outcomes import SyncEnvironmentOutcome
from lash_hookspecs.prompts import RenderedPrompt
from lash_hookspecs.turn_effects import EnvironmentSynced, ExecutionEnvironmentSync

__all__ = ["current_prompt", "synced_environment"]


def current_prompt(plan: TurnPlan, offered: Sequence[tuple[str, Any]] = ()) -> RenderedPrompt:
    """The prompt with its provenance. `offered` are the plugins' contributions of now."""
    driver = plan.composition.mode.driver
    inputs = PromptInputs(
        layers=plan.layers,
        contributions=(
            *starmap(OwnedContribution, offered),
            *_of_extension("session extension", plan.session_extension),
            *_of_extension("turn extension", plan.turn_input.mode_extension),
        ),
        callable_tools=plan.tools.callable_names,
        execution_prompt=driver.execution_prompt if driver else "",
        execution_owner=plan.composition.driver_owner,
    )
    return plan.renderer.render(inputs)


def _of_extension(owner: str, extension: Any) -> list[OwnedContribution]:
    """What a mode extension adds to the prompt; extensions need not have anything to say."""
    offered = extension.prompt_contributions() if hasattr(extension, "prompt_contributions") else ()
    return [OwnedContribution(owner, each) for each in offered]


def synced_environment(effect_id: int, synced: SyncEnvironmentOutcome) -> EnvironmentSynced:
    """The answer for the turn machine."""
    if synced.hooks.failure is not None:
        return EnvironmentSynced(id=effect_id, error=synced.hooks.failure.message)
    update = ExecutionEnvironmentSync(system_prompt=synced.prompt.text, tool_specs=synced.tool_specs)
    return EnvironmentSynced(id=effect_id, update=update)
