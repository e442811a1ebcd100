"""Calls that fail and are made again: the wait is an effect, each attempt has its record, and replay does neither."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from agents import agent
from attrs import define, evolve, field

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_framework.testing import Simulation, simulate
from lash_framework.tool_calls import completed, failure
from lash_framework.tool_retries import decided
from lash_hookspecs import (
    LlmRequest,
    PendingToolCall,
    RetryIdempotent,
    RetryNever,
    RetrySafe,
    RetryStatus,
    Stopped,
    StopReason,
    ToolCallContext,
    ToolCallDone,
    ToolCallEffectOutcome,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolError,
    ToolFailureClass,
    ToolFailureSource,
    ToolRetryExhausted,
    ToolRetryNever,
    ToolRetrySafe,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

SAFE = RetrySafe(max_attempts=4, base_delay_ms=1_000, max_delay_ms=3_000)
ASKED = PendingToolCall(call_id="c", tool_name="fetch", args={})


def outcome_of(output: ToolCallOutput) -> ToolCallEffectOutcome:
    return ToolCallEffectOutcome(ToolCallDone(completed(ASKED, output)))


def failed(
    kind: str = "unavailable", source: str = "tool", retry: Any = ToolRetryNever(), code: str = "busy"
) -> ToolCallEffectOutcome:
    return outcome_of(failure(code, "The line is busy.", ToolFailureClass(kind), ToolFailureSource(source), retry))


# ---- the decision ---------------------------------------------------------------------------------------------------

IDEMPOTENT = RetryIdempotent(max_attempts=4, base_delay_ms=1_000, max_delay_ms=3_000)
SAYS_SO = ToolRetrySafe()
DECISIONS: dict[str, tuple[Any, int, ToolCallEffectOutcome, int | None]] = {
    "never, although it says so": (RetryNever(), 1, failed(retry=SAYS_SO), None),
    "safe": (SAFE, 1, failed(retry=SAYS_SO), 1_000),
    "the second wait is twice as long": (SAFE, 2, failed(retry=SAYS_SO), 2_000),
    "up to the cap": (SAFE, 3, failed(retry=SAYS_SO), 3_000),
    "far behind it": (evolve(SAFE, max_attempts=10**6), 10**5, failed(retry=SAYS_SO), 3_000),
    "the tool knows better": (SAFE, 1, failed(retry=ToolRetrySafe(20)), 20),
    "up to the cap, too": (SAFE, 1, failed(retry=ToolRetrySafe(10**9)), 3_000),
    "nobody goes back in time": (SAFE, 1, failed(retry=ToolRetrySafe(-5)), 0),
    "safe, and it doesn't say so": (SAFE, 1, failed(), None),
    "idempotent": (IDEMPOTENT, 1, failed(), 1_000),
    "idempotent, and raised": (IDEMPOTENT, 1, failed("internal", code="tool_raised"), 1_000),
    "idempotent, and too slow": (IDEMPOTENT, 1, failed("timeout", "runtime"), 1_000),
    "its arguments are wrong": (IDEMPOTENT, 1, failed("invalid_request"), None),
    "it isn't allowed": (IDEMPOTENT, 1, failed("permission_denied"), None),
    "it was refused": (IDEMPOTENT, 1, failed(source="runtime"), None),
    "a policy has denied it": (IDEMPOTENT, 1, failed("execution", "policy"), None),
    "it worked": (IDEMPOTENT, 1, outcome_of(ToolCallOutput(ToolCallSuccess(1))), None),
}


@pytest.mark.statement(49, page="plugin-system")
@pytest.mark.parametrize("name", DECISIONS)
def test_what_is_tried_again_and_when(name: str) -> None:
    """The policy decides, and what the failure says of itself; never under `never`."""
    policy, attempt, outcome, delay_ms = DECISIONS[name]
    made = decided(outcome, policy, attempt, 50)
    assert isinstance(made, ToolCallEffectOutcome)
    assert (made.again.delay_ms if made.again else None) == delay_ms
    if made.again is None:
        assert made is outcome
    else:
        assert made.again.until_ms == 50 + made.again.delay_ms


@pytest.mark.statement(51, page="plugin-system")
def test_the_last_failure_says_how_often_it_was_tried() -> None:
    """Exhaustion is a mark on the failure, which else stays as it was."""
    made = decided(failed(retry=SAYS_SO), SAFE, 4, 0)
    assert made.again is None
    assert made == failed(retry=ToolRetryExhausted(4))


# ---- in a turn ------------------------------------------------------------------------------------------------------


@define
class Shaky:
    """A tool that fails the first `fails` times, and remembers when and with which key it was called."""

    fails: int = 2
    retry: Any = SAFE
    effect: str = "idempotent"
    says: Any = SAYS_SO
    now: Callable[[], float] = anyio.current_time
    at: list[float] = field(factory=list)
    keys: list[str] = field(factory=list)

    def tool(self) -> Any:
        @tool(effect=self.effect, retry=self.retry)
        async def fetch(ctx: ToolCallContext) -> str:
            "Fetch."
            self.at.append(self.now())
            self.keys.append(ctx.idempotency_key)
            if len(self.at) <= self.fails:
                raise ToolError("the line is busy", failure_class=ToolFailureClass.IO, retry=self.says)
            return "fetched"

        return fetch

    @property
    def waits(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.at, self.at[1:], strict=False)]


def about(*seconds: float) -> Any:
    """So many seconds, and what a store takes for its writes."""
    return pytest.approx(seconds, abs=0.1)


def one_call(request: LlmRequest) -> Reply:
    """One call, and then the end, whichever process asks."""
    if any(message.role == "assistant" for message in request.messages):
        return Reply(text="Done.")
    return Reply(text="", tool_calls=[Call("fetch", {}, "c")])


def in_simulated_time(shaky: Shaky) -> Any:
    async def scenario(_: Simulation) -> Any:
        async with agent(one_call, tools=[shaky.tool()]) as lash:
            return await (await lash.session("s")).run("go")

    return simulate(scenario).value


@pytest.mark.statement(50, 54, page="plugin-system")
def test_a_call_is_made_again_until_it_works_under_one_key() -> None:
    """It waits longer each time, stops with the first success, and whoever is outside sees one key."""
    shaky = Shaky(fails=3)
    turn = in_simulated_time(shaky)
    (call,) = turn.tool_calls
    assert call.output.outcome == ToolCallSuccess("fetched")
    assert shaky.waits == about(1, 2, 3)
    assert len(set(shaky.keys)) == 1


@pytest.mark.statement(51, page="plugin-system")
@pytest.mark.parametrize("effect", ["pure", "idempotent", "unsafe"])
def test_a_call_that_never_works_fails_with_the_number_of_its_attempts(effect: str) -> None:
    """Also an unsafe one, whose own failure says that nothing was done."""
    shaky = Shaky(fails=9, effect=effect, says=ToolRetrySafe(after_ms=100))
    (call,) = in_simulated_time(shaky).tool_calls
    assert isinstance(call.output.outcome, ToolCallFailure)
    assert call.output.outcome.retry == ToolRetryExhausted(4)
    assert shaky.waits == about(0.1, 0.1, 0.1)


@pytest.mark.statement(49, page="plugin-system")
def test_a_call_of_a_tool_without_a_policy_is_made_once() -> None:
    """Whatever its failure says."""
    shaky = Shaky(retry=None)
    (call,) = in_simulated_time(shaky).tool_calls
    assert isinstance(call.output.outcome, ToolCallFailure)
    assert call.output.outcome.retry == SAYS_SO
    assert len(shaky.at) == 1


@pytest.mark.statement(71, page="effects")
@pytest.mark.statement(52, page="plugin-system")
def test_a_cancel_ends_the_wait_and_no_attempt_follows() -> None:
    """The call ends with the failure that is known; a replay, or a look at the turn, finds the same."""
    shaky = Shaky()

    async def scenario(_: Simulation) -> Any:
        async with agent(one_call, tools=[shaky.tool()]) as lash:
            session = await lash.session("s")
            async with session.turn("go") as running:
                async for activity in running:
                    if isinstance(activity.event, RetryStatus):
                        running.cancel("enough")
                return await running.result()

    turn = simulate(scenario).value
    assert turn.outcome == Stopped(StopReason.CANCELLED)
    assert "the line is busy" in str(turn.tool_calls[0].output)
    assert len(shaky.at) == 1


def test_who_watches_sees_each_wait_in_the_row_of_the_call() -> None:
    """One beginning and one end, and between them why and for how long it waits."""
    shaky = Shaky()

    async def scenario(_: Simulation) -> list[Any]:
        async with agent(one_call, tools=[shaky.tool()]) as lash, (await lash.session("s")).turn("go") as running:
            return [each async for each in running if each.correlation_id == "c"]

    seen = simulate(scenario).value
    assert [each.event.tag for each in seen] == [
        "tool_call_started",
        "retry_status",
        "retry_status",
        "tool_call_completed",
    ]
    first = seen[1].event
    assert [first.wait_seconds] == about(1)
    assert (first.attempt, first.max_attempts, first.reason) == (1, 4, "`fetch`: the line is busy")


# ---- with the journal -----------------------------------------------------------------------------------------------


def journal_of(lash: Lash) -> list[tuple[str, str]]:
    """Rows as they are written, by kind and label."""
    rows: list[tuple[str, str]] = []
    store: Any = lash.store
    append = store.append_journal

    async def append_journal(lease: Any, no: int, new: Any, **options: Any) -> None:
        await append(lease, no, new, **options)
        rows.extend((row.kind, row.status.value, row.label) for row in new)

    store.append_journal = append_journal
    return rows


@pytest.mark.statement(23, page="effects")
@pytest.mark.statement(53, page="plugin-system")
def test_each_attempt_is_recorded_before_the_next_and_the_wait_is_an_effect() -> None:
    """Attempt, wait, attempt: in this order in the journal, an unsafe attempt behind an intent of its own."""
    shaky = Shaky(fails=1, effect="unsafe")

    async def scenario(_: Simulation) -> list[tuple[str, str]]:
        async with agent(one_call, tools=[shaky.tool()]) as lash:
            rows = journal_of(lash)
            await (await lash.session("s")).run("go")
            return [row for row in rows if row[0] in ("tool_call", "sleep")]

    assert simulate(scenario).value == [
        ("tool_call", "intent", "tool_call `fetch` (c)"),
        ("tool_call", "done", "tool_call `fetch` (c)"),
        ("sleep", "done", "sleep c pause 1 of iteration 0"),
        ("tool_call", "intent", "tool_call `fetch` (c attempt 2)"),
        ("tool_call", "done", "tool_call `fetch` (c attempt 2)"),
    ]


def killed_after(seconds: float, shaky: Shaky, *, asleep: float = 0.0) -> Any:
    """The turn, killed after so many seconds, and gone on with `asleep` seconds later."""

    async def scenario(_: Simulation) -> Any:
        with anyio.move_on_after(seconds):
            async with agent(one_call, tools=[shaky.tool()]) as lash:
                await (await lash.session("s")).run("go", turn_id="t")
        await anyio.sleep(asleep)
        async with agent(one_call, tools=[shaky.tool()]) as lash:
            return await (await lash.session("s", recover=False)).recover()

    return simulate(scenario).value


@pytest.mark.statement(15, page="effects")
def test_after_a_kill_in_the_wait_what_is_left_of_it_is_waited_for() -> None:
    """The failed attempt's record says until when: two of three seconds are over, so one is left."""
    shaky = Shaky(fails=1, says=ToolRetrySafe(after_ms=3_000))
    (recovered,) = killed_after(2.0, shaky)
    assert recovered.turn.tool_calls[0].output.outcome == ToolCallSuccess("fetched")
    assert shaky.waits == about(3)


