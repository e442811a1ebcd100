"""What turns cost, and what they may cost: charged by call, judged before each, recorded, and no crash resets it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from attrs import evolve
from cli_kit import Cli

from lash_framework import Lash
from lash_framework.budget import Need, judge, request_tokens, told
from lash_framework.settings import Settings, load_settings
from lash_framework.testing import Crash, crash_at_every_effect
from lash_hookspecs import (
    Budget,
    ConfigurationError,
    Cost,
    DirectOutcome,
    GenerationOptions,
    ImageBlock,
    LlmCallError,
    LlmCallFailed,
    LlmCallOutcome,
    LlmEventSender,
    LlmMessage,
    LlmRequest,
    LlmResponse,
    LlmRole,
    LlmToolSpec,
    OverBudget,
    Stopped,
    StopReason,
    TextBlock,
    TokenUsage,
    tool,
)
from lash_hookspecs.models import ModelCapability, ModelPrices
from lash_plugin_provider_scripted import Call, Reply, ScriptedProvider

PRICES = 'models."test:model".prices={input = 10, output = 20}'
SPENT = TokenUsage(input=1000, output=500)
"""What each call takes: two cents."""
CENT = 10**10
UNPRICED = 'models."test:model".prices={as_of = "never"}'


def priced(*sets: str) -> Settings:
    return load_settings(env={}, sets=[PRICES, "plugins.disabled=hello", *sets])


@tool
async def look() -> str:
    """Look."""
    return "seen"


def says(text: str) -> Reply:
    return Reply(text=text, usage=SPENT)


def looks(times: int) -> list[Reply | str]:
    """So many rounds with a call, and an answer."""
    return [*(Reply(tool_calls=[Call("look", {}, f"c{each}")], usage=SPENT) for each in range(times)), says("Done.")]


# ---- the judgement --------------------------------------------------------------------------------------------------

USED = TokenUsage(input=60, output=40, picodollars=50 * CENT)
# Limits, what the session spent before, what the turn did, what the call needs; which limit it breaks.
JUDGED: dict[str, tuple[dict[str, Any], TokenUsage, TokenUsage, Need, str | None]] = {
    "no limit": ({}, USED, USED, Need(input=10**9), None),
    "fits": ({"max_tokens": 110}, USED, USED, Need(input=10), None),
    "one token too many": ({"max_tokens": 110}, USED, USED, Need(input=11), "max_tokens"),
    "output counts": ({"max_tokens": 110}, USED, USED, Need(input=5, output=6), "max_tokens"),
    "used up": ({"max_tokens": 100}, USED, USED, Need(input=0), "max_tokens"),
    "zero": ({"max_tokens": 0}, TokenUsage(), TokenUsage(), Need(input=0), "max_tokens"),
    "dollars fit": ({"max_cost": 0.51}, USED, USED, Need(input=1, picodollars=CENT), None),
    "dollars don't": ({"max_cost": 0.51}, USED, USED, Need(input=1, picodollars=CENT + 1), "max_cost"),
    "a free call when nothing is spent": ({"max_cost": 0.0}, USED, TokenUsage(), Need(input=1), "max_cost"),
    "the session fits": ({"session_max_tokens": 201}, USED, USED, Need(input=1), None),
    "the session doesn't": ({"session_max_tokens": 200}, USED, USED, Need(input=1), "session_max_tokens"),
    "the session's dollars": ({"session_max_cost": 1.0}, USED, USED, Need(input=1), "session_max_cost"),
    "the turn's own first": ({"max_tokens": 1, "session_max_tokens": 1}, USED, USED, Need(input=1), "max_tokens"),
}


@pytest.mark.parametrize("name", JUDGED)
def test_a_call_is_judged_before_it_is_made(name: str) -> None:
    limits, before, here, need, broken = JUDGED[name]
    found = judge(Budget(**limits), before, here, need)
    assert (None if found is None else found.limit) == broken


def test_the_numbers_are_told() -> None:
    unsure = TokenUsage(input=1, unpriced=True, unpriced_at_most=CENT)
    found = judge(Budget(max_cost=0.02), TokenUsage(), unsure, Need(input=1, picodollars=2 * CENT))
    assert found == OverBudget(limit="max_cost", allowed=2 * CENT, spent=CENT, next=2 * CENT)
    assert told(found) == "`max_cost` is $0.02; $0.01 are spent, and the next call needs about $0.02"


def test_a_request_is_measured_by_its_characters_images_and_tools() -> None:
    messages = (LlmMessage(LlmRole.USER, (TextBlock(text="x" * 41), ImageBlock(attachment_idx=0))),)
    spec = LlmToolSpec(name="look", description="y" * 8, input_schema={})
    assert request_tokens(messages) == 11 + 1000
    assert request_tokens(messages, LlmRequest(model="m", messages=messages, tools=(spec,))) == 13 + 1000


# ---- cost -----------------------------------------------------------------------------------------------------------


async def test_each_call_is_charged_and_the_turn_says_what_it_cost(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(looks(2), store=url, tools=[look], settings=priced()) as lash:
        session = await lash.session("s")
        turn = await session.run("Look.", turn_id="t")
        assert [each.cost.usd for each in turn.call_usage] == [Decimal("0.02")] * 3
        assert (turn.cost, turn.cost.usd, str(turn.cost)) == (Cost(6 * CENT), Decimal("0.06"), "$0.06")
        assert (await session.usage()).total.cost == turn.cost
    async with agent([], store=url, settings=priced()) as lash:
        session = await lash.session("s")
        assert await session.run("Look.", turn_id="t") == turn  # as it is stored
        assert (await session.usage()).total.cost == turn.cost


async def test_what_a_failed_call_has_cost_counts() -> None:
    usage = TokenUsage(input=1000, output=500, at_least=True)
    error = LlmCallError(message="it broke", usage=usage)
    async with agent([Reply(text="Half", error=error, usage=usage)], settings=priced()) as lash:
        turn = await (await lash.session("s")).run("Hi")
    assert (turn.cost, str(turn.cost)) == (Cost(2 * CENT, True), "at least $0.02")


async def test_direct_calls_made_at_once_share_what_is_left() -> None:
    """Each was judged as if the others, which had no answer yet, were free: all of them were made."""
    codes: list[str | None] = []

    async def lash_before_turn(ctx: Any) -> None:
        cap = GenerationOptions(output_token_cap=500)
        asked = LlmRequest(model="", messages=(LlmMessage(LlmRole.USER, (TextBlock(text="aside"),)),), generation=cap)

        async def ask(key: str) -> None:
            try:
                await ctx.completions.complete(asked, key=key)
                codes.append(None)
            except LlmCallFailed as error:
                codes.append(error.error.code)

        async with anyio.create_task_group() as group:
            for key in "abcd":
                group.start_soon(ask, key)

    async def answer(request: LlmRequest) -> Reply:
        await anyio.wait_all_tasks_blocked()
        return Reply(text="Yes.", usage=TokenUsage(input=2, output=400))

    async with agent(answer, plugins=[plugin("aside", lash_before_turn)], settings=priced()) as lash:
        turn = await (await lash.session("s")).run("Hi", max_tokens=1450)
    assert sorted(map(str, codes)) == ["None", "None", "over_budget", "over_budget"]
    assert turn.usage.total == 3 * 402, "once they are answered, only what they took counts"


async def test_direct_calls_of_plugins_count() -> None:
    async def lash_before_turn(ctx: Any) -> None:
        await ctx.completions.complete("aside")

    aside = plugin("aside", lash_before_turn)
    async with agent(lambda request: says("Yes."), plugins=[aside], settings=priced()) as lash:
        turn = await (await lash.session("s")).run("Hi")
    assert (turn.cost, len(turn.call_usage), turn.children_usage[0].usage.cost) == (Cost(4 * CENT), 1, Cost(2 * CENT))


@pytest.mark.parametrize("kind", ["llm_call", "direct"])
@pytest.mark.parametrize("asks", [True, False])
async def test_a_wrapper_neither_hides_what_was_paid_nor_spends_for_nothing(kind: str, asks: bool) -> None:
    own = TokenUsage(input=100, output=50)

    async def lash_before_turn(ctx: Any) -> None:
        await ctx.completions.complete("aside")

    async def lash_around_effect(envelope: Any, call_next: Any) -> Any:
        if envelope.command.kind != kind:
            return await call_next()
        answer = LlmResponse(full_text="Mine.", usage=own)
        if asks:
            answer = evolve((await call_next()).result, usage=TokenUsage())
        return LlmCallOutcome(answer) if kind == "llm_call" else DirectOutcome(answer)

    wrapper = plugin("cache", lash_around_effect, lash_before_turn)
    async with agent(lambda request: says("Yes."), plugins=[wrapper], settings=priced()) as lash:
        turn = await (await lash.session("s")).run("Hi")
    found = turn.call_usage[0] if kind == "llm_call" else turn.children_usage[0].usage
    wanted = SPENT if asks else own
    cents = 2 * CENT if asks else CENT // 5
    assert (found.total, found.picodollars, found.unpriced) == (wanted.total, cents, False)


async def test_a_budget_holds_whatever_a_wrapper_says_of_usage() -> None:
    async def lash_around_effect(call_next: Any) -> Any:
        made = await call_next()
        is_answer = isinstance(made, LlmCallOutcome)
        return LlmCallOutcome(evolve(made.result, usage=TokenUsage())) if is_answer else made

    async with agent(looks(5), tools=[look], plugins=[plugin("w", lash_around_effect)], settings=priced()) as lash:
        turn = await (await lash.session("s")).run("Look.", max_tokens=4500)
    assert isinstance(turn.outcome, Stopped)
    assert (turn.outcome.reason, turn.usage.total) == (StopReason.BUDGET, 3000)


async def test_an_unknown_price_makes_it_at_least() -> None:
    async with agent([says("Yes.")], settings=priced(UNPRICED)) as lash:
        turn = await (await lash.session("s")).run("Hi")
    assert (turn.cost, turn.usage.at_least) == (Cost(0, True), False)


@pytest.mark.parametrize(("tier", "cost"), [("flex", Cost(CENT)), ("fast", Cost(0, True))])
async def test_a_call_is_charged_by_the_tier_that_answered(tier: str, cost: Cost) -> None:
    """Where that one has no price it isn't free to a budget, which takes it for the usual one."""
    usage = evolve(SPENT, service_tier=tier)
    rounds = [Reply(tool_calls=[Call("look", {}, f"c{each}")], usage=usage) for each in range(5)]
    prices = 'models."test:model".prices={input = 10, output = 20, tiers = {flex = {input = 5, output = 10}}}'
    async with agent([*rounds, says("Done.")], tools=[look], settings=priced(prices)) as lash:
        turn = await (await lash.session("s")).run("Look.", max_cost=0.055)
    assert turn.call_usage[0].cost == cost
    assert isinstance(turn.outcome, Stopped)
    assert isinstance(turn.outcome.detail, OverBudget)
    assert turn.outcome.detail.spent == 4 * CENT


