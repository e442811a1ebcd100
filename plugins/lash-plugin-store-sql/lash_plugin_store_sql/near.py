"""What is done on the spot, by a connection that waits for nobody: a look at a row, a write of a session that is alone.

The way to the writer's thread and back takes longer than anything else about a small write, the disk apart. Where one
session writes and no other, nothing is gained by it: there is nobody to commit together with, and nobody who would be
kept waiting. As soon as sessions take turns, all their writes go by the thread, where they are committed together.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from lash_plugin_store_sql.driver import Connection, Driver, Tx, as_store_error, transaction
from lash_plugin_store_sql.syncer import Syncer

__all__ = ["Near"]

log = logging.getLogger("lash.store")

T = TypeVar("T")

ALONE = 3
"""After how many writes of one session, with none of anybody else's between them, it counts as alone."""
SPELL = 32
"""Each so-manieth goes by the thread nevertheless, whose connection copies the log into the file when it is long."""
SMALL = 64 * 1024
"""The most bytes that are written on the spot."""
SLOW_S = 0.02
"""A disk that takes longer than this would be felt by all that the event loop has to do,"""
PAUSES = (4, 128)
"""so that for so many writes the thread waits for it: a few the first time, since a busy moment looks the same, and
twice as many each time that the next one on the spot is slow again. The most ways to the thread cost what a slow write
does.
"""


class Near:
    """The near connection, opened when it is first needed, for one thread at a time."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._syncer = None if driver.log is None else Syncer(driver.log)
        self._connection: Connection | None = None
        self._lock = threading.Lock()
        self._owner: str | None = None
        self._streak = 0
        self._pause = PAUSES[0]

    def look(self, work: Callable[[Tx], T]) -> tuple[T] | None:
        """What `work`, which reads a row, finds; None if it stumbled: a reader waits, and has words for it."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            near = self._opened()
            return None if near is None else (work(near),)
        except Exception as error:
            log.debug("a glance at `%s` failed, a reader looks again: %s", self._driver.location, error)
            return None
        finally:
            self._lock.release()

    def write(self, work: Callable[[Tx], T], owner: str | None, size: int, *, synced: bool = True) -> tuple[T] | None:
        """Run `work` in a write transaction, if `owner` is alone; None: it wasn't begun. Raises like the thread.

        Without `synced` it isn't durable before `sync`.
        """
        if not self._is_alone(owner) or size > SMALL or not self._lock.acquire(blocking=False):
            return None
        try:
            if self._syncer is not None and not self._syncer.is_ready():
                return None  # nobody could say that it is durable
            near = self._begun()
            if near is None:
                return None
            began = time.monotonic()
            try:
                if self._syncer is not None:
                    self._syncer.is_clean = False
                value = transaction(near, work)
                if self._syncer is not None and synced:
                    self._syncer.sync()
                    self._syncer.require_sound()
                return (value,)
            except Exception as error:
                known = as_store_error(error, self._driver)
                if known is error:
                    raise
                raise known from error
            finally:
                took_s = time.monotonic() - began
                if synced or self._syncer is None or took_s > SLOW_S:  # else the disk has yet to show itself
                    self._judge(took_s)
        finally:
            self._lock.release()

    def sync(self, *, wait: bool = True) -> None:
        """Have all that was written survive a loss of power. Raises `StoreUnavailable` if it may not.

        Without `wait` the disk is only set to it.
        """
        if self._syncer is not None:
            began = time.monotonic()
            if wait:
                self._syncer.sync()
            else:
                self._syncer.start()
            if (took_s := time.monotonic() - began) > SLOW_S:
                self._judge(took_s)
        self.require_sound()

    def require_sound(self) -> None:
        """Raise `StoreUnavailable` if something that was written may be gone: what comes after it would be, too."""
        if self._syncer is not None:
            try:
                self._syncer.require_sound()
            except OSError as error:
                raise as_store_error(error, self._driver) from error

    def close(self) -> None:
        """Let go of the connection."""
        if self._syncer is not None:
            self._syncer.close()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _opened(self) -> Connection | None:
        self._connection = self._connection or self._driver.connect_near()
        return self._connection

    def _begun(self) -> Connection | None:
        """The connection, in a transaction; None if it would have to wait, or something is wrong with it."""
        try:
            near = self._opened()
            if near is not None:
                try:
                    near.begin(write=True)
                except BaseException:
                    near.rollback()
                    raise
            return near
        except Exception as error:  # another process writes, most likely
            log.debug("a write to `%s` is left to the thread: %s", self._driver.location, error)
            return None

    def _judge(self, took_s: float) -> None:
        """Leave the next writes to the thread if this one was slow."""
        least, most = PAUSES
        if took_s > SLOW_S:
            self._streak, self._pause = ALONE - self._pause, min(2 * self._pause, most)
        else:
            self._pause = least

    def _is_alone(self, owner: str | None) -> bool:
        if owner is None or owner != self._owner:
            self._owner, self._streak = owner, min(self._streak, 0)
        self._streak += 1
        return self._streak > ALONE and self._streak % SPELL != 0
