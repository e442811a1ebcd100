"""A turn that was begun with a journal: run live, gone on with from its records, or left for somebody to decide.

Its four ends: committed (finished or cancelled), interrupted (the journal stays, and who opens the session next goes
on), suspended (it waits for a person), blocked (it can't go on).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve

from lash_framework.accepted import TurnRequest, bare_request, changed_versions, lacking, what_was_accepted
from lash_framework.admission import Journalling
from lash_framework.cancel_gate import CancelGate
from lash_framework.cut_calls import cut_row, may_be_cut
from lash_framework.held_turn import HeldTurn
from lash_framework.journal import JournalController
from lash_framework.journal_errors import EffectsSuspended, cause
from lash_framework.journal_queue import Later
from lash_framework.queued_inputs import queued_inputs
from lash_framework.stream import Sink
from lash_framework.turn import TurnRun
from lash_framework.turn_planning import check_request
from lash_hookspecs.effect_outcomes import TurnStop
from lash_hookspecs.errors import (
    BudgetExceeded,
    CommitRefused,
    ConfigurationError,
    LashError,
    ReplayError,
    StoreCorrupt,
    TurnBlocked,
    TurnSuspended,
)
from lash_hookspecs.inbox import InboxItem, InboxState
from lash_hookspecs.journal import TurnBegun
from lash_hookspecs.journal_rows import Settlement
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy
from lash_hookspecs.turn_outcomes import StopReason

if TYPE_CHECKING:
    from lash_framework.budget import Payer
    from lash_framework.composition import Composition
    from lash_framework.recorded_only import RecordedOnly
    from lash_framework.resident import Resident

__all__ = ["BegunTurn"]

log = logging.getLogger("lash.turn")

MAX_ATTEMPTS = 3
"""How often in a row a turn may come to nothing, for one reason, before somebody has to decide."""


class BegunTurn:
    """One attempt at a turn that was begun; without a `request`, what was accepted is run.

    Nothing is run any more of one that was asked to end after it was begun, or was stopped before: its records are
    committed, as cancelled or stopped. `abandon`: nor of this one; if it is `bare`, there is nothing to keep of its
    journal but what it has cost.
    """

    def __init__(
        self,
        session: Resident,
        journalling: Journalling,
        begun: TurnBegun,
        request: TurnRequest | None,
        gate: CancelGate,
        *,
        abandon: bool = False,
        bare: TokenUsage | None = None,
    ) -> None:
        assert begun.lease is not None  # both come with a turn
        assert begun.item is not None
        self._session = session
        self._journalling = journalling
        self._begun = begun
        self._lease, self._item, self._rows = begun.lease, begun.item, begun.rows
        self._request = request
        self._gate = gate
        self._keep = journalling.keep and bare is None
        self._spent = bare or TokenUsage()
        self._died = begun.displaced is not None  # nobody let go of the lease
        self._is_fresh = request is not None and begun.item.attempts == 1 and not begun.rows
        self._cancelled = begun.item.cancel_reason
        self._stop: TurnStop | None = None
        if begun.rows:
            from lash_framework.recorded_only import recorded_stop

            self._stop = recorded_stop(begun.rows)
        if self._stop is not None and self._stop.reason is StopReason.CANCELLED:
            self._cancelled = self._cancelled or "it was cancelled before"
        self._recorded_only = abandon or self._stop is not None or begun.item.cancel_reason is not None
        if abandon and self._stop is not None:  # it may be the way there that can't be gone
            self._stop, self._keep = None, False
        self._policy: SessionPolicy | None = None  # the turn's, if it isn't the session's
        self._controller: JournalController | None = None

    async def run(
        self, *, deadline: float = math.inf, sink: Sink | None = None, force: bool = False, payer: Payer | None = None
    ) -> tuple[TurnRun, AssembledTurn]:
        """Run it to its commit. `force`: also if it was blocked. `payer` pays for it besides its own session.

        Raises `TurnSuspended` and `TurnBlocked`; after anything else that is raised, the turn was interrupted.
        """
        lease, item, journalling = self._lease, self._item, self._journalling
        if item.fruitless >= MAX_ATTEMPTS and not (force or self._recorded_only):
            raise await self._given_up()
        try:
            ended = await self._to_commit(deadline, sink, payer)
        except EffectsSuspended as waiting:
            try:
                await self._save()  # what hooks made of an answer, so that they aren't told of it twice
            finally:
                await journalling.park(lease, item.no, InboxState.SUSPENDED)
            id = self._session.id
            raise TurnSuspended(id, item.turn_id or "", waiting.keys, questions=waiting.questions) from None
        except (ReplayError, ConfigurationError, StoreCorrupt) as error:
            never_ran = self._is_fresh and not (self._controller is not None and self._controller.acted)
            if never_ran and not isinstance(error, ReplayError):
                await journalling.park(lease, item.no, InboxState.CANCELLED)
                raise
            await self._leave(error)
            raise self._blocked(str(error)) from error
        except (BudgetExceeded, CommitRefused) as error:
            if self._recorded_only and self._rows:
                return await self._without_records(error)
            if self._recorded_only:
                await journalling.let_go(lease, lost=self._lost(True))
            elif await self._leave(error):
                raise self._blocked(str(error)) from error
            raise
        except BaseException:
            saved = True
            try:
                saved = await self._save()
            finally:
                await journalling.let_go(lease, lost=self._lost(saved))
            raise
        if self._policy is not None:
            self._session.forget()  # what is stored now says how the next turn runs, but for what was said here
        return ended

    # ---- to its commit ----------------------------------------------------------------------------------------------

    async def _to_commit(
        self, deadline: float, sink: Sink | None, payer: Payer | None
    ) -> tuple[TurnRun, AssembledTurn]:
        session, item, gate = self._session, self._item, self._gate
        request = self._known_request()
        if self._cancelled is not None:
            gate.request(self._cancelled)
        composition = session.lash.host.composition((self._policy or session.policy).mode_id)
        ends: Callable[[], None] | None = None
        if self._recorded_only:
            self._controller = recorded = self._recorded(composition)
            ends = recorded.end
        else:
            self._controller = self._journal(composition)
            gate.shut = bool(self._rows)
        if payer is not None:
            await payer.begins(self._costs())
            request = evolve(request, payer=payer)
        with self._journalling.keeper.holding(self._lease, item.no, gate):
            return await HeldTurn(session, request, gate, deadline).run(
                self._controller,
                sink,
                policy=self._policy,
                revision=self._begun.head_revision,
                settle=self._settlement,
                queued=partial(queued_inputs, session),
                ends=ends,
                stop=self._stop,
                waited=item.no if self._request is None and item.attempts == 1 else None,
            )

    def _known_request(self) -> TurnRequest:
        """The request, and with it the turn's policy: as they were accepted, if somebody else may have begun with them.

        Of a turn that isn't run any more, and can't be read, no more than its input is kept.
        """
        asked = self._request
        if asked is not None and self._is_fresh:
            return asked
        try:
            known, self._policy = what_was_accepted(self._item, self._rows, self._session.lash.host.composition)
            if self._recorded_only:
                check_request(self._session, known, self._policy)
        except (ConfigurationError, StoreCorrupt, ReplayError) as error:
            if not self._recorded_only:
                raise
            self._tell_of_loss(error)
            known = bare_request(self._item)
            self._policy, self._stop, self._keep = None, None, False  # of the records nothing is used
        return known if asked is None else evolve(known, turn_input=asked.turn_input, wish=asked.wish)

    def _journal(self, composition: Composition) -> JournalController:
        """What answers from the records, and runs and records all behind them."""
        journalling, tracer = self._journalling, self._session.lash.tracer
        append = partial(journalling.append, self._lease, self._item.no)
        return JournalController(
            self._rows,
            append,
            later=Later(partial(append, synced=False), journalling.store.sync),
            died=self._died,
            tool_owners=composition.tool_owners,
            parts=journalling.parts,
            persistent=journalling.store.persistent,
            around=journalling.around if tracer is None else tracer.traced(journalling.around),
            when_live=self._gate.open if self._rows else None,
        )

    def _recorded(self, composition: Composition) -> RecordedOnly:
        """What answers from the records, and runs nothing."""
        from lash_framework.recorded_only import RecordedOnly

        return RecordedOnly(
            self._rows,
            died=self._died,
            tool_owners=composition.tool_owners,
            persistent=self._journalling.store.persistent,
            ending=True,
            spent=self._spent,
            looks=bool(composition.hooks["lash_after_tool_call"] or composition.hooks["lash_tool_result_view"]),
        )

    def _settlement(self, run: TurnRun) -> Settlement:
        """What the commit does with the item and the journal."""
        rows = self._controller.held if self._keep and self._controller is not None else ()
        return Settlement(
            lease=self._lease, item=self._item.no, applied=run.applied, keep_journal=self._keep, rows=rows
        )

    def _costs(self) -> TokenUsage:
        from lash_framework.recorded_costs import recorded_costs

        return recorded_costs(self._rows, died=self._died)

    async def _without_records(self, error: LashError) -> tuple[TurnRun, AssembledTurn]:
        """Commit a turn that isn't run any more without its records, so that the session is rid of it."""
        self._tell_of_loss(error)
        begun = evolve(self._begun, rows=())
        bare = BegunTurn(self._session, self._journalling, begun, None, self._gate, abandon=True, bare=self._costs())
        return await bare.run()

    def _tell_of_loss(self, error: LashError) -> None:
        log.warning("of turn `%s` no more than its input is kept: %s", self._item.turn_id, error)

    # ---- left -------------------------------------------------------------------------------------------------------

    async def _save(self) -> bool:
        """Write what is held; False if it can't be.

        A `Task.cancel()` comes out of that write, and the session is let go of all the same.
        """
        return self._controller is None or await self._controller.save()

    def _lost(self, saved: bool) -> InboxItem | None:
        """The item, if whoever follows must be told that a call may have been paid for: what we know isn't written."""
        notes = self._controller is not None and not self._recorded_only
        return None if saved and (notes or not self._died) else self._item

    async def _leave(self, error: LashError) -> bool:
        """Leave a turn that can't go on: for the next attempt, or, if this was the last one, for a person.

        Only attempts that came to nothing, one after the other and for one reason, count. True: it was the last one.
        """
        item, reason = self._item, str(error)
        again = item.reason is not None and cause(item.reason) == cause(reason)
        in_vain = again and not (self._controller is not None and self._controller.progressed)
        count = item.fruitless + 1 if in_vain else 1
        state = InboxState.BLOCKED if count >= MAX_ATTEMPTS else InboxState.STUCK
        saved = True
        try:
            saved = await self._save()
        finally:
            lost = self._lost(saved)
            await self._journalling.park(self._lease, item.no, state, reason=reason, fruitless=count, lost=lost)
        return state is InboxState.BLOCKED

    async def _given_up(self) -> TurnBlocked:
        """Leave a turn for a person that came to nothing too often, without another attempt."""
        lease, item, rows = self._lease, self._item, self._rows
        if may_be_cut(rows, died=self._died) and not may_be_cut(rows, died=False):
            await self._journalling.note(lease, item.no, [cut_row(len(rows))])
        deaths = f"its process died {item.fruitless} times in a row before anything more was recorded"
        text = item.reason or deaths
        await self._journalling.park(lease, item.no, InboxState.BLOCKED, reason=text, fruitless=item.fruitless)
        return self._blocked(text)

    def _blocked(self, reason: str) -> TurnBlocked:
        lacks = lacking(changed_versions(self._item, self._session.lash.host.composition))
        return TurnBlocked(self._session.id, self._item.turn_id or "", reason, lacks)