TIERED = (
    'models."test:model".prices={input = 10, output = 20, tiers = {fast = {input = 20, output = 40}}}'  # twice as much
)


async def test_an_unpriced_call_is_counted_behind_a_dear_one_also_in_later_turns(tmp_path: Path) -> None:
    """Two calls at the usual price were what one in a dear tier had cost: the other one was free to every budget."""
    url, budget = f"sqlite:///{tmp_path / 'a.db'}", Budget(session_max_cost=0.08)
    for tier, is_stopped in (("fast", False), ("slow", False), (None, True)):
        reply = Reply(text="Yes.", usage=evolve(SPENT, service_tier=tier))
        async with agent([reply], store=url, settings=priced(TIERED)) as lash:
            turn = await (await lash.session("s", budget=budget)).run("Hi")
        assert isinstance(turn.outcome, Stopped) is is_stopped
    assert isinstance(turn.outcome.detail, OverBudget)
    assert turn.outcome.detail.spent == 8 * CENT


class AsksFor(ScriptedProvider):
    """A provider whose settings say in which tier its service should answer."""

    tier: str

    def capability(self, model: str) -> ModelCapability:
        usual = ModelPrices(input=10, output=20, tiers={"fast": ModelPrices(input=20, output=40)})
        return evolve(super().capability(model), prices=usual, service_tier=self.tier)


