"""What each model can do and costs: data with a date, which `provider.google.models` may override by name.

Nothing is read out of a name: a model that stands nowhere is asked as it is, with no thinking settings and no limits
of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields_dict

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.values import frozen

__all__ = ["TABLE_DATE", "Model", "Prices", "models_over"]

TABLE_DATE = "2026-11-26"
"""When the table was last compared with Google's pages on models, thinking and prices."""


@frozen(kw_only=True)
class Prices:
    """US dollars per million tokens; reasoning is priced as output.

    Above `long_from` tokens read, everything costs what the `long_…` fields say.
    """

    input: float
    cache_read: float
    output: float
    long_from: int | None = None
    long_input: float = 0.0
    long_cache_read: float = 0.0
    long_output: float = 0.0


@frozen(kw_only=True)
class Model:
    """One model. `efforts` is what each reasoning effort is on the wire: a level (text) or a budget (tokens).

    Efforts None: not known, so any is passed on as a level; empty: it doesn't think. A number of tokens within `budget`
    is an effort too. `signed_calls`: it refuses a history whose calls don't carry signatures, so calls that other
    models made carry the documented sentinel instead. `schema_with_tools`: it takes tools and a required form of the
    answer in one request.
    """

    context_window: int | None = None
    output_limit: int | None = None
    efforts: Mapping[str, str | int] | None = None
    budget: tuple[int, int] | None = None
    signed_calls: bool = False
    structured_output: bool = True
    schema_with_tools: bool = True
    media: tuple[str, ...] = ("image", "audio", "video", "application/pdf", "text")
    prices: Prices | None = None


_LOW_TO_HIGH: Mapping[str, str | int] = {"low": "LOW", "medium": "MEDIUM", "high": "HIGH"}
_MINIMAL_TO_HIGH: Mapping[str, str | int] = {"minimal": "MINIMAL", **_LOW_TO_HIGH}
_LOW_TO_XHIGH: Mapping[str, str | int] = {**_LOW_TO_HIGH, "xhigh": "XHIGH"}
# Gemini 2.5 counts tokens; -1 leaves it to the model. The steps are those of Google's OpenAI-compatible endpoint.
_BUDGETS: Mapping[str, str | int] = {"low": 1024, "medium": 8192, "high": 24576, "dynamic": -1}
_OPTIONAL_BUDGETS: Mapping[str, str | int] = {"disabled": 0, **_BUDGETS}

_WINDOW = 1_048_576
_LONG = 200_000


def _gemini_3(efforts: Mapping[str, str | int], prices: Prices, window: int = _WINDOW, output: int = 65_536) -> Model:
    return Model(context_window=window, output_limit=output, efforts=efforts, signed_calls=True, prices=prices)


def _gemini_2_5(efforts: Mapping[str, str | int], budget: tuple[int, int], prices: Prices) -> Model:
    return Model(
        context_window=_WINDOW,
        output_limit=65_536,
        efforts=efforts,
        budget=budget,
        schema_with_tools=False,
        prices=prices,
    )


_PRO_3_1 = Prices(
    input=2.0, cache_read=0.2, output=12.0, long_from=_LONG, long_input=4.0, long_cache_read=0.4, long_output=18.0
)
_PRO_2_5 = Prices(
    input=1.25, cache_read=0.125, output=10.0, long_from=_LONG, long_input=2.5, long_cache_read=0.25, long_output=15.0
)
_FLASH = Prices(input=0.75, cache_read=0.075, output=3.75)

_MODELS: Mapping[str, Model] = {
    "gemini-4-argon": _gemini_3(_LOW_TO_HIGH, Prices(input=2.0, cache_read=0.1, output=10.0), output=_WINDOW),
    "gemini-4-hydrogen": _gemini_3(_LOW_TO_XHIGH, Prices(input=1.5, cache_read=0.075, output=7.5), output=_WINDOW),
    "gemini-3.8-flash": _gemini_3(_LOW_TO_HIGH, _FLASH),
    "gemini-3.7-flash": _gemini_3(_LOW_TO_HIGH, _FLASH),
    "gemini-3.6-flash": _gemini_3(_MINIMAL_TO_HIGH, _FLASH),
    "gemini-3.5-flash": _gemini_3(_MINIMAL_TO_HIGH, Prices(input=1.5, cache_read=0.15, output=9.0)),
    "gemini-3.5-flash-lite": _gemini_3(_MINIMAL_TO_HIGH, Prices(input=0.3, cache_read=0.03, output=2.5)),
    "gemini-3.1-pro-preview": _gemini_3(_LOW_TO_HIGH, _PRO_3_1),
    "gemini-3.1-pro-preview-customtools": _gemini_3(_LOW_TO_HIGH, _PRO_3_1),
    "gemini-3.1-flash-lite": _gemini_3(_MINIMAL_TO_HIGH, Prices(input=0.25, cache_read=0.025, output=1.5)),
    "gemini-3-flash-preview": _gemini_3(_MINIMAL_TO_HIGH, Prices(input=0.5, cache_read=0.05, output=3.0)),
    "gemini-2.5-pro": _gemini_2_5(_BUDGETS, (128, 32_768), _PRO_2_5),
    "gemini-2.5-flash": _gemini_2_5(_OPTIONAL_BUDGETS, (0, 24_576), Prices(input=0.3, cache_read=0.03, output=2.5)),
    "gemini-2.5-flash-lite": _gemini_2_5(
        _OPTIONAL_BUDGETS, (512, 24_576), Prices(input=0.1, cache_read=0.01, output=0.4)
    ),
}


def models_over(overrides: Mapping[str, Any]) -> dict[str, Model]:
    """The table with what a user's settings say of models; raises `ConfigurationError` for what can't be meant."""
    models = dict(_MODELS)
    for name, changes in overrides.items():
        where = f"provider.google.models.{name}"
        if not isinstance(changes, Mapping):
            raise ConfigurationError(f"`{where}` must be a table of fields, not {changes!r}")
        if unknown := sorted(changes.keys() - fields_dict(Model).keys()):
            raise ConfigurationError(
                f"`{where}` has no field `{unknown[0]}`; there are {', '.join(fields_dict(Model))}"
            )
        fields = {each: _field(where, each, value) for each, value in changes.items()}
        models[name] = evolve(models.get(name, Model()), **fields)
    return models


def _field(where: str, name: str, value: Any) -> Any:
    """A setting's value as the field has it."""
    if name in ("signed_calls", "structured_output", "schema_with_tools"):
        fits = isinstance(value, bool)
    elif name in ("context_window", "output_limit"):
        fits = _is_count(value) and value > 0
    elif name == "budget":
        value = tuple(value) if isinstance(value, list | tuple) else value
        fits = isinstance(value, tuple) and len(value) == 2 and all(map(_is_count, value)) and value[0] <= value[1]
    elif name == "media":
        value = tuple(value) if isinstance(value, list | tuple) else value
        fits = isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    elif name == "efforts":
        fits = isinstance(value, Mapping) and all(isinstance(each, str) or _is_budget(each) for each in value.values())
    else:
        prices = fields_dict(Prices)
        fits = isinstance(value, Mapping) and value.keys() <= prices.keys()
        fits = fits and {"input", "cache_read", "output"} <= value.keys()
        fits = fits and all(isinstance(each, int | float) and each >= 0 for each in value.values())
        value = Prices(**value) if fits else value
    if not fits:
        raise ConfigurationError(f"`{where}.{name}` can't be {value!r} (malformed_capability): see the plugin's README")
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_budget(value: object) -> bool:
    return _is_count(value) or value == -1
