"""The store: the ports of `lash_hookspecs.stores`, each method a piece of work for one of the threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import anyio.to_thread
from attrs import evolve

from lash_hookspecs.canonical import content_hash
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.forks import SessionFork
from lash_hookspecs.inbox import CancelOutcome, InboxItem, InboxState, Ingress, NewInboxItem
from lash_hookspecs.journal import TurnBegin, TurnClaim
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.leases import Lease, LeaseClaim, LeaseHolder
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.stores import (
    Capability,
    CommitResult,
    LoadedSession,
    NodesLater,
    OperationId,
    Receipt,
    RuntimeCommit,
    SessionHead,
    SessionMeta,
    SessionSummary,
    StoreContext,
)
from lash_plugin_store_sql import blobs, inbox, items, leases, reads, sessions, settle, turns, writes
from lash_plugin_store_sql.draft import draft, measure
from lash_plugin_store_sql.driver import Driver, StatementSeen
from lash_plugin_store_sql.inplace import InPlace
from lash_plugin_store_sql.locks import MemoryLocks, file_locks
from lash_plugin_store_sql.path import load_bodies, load_path
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver, database_path
from lash_plugin_store_sql.writer import Lanes

__all__ = ["SqlStore", "open_store"]

# Hashing this much takes about a millisecond; more than that isn't done on the event loop.
_HASHED_IN_PLACE = 1024 * 1024


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def open_store(context: StoreContext) -> SqlStore:
    """Open the database of a `sqlite:` URL, creating it if there is none."""
    settings = context.settings if context.settings is not None else SqlSettings()
    if not isinstance(settings, SqlSettings):
        raise ConfigurationError(f"the settings of an SQLite store are `SqlSettings`, not {type(settings).__name__}")
    driver = SqliteDriver(database_path(context.url), settings)
    # Beside the file itself, as SQLite's own: who comes by a link must meet who doesn't.
    locks = MemoryLocks() if driver.file is None else file_locks(f"{driver.file}-locks")
    return await SqlStore.open(driver, locks, context.now_ms or _now_ms)


class SqlStore:
    """An open store. Made by `open_store`."""

    capabilities = frozenset(Capability)

    def __init__(self, driver: Driver, locks: MemoryLocks, now_ms: Callable[[], int]) -> None:
        self._driver = driver
        self._locks = locks
        self._now_ms = now_ms
        self._lanes = Lanes(driver) if driver.readers else InPlace(driver)

    @classmethod
    async def open(
        cls,
        driver: Driver,
        locks: MemoryLocks,
        now_ms: Callable[[], int] = _now_ms,
    ) -> SqlStore:
        """Open the database behind a driver. The clock is for leases, deletions, blobs; commits bring their times."""
        store = cls(driver, locks, now_ms)
        await store._lanes.open()
        return store

    @property
    def persistent(self) -> bool:
        """Whether it is a file."""
        return self._driver.readers > 0

    @property
    def location(self) -> str:
        """The file's path, or `memory`."""
        return self._driver.location

    def on_statement(self, seen: StatementSeen | None) -> None:
        """Have `seen` told of each statement from now on, on the thread that ran it: to count, or to crash there."""
        self._driver.seen = seen

    async def aclose(self) -> None:
        """Finish waiting writes and let go of everything; fine to call twice."""
        await self._lanes.aclose()
        self._locks.close()

    # ---- sessions: see the port ----

    async def create_session(self, meta: SessionMeta) -> bool:
        return await self._lanes.write(partial(sessions.create_session, meta=meta))

    async def load_meta(self, session_id: str) -> SessionMeta | None:
        return await self._lanes.read(partial(reads.load_meta, session_id=session_id))

    async def load_head(self, session_id: str) -> SessionHead | None:
        return await self._lanes.read(partial(reads.load_head, session_id=session_id))

    async def load_revision(self, session_id: str) -> int | None:
        return await self._lanes.glance(partial(reads.load_revision, session_id=session_id))

    async def load_session(
        self, session_id: str, *, all_frames: bool = False, later: bool = False
    ) -> LoadedSession | None:
        load = partial(reads.load_session, session_id=session_id, all_frames=all_frames)
        if not later:
            return await self._lanes.read(load)
        found = await self._lanes.read(partial(reads.find_loadable, session_id=session_id, all_frames=all_frames))
        if found is None:
            return None
        loaded, place = found
        lanes = self._lanes
        nodes = NodesLater(
            lambda: lanes.read(lambda tx: load_path(tx, *place(tx))),
            lambda: lanes.read_now(lambda tx: load_path(tx, *place(tx))),
            None if all_frames else lambda: lanes.read(lambda tx: load_bodies(tx, *place(tx))),
        )
        return evolve(loaded, nodes=nodes)

    async def is_on_path(self, session_id: str, node_id: str) -> bool:
        return await self._lanes.read(partial(reads.is_on_path, session_id=session_id, id=node_id))

    async def load_receipt(self, session_id: str, operation: OperationId) -> Receipt | None:
        return await self._lanes.read(partial(reads.load_receipt, session_id=session_id, operation=operation))

    async def commit(self, commit: RuntimeCommit) -> CommitResult:
        size = measure(commit)
        if size > _HASHED_IN_PLACE:
            drafted = await anyio.to_thread.run_sync(draft, commit)
        else:
            drafted = draft(commit)
        return await self._lanes.write(partial(writes.commit, draft=drafted), size, commit.session_id)

    async def delete_session(self, session_id: str) -> bool:
        return await self._lanes.write(partial(sessions.delete_session, session_id=session_id, now_ms=self._now_ms()))

    async def fork_session(self, fork: SessionFork) -> bool:
        return await self._lanes.write(partial(sessions.fork_session, fork=fork))

    async def session_was_deleted(self, session_id: str) -> bool:
        return await self._lanes.read(partial(reads.was_deleted, session_id=session_id))

    async def list_sessions(self, *, limit: int = 100, before_ms: int | None = None) -> Sequence[SessionSummary]:
        return await self._lanes.read(partial(reads.list_sessions, limit=limit, before_ms=before_ms))

    async def list_receipts(self, session_id: str, *, limit: int = 100) -> Sequence[Receipt]:
        return await self._lanes.read(partial(reads.list_receipts, session_id=session_id, limit=limit))

    async def find_turn(self, turn_id: str) -> Sequence[tuple[str, Receipt]]:
        return await self._lanes.read(partial(reads.find_turn, turn_id=turn_id))

    # ---- blobs: see the port ----

    async def put_blob(self, data: bytes, media_type: str) -> AttachmentRef:
        if len(data) > _HASHED_IN_PLACE:
            digest = await anyio.to_thread.run_sync(content_hash, data)
        else:
            digest = content_hash(data)
        await self._lanes.write(partial(blobs.put_blob, digest=digest, data=data, now_ms=self._now_ms()), len(data))
        return AttachmentRef(id=f"sha256:{digest}", media_type=media_type, size=len(data))

    async def get_blob(self, id: str) -> bytes | None:
        return await self._lanes.read(partial(reads.get_blob, digest=id.removeprefix("sha256:")))

    # ---- locks: see the port ----

    def try_lock(self, session_id: str) -> AbstractContextManager[None] | None:
        self._lanes.require_open()
        return self._locks.try_lock(session_id)

    # ---- leases: see the port ----

    async def claim_lease(self, session_id: str, holder: LeaseHolder, *, nonce: str, ttl_ms: int) -> LeaseClaim:
        return await self._lanes.write(
            lambda tx: leases.claim_lease(tx, session_id, holder, nonce, ttl_ms, self._now_ms)
        )

    async def renew_lease(self, lease: Lease, *, ttl_ms: int) -> Lease:
        return await self._lanes.write(lambda tx: leases.renew_lease(tx, lease, ttl_ms, self._now_ms))

    async def release_lease(self, lease: Lease) -> bool:
        return await self._lanes.write(lambda tx: leases.release_lease(tx, lease))

    async def load_lease(self, session_id: str) -> Lease | None:
        return await self._lanes.read(lambda tx: leases.load_lease(tx, session_id))

    # ---- inbox: see the port ----

    async def enqueue(self, item: NewInboxItem) -> InboxItem:
        return await self._lanes.write(lambda tx: inbox.enqueue(tx, item), len(item.payload))

    async def list_inbox(
        self,
        session_id: str | None = None,
        *,
        states: frozenset[InboxState] | None = None,
        limit: int = 1000,
        after: int = 0,
    ) -> Sequence[InboxItem]:
        return await self._lanes.read(lambda tx: items.list_inbox(tx, session_id, states, limit, after))

    async def has_pending(self, session_id: str, ingress: Ingress) -> bool:
        return await self._lanes.glance(lambda tx: items.has_pending(tx, session_id, ingress, self._now_ms()))

    async def cancel_items(
        self, session_id: str, nos: Sequence[int], reason: str | None
    ) -> Mapping[int, CancelOutcome]:
        return await self._lanes.write(lambda tx: inbox.cancel_items(tx, session_id, nos, reason, self._now_ms))

    async def cancel_suffix(self, session_id: str, anchor: int, reason: str) -> Mapping[int, CancelOutcome]:
        return await self._lanes.write(lambda tx: inbox.cancel_suffix(tx, session_id, anchor, reason, self._now_ms))

    async def cancel_requested(self, lease: Lease, no: int) -> str | None:
        return await self._lanes.glance(lambda tx: inbox.cancel_requested(tx, lease, no))

    # ---- journal: see the port ----

    async def begin_turn(self, begin: TurnBegin) -> TurnClaim:
        size = len(begin.item.payload) if begin.item is not None else 0
        return await self._lanes.write(
            lambda tx: turns.begin_turn(tx, begin, self._now_ms), size, begin.session_id, synced=begin.synced
        )

    async def append_journal(
        self, lease: Lease, no: int, rows: Sequence[JournalRow], *, claims: Sequence[int] = (), synced: bool = True
    ) -> None:
        size = sum(len(row.body) + len(row.digests) for row in rows)
        await self._lanes.write(
            lambda tx: turns.append_journal(tx, lease, no, rows, claims, self._now_ms),
            size,
            lease.session_id,
            synced=synced,
        )

    async def sync(self, *, wait: bool = True) -> None:
        self._lanes.sync(wait=wait)

    async def load_journal(self, session_id: str, turn_id: str) -> Sequence[JournalRow]:
        return await self._lanes.read(lambda tx: turns.load_journal(tx, session_id, turn_id))

    async def park_turn(
        self,
        lease: Lease,
        no: int,
        *,
        state: InboxState = InboxState.SUSPENDED,
        reason: str | None = None,
        fruitless: int = 0,
    ) -> None:
        await self._lanes.write(lambda tx: turns.park_turn(tx, lease, no, state, reason, fruitless, self._now_ms))

    async def drop_journals(self, *, before_ms: int) -> int:
        turns_dropped, more = 0, await self._lanes.read(lambda tx: settle.has_settled(tx, before_ms))
        while more:  # in small transactions, so that nobody waits for long
            count, more = await self._lanes.write(lambda tx: settle.drop_journals(tx, before_ms))
            turns_dropped += count
        return turns_dropped
