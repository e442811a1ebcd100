"""Token counts, as Gemini reports them with every chunk of an answer."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.llm import TokenUsage
from lash_provider_kit.token_counts import count_at

__all__ = ["UsageMeter"]

_COUNTS = (
    "promptTokenCount",
    "toolUsePromptTokenCount",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "thoughtsTokenCount",
    "totalTokenCount",
)


class UsageMeter:
    """Merges the reports of one answer: a later count replaces an earlier one, unless it is zero.

    There is a report with nearly every delta of text, so taking one is cheap; what they say is worked out when asked.
    """

    def __init__(self) -> None:
        self._merged: dict[str, Any] = {}

    def update(self, report: dict[str, Any]) -> None:
        """Take a report."""
        if 0 in report.values():  # what the service itself leaves out
            report = {name: value for name, value in report.items() if value or name not in self._merged}
        self._merged.update(report)

    @property
    def raw(self) -> dict[str, Any] | None:
        """The reports, merged, as they came."""
        return self._merged or None

    @property
    def usage(self) -> TokenUsage | None:
        """The counts so far; None where there are none.

        The prompt holds what was cached of it, and not what tools of Google's own brought in; the candidates don't hold
        the thoughts, except with services whose total says so.
        """
        if all(self._given(name) is None for name in _COUNTS):
            return None
        cached, thoughts = self._count("cachedContentTokenCount"), self._count("thoughtsTokenCount")
        candidates = self._count("candidatesTokenCount")
        read = self._count("promptTokenCount") + self._count("toolUsePromptTokenCount")
        within = 0 < thoughts <= candidates and self._count("totalTokenCount") == read + candidates
        return TokenUsage(
            input=max(0, read - cached),
            output=candidates if within else candidates + thoughts,
            cache_read_input=cached,
            reasoning_output=thoughts,
        )

    def _count(self, name: str) -> int:
        return self._given(name) or 0

    def _given(self, name: str) -> int | None:
        return count_at(self._merged, (name,))
