"""The store against the contract's kit: in a file and in memory, on asyncio and on trio."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import anyio
import anyio.lowlevel
import pytest
from attrs import evolve
from store_sql_damage import damage

from lash_hookspecs.errors import LashError
from lash_hookspecs.inbox import CancelOutcome, Ingress
from lash_hookspecs.journal import TurnBegin, TurnBegun, TurnClaim
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.leases import Lease, LeaseClaim, LeaseHolder
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.stores import (
    Capability,
    CommitBudget,
    CommitResult,
    ComponentChanged,
    LoadedSession,
    RuntimeCommit,
    SessionMeta,
    attachment_id,
)
from lash_hookspecs.testing.store import NOT_APPLICABLE, Corruption, StoreCase, store_cases
from lash_plugin_store_sql.locks import MemoryLocks, file_locks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver
from lash_plugin_store_sql.store import SqlStore

QUICK = SqlSettings(synchronous="normal")  # no case here is about a loss of power


class Clock:
    """The time, and how far we are ahead of it."""

    def __init__(self) -> None:
        self._ahead_ms = 0

    def __call__(self) -> int:
        return time.time_ns() // 1_000_000 + self._ahead_ms

    def advance(self, ms: int) -> None:
        self._ahead_ms += ms


class FileHarness:
    """A database in a file, with any number of stores open on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stores: list[SqlStore] = []
        self._clock = Clock()
        self.advance = self._clock.advance

    async def open(self) -> SqlStore:
        locks = file_locks(f"{self._path}-locks")
        store = await SqlStore.open(SqliteDriver(str(self._path), QUICK), locks, self._clock)
        self._stores.append(store)
        return store

    async def reopen(self) -> SqlStore:
        await self.aclose()
        return await self.open()

    async def corrupt(self, kind: Corruption, session_id: str) -> None:
        damage(self._path, kind, session_id)

    async def aclose(self) -> None:
        while self._stores:
            await self._stores.pop().aclose()


class MemoryHarness:
    """A database in memory: one store holds it."""

    def __init__(self) -> None:
        self._store: SqlStore | None = None
        self._clock = Clock()
        self.advance = self._clock.advance

    async def open(self) -> SqlStore:
        if self._store is None:
            self._store = await SqlStore.open(SqliteDriver(None, QUICK), MemoryLocks(), self._clock)
        return self._store

    async def reopen(self) -> SqlStore:
        raise NotImplementedError("its data ends with it")

    async def corrupt(self, kind: Corruption, session_id: str) -> None:
        raise NotImplementedError("nobody else can reach it")

    async def aclose(self) -> None:
        if self._store is not None:
            await self._store.aclose()


FILE_CASES = store_cases(SqlStore.capabilities, clock=True)
MEMORY_CASES = store_cases(SqlStore.capabilities, reopen=False, clock=True, corruptions=())


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[FileHarness]:
    harness = FileHarness(tmp_path / "lash.db")
    yield harness
    await harness.aclose()


@pytest.fixture
async def memory() -> AsyncIterator[MemoryHarness]:
    harness = MemoryHarness()
    yield harness
    await harness.aclose()


@pytest.mark.parametrize("case", FILE_CASES, ids=lambda case: case.id)
async def test_a_store_in_a_file_conforms(case: StoreCase, file: FileHarness) -> None:
    await case.run(file)


@pytest.mark.parametrize("case", MEMORY_CASES, ids=lambda case: case.id)
async def test_a_store_in_memory_conforms(case: StoreCase, memory: MemoryHarness) -> None:
    await case.run(memory)


# ---- the kit itself -----------------------------------------------------------------------------------------------


class Liar:
    """A store in memory that breaks its word in one way."""

    def __init__(self, honest: SqlStore, **lies: Any) -> None:
        self._honest = honest
        self._lies = lies

    async def opened(self) -> Liar:
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self._lies:
            return partial(self._lies[name], self._honest)
        return getattr(self._honest, name)


