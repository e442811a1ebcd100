"""The runners: order, owners, types of results, errors, and who can stop whom."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from agents import agent, plugin

from lash_framework import hooks
from lash_framework.directives import owned_directives
from lash_framework.hooks import HookImpl, HookIssue, Owned, chain, collect, collect_sync, first, observe
from lash_hookspecs import (
    EmitEvents,
    EnqueueMessages,
    HookContext,
    MessageRole,
    PluginMessage,
    PluginScope,
    PromptContribution,
    SessionCall,
    SessionPolicy,
    Stopped,
    StopReason,
    SurfaceEvent,
)
from lash_hookspecs.contexts import binding
from lash_hookspecs.errors import PluginError

CALL = SessionCall(session_id="s", mode_id="m", policy=SessionPolicy(model="provider:model"))


def impls(*functions: Callable[..., Any], argnames: tuple[str, ...] = ("ctx",)) -> tuple[HookImpl, ...]:
    """Implementations of a hook `lash_x` by plugins `p0`, `p1`, …"""
    return tuple(HookImpl(f"p{index}", each, argnames, "lash_x") for index, each in enumerate(functions))


def bind(plugin_id: str) -> object:
    return f"ctx of {plugin_id}"


def returns(value: Any) -> Callable[[object], Any]:
    """An implementation that is a plain function."""
    return lambda ctx: value


def later(value: Any) -> Callable[[object], Any]:
    """An implementation that suspends first."""

    async def implementation(ctx: object) -> Any:
        await anyio.lowlevel.checkpoint()
        return value

    return implementation


def at_once(value: Any) -> Callable[[object], Any]:
    """An implementation that is a coroutine function and doesn't suspend."""

    async def implementation(ctx: object) -> Any:
        return value

    return implementation


def raises(error: BaseException) -> Callable[[object], Any]:
    def implementation(ctx: object) -> Any:
        raise error

    return implementation


def raises_later(error: BaseException) -> Callable[[object], Any]:
    async def implementation(ctx: object) -> Any:
        await anyio.lowlevel.checkpoint()
        raise error

    return implementation


# ---- collect --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [returns, at_once, later])
async def test_collect_joins_none_items_and_sequences_in_order_with_their_owners(kind: Callable[..., Any]) -> None:
    found = await collect(impls(kind(1), kind(None), kind([2, 3]), kind(()), kind((4,))), bind, item=int)
    assert found == [("p0", 1), ("p2", 2), ("p2", 3), ("p4", 4)]


async def test_each_implementation_gets_what_it_asked_for_in_its_own_order() -> None:
    table = [
        ((), lambda: "nothing"),
        (("ctx",), lambda ctx: ctx),
        (("b",), lambda b: b),
        (("b", "ctx"), lambda b, ctx: (b, ctx)),
        (("ctx", "a", "b"), lambda ctx, a, b: (ctx, a, b)),
    ]
    made = tuple(HookImpl(f"p{index}", function, names) for index, (names, function) in enumerate(table))
    found = await collect(made, bind, a=1, b=2)
    assert [value for _, value in found] == ["nothing", "ctx of p1", 2, 2, "ctx of p3", "ctx of p4", 1, 2]


async def test_text_is_one_item_and_no_sequence() -> None:
    assert await collect(impls(returns("abc")), bind) == [("p0", "abc")]


async def calls_of(run: Callable[[], Awaitable[object]]) -> Counter[str]:
    """The functions that are called meanwhile, by name."""
    called: list[str] = []

    def note(frame: FrameType, event: str, what: Any) -> None:
        if event in ("call", "c_call"):
            called.append(frame.f_code.co_name if event == "call" else what.__name__)

    sys.setprofile(note)
    try:
        await run()
    finally:
        sys.setprofile(None)
    return Counter(called) - Counter(["<lambda>", "setprofile"])


async def test_collect_calls_the_implementations_and_next_to_nothing_else() -> None:
    """Ten hooks take some microseconds, so each function that is called beside them would be seen in the figure."""
    bind = binding(HookContext, {f"p{index}": PluginScope(f"p{index}") for index in range(10)}, CALL)
    made = impls(*[at_once([each]) for each in range(10)])
    await collect(made, bind, item=int)  # makes the contexts
    called = await calls_of(lambda: collect(made, bind, item=int))
    usual = Counter(perf_counter=11, implementation=10, __getitem__=10, append=10, isinstance=1, len=10, collect=1)
    assert not called - usual


