"""Session execution leases (group A4): one runner at a time, and a fence against those who were away."""

from __future__ import annotations

from typing import Any

import anyio
from attrs import evolve

from lash_hookspecs.errors import ClaimLost, LeaseLost
from lash_hookspecs.leases import LeaseAcquired, LeaseBusy
from lash_hookspecs.liveness import process_stamp
from lash_hookspecs.stores import Capability, SessionMeta
from lash_hookspecs.testing.store.kit import INT_MAX, Call, Cases, Need, Scribe, StoreHarness, everything, raises, same
from lash_hookspecs.testing.store.runner import LONG, Runner, effect, forged, listed, new_item, tries

__all__ = ["CASES"]

CASES = Cases()
LEASES, JOURNAL = Capability.LEASES, Capability.JOURNAL


async def _taken_over(store: Any, runner: Runner, *, ttl_ms: int = LONG) -> Any:
    """Claim until the lease there is has lapsed, which is soon."""
    for _ in tries("a lease of a millisecond lapses"):
        claim = await runner.claim(store, ttl_ms=ttl_ms)
        if isinstance(claim, LeaseAcquired):
            return claim
    return None


@CASES.case("A4.01", LEASES)
async def _base(harness: StoreHarness) -> None:
    """Acquired, busy for others, renewed, released; a fresh acquisition is a new generation, from 1, a renewal none."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    lease = await mine.lease(store)
    same((lease.session_id, lease.holder, lease.generation), ("s1", mine.holder, 1))
    same(lease.expires_at_ms - lease.claimed_at_ms, LONG)
    same(await theirs.claim(store), LeaseBusy(lease))
    later = await store.renew_lease(lease, ttl_ms=2 * LONG)
    same(evolve(later, expires_at_ms=lease.expires_at_ms), lease)
    same(later.expires_at_ms >= lease.expires_at_ms + LONG, True)
    same(await store.load_lease("s1"), later)
    same([await store.release_lease(lease) for _ in range(2)], [True, False])
    same(await store.load_lease("s1"), None)
    with raises(LeaseLost):
        await store.renew_lease(lease, ttl_ms=LONG)
    after = await theirs.claim(store)
    same((after.lease.generation, after.displaced), (2, None))
    same((await store.load_revision("s1"), (await store.load_meta("s1")).session_id), (0, "s1"))
    same([each.session_id for each in await store.list_sessions()], ["s1"])


@CASES.case("A4.01-nonce", LEASES)
async def _nonce(harness: StoreHarness) -> None:
    """The same nonce again gives the same answer, whom it displaced included; it gives nobody else anything."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    await mine.lease(store, ttl_ms=1)
    first = await _taken_over(store, theirs)
    same([await theirs.claim(store, nonce=first.lease.token) for _ in range(2)], [first, first])
    same(first.displaced.holder, mine.holder)
    same(await mine.claim(store, nonce=first.lease.token), LeaseBusy(first.lease))


@CASES.case("A4.02", LEASES, JOURNAL)
async def _lapsed_commit(harness: StoreHarness) -> None:
    """A commit whose lease lapsed is applied all the same, and lets go of nobody's lease but its own.

    Here the head's revision publishes alone: an old lease stops a commit only once a successor claimed its item.
    """
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.lapsed(store, new_item())
    successor = (await _taken_over(store, theirs)).lease
    await scribe.write(store, mine.commit(scribe, lease, item, "one"))
    same(await store.load_lease("s1"), successor)
    same((await listed(store, "s1"), await store.load_revision("s1")), ([], 1))


@CASES.case("A4.03", LEASES, JOURNAL)
async def _rotation(harness: StoreHarness) -> None:
    """The same holder's next claim changes the token: what was done under the old one is refused, a commit isn't."""
    store, mine, scribe = await harness.open(), Runner("mine"), Scribe()
    lease, item = await mine.begin(store, new_item())
    rotated = await mine.lease(store)
    same(rotated, evolve(lease, token=rotated.token, expires_at_ms=rotated.expires_at_ms))
    same(rotated.token == lease.token, False)
    calls: list[Call] = [
        lambda: store.append_journal(lease, item.no, [effect("a")]),
        lambda: store.renew_lease(lease, ttl_ms=LONG),
        lambda: store.park_turn(lease, item.no),
    ]
    for call in calls:
        with raises(LeaseLost):
            await call()
    await store.append_journal(rotated, item.no, [effect("a")])
    await scribe.write(store, mine.commit(scribe, lease, item, "one"))
    same(await store.load_lease("s1"), rotated)