async def test_a_call_in_a_dear_tier_is_judged_by_what_that_costs() -> None:
    """It was taken for a usual one: it broke the budget that was to stop it."""
    cap = GenerationOptions(output_token_cap=500)
    for tier, most, is_stopped in (("fast", 0.015, True), ("fast", 0.03, False), ("flex", None, False)):
        provider = AsksFor([Reply(text="Yes.", usage=evolve(SPENT, service_tier=tier))])
        provider.tier = tier
        async with agent(provider) as lash:
            turn = await (await lash.session("s")).run("Hi", max_cost=most, generation=cap)
        assert isinstance(turn.outcome, Stopped) is is_stopped


async def test_nobody_can_hold_a_limit_in_dollars_in_a_tier_without_prices() -> None:
    provider = AsksFor(["Yes."])
    provider.tier = "flex"
    async with agent(provider) as lash:
        with pytest.raises(ConfigurationError, match=r"in the tier `flex` isn't known"):
            await (await lash.session("s")).run("Hi", max_cost=1)


# ---- budgets --------------------------------------------------------------------------------------------------------


async def test_a_turn_stops_before_the_call_that_would_break_its_budget() -> None:
    asked: list[LlmRequest] = []
    script = iter([*looks(5), says("Later.")])

    def model(request: LlmRequest) -> Reply | str:
        asked.append(request)
        return next(script)

    async with agent(model, tools=[look], settings=priced()) as lash:
        session = await lash.session("s")
        turn = await session.run("Look.", max_tokens=4500)
        assert isinstance(turn.outcome, Stopped)
        found = turn.outcome.detail
        assert (turn.outcome.reason, len(asked), turn.is_success) == (StopReason.BUDGET, 2, False)
        assert isinstance(found, OverBudget)
        assert (found.limit, found.allowed, found.spent) == ("max_tokens", 4500, 3000)
        assert 1500 < found.next < 1550
        assert [each.tool_name for each in turn.tool_calls] == ["look", "look"]  # they ran, and the commit has them
        again = await session.run("Go on.", max_tokens=100_000)  # the session is usable
        assert again.is_success
    assert len(asked) == 6


