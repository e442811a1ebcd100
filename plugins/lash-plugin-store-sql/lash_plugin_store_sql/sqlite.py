"""The SQLite dialect: opening a database without ever tripping over another process, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lash_hookspecs.errors import (
    BudgetExceeded,
    CommitRefused,
    ConfigurationError,
    Contended,
    StoreCorrupt,
    StoreError,
    StoreUnavailable,
    StoreVersionError,
)
from lash_plugin_store_sql.driver import Row, StatementSeen
from lash_plugin_store_sql.place import Place
from lash_plugin_store_sql.schema import APPLICATION_ID, DDL, VERSION, is_fresh
from lash_plugin_store_sql.settings import SqlSettings

__all__ = ["SqliteConnection", "SqliteDriver", "database_path"]

# The log keeps the size that its largest transactions gave it; beyond this it is cut when it starts anew.
_LOG_BYTES = 16 * 1024 * 1024

_PAGE = 64
"""Rows that are fetched together: so few that the garbage collector never hears of them (it counts to 700)."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}

# What to raise, and what the user can do, by SQLite's primary result code.
_MEANINGS: dict[int, tuple[type[StoreError], str]] = {
    **dict.fromkeys(_BUSY, (Contended, "another process is writing; the same call may be made again")),
    sqlite3.SQLITE_FULL: (StoreUnavailable, "the disk, a quota or `max_page_count` is full: make room, then go on"),
    sqlite3.SQLITE_IOERR: (StoreUnavailable, "the disk refused: is it full, failing, or is the file's size limited?"),
    sqlite3.SQLITE_READONLY: (StoreUnavailable, "the file or its directory can't be written: check permissions"),
    sqlite3.SQLITE_PERM: (StoreUnavailable, "check the file's permissions"),
    sqlite3.SQLITE_CANTOPEN: (StoreUnavailable, "check that the path is a file in a directory that can be written"),
    sqlite3.SQLITE_NOMEM: (StoreUnavailable, "there is not enough memory"),
    sqlite3.SQLITE_INTERRUPT: (StoreUnavailable, "it was interrupted"),
    sqlite3.SQLITE_CORRUPT: (StoreCorrupt, "the file is damaged: restore it, or try sqlite3's `.recover` on a copy"),
    sqlite3.SQLITE_NOTADB: (StoreVersionError, "nothing was touched; choose another path"),
    sqlite3.SQLITE_CONSTRAINT: (StoreCorrupt, "stored rows contradict each other"),
    sqlite3.SQLITE_ERROR: (StoreCorrupt, "the tables aren't as they should be"),
    sqlite3.SQLITE_TOOBIG: (BudgetExceeded, "a value is larger than SQLite can hold"),
}


def database_path(url: str) -> str | None:
    """The path in a `sqlite:` URL, `~` expanded; None for a database in memory. Raises `ConfigurationError`."""
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest in ("", "/", "/:memory:"):
        return None
    if scheme == "sqlite" and rest.startswith("/"):
        # No shell expands it within a URL.
        return str(Path(rest[1:]).expanduser()) if rest.startswith("/~/") else rest[1:]
    raise ConfigurationError(
        f"`{url}` is no SQLite address: write `sqlite:///relative.db`, `sqlite:////absolute/path.db`, or `sqlite://` "
        f"for a database in memory"
    )


class SqliteConnection:
    """A `Connection`. sqlite3 runs in autocommit mode, so that every BEGIN is ours."""

    def __init__(self, db: sqlite3.Connection, driver: SqliteDriver) -> None:
        self._db = db
        self._driver = driver
        self._writes = False

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def lock(self, name: str) -> None:
        """Nothing to do: BEGIN IMMEDIATE holds the only writer's lock."""

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        rows = self.rows(sql, params)
        return rows[0] if rows else None

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        rows = self._db.execute(sql, params).fetchall()
        if self._driver.seen is not None:
            self._driver.seen(sql, params, len(rows))
        return rows

    def pages(self, sql: str, params: Sequence[Any] = ()) -> Iterator[list[Row]]:
        cursor, count = self._db.execute(sql, params), 0
        try:
            while rows := cursor.fetchmany(_PAGE):
                count += len(rows)
                yield rows
        finally:
            cursor.close()
            if self._driver.seen is not None:
                self._driver.seen(sql, params, count)

    def write(self, sql: str, params: Sequence[Any] = ()) -> int:
        count = self._db.execute(sql, params).rowcount
        if self._driver.seen is not None:
            self._driver.seen(sql, params, count)
        return count

    def write_many(self, sql: str, rows: Sequence[Sequence[Any]]) -> None:
        self._db.executemany(sql, rows)
        if self._driver.seen is not None:
            self._driver.seen(sql, [each for row in rows for each in row], len(rows))

    def begin(self, *, write: bool) -> None:
        self.rollback()  # only if the last one couldn't be ended properly
        # A deferred BEGIN could find, at its first write, that another process wrote since its first read.
        self.write("BEGIN IMMEDIATE" if write else "BEGIN")
        self._writes = write

    def commit(self) -> None:
        self.write("COMMIT")
        if self._writes and self._driver.place is not None:
            self._driver.place.require_now_and_then()  # behind it, so that nobody is told of what nobody can find

    def rollback(self) -> None:
        if self._db.in_transaction:
            self.write("ROLLBACK")

    def savepoint(self) -> None:
        self.write("SAVEPOINT one")

    def release(self) -> None:
        self.write("RELEASE one")

    def rollback_to(self) -> None:
        self.write("ROLLBACK TO one")
        self.write("RELEASE one")

    def close(self) -> None:
        self._db.close()


