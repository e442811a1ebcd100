"""Anthropic's models as data: sizes, how they are told to think, and prices, each by its exact name.

Compared with the vendor's pages on models, thinking and prices, as far as public collections had them on the day of
the table; each price names the collection (`tests/vendors` compares). A cache's writes are priced at five minutes, its
default; an hour costs 1.6 times as much (`for_an_hour`), and is told as unknown where nobody asked for it (`usage`).
"""

from __future__ import annotations

from attrs import evolve

from lash_hookspecs.models import ModelCapability, ModelPrices, ModelTable

__all__ = ["ADAPTIVE", "ANTHROPIC_MODELS", "BUDGET", "BUDGETS", "NO_REASONING", "OFF", "for_an_hour"]

ADAPTIVE, BUDGET, NO_REASONING = "adaptive", "budget", "none"
"""The values of `reasoning_encoding`: an effort, a budget of tokens, nothing. Unknown is taken for the first."""
OFF = "disabled"
BUDGETS = {"low": 2048, "medium": 8192, "high": 16384}
"""What an effort means in tokens, where that is how it is told and nothing else is said."""

_DAY = "2026-11-26"
_COLLECTION = "pydantic/genai-prices"
_ALL = ("low", "medium", "high", "xhigh", "max")
_CURRENT = ModelCapability(
    context_window=1_000_000,
    output_cap=128_000,
    images=True,
    documents=True,
    tools=True,
    parallel_tools=True,
    structured_output=True,
    sampling_pinned=True,
    reasoning_efforts=_ALL,
    reasoning_encoding=ADAPTIVE,
    reasoning_off=OFF,
    reasoning_required=False,
)
_ALWAYS_ON = evolve(_CURRENT, reasoning_off=None, reasoning_required=True)
_NEVER_FORCED = evolve(_ALWAYS_ON, forced_tools=False)
_BETWEEN_TOOLS = evolve(_CURRENT, reasoning_off="between_tools", forced_tools=False)
"""It thinks of its tools whatever it is told, and little as long as there are none."""
_EARLIER = evolve(_CURRENT, reasoning_efforts=("low", "medium", "high", "max"), sampling_pinned=False)
_BUDGET = evolve(
    _CURRENT,
    context_window=200_000,
    output_cap=64_000,
    sampling_pinned=False,
    reasoning_efforts=tuple(BUDGETS),
    reasoning_encoding=BUDGET,
    reasoning_budgets=BUDGETS,
)

# Names; what they can do; dollars for a million tokens: input, read from the cache, written to it, output.
_ROWS: tuple[tuple[tuple[str, ...], ModelCapability, tuple[float, float | None, float | None, float]], ...] = (
    (("claude-fable-5-2",), _ALWAYS_ON, (8, 0.2, 10, 40)),
    (("claude-fable-5-1",), _NEVER_FORCED, (10, 0.25, 12.5, 50)),
    (("claude-fable-5",), _ALWAYS_ON, (10, 1, 12.5, 50)),
    (("claude-opus-5-5",), _NEVER_FORCED, (4, 0.2, 5, 20)),
    (("claude-opus-5",), _CURRENT, (5, 0.5, 6.25, 25)),
    (("claude-opus-4-8",), _CURRENT, (5, 0.5, 6.25, 25)),
    (("claude-opus-4-7",), _CURRENT, (5, 0.5, 6.25, 25)),
    (("claude-opus-4-6",), _EARLIER, (5, 0.5, 6.25, 25)),
    (("claude-opus-4-5", "claude-opus-4-5-20251101"), _BUDGET, (5, 0.5, 6.25, 25)),
    (("claude-sonnet-5-5",), _BETWEEN_TOOLS, (2, 0.1, 2.5, 10)),
    (("claude-sonnet-5",), _CURRENT, (2, 0.2, 2.5, 10)),
    (("claude-sonnet-4-6",), _EARLIER, (3, 0.3, 3.75, 15)),
    (("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"), _BUDGET, (3, 0.3, 3.75, 15)),
    (("claude-haiku-5-5",), _CURRENT, (0.1, 0.01, 0.125, 0.5)),
    (("claude-haiku-4-5", "claude-haiku-4-5-20251001"), _BUDGET, (1, 0.1, 1.25, 5)),
)

_TWICE_WHEN_FAST = {"claude-fable-5-2", "claude-opus-5-5", "claude-opus-5", "claude-opus-4-8"}
"""Models that answer faster for twice the price, where that is asked for (`speed`)."""
_LONG_ABOVE = {"claude-haiku-5-5": 100_000}
"""Models that cost five times as much in requests with more input than that."""


def _prices(name: str, row: tuple[float, float | None, float | None, float]) -> ModelPrices:
    read, cached, written, output = row
    base = _rates(read, cached, written, output)
    if name in _TWICE_WHEN_FAST:
        return evolve(base, tiers={"fast": _of_all(2, row)})
    if name not in _LONG_ABOVE:
        return base
    return evolve(base, long_above=_LONG_ABOVE[name], long=_of_all(5, row))


def _of_all(times: int, row: tuple[float, float | None, float | None, float]) -> ModelPrices:
    return _rates(*(None if each is None else round(each * times, 6) for each in row))


def _rates(*row: float | None) -> ModelPrices:
    read, cached, written, output = row
    return ModelPrices(
        input=read, cache_read=cached, cache_write=written, output=output, as_of=_DAY, source=_COLLECTION
    )


def for_an_hour(prices: ModelPrices) -> ModelPrices:
    """The same where what is cached is kept for an hour."""
    written = None if prices.cache_write is None else round(prices.cache_write * 1.6, 6)
    tiers = {name: for_an_hour(each) for name, each in prices.tiers.items()}
    return evolve(prices, cache_write=written, long=prices.long and for_an_hour(prices.long), tiers=tiers)


ANTHROPIC_MODELS = ModelTable(
    _DAY,
    {name: evolve(can, prices=_prices(names[0], row)) for names, can, row in _ROWS for name in names},
)
