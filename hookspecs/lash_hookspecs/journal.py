"""The journal: what a turn that isn't committed yet has done, so that another process can go on with it.

A journal belongs to an inbox item, which is the turn's; it is one list in order. A row is an effect that came to its
end, or the intent of one that must not run twice unasked. The turn's commit retires its journal or keeps it for replay.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol, Union

from lash_hookspecs.inbox import InboxItem, InboxState, NewInboxItem
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.leases import Lease, LeaseBusy, LeaseHolder
from lash_hookspecs.stores import Receipt
from lash_hookspecs.values import frozen

__all__ = ["Journal", "TurnBegin", "TurnBegun", "TurnClaim", "TurnCommitted"]


@frozen(kw_only=True)
class TurnBegin:
    """Accept an input, take the session, and claim what is to run next: one transaction.

    Without `item`, only what is there is claimed: for recovery. `nonce`: see `Leases.claim_lease`. `wait`: accept the
    item even if the session is busy; without it, a busy session accepts nothing. `synced`: as for `append_journal`.
    """

    session_id: str
    holder: LeaseHolder
    nonce: str
    ttl_ms: int
    item: NewInboxItem | None = None
    wait: bool = False
    synced: bool = True


@frozen(kw_only=True)
class TurnBegun:
    """The session is ours. `item` is to run now: the oldest whose turn was begun, else the oldest that may start one.

    It need not be the one that was accepted with it: those before it come first. `rows` is its journal so far, in
    order. `item` None: there is nothing to do, and the lease was let go of (or never taken). `displaced` is the lease
    that the item's turn ran under before, if nobody let go of it: its holder died, or was too late. Who only held the
    session, to append to it, is none, and hides none.
    """

    tag: ClassVar[str] = "begun"
    head_revision: int
    lease: Lease | None = None
    item: InboxItem | None = None
    rows: tuple[JournalRow, ...] = ()
    displaced: Lease | None = None


@frozen
class TurnCommitted:
    """The item's turn was committed before; nothing was done."""

    tag: ClassVar[str] = "committed"
    receipt: Receipt


TurnClaim = Union[TurnBegun, TurnCommitted, LeaseBusy]


class Journal(Protocol):
    """The journals of all turns. Every method raises `SessionDeleted` for a deleted session."""

    async def begin_turn(self, begin: TurnBegin) -> TurnClaim:
        """See `TurnBegin`. In this order: deleted? committed? lease, item accepted, next item claimed.

        An item in state `claimed`, `suspended`, `stuck` or `blocked` is before every pending one, and is claimed anew,
        with what its turn took: its `attempts` rises if that is under another generation. An item that was accepted
        before with another content hash is an `InboxConflict`, also if its turn was committed; of one that was
        forgotten there is the receipt to look at. One that was taken and applied by another turn is answered with that
        turn's receipt; one that was cancelled, or isn't available yet, is left as it is. Raises what `claim_lease` and
        `enqueue` raise.
        """
        ...

    async def append_journal(
        self, lease: Lease, no: int, rows: Sequence[JournalRow], *, claims: Sequence[int] = (), synced: bool = True
    ) -> None:
        """Write rows at the end of the item's journal, each in the place of an intent with its key if there is one.

        All or nothing, with `claims`: items for a checkpoint, which are `claimed` for the turn from now on. The same
        call again, by the same generation, is fine and changes nothing: for who doesn't know whether it arrived. Raises
        `LeaseLost` if the fence doesn't hold, `ClaimLost` if the item isn't ours or one of `claims` is not to be had,
        `StoreCorrupt` if a row has the key of another one that isn't an intent, and `CommitRefused` with the code
        `journal_row` if a key or hash is none.

        Without `synced` it may return before the disk has it: the rows survive this process, but a loss of power may
        take them until `sync`, or any other write, has returned.
        """
        ...

    async def sync(self, *, wait: bool = True) -> None:
        """Have all that was written survive a loss of power; without `wait`, in a moment.

        Raises `StoreUnavailable` if nobody knows whether it will; then nothing is written any more.
        """
        ...

    async def load_journal(self, session_id: str, turn_id: str) -> Sequence[JournalRow]:
        """A turn's journal, in order; empty if it has none (any more).

        A row of which more than the key is damaged is `done` and without a body here and in `TurnBegun`, which is
        refused by who asks for its effect; only one whose key is none is `StoreCorrupt`.
        """
        ...

    async def park_turn(
        self,
        lease: Lease,
        no: int,
        *,
        state: InboxState = InboxState.SUSPENDED,
        reason: str | None = None,
        fruitless: int = 0,
    ) -> None:
        """Let go of the lease, and leave the turn: as `suspended`; as `stuck` or `blocked`, with the reason why it
        couldn't go on and how many attempts came to nothing by now; or forget it.

        Forgotten (`cancelled`) is a turn that could never run as it was asked; what it took waits again. Without a
        reason it leaves no trace, and its source key may be used again. Raises `LeaseLost` or `ClaimLost`, but not if
        we did the same before and nobody has begun the turn since, and `CommitRefused` with the code `park_state` for
        another state.
        """
        ...

    async def drop_journals(self, *, before_ms: int) -> int:
        """Forget the journals of turns that were committed before this time, and items settled before; how many turns.

        A dropped item's source key can be used again, unless it is its turn's id: the receipt answers for that.
        """
        ...
