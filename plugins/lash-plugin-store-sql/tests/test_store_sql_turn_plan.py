"""What is decided about leases, items and turns, as tables of facts: no database."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from lash_hookspecs.errors import ClaimLost, CommitRefused, InboxConflict, LeaseLost, SessionMismatch
from lash_hookspecs.inbox import CancelOutcome, InboxItem, InboxState, Ingress
from lash_hookspecs.journal import TurnBegin
from lash_hookspecs.journal_rows import Settlement
from lash_hookspecs.leases import Lease, LeaseBusy, LeaseHolder, ProcessStamp
from lash_hookspecs.stores import OperationId, Receipt
from lash_hookspecs.testing.store import Scribe
from lash_hookspecs.testing.store.runner import forged, new_item
from lash_plugin_store_sql.schema import INT_MAX
from lash_plugin_store_sql.turn_plan import (
    Begin,
    BeginFacts,
    Busy,
    Claim,
    Committed,
    Grant,
    LeaseFacts,
    fenced,
    plan_begin,
    plan_cancel,
    plan_lease,
    settlement_error,
)

NOW, TTL = 1_000_000, 30_000
OURS = LeaseHolder(owner="us", incarnation="1", executor="main")
THEIRS = LeaseHolder(owner="them", incarnation="1", executor="main")


def lease(holder: LeaseHolder = OURS, *, left: int = 100, generation: int = 3, token: str = "old") -> Lease:
    return Lease(
        session_id="s1",
        holder=holder,
        generation=generation,
        token=token,
        claimed_at_ms=NOW - 500,
        expires_at_ms=NOW + left,
    )


def facts(held: Lease | None, generation: int = 3, displaced: Lease | None = None) -> LeaseFacts:
    return LeaseFacts(generation=generation, lease=held, displaced=displaced)


def fresh(generation: int) -> Lease:
    return Lease(
        session_id="s1", holder=OURS, generation=generation, token="new", claimed_at_ms=NOW, expires_at_ms=NOW + TTL
    )


# ---- leases: who holds it, whether it lapsed, whether its holder is gone, with which nonce ---------------------------

BEFORE = lease(THEIRS, left=-9, generation=2)

CLAIMS: dict[str, tuple[LeaseFacts, bool, str, Grant | LeaseBusy]] = {
    "never held": (LeaseFacts(), False, "new", Grant(lease=fresh(1))),
    "released": (facts(None), False, "new", Grant(lease=fresh(4))),
    "theirs": (facts(lease(THEIRS)), False, "new", LeaseBusy(lease(THEIRS))),
    "theirs, our nonce": (facts(lease(THEIRS, token="new")), False, "new", LeaseBusy(lease(THEIRS, token="new"))),
    "theirs, last moment": (facts(lease(THEIRS, left=1)), False, "new", LeaseBusy(lease(THEIRS, left=1))),
    "theirs, lapsed": (
        facts(lease(THEIRS, left=0)),
        False,
        "new",
        Grant(lease=fresh(4), displaced=lease(THEIRS, left=0)),
    ),
    "theirs, gone": (facts(lease(THEIRS)), True, "new", Grant(lease=fresh(4), displaced=lease(THEIRS))),
    "ours": (facts(lease()), False, "new", Grant(lease=evolve(lease(), token="new", expires_at_ms=NOW + TTL))),
    "ours, gone": (facts(lease()), True, "new", Grant(lease=evolve(lease(), token="new", expires_at_ms=NOW + TTL))),
    "ours, same nonce": (
        facts(lease(token="new"), displaced=BEFORE),
        False,
        "new",
        Grant(lease=lease(token="new"), displaced=BEFORE, writes=False),
    ),
    "ours, lapsed": (facts(lease(left=0)), False, "new", Grant(lease=fresh(4))),
    "ours, lapsed, same nonce": (facts(lease(left=-1, token="new")), False, "new", Grant(lease=fresh(4))),
}


@pytest.mark.statement(42, 43, 44, page="effects")
@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim(name: str) -> None:
    """42: at the very moment of its expiry a lease is lapsed; 43: generations begin with 1; 44: the holder's own stays
    in its generation."""
    stored, gone, nonce, wanted = CLAIMS[name]
    assert plan_lease("s1", OURS, nonce, TTL, stored, NOW, gone=gone) == wanted


@pytest.mark.parametrize("name", ["owner", "incarnation", "executor"])
def test_another_holder_is_another_in_any_part(name: str) -> None:
    held = lease(evolve(OURS, **{name: "another"}))
    assert plan_lease("s1", OURS, "new", TTL, facts(held), NOW) == LeaseBusy(held)


def test_the_process_is_no_part_of_who_holds_it() -> None:
    held = lease(evolve(OURS, process=ProcessStamp(boot="b", pid=1, started=1)))
    granted = plan_lease("s1", OURS, "new", TTL, facts(held), NOW)
    assert isinstance(granted, Grant)
    assert granted.lease.generation == held.generation


@pytest.mark.statement(17, 43, page="effects")
@pytest.mark.parametrize(
    ("stored", "changes", "code"),
    [
        (facts(None, generation=INT_MAX), {}, "integer_range"),
        (facts(lease(THEIRS, left=-1, generation=INT_MAX), generation=INT_MAX), {}, "integer_range"),
        (LeaseFacts(), {"ttl_ms": 0}, "integer_range"),
        (LeaseFacts(), {"ttl_ms": -1}, "integer_range"),
        (LeaseFacts(), {"ttl_ms": INT_MAX - NOW + 1}, "integer_range"),
        (LeaseFacts(), {"nonce": ""}, "nonce"),
    ],
)
def test_a_claim_that_cant_be_stored_is_refused(stored: LeaseFacts, changes: dict[str, Any], code: str) -> None:
    """A generation never wraps: the session is then locked for good, rather than open to two.

    17: amended, a time that is too far away to be stored is refused rather than cut; 43: a generation never wraps.
    """
    given = {"nonce": "new", "ttl_ms": TTL, **changes}
    with pytest.raises(CommitRefused) as caught:
        plan_lease("s1", OURS, given["nonce"], given["ttl_ms"], stored, NOW)
    assert caught.value.code == code


def test_the_last_generation_and_the_last_moment_can_be_had() -> None:
    granted = plan_lease("s1", OURS, "new", INT_MAX - NOW, facts(None, generation=INT_MAX - 1), NOW)
    assert isinstance(granted, Grant)
    assert (granted.lease.generation, granted.lease.expires_at_ms) == (INT_MAX, INT_MAX)


@pytest.mark.statement(42, page="effects")
@pytest.mark.parametrize("name", forged(lease()))
def test_the_fence_looks_at_every_field(name: str) -> None:
    """Whose token, owner, incarnation, executor or generation is another one writes nothing."""
    assert fenced(facts(lease()), lease(), NOW) == lease()
    with pytest.raises(LeaseLost, match="nothing was written"):
        fenced(facts(lease()), forged(lease())[name], NOW)


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (LeaseFacts(), "nobody holds it"),
        (facts(lease(THEIRS, generation=4), 4), "`them` holds generation 4"),
        (facts(lease(left=0)), "lapsed 0 ms ago"),
        (facts(lease(left=-1_200)), "lapsed 1,200 ms ago"),
    ],
)
def test_a_lost_lease_says_who_has_it(stored: LeaseFacts, words: str) -> None:
    with pytest.raises(LeaseLost, match=words):
        fenced(stored, lease(), NOW)


def test_a_fence_goes_by_the_stored_times() -> None:
    """What the holder says of them doesn't count: it may have missed a renewal, or lie."""
    stored = facts(lease(left=500))
    assert fenced(stored, evolve(lease(left=-1), claimed_at_ms=0), NOW) == lease(left=500)
    with pytest.raises(LeaseLost):
        fenced(facts(lease(left=-1)), lease(left=500), NOW)


