"""Going on with what was begun or accepted on a session, and isn't committed: after a crash, or from its inbox."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from secrets import token_hex
from typing import TYPE_CHECKING

import anyio
from attrs import evolve

from lash_framework.accepted import TurnRequest
from lash_framework.admission import BUSY_POLL_S, Journalling
from lash_framework.begun_turn import run_begun
from lash_framework.held_turn import HeldTurn
from lash_framework.inputs import input_hash, normalized, stored_images
from lash_framework.journal import JournalController
from lash_framework.turn import TurnRun
from lash_framework.turn_job import watched
from lash_framework.turn_plan import CancelGate
from lash_hookspecs.codec import decode
from lash_hookspecs.errors import LashError, SessionBusy, UnknownName
from lash_hookspecs.inbox import CancelOutcome, InboxItem, Ingress
from lash_hookspecs.journal import TurnBegun
from lash_hookspecs.sessions import AssembledTurn, TurnInput
from lash_hookspecs.stores import OperationId
from lash_hookspecs.turn_outcomes import Stopped, StopReason
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.resident import Resident

__all__ = ["CancelRequest", "RecoveredTurn", "abandon", "cancel", "enqueue", "recover", "recover_quietly"]

log = logging.getLogger("lash.session")


DRAIN_POLL_S = 0.25
"""How often is asked whether a session is free whose inbox waits for that, in seconds."""


@frozen(kw_only=True)
class RecoveredTurn:
    """A turn that was gone on with, and committed: what was `replayed` from its records, and what was run now."""

    turn: AssembledTurn
    replayed: tuple[str, ...]
    ran: tuple[str, ...]


async def recover(session: Resident, *, force: bool = False, until: str | None = None) -> Sequence[RecoveredTurn]:
    """Run everything that waits in the session's inbox, oldest first, and return the turns, committed.

    `force`: try a blocked turn again. `until`: no more after this turn. Raises `SessionBusy` if somebody else runs the
    session, `TurnSuspended` and `TurnBlocked` for a turn that stands in the way of those behind it.
    """
    journalling = session.lash.journalling
    if journalling is None:
        return ()
    session.refuse_from_within()
    ended: list[RecoveredTurn] = []
    async with session.line:
        with session.running():
            while True:
                begun = await journalling.begin(session.id, None)
                if not isinstance(begun, TurnBegun) or begun.item is None:
                    return ended
                ended.append(
                    await _recovered(*await run_begun(session, journalling, begun, None, CancelGate(), force=force))
                )
                if ended[-1].turn.turn_id == until:
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
        await _require_first(journalling, session.id, turn_id)
        begun = await journalling.begin(session.id, None)
        assert isinstance(begun, TurnBegun)  # nothing was to be accepted
        if begun.item is None or begun.lease is None or not (begun.item.turn_id or "").startswith(turn_id):
            if begun.lease is not None:
                await journalling.let_go(begun.lease)
            raise UnknownName("turn", turn_id, hint=f"session `{session.id}` went on meanwhile")
        return await _recovered(*await run_begun(session, journalling, begun, None, CancelGate(), abandon=True))


async def _require_first(journalling: Journalling, session_id: str, turn_id: str) -> None:
    """Raise `UnknownName` for a turn that isn't the next: before that is claimed, since it must be left as it is."""
    items = await journalling.store.list_inbox(session_id)
    first = next((each for each in items if each.attempts), None) or next(iter(items), None)
    if first is None:
        raise UnknownName("turn", turn_id, hint=f"nothing of session `{session_id}` waits to be gone on with")
    if not (first.turn_id or "").startswith(turn_id):
        raise UnknownName("turn", turn_id, hint=f"session `{session_id}` would go on with turn `{first.turn_id}`")


@frozen
class CancelRequest:
    """A cancel that was asked for durably: whoever runs the turn, now or later, sees it."""

    session: Resident
    item: InboxItem
    waited: bool
    """Whether it wasn't begun, so that it never will be."""
    keeps: object = None
    """What holds the session: whoever opens it meanwhile must stand in the same line."""

    @property
    def turn_id(self) -> str:
        """The turn that should end."""
        return self.item.turn_id or ""

    async def won(self) -> bool:
        """Wait for the turn's end: whether it ended as cancelled. A turn that nobody runs is ended here."""
        store = self.session.lash.store
        if self.waited:
            return True
        while True:
            receipt = await store.load_receipt(self.session.id, OperationId("turn", self.turn_id))
            if receipt is not None:
                return decode(AssembledTurn, receipt.result).outcome == Stopped(StopReason.CANCELLED)
            with suppress(SessionBusy):
                await recover(self.session, until=self.turn_id)
                if await store.load_receipt(self.session.id, OperationId("turn", self.turn_id)) is None:
                    return True  # it was never begun
                continue
            await anyio.sleep(BUSY_POLL_S)


async def cancel(session: Resident, reason: str, *, keeps: object) -> CancelRequest | None:
    """Ask durably for the end of the turn that runs, or was interrupted; None if there is none.

    The request holds on to what it `keeps`: see there.
    """
    store = session.lash.require_journal("`session.cancel`").store
    items = await store.list_inbox(session.id)
    item = next((each for each in items if each.attempts), None) or next(
        iter(items), None
    )  # one that was begun is first
    if item is None:
        return None
    outcomes = await store.cancel_items(session.id, [item.no], reason)
    return CancelRequest(session, item, outcomes[item.no] is CancelOutcome.CANCELLED, keeps)


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


async def enqueue(
    session: Resident, given: TurnInput | str, ingress: Ingress, source_key: str | None, *, keeps: object
) -> InboxItem:
    """Accept an input, and see to it that somebody runs it: a turn that runs here, or a task in the background.

    The task holds on to what it `keeps`: whoever opens the session meanwhile must stand in the same line.
    """
    lash = session.lash
    journalling = lash.require_journal("`session.enqueue`")
    turn_input = normalized(given)
    if turn_input != TurnInput(items=turn_input.items, image_blobs=turn_input.image_blobs):
        ingress = Ingress.NEXT_TURN  # a model, options, a shape of the answer: a running turn has its own
    request = TurnRequest(turn_id=token_hex(16), turn_input=turn_input, input_hash=input_hash(turn_input))
    held = HeldTurn(session, request, CancelGate())
    held.check()
    request = evolve(request, images=await stored_images(lash.store, turn_input))
    item = journalling.item(
        session.id, request, session.policy, session.composition, ingress=ingress, source_key=source_key
    )
    accepted = await journalling.store.enqueue(item)
    if lash.background is not None:
        # In line behind a turn that runs, which most likely takes it meanwhile.
        lash.background.start_soon(_drain, session, keeps, name=f"lash inbox of {session.id}")
    return accepted


async def _drain(session: Resident, keeps: object) -> None:
    with session.apart():
        try:
            while not await recover_quietly(session):  # noqa: ASYNC110  # a database sets no event
                await anyio.sleep(DRAIN_POLL_S)  # another process ends with its own turn
        except Exception as error:  # nobody waits for this task, and the host must not end with it
            log.error("the inbox of session `%s` can't be worked off: %s", session.id, error, exc_info=error)
