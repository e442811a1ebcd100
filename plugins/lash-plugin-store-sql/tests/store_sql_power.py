"""A loss of power: what SQLite writes and syncs is recorded, and from that what a disk may hold at any moment.

As SQLite's own tests do, with a VFS that stands before the system's one (ctypes, on the library that `sqlite3` uses).
A disk keeps what was written before the last sync of its file; of what was written since, anything may be there.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

__all__ = ["Event", "LateSyncer", "disk_at", "recorded"]


class Event(NamedTuple):
    """`write` (at an offset), `truncate` (to a size), `sync` or `delete` of a file; or `told`, by the test itself."""

    kind: str
    file: str = ""
    at: int = 0
    data: bytes = b""


# ---- the VFS --------------------------------------------------------------------------------------------------------

_INT, _PTR, _I64 = ctypes.c_int, ctypes.c_void_p, ctypes.c_int64
# Names are passed on as they come: what SQLite has to say of a file lies behind its name.
_OPEN = ctypes.CFUNCTYPE(_INT, _PTR, _PTR, _PTR, _INT, _PTR)
_DELETE = ctypes.CFUNCTYPE(_INT, _PTR, _PTR, _INT)
_CLOSE = ctypes.CFUNCTYPE(_INT, _PTR)
_WRITE = ctypes.CFUNCTYPE(_INT, _PTR, _PTR, _INT, _I64)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _PTR, _I64)
_SYNC = ctypes.CFUNCTYPE(_INT, _PTR, _INT)


class _Vfs(ctypes.Structure):
    """`sqlite3_vfs`: the methods that are left alone are pointers that are copied."""

    _fields_ = (
        ("version", _INT),
        ("file_size", _INT),
        ("path_size", _INT),
        ("next", _PTR),
        ("name", ctypes.c_char_p),
        ("data", _PTR),
        ("open", _PTR),
        ("delete", _PTR),
        ("others", _PTR * 15),
    )


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`."""

    _fields_ = (
        ("version", _INT),
        ("close", _PTR),
        ("read", _PTR),
        ("write", _PTR),
        ("truncate", _PTR),
        ("sync", _PTR),
        ("others", _PTR * 13),
    )


class _Recorder:
    def __init__(self, library: Any, folder: Path) -> None:
        self.events: list[Event] = []
        self._folder = str(folder)
        self._files: dict[int, str] = {}
        self._methods: dict[int, _Methods] = {}
        library.sqlite3_vfs_find.restype = _PTR
        library.sqlite3_vfs_find.argtypes = [ctypes.c_char_p]
        library.sqlite3_vfs_register.argtypes = [_PTR, _INT]
        library.sqlite3_vfs_unregister.argtypes = [_PTR]
        self._library = library
        self._real = library.sqlite3_vfs_find(None)
        real = ctypes.cast(self._real, ctypes.POINTER(_Vfs)).contents
        self._real_open = ctypes.cast(real.open, _OPEN)
        self._real_delete = ctypes.cast(real.delete, _DELETE)
        self._kept: list[Any] = [_OPEN(self._open), _DELETE(self._delete)]  # or they would be collected
        self._vfs = _Vfs.from_buffer_copy(real)
        self._vfs.name = b"recorded"
        self._vfs.open, self._vfs.delete = (ctypes.cast(each, _PTR) for each in self._kept)

    def register(self) -> None:
        assert self._library.sqlite3_vfs_register(ctypes.addressof(self._vfs), 1) == 0

    def unregister(self) -> None:
        assert self._library.sqlite3_vfs_unregister(ctypes.addressof(self._vfs)) == 0

    def _named(self, name: int | None) -> str | None:
        """The file that a name means, if it is one of ours."""
        path = "" if name is None else ctypes.string_at(name).decode()
        return Path(path).name if path.startswith(self._folder) else None

    def _open(self, vfs: int, name: int | None, file: int, flags: int, out: int) -> int:
        code: int = self._real_open(self._real, name, file, flags, out)
        ours = self._named(name)
        if code == 0 and ours is not None:
            methods = ctypes.cast(file, ctypes.POINTER(_PTR))
            self._files[file] = ours
            methods[0] = ctypes.addressof(self._recording(methods[0]))
        return code

    def _delete(self, vfs: int, name: int, sync_folder: int) -> int:
        code: int = self._real_delete(self._real, name, sync_folder)
        ours = self._named(name)
        if code == 0 and ours is not None:
            self.events.append(Event("delete", ours))
        return code

    def _recording(self, address: int) -> _Methods:
        """The methods at this address, with those that change a file noted down before they are done."""
        if address in self._methods:
            return self._methods[address]
        real = ctypes.cast(address, ctypes.POINTER(_Methods)).contents
        close, write = ctypes.cast(real.close, _CLOSE), ctypes.cast(real.write, _WRITE)
        truncate, sync = ctypes.cast(real.truncate, _TRUNCATE), ctypes.cast(real.sync, _SYNC)

        def on_close(file: int) -> int:
            self._files.pop(file, None)
            return close(file)

        def on_write(file: int, data: int, size: int, at: int) -> int:
            self.events.append(Event("write", self._files[file], at, ctypes.string_at(data, size)))
            return write(file, data, size, at)

        def on_truncate(file: int, size: int) -> int:
            self.events.append(Event("truncate", self._files[file], size))
            return truncate(file, size)

        def on_sync(file: int, flags: int) -> int:
            code = sync(file, flags)
            self.events.append(Event("sync", self._files[file]))
            return code

        calls = _CLOSE(on_close), _WRITE(on_write), _TRUNCATE(on_truncate), _SYNC(on_sync)
        made = _Methods.from_buffer_copy(real)
        made.close, made.write, made.truncate, made.sync = (ctypes.cast(each, _PTR) for each in calls)
        self._kept.extend(calls)
        self._methods[address] = made
        return made


