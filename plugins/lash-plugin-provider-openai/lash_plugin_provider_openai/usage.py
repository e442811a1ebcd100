"""Token counts, from the several shapes in which services of this wire report them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lash_hookspecs.llm import TokenUsage
from lash_provider_kit.token_counts import count_at, tier_of

__all__ = ["UsageMeter"]

# Where each count may stand, best first. One service's name is another one's absence.
_COUNTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "prompt": (("prompt_tokens",), ("input_tokens",)),
    "output": (("completion_tokens",), ("output_tokens",)),
    "cache_read": (
        ("prompt_tokens_details", "cached_tokens"),
        ("input_tokens_details", "cached_tokens"),
        ("cached_tokens",),  # Moonshot
        ("prompt_cache_hit_tokens",),  # DeepSeek
    ),
    "cache_write": (("prompt_tokens_details", "cache_write_tokens"), ("input_tokens_details", "cache_write_tokens")),
    "total": (("total_tokens",),),
    "reasoning": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("output_tokens_details", "reasoning_tokens"),
        ("reasoning_tokens",),
    ),
}


class UsageMeter:
    """Merges the reports of one answer: a count never gets less.

    The output holds the reasoning; with xAI, and at Gemini's compatible endpoint, only the total says so.
    """

    def __init__(self) -> None:
        self.raw: dict[str, Any] | None = None
        """The last report, as it came."""
        self._counts = dict.fromkeys(_COUNTS, 0)
        self.tier: Any = None
        """What the service says that answers (`service_tier`)."""

    def update(self, report: dict[str, Any]) -> bool:
        """Take a report; tells whether it held any count at all."""
        found = False
        for name, places in _COUNTS.items():
            best = 0
            for place in places:  # of twelve mostly two are there
                if place[0] in report and (count := count_at(report, place)) is not None:
                    found = True
                    best = best or count
            if best > self._counts[name]:
                self._counts[name] = best
        if found:
            self.raw = report
        return found

    @property
    def usage(self) -> TokenUsage:
        """The counts so far. What was cached is taken out of the input; reasoning is never more than the output."""
        counts = self._counts
        output = counts["output"] + self._hidden()
        return TokenUsage(
            input=max(0, counts["prompt"] - counts["cache_read"] - counts["cache_write"]),
            output=output,
            cache_read_input=counts["cache_read"],
            cache_write_input=counts["cache_write"],
            reasoning_output=min(counts["reasoning"], output),
            service_tier=tier_of(self.tier),
        )

    def _hidden(self) -> int:
        """What the total holds beyond prompt and output: reasoning, unless it is what was cached."""
        counts = self._counts
        beyond = counts["total"] - counts["prompt"] - counts["output"]
        cached = (counts["cache_read"], counts["cache_write"], counts["cache_read"] + counts["cache_write"])
        return beyond if beyond > 0 and (beyond == counts["reasoning"] or beyond not in cached) else 0
