"""What users said to a session while its turn ran, ready for the turn's next checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lash_framework.accepted import restored
from lash_framework.inputs import user_message
from lash_hookspecs.errors import ConfigurationError, StoreCorrupt
from lash_hookspecs.inbox import InboxState, Ingress
from lash_hookspecs.messages import Message

if TYPE_CHECKING:
    from lash_framework.resident import Resident

__all__ = ["queued_inputs"]

log = logging.getLogger("lash.session")


async def queued_inputs(session: Resident) -> Sequence[tuple[int, Message]]:
    """The items that a checkpoint may deliver, in order, as finished messages. Nearly always there are none."""
    journalling = session.lash.require_journal("a checkpoint's look into the inbox")
    store = journalling.store
    if not await store.has_pending(session.id, Ingress.CHECKPOINT):
        return ()
    waiting = await store.list_inbox(session.id, states=frozenset({InboxState.PENDING}))
    found, now_ms = [], journalling.now_ms()
    for item in waiting:
        if item.ingress is Ingress.CHECKPOINT and item.available_at_ms <= now_ms:
            try:
                request, _ = restored(item, session.lash.host.composition)
            except (ConfigurationError, StoreCorrupt) as error:
                log.warning("inbox item %d waits for its own turn: %s", item.no, error)
                break  # nothing overtakes it
            found.append((item.no, user_message(request.turn_id, request.turn_input, request.images)))
    return found