# ---- cancelling -----------------------------------------------------------------------------------------------------


def item(state: InboxState, **changes: Any) -> InboxItem:
    given = {"no": 7, "attempts": 1, "claim_generation": 3, "turn_id": "t-k1", **changes}
    return InboxItem(
        session_id="s1",
        source_key="k1",
        ingress=Ingress.NEXT_TURN,
        state=state,
        content_hash=new_item().content_hash,
        payload=b"",
        accepted_at_ms=1,
        **given,
    )


S, C = InboxState, CancelOutcome
CANCELS: list[tuple[InboxState, int | None, str | None, CancelOutcome]] = [
    (S.PENDING, None, None, C.CANCELLED),
    (S.CLAIMED, None, None, C.REQUESTED),
    (S.CLAIMED, None, "before", C.ALREADY_REQUESTED),
    (S.CLAIMED, 6, None, C.TAKEN),
    (S.SUSPENDED, None, None, C.REQUESTED),
    (S.SUSPENDED, None, "before", C.ALREADY_REQUESTED),
    (S.STUCK, None, None, C.REQUESTED),
    (S.BLOCKED, None, None, C.REQUESTED),
    (S.BLOCKED, None, "before", C.ALREADY_REQUESTED),
    (S.COMPLETED, None, None, C.COMPLETED),
    (S.COMPLETED, None, "before", C.COMPLETED),
    (S.COMPLETED, 6, None, C.COMPLETED),
    (S.CANCELLED, None, "before", C.CANCELLED),
]


