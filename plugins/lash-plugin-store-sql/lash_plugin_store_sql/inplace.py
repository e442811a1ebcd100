"""Work on a database in memory, done where it is asked for: it waits for no disk, so no thread need stand in for it.

It has the face of `Lanes`. Work that writes is a transaction; two threads (of two event loops) take turns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio.lowlevel

from lash_hookspecs.errors import StoreUnavailable
from lash_plugin_store_sql.driver import Connection, Driver, Tx, as_store_error

__all__ = ["InPlace"]

T = TypeVar("T")


class InPlace:
    """The only connection, and a lock around it."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._closed = False

    async def open(self) -> None:
        """Open the database. Raises what stands in its way."""
        try:
            self._connection = self._driver.connect(write=True)
        except Exception as error:
            raise as_store_error(error, self._driver) from error

    async def write(
        self, work: Callable[[Tx], T], size: int = 0, owner: str | None = None, *, synced: bool = True
    ) -> T:
        """Run `work` in a write transaction. Who is cancelled meanwhile is told at the end, as by a thread."""
        value = self._run(work, write=True)
        await anyio.lowlevel.cancel_shielded_checkpoint()  # others come to run, as if it had been waited for
        return value

    def sync(self, *, wait: bool = True) -> None:
        """Nothing of it is ever durable."""

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on one state of the database."""
        await anyio.lowlevel.checkpoint()
        return self._run(work, write=False)

    async def glance(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which reads a row, at once."""
        return self._run(work, write=False)

    def read_now(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on one state of the database, here and now."""
        return self._run(work, write=False)

    async def aclose(self) -> None:
        """Let go of the database, and with it of all that is in it."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def require_open(self) -> None:
        """Raise if it was closed."""
        if self._closed or self._connection is None:
            raise StoreUnavailable(f"the store `{self._driver.location}` is closed")

    def _run(self, work: Callable[[Tx], T], *, write: bool) -> T:
        with self._lock:
            self.require_open()
            connection = self._connection
            assert connection is not None  # it is open
            try:
                if not write:
                    return work(connection)  # one state all the same: nobody else can write meanwhile
                connection.begin(write=True)
                try:
                    value = work(connection)
                    connection.commit()
                finally:
                    connection.rollback()
            except Exception as error:
                known = as_store_error(error, self._driver)
                if known is error:
                    raise
                raise known from error
            return value
