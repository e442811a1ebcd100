"""A driver whose write transactions fail on demand: what a disk, a kernel or a network may do to one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from attrs import define, field

from lash_plugin_store_sql.driver import Row
from lash_plugin_store_sql.sqlite import SqliteConnection, SqliteDriver

__all__ = ["Fault", "FaultyDriver"]


class Fault(StrEnum):
    AFTER_BEGIN = "abort after BEGIN"
    IN_THE_MIDDLE = "a statement fails, and with it the transaction"
    BEFORE_COMMIT = "abort before COMMIT"
    AT_COMMIT = "I/O error at COMMIT"
    ANSWER_LOST = "COMMIT done, answer lost"


def _disk_error() -> sqlite3.OperationalError:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


@define
class Plan:
    """The faults of the next write transactions, one each, after `skip` of them that are ended in peace.

    `at` is the statement that fails in the middle.
    """

    faults: list[Fault] = field(factory=list)
    at: int = 1
    skip: int = 0
    met: int = 0

    def now(self, *kinds: Fault) -> Fault | None:
        """The fault of the running transaction, if it is one of these; it is then used up."""
        if self.faults and not self.skip and self.faults[0] in kinds:
            self.met += 1
            return self.faults.pop(0)
        return None


class FaultyConnection(SqliteConnection):
    """The writer's connection. Everything really happens, until it fails."""

    def __init__(self, db: sqlite3.Connection, driver: FaultyDriver) -> None:
        super().__init__(db, driver)
        self._plan = driver.plan
        self._statements = 0

    def begin(self, *, write: bool) -> None:
        super().begin(write=write)
        self._statements = 0
        if write and self._plan.now(Fault.AFTER_BEGIN):
            super().rollback()
            raise _disk_error()

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        self._count(sql)
        return super().rows(sql, params)

    def write(self, sql: str, params: Sequence[Any] = ()) -> int:
        self._count(sql)
        return super().write(sql, params)

    def write_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._count(sql)
        super().write_many(sql, rows)

    def commit(self) -> None:
        if self._plan.skip:
            self._plan.skip -= 1
            return super().commit()
        match self._plan.now(Fault.BEFORE_COMMIT, Fault.AT_COMMIT, Fault.ANSWER_LOST):
            case Fault.BEFORE_COMMIT:
                super().rollback()
                raise _disk_error()
            case Fault.AT_COMMIT:
                raise _disk_error()
            case Fault.ANSWER_LOST:
                super().commit()
                raise _disk_error()
        return super().commit()

    def _count(self, sql: str) -> None:
        if sql.split()[0] not in ("SELECT", "INSERT", "UPDATE", "DELETE"):
            return
        self._statements += 1
        if self._statements == self._plan.at and self._plan.now(Fault.IN_THE_MIDDLE):
            self._db.execute("ROLLBACK")  # as SQLite does itself when it can't go on
            raise _disk_error()


class FaultyDriver(SqliteDriver):
    """SQLite, with `plan` for its write transactions."""

    plan: Plan

    def connect(self, *, write: bool) -> SqliteConnection:
        connection = super().connect(write=write)
        return FaultyConnection(connection._db, self) if write else connection
