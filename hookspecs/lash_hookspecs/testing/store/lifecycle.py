"""Sessions made, found and deleted (group C)."""

from __future__ import annotations

from lash_hookspecs.errors import CommitRefused, SessionDeleted
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import (
    Capability,
    ComponentChanged,
    OperationId,
    SessionMeta,
    attachment_id,
    frame_node_id,
)
from lash_hookspecs.testing.store.kit import (
    Call,
    Cases,
    Need,
    Scribe,
    StoreHarness,
    components_of,
    everything,
    raises,
    same,
    spent,
)

__all__ = ["CASES"]

CASES = Cases()


@CASES.case("C.03")
async def _fenced_handles(harness: StoreHarness) -> None:
    """A handle that was open before the session was deleted by another one can't write to it."""
    first, second, scribe = await harness.open(), await harness.open(), Scribe()
    await scribe.write(first, scribe.turn("one"))
    same(await second.delete_session("s1"), True)
    calls: list[Call] = [
        lambda: first.commit(scribe.turn("two")),
        lambda: first.load_session("s1"),
        lambda: first.create_session(SessionMeta(session_id="s1", created_at_ms=1)),
    ]
    for call in calls:
        with raises(SessionDeleted):
            await call()


@CASES.case("C.06")
async def _admission(harness: StoreHarness) -> None:
    """A blank id is refused, a new one created, a known one found, a deleted one refused for good."""
    store = await harness.open()
    for blank in ("", " ", "\t\n"):
        with raises(CommitRefused, "session_id"):
            await store.create_session(SessionMeta(session_id=blank, created_at_ms=1))
        with raises(CommitRefused, "session_id"):
            await store.commit(Scribe(blank).turn("x"))
    meta = SessionMeta(session_id="s1", created_at_ms=1)
    same([await store.create_session(meta) for _ in range(2)], [True, False])
    await store.delete_session("s1")
    with raises(SessionDeleted):
        await store.create_session(meta)


@CASES.case("C.08")
async def _delete_unused(harness: StoreHarness) -> None:
    """Deleting an id that was never used does nothing, and doesn't spend it."""
    store, scribe = await harness.open(), Scribe()
    same((await store.delete_session("s1"), await store.session_was_deleted("s1")), (False, False))
    same(await store.create_session(SessionMeta(session_id="s1", created_at_ms=1)), True)
    await scribe.write(store, scribe.turn("one"))


@CASES.case("C.09")
async def _after_delete(harness: StoreHarness) -> None:
    """After a deletion every write is refused, a replay of a committed one too, and nothing is found or listed."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", operation=OperationId("turn", "t-1"))
    await scribe.write(store, commit)
    await store.delete_session("s1")
    calls: list[Call] = [
        lambda: store.commit(commit),
        lambda: store.commit(scribe.append("note")),
        lambda: store.load_meta("s1"),
        lambda: store.load_head("s1"),
        lambda: store.load_revision("s1"),
        lambda: store.load_receipt("s1", commit.operation),
        lambda: store.list_receipts("s1"),
        lambda: store.is_on_path("s1", commit.nodes[0].node_id),
    ]
    for call in calls:
        with raises(SessionDeleted):
            await call()
    same(await store.session_was_deleted("s1"), True)
    same((list(await store.list_sessions()), list(await store.find_turn("t-1"))), ([], []))


@CASES.case("C.10")
async def _missing(harness: StoreHarness) -> None:
    """What doesn't exist is None or empty, not an error, and asking doesn't make it."""
    store = await harness.open()
    same([await store.load_meta("s1"), await store.load_head("s1"), await store.load_session("s1")], [None] * 3)
    same(await store.load_receipt("s1", OperationId("turn", "t")), None)
    same((list(await store.list_receipts("s1")), list(await store.find_turn("t"))), ([], []))
    same(await store.is_on_path("s1", frame_node_id("s1", "f0")), False)
    same(list(await store.list_sessions()), [])


@CASES.case("C.11", Need.REOPEN)
async def _created_and_found(harness: StoreHarness) -> None:
    """Creating seeds the meta, and reopening finds it; a session that a commit made has meta too."""
    store, scribe = await harness.open(), Scribe("s2")
    meta = SessionMeta(session_id="s1", created_at_ms=5, labels={"a": "1"})
    await store.create_session(meta)
    await scribe.write(store, scribe.turn("one"))
    store = await harness.reopen()
    same(await store.load_meta("s1"), meta)
    same(await store.load_meta("s2"), SessionMeta(session_id="s2", created_at_ms=1_001))
    same((await store.load_head("s1")).head_revision, 0)
    same([each.session_id for each in await store.list_sessions()], ["s2", "s1"])
    same([each.session_id for each in await store.list_sessions(before_ms=1_001)], ["s1"])
    same([each.session_id for each in await store.list_sessions(limit=1)], ["s2"])


@CASES.case("C.12")
async def _relations(harness: StoreHarness) -> None:
    """Every shape of a session's relations comes back: alone, a child, a grandchild, of a parent unknown or deleted."""
    store = await harness.open()
    shapes = {"root": None, "child": "root", "grandchild": "child", "orphan": "nobody"}
    for id, parent in shapes.items():
        await store.create_session(SessionMeta(session_id=id, created_at_ms=1, parent_session_id=parent))
    await store.delete_session("root")
    for id in ("child", "grandchild", "orphan"):
        same((await store.load_meta(id)).parent_session_id, shapes[id])


