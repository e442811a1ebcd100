"""Turns that tools run on other sessions: what they may spend, and that it counts in the turn that waits for them.

That something may be paid is recorded before such a turn begins, and what it was when the turn is over, or when nobody
waits for it any more. So whatever dies or is cut, the turn that asked is charged, or says "at least".
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import anyio
from attrs import evolve

from lash_framework.budget import Payer, rest
from lash_framework.cut_calls import begun
from lash_framework.direct_calls import DirectCalls, DirectPlace
from lash_framework.turn_job import TurnJob
from lash_hookspecs.costs import Budget
from lash_hookspecs.effect_commands import DirectCommand
from lash_hookspecs.effects import RuntimeEffectEnvelope
from lash_hookspecs.llm import LlmCallError, LlmRequest, LlmResponse, TokenUsage
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy, TurnInput
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.session import Session

__all__ = ["ChildTurns"]

T = TypeVar("T", int, float)

log = logging.getLogger("lash.turn")

_CUT = "cut"
_NOTHING = TokenUsage()


@frozen(kw_only=True)
class Charge:
    """One record of what a turn has cost here: `before` is what was paid, here and by others, when it was opened.

    `is_open`: somebody waits for the turn, or did when it was killed.
    """

    asked: RuntimeEffectEnvelope
    command: DirectCommand
    before: TokenUsage
    is_open: bool


@frozen
class ChildTurns:
    """Those of one plugin, within the effect of a tool's call."""

    directs: DirectCalls
    place: DirectPlace
    plugin_id: str

    async def run(self, session: Session, turn_id: str, given: TurnInput | str) -> AssembledTurn:
        """Run a turn to its end, bounded by what is left, and have a record of what it has cost, once."""
        given = self._bounded(given, session.policy, self._charge(session, turn_id).before)
        if self.place.is_over:  # nobody waits for it
            return await TurnJob(session._resident, given, {"turn_id": turn_id}).run(None)
        key = session.id, turn_id
        job = TurnJob(session._resident, given, {"turn_id": turn_id}, partial(self._paying, session))
        self.directs.waited_for.append(key)
        try:
            turn = await job.run(None)
        finally:
            self.directs.waited_for.remove(key)
        charge = self._charge(session, turn_id)
        if charge.is_open:  # whoever waited was killed, and somebody else ended the turn
            await self._settle(charge, LlmResponse(usage=rest(turn.usage, charge.before)))
        return turn

    def waits_for(self, session_id: str, turn_id: str) -> bool:
        """Whether somebody waits for this turn in the turn that asks: then others in it may, too."""
        return (session_id, turn_id) in self.directs.waited_for

    @asynccontextmanager
    async def _paying(self, session: Session, turn_id: str) -> AsyncIterator[Payer]:
        """Around a turn while nobody else runs its session: who pays for it, as soon as it `begins`."""
        budget, charge = self.directs.budget, self._charge(session, turn_id)
        assert budget is not None  # tools run in a turn, which has one

        async def begins(spent: TokenUsage) -> None:
            nonlocal charge
            if session._resident.lash.journalling is None:
                charge = evolve(charge, before=_NOTHING)  # what was cut isn't gone on with
            elif not charge.is_open:
                charge = self._charge(session, turn_id, spent)
            payer.before, payer.found = charge.before, spent
            charge, is_new = evolve(charge, is_open=True), not charge.is_open
            budget.pays.append(payer)
            if is_new:
                await self.directs.begin_charge(charge.asked, charge.command)

        payer = Payer(budget, begins)
        try:
            yield payer
        except BaseException:
            if payer in budget.pays:  # else it didn't begin: what is open stays so, and says "at least"
                try:
                    await self._close(charge, payer)
                except Exception as error:  # the place has it; what ended the turn is said here
                    log.debug("what turn `%s` has cost wasn't recorded: %s", turn_id, error)
            raise
        if payer in budget.pays:
            await self._close(charge, payer)

    def _charge(self, session: Session, turn_id: str, spent: TokenUsage = _NOTHING) -> Charge:
        """The record that is open, or would be the next one, where so much was `spent` of the turn until now.

        There is one for each time that somebody here waited for it. Who opened it, and with which model, stays: another
        plugin may ask for the same turn after a crash.
        """
        before, model, source = _NOTHING, session.policy.model, self.plugin_id
        for number in count():
            # With the length, or two sessions and their turns could be told by the same letters.
            id = f"turn:{len(session.id)}:{session.id}:{turn_id}:{number}"
            asked = self.directs.charge_envelope(self.place, _command(model, source), id)
            known = self.directs.recorded(asked.key)
            is_open = known is not None and isinstance(known.result, LlmCallError) and known.result.code != _CUT
            if known is not None and not is_open:
                before += (known.before or _NOTHING) + (known.result.usage or _NOTHING)
                continue
            if known is not None:
                model, source, others = known.model, known.source, known.before or _NOTHING
            else:
                others = evolve(rest(spent, before), at_least=False, unpriced=False, service_tier=None)
            command = _command(model, source, None if others == _NOTHING else others)
            asked = self.directs.charge_envelope(self.place, command, id)
            return Charge(asked=asked, command=command, before=before + others, is_open=is_open)
        raise AssertionError("unreachable: numbers don't end")

    async def _close(self, charge: Charge, payer: Payer) -> None:
        """Record what the turn has cost, or what is known of that if it was cut."""
        payer.waits.pays.remove(payer)  # from here on it counts as what is charged
        if payer.ended is not None:
            await self._settle(charge, LlmResponse(usage=rest(payer.ended.usage, charge.before)))
        else:
            spent, found = payer.spent, payer.found
            nothing = payer.turn is None and not (spent.total or spent.picodollars or found.at_least)
            error = LlmCallError(
                message="nobody waited for the turn's end", code=_CUT, usage=None if nothing else spent
            )
            await self._settle(charge, error)

    async def _settle(self, charge: Charge, result: LlmCallError | LlmResponse) -> None:
        outcome = evolve(begun(charge.command), result=result)
        try:
            with anyio.CancelScope(shield=True):  # one write, without which it would be charged here and in no replay
                await self.directs.charge(charge.asked, charge.command, outcome)
        except Exception as error:
            if self.place.is_over:  # perhaps the turn is, too: then it said "at least"
                log.info("what turn `%s` has cost came too late: %s", charge.asked.invocation.subject.effect_id, error)
                return
            self.place.fault = self.place.fault or error
            raise

    def _bounded(self, given: TurnInput | str, policy: SessionPolicy, before: TokenUsage = _NOTHING) -> TurnInput | str:
        """The input with no more to spend than is left to the turn that waits, which paid some of it `before`.

        Its own limits hold as well. What a turn may spend doesn't make it another question, so one that is stored is
        found all the same.
        """
        budget = self.directs.budget
        left = None if budget is None else budget.left(before)
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


def _command(model: str, source: str, before: TokenUsage | None = None) -> DirectCommand:
    """What says whose usage it is; it asks nobody."""
    provider_id, _, name = model.partition(":")
    return DirectCommand(provider_id, LlmRequest(model=name, messages=()), source, before)


def _least(one: T | None, other: T | None) -> T | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
