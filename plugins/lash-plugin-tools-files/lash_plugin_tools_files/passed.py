"""What a search didn't look into: counted, and said in a few words."""

from __future__ import annotations

from attrs import fields

from lash_hookspecs.values import mutable

__all__ = ["UNTOLD", "Passed"]

UNTOLD = (".git", ".hg", ".svn")
"""Nobody expects a search in these: they would be in every result."""


@mutable(eq=False, kw_only=True)
class Passed:
    """How many files were passed over, or folders with all that is in them, and why.

    `binary` has only such as may have a match. `is_whole`: these are all; ripgrep doesn't say what it leaves out.
    """

    ignored: int = 0
    linked: int = 0
    binary: int = 0
    too_large: int = 0
    unreadable: int = 0
    is_whole: bool = True

    def __str__(self) -> str:
        counts = [(each.name, getattr(self, each.name)) for each in fields(Passed) if each.name != "is_whole"]
        said = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts if count)
        return f"passed over{'' if self.is_whole else ', at least'}: {said}" if said else ""

    def behind(self, rows: list[str], nothing: str) -> str:
        """The rows of a search that came to its end, or that there is nothing, and what it passed over."""
        said = str(self)
        if rows:
            return "\n".join([*rows, f"({said})"] if said else rows)
        return f"({nothing}; {said})" if said else f"({nothing})"