WRONG = {"text": "text", "number": 1.5, "object": {"a": 1}, "list": [1, "text"], "generator": (each for each in [1])}


@pytest.mark.statement(5, page="plugin-system")
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_collect_refuses_what_is_no_item_naming_plugin_and_hook(wrong: Any) -> None:
    """5: what isn't of a hook's type is an error that names plugin and hook."""
    with pytest.raises(PluginError, match=r"`p1`, hook `lash_x`: returned a .*expected is None, `int` or `bytes`"):
        await collect(impls(returns(1), returns(wrong)), bind, item=(int, bytes))


@pytest.mark.parametrize("kind", [raises, raises_later])
async def test_collect_stops_at_the_first_that_raises_and_chains_its_error(kind: Callable[..., Any]) -> None:
    called: list[object] = []
    cause = ValueError("no such thing")
    with pytest.raises(PluginError) as caught:
        await collect(impls(returns(1), kind(cause), called.append), bind)
    assert (caught.value.plugin_id, caught.value.hook) == ("p1", "lash_x")
    assert str(caught.value) == "plugin `p1`, hook `lash_x`: ValueError: no such thing"
    assert caught.value.__cause__ is cause
    assert called == []


async def test_a_plugins_own_error_is_not_wrapped_again() -> None:
    cause = KeyError("k")
    error = PluginError("p0", "lash_session_state", "no state is declared")
    error.__cause__ = cause
    with pytest.raises(PluginError) as caught:
        await collect(impls(raises(error)), bind)
    assert caught.value is error
    assert caught.value.__cause__ is cause


async def test_cancellation_passes_through_every_awaiting_runner() -> None:
    async def forever(ctx: object, value: object = None) -> None:
        await anyio.sleep_forever()

    table = {
        "collect": lambda: collect(impls(forever), bind),
        "chain": lambda: chain(impls(forever), bind, 1, argname="value", expects=int, on_error="keep"),
        "first": lambda: first(impls(forever), bind),
        "observe": lambda: observe(impls(forever, forever), bind),
    }
    for name, run in table.items():
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        assert scope.cancelled_caught, name


def test_collect_sync_collects_and_refuses_awaitables() -> None:
    assert collect_sync(impls(returns([1, 2]), returns(None), returns(3)), bind, item=int) == [
        Owned("p0", 1),
        Owned("p0", 2),
        Owned("p2", 3),
    ]
    with pytest.raises(PluginError, match="without awaiting"):
        collect_sync(impls(later(1)), bind)
    with pytest.raises(PluginError, match="ZeroDivisionError"):
        collect_sync(impls(raises(ZeroDivisionError())), bind)


# ---- chain and first ------------------------------------------------------------------------------------------------


def add(number: int) -> Callable[[object, int], int]:
    return lambda ctx, value: value + number


CHAIN = {"argname": "value", "expects": int}


async def test_chain_hands_on_what_the_one_before_returned() -> None:
    async def double(ctx: object, value: int) -> int:
        await anyio.lowlevel.checkpoint()
        return value * 2

    by: list[str] = []
    chained = impls(add(1), lambda ctx, value: None, double, argnames=("ctx", "value"))
    assert await chain(chained, bind, 1, changed_by=by, **CHAIN) == 4
    assert by == ["p0", "p2"]


async def test_chain_calls_the_implementations_and_next_to_nothing_else() -> None:
    """A runner that is left and entered once a value took twice the time."""

    async def implementation(ctx: object, value: int) -> int:
        return value + 1

    made = impls(*[implementation] * 10, argnames=("ctx", "value"))
    called = await calls_of(lambda: chain(made, bind, 1, **CHAIN))
    usual = Counter(perf_counter=11, implementation=10, arguments_of=10, bind=10, isinstance=10, iter=1, chain=1)
    assert not called - usual


async def test_chain_serves_those_that_ask_for_other_arguments() -> None:
    table = (
        HookImpl("p0", lambda value, more: value + more, ("value", "more")),
        HookImpl("p1", lambda: None, ()),
        HookImpl("p2", lambda more: more * 100, ("more",)),
    )
    assert await chain(table, bind, 1, more=2, **CHAIN) == 200


