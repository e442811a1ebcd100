"""Whether text that goes through somebody's hands in pieces comes out as it went in, however it is cut. Pure."""

from __future__ import annotations

__all__ = ["PassedText"]


class PassedText:
    """What went in and isn't out yet. Once something else comes out, and if something is left, it `is_changed`."""

    def __init__(self) -> None:
        self._owed = ""
        self._differs = False

    @property
    def is_changed(self) -> bool:
        """Whether what came out is something else than what went in."""
        return self._differs or bool(self._owed)

    def take(self, given: str, made: str) -> None:
        """A piece went in, and this came out."""
        if self._differs:
            return
        owed = self._owed + given
        self._differs = not owed.startswith(made)
        self._owed = owed[len(made) :]
