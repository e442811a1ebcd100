"""What models can do and what they charge, as data: vocabulary, a provider's table, and what a user says over it.

Nothing here is ever found out from a model's name: a model that is in no table is unknown, and so is what it costs.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from attrs import evolve, field, fields

from lash_hookspecs import _checks as checks
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from attrs import Attribute

    from lash_hookspecs.llm import TokenUsage

__all__ = ["UNKNOWN_MODEL", "ModelCapability", "ModelPrices", "ModelTable"]

_MICRO = 1_000_000
_DEAREST = 1_000_000


def _price(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A price with at most six decimals, so that a token's is a whole number of picodollars; or None."""
    where = f"`{type(instance).__name__}.{attribute.name}`"
    if value is None:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{where} must be a number of US dollars for a million tokens, and is {value!r}")
    if not (isfinite(value) and 0 <= value <= _DEAREST):
        raise ValueError(f"{where} must be from 0 to {_DEAREST} US dollars for a million tokens, and is {value}")
    if abs(value * _MICRO - round(value * _MICRO)) > 1e-3:
        raise ValueError(f"{where} may have six decimals, and is {value}")


def _texts(value: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return checks.as_tuple(value)


def _of(price: float | None, tokens: int) -> int | None:
    """What the tokens cost, in picodollars; None if that isn't known."""
    if price is None:
        return None if tokens else 0
    return _per_token(price) * tokens


def _per_token(price: float | None) -> int:
    """In picodollars."""
    return round((price or 0) * _MICRO)


@frozen(kw_only=True)
class ModelPrices:
    """US dollars for a million tokens, by bucket; None: not known. Reasoning is charged as the output that it is in.

    `cache_read` and `cache_write` are what input costs that is read from a cache, or written to one. A call with more
    than `long_above` tokens of input is charged at the prices of `long`. `tiers` are those of calls that the service
    says to have answered otherwise than usual (`TokenUsage.service_tier`), by its word for that. `as_of` is the day on
    which the vendor's page said so (`2026-11-26`); `source` is who says that it did, where that was read elsewhere.
    """

    input: float | None = field(default=None, validator=_price)
    output: float | None = field(default=None, validator=_price)
    cache_read: float | None = field(default=None, validator=_price)
    cache_write: float | None = field(default=None, validator=_price)
    as_of: str = field(default="", validator=checks.text)
    source: str = field(default="", validator=checks.text)
    long_above: int | None = field(default=None, validator=checks.optional_positive)
    long: ModelPrices | None = None
    tiers: Mapping[str, ModelPrices] = field(factory=dict)

    def charge(self, usage: TokenUsage) -> TokenUsage:
        """One call's usage with what it costs. Tokens of a bucket without a price make it "at least".

        So do those of which the provider has said itself that they are `unpriced` here, and all of a tier's without
        prices, of which nothing is known: it may be dearer or cheaper than usual. What they may have cost is taken from
        the dearest prices that are known.
        """
        if usage.service_tier:
            tier = self.tiers.get(usage.service_tier)
            if tier is not None:
                return tier.charge(evolve(usage, service_tier=None))
            most = max(each._at_most(usage) for each in (self, *self.tiers.values()))
            unpriced = usage.unpriced or usage.total > 0
            return evolve(usage, picodollars=0, unpriced=unpriced, unpriced_at_most=most)
        pieces = (self.long or self)._pieces(usage) if self._is_long(usage.input_total) else self._pieces(usage)
        paid = sum(each for each in pieces if each is not None)
        unpriced = usage.unpriced or None in pieces
        most = max(0, self._at_most(usage) - paid) if unpriced else 0
        return evolve(usage, picodollars=paid, unpriced=unpriced, unpriced_at_most=most)

    def most(self, input: int, output: int, tier: str | None = None) -> int:
        """The most that a call of so many tokens may cost, in picodollars, whatever buckets its input ends up in.

        It asks for a `tier`, which needn't be what answers it.
        """
        prices = [self] if tier is None else [self, self.tiers.get(tier, self)]
        return max(each._most(input, output) for each in prices)

    def _most(self, input: int, output: int) -> int:
        usual = self._dearest_input() * input + _per_token(self.output) * output
        if self.long is None or not self._is_long(input):
            return usual
        return max(self.long._most(input, output), usual)  # which may have no price

    def _at_most(self, usage: TokenUsage) -> int:
        """What a call may have cost: a bucket without a price costs as much as the dearest one of input."""
        dearest = self._dearest_input()
        usual = sum(
            tokens * (dearest if price is None else _per_token(price))
            for price, tokens in (
                (self.input, usage.input),
                (self.cache_read, usage.cache_read_input),
                (self.cache_write, usage.cache_write_input),
            )
        )
        usual += _per_token(self.output) * usage.output
        if self.long is None or not self._is_long(usage.input_total):
            return usual
        return max(self.long._at_most(usage), usual)

    def _is_long(self, input: int) -> bool:
        return self.long is not None and self.long_above is not None and input > self.long_above

    def _pieces(self, usage: TokenUsage) -> tuple[int | None, ...]:
        return (
            _of(self.input, usage.input),
            _of(self.cache_read, usage.cache_read_input),
            _of(self.cache_write, usage.cache_write_input),
            _of(self.output, usage.output),
        )

    def _dearest_input(self) -> int:
        known = [each for each in (self.input, self.cache_read, self.cache_write) if each is not None]
        return _per_token(max(known, default=0))


@frozen(kw_only=True)
class ModelCapability:
    """What a model can do, as its provider's table or the user's settings say. None, or empty: not known.

    What isn't known is tried, and the service says. Sizes are in tokens; `output_cap` is the most that one answer may
    have. `images`, `documents` (PDF), `audio` and `video`: what a message may hold. `forced_tools`: a call can be
    required. `sampling_pinned`: temperature and its like can't be set. `cache_dialect` is how the service is told what
    to cache, in the words of its provider.

    `reasoning_efforts` are the words that a `model_variant` may be, weakest first. `reasoning_encoding` says how one
    is put to the service, in the words of its provider (`effort`, `budget`, …); where that is in tokens,
    `reasoning_budgets` has them by effort. `reasoning_off` is the effort that switches reasoning off;
    `reasoning_required`: nothing does.

    `endpoint` names the service that answers, a URL without secrets say: opaque state of an answer goes back only to
    the endpoint that it came from. `service_tier` is what each call asks for, in the service's word, where that isn't
    the usual tier. Both are the provider's to say, and no settings.
    """

    context_window: int | None = field(default=None, validator=checks.optional_positive)
    output_cap: int | None = field(default=None, validator=checks.optional_positive)
    images: bool | None = None
    documents: bool | None = None
    audio: bool | None = None
    video: bool | None = None
    tools: bool | None = None
    parallel_tools: bool | None = None
    forced_tools: bool | None = None
    structured_output: bool | None = None
    sampling_pinned: bool | None = None
    reasoning_efforts: tuple[str, ...] = field(default=(), converter=_texts, validator=checks.tuple_of(str))
    reasoning_encoding: str | None = None
    reasoning_budgets: Mapping[str, int] = field(factory=dict)
    reasoning_off: str | None = None
    reasoning_required: bool | None = None
    cache_dialect: str | None = None
    prices: ModelPrices | None = None
    endpoint: str = ""
    service_tier: str | None = None

    def over(self, base: ModelCapability) -> ModelCapability:
        """This, with `base` filling in what it doesn't know. Prices are taken as a whole."""
        names = [each.name for each in fields(ModelCapability)]
        known = {name: value for name in names if (value := getattr(self, name)) is not None and value not in _EMPTY}
        return evolve(base, **known) if known else base


_EMPTY: tuple[object, ...] = ((), {}, "")

UNKNOWN_MODEL = ModelCapability()
"""A model of which nothing is known."""


@frozen
class ModelTable:
    """What a provider knows of its models, by their exact names. `version` is the day of its last change."""

    version: str
    models: Mapping[str, ModelCapability]

    def capability(self, model: str, said: Mapping[str, ModelCapability] | None = None) -> ModelCapability:
        """What is known of a model; what is `said` of it (`ProviderContext.models`) is stronger."""
        known = self.models.get(model, UNKNOWN_MODEL)
        override = said.get(model) if said else None
        return known if override is None else override.over(known)
