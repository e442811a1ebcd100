"""Token counts: `message_start` says what was read, each `message_delta` what was written so far."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lash_hookspecs.llm import TokenUsage
from lash_provider_kit.token_counts import count_at, tier_of

__all__ = ["UsageMeter"]

_HOUR = ("cache_creation", "ephemeral_1h_input_tokens")
_COUNTS: Mapping[str, tuple[str, ...]] = {
    "input": ("input_tokens",),  # here, unlike elsewhere, without what was cached
    "output": ("output_tokens",),
    "cache_read_input": ("cache_read_input_tokens",),
    "cache_write_input": ("cache_creation_input_tokens",),
    "reasoning_output": ("output_tokens_details", "thinking_tokens"),
}


class UsageMeter:
    """Merges the reports of one answer: a count never gets less.

    What is written to the cache for an hour has no price of its own in the table of models, so it makes the cost
    "at least". Where a report doesn't say for how long, `for_an_hour` does: what was asked for.
    """

    def __init__(self, *, for_an_hour: bool = False) -> None:
        self._for_an_hour = for_an_hour
        self.raw: dict[str, Any] = {}
        """All fields that were reported, the latest of each."""
        self._counts = dict.fromkeys(_COUNTS, 0)

    def update(self, report: dict[str, Any]) -> bool:
        """Take a report; tells whether it held any count at all."""
        found = False
        for name, place in _COUNTS.items():
            count = count_at(report, place)
            if count is not None:
                found = True
                self._counts[name] = max(count, self._counts[name])
        if found:
            self.raw |= {name: value for name, value in report.items() if value or name not in self.raw}
        return found

    @property
    def usage(self) -> TokenUsage:
        """The counts so far; reasoning is never more than the output."""
        counts = self._counts
        return TokenUsage(
            input=counts["input"],
            output=counts["output"],
            cache_read_input=counts["cache_read_input"],
            cache_write_input=counts["cache_write_input"],
            reasoning_output=min(counts["reasoning_output"], counts["output"]),
            unpriced=counts["cache_write_input"] > 0 and self._is_for_an_hour() and not self._for_an_hour,
            service_tier=self._tier(),
        )

    def _tier(self) -> str | None:
        told = (tier_of(self.raw.get(name)) for name in ("speed", "service_tier"))
        return "+".join(filter(None, told)) or None

    def _is_for_an_hour(self) -> bool:
        told = count_at(self.raw, _HOUR)
        return self._for_an_hour if told is None else told > 0