@pytest.mark.parametrize(("state", "taken_by", "reason", "outcome"), CANCELS)
def test_a_cancel(state: InboxState, taken_by: int | None, reason: str | None, outcome: CancelOutcome) -> None:
    assert plan_cancel(Claim(state=state, taken_by=taken_by, cancel_reason=reason)) is outcome


def test_every_state_has_its_outcome_and_every_outcome_its_state() -> None:
    assert {state for state, *_ in CANCELS} == set(InboxState)
    assert {outcome for *_, outcome in CANCELS} | {plan_cancel(None)} == set(CancelOutcome)


# ---- beginning ------------------------------------------------------------------------------------------------------

RECEIPT = Receipt(
    operation=OperationId("turn", "t-k1"),
    intent_hash="",
    input_hash="",
    head_revision=1,
    leaf_node_id=None,
    node_ids=(),
    committed_at_ms=1,
    result=b"",
)
NEW = new_item()
LATER = new_item(available_at_ms=NOW + 1)
WAITS = item(S.PENDING, no=5, attempts=0, claim_generation=0)
BEGUN = item(S.CLAIMED, no=5, attempts=2, claim_generation=3)
GRANT = Grant(lease=fresh(4))
FREE = facts(None)
TAKEN = facts(lease(THEIRS))

BEGINS: dict[str, tuple[dict[str, Any], BeginFacts, object]] = {
    "new": ({"item": NEW}, BeginFacts(lease=FREE), Begin(grant=GRANT, accepts=True, claims=None, runs_new=True)),
    "new, for later": (
        {"item": LATER},
        BeginFacts(lease=FREE),
        Begin(grant=GRANT, accepts=True, claims=None, runs_new=False),
    ),
    "new, behind one that waits": (
        {"item": NEW},
        BeginFacts(lease=FREE, next=WAITS),
        Begin(grant=GRANT, accepts=True, claims=WAITS, runs_new=False),
    ),
    "accepted, behind one that was begun": (
        {"item": NEW},
        BeginFacts(lease=FREE, accepted=item(S.PENDING), next=BEGUN),
        Begin(grant=GRANT, accepts=False, claims=BEGUN, runs_new=False),
    ),
    "accepted and cancelled": (
        {"item": NEW},
        BeginFacts(lease=FREE, accepted=item(S.CANCELLED)),
        Begin(grant=GRANT, accepts=False, claims=None, runs_new=False),
    ),
    "recovery": (
        {},
        BeginFacts(lease=FREE, next=BEGUN),
        Begin(grant=GRANT, accepts=False, claims=BEGUN, runs_new=False),
    ),
    "recovery of nothing": ({}, BeginFacts(lease=FREE), Begin(grant=GRANT, accepts=False, claims=None, runs_new=False)),
    "committed": ({"item": NEW}, BeginFacts(lease=FREE, receipt=RECEIPT), Committed(RECEIPT)),
    "committed, and busy": (
        {"item": NEW},
        BeginFacts(lease=TAKEN, accepted=item(S.COMPLETED), receipt=RECEIPT),
        Committed(RECEIPT),
    ),
    "busy": ({"item": NEW}, BeginFacts(lease=TAKEN), Busy(held=lease(THEIRS), accepts=False)),
    "busy, waits": ({"item": NEW, "wait": True}, BeginFacts(lease=TAKEN), Busy(held=lease(THEIRS), accepts=True)),
    "busy, waits already": (
        {"item": NEW, "wait": True},
        BeginFacts(lease=TAKEN, accepted=item(S.PENDING)),
        Busy(held=lease(THEIRS), accepts=False),
    ),
    "busy, nothing to accept": ({"wait": True}, BeginFacts(lease=TAKEN), Busy(held=lease(THEIRS), accepts=False)),
}


