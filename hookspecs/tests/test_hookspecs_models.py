"""What models can do and cost, as data: tables, overrides, and sums of money that don't drift."""

from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import evolve, fields

from lash_hookspecs.codec import decode, encode
from lash_hookspecs.costs import Budget, Cost
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.models import UNKNOWN_MODEL, ModelCapability, ModelPrices, ModelTable

PRICES = ModelPrices(input=1.25, output=10, cache_read=0.125, cache_write=1.5625)
TIERS = ModelPrices(input=2, output=10, tiers={"flex": ModelPrices(input=1, output=5)})
LONG = ModelPrices(input=2.5, output=15, long_above=100, long=ModelPrices(input=5, output=22.5))

# Prices, usage, and what it costs in dollars; "at least" where something has no price.
CHARGES = {
    "nothing": (PRICES, {}, "0", False),
    "input": (PRICES, {"input": 1_000_000}, "1.25", False),
    "each bucket": (
        PRICES,
        {"input": 1000, "output": 100, "cache_read_input": 2000, "cache_write_input": 40},
        "0.0025625",
        False,
    ),
    "reasoning is output": (PRICES, {"output": 100, "reasoning_output": 90}, "0.001", False),
    "one token": (ModelPrices(input=0.000001), {"input": 1}, "0.000000000001", False),
    "no price at all": (ModelPrices(), {"input": 5}, "0", True),
    "a bucket without a price": (ModelPrices(input=1, output=1), {"input": 1, "cache_read_input": 1}, "0.000001", True),
    "an empty bucket without a price": (ModelPrices(input=1), {"input": 1}, "0.000001", False),
    "free": (ModelPrices(input=0, output=0), {"input": 5, "output": 5}, "0", False),
    "up to the limit": (LONG, {"input": 60, "cache_read_input": 40}, "0.00015", True),
    "above the limit": (LONG, {"input": 101, "output": 2}, "0.00055", False),
    "a tier": (TIERS, {"input": 10, "output": 2, "service_tier": "flex"}, "0.00002", False),
    "the usual tier": (TIERS, {"input": 10, "output": 2}, "0.00004", False),
    "a tier without prices": (TIERS, {"input": 10, "output": 2, "service_tier": "fast"}, "0", True),
    "nothing of such a tier": (TIERS, {"service_tier": "fast"}, "0", False),
}


@pytest.mark.parametrize("name", CHARGES)
def test_a_call_is_charged_by_bucket(name: str) -> None:
    prices, counts, dollars, at_least = CHARGES[name]
    usage = prices.charge(TokenUsage(**counts))
    assert (usage.cost.usd, usage.cost.at_least) == (Decimal(dollars), at_least)
    assert usage.total == TokenUsage(**counts).total


def test_a_tier_without_prices_stays_unknown_and_is_taken_for_the_usual_one_at_least() -> None:
    """It was charged at the usual prices, without a word. Charging it once more must not do that either."""
    fast = TIERS.charge(TokenUsage(input=10, output=2, service_tier="fast"))
    assert TIERS.charge(fast) == fast
    both = fast + TIERS.charge(TokenUsage(input=10, output=2, service_tier="flex"))
    assert (both.picodollars, both.service_tier, both.unpriced) == (20_000_000, "fast", True)
    assert both.unpriced_at_most == TIERS.most(10, 2)


def test_a_call_without_a_price_isnt_hidden_behind_a_dear_one() -> None:
    """What a sum may have cost was guessed from the sum: two calls at the usual price, one of them for free."""
    prices = evolve(TIERS, tiers={"fast": ModelPrices(input=4, output=20)})
    calls = [prices.charge(TokenUsage(input=1000, service_tier=tier)) for tier in ("fast", "slow", None)]
    total = sum(calls, TokenUsage())
    assert (total.picodollars, total.unpriced) == (4_000_000_000 + 2_000_000_000, True)
    assert total.unpriced_at_most == 4_000_000_000  # the dearest that is known


def test_a_call_that_asks_for_a_tier_may_cost_what_that_costs() -> None:
    """It was judged at the usual price: a budget was broken by the first call."""
    prices = evolve(TIERS, tiers={"fast": ModelPrices(input=4, output=20), "flex": ModelPrices(input=1, output=5)})
    usual = prices.most(10, 2)
    assert prices.most(10, 2, "fast") == 2 * usual
    assert prices.most(10, 2, "flex") == prices.most(10, 2, "unheard-of") == usual  # it may be answered as usual


