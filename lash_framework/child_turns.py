"""Turns that tools run on other sessions: what they may spend, and that it counts in the turn that waits for them."""

from __future__ import annotations

from typing import TypeVar

from attrs import evolve

from lash_framework.direct_calls import DirectCalls, DirectPlace
from lash_hookspecs.costs import Budget
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy, TurnInput
from lash_hookspecs.values import frozen

__all__ = ["ChildTurns"]

T = TypeVar("T", int, float)


@frozen
class ChildTurns:
    """Those of one plugin, within the effect of a tool's call."""

    directs: DirectCalls
    place: DirectPlace
    plugin_id: str

    def bounded(self, given: TurnInput | str, policy: SessionPolicy) -> TurnInput | str:
        """The input with no more to spend than is left to the turn that waits; its own limits hold as well.

        What a turn may spend doesn't make it another question, so one that is stored is found all the same.
        """
        budget = self.directs.budget
        left = None if budget is None else budget.left()
        if left is None:
            return given
        asked = TurnInput.text(given) if isinstance(given, str) else given
        said, own = asked.context.budget, policy.budget
        limits = (said.over(own) if own is not None else said) if said is not None else own
        if limits is not None:
            left = Budget(
                max_cost=_least(left.max_cost, limits.max_cost),
                max_tokens=_least(left.max_tokens, limits.max_tokens),
                session_max_cost=limits.session_max_cost,
                session_max_tokens=limits.session_max_tokens,
            )
        return evolve(asked, context=evolve(asked.context, budget=left))

    async def settle(self, turn: AssembledTurn, policy: SessionPolicy) -> None:
        """Have a record of what it has cost, once, however often the tool asks for the turn."""
        await self.directs.settle(self.place, self.plugin_id, turn, policy.model)


def _least(one: T | None, other: T | None) -> T | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
