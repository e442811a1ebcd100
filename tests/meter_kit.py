"""What a turn costs the store: a database in memory that counts the statements it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from agents import plugin
from attrs import define, field

from lash_hookspecs import Store, StoreContext, StoreSpec
from lash_plugin_store_sql.locks import MemoryLocks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver
from lash_plugin_store_sql.store import SqlStore

__all__ = ["Meter", "metered_store"]


@define
class Meter:
    """Counts statements with their rows, and the bytes of texts and blobs in their parameters."""

    statements: Counter[tuple[str, int]] = field(factory=Counter)
    size: int = 0

    def __call__(self, sql: str, params: Sequence[Any], rows: int) -> None:
        self.statements[sql, rows] += 1
        self.size += sum(len(each) for each in params if isinstance(each, str | bytes))

    def reading(self) -> tuple[Counter[tuple[str, int]], int]:
        """What was counted since the last reading."""
        seen, size = self.statements, self.size
        self.statements, self.size = Counter(), 0
        return seen, size


def metered_store(seen: Callable[[str, Sequence[Any], int], None]) -> object:
    """A plugin that offers the SQL store in memory as `metered://`, with a meter in its driver."""

    async def opened(context: StoreContext) -> Store:
        return await SqlStore.open(SqliteDriver(None, SqlSettings(), seen=seen), MemoryLocks())

    def lash_stores() -> list[StoreSpec]:
        return [StoreSpec(schemes=("metered",), open=opened)]

    return plugin("metered-store", lash_stores)
