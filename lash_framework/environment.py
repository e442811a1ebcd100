"""What a model is told before the conversation: the system prompt and the tools, as they stand now."""

from __future__ import annotations

from typing import Any

from lash_framework.hooks import Bind, Owned, collect
from lash_framework.prompt import OwnedContribution, PromptInputs, RenderedPrompt
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.prompts import PromptContribution
from lash_hookspecs.turns import ExecutionEnvironmentSync

__all__ = ["current_environment"]


async def current_environment(plan: TurnPlan, bind: Bind) -> tuple[RenderedPrompt, ExecutionEnvironmentSync]:
    """The prompt with its provenance, and prompt and tools as the turn machine takes them. Raises `PluginError`."""
    hooks = plan.composition.hooks["lash_prompt_contributions"]
    offered: list[Owned[Any]] = await collect(hooks, bind, item=PromptContribution) if hooks else []
    driver = plan.composition.mode.driver
    inputs = PromptInputs(
        layers=plan.layers,
        contributions=(
            *(OwnedContribution(each.plugin_id, each.value) for each in offered),
            *_of_extension("session extension", plan.session_extension),
            *_of_extension("turn extension", plan.turn_input.mode_extension),
        ),
        callable_tools=plan.composition.callable_names,
        execution_prompt=driver.execution_prompt if driver else "",
        execution_owner=plan.composition.driver_owner,
    )
    prompt = plan.renderer.render(inputs)
    return prompt, ExecutionEnvironmentSync(system_prompt=prompt.text, tool_specs=plan.composition.tool_specs)


def _of_extension(owner: str, extension: Any) -> list[OwnedContribution]:
    """What a mode extension adds to the prompt; extensions need not have anything to say."""
    offered = extension.prompt_contributions() if hasattr(extension, "prompt_contributions") else ()
    return [OwnedContribution(owner, each) for each in offered]
