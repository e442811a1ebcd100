"""Attachments: bytes by content, and whose they are (groups A7 and G)."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.errors import CommitRefused, HeadConflict
from lash_hookspecs.stores import (
    Blobs,
    Capability,
    ComponentChanged,
    ComponentUnchanged,
    attachment_id,
)
from lash_hookspecs.testing.store.kit import Cases, Need, Scribe, StoreHarness, raises, refused, same
from lash_hookspecs.testing.store.runner import Runner, new_item

__all__ = ["CASES", "DAY"]

CASES = Cases()
BLOBS, JOURNAL = Capability.BLOBS, Capability.JOURNAL
DAY = 24 * 60 * 60 * 1000
"""So long what was put waits to be adopted."""
HOUR = 60 * 60 * 1000  # to spare, where the clock goes on by itself


async def stored(store: Any, *bodies: bytes) -> list[bytes]:
    """Those of the bodies that are there."""
    return [body for body in bodies if await store.get_blob(attachment_id(body)) == body]


# ---- A7: whose they are ---------------------------------------------------------------------------------------------


@CASES.case("A7.01", BLOBS, Need.CLOCK)
async def _adopted_in_time(harness: StoreHarness) -> None:
    """What was put is the session's once a commit adopts it, and stays; what nobody adopts in time may be gone.

    It is there or it isn't: what can be read can be adopted.
    """
    store, scribe = await harness.open(), Scribe()
    wanted, forgotten = b"wanted", b"forgotten"
    ids = [(await store.put_blob(body, "image/png")).id for body in (wanted, forgotten)]
    harness.advance(DAY - HOUR)
    same(await stored(store, wanted, forgotten), [wanted, forgotten])
    await scribe.write(store, scribe.turn("x", adopted_blobs=ids[:1]))
    harness.advance(2 * HOUR)
    await store.put_blob(b"whatever comes later", "image/png")
    same(await stored(store, wanted), [wanted])
    if not await stored(store, forgotten):
        async with refused(store, CommitRefused, "blob_ref"):
            await store.commit(scribe.turn("y", adopted_blobs=tuple(ids)))
    else:
        await scribe.write(store, scribe.turn("y", adopted_blobs=tuple(ids)))


@CASES.case("A7.02", BLOBS)
async def _each_owns_its_own(harness: StoreHarness) -> None:
    """Equal bytes are each session's own, however they came to it: they go with the last one that has them."""
    store, put = await harness.open(), b"the same"
    scribes = {name: Scribe(name) for name in ("brought", "adopted", "component")}
    await scribes["brought"].write(store, scribes["brought"].turn("x", blobs=(put,)))
    await scribes["adopted"].write(store, scribes["adopted"].turn("x", adopted_blobs=(attachment_id(put),)))
    part = {"a": ComponentChanged(put)}
    await scribes["component"].write(store, scribes["component"].turn("x", components=part))
    for name, left in (("adopted", [put]), ("brought", [put]), ("component", [])):
        await store.delete_session(name)
        same((name, await stored(store, put)), (name, left))


@CASES.case("A7.03", BLOBS)
async def _kept_is_what_is_referred_to(harness: StoreHarness) -> None:
    """What sessions refer to is there, and of what they brought nothing else is, whatever was replaced or deleted."""
    store, one, two = await harness.open(), Scribe("s1"), Scribe("s2")
    a, b, c, d = b"a", b"b", b"c", b"d"
    await one.write(store, one.turn("x", blobs=(a,), components={"k": ComponentChanged(b)}))
    await two.write(store, two.turn("x", blobs=(c,), components={"k": ComponentChanged(a)}))
    same(await stored(store, a, b, c, d), [a, b, c])
    await one.write(store, one.turn("y", components={"k": ComponentChanged(d)}))
    same(await stored(store, a, b, c, d), [a, c, d])
    await one.write(store, one.turn("z", components={"other": ComponentUnchanged(attachment_id(d))}))
    await two.write(store, two.turn("y", components={}))
    same(await stored(store, a, b, c, d), [a, c, d])
    await store.delete_session("s1")
    same(await stored(store, a, b, c, d), [c])
    await store.delete_session("s2")
    same(await stored(store, a, b, c, d), [])


# ---- G: the bytes themselves ----------------------------------------------------------------------------------------


@CASES.case("G.01", BLOBS)
async def _round_trip(harness: StoreHarness) -> None:
    """Bytes come back as they were put, none and many of them too, and their reference describes them."""
    store: Blobs = await harness.open()
    for data in (b"", b"\x00\xff" * 7, bytes(range(256)) * 8192):
        ref = await store.put_blob(data, "image/png")
        same((ref.id, ref.media_type, ref.size), (attachment_id(data), "image/png", len(data)))
        same(await store.get_blob(ref.id), data)


@CASES.case("G.02", BLOBS)
async def _by_content(harness: StoreHarness) -> None:
    """Equal bytes have one id, whoever puts them and as what; a commit adopts only what is there."""
    store, scribe = await harness.open(), Scribe()
    first, second = await store.put_blob(b"x", "image/png"), await store.put_blob(b"x", "text/plain")
    same((first.id, second.media_type), (second.id, "text/plain"))
    for unknown in (attachment_id(b"y"), "x", "sha256:"):
        async with refused(store, CommitRefused, "blob_ref"):
            await store.commit(scribe.turn("z", adopted_blobs=(first.id, unknown)))
    await scribe.write(store, scribe.turn("z", adopted_blobs=(first.id,)))


