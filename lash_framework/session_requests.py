"""What is asked of a session, durably, by whoever has it open: that its turn ends, that it takes an input."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
from attrs import evolve

from lash_framework.accepted import TurnRequest
from lash_framework.admission import BUSY_POLL_S
from lash_framework.arguments import ENQUEUED_WITH, check_arguments
from lash_framework.inputs import input_hash, normalized, stored_images
from lash_framework.recovery import first_of, recover, recover_quietly
from lash_framework.turn_planning import check_request
from lash_hookspecs.codec import decode
from lash_hookspecs.errors import SessionBusy
from lash_hookspecs.inbox import CancelOutcome, InboxItem, Ingress
from lash_hookspecs.sessions import AssembledTurn, TurnInput
from lash_hookspecs.stores import OperationId
from lash_hookspecs.turn_outcomes import Stopped, StopReason
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.resident import Resident

__all__ = ["CancelRequest", "cancel", "enqueue"]

log = logging.getLogger("lash.session")

DRAIN_POLL_S = 0.25
"""How often is asked whether a session is free whose inbox waits for that, in seconds."""


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
    item = first_of(await store.list_inbox(session.id))
    if item is None:
        return None
    outcomes = await store.cancel_items(session.id, [item.no], reason)
    return CancelRequest(session, item, outcomes[item.no] is CancelOutcome.CANCELLED, keeps)


async def enqueue(
    session: Resident, given: TurnInput | str, ingress: Ingress, source_key: str | None, *, keeps: object
) -> InboxItem:
    """Accept an input, and see to it that somebody runs it: a turn that runs here, or a task in the background.

    The task holds on to what it `keeps`: whoever opens the session meanwhile must stand in the same line.
    """
    lash = session.lash
    check_arguments({"ingress": ingress, "source_key": source_key}, ENQUEUED_WITH, where="session.enqueue")
    journalling = lash.require_journal("`session.enqueue`")
    if lash.background is not None:
        lash.background.require_here()
    turn_input = normalized(given)
    alone = TurnInput(
        items=turn_input.items, image_blobs=turn_input.image_blobs, document_blobs=turn_input.document_blobs
    )
    if turn_input != alone:
        ingress = Ingress.NEXT_TURN  # a model, options, a shape of the answer: a running turn has its own
    request = TurnRequest(turn_id=lash.world.token_hex(16), turn_input=turn_input, input_hash=input_hash(turn_input))
    check_request(session, request)
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
