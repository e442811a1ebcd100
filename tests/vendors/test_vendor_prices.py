"""Our tables of prices against a public collection, by the day of the table: a row that is stale or missing is told.

What we want otherwise has its line here, with the reason. A newer release of the collection (`tox.ini`) is how changed
prices are noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from lash_hookspecs.models import ModelPrices, ModelTable
from lash_plugin_provider_anthropic.models import ANTHROPIC_MODELS
from lash_plugin_provider_google.models import GEMINI_MODELS
from lash_plugin_provider_openai.models import OPENAI_MODELS

published = pytest.importorskip("genai_prices.data", reason="the collection isn't installed: `tox -e vendors`")

TABLES = {"openai": OPENAI_MODELS, "anthropic": ANTHROPIC_MODELS, "google": GEMINI_MODELS}
BUCKETS = {"input": "input_mtok", "cache_read": "cache_read_mtok", "cache_write": "cache_write_mtok"}
BUCKETS["output"] = "output_mtok"
PUBLISHED = {each.id: each for each in published.providers if each.id in TABLES}

COLLECTION = "pydantic/genai-prices"
NEWER = {"gpt-6.2-astra", "gpt-6.2-sol", "gemini-4-hydrogen"}
"""Ours, and newer than the collection."""
OTHERWISE = {
    ("gpt-5.4", "flex", "cache_read"): "rounded to 0.13 there; half of the usual price, as with the others, is 0.125",
    ("gpt-5.4-2026-03-05", "flex", "cache_read"): "the same",
    ("o4-mini", "flex", "cache_read"): "rounded to 0.138 there",
    ("o4-mini-2025-04-16", "flex", "cache_read"): "the same",
    ("claude-sonnet-4-5", "", "long"): "dearer long requests were a beta that is over: the window is 200,000 tokens",
    ("claude-sonnet-4-5-20250929", "", "long"): "the same",
}
LEFT_OUT = {
    "no chat, or not text": ("audio", "image", "live", "realtime", "search", "transcribe", "tts", "deep-research"),
    "not for everybody": ("cyber", "mythos", "rosalind"),
    "older than what we list": (
        *("gpt-3.5", "gpt-4-", "gpt-4.5", "gpt-4o-2024-05-13", "gpt-4o:", "o1", "o3-mini", "claude-opus-4-0"),
        *("claude-opus-4-1", "claude-sonnet-4-0", "gemini-2.0", "gemini-2.5-flash-preview"),
    ),
    "a variant that takes long, or edits code, and is named by who wants it": ("-pro", "codex", "gpt-5.3"),
    "tuned": (".ft-",),
}
FAMILIES = (
    "gpt-4",
    "gpt-5",
    "gpt-6",
    "gpt-7",
    "o1",
    "o3",
    "o4",
    "o5",
    "claude-opus-4",
    "claude-opus-5",
    "claude-opus-6",
)
FAMILIES += ("claude-sonnet-4", "claude-sonnet-5", "claude-sonnet-6", "claude-haiku-4", "claude-haiku-5")
FAMILIES += ("claude-fable", "claude-mythos", "gemini-2", "gemini-3", "gemini-4", "gemini-5")


def rows() -> Iterator[Any]:
    for provider, table in TABLES.items():
        for name, can in table.models.items():
            prices = can.prices
            assert prices is not None
            for tier in ("", *prices.tiers):
                yield pytest.param(provider, table, name, tier, id=f"{name}{tier and ' ' + tier}")


@pytest.mark.parametrize(("provider", "table", "name", "tier"), list(rows()))
def test_a_price_is_the_published_one(provider: str, table: ModelTable, name: str, tier: str) -> None:
    found = PUBLISHED[provider].find_model(name)
    ours = table.models[name].prices
    assert ours is not None
    if name in NEWER:
        assert found is None, f"`{name}` is published by now: take it out of NEWER"
        assert ours.source not in ("", COLLECTION)
        return
    assert ours.source == COLLECTION
    assert found is not None
    word = "speed" if provider == "anthropic" else "service_tier"
    context = {word: tier} if tier else None
    theirs = found.get_prices(datetime.fromisoformat(table.version).replace(tzinfo=UTC), context)
    ours = ours.tiers[tier] if tier else ours
    for bucket, word in BUCKETS.items():
        usual, above, long = told(getattr(theirs, word, None))
        if (name, tier, bucket) in OTHERWISE:
            assert getattr(ours, bucket) != usual, "the exception isn't needed any more"
            continue
        if (name, tier, "long") in OTHERWISE:
            assert above is not None, "the exception isn't needed any more"
            above = long = None
        assert getattr(ours, bucket) == usual, bucket
        assert (ours.long_above if long is not None else None) == above, bucket
        assert rate(ours.long, bucket) == long, bucket


def told(price: Any) -> tuple[float | None, int | None, float | None]:
    """A published price: the usual one, from how much input on there is another one, and that."""
    if price is None:
        return None, None, None
    tiers = getattr(price, "tiers", ())
    if not tiers:
        return float(getattr(price, "base", price)), None, None
    (tier,) = tiers
    return float(price.base), tier.start, float(tier.price)


def rate(prices: ModelPrices | None, bucket: str) -> float | None:
    return None if prices is None else getattr(prices, bucket)


@pytest.mark.parametrize("provider", TABLES)
def test_no_published_model_is_missing(provider: str) -> None:
    known = {found.id for name in TABLES[provider].models if (found := PUBLISHED[provider].find_model(name))}
    left_out = tuple(each for words in LEFT_OUT.values() for each in words)
    missing = [
        each.id
        for each in PUBLISHED[provider].models
        if each.id.startswith(FAMILIES) and (provider != "google" or each.id.startswith("gemini"))
        if each.id not in known and not any(word in each.id for word in left_out) and each.id != "gpt-4"
    ]
    assert missing == []


def test_every_exception_is_needed() -> None:
    """One of a model that is gone would hide the next mistake; the others are looked at where they are used."""
    names = {name for table in TABLES.values() for name in table.models}
    assert {name for name, _, _ in OTHERWISE} | NEWER <= names