@pytest.mark.parametrize("sets", [["budget.max_cost=0.05"], []])
async def test_money_bounds_a_turn_from_settings_or_code(sets: list[str]) -> None:
    more: dict[str, Any] = {} if sets else {"max_cost": 0.05}
    async with agent(looks(5), tools=[look], settings=priced(*sets), **more) as lash:
        turn = await (await lash.session("s")).run("Look.")
    assert isinstance(turn.outcome, Stopped)
    assert isinstance(turn.outcome.detail, OverBudget)
    assert turn.outcome.detail.limit == "max_cost"
    assert turn.cost == Cost(4 * CENT)


async def test_what_has_no_price_of_its_own_isnt_free_to_a_budget() -> None:
    """Nearly all of a long turn is read from the cache: without that price, no limit in dollars ever stopped it."""
    cached = TokenUsage(cache_read_input=1000)
    rounds = [Reply(tool_calls=[Call("look", {}, f"c{each}")], usage=cached) for each in range(5)]
    async with agent([*rounds, says("Done.")], tools=[look], settings=priced()) as lash:
        turn = await (await lash.session("s")).run("Look.", max_cost=0.035)
    assert isinstance(turn.outcome, Stopped)
    assert isinstance(turn.outcome.detail, OverBudget)
    assert turn.outcome.detail.spent == 3 * CENT  # as input, which is the dearest that is known
    assert turn.cost == Cost(0, at_least=True)  # what is told stays what is known