@CASES.case("A4.04", LEASES)
async def _two_executors(harness: StoreHarness) -> None:
    """Of two executors of one host the second is busy, and may commit without a lease: that revokes nothing."""
    store, scribe = await harness.open(), Scribe()
    first, second, reborn = Runner(executor="1"), Runner(executor="2"), Runner(executor="1", incarnation="2")
    lease = await first.lease(store)
    same([await each.claim(store) for each in (second, reborn)], [LeaseBusy(lease), LeaseBusy(lease)])
    await scribe.write(store, scribe.turn("without"))
    same(await store.load_lease("s1"), lease)
    await store.renew_lease(lease, ttl_ms=LONG)


@CASES.case("A4.05", LEASES)
async def _linearizable(harness: StoreHarness) -> None:
    """Claims and renewals of one holder at once: a claim's token is good until the next claim."""
    stores = [await harness.open(), await harness.open()]
    mine = Runner("mine")
    made = [await mine.lease(stores[0])]
    seen: list[tuple[object, object]] = []  # what was got, and what it ought to be

    async def rotate(store: Any) -> None:
        for _ in range(5):
            lease = await mine.lease(store)
            made.append(lease)

    async def renew(store: Any) -> None:
        for _ in range(5):
            lease = made[-1]
            try:
                renewed = await store.renew_lease(lease, ttl_ms=LONG)
            except LeaseLost:
                seen.append((getattr(await store.load_lease("s1"), "token", None) == lease.token, False))
            else:
                seen.append(((renewed.token, renewed.generation), (lease.token, 1)))

    async with anyio.create_task_group() as group:
        for store in stores:
            group.start_soon(rotate, store)
            group.start_soon(renew, store)
    same([got for got, _ in seen], [wanted for _, wanted in seen])
    same(len({lease.token for lease in made}), 11)
    same({(lease.generation, lease.claimed_at_ms) for lease in made}, {(1, made[0].claimed_at_ms)})
    held = await stores[0].load_lease("s1")
    good = []
    for token in {lease.token for lease in made}:
        try:
            await stores[1].renew_lease(evolve(held, token=token), ttl_ms=LONG)
        except LeaseLost:
            continue
        good.append(token)
    same(good, [held.token])


@CASES.case("A4.06", LEASES, JOURNAL)
async def _expiry(harness: StoreHarness) -> None:
    """A lease ends by its time alone, whoever commits meanwhile; a lapsed one can't be used before it is renewed."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease = await mine.lease(store)
    await scribe.write(store, scribe.turn("by somebody"))
    same(await theirs.claim(store), LeaseBusy(lease))
    await store.release_lease(lease)
    lease, item = await mine.lapsed(store, new_item())
    with raises(LeaseLost):
        await store.append_journal(lease, item.no, [effect("a")])
    same(await store.load_lease("s1"), lease)
    lease = await store.renew_lease(lease, ttl_ms=LONG)
    await store.append_journal(lease, item.no, [effect("a")])
    same(await theirs.claim(store), LeaseBusy(lease))


@CASES.case("A4.07", LEASES, Need.CLOCK)
async def _injected_clock(harness: StoreHarness) -> None:
    """A lease lapses by the store's clock, not by what anybody else says."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    lease = await mine.lease(store)
    harness.advance(LONG - 10_000)
    same(await theirs.claim(store), LeaseBusy(lease))
    harness.advance(10_000)
    after = await theirs.claim(store)
    same((after.lease.generation, after.displaced), (2, lease))
    with raises(LeaseLost):
        await store.renew_lease(evolve(lease, expires_at_ms=INT_MAX), ttl_ms=LONG)


@CASES.case("A4.08", LEASES)
async def _diagnostic(harness: StoreHarness) -> None:
    """Looking at a lease changes nothing, lapsed or not, and makes no session."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    same((await store.load_lease("s1"), await store.load_meta("s1")), (None, None))
    await store.create_session(SessionMeta(session_id="s1", created_at_ms=1))
    same(await store.load_lease("s1"), None)
    lease = await mine.lease(store, ttl_ms=1)
    same([await store.load_lease("s1") for _ in range(3)], [lease] * 3)
    same((await _taken_over(store, theirs)).lease.generation, 2)


@CASES.case("A4.09", LEASES)
async def _displacement(harness: StoreHarness) -> None:
    """A claim that follows another holder's lapsed lease names it; our own, a released one, and re-entry aren't."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    same((await mine.claim(store, ttl_ms=1)).displaced, None)
    taken = await _taken_over(store, theirs, ttl_ms=1)
    same((taken.displaced.holder, taken.displaced.generation), (mine.holder, 1))
    for _ in tries("our own lease of a millisecond lapses"):
        again = await theirs.claim(store, ttl_ms=1)
        same(again.displaced, None)
        if again.lease.generation == 3:
            break
    held = await theirs.lease(store)
    await store.release_lease(held)
    same((await mine.claim(store)).displaced, None)


