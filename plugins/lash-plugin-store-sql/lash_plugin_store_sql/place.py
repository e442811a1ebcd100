"""Whether a database is still where it was opened.

Who removes or replaces a file that is open leaves its connections with one that has no name any more. SQLite goes on
writing to it, and says that all is well; the next process finds nothing of that.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from lash_hookspecs.errors import StoreUnavailable

__all__ = ["Place"]


LOOK_S = 0.01
"""How long a look is good for. After a wait for the disk it takes 15 µs or more, which a turn would pay ten times."""


class Place:
    """The file and its log, as they were when the first connection had opened them."""

    def __init__(self, file: Path) -> None:
        files = (file, file.with_name(f"{file.name}-wal"))
        # A log is there as long as anybody has the file open; one that was taken away holds all that isn't copied yet.
        self._found = {each: each.stat() for each in files if each.exists()}
        self._looked_at = time.monotonic()

    def require_now_and_then(self) -> None:
        """`require`, unless somebody looked just now."""
        if time.monotonic() - self._looked_at >= LOOK_S:
            self.require()

    def require(self) -> None:
        """Raise `StoreUnavailable` if something else is there, or nothing."""
        if (gone := self.gone()) is not None:
            raise StoreUnavailable(gone)
        self._looked_at = time.monotonic()

    def gone(self) -> str | None:
        """What isn't there any more, in words; None if all is."""
        for path, found in self._found.items():
            try:
                if os.path.samestat(path.stat(), found):
                    continue
                what = "replaced"
            except OSError:
                what = "removed or moved"
            return (
                f"`{path}` was {what} while it was open, and nobody would find what is written now: put it back, or "
                f"end this process and begin anew with what is there"
            )
        return None
