"""Direct completions: models that hooks and tools ask on their own, each an effect within the effect that runs.

Its record is durable before the plugin has the answer. So whatever is around it may run again: it is paid once. Only
what was begun and has no record is asked, and paid, again; its usage says "at least" then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from attrs import evolve

from lash_framework.around_effects import AroundEffects
from lash_framework.budget import TurnBudget, charged, over_budget_error
from lash_framework.cut_calls import begun
from lash_framework.effects import envelope
from lash_framework.faults import storable_text
from lash_framework.journal import JournalController
from lash_framework.journal_errors import JournalRefusal, effect_label
from lash_framework.machine.answers import answer_text
from lash_framework.model_calls import ask_aside
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.codec import decode
from lash_hookspecs.effect_commands import DirectCommand
from lash_hookspecs.effect_outcomes import DirectOutcome, RuntimeEffectOutcome, expect
from lash_hookspecs.effects import RuntimeEffectEnvelope, child_key
from lash_hookspecs.errors import CodecError, EffectControllerError, LlmCallFailed, PluginError
from lash_hookspecs.journal_rows import JournalStatus
from lash_hookspecs.llm import LlmCallError, LlmRequest, TokenUsage
from lash_hookspecs.llm_messages import LlmMessage, LlmRole, TextBlock
from lash_hookspecs.services import DirectCompletion, DirectCompletionClient
from lash_hookspecs.turn_events import ChildTokenUsage, SessionEvent
from lash_hookspecs.turn_interventions import TurnInterventionKind

if TYPE_CHECKING:
    from anyio import CancelScope

__all__ = ["DirectCalls", "DirectPlace"]

T = TypeVar("T")

_WHERE = "completions"


class DirectPlace:
    """An effect that runs, within which plugins may ask. `fault` is why it must not go on, whatever they made of it.

    `asked` counts each plugin's calls without a key; `busy` are those who wait for such a one; `keys` are in use.
    `calls` are those that a tool makes now.
    """

    __slots__ = ("asked", "busy", "calls", "fault", "is_over", "keys", "parent")

    def __init__(self, parent: RuntimeEffectEnvelope) -> None:
        self.parent = parent
        self.asked: dict[str, int] = {}
        self.busy: set[str] = set()
        self.keys: set[tuple[str, str]] = set()
        self.calls: set[CancelScope] = set()
        self.is_over = False
        self.fault: Exception | None = None

    def end(self) -> None:
        """Nobody waits for the effect's code any more; in a thread it may go on, and asks in vain from now on."""
        self.is_over = True
        for each in self.calls:
            each.cancel()

    def close(self) -> None:
        """The effect's code came to its end. Raises the fault."""
        self.is_over = True
        if self.fault is not None:
            raise self.fault


