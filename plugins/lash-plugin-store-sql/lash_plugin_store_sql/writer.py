"""The threads that talk to the database: one that writes, a few that read.

The writer takes all writes that wait, of all sessions, and commits them as one transaction: one wait for the disk
serves them all. If one fails, they are run again, each behind a savepoint of its own, and that one is undone alone. If
the database undoes the whole transaction (a full disk does that) or can't commit it, its members are tried again one by
one, so that one write that doesn't fit costs the others nothing but time.

What every turn asks, a single row, is read on the spot, and what a session writes that is alone is written there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import anyio.lowlevel

from lash_hookspecs.errors import StoreUnavailable
from lash_plugin_store_sql.driver import Connection, Driver, Tx, as_store_error, transaction
from lash_plugin_store_sql.near import Near
from lash_plugin_store_sql.waiting import Ticket, deliver

__all__ = ["Lanes"]

log = logging.getLogger("lash.store")

T = TypeVar("T")

# A batch ends at either bound: beyond them nothing is gained per write, and the first of a batch waits for its last.
_BATCH_WRITES = 256
_BATCH_BYTES = 8 * 1024 * 1024

# So often a session that writes on the spot gives way to others; a pass of the event loop takes as long as a write.
_GIVES_WAY_S = 0.005


class _Last(Ticket[None]):
    """Comes last in a queue, and is delivered once the thread has closed its connection."""

    __slots__ = ()


class _Unread:
    """How many reads were asked for and aren't done. Who asks counts: a thread may be on its way to its work."""

    def __init__(self) -> None:
        self.count = 0
        self._guard = threading.Lock()

    def add(self, change: int) -> None:
        with self._guard:
            self.count += change


_Inbox = SimpleQueue[Ticket[Any]]


