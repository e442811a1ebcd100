"""OpenAI's models as data: sizes, efforts, and prices with the day on which each was read.

Only what OpenAI itself answers costs this: the same name at another service is another model. OpenAI's pages weren't
read for this, so each price names who says that it stood there: the public collection pydantic/genai-prices
(`tests/vendors` compares), and for what is newer than that, one that names OpenAI's page. What none says is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from lash_hookspecs.models import ModelCapability, ModelPrices, ModelTable

__all__ = ["OPENAI_MODELS"]

_EFFORTS = {
    "": (),  # not known
    "gpt-5": ("minimal", "low", "medium", "high"),
    "gpt-5.1": ("none", "low", "medium", "high"),
    "gpt-5.2": ("none", "low", "medium", "high", "xhigh"),
    "o": ("low", "medium", "high"),
}

# Names; day; dollars for a million tokens: input, read from the cache, written to it, output; window; output cap;
# efforts (None: it doesn't reason). Each snapshot is listed: a name that isn't here is unknown.
_ROWS: tuple[
    tuple[tuple[str, ...], str, tuple[float, float | None, float | None, float], int, int, str | None], ...
] = (
    (("gpt-4.1", "gpt-4.1-2025-04-14"), "2025-07-04", (2, 0.5, None, 8), 1_047_576, 32_768, None),
    (("gpt-4.1-mini", "gpt-4.1-mini-2025-04-14"), "2025-07-04", (0.4, 0.1, None, 1.6), 1_047_576, 32_768, None),
    (("gpt-4.1-nano", "gpt-4.1-nano-2025-04-14"), "2025-07-04", (0.1, 0.025, None, 0.4), 1_047_576, 32_768, None),
    (("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20"), "2025-07-04", (2.5, 1.25, None, 10), 128_000, 16_384, None),
    (("gpt-4o-mini", "gpt-4o-mini-2024-07-18"), "2025-07-04", (0.15, 0.075, None, 0.6), 128_000, 16_384, None),
    (("o3", "o3-2025-04-16"), "2025-07-12", (2, 0.5, None, 8), 200_000, 100_000, "o"),
    (("o4-mini", "o4-mini-2025-04-16"), "2025-07-04", (1.1, 0.275, None, 4.4), 200_000, 100_000, "o"),
    (("gpt-5", "gpt-5-2025-08-07"), "2025-11-13", (1.25, 0.125, None, 10), 400_000, 128_000, "gpt-5"),
    (("gpt-5-mini", "gpt-5-mini-2025-08-07"), "2025-11-13", (0.25, 0.025, None, 2), 400_000, 128_000, "gpt-5"),
    (("gpt-5-nano", "gpt-5-nano-2025-08-07"), "2025-11-13", (0.05, 0.005, None, 0.4), 400_000, 128_000, "gpt-5"),
    (("gpt-5-pro", "gpt-5-pro-2025-10-06"), "2025-11-13", (15, None, None, 120), 400_000, 272_000, ""),
    (("gpt-5.1", "gpt-5.1-2025-11-13"), "2025-11-13", (1.25, 0.125, None, 10), 400_000, 128_000, "gpt-5.1"),
    (("gpt-5.2", "gpt-5.2-2025-12-11"), "2025-12-11", (1.75, 0.175, None, 14), 400_000, 128_000, "gpt-5.2"),
    (("gpt-5.4", "gpt-5.4-2026-03-05"), "2026-03-06", (2.5, 0.25, None, 15), 1_050_000, 128_000, ""),
    (("gpt-5.4-mini", "gpt-5.4-mini-2026-03-17"), "2026-03-18", (0.75, 0.075, None, 4.5), 400_000, 128_000, ""),
    (("gpt-5.4-nano", "gpt-5.4-nano-2026-03-17"), "2026-03-18", (0.2, 0.02, None, 1.25), 400_000, 128_000, ""),
    (("gpt-5.5", "gpt-5.5-2026-04-23"), "2026-04-24", (5, 0.5, None, 30), 1_000_000, 128_000, ""),
    # What these cost in long requests, in other tiers, and to write to the cache, nobody says yet who names his source.
    (("gpt-6.2-astra",), "2026-11-18", (8, 0.4, None, 40), 1_050_000, 128_000, ""),
    (("gpt-6.2-sol",), "2026-11-18", (2, None, None, 10), 1_050_000, 128_000, ""),
    (("gpt-6-astra",), "2026-10-12", (10, 1, 12.5, 50), 1_050_000, 128_000, ""),
    (("gpt-6-sol",), "2026-10-12", (2, 0.2, 2.5, 10), 1_050_000, 128_000, ""),
    (("gpt-6-luna",), "2026-10-12", (0.1, 0.01, 0.125, 0.5), 1_050_000, 128_000, ""),
    (("gpt-6.1-sol",), "2026-10-12", (2, 0.1, 2.5, 10), 1_050_000, 128_000, ""),
    (("gpt-6.1-terra",), "2026-10-26", (1, 0.05, 1.25, 5), 1_050_000, 128_000, ""),
    (("gpt-5.6", "gpt-5.6-sol"), "2026-08-21", (4, 0.4, 5, 20), 1_050_000, 128_000, ""),
    (("gpt-5.6-terra",), "2026-08-02", (2, 0.2, 2.5, 12), 1_050_000, 128_000, ""),
    (("gpt-5.6-luna",), "2026-08-02", (0.2, 0.02, 0.25, 1.2), 1_050_000, 128_000, ""),
)

_COLLECTION = "pydantic/genai-prices"
_SOURCES = dict.fromkeys(("gpt-6.2-astra", "gpt-6.2-sol"), "BerriAI/litellm discussion 52347")
"""Who says what a model costs, where that isn't the collection."""
_LONG_ABOVE = 272_000
_UNKNOWN_WHEN_LONG = {"gpt-6.2-astra", "gpt-6.2-sol"}
_GPT_6 = ("gpt-6-astra", "gpt-6-sol", "gpt-6-luna", "gpt-6.1-sol", "gpt-6.1-terra")
_LONG_AND_FAST = {"gpt-5.6", "gpt-5.6-terra", "gpt-5.6-luna", *_GPT_6}
_DEARER_WHEN_LONG = {"gpt-5.4", "gpt-5.5", *_LONG_AND_FAST}
"""Models whose input costs twice, and whose output half as much again, where a request has more input than that."""