@pytest.mark.parametrize("bad", [lambda ctx, value: 1 / 0, lambda ctx, value: "text"], ids=["raises", "wrong type"])
async def test_chain_raises_or_keeps_the_previous_value(bad: Callable[..., Any], caplog: Any) -> None:
    chained = impls(add(1), bad, add(10), argnames=("ctx", "value"))
    with pytest.raises(PluginError, match="plugin `p1`, hook `lash_x`"):
        await chain(chained, bind, 0, **CHAIN)
    issues: list[HookIssue] = []
    with caplog.at_level(logging.WARNING, "lash.hooks"):
        assert await chain(chained, bind, 0, on_error="keep", issues=issues, **CHAIN) == 11
    assert [(each.plugin_id, each.hook) for each in issues] == [("p1", "lash_x")]
    assert "plugin `p1`" in caplog.text


async def test_first_asks_until_somebody_answers() -> None:
    called: list[object] = []
    assert await first(impls(returns(None), later(False), called.append), bind) == Owned("p1", False)
    assert called == []
    assert await first(impls(returns(None)), bind) is None
    with pytest.raises(PluginError, match="returned a `str`; expected is None or `int`"):
        await first(impls(returns("a")), bind, expects=int)


# ---- observe --------------------------------------------------------------------------------------------------------


async def test_observers_run_all_at_once() -> None:
    """Each waits for all others to have started; one after the other they would wait for ever."""
    count = 5
    started: list[object] = []
    all_started = anyio.Event()

    async def meet(ctx: object) -> None:
        started.append(ctx)
        if len(started) == count:
            all_started.set()
        await all_started.wait()

    with anyio.fail_after(10):
        assert await observe(impls(*[meet] * count), bind) == []
    assert sorted(map(str, started)) == [f"ctx of p{index}" for index in range(count)]


async def test_no_observer_is_silenced_by_another() -> None:
    """Law 5. Whoever fails, in whatever way, the rest is called and the caller goes on."""
    called: list[str] = []

    def note(ctx: str) -> None:
        called.append(ctx)

    async def note_later(ctx: str) -> None:
        await anyio.lowlevel.checkpoint()
        called.append(ctx)

    one, two = raises(ValueError("one")), raises_later(ValueError("two"))
    group = raises_later(ExceptionGroup("g", [OSError()]))
    issues = await observe(impls(one, note, two, note_later, group, note_later), bind)
    assert sorted(called) == ["ctx of p1", "ctx of p3", "ctx of p5"]
    assert {each.plugin_id: each.message for each in issues} == {
        "p0": "plugin `p0`, hook `lash_x`: ValueError: one",
        "p2": "plugin `p2`, hook `lash_x`: ValueError: two",
        "p4": "plugin `p4`, hook `lash_x`: OSError",
    }
    assert {each.hook for each in issues} == {"lash_x"}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_an_observer_that_awaits_a_cancelled_task_cancels_nobody_else() -> None:
    """On asyncio a cancelled task's `CancelledError` surfaces in who awaits it, as if that one had been cancelled."""

    async def awaits_a_cancelled_task(ctx: object) -> None:
        task = asyncio.ensure_future(anyio.sleep_forever())
        await anyio.lowlevel.checkpoint()
        task.cancel()
        await task

    def raises_it(ctx: object) -> None:
        raise asyncio.CancelledError

    called: list[object] = []
    issues = await observe(impls(awaits_a_cancelled_task, raises_it, called.append, later(1)), bind)
    assert sorted(each.plugin_id for each in issues) == ["p0", "p1"]
    assert called == ["ctx of p2"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_native_cancel_of_the_caller_is_no_stray_one() -> None:
    async def forever(ctx: object) -> None:
        await asyncio.Event().wait()

    task = asyncio.ensure_future(observe(impls(forever, forever), bind))
    await anyio.wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_observer_may_open_cancel_scopes_of_its_own() -> None:
    """Its scopes belong to the task that entered them, so it must stay in one task from beginning to end."""
    done: list[object] = []

    async def scoped(ctx: object) -> None:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.lowlevel.checkpoint)
                await anyio.lowlevel.checkpoint()
        done.append(ctx)

    assert await observe(impls(*[scoped] * 4), bind) == []
    assert len(done) == 4


async def test_only_those_that_suspend_cost_tasks() -> None:
    """Coroutines that don't suspend run in the caller's task, even if they contain an `await`."""
    tasks: set[int] = set()
    me = anyio.get_current_task().id

    async def helper() -> None:
        tasks.add(anyio.get_current_task().id)

    async def awaits(ctx: object) -> None:
        await helper()

    async def does_not(ctx: object) -> None:
        tasks.add(anyio.get_current_task().id)

    assert await observe(impls(*[awaits, does_not, lambda ctx: None] * 4), bind) == []
    assert tasks == {me}


