"""What a turn with a journal costs, counted in statements, rows and bytes: figures, so that a change is seen and meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin

from lash_framework import envelope_hash
from lash_framework.settings import load_settings
from lash_hookspecs import LlmRequest, Store, StoreContext, StoreSpec, tool
from lash_plugin_provider_scripted.script import Call, Reply
from lash_plugin_store_sql.locks import MemoryLocks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver
from lash_plugin_store_sql.store import SqlStore

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # counts are the same on every event loop

ROUNDS = 4
ALONE = load_settings(env={}, sets=["plugins.disabled=hello"])  # whose checkpoint hook makes every reply durable


class Transactions:
    """The statements of each writing transaction, as verb and table, with the rows and the bytes of its parameters."""

    def __init__(self) -> None:
        self.done: list[list[tuple[str, int, int]]] = []
        self._open = False

    def __call__(self, sql: str, params: Sequence[Any], rows: int) -> None:
        verb, *rest = sql.split()
        if sql == "BEGIN IMMEDIATE":
            self.done.append([])
            self._open = True
        elif verb in ("COMMIT", "ROLLBACK"):
            self._open = False
        elif self._open:
            table = rest[1] if verb in ("INSERT", "DELETE") else rest[0] if verb == "UPDATE" else ""
            size = sum(len(each) for each in params if isinstance(each, str | bytes))
            self.done[-1].append((f"{verb} {table}".strip(), rows, size))


def metered(seen: Transactions, path: Path | None = None) -> object:
    """A plugin that offers the SQL store, with a counter in its driver."""

    async def opened(context: StoreContext) -> Store:
        driver = SqliteDriver(path and str(path), SqlSettings(synchronous="normal"), seen=seen)
        return await SqlStore.open(driver, MemoryLocks())

    def lash_stores() -> list[StoreSpec]:
        return [StoreSpec(schemes=("metered",), open=opened)]

    return plugin("metered-store", lash_stores)


@tool
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


def rounds(request: LlmRequest) -> Reply:
    """Four rounds with one tool, then an answer."""
    done = 0
    for message in reversed(request.messages):
        if message.role == "user" and getattr(message.blocks[0], "call_id", None) is None:
            break
        done += getattr(message.blocks[0], "content", None) is not None or message.role == "tool"
    calls = sum(1 for each in request.messages if getattr(each.blocks[0], "tool_name", None)) % (ROUNDS + 1)
    return Reply(text="done") if calls == ROUNDS else Reply(tool_calls=[Call("shout", {"text": "hey"}, "call")])
