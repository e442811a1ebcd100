"""What a model is told before the conversation: the system prompt, from all who have something to say there. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import Any, Literal

from lash_framework.composition import Composition
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
            *_of_extension(plan.composition, "session", plan.session_extension),
            *_of_extension(plan.composition, "turn", plan.turn_input.mode_extension),
        ),
        callable_tools=plan.tools.callable_names,
        execution_prompt=driver.execution_prompt if driver else "",
        execution_owner=plan.composition.driver_owner,
    )
    return plan.renderer.render(inputs)


def _of_extension(
    composition: Composition, kind: Literal["turn", "session"], extension: Any
) -> list[OwnedContribution]:
    """What a mode extension adds to the prompt; extensions need not have anything to say."""
    if not hasattr(extension, "prompt_contributions"):
        return []
    owner = composition.extension_owner(kind, extension)
    return [OwnedContribution(owner, each) for each in extension.prompt_contributions()]