async def test_what_takes_too_long_is_cancelled_and_named() -> None:
    """The limit is for those that suspend; what they hold is still released."""
    finished: list[object] = []

    async def forever(ctx: object) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            finished.append(ctx)

    with anyio.fail_after(10):
        issues = await observe(impls(forever, returns(1), raises(OSError()), forever), bind, time_limit_s=0.01)
    assert sorted((each.plugin_id, each.message) for each in issues) == [
        ("p0", "plugin `p0`, hook `lash_x`: took longer than 0.01 s and was cancelled"),
        ("p2", "plugin `p2`, hook `lash_x`: OSError"),
        ("p3", "plugin `p3`, hook `lash_x`: took longer than 0.01 s and was cancelled"),
    ]
    assert sorted(map(str, finished)) == ["ctx of p0", "ctx of p3"]


async def test_a_cancelled_observe_leaves_no_coroutine_behind() -> None:
    """Warnings are errors here, and Python warns of coroutines that nobody awaits."""
    interrupted = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        await observe(impls(later(1), raises(interrupted)), bind)


# ---- slow ones ------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that implementations can turn forward, so that nothing here has to be slow."""
    now = [100.0]
    monkeypatch.setattr(hooks, "perf_counter", lambda: now[0])
    return now


SLOW: dict[str, Callable[..., Any]] = {
    "collect": lambda each: collect(each, bind),
    "chain": lambda each: chain(each, bind, 1, **CHAIN),
    "first": lambda each: first(each, bind),
    "observe": lambda each: observe(each, bind),
}


@pytest.mark.parametrize("runner", SLOW)
async def test_who_blocks_everybody_is_named(runner: str, clock: list[float], caplog: Any) -> None:
    """A hook that doesn't suspend can't be stopped; one that suspends lets others work, however long it takes."""

    def plain(ctx: object) -> None:
        clock[0] += 1

    async def coroutine(ctx: object) -> None:
        clock[0] += 2

    async def suspends(ctx: object) -> None:
        await anyio.lowlevel.checkpoint()
        clock[0] += 3

    with caplog.at_level(logging.WARNING, "lash.hooks"):
        await SLOW[runner](impls(plain, coroutine, suspends, returns(None)))
    assert [each.getMessage().partition(";")[0] for each in caplog.records] == [
        "plugin `p0`, hook `lash_x`: blocked everything else for 1.00 s",
        "plugin `p1`, hook `lash_x`: blocked everything else for 2.00 s",
    ]


def test_a_hook_that_registers_is_not_told_to_suspend(clock: list[float], caplog: Any) -> None:
    """It runs before there is anybody to block, and an `async def` would be refused."""

    def slow() -> None:
        clock[0] += 1

    with caplog.at_level(logging.WARNING, "lash.hooks"):
        collect_sync(tuple(HookImpl("p", slow, (), hook) for hook in ("lash_stores", "lash_modes", "lash_tools")), None)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("function", "expected"),
    [(returns(1), False), (at_once(1), True), (later(1), False), (lambda ctx: None, False)],
    ids=["plain", "no await", "await", "lambda"],
)
def test_what_never_suspends_is_known_beforehand(function: Callable[..., Any], expected: bool) -> None:
    assert impls(function)[0].never_suspends is expected


def test_async_for_and_async_with_may_suspend() -> None:
    async def loops(ctx: Any) -> None:
        async for _ in ctx:
            pass

    async def enters(ctx: Any) -> None:
        async with ctx:
            pass

    assert [each.never_suspends for each in impls(loops, enters)] == [False, False]


class Plugin:
    async def lash_x(self, ctx: object) -> None:
        """A method without any `await`."""


def test_a_bound_method_without_await_never_suspends() -> None:
    assert impls(Plugin().lash_x)[0].never_suspends


# ---- failures that are no `Exception` -------------------------------------------------------------------------------


def leaves_the_program(ctx: object) -> None:
    sys.exit(3)


async def leaves_the_program_later(ctx: object) -> None:
    await anyio.lowlevel.checkpoint()
    sys.exit(3)