async def commit_on_any_head(store: SqlStore, commit: RuntimeCommit) -> CommitResult:
    head = await store.load_head(commit.session_id)
    return await store.commit(evolve(commit, expected_head_revision=head.head_revision if head else 0))


async def commit_without_usage(store: SqlStore, commit: RuntimeCommit) -> CommitResult:
    return await store.commit(evolve(commit, usage=()))


async def commit_without_bytes(store: SqlStore, commit: RuntimeCommit) -> CommitResult:
    return await store.commit(evolve(commit, blobs=()))


async def commit_without_budget(store: SqlStore, commit: RuntimeCommit) -> CommitResult:
    return await store.commit(evolve(commit, budget=CommitBudget(max_bytes=None, max_rows=None)))


async def commit_and_forget_the_receipt(store: SqlStore, commit: RuntimeCommit) -> CommitResult:
    result = await store.commit(commit)
    return evolve(result, receipt_replayed=False)


LATE: WeakKeyDictionary[SqlStore, list[RuntimeCommit]] = WeakKeyDictionary()


async def commit_later_if_cancelled(store: SqlStore, commit: RuntimeCommit) -> CommitResult:
    late = LATE.setdefault(store, [])
    while late:
        await store.commit(late.pop())
    try:
        await anyio.lowlevel.checkpoint()
    except anyio.get_cancelled_exc_class():
        late.append(commit)  # to be written with whatever comes next
        raise
    return await store.commit(commit)


async def everything_is_on_the_path(store: SqlStore, session_id: str, node_id: str) -> bool:
    return True


async def delete_nothing(store: SqlStore, session_id: str) -> bool:
    return True


async def always_new(store: SqlStore, meta: SessionMeta) -> bool:
    await store.create_session(meta)
    return True


async def no_bytes(store: SqlStore, id: str) -> bytes | None:
    return None


def held_by_nobody(store: SqlStore, session_id: str) -> AbstractContextManager[None]:
    return nullcontext()


async def all_frames(store: SqlStore, session_id: str, *, all_frames: bool = False) -> LoadedSession | None:
    return await store.load_session(session_id, all_frames=True)


async def take_what_is_held(
    store: SqlStore, session_id: str, holder: LeaseHolder, *, nonce: str, ttl_ms: int
) -> LeaseClaim:
    held = await store.load_lease(session_id)
    if held is not None:
        await store.release_lease(held)
    return await store.claim_lease(session_id, holder, nonce=nonce, ttl_ms=ttl_ms)


async def claim_anew(store: SqlStore, session_id: str, holder: LeaseHolder, *, nonce: str, ttl_ms: int) -> LeaseClaim:
    return await store.claim_lease(session_id, holder, nonce=f"{nonce} {uuid4()}", ttl_ms=ttl_ms)


async def renew_whatever(store: SqlStore, lease: Lease, *, ttl_ms: int) -> Lease:
    return evolve(lease, expires_at_ms=lease.expires_at_ms + ttl_ms)


async def append_by_anybody(
    store: SqlStore, lease: Lease, no: int, rows: Sequence[JournalRow], *, claims: Sequence[int] = ()
) -> None:
    held = await store.load_lease(lease.session_id)
    await store.append_journal(held or lease, no, rows, claims=claims)


async def append_and_take_nothing(
    store: SqlStore, lease: Lease, no: int, rows: Sequence[JournalRow], *, claims: Sequence[int] = ()
) -> None:
    await store.append_journal(lease, no, rows)


async def begin_anew(store: SqlStore, begin: TurnBegin) -> TurnClaim:
    return await store.begin_turn(evolve(begin, nonce=f"{begin.nonce} {uuid4()}"))


async def begin_from_nothing(store: SqlStore, begin: TurnBegin) -> TurnClaim:
    claim = await store.begin_turn(begin)
    return evolve(claim, rows=()) if isinstance(claim, TurnBegun) else claim


async def commit_and_settle_nothing(store: SqlStore, commit: RuntimeCommit) -> CommitResult:
    return await store.commit(evolve(commit, settles=None))


