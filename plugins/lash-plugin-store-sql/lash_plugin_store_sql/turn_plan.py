"""Every decision about leases, items and turns, as functions of facts: no SQL, no clock, no threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Union

from attrs import evolve

from lash_hookspecs.errors import ClaimLost, CommitRefused, InboxConflict, LeaseLost, SessionMismatch, StoreError
from lash_hookspecs.inbox import CancelOutcome, InboxItem, InboxState
from lash_hookspecs.journal import TurnBegin
from lash_hookspecs.journal_rows import Settlement
from lash_hookspecs.leases import Lease, LeaseBusy, LeaseHolder
from lash_hookspecs.stores import Receipt, RuntimeCommit
from lash_hookspecs.values import frozen
from lash_plugin_store_sql.schema import INT_MAX

__all__ = [
    "BEGUN",
    "OPEN",
    "Begin",
    "BeginFacts",
    "Busy",
    "Claim",
    "Committed",
    "Grant",
    "LeaseFacts",
    "conflict",
    "fenced",
    "fruitless",
    "is_live",
    "is_ours",
    "is_parked",
    "lease_end",
    "lost_claims",
    "plan_begin",
    "plan_cancel",
    "plan_lease",
    "settlement_error",
    "unclaimed",
]

BEGUN = frozenset({InboxState.CLAIMED, InboxState.SUSPENDED, InboxState.STUCK, InboxState.BLOCKED})
"""The states of an item whose turn was begun and hasn't ended."""

OPEN = BEGUN | {InboxState.PENDING}


# ---- leases ---------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class LeaseFacts:
    """A session's lease as stored: the last generation there was, and the lease if somebody holds it, lapsed or not.

    `displaced` is the lease that the last one followed whose holder hadn't let go, also once the last one is released.
    """

    generation: int = 0
    lease: Lease | None = None
    displaced: Lease | None = None


@frozen(kw_only=True)
class Grant:
    """A claim that succeeds. `writes` is False if it did before, and this is its answer once more."""

    lease: Lease
    displaced: Lease | None = None
    writes: bool = True


def is_live(lease: Lease, now_ms: int) -> bool:
    """Whether it hasn't lapsed."""
    return now_ms < lease.expires_at_ms


def is_ours(held: Lease | None, lease: Lease) -> bool:
    """Whether the stored lease is this one, lapsed or not: who renewed it since is no difference."""
    return held is not None and _names(held) == _names(lease) and held.token == lease.token


def _names(lease: Lease) -> tuple[object, ...]:
    return lease.session_id, lease.generation, *_who(lease.holder)


def _who(holder: LeaseHolder) -> tuple[str, str, str]:
    return holder.owner, holder.incarnation, holder.executor


def unclaimed(facts: LeaseFacts, lease: Lease) -> Lease:
    """The stored lease, if it is this one, lapsed or not. Raises `LeaseLost`."""
    held = facts.lease
    if held is None or not is_ours(held, lease):
        now = "nobody holds it" if held is None else f"`{held.holder.owner}` holds generation {held.generation}"
        raise LeaseLost(
            f"generation {lease.generation} of the lease on session `{lease.session_id}` is no longer "
            f"`{lease.holder.owner}`'s: {now}; nothing was written"
        )
    return held


def fenced(facts: LeaseFacts, lease: Lease, now_ms: int) -> Lease:
    """The stored lease, if it is this one and live. Raises `LeaseLost`."""
    held = unclaimed(facts, lease)
    if not is_live(held, now_ms):
        raise LeaseLost(
            f"the lease on session `{lease.session_id}` (generation {lease.generation}) lapsed "
            f"{now_ms - held.expires_at_ms:,} ms ago; nothing was written: renew it, if nobody has taken it"
        )
    return held


def plan_lease(
    session_id: str, holder: LeaseHolder, nonce: str, ttl_ms: int, facts: LeaseFacts, now_ms: int, *, gone: bool = False
) -> Union[Grant, LeaseBusy]:
    """What becomes of a claim. `gone`: the stored lease's holder is provably no more."""
    if not nonce:
        raise CommitRefused("nonce", f"the claim of session `{session_id}` needs a nonce that no other claim has")
    expires = lease_end(ttl_ms, now_ms)
    held = facts.lease
    displaced = None
    if held is not None:
        ours = _who(held.holder) == _who(holder)
        if ours and is_live(held, now_ms):
            if held.token == nonce:
                return Grant(lease=held, displaced=facts.displaced, writes=False)
            return Grant(lease=evolve(held, token=nonce, expires_at_ms=expires))
        if not ours:
            if is_live(held, now_ms) and not gone:
                return LeaseBusy(held)
            displaced = held
    if facts.generation >= INT_MAX:
        raise CommitRefused("integer_range", f"session `{session_id}` has no lease generation left after {INT_MAX}")
    fresh = Lease(
        session_id=session_id,
        holder=holder,
        generation=facts.generation + 1,
        token=nonce,
        claimed_at_ms=now_ms,
        expires_at_ms=expires,
    )
    return Grant(lease=fresh, displaced=displaced)


def lease_end(ttl_ms: int, now_ms: int) -> int:
    """When a lease that is taken or renewed now will lapse. Raises `CommitRefused` with the code `integer_range`."""
    if not 0 < ttl_ms <= INT_MAX - now_ms:
        raise CommitRefused("integer_range", f"a lease's time is {ttl_ms} ms; it must be above 0 and end in 64 bits")
    return now_ms + ttl_ms


