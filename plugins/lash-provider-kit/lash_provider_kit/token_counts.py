"""Token counts, wherever a service's report has them."""

from __future__ import annotations

from typing import Any

__all__ = ["count_at"]


def count_at(report: Any, place: tuple[str, ...]) -> int | None:
    """The count at the end of `place`, a path of names; None if there is none, or no honest one."""
    for name in place:
        report = report.get(name) if isinstance(report, dict) else None
    if isinstance(report, bool) or not isinstance(report, int | float) or not 0 <= report < 2**53:
        return None
    return int(report)