_FLEX = frozenset({"o3", "o4-mini", "gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-5.1", "gpt-5.2"})
_FLEX |= {"gpt-5.4", "gpt-5.4-mini", "gpt-5.4-nano", "gpt-5.5", *_LONG_AND_FAST}
"""Models that cost half as much in the tier `flex`."""
_FAST: Mapping[str, float] = {
    "gpt-4.1": 1.75,
    "gpt-4.1-mini": 1.75,
    "gpt-4.1-nano": 2,
    "gpt-4o": 1.7,
    "gpt-4o-mini": 5 / 3,
    "o3": 1.75,
    "o4-mini": 20 / 11,
    "gpt-5": 2,
    "gpt-5-mini": 1.8,
    "gpt-5.1": 2,
    "gpt-5.2": 2,
    "gpt-5.4": 2,
    "gpt-5.4-mini": 2,
    "gpt-5.5": 2.5,
    **dict.fromkeys(_LONG_AND_FAST, 2),
}
"""How many times as much a model costs in the tier `fast`, which was called `priority`."""
_TIERS_DAY = "2026-10-12"

_Row = tuple[float, float | None, float | None, float]


def _prices(name: str, day: str, row: _Row) -> ModelPrices:
    tiers: dict[str, ModelPrices] = {}
    if name in _FLEX:
        tiers["flex"] = _rates(_TIERS_DAY, row, 0.5, long=name in _DEARER_WHEN_LONG)
    if name in _FAST:
        tiers["fast"] = tiers["priority"] = _rates(_TIERS_DAY, row, _FAST[name], long=name in _LONG_AND_FAST)
    prices = evolve(_rates(day, row, long=name in _DEARER_WHEN_LONG), tiers=tiers)
    prices = evolve(prices, source=_SOURCES.get(name, _COLLECTION))
    return evolve(prices, long_above=_LONG_ABOVE, long=ModelPrices()) if name in _UNKNOWN_WHEN_LONG else prices


def _rates(day: str, row: _Row, times: float = 1, *, long: bool) -> ModelPrices:
    read, cached, written, output = (None if each is None else round(each * times, 6) for each in row)
    rates = ModelPrices(input=read, cache_read=cached, cache_write=written, output=output, as_of=day)
    rates = evolve(rates, source=_COLLECTION)
    if not long:
        return rates
    read, cached, written, output = row
    twice = [None if each is None else each * 2 for each in (read, cached, written)]
    dear = (twice[0] or 0, twice[1], twice[2], output * 1.5)
    return evolve(rates, long_above=_LONG_ABOVE, long=_rates(day, dear, times, long=False))


def _table() -> dict[str, ModelCapability]:
    found: dict[str, ModelCapability] = {}
    for names, day, prices, window, cap, family in _ROWS:
        efforts = _EFFORTS[family or ""]
        off = "none" if "none" in efforts else None
        capability = ModelCapability(
            context_window=window,
            output_cap=cap,
            images=True,
            documents=True,
            tools=True,
            parallel_tools=True,
            structured_output=True,
            sampling_pinned=family is not None,
            reasoning_efforts=efforts,
            reasoning_encoding="none" if family is None else "effort",
            reasoning_off=off,
            reasoning_required=off is None if efforts else None,
            prices=_prices(names[0], day, prices),
        )
        found |= dict.fromkeys(names, capability)
    return found


OPENAI_MODELS = ModelTable("2026-11-26", _table())
