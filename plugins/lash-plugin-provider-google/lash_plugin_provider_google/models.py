"""Gemini's models as data: sizes, thinking, prices with the day on which each was read, and what only this wire asks.

Nothing is read out of a name: a model that stands nowhere is asked as it is, with no thinking settings and no limits of
ours. The prices are those of Google's page, as the public collections pydantic/genai-prices and BerriAI/litellm have
recorded them, each by name; audio that goes in costs more than they say with some models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields_dict

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.models import UNKNOWN_MODEL, ModelCapability, ModelPrices, ModelTable
from lash_hookspecs.values import frozen

__all__ = ["GEMINI_MODELS", "Model", "Quirks", "models_of"]

_WINDOW, _OUTPUT = 1_048_576, 65_536
_LONG_ABOVE = 200_000

_LOW_TO_HIGH = ("low", "medium", "high")
_MINIMAL_TO_HIGH = ("minimal", *_LOW_TO_HIGH)
# Gemini 2.5 counts tokens. The steps are those of Google's OpenAI-compatible endpoint.
_BUDGETS = {"low": 1024, "medium": 8192, "high": 24_576}
_OPTIONAL_BUDGETS = {"disabled": 0, **_BUDGETS}


@frozen(kw_only=True)
class Quirks:
    """What only this wire asks of a model.

    `signed_calls`: it refuses a history whose calls don't carry signatures, so calls that other models made carry the
    documented sentinel instead. `schema_with_tools`: it takes tools and a required form of the answer in one request.
    `budget`: a number of tokens between these two is a reasoning effort.
    """

    signed_calls: bool = False
    schema_with_tools: bool = True
    budget: tuple[int, int] | None = None


@frozen
class Model:
    """One model: what everybody may ask of it, and what only this wire does."""

    capability: ModelCapability = UNKNOWN_MODEL
    quirks: Quirks = Quirks()


def _prices(
    day: str, *rates: float, long: tuple[float, ...] = (), source: str = "pydantic/genai-prices"
) -> ModelPrices:
    """Dollars for a million tokens: input, read from the cache, output; and those of long requests."""
    read, cached, output = rates
    base = ModelPrices(input=read, cache_read=cached, output=output, as_of=day, source=source)
    return evolve(base, long_above=_LONG_ABOVE, long=_prices(day, *long)) if long else base


def _model(prices: ModelPrices, efforts: tuple[str, ...] | Mapping[str, int], output: int = _OUTPUT) -> ModelCapability:
    """One that thinks: `efforts` are levels, or budgets in tokens."""
    budgets = efforts if isinstance(efforts, Mapping) else {}
    off = "disabled" if "disabled" in budgets else None
    return ModelCapability(
        context_window=_WINDOW,
        output_cap=output,
        images=True,
        documents=True,
        audio=True,
        video=True,
        tools=True,
        parallel_tools=True,
        structured_output=True,
        sampling_pinned=False,
        reasoning_efforts=tuple(efforts),
        reasoning_encoding="budget" if budgets else "level",
        reasoning_budgets=budgets,
        reasoning_off=off,
        reasoning_required=off is None,
        prices=prices,
    )


_PRO = _prices("2026-02-23", 2.0, 0.2, 12.0, long=(4.0, 0.4, 18.0))
_PRO_2_5 = _prices("2025-10-31", 1.25, 0.125, 10.0, long=(2.5, 0.25, 15.0))
# Google has announced twice as much from 2027 on.
_FLASH = _prices("2026-09-20", 0.75, 0.075, 3.75)

_HYDROGEN = _prices("2026-11-26", 1.5, 0.075, 7.5, source="BerriAI/litellm")
_GEMINI_3_AND_4 = {
    "gemini-4-argon": _model(_prices("2026-11-26", 2.0, 0.1, 10.0), _LOW_TO_HIGH, _WINDOW),
    "gemini-4-hydrogen": _model(_HYDROGEN, (*_LOW_TO_HIGH, "xhigh"), _WINDOW),
    "gemini-3.8-flash": _model(_FLASH, _LOW_TO_HIGH),
    "gemini-3.7-flash": _model(_FLASH, _LOW_TO_HIGH),
    "gemini-3.6-flash": _model(_FLASH, _MINIMAL_TO_HIGH),
    "gemini-3.5-flash": _model(_prices("2026-05-19", 1.5, 0.15, 9.0), _MINIMAL_TO_HIGH),
    "gemini-3.5-flash-lite": _model(_prices("2026-07-22", 0.3, 0.03, 2.5), _MINIMAL_TO_HIGH),
    "gemini-3.1-pro-preview": _model(_PRO, _LOW_TO_HIGH),
    "gemini-3.1-pro-preview-customtools": _model(_PRO, _LOW_TO_HIGH),
    "gemini-3.1-flash-lite": _model(_prices("2026-05-12", 0.25, 0.025, 1.5), _MINIMAL_TO_HIGH),
    "gemini-3-pro-preview": _model(_PRO, ("low", "high")),
    "gemini-3-flash-preview": _model(_prices("2025-12-19", 0.5, 0.05, 3.0), _MINIMAL_TO_HIGH),
}
_GEMINI_2_5 = {
    "gemini-2.5-pro": _model(_PRO_2_5, _BUDGETS),
    "gemini-2.5-flash": _model(_prices("2025-10-31", 0.3, 0.03, 2.5), _OPTIONAL_BUDGETS),
    "gemini-2.5-flash-lite": _model(_prices("2025-10-31", 0.1, 0.01, 0.4), _OPTIONAL_BUDGETS),
}

GEMINI_MODELS = ModelTable("2026-11-26", {**_GEMINI_3_AND_4, **_GEMINI_2_5})

_QUIRKS: Mapping[str, Quirks] = {
    **dict.fromkeys(_GEMINI_3_AND_4, Quirks(signed_calls=True)),
    "gemini-2.5-pro": Quirks(schema_with_tools=False, budget=(128, 32_768)),
    "gemini-2.5-flash": Quirks(schema_with_tools=False, budget=(0, 24_576)),
    "gemini-2.5-flash-lite": Quirks(schema_with_tools=False, budget=(512, 24_576)),
}


def models_of(
    said: Mapping[str, ModelCapability], quirks: Mapping[str, Any], *, priced: bool = True
) -> dict[str, Model]:
    """The tables with what a user says of models over them; raises `ConfigurationError` for what can't be meant.

    Not `priced` is what somebody else answers: it costs what he says.
    """
    models: dict[str, Model] = {}
    for name in {*GEMINI_MODELS.models, *said, *quirks}:
        known = GEMINI_MODELS.models.get(name, UNKNOWN_MODEL)
        known = known if priced else evolve(known, prices=None)
        capability = said[name].over(known) if name in said else known
        own = _QUIRKS.get(name, Quirks())
        models[name] = Model(capability, _said(name, quirks[name], own) if name in quirks else own)
    return models


def _said(name: str, changes: Any, own: Quirks) -> Quirks:
    where, known = f"provider.google.quirks.{name}", fields_dict(Quirks)
    if not isinstance(changes, Mapping):
        raise ConfigurationError(f"`{where}` must be a table of fields, not {changes!r}")
    if unknown := sorted(changes.keys() - known.keys()):
        raise ConfigurationError(f"`{where}` has no field `{unknown[0]}`; there are {', '.join(known)}")
    for field, value in changes.items():
        if not (_is_range(value) if field == "budget" else isinstance(value, bool)):
            wanted = "two numbers of tokens, the smaller one first" if field == "budget" else "true or false"
            raise ConfigurationError(f"`{where}.{field}` must be {wanted}, not {value!r} (malformed_capability)")
    said: dict[str, Any] = dict(changes)
    if "budget" in said:
        said["budget"] = tuple(said["budget"])
    return evolve(own, **said)


def _is_range(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return False
    return all(isinstance(each, int) and not isinstance(each, bool) for each in value) and 0 <= value[0] <= value[1]
