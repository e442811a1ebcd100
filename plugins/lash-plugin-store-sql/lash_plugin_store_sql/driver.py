"""What the store asks of a database: connections, transactions, and a name for every error.

A dialect implements `Driver`. Each connection lives on one thread from its opening to its closing, but for one that is
`near`; SQL is written once, with `?` for parameters, in the words that SQLite and Postgres share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

from lash_hookspecs.errors import StoreError

__all__ = ["Connection", "Driver", "Row", "StatementSeen", "Tx", "as_store_error", "transaction"]

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]

StatementSeen: TypeAlias = Callable[[str, Sequence[Any], int], None]
"""Told of each statement: its text, its parameters (of every row, for a bulk write), the rows it returned or wrote."""


class Tx(Protocol):
    """A running transaction: all that the modules which speak SQL get to see."""

    def lock(self, name: str) -> None:
        """Make other writers of `name` wait until this transaction ends; nothing to do where there is one writer."""
        ...

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        """The first row, if any."""
        ...

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """All rows."""
        ...

    def pages(self, sql: str, params: Sequence[Any] = ()) -> Iterator[list[Row]]:
        """All rows, some hundred at a time; to be read to the end before anything else is asked."""
        ...

    def write(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run a writing statement; the number of rows it touched."""
        ...

    def write_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run a writing statement once per row."""
        ...


class Connection(Tx, Protocol):
    """One connection, and the brackets around what runs on it."""

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open; an error may have ended it."""
        ...

    def begin(self, *, write: bool) -> None:
        """Open a transaction: one that may write from the start, or one that reads a single state of everything."""
        ...

    def commit(self) -> None:
        """Make it durable."""
        ...

    def rollback(self) -> None:
        """Forget it; fine if there is none."""
        ...

    def savepoint(self) -> None:
        """Mark a place inside the transaction."""
        ...

    def release(self) -> None:
        """Keep what came after the mark."""
        ...

    def rollback_to(self) -> None:
        """Forget what came after the mark, and the mark."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


class Driver(Protocol):
    """A database that connections can be opened to.

    `seen` is told of each statement on the thread that ran it, and what it raises is raised there.
    """

    seen: StatementSeen | None

    @property
    def location(self) -> str:
        """Where it is, for people; without secrets."""
        ...

    @property
    def readers(self) -> int:
        """How many connections may read beside the writer; 0 if the only connection does everything."""
        ...

    def connect(self, *, write: bool) -> Connection:
        """Open a connection; the writer's is the first, and makes sure that the database is there and ours."""
        ...

    def connect_near(self) -> Connection | None:
        """A connection that reads or writes a row or two, for any thread, one at a time.

        It waits for nobody else, and leaves to the writer what takes long, and to whoever uses it to sync `log`. None
        where there is no such thing.
        """
        ...

    @property
    def log(self) -> str | None:
        """The file to sync after a commit of the near connection; None if none need be, or it does that itself."""
        ...

    def error(self, error: Exception) -> Exception:
        """The error to raise instead of the database's own; any other error comes back as it is."""
        ...


def as_store_error(error: Exception, driver: Driver) -> Exception:
    """The error to hand to the caller, with its cause chained."""
    known = driver.error(error)
    if known is not error and isinstance(known, StoreError):
        known.__cause__ = error
    return known


def transaction(connection: Connection, work: Callable[[Tx], T]) -> T:
    """Run `work` in the transaction that is open, and commit it, or forget it."""
    try:
        value = work(connection)
        connection.commit()
    finally:
        connection.rollback()
    return value
