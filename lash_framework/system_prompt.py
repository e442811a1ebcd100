"""What a model is told before the conversation: the system prompt, from all who have something to say there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Any

from lash_framework.prompt import OwnedContribution, PromptInputs
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.prompts import RenderedPrompt

__all__ = ["current_prompt"]


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
