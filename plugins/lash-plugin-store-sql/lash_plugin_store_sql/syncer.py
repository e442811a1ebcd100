"""Waits for the disk beside the event loop: a commit that wasn't synced is, while the loop goes on.

A thread of Python's is no help there. It can't begin before a busy event loop lets go of the interpreter, nor say that
it is done, and to wait for it to begin takes half as long as the disk. The threads of the C library (POSIX `aio_fsync`)
need no interpreter: 10 µs to begin, 2 to see that it is done. Where it has none, the disk is waited for on the spot.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

__all__ = ["Syncer"]

_PROCESS = os.getpid()
"""Who loaded this. A fork of it has none of the C library's threads, and the library doesn't know: it would wait."""


class Syncer:
    """Syncs a file, whose writers say `is_clean = False`. One caller at a time."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = -1
        self._request: _Request | None = None
        self._error: OSError | None = None
        self.is_clean = True

    def is_ready(self) -> bool:
        """Whether it has the file: else nothing may be written that it is to sync."""
        if self._file < 0:
            try:
                self._file = os.open(self._path, os.O_RDONLY)
            except OSError:
                return False
            self._request = _Request.made(self._file)
        return True

    def start(self) -> None:
        """Begin to sync what was written by now; `sync` waits for it."""
        if not self.is_clean:
            self._wait()
            if self._request is None or not self._request.start():
                self._sync()
            self.is_clean = True

    def sync(self) -> None:
        """Have what was written by now synced."""
        if not self.is_clean:
            self._sync()
            self.is_clean = True
        self._wait()  # what was started syncs nothing else; but whether that failed, it alone was told

    def _wait(self) -> None:
        """Wait for what was started."""
        if self._request is not None and (code := self._request.wait()):
            self._error = self._error or OSError(code, os.strerror(code), self._path)

    def _sync(self) -> None:
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self._error = self._error or error

    def require_sound(self) -> None:
        """Raise the `OSError` of the first sync that failed: nobody knows what the disk has, nor will have."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Let go of the file, once all is synced."""
        if self._file >= 0:
            self.sync()
            os.close(self._file)
            self._file = -1


class _Request:
    """The C library's asynchronous request (`struct aiocb`) to sync a file, used again and again.

    What is set of it is where POSIX's order of fields has it on 64-bit Linux, with glibc and musl; the rest is zero.
    """

    _SIZE = 256  # 168 with glibc
    _FILE, _NOTIFY = 0, 44
    _NO_NOTICE = 1  # SIGEV_NONE

    def __init__(self, library: Any, file: int) -> None:
        import ctypes  # only who writes on the spot needs it

        self._library = library
        self._block = ctypes.create_string_buffer(self._SIZE)
        ctypes.c_int.from_buffer(self._block, self._FILE).value = file
        ctypes.c_int.from_buffer(self._block, self._NOTIFY).value = self._NO_NOTICE
        self._at = ctypes.byref(self._block)
        self._list = (ctypes.c_void_p * 1)(ctypes.addressof(self._block))
        self._is_begun = False

    @classmethod
    def made(cls, file: int) -> _Request | None:
        """One for this file, or None where there is no such thing."""
        if not sys.platform.startswith("linux") or sys.maxsize < 1 << 32 or os.getpid() != _PROCESS:
            return None
        import ctypes

        library = ctypes.CDLL(None)
        return cls(library, file) if hasattr(library, "aio_fsync") else None

    def start(self) -> bool:
        """Begin; False if the library has no room for it. The last one has ended."""
        self._is_begun = self._library.aio_fsync(os.O_DSYNC, self._at) == 0
        return self._is_begun

    def wait(self) -> int:
        """Wait for its end, and give its error code."""
        if not self._is_begun:
            return 0
        while (code := int(self._library.aio_error(self._at))) == errno.EINPROGRESS:
            self._library.aio_suspend(self._list, 1, None)
        return code