def test_a_wait_that_is_over_by_then_isnt_waited_for_again() -> None:
    """Half an hour later, the next attempt is made at once."""
    shaky = Shaky(fails=1, says=ToolRetrySafe(after_ms=3_000))
    killed_after(2.0, shaky, asleep=1_800.0)
    assert shaky.waits == about(1_802)


def test_what_is_decided_is_in_the_record_and_not_in_the_tool() -> None:
    """A new version of the tool is retried no more. The attempt was decided on before, so it is made."""
    shaky = Shaky(fails=1)

    async def scenario(_: Simulation) -> Any:
        with anyio.move_on_after(0.5):
            async with agent(one_call, tools=[shaky.tool()]) as lash:
                await (await lash.session("s")).run("go", turn_id="t")
        shaky.retry = None
        async with agent(one_call, tools=[shaky.tool()]) as lash:
            return await (await lash.session("s", recover=False)).recover()

    (recovered,) = simulate(scenario).value
    assert recovered.turn.tool_calls[0].output.outcome == ToolCallSuccess("fetched")


def test_a_kept_journal_is_replayed_without_an_attempt_or_a_wait() -> None:
    """It ends in the same bytes, and no time passes."""
    shaky = Shaky(fails=3)

    async def scenario(_: Simulation) -> tuple[Any, float]:
        settings = load_settings(env={}, sets=["durability.keep_journal_h=1"])
        async with agent(one_call, tools=[shaky.tool()], settings=settings) as lash:
            await (await lash.session("s")).run("go", turn_id="t")
            before = anyio.current_time()
            replayed = await lash.replay("t", "s")
            return replayed, anyio.current_time() - before

    replayed, seconds = simulate(scenario).value
    assert (replayed.differences, len(shaky.at), seconds < 1) == ((), 4, True)