def test_sums_do_not_drift() -> None:
    tenth = ModelPrices(input=0.1).charge(TokenUsage(input=1))
    total = sum([tenth] * 1000, TokenUsage())
    assert total.cost.usd == Decimal("0.0001")
    assert (total + TokenUsage(at_least=True)).cost == Cost(total.picodollars, True)


def test_every_number_of_usage_is_among_its_counters_and_adds_up() -> None:
    """A store keeps a column, and a budget a remainder, for each of these: one that is left out would cost nothing."""
    assert tuple(each.name for each in fields(TokenUsage) if type(each.default) is int) == TokenUsage.COUNTERS
    one = TokenUsage(**{name: 1 << at for at, name in enumerate(TokenUsage.COUNTERS)})
    assert one + one == TokenUsage(**{name: 2 << at for at, name in enumerate(TokenUsage.COUNTERS)})


def test_a_price_is_a_number_of_dollars_with_six_decimals() -> None:
    for bad in (-1, float("nan"), float("inf"), 0.0000001, 10**7):
        with pytest.raises(ValueError, match=r"ModelPrices\.input"):
            ModelPrices(input=bad)
    for wrong in ("1.25", True):
        with pytest.raises(TypeError, match=r"ModelPrices\.output"):
            ModelPrices(output=wrong)  # type: ignore[arg-type]  # that is the point


def test_a_long_request_without_a_price_is_taken_for_a_usual_one() -> None:
    """A budget in dollars held no such request: it was taken to be free."""
    prices = ModelPrices(input=2, output=8, long=ModelPrices(), long_above=1000)
    assert prices.most(2000, 10) == 2000 * 2_000_000 + 10 * 8_000_000
    assert prices.charge(TokenUsage(input=2000, output=10)).unpriced_at_most == prices.most(2000, 10)


def test_what_was_read_without_a_price_cost_the_dearest_at_most() -> None:
    prices = ModelPrices(input=2, output=10, cache_read=0.5, long_above=100, long=ModelPrices(input=4, output=20))
    usage = prices.charge(TokenUsage(input=1, cache_read_input=2, cache_write_input=3, output=1))
    assert (usage.picodollars, usage.unpriced) == (13_000_000, True)
    assert usage.unpriced_at_most == 3 * 2_000_000
    long = prices.charge(TokenUsage(input=101, cache_write_input=3))
    assert (long.picodollars, long.unpriced_at_most) == (101 * 4_000_000, 3 * 4_000_000)


def test_the_most_is_what_the_dearest_bucket_costs() -> None:
    assert PRICES.most(100, 10) == 100 * 1_562_500 + 10 * 10_000_000
    assert LONG.most(100, 1) == 100 * 2_500_000 + 15_000_000
    assert LONG.most(101, 1) == 101 * 5_000_000 + 22_500_000
    assert ModelPrices().most(5, 5) == 0


AMOUNTS = {0: "$0.00", 1: "$0.000000000001", 123_456_789: "$0.00013", 10**12: "$1.00", 1_234_567_890_123: "$1.2346"}


@pytest.mark.parametrize("amount", AMOUNTS)
def test_an_amount_is_shown_short_and_never_too_low(amount: int) -> None:
    assert str(Cost(amount)) == AMOUNTS[amount]
    assert str(Cost(amount, True)) == f"at least {AMOUNTS[amount]}"


def test_what_a_user_says_is_over_the_table_and_an_unknown_model_is_unknown() -> None:
    table = ModelTable("2026-11-26", {"m": ModelCapability(context_window=10, images=True, prices=PRICES)})
    said = {"m": ModelCapability(context_window=20, images=False), "mine": ModelCapability(prices=LONG)}
    assert table.capability("m", said) == ModelCapability(context_window=20, images=False, prices=PRICES)
    assert table.capability("mine", said).prices is LONG
    assert table.capability("m-2026", said) is UNKNOWN_MODEL
    assert (UNKNOWN_MODEL.prices, UNKNOWN_MODEL.context_window, UNKNOWN_MODEL.images) == (None, None, None)


def test_usage_without_money_is_stored_as_before() -> None:
    free = TokenUsage(input=3)
    assert b"picodollars" not in encode(TokenUsage()) or decode(TokenUsage, encode(free)) == free
    priced = PRICES.charge(free)
    assert decode(TokenUsage, encode(priced)) == priced


def test_a_budget_is_filled_in_from_the_one_below() -> None:
    low, high = Budget(max_cost=1, max_tokens=5), Budget(max_cost=0, session_max_tokens=7)
    assert high.over(low) == Budget(max_cost=0, max_tokens=5, session_max_tokens=7)
    with pytest.raises(ValueError, match="max_cost"):
        Budget(max_cost=-1)