async def cancel_in_words(
    store: SqlStore, session_id: str, nos: Sequence[int], reason: str
) -> Mapping[int, CancelOutcome]:
    return dict.fromkeys(nos, CancelOutcome.CANCELLED)


async def something_waits(store: SqlStore, session_id: str, ingress: Ingress) -> bool:
    return True


async def park_in_words(store: SqlStore, lease: Lease, no: int, **how: Any) -> None:
    pass


async def drop_nothing(store: SqlStore, *, before_ms: int) -> int:
    return 0


async def backwards(store: SqlStore, session_id: str, turn_id: str) -> Sequence[JournalRow]:
    return (await store.load_journal(session_id, turn_id))[::-1]


async def bytes_of_another(store: SqlStore, id: str) -> bytes | None:
    found = await store.get_blob(id)
    return found and found[::-1] + b"!"


CACHED: WeakKeyDictionary[SqlStore, dict[str, bytes]] = WeakKeyDictionary()


async def bytes_from_a_cache(store: SqlStore, id: str) -> bytes | None:
    cache = CACHED.setdefault(store, {})
    if id not in cache and (found := await store.get_blob(id)) is not None:
        cache[id] = found
    return cache.get(id)


async def bytes_of_nothing(store: SqlStore, id: str) -> bytes | None:
    return await store.get_blob(id) or b""


async def put_once(store: SqlStore, data: bytes, media_type: str) -> AttachmentRef:
    if await store.get_blob(attachment_id(data)) is None:
        return await store.put_blob(data, media_type)
    return AttachmentRef(id=attachment_id(data), media_type=media_type, size=len(data))


async def keep_what_was_replaced(store: SqlStore, commit: RuntimeCommit) -> CommitResult:
    for entry in (commit.components or {}).values():
        if isinstance(entry, ComponentChanged):
            await store.put_blob(entry.body, "text/plain")
    return await store.commit(commit)


LIES: list[tuple[str, Callable[..., Any], set[str]]] = [
    ("commit", commit_on_any_head, {"A2.09", "D.05"}),
    ("commit", commit_without_usage, {"A1.06", "A3.05", "A3.06", "A3.07", "A3.08", "A3.09", "D.09", "D.10"}),
    ("commit", commit_without_bytes, {"F.09", "F.12"}),
    ("commit", commit_without_budget, {"A1.19", "A1.20"}),
    ("commit", commit_and_forget_the_receipt, {"A2.01", "A2.03", "A2.07", "A3.09"}),
    ("commit", commit_later_if_cancelled, {"D.10-settled"}),
    ("is_on_path", everything_is_on_the_path, {"A1.07", "C.10", "D.07"}),
    ("delete_session", delete_nothing, {"C.03", "C.06", "C.08", "C.09", "C.16", "C.25"}),
    ("create_session", always_new, {"C.06", "C.13"}),
    ("get_blob", no_bytes, {"A3.10", "A7.01", "A7.02", "C.25", "C.26", "F.10", "G.01", "G.03"}),
    ("get_blob", bytes_of_another, {"G.01"}),
    ("get_blob", bytes_from_a_cache, {"A7.02", "A7.03", "C.25", "G.05", "G.06"}),
    ("get_blob", bytes_of_nothing, {"G.04", "G.06"}),
    ("put_blob", put_once, {"G.03"}),
    ("commit", keep_what_was_replaced, {"A3.01", "A3.10", "A7.03", "F.10"}),
    ("load_session", all_frames, {"A1.04"}),
    ("try_lock", held_by_nobody, {"S.01"}),
    ("claim_lease", take_what_is_held, {"A4.01", "A4.04", "A4.06", "A4.07"}),
    ("claim_lease", claim_anew, {"A4.01-nonce"}),
    ("renew_lease", renew_whatever, {"A4.01", "A4.03", "A4.06", "A4.07", "A4.10", "A4.12"}),
    ("append_journal", append_by_anybody, {"A4.03", "A4.10", "F.02", "L.18"}),
    (
        "append_journal",
        append_and_take_nothing,
        {"A5.05", "A5.06", "A5.08", "A5.12", "A5.14", "A5.20", "A5.24", "A5.25", "A6.06", "F.07", "F.09"},
    ),
    ("begin_turn", begin_anew, {"A6.04-replay"}),
    ("begin_turn", begin_from_nothing, {"A5.14", "A6.06", "L.01", "L.20", "L.56"}),
    (
        "commit",
        commit_and_settle_nothing,
        {"A2.15", "A5.02", "A5.09", "A6.04", "A6.05", "B.03", "B.06", "F.05", "F.08", "F.11", "L.03"},
    ),
    ("cancel_items", cancel_in_words, {"A5.04", "A5.10", "A6.02", "A6.03", "A6.07", "L.56", "L.57", "L.58", "L.59"}),
    ("has_pending", something_waits, {"A5.04", "A5.08", "A5.10", "A5.11", "A5.15"}),
    ("park_turn", park_in_words, {"A6.07", "A6.07-park", "L.18"}),
    ("drop_journals", drop_nothing, {"A6.10", "B.06", "L.03"}),
    ("load_journal", backwards, {"L.01", "L.15"}),
]
DURABLE = {Capability.LEASES, Capability.INBOX, Capability.JOURNAL}


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("method", "lie", "caught"), LIES, ids=[lie.__name__ for _, lie, _ in LIES])
async def test_the_kit_catches_a_store_that_lies(method: str, lie: Callable[..., Any], caught: set[str]) -> None:
    """By at least these cases; a kit that lets everything pass would be green too."""
    failed = set()
    durable = any(case.id in caught and case.needs & DURABLE for case in MEMORY_CASES)
    for case in MEMORY_CASES:
        if bool(case.needs & DURABLE) is not durable:
            continue
        harness = MemoryHarness()
        liar = Liar(await harness.open(), **{method: lie})
        harness.open = liar.opened  # type: ignore[assignment, method-assign]  # the same data, told otherwise
        try:
            await case.run(harness)
        except (AssertionError, LashError):
            failed.add(case.id)
        await harness.aclose()
    assert caught - failed == set()