# ---- items ----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Claim:
    """Where an item stands: its state, the generation of its claim, and the item whose turn took it at a checkpoint."""

    state: InboxState
    generation: int = 0
    taken_by: int | None = None
    reason: str | None = None
    cancel_reason: str | None = None


def plan_cancel(stored: Claim | None) -> CancelOutcome:
    """What becomes of a request to cancel; only the first two outcomes write anything."""
    if stored is None:
        return CancelOutcome.UNKNOWN
    match stored.state:
        case InboxState.PENDING | InboxState.CANCELLED:
            return CancelOutcome.CANCELLED
        case InboxState.COMPLETED:
            return CancelOutcome.COMPLETED
    if stored.taken_by is not None:
        return CancelOutcome.TAKEN
    return CancelOutcome.REQUESTED if stored.cancel_reason is None else CancelOutcome.ALREADY_REQUESTED


def is_parked(stored: Claim | None, lease: Lease, state: InboxState, reason: str | None) -> bool:
    """Whether the item was left in this state under this lease, and nobody has begun it since."""
    if stored is None:
        return False
    said = stored.cancel_reason if state is InboxState.CANCELLED else stored.reason
    return (stored.state, said, stored.generation) == (state, reason, lease.generation)


# ---- turns ----------------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class BeginFacts:
    """What a begin needs to know.

    `accepted` is the item with its source key, `receipt` that of the item's turn, `next` the stored item that is to be
    done next: the oldest that was begun, else the oldest that waits and is available.
    """

    lease: LeaseFacts = LeaseFacts()
    accepted: InboxItem | None = None
    receipt: Receipt | None = None
    next: InboxItem | None = None
    now_ms: int = 0
    gone: bool = False


@frozen
class Committed:
    """The turn was committed: nothing to do."""

    receipt: Receipt


@frozen(kw_only=True)
class Busy:
    """Somebody else has the session. `accepts`: the item is stored all the same, to wait."""

    held: Lease
    accepts: bool


@frozen(kw_only=True)
class Begin:
    """The session is to be ours. `accepts`: the begin's item is new; `claims` is the stored item that runs.

    Without `claims`, the new item runs, if `runs_new`; else nothing does, and the lease isn't kept.
    """

    grant: Grant
    accepts: bool
    claims: InboxItem | None
    runs_new: bool

    @property
    def attempts(self) -> int:
        """How often a turn was begun for the item, this time included: once per generation."""
        if self.claims is None:
            return 1
        return self.claims.attempts + (self.claims.claim_generation != self.grant.lease.generation)


def plan_begin(begin: TurnBegin, facts: BeginFacts) -> Union[Committed, Busy, Begin]:
    """What to do about a begin. Raises `InboxConflict` and what `plan_lease` raises."""
    new, accepted = begin.item, facts.accepted
    if new is not None and accepted is not None and accepted.content_hash != new.content_hash:
        raise conflict(begin.session_id, new.source_key, accepted)
    if facts.receipt is not None:
        return Committed(facts.receipt)
    granted = plan_lease(
        begin.session_id, begin.holder, begin.nonce, begin.ttl_ms, facts.lease, facts.now_ms, gone=facts.gone
    )
    accepts = new is not None and accepted is None
    if isinstance(granted, LeaseBusy):
        return Busy(held=granted.held, accepts=accepts and begin.wait)
    if granted.writes:
        granted = evolve(granted, displaced=_died_in(facts.next, granted.displaced, facts.lease.displaced))
    runs_new = facts.next is None and accepts and new is not None and new.available_at_ms <= facts.now_ms
    return Begin(grant=granted, accepts=accepts, claims=facts.next, runs_new=runs_new)


def _died_in(item: InboxItem | None, *leases: Lease | None) -> Lease | None:
    """The one of these leases that the item's turn ran under: who held the session for anything else ran none."""
    return next((each for each in leases if each and item and each.generation == item.claim_generation), None)


def fruitless(stored: InboxItem, *, died: bool, progressed: bool) -> int:
    """How many attempts at an item's turn came to nothing in a row, once another one begins."""
    return 0 if progressed else stored.fruitless + died


def conflict(session_id: str, source_key: str, accepted: InboxItem) -> InboxConflict:
    """The error for a source key that was used before for something else."""
    return InboxConflict(
        f"session `{session_id}`: an item with the source key `{source_key}` was accepted before with other content "
        f"(item {accepted.no}, {accepted.state.value}): choose another key, or send the same content"
    )


def settlement_error(commit: RuntimeCommit, settles: Settlement, items: Mapping[int, Claim]) -> StoreError | None:
    """Why a commit can't settle what it says: only if an item isn't its turn's any more; a lapsed lease is none."""
    if settles.lease.session_id != commit.session_id:
        return SessionMismatch(
            f"commit `{commit.operation.key}` is for session `{commit.session_id}` and settles items of "
            f"`{settles.lease.session_id}`"
        )
    lost = lost_claims(settles.lease.generation, settles.item, settles.applied, items)
    return ClaimLost(commit.session_id, lost) if lost else None


def lost_claims(generation: int, no: int, taken: Sequence[int], items: Mapping[int, Claim]) -> list[int]:
    """Those of the turn's item and the items that it took which aren't claimed for it under this generation."""
    wanted = {no: None, **dict.fromkeys(taken, no)}
    lost = []
    for each, taker in wanted.items():
        stored = items.get(each)
        if (
            stored is None
            or stored.state is not InboxState.CLAIMED
            or stored.generation != generation
            or stored.taken_by != taker
        ):
            lost.append(each)
    return lost
