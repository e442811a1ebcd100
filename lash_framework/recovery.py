"""Going on with what was begun or accepted on a session, and isn't committed: after a crash, or from its inbox."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lash_framework.admission import Journalling
from lash_framework.begun_turn import BegunTurn
from lash_framework.cancel_gate import CancelGate
from lash_framework.journal import JournalController
from lash_framework.turn import TurnRun
from lash_framework.turn_job import watched
from lash_hookspecs.errors import LashError, SessionBusy, UnknownName
from lash_hookspecs.inbox import InboxItem
from lash_hookspecs.journal import TurnBegun
from lash_hookspecs.sessions import AssembledTurn
from lash_hookspecs.stores import OperationId
from lash_hookspecs.values import frozen, mutable

if TYPE_CHECKING:
    from lash_framework.resident import Resident
    from lash_framework.stream import Sink

__all__ = ["RecoveredTurn", "RecoveryGate", "abandon", "first_of", "recover", "recover_quietly"]

log = logging.getLogger("lash.session")


@frozen(kw_only=True)
class RecoveredTurn:
    """A turn that was gone on with, and committed: what was `replayed` from its records, and what was run now."""

    turn: AssembledTurn
    replayed: tuple[str, ...]
    ran: tuple[str, ...]


@mutable(eq=False)
class RecoveryGate:
    """Where a person's wish to stop meets turns that are gone on with: the one that runs is cancelled, none follows."""

    turn_id: str | None = None
    reason: str | None = None
    _gate: CancelGate | None = None

    def cancel(self, reason: str) -> bool:
        """Ask the turn that runs to end, committed as cancelled. False: none runs, or it completed first."""
        self.reason = self.reason or reason
        return self._gate is not None and self._gate.request(reason)

    def attach(self, item: InboxItem) -> CancelGate:
        """The gate of a turn that was begun."""
        self.turn_id, self._gate = item.turn_id, CancelGate()
        if self.reason is not None:
            self._gate.request(self.reason)
        return self._gate


async def recover(
    session: Resident,
    *,
    force: bool = False,
    until: str | None = None,
    gate: RecoveryGate | None = None,
    sink: Sink | None = None,
) -> Sequence[RecoveredTurn]:
    """Run everything that waits in the session's inbox, oldest first, and return the turns, committed.

    `force`: try a blocked turn again. `until`: no more after this turn, whose activities go to the `sink`. `gate`: nor
    after a cancel there. Raises `SessionBusy` if somebody else runs the session, `TurnSuspended` and `TurnBlocked` for
    a turn that stands in the way of those behind it.
    """
    journalling = session.lash.journalling
    if journalling is None:
        return ()
    session.refuse_from_within()
    gate = gate or RecoveryGate()
    ended: list[RecoveredTurn] = []
    while gate.reason is None:
        async with session.line:
            with session.running():
                begun = await journalling.begin(session.id, None)
                if not isinstance(begun, TurnBegun) or begun.item is None:
                    break
                shown = sink if begun.item.turn_id == until else None
                stop = gate.attach(begun.item)
                run, turn = await BegunTurn(session, journalling, begun, None, stop).run(force=force, sink=shown)
        ended.append(await _recovered(run, turn))  # who watches commits may run turns, so others may go on
        if turn.turn_id == until:
            break
    return ended


async def _recovered(run: TurnRun, turn: AssembledTurn) -> RecoveredTurn:
    turn = await watched(run, turn)
    controller = run.plan.controller
    assert isinstance(controller, JournalController)  # whatever is begun has a journal
    return RecoveredTurn(turn=turn, replayed=tuple(controller.replayed), ran=tuple(controller.ran))


async def abandon(session: Resident, turn_id: str) -> RecoveredTurn:
    """Run nothing more of a turn that was begun: commit what is recorded, as stopped.

    Raises `UnknownName` if it isn't the turn that the session would go on with, and `SessionBusy`.
    """
    journalling = session.lash.require_journal("`session.abandon`")
    session.refuse_from_within()
    async with session.line:
        meant = await _first_named(journalling, session.id, turn_id)
        begun = await journalling.begin(session.id, None)
        assert isinstance(begun, TurnBegun)  # nothing was to be accepted
        if begun.item is None or begun.lease is None or begun.item.turn_id != meant:
            if begun.lease is not None:
                await journalling.let_go(begun.lease)
            raise UnknownName("turn", turn_id, hint=f"session `{session.id}` went on meanwhile")
        with session.running():
            run, turn = await BegunTurn(session, journalling, begun, None, CancelGate(), abandon=True).run()
    return await _recovered(run, turn)


def first_of(items: Sequence[InboxItem]) -> InboxItem | None:
    """The item of a session that comes first: one that was begun, else the oldest."""
    return next((each for each in items if each.attempts), None) or next(iter(items), None)


async def _first_named(journalling: Journalling, session_id: str, given: str) -> str:
    """The id of the turn that comes next, if that is the one that is meant: before it is claimed.

    Raises `UnknownName`, also for the whole id of another turn, with which that of the next one only begins.
    """
    items = await journalling.store.list_inbox(session_id)
    first = first_of(items)
    if first is None:
        raise UnknownName("turn", given, hint=f"nothing of session `{session_id}` waits to be gone on with")
    turn_ids = {each.turn_id or "" for each in items}  # those that a turn took have its id
    next_id, begun_so = first.turn_id or "", sum(each.startswith(given) for each in turn_ids)
    if given == next_id:
        return next_id
    committed = await journalling.store.load_receipt(session_id, OperationId("turn", given)) is not None
    if not given or not next_id.startswith(given) or committed or given in turn_ids:
        raise UnknownName("turn", given, hint=f"session `{session_id}` would go on with turn `{next_id}`")
    if begun_so > 1:
        raise UnknownName("turn", given, hint=f"it begins {begun_so} turns' ids: type more of it")
    return next_id


async def recover_quietly(session: Resident) -> bool:
    """The same for whoever opens a session: what stands in the way is logged, and comes up with the next turn.

    False: somebody else runs it, and there may be more to do when they have ended.
    """
    try:
        recovered = await recover(session)
    except SessionBusy:
        return False
    except LashError as error:
        log.warning("%s", error)
        return True
    for each in recovered:
        log.info(
            "turn %s of session `%s` is committed: %d effects from its records, %d run now",
            each.turn.turn_id,
            session.id,
            len(each.replayed),
            len(each.ran),
        )
    return True