class SqliteDriver:
    """A `Driver` for a file, or for a database in memory (`path` None) that one connection holds.

    `file` is where the file itself is, whichever links lead there, and `place` what the writer found there.
    """

    def __init__(self, path: str | None, settings: SqlSettings, seen: StatementSeen | None = None) -> None:
        self._path = path
        # Some connections are made later: by then the process may be in another folder, or a link lead elsewhere.
        self.file = None if path is None else Path(path).resolve()
        self._settings = settings
        self.seen = seen
        self.place: Place | None = None

    @property
    def location(self) -> str:
        return self._path or "memory"

    @property
    def readers(self) -> int:
        return 0 if self._path is None else self._settings.readers

    @property
    def log(self) -> str | None:
        # What is committed as NORMAL is in the log, and whole once that is synced: FULL does no more itself. Elsewhere
        # than where there is `fdatasync`, SQLite may have ways of its own to sync.
        if self.file is None or self._settings.synchronous != "full" or not hasattr(os, "fdatasync"):
            return None
        return f"{self.file}-wal"  # SQLite, too, puts it beside the file that a link leads to

    def connect(self, *, write: bool) -> SqliteConnection:
        if not write:
            return self._reader(self._settings.busy_timeout_s)
        if self._path is None:
            db = self._open(":memory:", check_same_thread=False)
        else:
            self._prepare_place(Path(self._path))
            assert self.file is not None
            db = self._open(f"{self.file.as_uri()}?mode=rwc", uri=True)
        try:
            self._establish(db)
            self._configure(db)
            # Temporary structures (a sort) are small here, and must not fail for want of a place in /tmp.
            db.execute("PRAGMA temp_store = MEMORY")
            if self.file is not None:
                _read_once(db)
                self.place = Place(self.file)
        except BaseException:
            db.close()
            raise
        return SqliteConnection(db, self)

    def connect_near(self) -> SqliteConnection | None:
        if self._path is None:
            return None
        # With a log, a reader waits for nobody but whoever recovers it after a crash.
        connection = self._existing(timeout=0, check_same_thread=False)
        try:
            self._configure(connection._db)
            # To copy a long log into the file takes long: that is left to the writer.
            connection._db.execute("PRAGMA wal_autocheckpoint = 0")
            if self.log is not None:  # whoever uses it syncs that, at a time of their own choice
                connection._db.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def error(self, error: Exception) -> Exception:
        if isinstance(error, sqlite3.Error):
            code = getattr(error, "sqlite_errorcode", None)
            cls, remedy = _MEANINGS.get((code or 0) & 0xFF, (StoreUnavailable, "SQLite refused"))
            if cls is StoreUnavailable and self.place is not None:
                remedy = self.place.gone() or remedy
            return cls(f"`{self.location}`: {error}; {remedy}")
        if isinstance(error, OSError):
            return StoreUnavailable(f"`{self.location}`: {error}")
        if isinstance(error, OverflowError):
            return CommitRefused("integer_range", f"SQLite can't hold a value: {error}")
        if isinstance(error, UnicodeEncodeError):
            return CommitRefused("text", f"a text can't be stored: {error}")
        return error

    # ---- opening ----

    def _reader(self, timeout: float) -> SqliteConnection:
        connection = self._existing(timeout)
        try:
            connection._db.execute("PRAGMA query_only = ON")
            # What it reads in a row, it reads once: pages that are used again at once are quicker than new memory.
            connection._db.execute("PRAGMA cache_size = -512")
        except BaseException:
            connection.close()
            raise
        return connection

    def _existing(self, timeout: float, *, check_same_thread: bool = True) -> SqliteConnection:
        """A connection to the file, which must not be made anew, and empty, if somebody removed ours."""
        assert self.file is not None  # whoever has no file has one connection
        uri = f"{self.file.as_uri()}?mode=rw"
        if self.place is not None:
            self.place.require()  # a connection to another file would take the log, which is found by name, for its own
        db = self._open(uri, uri=True, timeout=timeout, check_same_thread=check_same_thread)
        try:
            if self.place is not None:
                _read_once(db)
                self.place.require()  # else some of it may be another database's
            db.execute("PRAGMA temp_store = MEMORY")
        except BaseException:
            db.close()
            raise
        return SqliteConnection(db, self)

    def _open(self, database: str, **options: Any) -> sqlite3.Connection:
        options.setdefault("timeout", self._settings.busy_timeout_s)
        db: sqlite3.Connection = sqlite3.connect(database, isolation_level=None, cached_statements=256, **options)
        return db

    def _prepare_place(self, path: Path) -> None:
        """Make the file's directory if only that is missing, and look at an existing file without changing it."""
        folder = path.absolute().parent
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError:
            missing = next(each for each in [*reversed(folder.parents), folder] if not each.exists())
            raise StoreUnavailable(
                f"`{path}` can't be made: there is no directory `{missing}`; create it (only the last directory of "
                f"a path is created by itself)"
            ) from None
        if path.is_dir():
            raise StoreUnavailable(f"`{path}` is a directory; name a file in it, such as `{path / 'lash.db'}`")
        # SQLite would open a file that it can't write, and only refuse the first commit.
        for place in (folder, *([path] if path.exists() else [])):
            if not os.access(place, os.W_OK):
                raise StoreUnavailable(
                    f"`{path}`: no permission to write `{place}`; SQLite writes the file and others beside it, so make "
                    f"both writable for this user, or choose another path"
                )
        if path.exists() and path.stat().st_size:
            self._peek(path)

    def _peek(self, path: Path) -> None:
        """Refuse what isn't ours before anything is written, even beside it.

        Only through SQLite: whoever opens the file past it, and closes it, loses the locks that other stores of this
        process have on it (POSIX), and then another process takes their log away. As `immutable` it takes no lock and
        leaves no file; what is in a log isn't seen, but one of ours is marked before it gets one.
        """
        db = self._open(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            _fence(db, self.location)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB and not any(
                path.with_name(f"{path.name}{end}").exists() for end in ("-journal", "-wal")
            ):
                raise
            # It is being written, or was when its machine stopped, and what is beside it makes it whole. What is really
            # wrong comes up again, and is named, when it is opened.
        finally:
            db.close()

    def _establish(self, db: sqlite3.Connection) -> None:
        """Make the tables if the database is empty, and switch to WAL.

        The tables come first: written the old way they land in the file at once, so that whoever peeks at it sees whose
        it is, even after a crash in between.
        """
        if _fence(db, self.location):
            db.execute("BEGIN IMMEDIATE")
            try:
                if _fence(db, self.location):
                    for statement in DDL:
                        db.execute(statement)
                    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {VERSION}")
                db.execute("COMMIT")
            finally:
                if db.in_transaction:
                    db.execute("ROLLBACK")
        if self._path is not None:
            self._switch_to_wal(db)

    def _switch_to_wal(self, db: sqlite3.Connection) -> None:
        # The switch needs the file for itself and doesn't wait for it: SQLite's busy handler isn't asked here.
        deadline = time.monotonic() + self._settings.busy_timeout_s
        pause = 0.001
        while True:
            try:
                mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in _BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 0.05)
                continue
            if mode != "wal":
                raise StoreUnavailable(
                    f"`{self.location}`: SQLite can't use a write-ahead log there (it says `{mode}`); use a local disk"
                )
            return

    def _configure(self, db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA synchronous = {self._settings.synchronous.upper()}")
        db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
        if self._settings.max_page_count is not None:
            db.execute(f"PRAGMA max_page_count = {self._settings.max_page_count:d}")


def _read_once(db: sqlite3.Connection) -> None:
    """Have the connection open what is beside the file: at its first read, by name, and then it may be another's."""
    db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()


def _fence(db: sqlite3.Connection, location: str) -> bool:
    """Whether the database is empty; raises `StoreVersionError` for one that isn't for us."""
    # In one transaction, or the answers could be from before and after another process made the tables.
    own = not db.in_transaction
    if own:
        db.execute("BEGIN")
    try:
        application_id, version, tables = (
            db.execute(sql).fetchone()[0]
            for sql in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
    finally:
        if own and db.in_transaction:
            db.execute("ROLLBACK")
    return is_fresh(application_id, version, tables, location)