async def test_a_bounded_answer_is_a_part_of_what_a_call_needs() -> None:
    settings = priced("generation.output_token_cap=100")
    async with agent(["Never."], settings=settings) as lash:
        turn = await (await lash.session("s")).run("Hi", max_tokens=100)
    assert isinstance(turn.outcome, Stopped)
    assert isinstance(turn.outcome.detail, OverBudget)
    assert turn.outcome.detail.next > 100
    assert turn.usage == TokenUsage()


async def test_a_session_has_a_budget_over_its_turns_and_hosts(tmp_path: Path) -> None:
    url, budget = f"sqlite:///{tmp_path / 'a.db'}", Budget(session_max_cost=0.04)
    for number, is_stopped in enumerate([False, False, True, True]):
        async with agent(lambda request: says("Yes."), store=url, settings=priced()) as lash:
            session = await lash.session("s", budget=budget) if number == 0 else await lash.session("s")
            turn = await session.run("Hi")
            assert isinstance(turn.outcome, Stopped) is is_stopped
            assert (await session.usage()).total.cost.usd <= Decimal("0.04")
    async with agent([says("More.")], store=url, settings=priced("budget.session_max_cost=1")) as lash:
        assert (await (await lash.session("s")).run("Hi")).is_success


async def test_a_plugin_s_own_call_is_bounded_too() -> None:
    seen: list[str | None] = []

    async def lash_before_turn(ctx: Any) -> None:
        try:
            await ctx.completions.complete("aside")
        except LlmCallFailed as error:
            seen.append(error.error.code)

    async with agent(["No."], plugins=[plugin("aside", lash_before_turn)], settings=priced()) as lash:
        turn = await (await lash.session("s")).run("Hi", max_tokens=0)
    assert (seen, turn.usage) == (["over_budget"], TokenUsage())


async def test_money_can_not_be_held_where_the_price_is_unknown() -> None:
    async with agent(["No."], settings=priced(UNPRICED)) as lash:
        session = await lash.session("s")
        with pytest.raises(ConfigurationError, match="whose price isn't known: say it"):
            await session.run("Hi", max_cost=1)
        assert (await session.run("Hi", max_tokens=1000)).text == "No."


@pytest.mark.parametrize(
    "given", [{"max_cost": -1}, {"max_cost": "1"}, {"max_tokens": 1.5}, {"max_cost": float("nan")}]
)
async def test_a_limit_that_can_not_be_is_refused(given: dict[str, Any]) -> None:
    async with agent(["No."]) as lash:
        with pytest.raises(ConfigurationError, match=next(iter(given))):
            await (await lash.session("s")).run("Hi", **given)


async def test_another_budget_does_not_make_it_another_turn() -> None:
    async with agent([says("Yes.")], settings=priced()) as lash:
        session = await lash.session("s")
        first = await session.run("Hi", turn_id="t", max_tokens=1000)
        assert await session.run("Hi", turn_id="t", max_tokens=5) == first


# ---- records --------------------------------------------------------------------------------------------------------