async def test_calls_that_a_tool_makes_are_made_anew_in_each_attempt_and_all_are_told_of() -> None:
    """An attempt is a whole: a child of the second one is another call than the first one's."""
    made: list[str] = []

    @tool(effect="pure", activation="internal")
    async def inner(ctx: ToolCallContext) -> int:
        "Inner."
        made.append(ctx.call_id)
        return len(made)

    @tool(effect="pure", retry=RetrySafe(base_delay_ms=0))
    async def fetch(ctx: ToolCallContext) -> int:
        "Fetch."
        done = await ctx.call_tool(0, "inner", {})
        if done.output.outcome.value < 3:
            raise ToolError("not yet", retry=ToolRetrySafe())
        return done.output.outcome.value

    async with agent(one_call, tools=[fetch, inner]) as lash:
        turn = await (await lash.session("s")).run("go")
    assert made == ["c:00", "c:r2:00", "c:r3:00"]
    assert [(each.call_id, each.output.outcome.value) for each in turn.tool_calls] == [
        ("c", 3),
        ("c:00", 1),
        ("c:r2:00", 2),
        ("c:r3:00", 3),
    ]


def test_a_place_in_line_isnt_kept_during_the_wait() -> None:
    """With one place, another call runs while the first one waits for its second attempt."""
    order: list[int] = []

    @tool(effect="pure", max_concurrency=1, retry=RetrySafe(base_delay_ms=1_000))
    async def fetch(n: int) -> int:
        "Fetch."
        order.append(n)
        if order.count(n) == 1:
            raise ToolError("busy", retry=ToolRetrySafe())
        return n

    async def scenario(_: Simulation) -> Any:
        script = [Reply(text="", tool_calls=[Call("fetch", {"n": n}, f"c{n}") for n in range(2)]), "Done."]
        async with agent(script, tools=[fetch]) as lash:
            return await (await lash.session("s")).run("go")

    turn = simulate(scenario).value
    assert [each.output.outcome.value for each in turn.tool_calls] == [0, 1]
    assert sorted(order[:2]) == [0, 1]


def test_each_attempt_has_the_whole_time_limit() -> None:
    """A call that was too slow was stopped, and may take as long again."""
    at: list[float] = []

    @tool(effect="pure", timeout_s=10, retry=RetryIdempotent(max_attempts=2, base_delay_ms=1_000))
    async def fetch() -> str:
        "Fetch."
        at.append(anyio.current_time())
        await anyio.sleep(30 if len(at) == 1 else 9)
        return "fetched"

    async def scenario(_: Simulation) -> Any:
        async with agent(one_call, tools=[fetch]) as lash:
            return await (await lash.session("s")).run("go")

    turn = simulate(scenario).value
    assert turn.tool_calls[0].output.outcome == ToolCallSuccess("fetched")
    assert [at[1] - at[0]] == about(11)
