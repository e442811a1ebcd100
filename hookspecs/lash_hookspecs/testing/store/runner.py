"""Who runs turns, for the cases about leases, inbox and journal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count
from typing import Any

from attrs import define, evolve, field

from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.errors import LeaseLost
from lash_hookspecs.inbox import InboxItem, Ingress, NewInboxItem
from lash_hookspecs.journal import TurnBegin, TurnBegun
from lash_hookspecs.journal_rows import JournalRow, JournalStatus, Settlement
from lash_hookspecs.leases import Lease, LeaseAcquired, LeaseHolder
from lash_hookspecs.stores import OperationId, RuntimeCommit
from lash_hookspecs.testing.store.kit import Scribe

__all__ = ["LONG", "Runner", "effect", "forged", "listed", "new_item", "tries"]

LONG = 10 * 60_000
"""A time that no case outlives."""

_NONCES = count()


def new_item(key: str = "k1", session_id: str = "s1", **changes: Any) -> NewInboxItem:
    """Input that starts the turn `t-KEY`, unless `changes` say otherwise."""
    changes = {"ingress": Ingress.NEXT_TURN, "turn_id": f"t-{key}", "payload": b"hello", **changes}
    changes = {"content_hash": stable_hash("test.item", [key]), "accepted_at_ms": 1, **changes}
    return NewInboxItem(session_id=session_id, source_key=key, **changes)


def effect(
    name: str, status: JournalStatus = JournalStatus.DONE, body: bytes = b"outcome", **changes: Any
) -> JournalRow:
    """A row of the effect with this name."""
    changes = {"kind": "tool_call", "envelope_hash": stable_hash("test.envelope", [name]), "label": name, **changes}
    return JournalRow(key=stable_hash("test.key", [name]), status=status, body=body, **changes)


async def listed(store: Any, session_id: str | None = None, **options: Any) -> list[InboxItem]:
    """`list_inbox`, as a list."""
    return list(await store.list_inbox(session_id, **options))


def tries(what: str) -> Iterator[None]:
    """Again and again, for what happens within milliseconds of real time; a store that never does it fails."""
    end = time.monotonic() + 5
    while time.monotonic() < end:
        yield
    raise AssertionError(f"it never happened: {what}")


@define
class Runner:
    """A host that runs turns of one session; each claim has a nonce of its own."""

    owner: str = "host"
    session_id: str = "s1"
    executor: str = "main"
    incarnation: str = "1"
    holder: LeaseHolder = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.holder = LeaseHolder(owner=self.owner, incarnation=self.incarnation, executor=self.executor)

    async def claim(self, store: Any, *, ttl_ms: int = LONG, nonce: str | None = None) -> Any:
        """Claim the lease: a `LeaseClaim`, of which a case knows which one it must be."""
        return await store.claim_lease(self.session_id, self.holder, nonce=nonce or f"n{next(_NONCES)}", ttl_ms=ttl_ms)

    async def lease(self, store: Any, *, ttl_ms: int = LONG, nonce: str | None = None) -> Lease:
        """Claim the lease, and get it."""
        made = await self.claim(store, ttl_ms=ttl_ms, nonce=nonce)
        if not isinstance(made, LeaseAcquired):
            raise AssertionError(f"the lease is not to be had: {made!r}")
        return made.lease

    def beginning(self, item: NewInboxItem | None = None, **changes: Any) -> TurnBegin:
        """A begin, with a nonce that no other has."""
        changes = {"nonce": f"n{next(_NONCES)}", "ttl_ms": LONG, **changes}
        return TurnBegin(session_id=self.session_id, holder=self.holder, item=item, **changes)

    async def tried(self, store: Any, item: NewInboxItem | None = None, **changes: Any) -> Any:
        """Begin: a `TurnClaim`, of which a case knows which one it must be."""
        return await store.begin_turn(self.beginning(item, **changes))

    async def begin(self, store: Any, item: NewInboxItem | None = None, **changes: Any) -> tuple[Lease, InboxItem]:
        """Begin, and get the lease and what is to run."""
        made = await self.tried(store, item, **changes)
        if not isinstance(made, TurnBegun) or made.lease is None or made.item is None:
            raise AssertionError(f"nothing was begun: {made!r}")
        return made.lease, made.item

    def commit(self, scribe: Scribe, lease: Lease, item: InboxItem, *texts: str, **changes: Any) -> RuntimeCommit:
        """The commit of the item's turn, which settles it."""
        names = ("applied", "keep_journal", "rows")
        settles = Settlement(
            lease=lease, item=item.no, **{name: changes.pop(name) for name in names if name in changes}
        )
        turn_id = item.turn_id or f"item-{item.no}"
        return scribe.turn(*texts, operation=OperationId("turn", turn_id), settles=settles, **changes)

    async def lapsed(self, store: Any, item: NewInboxItem | None = None) -> tuple[Lease, InboxItem]:
        """Begin a turn whose lease has lapsed when this returns, although nobody took it yet."""
        lease, begun = await self.begin(store, item, ttl_ms=1)
        for _ in tries("a lease of a millisecond lapses"):
            try:
                await store.append_journal(lease, begun.no, ())
            except LeaseLost:
                break
        return lease, begun


def forged(lease: Lease) -> dict[str, Lease]:
    """The lease with one field that isn't the stored one's, by the field."""
    holder = lease.holder
    return {
        "session": evolve(lease, session_id="s2"),
        "owner": evolve(lease, holder=evolve(holder, owner="another")),
        "incarnation": evolve(lease, holder=evolve(holder, incarnation="another")),
        "executor": evolve(lease, holder=evolve(holder, executor="another")),
        "generation": evolve(lease, generation=lease.generation + 1),
        "token": evolve(lease, token="another"),
    }