async def test_a_replay_decides_nothing_again_whatever_a_model_costs_by_now(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    keeps = "durability.keep_journal_h=1"
    async with agent(looks(5), store=url, tools=[look], settings=priced(keeps)) as lash:
        turn = await (await lash.session("s")).run("Look.", turn_id="t", max_cost=0.05)
        assert isinstance(turn.outcome, Stopped)
    for price in (0.001, 500_000):
        dearer = f'models."test:model".prices={{input = {price}, output = {price}}}'
        async with agent([], store=url, tools=[look], settings=priced(keeps, dearer)) as lash:
            replayed = await lash.replay("t")
            assert replayed.turn == turn


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_crash_does_not_reset_what_is_spent() -> None:
    rounds = looks(5)

    def model(request: LlmRequest) -> Reply | str:
        return rounds[sum(each.role is LlmRole.ASSISTANT for each in request.messages)]

    seen: list[Any] = []

    def the_same_end(crash: Crash) -> None:
        seen.append(crash.turn.outcome)
        assert isinstance(crash.turn.outcome, Stopped), crash.point
        assert crash.turn.cost.usd <= Decimal("0.05"), crash.point

    settings = priced("budget.max_cost=0.05", "store_options.synchronous=normal")
    await crash_at_every_effect(
        lambda url: agent(model, store=url, tools=[look], settings=settings),
        "Look.",
        # The last call is refused, so nothing can have been paid: the kit takes every call that began for one.
        points=lambda point: (
            point.kind == "effect" and not point.name.endswith(("of iteration 2", "checkpoint", "turn_end"))
        ),
        checks=[the_same_end],
    )
    assert len(seen) > 4


async def test_a_refusal_behind_a_call_that_was_cut_does_not_hide_it() -> None:
    """Somebody may have paid for that one: the turn, and the session, say "at least"."""
    begun = anyio.Event()

    class Slow(ScriptedProvider):
        async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
            begun.set()
            await anyio.sleep_forever()
            return await super().complete(request, send)

    async with agent(Slow([]), settings=priced()) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.run("Hi", turn_id="t"))
            await begun.wait()
            group.cancel_scope.cancel()
        turn = await session.run("Hi", turn_id="t", max_tokens=0)
        assert isinstance(turn.outcome, Stopped)
        assert turn.outcome.reason is StopReason.BUDGET
        assert turn.usage == (await session.usage()).total == TokenUsage(at_least=True)


async def test_who_has_no_budget_records_nothing_of_one() -> None:
    from lash_hookspecs.codec import encode
    from lash_hookspecs.effect_outcomes import LlmCallOutcome
    from lash_hookspecs.llm import LlmResponse
    from lash_hookspecs.sessions import SessionPolicy, TurnInput

    for value in (LlmCallOutcome(LlmResponse()), SessionPolicy(model="m"), TurnInput.text("x")):
        assert b"budget" not in encode(value)


async def test_it_is_told_on_opening_too() -> None:
    async with Lash.open("sqlite://", settings=load_settings(env={}), max_tokens=7) as lash:
        assert lash.settings.budget == Budget(max_tokens=7)
        assert lash.settings.source_of("budget.max_tokens") == "code"


def test_on_the_command_line_it_is_the_turn_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The numbers are said, a stopped turn's exit code is 1, and the session is as before."""
    (tmp_path / "lash.toml").write_text('[models."scripted:demo"]\nprices = {input = 1000, output = 2000}\n')
    cli = Cli(tmp_path)
    bounded = cli.here(monkeypatch, capsys, "run", "--session", "s", "--max-tokens", "5", "Hi")
    free = cli.here(monkeypatch, capsys, "run", "--session", "s", "--json", "Hi")
    assert bounded.code == 1
    assert "stopped at the budget: `max_tokens` is 5 tokens; 0 tokens are spent" in bounded.err
    assert free.code == 0
    told_of = free.object
    assert Decimal(told_of["usage"]["cost"]["usd"]) > 0
    assert [each["cost"]["at_least"] for each in told_of["calls"]] == [False] * len(told_of["calls"])