@contextmanager
def recorded(folder: Path) -> Iterator[list[Event]]:
    """What SQLite does to files in this folder, by connections that are opened meanwhile.

    Raises `OSError` or `AttributeError` where the library that `sqlite3` uses can't be reached.
    """
    import _sqlite3

    recorder = _Recorder(ctypes.CDLL(_sqlite3.__file__), folder)
    recorder.register()
    try:
        yield recorder.events
    finally:
        recorder.unregister()


# ---- the disk -------------------------------------------------------------------------------------------------------


def disk_at(events: list[Event], chance: Random | None) -> dict[str, bytes]:
    """What is on the disk, by file, if the power goes after these events.

    Without `chance`, nothing that wasn't synced. With it, each write since its file's last sync is there, isn't, is
    there by half, or is other bytes.
    """
    files: dict[str, bytearray] = {}
    synced: dict[str, bytes] = {}
    since: dict[str, list[Event]] = {}
    for event in events:
        if event.kind == "told":
            continue
        _do(files.setdefault(event.file, bytearray()), event)
        if event.kind == "sync":
            synced[event.file] = bytes(files[event.file])
            since[event.file] = []
        elif event.kind == "delete":
            for known in (files, synced, since):
                known.pop(event.file, None)
        else:
            since.setdefault(event.file, []).append(event)
    disk = {}
    for name in files:
        content = bytearray(synced.get(name, b""))
        for event in since.get(name, []) if chance is not None else []:
            assert chance is not None
            _do(content, _weakened(event, chance))
        disk[name] = bytes(content)
    return disk


def _do(content: bytearray, event: Event) -> None:
    if event.kind == "write":
        content.extend(bytes(max(0, event.at - len(content))))
        content[event.at : event.at + len(event.data)] = event.data
    elif event.kind == "truncate":
        del content[event.at :]
        content.extend(bytes(event.at - len(content)))


def _weakened(event: Event, chance: Random) -> Event:
    match chance.choice(("there", "there", "absent", "half", "other")):
        case "absent":
            return Event("nothing", event.file)
        case "half" if event.kind == "write":
            return event._replace(data=event.data[: len(event.data) // 2])
        case "other" if event.kind == "write":
            return event._replace(data=chance.randbytes(len(event.data)))
    return event


# ---- the store's own syncs ------------------------------------------------------------------------------------------


class LateSyncer:
    """Stands for `Syncer`, and syncs as late as it may: when somebody waits for it."""

    def __init__(self, events: list[Event], path: str) -> None:
        self.synced = 0
        self.is_clean = True
        self._events = events
        self._file = Path(path).name
        self._owes = False

    def is_ready(self) -> bool:
        return True

    def start(self) -> None:
        self._owes |= not self.is_clean
        self.is_clean = True

    def sync(self) -> None:
        self.start()
        if self._owes:
            self._events.append(Event("sync", self._file))
            self.synced += 1
        self._owes = False

    def require_sound(self) -> None:
        """This disk never fails."""

    def close(self) -> None:
        """It has nothing to let go of."""
