"""OpenAI's models as data: sizes, efforts, and prices with the day on which each was read.

Only what OpenAI itself answers costs this: the same name at another service is another model. The prices are those of
OpenAI's pages, as the public collection pydantic/genai-prices recorded them.
"""

from __future__ import annotations

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
    (("gpt-5.6", "gpt-5.6-sol"), "2026-08-21", (4, 0.4, 5, 20), 1_050_000, 128_000, ""),
    (("gpt-5.6-terra",), "2026-08-02", (2, 0.2, 2.5, 12), 1_050_000, 128_000, ""),
    (("gpt-5.6-luna",), "2026-08-02", (0.2, 0.02, 0.25, 1.2), 1_050_000, 128_000, ""),
)

_LONG_ABOVE = 272_000
_DEARER_WHEN_LONG = {"gpt-5.4", "gpt-5.5", "gpt-5.6", "gpt-5.6-terra", "gpt-5.6-luna"}
"""Models whose input costs twice, and whose output half as much again, where a request has more input than that."""


def _prices(day: str, row: tuple[float, float | None, float | None, float], *, tiered: bool) -> ModelPrices:
    read, cached, written, output = row
    base = ModelPrices(input=read, cache_read=cached, cache_write=written, output=output, as_of=day)
    if not tiered:
        return base
    twice = [None if each is None else round(each * 2, 6) for each in (read, cached, written)]
    long = ModelPrices(
        input=twice[0], cache_read=twice[1], cache_write=twice[2], output=round(output * 1.5, 6), as_of=day
    )
    return ModelPrices(
        input=read,
        cache_read=cached,
        cache_write=written,
        output=output,
        as_of=day,
        long_above=_LONG_ABOVE,
        long=long,
    )


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
            prices=_prices(day, prices, tiered=names[0] in _DEARER_WHEN_LONG),
        )
        found |= dict.fromkeys(names, capability)
    return found


OPENAI_MODELS = ModelTable("2026-11-26", _table())
