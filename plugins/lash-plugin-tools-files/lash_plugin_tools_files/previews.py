"""What a change would make of a file, as a diff: for a person who is asked about it. Pure."""

from __future__ import annotations

import difflib

__all__ = ["changed"]

COMPARED = 5_000
"""Lines: of longer files only the numbers are told."""


def changed(shown: str, before: str | None, after: str) -> str:
    """What is different; `before` is None where there is no such file."""
    new = after.splitlines()
    if before is None:
        return f"make {shown} (lines: {len(new):,})"
    old = before.splitlines()
    if before == after:
        return f"write {shown} as it is"
    if max(len(old), len(new)) > COMPARED:
        return f"replace {shown} (lines: {len(old):,}, then {len(new):,})"
    diff = [*difflib.unified_diff(old, new, shown, f"{shown}, then", lineterm="")]
    return "\n".join(diff) or f"change the ends of lines in {shown}"