RUNNERS: dict[str, Callable[[tuple[HookImpl, ...]], Any]] = {
    "collect": lambda made: collect(made, bind),
    "chain": lambda made: chain(made, bind, 1, argname="value", expects=int),
    "first": lambda made: first(made, bind),
}


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("function", [leaves_the_program, leaves_the_program_later])
async def test_a_hook_that_calls_sys_exit_fails_and_ends_no_program(
    run: Callable[[tuple[HookImpl, ...]], Any], function: Callable[..., Any]
) -> None:
    with pytest.raises(PluginError, match="plugin `p0`, hook `lash_x`: SystemExit: 3") as caught:
        await run(impls(function))
    assert isinstance(caught.value.__cause__, SystemExit)


async def test_a_hook_that_calls_sys_exit_is_passed_over_where_failures_are() -> None:
    (issue,) = await observe(impls(leaves_the_program), bind)
    assert issue.message == "plugin `p0`, hook `lash_x`: SystemExit: 3"
    with pytest.raises(PluginError, match="SystemExit"):
        collect_sync(impls(leaves_the_program), bind)
    assert await chain(impls(leaves_the_program), bind, 1, argname="value", expects=int, on_error="keep") == 1


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_hook_that_awaits_a_cancelled_task_fails_and_cancels_nobody(
    run: Callable[[tuple[HookImpl, ...]], Any],
) -> None:
    async def awaits_a_cancelled_task(ctx: object) -> None:
        task = asyncio.ensure_future(anyio.sleep_forever())
        await anyio.lowlevel.checkpoint()
        task.cancel()
        await task

    with pytest.raises(PluginError, match="plugin `p0`, hook `lash_x`: CancelledError"):
        await run(impls(awaits_a_cancelled_task))


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
async def test_who_is_cancelled_while_a_hook_runs_is_cancelled(run: Callable[[tuple[HookImpl, ...]], Any]) -> None:
    async def waits(ctx: object) -> None:
        scope.cancel()
        await anyio.sleep_forever()

    with anyio.CancelScope() as scope:
        await run(impls(waits))
    assert scope.cancelled_caught


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
async def test_an_interrupt_passes_through_every_runner(run: Callable[[tuple[HookImpl, ...]], Any]) -> None:
    with pytest.raises(KeyboardInterrupt):
        await run(impls(raises(KeyboardInterrupt())))


# ---- what hooks hand over -------------------------------------------------------------------------------------------


def enqueue_none(ctx: object) -> Any:
    return EnqueueMessages((PluginMessage(role=MessageRole.SYSTEM, content=None),))  # type: ignore[arg-type]  # wrong


def enqueue_half_a_character(ctx: object) -> Any:
    return EnqueueMessages.note("\ud800")


def enqueue_text(ctx: object) -> Any:
    return EnqueueMessages("x")  # type: ignore[arg-type]  # wrong on purpose


def emit_an_object(ctx: object) -> Any:
    return EmitEvents((SurfaceEvent(name="progress", payload={"at": object()}),))


def contribute_none(ctx: object) -> Any:
    return PromptContribution(content=None)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    ("hook", "function"),
    [
        *((each, enqueue_none) for each in ("lash_before_turn", "lash_checkpoint", "lash_after_turn")),
        ("lash_before_turn", enqueue_half_a_character),
        ("lash_before_turn", enqueue_text),
        ("lash_before_turn", emit_an_object),
        ("lash_prompt_contributions", contribute_none),
    ],
)
async def test_a_hooks_wrong_value_stops_its_turn_naming_it_and_the_session_lives_on(
    hook: str, function: Callable[..., Any], tmp_path: Path
) -> None:
    """Once stored, it would make every later load of the session fail."""

    def implementation(ctx: object) -> Any:
        return function(ctx)

    implementation.__name__ = hook
    store = f"sqlite:///{tmp_path / 'sessions.db'}"
    async with agent(["One."], store=store, plugins=[plugin("careless", implementation)]) as lash:
        turn = await (await lash.session("s")).run("q")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert any("plugin `careless`" in each.message for each in turn.errors), turn.errors
    async with agent(["Two."], store=store) as lash:
        assert (await (await lash.session("s")).run("q")).text == "Two."


async def test_an_events_payload_that_is_no_data_is_refused_by_the_plugins_name() -> None:
    directives = [Owned("careless", emit_an_object(None))]
    told = "plugin `careless`, hook `lash_before_turn`: the payload of event `progress` in its `EmitEvents` can't"
    with pytest.raises(PluginError, match=told):
        owned_directives(directives, "lash_before_turn")
