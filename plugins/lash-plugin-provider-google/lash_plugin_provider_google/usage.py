"""Token counts, as Gemini reports them with every chunk of an answer."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.llm import TokenUsage

__all__ = ["UsageMeter"]

_PROMPT, _TOOL_USE, _CACHED = "promptTokenCount", "toolUsePromptTokenCount", "cachedContentTokenCount"
_CANDIDATES, _THOUGHTS, _TOTAL = "candidatesTokenCount", "thoughtsTokenCount", "totalTokenCount"
_COUNTS = (_PROMPT, _TOOL_USE, _CACHED, _CANDIDATES, _THOUGHTS, _TOTAL)


class UsageMeter:
    """Merges the reports of one answer: a later count replaces an earlier one, unless it is zero."""

    def __init__(self) -> None:
        self.raw: dict[str, Any] | None = None
        """The last report, as it came."""
        self._counts = dict.fromkeys(_COUNTS, 0)

    def update(self, report: dict[str, Any]) -> bool:
        """Take a report; tells whether it changed any count, or is the first that holds one."""
        counts, found, changed = self._counts, False, self.raw is None
        for name in _COUNTS:
            value = report.get(name)
            if value is None:
                continue
            value = _count(value)
            found = found or value is not None
            if value and value != counts[name]:
                counts[name] = value
                changed = True
        if found:
            self.raw = report
        return found and changed

    @property
    def usage(self) -> TokenUsage:
        """The counts so far.

        The prompt holds what was cached of it, and not what tools of Google's own brought in; the candidates don't hold
        the thoughts, except with services whose total says so.
        """
        counts = self._counts
        cached, thoughts, candidates = counts[_CACHED], counts[_THOUGHTS], counts[_CANDIDATES]
        read = counts[_PROMPT] + counts[_TOOL_USE]
        within = 0 < thoughts <= candidates and counts[_TOTAL] == read + candidates
        return TokenUsage(
            input=max(0, read - cached),
            output=candidates if within else candidates + thoughts,
            cache_read_input=cached,
            reasoning_output=thoughts,
        )


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**53:
        return None
    return int(value)
