"""Turns that tools run on other sessions: what they may spend, and that it counts in the turn that waits for them.

That something may be paid is recorded before such a turn begins, and what it was when the turn is over, or when nobody
waits for it any more. So whatever dies or is cut, the turn that asked is charged, or says "at least".
"""

from __future__ import annotations

import logging
from itertools import count
from typing import TYPE_CHECKING, TypeVar

import anyio
from attrs import evolve

from lash_framework.budget import Payer
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

_CUT, _STORED = "cut", "stored"
_NOTHING = TokenUsage()


@frozen
class ChildTurns:
    """Those of one plugin, within the effect of a tool's call."""

    directs: DirectCalls
    place: DirectPlace
    plugin_id: str

    async def run(self, session: Session, turn_id: str, given: TurnInput | str) -> AssembledTurn:
        """Run a turn to its end, bounded by what is left, and have a record of what it has cost, once."""
        budget, policy = self.directs.budget, session.policy
        assert budget is not None  # tools run in a turn, which has one
        payer = Payer(budget)
        job = TurnJob(session._resident, self._bounded(given, policy), {"turn_id": turn_id}, payer)
        found = None if self.place.is_over else self._charge(session.id, turn_id, policy.model)
        if found is None:
            return await job.run(None)
        asked, command, before = found
        if session._resident.lash.journalling is None:
            before = _NOTHING  # what was cut isn't gone on with
        self.directs.waited_for.add(asked.key)
        budget.pays.append(payer)
        try:
            await self.directs.begin_charge(asked, command)
            turn = await job.run(None)
            await self._settle(asked, command, before, payer, turn)
        except BaseException:
            if payer in budget.pays:  # else it is settled, or can't be
                try:
                    await self._settle(asked, command, before, payer, job.committed)
                except Exception as error:  # the place has it; what ended the turn is said here
                    log.debug("what turn `%s` has cost wasn't recorded: %s", turn_id, error)
            raise
        finally:
            self.directs.waited_for.discard(asked.key)
        return turn

    def _charge(
        self, session_id: str, turn_id: str, model: str
    ) -> tuple[RuntimeEffectEnvelope, DirectCommand, TokenUsage] | None:
        """The effect that will say what the turn has cost, and what is charged of it already. None: somebody does that.

        There is one for each time that it was waited for and cut, and a last one. Who recorded it first, and with which
        model, stays: another plugin may ask for the same turn after a crash.
        """
        before = _NOTHING
        for number in count():
            provider_id, _, name = model.partition(":")
            command = DirectCommand(provider_id, LlmRequest(model=name, messages=()), self.plugin_id)
            id = f"turn:{session_id}:{turn_id}" + (f":{number}" if number else "")
            asked = self.directs.charge_envelope(self.place, command, id)
            if asked.key in self.directs.waited_for:
                return None
            known = self.directs.recorded(asked.key)
            if known is None:
                return asked, command, before
            if isinstance(known.result, LlmResponse) or known.result.code == _STORED:
                return None
            if known.result.code != _CUT:  # whoever waited for it was killed
                provider_id, _, name = known.model.partition(":")
                command = DirectCommand(provider_id, LlmRequest(model=name, messages=()), known.source)
                return self.directs.charge_envelope(self.place, command, id), command, before
            before += known.result.usage or _NOTHING
        raise AssertionError("unreachable: numbers don't end")

    async def _settle(
        self,
        asked: RuntimeEffectEnvelope,
        command: DirectCommand,
        before: TokenUsage,
        payer: Payer,
        turn: AssembledTurn | None,
    ) -> None:
        """Record what the turn has cost, or what is known of that if it was cut.

        One that began before the turn that asks is a stored one, which was paid for before.
        """
        result: LlmCallError | LlmResponse
        if turn is None:
            spent = None if payer.turn is None else _rest(payer.spent, before)
            result = LlmCallError(message="nobody waited for the turn's end", code=_CUT, usage=spent)
        elif turn.usage == _NOTHING or turn.started_at_ms < self.directs.began_at_ms:
            result = LlmCallError(message="the turn was paid for before", code=_STORED)
        else:
            result = LlmResponse(usage=_rest(turn.usage, before))
        payer.waits.pays.remove(payer)  # from here on it counts as what is charged
        try:
            with anyio.CancelScope(shield=True):  # one write, without which it would be charged here and in no replay
                await self.directs.charge(asked, command, evolve(begun(command), result=result))
        except Exception as error:
            self.place.fault = self.place.fault or error
            raise

    def _bounded(self, given: TurnInput | str, policy: SessionPolicy) -> TurnInput | str:
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


def _rest(usage: TokenUsage, before: TokenUsage) -> TokenUsage:
    """What is to be charged yet of a turn, of which a part was."""
    counts = ("input", "output", "cache_read_input", "cache_write_input", "reasoning_output", "picodollars")
    return evolve(usage, **{each: max(0, getattr(usage, each) - getattr(before, each)) for each in counts})


def _least(one: T | None, other: T | None) -> T | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
