"""The store against the contract's kit: in a file and in memory, on asyncio and on trio."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lash_hookspecs.stores import StoreContext
from lash_hookspecs.testing.store import NOT_APPLICABLE, Corruption, StoreCase, store_cases
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.store import SqlStore, open_store

# What each kind of damage is, in SQL; `:no` is the session's number.
NO = "(SELECT no FROM sessions WHERE session_id = :id)"
LEAF = f"({NO} << 32 | (SELECT leaf_generation FROM sessions WHERE session_id = :id))"
RECEIPT = f"(SELECT max(key) FROM receipts WHERE (key >> 32) = {NO})"
COMPONENT = f"(SELECT hash FROM refs WHERE session_no = {NO} AND kind = 'component')"
DAMAGE = {
    Corruption.NODE_GAP: f"DELETE FROM nodes WHERE key = {LEAF} - 1",
    Corruption.NODE_PARENT: f"UPDATE nodes SET parent = randomblob(32) WHERE key = {LEAF} - 1",
    Corruption.NODE_FRAME: f"UPDATE nodes SET frame_generation = frame_generation + 1 WHERE key = {LEAF} - 1",
    Corruption.NODE_KIND: f"UPDATE nodes SET kind = 'surprise' WHERE key = {LEAF} - 1",
    Corruption.HEAD_LEAF: "UPDATE sessions SET leaf = randomblob(32) WHERE session_id = :id",
    Corruption.HEAD_NO_LEAF: "UPDATE sessions SET leaf = NULL WHERE session_id = :id",
    Corruption.HEAD_REVISION: "UPDATE sessions SET head_revision = -1 WHERE session_id = :id",
    Corruption.RECEIPT_NODES: f"UPDATE receipts SET node_count = node_count + 1 WHERE key = {RECEIPT}",
    Corruption.RECEIPT_GONE: f"DELETE FROM receipts WHERE key = {RECEIPT}",
    Corruption.COMPONENT_GONE: f"DELETE FROM blobs WHERE hash = {COMPONENT}",
    Corruption.COMPONENT_BODY: f"UPDATE blobs SET data = x'00' WHERE hash = {COMPONENT}",
}


QUICK = SqlSettings(synchronous="normal")  # no case here is about a loss of power


class FileHarness:
    """A database in a file, with any number of stores open on it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stores: list[SqlStore] = []

    async def open(self) -> SqlStore:
        store = await open_store(StoreContext(url=f"sqlite:///{self._path}", settings=QUICK))
        self._stores.append(store)
        return store

    async def reopen(self) -> SqlStore:
        await self.aclose()
        return await self.open()

    async def corrupt(self, kind: Corruption, session_id: str) -> None:
        db = sqlite3.connect(self._path, isolation_level=None)
        try:
            assert db.execute(DAMAGE[kind], {"id": session_id}).rowcount == 1
        finally:
            db.close()

    async def aclose(self) -> None:
        while self._stores:
            await self._stores.pop().aclose()


class MemoryHarness:
    """A database in memory: one store holds it."""

    def __init__(self) -> None:
        self._store: SqlStore | None = None

    async def open(self) -> SqlStore:
        if self._store is None:
            self._store = await open_store(StoreContext(url="sqlite://"))
        return self._store

    async def reopen(self) -> SqlStore:
        raise NotImplementedError("its data ends with it")

    async def corrupt(self, kind: Corruption, session_id: str) -> None:
        raise NotImplementedError("nobody else can reach it")

    async def aclose(self) -> None:
        if self._store is not None:
            await self._store.aclose()


FILE_CASES = store_cases(SqlStore.capabilities)
MEMORY_CASES = store_cases(SqlStore.capabilities, reopen=False, corruptions=())


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


@pytest.mark.parametrize("id", NOT_APPLICABLE)
def test_what_means_nothing_here_says_why(id: str) -> None:
    assert id not in {case.id for case in FILE_CASES}
    pytest.skip(f"{id}: {NOT_APPLICABLE[id]}")  # so that pytest's summary names it


def test_every_id_of_the_asked_groups_is_a_case_or_has_a_reason() -> None:
    """The catalogue's groups, by their number of statements."""
    groups = {"A1": 21, "A2": 15, "A3": 10}
    asked = [f"{group}.{number:02}" for group, last in groups.items() for number in range(1, last + 1)]
    asked += [f"C.{number:02}" for number in (3, 6, 8, 9, 10, 11, 12, 13, 16)]
    asked += [f"D.{number:02}" for number in range(4, 11)]
    known = {case.id.partition("-")[0] for case in FILE_CASES} | set(NOT_APPLICABLE)
    assert set(asked) <= known


def test_every_case_says_what_it_states() -> None:
    assert all(case.statement.endswith(".") for case in FILE_CASES)
    assert len({case.id for case in FILE_CASES}) == len(FILE_CASES)