class Lanes:
    """The writer's thread and the readers'. Nothing runs per session; readers start when they are first needed."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._writes: _Inbox = SimpleQueue()
        self._reads: _Inbox = SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._unread = _Unread()
        self._writer: threading.Thread | None = None
        self._near = Near(driver)
        self._gives_way_at = 0.0
        self._closed = False

    async def open(self) -> None:
        """Start the writer, which opens the database. Raises what stands in its way."""
        opened = Ticket[None](_nothing, writes=True)
        self._writer = _start(_write_lane, self._driver, self._writes, opened)
        try:
            await opened.outcome()
        except BaseException:
            self._writes.put(_Last(_nothing, writes=True))  # a cancelled opening may have succeeded
            raise

    async def write(
        self, work: Callable[[Tx], T], size: int = 0, owner: str | None = None, *, synced: bool = True
    ) -> T:
        """Run `work` in a write transaction; returns once it is durable. It may be run more than once.

        `owner` is the session that writes, and without `synced` it isn't durable before `sync` returns; see `Near`.
        """
        self.require_open()
        self._near.require_sound()
        if (done := self._near.write(work, owner, size, synced=synced)) is not None:
            if (now := time.monotonic()) >= self._gives_way_at:  # others come to run, as if it had been waited for
                self._gives_way_at = now + _GIVES_WAY_S
                await anyio.lowlevel.cancel_shielded_checkpoint()
            return done[0]
        ticket = Ticket(work, writes=True, size=size)
        self._writes.put(ticket)
        return await ticket.outcome()

    def sync(self, *, wait: bool = True) -> None:
        """Have all that was written durable; without `wait`, in a moment."""
        self._near.sync(wait=wait)

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on one state of the database."""
        self.require_open()
        if len(self._readers) < self._driver.readers and self._unread.count >= len(self._readers):
            self._readers.append(_start(_read_lane, self._driver, self._reads, self._unread))
        self._unread.add(1)
        ticket = Ticket(work, writes=False)
        self._reads.put(ticket)
        return await ticket.outcome()

    async def glance(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which reads a row, on the spot: the way to a thread and back would take ten times as long.

        Whatever stands in its way, a busy database or a fault, is left to a reader, which waits and has words for it.
        """
        self.require_open()
        if (found := self._near.look(work)) is not None:
            return found[0]
        return await self.read(work)

    def read_now(self, work: Callable[[Tx], T]) -> T:
        """Run `work` on one state of the database, here and now: for who can't wait for a thread."""
        self.require_open()
        try:
            connection = self._driver.connect(write=False)
            try:
                connection.begin(write=False)
                return transaction(connection, work)
            finally:
                connection.close()
        except Exception as error:
            known = as_store_error(error, self._driver)
            if known is error:
                raise
            raise known from error

    async def aclose(self) -> None:
        """Finish what waits, and end the threads."""
        if self._closed:
            return
        self._closed = True
        self._near.close()
        lasts = []
        for inbox in [*(self._reads for _ in self._readers), self._writes]:
            lasts.append(_Last(_nothing, writes=True))
            inbox.put(lasts[-1])
        for last in lasts:
            await last.outcome()
        for thread in (*self._readers, *([self._writer] if self._writer else [])):
            thread.join()  # all it has left to do is to return

    def require_open(self) -> None:
        """Raise if it was closed."""
        if self._closed:
            raise StoreUnavailable(f"the store `{self._driver.location}` is closed")


def _nothing(tx: Tx) -> None:
    """The work of a ticket that only says that something happened."""


def _start(lane: Callable[..., None], *args: object) -> threading.Thread:
    # Daemons: a program that forgets to close its store still ends, and every acknowledged commit is safe.
    thread = threading.Thread(target=lane, args=args, name=f"lash-store{lane.__name__}", daemon=True)
    thread.start()
    return thread


# ---- on the threads -------------------------------------------------------------------------------------------------


def _read_lane(driver: Driver, inbox: _Inbox, unread: _Unread) -> None:
    """Serve reads until the last; a connection that can't be had fails the read that needed it, and is tried again."""
    connection: Connection | None = None
    while True:
        ticket = inbox.get()
        if isinstance(ticket, _Last):
            break
        try:
            connection = connection or driver.connect(write=False)
        except Exception as error:
            ticket.error = as_store_error(error, driver)
        else:
            _run_alone(driver, connection, ticket)
        unread.add(-1)
        deliver([ticket])
    if connection is not None:
        connection.close()
    deliver([ticket])


def _write_lane(driver: Driver, inbox: _Inbox, opened: Ticket[None]) -> None:
    """Open the database, and serve writes until the last."""
    try:
        connection = driver.connect(write=True)
    except Exception as error:
        opened.error = as_store_error(error, driver)
        return
    finally:
        deliver([opened])
    last = None
    while last is None:
        batch, last = _next_batch(inbox)
        try:
            _run_batch(driver, connection, batch)
        except Exception as error:  # a rollback that fails, for example: whoever waits must hear of it
            for ticket in batch:
                ticket.error = as_store_error(error, driver)
        deliver(batch)
    connection.close()
    deliver([last])


def _next_batch(inbox: _Inbox) -> tuple[list[Ticket[Any]], Ticket[Any] | None]:
    """All that waits, within bounds, and the last ticket if it was met."""
    batch: list[Ticket[Any]] = []
    size = 0
    ticket = inbox.get()
    try:
        while not isinstance(ticket, _Last):
            batch.append(ticket)
            size += ticket.size
            if len(batch) >= _BATCH_WRITES or size >= _BATCH_BYTES:
                return batch, None
            ticket = inbox.get_nowait()
    except Empty:
        return batch, None
    return batch, ticket


def _run_batch(driver: Driver, connection: Connection, batch: list[Ticket[Any]]) -> None:
    # Hardly ever does one fail; and with each statement more this thread waits for the interpreter, if others are busy.
    if len(batch) > 1 and any(_run_together(driver, connection, batch, marked=each) for each in (False, True)):
        return
    for ticket in batch:
        ticket.value = ticket.error = None
        _run_alone(driver, connection, ticket)


def _run_together(driver: Driver, connection: Connection, batch: list[Ticket[Any]], *, marked: bool) -> bool:
    """Run the writes as one transaction, each behind a mark if they are `marked`; False if all of it was undone."""
    try:
        connection.begin(write=True)
    except Exception as error:
        # Somebody else's lock, most likely, which would make each of them wait as long again.
        for ticket in batch:
            ticket.error = as_store_error(error, driver)
        return True
    try:
        for ticket in batch:
            if marked:
                connection.savepoint()
            try:
                ticket.value = ticket.work(connection)
            except Exception as error:
                if not (marked and connection.in_transaction):
                    return False
                ticket.error = as_store_error(error, driver)
                connection.rollback_to()
            else:
                if marked:
                    connection.release()
        connection.commit()
    except Exception:
        return False
    finally:
        connection.rollback()
    return True


def _run_alone(driver: Driver, connection: Connection, ticket: Ticket[Any]) -> None:
    try:
        connection.begin(write=ticket.writes)
        ticket.value = transaction(connection, ticket.work)
    except Exception as error:
        ticket.error = as_store_error(error, driver)
