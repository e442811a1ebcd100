"""What Anthropic's models can do and what they cost: data of a date, looked up by the exact id.

Nothing is concluded from a part of a name. A model that isn't here is taken for one like the current ones without
limits of its own (`UNKNOWN`); the settings correct every field, for gateways and for what came out since.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from lash_hookspecs.values import frozen
from lash_plugin_provider_anthropic.settings import AnthropicSettings

__all__ = ["MODELS", "TABLE_VERSION", "UNKNOWN", "ModelFacts", "Price", "facts"]

TABLE_VERSION = "2026-11-26"
"""When the table was compared with the vendor's pages on models and prices."""


@frozen
class Price:
    """In US dollars for a million tokens. Cache writes last five minutes or an hour."""

    input: float
    output: float
    cache_write_5m: float
    cache_write_1h: float
    cache_read: float


@frozen(kw_only=True)
class ModelFacts:
    """One model. `reasoning` says how it is told to think: `adaptive` (an effort), `budget` (tokens) or `none`.

    `efforts` empty means that any is passed on. `sampling` says whether a temperature is taken.
    """

    context_window: int | None = None
    max_output: int | None = None
    reasoning: str = "adaptive"
    efforts: tuple[str, ...] = ()
    reasoning_optional: bool = True
    sampling: bool = True
    images: bool = True
    documents: bool = True
    structured_output: bool = True
    price: Price | None = None
    """None: unknown, or one that depends on more than counts."""


_ALL = ("low", "medium", "high", "xhigh", "max")
_WITHOUT_XHIGH = ("low", "medium", "high", "max")
BUDGETS: Mapping[str, int] = {"low": 2048, "medium": 8192, "high": 16384}
"""What an effort means, in tokens, for a model that takes a budget."""

UNKNOWN = ModelFacts()
_CURRENT = ModelFacts(context_window=1_000_000, max_output=128_000, efforts=_ALL, sampling=False)
_ALWAYS_ON = evolve(_CURRENT, reasoning_optional=False)
_EARLIER = evolve(_CURRENT, efforts=_WITHOUT_XHIGH, sampling=True)
_BUDGET = ModelFacts(context_window=200_000, max_output=64_000, reasoning="budget", efforts=tuple(BUDGETS))

_OPUS = Price(5.0, 25.0, 6.25, 10.0, 0.5)
_SONNET = Price(3.0, 15.0, 3.75, 6.0, 0.3)
_HAIKU_4_5 = evolve(_BUDGET, price=Price(1.0, 5.0, 1.25, 2.0, 0.1))
_SONNET_4_5 = evolve(_BUDGET, price=_SONNET)
_OPUS_4_5 = evolve(_BUDGET, price=_OPUS)

MODELS: Mapping[str, ModelFacts] = {
    "claude-fable-5-2": _ALWAYS_ON,  # its cache's prices weren't found
    "claude-fable-5-1": evolve(_ALWAYS_ON, price=Price(10.0, 50.0, 12.5, 20.0, 0.25)),
    "claude-fable-5": evolve(_ALWAYS_ON, price=Price(10.0, 50.0, 12.5, 20.0, 1.0)),
    "claude-opus-5-5": evolve(_ALWAYS_ON, price=Price(4.0, 20.0, 5.0, 8.0, 0.2)),
    "claude-opus-5": evolve(_CURRENT, price=_OPUS),
    "claude-opus-4-8": evolve(_CURRENT, price=_OPUS),
    "claude-opus-4-7": evolve(_CURRENT, price=_OPUS),
    "claude-opus-4-6": evolve(_EARLIER, price=_OPUS),
    "claude-opus-4-5": _OPUS_4_5,
    "claude-opus-4-5-20251101": _OPUS_4_5,
    "claude-sonnet-5-5": evolve(_CURRENT, price=Price(2.0, 10.0, 2.5, 4.0, 0.1)),
    "claude-sonnet-5": evolve(_CURRENT, price=Price(2.0, 10.0, 2.5, 4.0, 0.2)),
    "claude-sonnet-4-6": evolve(_EARLIER, price=_SONNET),
    "claude-sonnet-4-5": _SONNET_4_5,
    "claude-sonnet-4-5-20250929": _SONNET_4_5,
    "claude-haiku-5-5": _CURRENT,  # its price depends on how long the prompt is
    "claude-haiku-4-5": _HAIKU_4_5,
    "claude-haiku-4-5-20251001": _HAIKU_4_5,
}

# By the field of the facts, the setting that replaces it.
_OVERRIDES: Mapping[str, str] = {
    "context_window": "context_window",
    "max_output": "max_output",
    "reasoning": "reasoning",
    "efforts": "reasoning_efforts",
    "reasoning_optional": "reasoning_optional",
    "sampling": "sampling",
    "images": "images",
    "documents": "documents",
    "structured_output": "structured_output",
}


def facts(model: str, settings: AnthropicSettings) -> ModelFacts:
    """What the table says of `model`, corrected by the settings."""
    known = MODELS.get(model, UNKNOWN)
    said = {field: value for field, name in _OVERRIDES.items() if (value := getattr(settings, name)) is not None}
    return evolve(known, **said) if said else known