def begin(**changes: Any) -> TurnBegin:
    return TurnBegin(session_id="s1", holder=OURS, nonce="new", ttl_ms=TTL, **changes)


@pytest.mark.parametrize("name", BEGINS)
def test_a_begin(name: str) -> None:
    changes, known, wanted = BEGINS[name]
    assert plan_begin(begin(**changes), evolve(known, now_ms=NOW)) == wanted


@pytest.mark.parametrize("receipt", [None, RECEIPT])
@pytest.mark.parametrize("state", InboxState)
@pytest.mark.parametrize("stored", [FREE, TAKEN])
def test_other_content_is_a_conflict_whatever_became_of_the_first(
    stored: LeaseFacts, state: InboxState, receipt: Receipt | None
) -> None:
    accepted = evolve(item(state), content_hash="other")
    with pytest.raises(InboxConflict, match=f"item 7, {state}"):
        plan_begin(begin(item=NEW), BeginFacts(lease=stored, accepted=accepted, receipt=receipt, now_ms=NOW))


@pytest.mark.parametrize(
    ("claims", "generation", "attempts"),
    [(None, 4, 1), (WAITS, 4, 1), (BEGUN, 4, 3), (BEGUN, 3, 2)],
    ids=["new", "waiting", "another generation", "the same generation"],
)
def test_an_attempt_is_counted_once_for_each_generation(
    claims: InboxItem | None, generation: int, attempts: int
) -> None:
    plan = Begin(grant=Grant(lease=fresh(generation)), accepts=False, claims=claims, runs_new=claims is None)
    assert plan.attempts == attempts


# ---- settling -------------------------------------------------------------------------------------------------------

MAIN, EXTRA = Claim(state=S.CLAIMED, generation=3), Claim(state=S.CLAIMED, generation=3, taken_by=7)
UNCLAIMED = [each for each in InboxState if each is not S.CLAIMED]
SETTLES: list[tuple[dict[int, Claim], list[int]]] = [
    ({7: MAIN, 8: EXTRA}, []),
    ({8: EXTRA}, [7]),
    ({7: MAIN}, [8]),
    ({}, [7, 8]),
    ({7: evolve(MAIN, taken_by=6), 8: EXTRA}, [7]),
    ({7: MAIN, 8: evolve(EXTRA, taken_by=6)}, [8]),
    ({7: MAIN, 8: evolve(EXTRA, taken_by=None)}, [8]),
    *(({7: evolve(MAIN, state=state), 8: EXTRA}, [7]) for state in UNCLAIMED),
    *(({7: MAIN, 8: evolve(EXTRA, state=state)}, [8]) for state in UNCLAIMED),
    ({7: evolve(MAIN, generation=4), 8: EXTRA}, [7]),
    ({7: MAIN, 8: evolve(EXTRA, generation=2)}, [8]),
]


@pytest.mark.parametrize(("items", "lost"), SETTLES)
def test_a_settlement_needs_every_claim(items: dict[int, Claim], lost: list[int]) -> None:
    commit = Scribe().turn("x", settles=Settlement(lease=lease(left=-1_000), item=7, applied=(8,)))
    assert commit.settles is not None
    error = settlement_error(commit, commit.settles, items)
    assert (list(error.nos) if isinstance(error, ClaimLost) else error) == (lost or None)


def test_a_settlement_is_for_its_own_session() -> None:
    commit = Scribe("s2").turn("x", settles=Settlement(lease=lease(), item=7))
    assert commit.settles is not None
    assert isinstance(settlement_error(commit, commit.settles, {7: MAIN}), SessionMismatch)
