"""Token counts, as Gemini reports them with every chunk of an answer."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.llm import TokenUsage
from lash_provider_kit.token_counts import count_at, tier_of

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
    """Merges the reports of one answer: a count never gets less, but by the last report, and never to zero.

    Some models estimate what they read, and say at the end what it was.
    There is a report with nearly every delta of text, so taking one is cheap; what they say is worked out when asked.
    """

    def __init__(self) -> None:
        self._merged: dict[str, Any] = {}

    def update(self, report: dict[str, Any], *, last: bool = False) -> None:
        """Take a report; the last one came with the end of the answer."""
        merged = self._merged
        for name, value in report.items():
            old = merged.get(name)
            if value.__class__ is int and old.__class__ is int:  # as nearly always
                if old < value < 2**53 or (last and 0 < value < old):
                    merged[name] = value
            elif name not in _COUNTS:
                if value or name not in merged:  # what is nothing, the service itself leaves out
                    merged[name] = value
            else:
                count = count_at(report, (name,))
                if count is not None and (old is None or count > old or (last and count)):
                    merged[name] = value

    @property
    def raw(self) -> dict[str, Any] | None:
        """The reports, merged; without counts that are none."""
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
            service_tier=tier_of(self._merged.get("serviceTier")) or self._traffic(),
        )

    def _traffic(self) -> str | None:
        """The tier, in Vertex' words."""
        told = tier_of(self._merged.get("trafficType"))
        return told and told.removeprefix("on_demand_")

    def _count(self, name: str) -> int:
        return self._given(name) or 0

    def _given(self, name: str) -> int | None:
        return count_at(self._merged, (name,))