class DirectCalls:
    """Makes one turn's direct calls. `show` is told what each that is made here has cost."""

    def __init__(self, plan: TurnPlan, around: AroundEffects, show: Callable[[SessionEvent], None]) -> None:
        self._plan = plan
        self._around = around
        self._show = show
        self._place: DirectPlace | None = None
        self.budget: TurnBudget | None = None
        self._known: dict[str, tuple[DirectCommand | None, DirectOutcome]] = {}
        self.waited_for: list[tuple[str, str]] = []
        """The turns on other sessions that somebody waits for now: their sessions' ids, and theirs."""

    async def within(self, parent: RuntimeEffectEnvelope, live: Callable[[], Awaitable[T]]) -> T:
        """Run an effect that has hooks in it: they may ask meanwhile. No two of these overlap."""
        before, place = self._place, DirectPlace(parent)
        self._place = place
        try:
            made = await live()
        except Exception as error:
            raise place.fault or error  # noqa: B904  # the same, or why it came to that
        finally:
            self._place, place.is_over = before, True
        place.close()
        return made

    def client(self, plugin_id: str, place: DirectPlace | None = None) -> DirectCompletionClient:
        """Asks for a plugin, within a place, or the effect with hooks that runs now."""
        return _Client(self, place or self._place, plugin_id)

    def count(self) -> list[ChildTokenUsage]:
        """What the turn's direct calls have cost, by source and model: all that were made or begun, used or not."""
        totals: dict[tuple[str, str], TokenUsage] = {}
        for each in self._all():
            if each.result.usage is not None:
                who = (each.source, each.model)
                totals[who] = totals.get(who, TokenUsage()) + each.result.usage
        return [self._cost(*who, usage, usage) for who, usage in sorted(totals.items())]

    def did(self) -> list[tuple[str, TurnInterventionKind, str]]:
        """What plugins that stood around the turn's direct calls made of them, in an order that no replay changes."""
        return sorted((by.plugin_id, by.kind, by.detail) for each in self._all() for by in each.did)

    def _all(self) -> Iterable[DirectOutcome]:
        return {**self._left, **{key: outcome for key, (_, outcome) in self._known.items()}}.values()

    @property
    def _left(self) -> dict[str, DirectOutcome]:
        """What records of another process tell of, and nobody asked for here."""
        known: dict[str, DirectOutcome] = {}
        if isinstance(self._plan.controller, JournalController):
            for row in self._plan.controller.recorded.directs:
                if row.key not in self._known and row.status is not JournalStatus.FAILED:
                    try:
                        known[row.key] = decode(DirectOutcome, row.body)
                    except CodecError as error:
                        text = f"the record of {row.label} is broken: {error}"
                        raise JournalRefusal("runtime_effect_corrupt", text, label=row.label) from error
        return known

    def _cost(self, source: str, model: str, usage: TokenUsage, cumulative: TokenUsage) -> ChildTokenUsage:
        return ChildTokenUsage(
            session_id=self._plan.session_id,
            source=source,
            model=model,
            protocol_iteration=0,
            usage=usage,
            cumulative=cumulative,
        )

    # ---- one call ---------------------------------------------------------------------------------------------------

    async def ask(
        self, place: DirectPlace, plugin_id: str, plan: TurnPlan, request: LlmRequest, id: str, source: str
    ) -> DirectOutcome:
        """The answer, from the record if there is one. What the effect boundary raises is the place's fault."""
        parent = place.parent
        command = DirectCommand(plan.provider_id, request, source)
        asked = envelope(
            parent.invocation.scope,
            command,
            f"{parent.invocation.subject.effect_id}:{plugin_id}:{id}",
            caused_by=parent.invocation.causal_ref(),
            key=child_key(parent.key, plugin_id, f"direct:{id}"),
        )
        try:
            return await self._answer(asked, command, plan)
        except Exception as error:
            place.fault = place.fault or error
            raise

    async def _answer(self, asked: RuntimeEffectEnvelope, command: DirectCommand, plan: TurnPlan) -> DirectOutcome:
        controller, key = self._plan.controller, asked.key
        before, known = self._known.get(key, (None, None))
        if before is not None and known is not None:  # what is around it runs once more in this process
            if before != command:
                text = f"{effect_label(asked)} is not what was asked before, in the same turn"
                raise JournalRefusal("runtime_effect_mismatch", text, label=effect_label(asked))
            return known
        is_live = False

        async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            return DirectOutcome(await ask_aside(plan, command.request))

        async def paid(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            nonlocal is_live
            if self.budget is not None and (refused := self.budget.refuse(command.request, plan, key)) is not None:
                return evolve(begun(command), result=over_budget_error(refused))
            is_live = True
            self._known[key] = (None, begun(command))
            made = expect(await self._around(run)(envelope), DirectOutcome)
            return evolve(begun(command), result=charged(plan, made.result), did=made.did)

        try:
            outcome = expect(await controller.execute(asked, paid), DirectOutcome)
        except EffectControllerError:
            self._known.pop(key, None)  # it has a record that says so, or the turn doesn't go on
            raise
        except BaseException:
            if isinstance(controller, JournalController) and controller.began(key):
                self._known[key] = (None, begun(command))
            raise
        else:
            self._known[key] = (command, outcome)
        finally:
            if self.budget is not None:
                self.budget.settled(key)
        if is_live:
            self._show_cost(outcome)
        return outcome

    def _show_cost(self, outcome: DirectOutcome) -> None:
        if (usage := outcome.result.usage) is not None:
            made = [each for each in self.count() if (each.source, each.model) == (outcome.source, outcome.model)]
            self._show(evolve(made[0], usage=usage))

    # ---- turns on other sessions ------------------------------------------------------------------------------------

    def recorded(self, key: str) -> DirectOutcome | None:
        """What is known of a call, or of a turn on another session, from this process or from the rows of another."""
        known = self._known.get(key)
        return self._left.get(key) if known is None else known[1]

    def charge_envelope(self, place: DirectPlace, command: DirectCommand, id: str) -> RuntimeEffectEnvelope:
        """The effect that says what a turn on another session has cost, whichever step of this turn asks for it."""
        return envelope(self._plan.scope, command, id, caused_by=place.parent.invocation.causal_ref())

    async def begin_charge(self, asked: RuntimeEffectEnvelope, command: DirectCommand) -> None:
        """Have it known that something may be paid, whatever becomes of who asked."""
        controller = self._plan.controller
        try:
            await controller.prepare([asked])
        finally:
            if not isinstance(controller, JournalController) or controller.began(asked.key):
                self._known.setdefault(asked.key, (None, begun(command)))

    async def charge(self, asked: RuntimeEffectEnvelope, command: DirectCommand, outcome: DirectOutcome) -> None:
        """Have a record of what it has cost; it was made and paid there."""
        self._known[asked.key] = (command, outcome)

        async def known(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            return outcome

        expect(await self._plan.controller.execute(asked, known), DirectOutcome)
        self._show_cost(outcome)


class _Client(DirectCompletionClient):
    """One plugin's, within one effect."""

    def __init__(self, calls: DirectCalls, place: DirectPlace | None, plugin_id: str) -> None:
        self._calls = calls
        self._place = place
        self._plugin_id = plugin_id

    async def complete(
        self,
        asked: str | LlmRequest,
        *,
        key: str | None = None,
        instructions: str | None = None,
        model: str | None = None,
        source: str | None = None,
    ) -> DirectCompletion:
        place, plugin_id = self._place, self._plugin_id
        if place is None or place.is_over:
            raise self._error("it was asked when its hook or tool had returned: no record could hold the answer")
        plan = self._calls._plan.services.with_model(model)
        request = self._request(plan, asked, instructions)
        if key is not None:
            id = f"={key}"
            if (plugin_id, id) in place.keys:
                raise self._error(f"the key `{key}` was used before within the same effect; each call has its own")
            place.keys.add((plugin_id, id))
        elif plugin_id in place.busy:
            raise self._error("two calls without a key at once: nobody could tell which is which; give each a `key=`")
        else:
            id = str(place.asked.get(plugin_id, 0))
            place.asked[plugin_id] = int(id) + 1
            place.busy.add(plugin_id)
        try:
            outcome = await self._calls.ask(place, plugin_id, plan, request, id, source or plugin_id)
        finally:
            if key is None:
                place.busy.discard(plugin_id)
        result = outcome.result
        if isinstance(result, LlmCallError):
            raise LlmCallFailed(result)
        return DirectCompletion(text=answer_text(result), usage=result.usage, response=result)

    def _request(self, plan: TurnPlan, asked: str | LlmRequest, instructions: str | None) -> LlmRequest:
        if isinstance(asked, LlmRequest):
            if instructions is not None:
                raise self._error("`instructions` are for a text; a request has messages of its own")
            return evolve(asked, model=plan.model)
        if not isinstance(asked, str):
            raise self._error(f"asked is a `{type(asked).__name__}`, not a text or an `LlmRequest`")
        said = [] if instructions is None else [_said(LlmRole.SYSTEM, instructions)]
        said.append(_said(LlmRole.USER, asked))
        return LlmRequest(model=plan.model, messages=said)

    def _error(self, text: str) -> PluginError:
        return PluginError(self._plugin_id, _WHERE, text)


def _said(role: LlmRole, text: str) -> LlmMessage:
    return LlmMessage(role, (TextBlock(text=storable_text(text)),))
