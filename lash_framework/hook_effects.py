"""An effect with hooks in it: called once, recorded, and from then on taken from the record with what they remember.

What hooks did to the plugins' states counts only with the outcome that holds it: it is undone where none came back (the
turn was cancelled meanwhile, or the record could not be written), and where another one did.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from lash_framework.direct_calls import DirectCalls
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.effect_outcomes import HookRecord, RuntimeEffectOutcome, expect
from lash_hookspecs.effects import RuntimeEffectEnvelope
from lash_hookspecs.errors import PluginError, ReplayError

__all__ = ["NO_HOOKS", "hook_effect", "take_over"]

NO_HOOKS = HookRecord()
"""The record where no hook had anything to say."""


class _WithHooks(Protocol):
    @property
    def hooks(self) -> HookRecord: ...


O = TypeVar("O", bound=_WithHooks)  # noqa: E741  # the conventional name for an outcome's type here


async def hook_effect(
    plan: TurnPlan,
    directs: DirectCalls,
    asked: RuntimeEffectEnvelope,
    wanted: type[O],
    live: Callable[[], Awaitable[O]],
    take: Callable[[HookRecord], object],
) -> O:
    """Send it across the effect boundary. `live` calls the hooks; `take` takes a recorded outcome's states over.

    Raises `EffectControllerError` if the boundary failed, which a state that can't be taken over is, too.
    """
    states = plan.states
    before = states.mark()
    made: O | None = None

    async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        nonlocal made
        made = await directs.within(envelope, live)
        return made  # type: ignore[return-value]  # the outcomes with hooks are among them

    try:
        outcome = expect(await plan.controller.execute(asked, run), wanted)
        if outcome is not made:
            states.rollback(before)
            take_over(take, outcome.hooks)
    except BaseException:
        states.rollback(before)
        raise
    return outcome


def take_over(take: Callable[[HookRecord], object], record: HookRecord) -> None:
    """Take over what a record holds. Raises `ReplayError` if a plugin can't read its own state any more."""
    try:
        take(record)
    except PluginError as error:
        raise ReplayError("runtime_effect_states", str(error)) from error