@CASES.case("G.03", BLOBS, Need.CLOCK)
async def _put_again(harness: StoreHarness) -> None:
    """Bytes that are put again wait another day to be adopted, from that moment on."""
    store, scribe = await harness.open(), Scribe()
    ref = await store.put_blob(b"twice", "image/png")
    harness.advance(DAY - HOUR)
    same(await store.put_blob(b"twice", "image/png"), ref)
    harness.advance(DAY - HOUR)
    await store.put_blob(b"whatever comes later", "image/png")
    same(await stored(store, b"twice"), [b"twice"])
    await scribe.write(store, scribe.turn("x", adopted_blobs=(ref.id,)))


@CASES.case("G.03-open", BLOBS, Capability.INBOX, JOURNAL, Need.CLOCK)
async def _put_for_an_input(harness: StoreHarness) -> None:
    """Bytes that were put for an input, or while its turn ran, wait for its commit, however long it waits itself."""
    store, scribe, mine = await harness.open(), Scribe(), Runner()
    before, since = b"the input's image", b"what a tool returned"
    ids = [(await store.put_blob(before, "image/png")).id]
    now_ms = (await mine.lease(store)).claimed_at_ms
    lease, item = await mine.begin(store, new_item(accepted_at_ms=now_ms))
    ids.append((await store.put_blob(since, "image/png")).id)
    await store.park_turn(lease, item.no)
    for day in range(3):
        harness.advance(30 * DAY)
        await store.put_blob(f"whatever comes on day {day}".encode(), "image/png")
    same(await stored(store, before, since), [before, since])
    lease, item = await mine.begin(store)
    await scribe.write(store, mine.commit(scribe, lease, item, adopted_blobs=tuple(ids)))
    same(await stored(store, before, since), [before, since])


@CASES.case("G.04", BLOBS)
async def _unknown(harness: StoreHarness) -> None:
    """An unknown id, or a text that is none, has no bytes."""
    store = await harness.open()
    same([await store.get_blob(id) for id in (attachment_id(b"nothing"), "nonsense", "")], [None] * 3)


@CASES.case("G.05", BLOBS)
async def _gone_with_the_last(harness: StoreHarness) -> None:
    """Bytes go with the last session that has them; deleting that again is fine, and they can be put anew."""
    store, scribe, body = await harness.open(), Scribe(), b"picture"
    await scribe.write(store, scribe.turn("x", blobs=(body,)))
    same(await stored(store, body), [body])
    for _ in range(2):
        await store.delete_session("s1")
        same(await stored(store, body), [])
    ref = await store.put_blob(body, "image/png")
    await store.delete_session("s1")
    same((ref.id, await stored(store, body)), (attachment_id(body), [body]))


@CASES.case("G.06", BLOBS)
async def _absent(harness: StoreHarness) -> None:
    """Bytes that are gone are absent for everybody: who reads them gets None, who adopts them is refused."""
    stores, scribe, other = [await harness.open() for _ in range(2)], Scribe(), Scribe("s2")
    await other.write(stores[0], other.turn("x", blobs=(b"gone",)))
    same([await stored(store, b"gone") for store in stores], [[b"gone"]] * 2)
    await stores[0].delete_session("s2")
    same([await store.get_blob(attachment_id(b"gone")) for store in stores], [None] * 2)
    async with refused(stores[1], CommitRefused, "blob_ref"):
        await stores[1].commit(scribe.turn("x", adopted_blobs=(attachment_id(b"gone"),)))


@CASES.case("G.09", BLOBS, Need.REOPEN)
async def _says_that_it_keeps(harness: StoreHarness) -> None:
    """A store whose data can be opened again says that it is persistent, and is."""
    store = await harness.open()
    same(store.persistent, True)
    ref = await store.put_blob(b"kept", "text/plain")
    store = await harness.reopen()
    same((store.persistent, await store.get_blob(ref.id)), (True, b"kept"))


@CASES.case("G.09-ends", BLOBS, Need.ENDS)
async def _says_that_it_ends(harness: StoreHarness) -> None:
    """A store whose data ends with it says that it isn't persistent: no turn calls itself durable on it."""
    same((await harness.open()).persistent, False)


@CASES.case("G.10", BLOBS, Need.REOPEN)
async def _survives(harness: StoreHarness) -> None:
    """Bytes survive reopening, put ones and adopted ones."""
    store, scribe = await harness.open(), Scribe()
    await store.put_blob(b"put", "text/plain")
    await scribe.write(store, scribe.turn("x", blobs=(b"brought",)))
    same(await stored(await harness.reopen(), b"put", b"brought"), [b"put", b"brought"])


@CASES.case("G.17", BLOBS, JOURNAL, Need.REOPEN)
async def _of_a_turn_that_goes_on(harness: StoreHarness) -> None:
    """What a turn put before its process died is there for its successor to adopt, and then its session's."""
    store, dead, mine, scribe = await harness.open(), Runner("dead"), Runner("mine"), Scribe()
    _, item = await dead.lapsed(store, new_item())
    ref = await store.put_blob(b"picture", "image/png")
    store = await harness.reopen()
    later, again = await mine.begin(store)
    same((again.no, await store.get_blob(ref.id)), (item.no, b"picture"))
    await scribe.write(store, mine.commit(scribe, later, again, "x", adopted_blobs=(ref.id,)))
    with raises(HeadConflict):  # the superseded one comes too late, and takes nothing along
        await store.commit(Scribe().turn("y", adopted_blobs=(ref.id,)))
    same(await stored(await harness.reopen(), b"picture"), [b"picture"])
