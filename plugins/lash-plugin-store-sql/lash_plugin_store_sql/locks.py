"""One turn at a time per session, across processes: a lock on one byte of one file.

The byte's place is a hash of the session's id, so that any number of sessions shares one file, one descriptor, and no
database write. The operating system lets go of the lock when its holder dies, however it dies. The file is empty and
stays: removing it would let two processes lock two files of one name.
"""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType

from lash_hookspecs.errors import StoreUnavailable

__all__ = ["MemoryLocks", "OfdLocks", "PosixLocks", "file_locks"]

# `struct flock` of 64-bit Linux: type, whence, start, length, pid (0 is asked for). Locks of this kind belong to the
# open file, not to the process, so that two stores in one process exclude each other as two processes do.
_SETLK: int = getattr(fcntl, "F_OFD_SETLK", 0) if sys.platform == "linux" and struct.calcsize("P") == 8 else 0
_FLOCK = "hhqqi0q"

_TAKE = fcntl.LOCK_EX | fcntl.LOCK_NB


def _place(session_id: str) -> int:
    # 62 bits: the place and the length after it must be positive in a signed 64-bit offset.
    return int.from_bytes(sha256(session_id.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 2


class _Held(AbstractContextManager[None]):
    """A lock that is held until the context ends."""

    def __init__(self, locks: MemoryLocks, place: int) -> None:
        self._locks = locks
        self._place = place

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._locks.release(self._place)


class MemoryLocks:
    """Locks among the users of one store: all there is to a database in memory."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._guard = threading.Lock()

    def try_lock(self, session_id: str) -> AbstractContextManager[None] | None:
        """Hold the session until the context ends; None if somebody else does."""
        place = _place(session_id)
        with self._guard:
            if place in self._held or not self._take(place):
                return None
            self._held.add(place)
        return _Held(self, place)

    def release(self, place: int) -> None:
        """Let go; fine if it was let go before."""
        with self._guard:
            if place in self._held:
                self._held.remove(place)
                self._drop(place)

    def close(self) -> None:
        """Let go of everything."""
        with self._guard:
            self._held.clear()

    def _take(self, place: int) -> bool:
        return True

    def _drop(self, place: int) -> None:
        pass


class OfdLocks(MemoryLocks):
    """Locks among everything that uses one lock file: stores, in this process or others."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._fd: int | None = None

    def close(self) -> None:
        with self._guard:
            self._held.clear()
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    def _take(self, place: int) -> bool:
        if self._fd is None:
            self._fd = _open(self._path)
        return _tried(self._path, lambda: self._set(fcntl.F_WRLCK, place))

    def _drop(self, place: int) -> None:
        _tried(self._path, lambda: self._set(fcntl.F_UNLCK, place))

    def _set(self, kind: int, place: int) -> None:
        assert self._fd is not None  # a lock is held, or about to be
        fcntl.fcntl(self._fd, _SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, place, 1, 0))


class _SharedFile:
    """A lock file as the process sees it: locks of the older kind belong to the process and one descriptor."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.held: set[int] = set()


# Closing any descriptor of a file drops all of the process's locks on it, so there is one, and it stays open.
_shared_files: list[_SharedFile] = []
_shared_guard = threading.Lock()


class PosixLocks(MemoryLocks):
    """The same for systems without locks per open file: the process keeps its own list of who holds what."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._file: _SharedFile | None = None

    def close(self) -> None:
        with self._guard:
            for place in self._held:
                self._drop(place)
            self._held.clear()

    def _take(self, place: int) -> bool:
        with _shared_guard:
            file = self._file = self._file or _share(self._path)
            if place in file.held or not _tried(self._path, lambda: _lockf(file.fd, _TAKE, place)):
                return False
            file.held.add(place)
            return True

    def _drop(self, place: int) -> None:
        with _shared_guard:
            file = self._file
            assert file is not None  # a lock is held
            file.held.discard(place)
            _tried(self._path, lambda: _lockf(file.fd, fcntl.LOCK_UN, place))


def file_locks(path: str) -> MemoryLocks:
    """The best kind of lock on this file that the system has."""
    return OfdLocks(path) if _SETLK else PosixLocks(path)


def _share(path: str) -> _SharedFile:
    with suppress(FileNotFoundError):
        there = Path(path).stat()
        for file in _shared_files:
            if os.path.samestat(there, os.fstat(file.fd)):
                return file
    file = _SharedFile(_open(path))
    _shared_files.append(file)
    return file


def _lockf(fd: int, operation: int, place: int) -> None:
    fcntl.lockf(fd, operation, 1, place, os.SEEK_SET)


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise StoreUnavailable(f"the lock file `{path}` can't be opened: {error}") from error


def _tried(path: str, lock: Callable[[], None]) -> bool:
    """Whether the lock was free."""
    try:
        lock()
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES: POSIX allows either for "held by another"
        return False
    except OSError as error:
        raise StoreUnavailable(f"the lock file `{path}` can't be used: {error}") from error
    return True
