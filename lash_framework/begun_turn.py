"""A turn that was begun with a journal: run live, gone on with from its records, or left for somebody to decide.

Its four ends: committed (finished or cancelled), interrupted (the journal stays, and who opens the session next goes
on), suspended (it waits for a person), blocked (it can't go on).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from attrs import evolve

from lash_framework.accepted import TurnRequest, bare_request, changed_versions, lacking, restored
from lash_framework.admission import Journalling
from lash_framework.cut_calls import cut_row, is_cut, may_be_cut
from lash_framework.held_turn import HeldTurn
from lash_framework.journal import JournalController
from lash_framework.journal_errors import EffectsSuspended, cause
from lash_framework.journal_queue import Later
from lash_framework.queued_inputs import queued_inputs
from lash_framework.stream import Sink
from lash_framework.turn import TurnRun
from lash_framework.turn_plan import CancelGate
from lash_hookspecs.codec import decode
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.effect_outcomes import TurnStartOutcome, TurnStop
from lash_hookspecs.errors import (
    BudgetExceeded,
    CodecError,
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
from lash_hookspecs.journal_rows import JournalRow, JournalStatus, Settlement
from lash_hookspecs.llm import JsonSchemaOutput, TokenUsage
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy
from lash_hookspecs.turn_outcomes import StopReason

if TYPE_CHECKING:
    from lash_framework.budget import Payer
    from lash_framework.lash import Lash
    from lash_framework.resident import Resident

__all__ = ["MAX_ATTEMPTS", "run_begun", "what_was_accepted"]

log = logging.getLogger("lash.turn")

MAX_ATTEMPTS = 3
"""How often in a row a turn may come to nothing, for one reason, before somebody has to decide."""


async def run_begun(
    session: Resident,
    journalling: Journalling,
    begun: TurnBegun,
    request: TurnRequest | None,
    gate: CancelGate,
    *,
    deadline: float = math.inf,
    sink: Sink | None = None,
    force: bool = False,
    abandon: bool = False,
    bare: TokenUsage | None = None,
    payer: Payer | None = None,
) -> tuple[TurnRun, AssembledTurn]:
    """Run a turn that was begun to its commit; without a `request`, what was accepted is run.

    `force`: also if it was blocked. `abandon`: run nothing, and commit what is recorded as stopped; if that is `bare`,
    there is nothing to keep of its journal but what it has cost. `payer` pays for it besides its own session.
    A turn that was asked to end after it was begun isn't run any more either: its records are committed as cancelled.
    Raises `TurnSuspended` and `TurnBlocked`; after anything else that is raised, the turn was interrupted.
    """
    lease, item = begun.lease, begun.item
    assert lease is not None  # both come with a turn
    assert item is not None
    stop: TurnStop | None = None
    if begun.rows:
        from lash_framework.recorded_only import recorded_stop

        stop = recorded_stop(begun.rows)
    cancelled = item.cancel_reason
    if stop is not None and stop.reason is StopReason.CANCELLED:
        cancelled = cancelled or "it was cancelled before"
    recorded_only = abandon or stop is not None or item.cancel_reason is not None
    died = begun.displaced is not None  # nobody let go of the lease
    if item.fruitless >= MAX_ATTEMPTS and not (force or recorded_only):
        if may_be_cut(begun.rows, died=died) and not may_be_cut(begun.rows, died=False):
            await journalling.note(lease, item.no, [cut_row(len(begun.rows))])
        deaths = f"its process died {item.fruitless} times in a row before anything more was recorded"
        text = item.reason or deaths
        await journalling.park(lease, item.no, InboxState.BLOCKED, reason=text, fruitless=item.fruitless)
        raise _blocked(session, item, text)
    waited = item.no if request is None and item.attempts == 1 else None
    is_fresh = request is not None and item.attempts == 1 and not begun.rows
    controller: JournalController | None = None
    keep = journalling.keep and bare is None
    if abandon and stop is not None:  # it may be the way there that can't be gone
        stop, keep = None, False
    try:
        policy: SessionPolicy | None = None
        if request is None or not is_fresh:
            try:
                known, policy = what_was_accepted(session.lash, item, begun.rows)
                if recorded_only:
                    HeldTurn(session, known, gate).check(policy)
            except (ConfigurationError, StoreCorrupt, ReplayError) as error:
                if not recorded_only:
                    raise
                log.warning("of turn `%s` no more than its input is kept: %s", item.turn_id, error)
                known, policy, stop, keep = bare_request(item), None, None, False  # of the records nothing is used
            if request is not None:
                known = evolve(known, turn_input=request.turn_input, wish=request.wish)
            request = known
        if cancelled is not None:
            gate.request(cancelled)
        composition = session.lash.host.composition((policy or session.policy).mode_id)
        owners = composition.tool_owners
        persistent = journalling.store.persistent
        ends, tracer = None, session.lash.tracer
        if recorded_only:
            from lash_framework.recorded_only import RecordedOnly

            controller = only = RecordedOnly(
                begun.rows,
                died=died,
                tool_owners=owners,
                persistent=persistent,
                ending=True,
                spent=bare or TokenUsage(),
                looks=bool(composition.hooks["lash_after_tool_call"] or composition.hooks["lash_tool_result_view"]),
            )
            ends = only.end
        else:
            append = partial(journalling.append, lease, item.no)
            controller = JournalController(
                begun.rows,
                append,
                later=Later(partial(append, synced=False), journalling.store.sync),
                died=died,
                tool_owners=owners,
                parts=journalling.parts,
                persistent=persistent,
                around=journalling.around if tracer is None else tracer.traced(journalling.around),
                when_live=gate.open if begun.rows else None,
            )
            gate.shut = bool(begun.rows)
        if payer is not None:
            from lash_framework.recorded_costs import recorded_costs

            await payer.begins(recorded_costs(begun.rows, died=died))
            request = evolve(request, payer=payer)

        def settle(run: TurnRun) -> Settlement:
            rows = controller.held if keep and controller is not None else ()
            return Settlement(lease=lease, item=item.no, applied=run.applied, keep_journal=keep, rows=tuple(rows))

        held = HeldTurn(session, request, gate, deadline)
        with journalling.keeper.holding(lease, item.no, gate):
            run, turn = await held.run(
                controller,
                sink,
                policy=policy,
                revision=begun.head_revision,
                settle=settle,
                queued=partial(queued_inputs, session),
                ends=ends,
                stop=stop,
                waited=waited,
            )
    except EffectsSuspended as waiting:
        try:
            if controller is not None:
                await controller.save()  # what hooks made of an answer, so that they aren't told of it twice
        finally:
            await journalling.park(lease, item.no, InboxState.SUSPENDED)
        raise TurnSuspended(session.id, item.turn_id or "", waiting.keys, questions=waiting.questions) from None
    except (ReplayError, ConfigurationError, StoreCorrupt) as error:
        never_ran = is_fresh and not (controller is not None and controller.acted)
        if never_ran and not isinstance(error, ReplayError):
            await journalling.withdraw(lease, item.no)
            raise
        await _leave(journalling, begun, controller, error)
        raise _blocked(session, item, str(error)) from error
    except (BudgetExceeded, CommitRefused) as error:
        if recorded_only and begun.rows:  # then without them, so that the session is rid of it
            log.warning("of turn `%s` no more than its input is kept: %s", item.turn_id, error)
            from lash_framework.recorded_costs import recorded_costs

            bare = recorded_costs(begun.rows, died=died)
            return await run_begun(session, journalling, evolve(begun, rows=()), None, gate, abandon=True, bare=bare)
        if recorded_only:
            await journalling.let_go(lease)
        elif await _leave(journalling, begun, controller, error):
            raise _blocked(session, item, str(error)) from error
        raise
    except BaseException:
        try:
            if controller is not None:
                await controller.save()
        finally:  # a task that is cancelled once more comes out of that write
            await journalling.let_go(lease)
        raise
    if policy is not None:
        session.forget()  # what is stored now says how the next turn runs, but for what was said here
    return run, turn


def _blocked(session: Resident, item: InboxItem, reason: str) -> TurnBlocked:
    lacks = lacking(changed_versions(item, session.lash.host.composition))
    return TurnBlocked(session.id, item.turn_id or "", reason, lacks)


def what_was_accepted(lash: Lash, item: InboxItem, rows: Sequence[JournalRow]) -> tuple[TurnRequest, SessionPolicy]:
    """The request as it was accepted, and the policy that the turn began with, or will."""
    request, accepted = restored(item, lash.host.composition)
    output = request.turn_input.output
    if isinstance(output, JsonSchemaOutput):
        from lash_framework.structured import OutputWish

        request = evolve(request, wish=OutputWish(None, output))
    first = next((row for row in rows if not is_cut(row)), None)
    if first is None or first.kind != RuntimeEffectKind.TURN_START or first.status is not JournalStatus.DONE:
        return request, accepted.policy
    try:
        begun_with = decode(TurnStartOutcome, first.body)
    except CodecError as error:
        text = f"the first record of turn `{item.turn_id}` can't be read: {error}"
        raise ReplayError("runtime_effect_corrupt", text) from error
    if request.turn_input.context.model is None:
        return request, begun_with.policy
    return request, evolve(begun_with.policy, model=accepted.policy.model)  # the turn's own model isn't the session's


async def _leave(
    journalling: Journalling, begun: TurnBegun, controller: JournalController | None, error: LashError
) -> bool:
    """Leave a turn that can't go on: for the next attempt, or, if this was the last one, for a person.

    Only attempts that came to nothing, one after the other and for one reason, count. True: it was the last one.
    """
    lease, item, reason = begun.lease, begun.item, str(error)
    assert lease is not None  # both come with a turn
    assert item is not None
    if controller is not None:
        await controller.save()
    again = item.reason is not None and cause(item.reason) == cause(reason)
    in_vain = again and not (controller is not None and controller.progressed)
    count = item.fruitless + 1 if in_vain else 1
    state = InboxState.BLOCKED if count >= MAX_ATTEMPTS else InboxState.STUCK
    await journalling.park(lease, item.no, state, reason=reason, fruitless=count)
    return state is InboxState.BLOCKED