@CASES.case("C.13")
async def _create_again(harness: StoreHarness) -> None:
    """Creating again changes nothing: the first meta stays, and what was committed too."""
    store, scribe = await harness.open(), Scribe()
    meta = SessionMeta(session_id="s1", created_at_ms=1, labels={"first": "yes"})
    await store.create_session(meta)
    await scribe.write(store, scribe.turn("one"))
    before = await everything(store, "s1")
    same(await store.create_session(SessionMeta(session_id="s1", created_at_ms=9, parent_session_id="p")), False)
    same((await store.load_meta("s1"), await everything(store, "s1")), (meta, before))


@CASES.case("C.16")
async def _delete(harness: StoreHarness) -> None:
    """Deleting removes everything of the session, once or again, and nothing of another."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    await scribe.write(store, scribe.turn("one", usage=spent(TokenUsage(input=1))))
    await other.write(store, other.turn("theirs", usage=spent(TokenUsage(input=2))))
    before = await everything(store, "s2")
    same([await store.delete_session("s1") for _ in range(2)], [True, True])
    same(await everything(store, "s2"), before)
    same([each.session_id for each in await store.list_sessions()], ["s2"])


@CASES.case("C.25", Capability.BLOBS)
async def _delete_reclaims(harness: StoreHarness) -> None:
    """Deleting drops the bytes that only this session used."""
    store, scribe = await harness.open(), Scribe()
    parts = {"a": ComponentChanged(b"part")}
    await scribe.write(store, scribe.turn("x", components=parts, blobs=(b"picture",), config=b"config"))
    same(await store.get_blob(attachment_id(b"picture")), b"picture")
    await store.delete_session("s1")
    for body in (b"part", b"picture", b"config"):
        same(await store.get_blob(attachment_id(body)), None)


@CASES.case("C.26", Capability.BLOBS)
async def _delete_keeps(harness: StoreHarness) -> None:
    """Deleting keeps the bytes that another session uses, however they came to it."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    put = (await store.put_blob(b"put", "image/png")).id
    mine = scribe.turn("x", components={"a": ComponentChanged(b"part")}, blobs=(b"picture",), adopted_blobs=(put,))
    await scribe.write(store, mine)
    theirs = other.turn("x", components={"b": ComponentChanged(b"part")}, blobs=(b"picture",), adopted_blobs=(put,))
    await other.write(store, theirs)
    await store.delete_session("s1")
    for body in (b"part", b"picture", b"put"):
        same(await store.get_blob(attachment_id(body)), body)
    same(await components_of(store, "s2"), {"b": b"part"})