@CASES.case("A4.09-gone", LEASES)
async def _gone(harness: StoreHarness) -> None:
    """A holder whose process is provably gone is displaced at once; one that lives or can't be told isn't."""
    store, theirs = await harness.open(), Runner("theirs")
    stamp = process_stamp()
    if stamp is None:
        return  # this system can't tell, and then nobody is gone
    for index, (process, gone) in enumerate(
        [
            (stamp, False),
            (evolve(stamp, boot="another"), False),
            (evolve(stamp, started=stamp.started + 1), True),
        ]
    ):
        mine = Runner("mine", session_id=f"s{index}")
        mine.holder = evolve(mine.holder, process=process)
        lease = await mine.lease(store)
        theirs.session_id = mine.session_id
        claim = await theirs.claim(store)
        same(claim, LeaseAcquired(claim.lease, lease) if gone else LeaseBusy(lease))


@CASES.case("A4.10", LEASES, JOURNAL)
async def _fence(harness: StoreHarness) -> None:
    """Each field of the fence counts: session, owner, incarnation, executor, generation, token, and the time."""
    store, mine = await harness.open(), Runner("mine")
    lease, item = await mine.begin(store, new_item())
    before = await store.load_lease("s1")
    for name, other in forged(lease).items():
        with raises(LeaseLost):
            await store.append_journal(other, item.no, [effect("a")])
        with raises(LeaseLost):
            await store.park_turn(other, item.no)
        with raises(LeaseLost):
            await store.renew_lease(other, ttl_ms=LONG)
        same((name, await store.release_lease(other)), (name, False))
    same((await store.load_lease("s1"), list(await store.load_journal("s1", "t-k1"))), (before, []))
    await store.append_journal(evolve(lease, expires_at_ms=0, claimed_at_ms=0), item.no, [effect("a")])


@CASES.case("A4.11", LEASES)
async def _first_claim(harness: StoreHarness) -> None:
    """Of claims at once through several handles on the same data, one is acquired."""
    stores = [await harness.open() for _ in range(3)]
    claims = []

    async def claim(index: int, store: Any) -> None:
        claims.append(await Runner(f"host{index}").claim(store))

    async with anyio.create_task_group() as group:
        for index, store in enumerate(stores * 3):
            group.start_soon(claim, index, store)
    acquired = [each for each in claims if isinstance(each, LeaseAcquired)]
    same((len(claims), len(acquired)), (9, 1))
    same({each.held for each in claims if isinstance(each, LeaseBusy)}, {acquired[0].lease})


@CASES.case("A4.12", LEASES)
async def _renews_nothing(harness: StoreHarness) -> None:
    """A renewal that finds no lease is refused: one of another session, of one that nobody holds, of one never seen."""
    store, mine = await harness.open(), Runner("mine")
    lease = await mine.lease(store)
    await store.create_session(SessionMeta(session_id="s2", created_at_ms=1))
    for session_id in ("s2", "s3"):
        with raises(LeaseLost):
            await store.renew_lease(evolve(lease, session_id=session_id), ttl_ms=LONG)
    await store.release_lease(lease)
    with raises(LeaseLost):
        await store.renew_lease(lease, ttl_ms=LONG)
    same(await store.load_lease("s1"), None)


@CASES.case("F.02", LEASES, JOURNAL)
async def _woken_owner(harness: StoreHarness) -> None:
    """A holder that was away too long can write nothing over its successor, neither rows nor a commit."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.lapsed(store, new_item())
    successor, same_item = await theirs.begin(store)
    same((same_item.no, same_item.attempts, same_item.claim_generation), (item.no, 2, successor.generation))
    await store.append_journal(successor, item.no, [effect("theirs")])
    before = await everything(store, "s1"), await listed(store, "s1"), await store.load_journal("s1", "t-k1")
    with raises(LeaseLost):
        await store.append_journal(lease, item.no, [effect("mine")])
    with raises(ClaimLost):
        await store.commit(mine.commit(scribe, lease, item, "mine"))
    same((await everything(store, "s1"), await listed(store, "s1"), await store.load_journal("s1", "t-k1")), before)
    await scribe.write(store, theirs.commit(scribe, successor, same_item, "theirs"))