@pytest.mark.parametrize("id", NOT_APPLICABLE)
def test_what_means_nothing_here_says_why(id: str) -> None:
    assert id not in {case.id for case in FILE_CASES}
    pytest.skip(f"{id}: {NOT_APPLICABLE[id]}")  # so that pytest's summary names it


def test_every_id_of_the_asked_groups_is_a_case_or_has_a_reason() -> None:
    """The catalogue's groups, by their number of statements."""
    groups = {"A1": 21, "A2": 15, "A3": 10, "A4": 12, "A5": 27, "A6": 10, "A7": 3, "B": 11, "E": 7, "F": 12, "L": 26}
    asked = [f"{group}.{number:02}" for group, last in groups.items() for number in range(1, last + 1)]
    asked += [f"C.{number:02}" for number in (3, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 26)]
    asked += [f"D.{number:02}" for number in range(1, 11)]
    asked += [f"G.{number:02}" for number in (*range(1, 11), *range(17, 21))]
    asked += [f"L.{number:02}" for number in range(56, 60)]
    cases = {case.id.partition("-")[0] for case in FILE_CASES}
    assert set(asked) <= cases | set(NOT_APPLICABLE)
    assert not cases & set(NOT_APPLICABLE)


CONTROLS = {
    "G.11": "bytes_of_another",
    "G.12": "bytes_from_a_cache",
    "G.13": "no_bytes",
    "G.14": "bytes_of_nothing",
    "G.15": "keep_what_was_replaced",
    "G.16": "put_once",
}
"""The catalogue's negative controls (stale, cached, missing, phantom, undeleted, without freshness) among the lies."""


def test_every_negative_control_is_among_the_lies() -> None:
    assert set(CONTROLS.values()) <= {lie.__name__ for _, lie, _ in LIES}


def test_every_case_says_what_it_states() -> None:
    assert all(case.statement.endswith(".") for case in FILE_CASES)
    assert len({case.id for case in FILE_CASES}) == len(FILE_CASES)
