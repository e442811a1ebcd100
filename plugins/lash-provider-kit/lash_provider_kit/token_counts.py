"""Token counts, wherever a service's report has them, and which tier of a service has answered."""

from __future__ import annotations

from typing import Any

__all__ = ["count_at", "tier_of"]

_USUAL = frozenset({"", "auto", "default", "standard", "on_demand", "unspecified"})
_LONGEST = 64


def count_at(report: Any, place: tuple[str, ...]) -> int | None:
    """The count at the end of `place`, a path of names; None if there is none, or no honest one."""
    for name in place:
        report = report.get(name) if isinstance(report, dict) else None
    if isinstance(report, bool) or not isinstance(report, int | float) or not 0 <= report < 2**53:
        return None
    return int(report)


def tier_of(said: Any) -> str | None:
    """The tier that a service says has answered, in lower case; None for the usual one, or if it doesn't say."""
    word = said.strip().lower()[:_LONGEST] if isinstance(said, str) else ""
    return None if word in _USUAL or word.endswith("_unspecified") else word
