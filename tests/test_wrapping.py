"""The runner `wrap`: order, at most one call, whose errors are whose; and how each kind of effect fails by it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import given, strategies as st
from test_hooks import bind, impls

from lash_framework.around_effects import _FAILED, WRAPPED
from lash_framework.effects import envelope
from lash_framework.hooks import HookImpl
from lash_framework.wrapping import wrap
from lash_hookspecs import (
    DirectCommand,
    DirectOutcome,
    EffectControllerError,
    ExecCodeCommand,
    ExecCodeOutcome,
    LlmCallError,
    LlmRequest,
    LlmResponse,
    PluginError,
    RuntimeEffectKind,
    RuntimeScope,
    TokenUsage,
    TurnIntervention,
    TurnInterventionKind,
)


def wrappers(*functions: Callable[..., Any]) -> tuple[HookImpl, ...]:
    return impls(*functions, argnames=("call_next",))


async def seven() -> int:
    return 7


async def passes(call_next: Callable[[], Awaitable[Any]]) -> Any:
    return await call_next()


async def test_without_a_wrapper_the_call_is_made() -> None:
    assert await wrap((), bind, seven, expects=int) == 7


async def test_wrappers_nest_and_the_first_is_outermost() -> None:
    def adding(text: str) -> Any:
        async def wrapper(call_next: Any) -> str:
            return f"{text}({await call_next()})"

        return wrapper

    async def inner() -> str:
        return "x"

    assert await wrap(wrappers(adding("a"), adding("b")), bind, inner, expects=str) == "a(b(x))"


async def test_a_plain_function_may_hand_the_call_on_unawaited() -> None:
    def plain(call_next: Any) -> Any:
        return call_next()

    assert await wrap(wrappers(plain), bind, seven, expects=int) == 7


async def test_a_wrapper_gets_only_what_it_asks_for() -> None:
    def names(given: str, ctx: object) -> str:
        return f"{ctx} {given}"

    made = (HookImpl("p", names, ("given", "ctx"), "lash_x"),)
    assert await wrap(made, bind, seven, expects=str, given="x", other="y") == "ctx of p x"


async def raises_itself(call_next: Any) -> Any:
    raise RuntimeError("mine")


async def raises_behind(call_next: Any) -> Any:
    await call_next()
    raise RuntimeError("mine")


async def calls_twice(call_next: Any) -> Any:
    await call_next()
    return await call_next()


async def hides_a_second_call(call_next: Any) -> Any:
    found = await call_next()
    with suppress(PluginError):
        await call_next()
    return found


async def calls_twice_at_once(call_next: Any) -> Any:
    async with anyio.create_task_group() as group:
        group.start_soon(call_next)
        group.start_soon(call_next)
    return 7


def returns_nothing(call_next: Any) -> None:
    return None


FAULTS = {
    raises_itself: "RuntimeError: mine",
    raises_behind: "RuntimeError: mine",
    calls_twice: "called `call_next` twice; once is all it may",
    hides_a_second_call: "called `call_next` twice; once is all it may",
    calls_twice_at_once: "called `call_next` twice; once is all it may",
    returns_nothing: "returned a `NoneType`; expected is `int`",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
async def test_what_a_wrapper_does_wrong_is_an_error_in_its_name(fault: Callable[..., Any]) -> None:
    with pytest.raises(PluginError) as raised:
        await wrap(wrappers(passes, fault), bind, seven, expects=int)
    assert raised.value.plugin_id == "p1"
    assert FAULTS[fault] in str(raised.value)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: each.__name__)
async def test_who_stands_around_a_wrapper_that_failed_sees_what_the_effect_came_to(fault: Callable[..., Any]) -> None:
    """A metric is written, and a failure counted, whoever fails within."""
    seen: list[object] = []

    async def measures(call_next: Any) -> Any:
        seen.append(await call_next())
        return seen[-1]

    failed = await wrap(wrappers(measures, fault), bind, seven, expects=int, failed=lambda error, inner: inner or -1)
    assert seen == [failed]
    assert failed == (-1 if fault in (raises_itself, returns_nothing) else 7)


async def swallows(call_next: Any) -> Any:
    try:
        await call_next()
    except Exception:
        return 7


async def in_a_group(call_next: Any) -> Any:
    async with anyio.create_task_group() as group:
        group.start_soon(call_next)


@pytest.mark.parametrize("wrapper", [passes, swallows, in_a_group], ids=lambda each: each.__name__)
async def test_what_is_behind_raises_through_a_wrapper_as_it_is(wrapper: Callable[..., Any]) -> None:
    """A suspended turn, a broken boundary: none of it is a wrapper's fault, nor its to hide."""
    error = EffectControllerError("code", "the boundary broke")

    async def broken() -> int:
        raise error

    with pytest.raises(EffectControllerError) as raised:
        await wrap(wrappers(passes, wrapper), bind, broken, expects=int, failed=lambda error, inner: 0)
    assert raised.value is error


async def test_a_cancellation_passes_through_wrappers() -> None:
    reached = anyio.Event()

    async def waits() -> int:
        reached.set()
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await reached.wait()
                scope.cancel()

            group.start_soon(cancel)
            await wrap(wrappers(passes), bind, waits, expects=int, failed=lambda error, inner: 0)
    assert scope.cancelled_caught


async def test_a_call_after_its_wrapper_has_returned_is_refused() -> None:
    kept: list[Any] = []

    async def keeps(call_next: Any) -> int:
        kept.append(call_next)
        return 1

    assert await wrap(wrappers(keeps), bind, seven, expects=int) == 1
    with pytest.raises(PluginError, match="after it had returned"):
        await kept[0]()


WRAPPER = {"passes": passes, "raises": raises_itself, "raises behind": raises_behind, "twice": calls_twice}


@given(st.lists(st.sampled_from(sorted(WRAPPER)), max_size=6))
def test_whatever_wrappers_do_the_call_is_made_at_most_once_and_there_is_one_outcome(names: list[str]) -> None:
    made: list[int] = []

    async def call() -> int:
        made.append(1)
        return 1

    async def main() -> int:
        chosen = wrappers(*(WRAPPER[each] for each in names))
        return await wrap(chosen, bind, call, expects=int, failed=lambda error, inner: -1)

    found = asyncio.run(main())
    assert len(made) == ("raises" not in names)
    assert found == (1 if set(names) <= {"passes"} else -1)


# ---- how effects fail by it -----------------------------------------------------------------------------------------

SCOPE = RuntimeScope(session_id="s", turn_id="t", turn_index=0)


def test_only_live_work_is_wrapped() -> None:
    """Never a sleep, a wait, a checkpoint, a sync."""
    kinds = {RuntimeEffectKind(each) for each in ("llm_call", "direct", "tool_call", "exec_code")}
    assert kinds == set(WRAPPED) == set(_FAILED)


def test_a_direct_call_and_code_fail_as_they_do() -> None:
    """No mode makes either yet; who does finds the rule here."""
    error = PluginError("p", "lash_around_effect", "why")
    direct = envelope(SCOPE, DirectCommand("p", LlmRequest(model="m", messages=()), "u"), "d")
    outcome = _FAILED[direct.command.kind](direct, error, DirectOutcome(LlmResponse(usage=TokenUsage(input=1))))
    answer = LlmCallError(message=str(error), code="plugin_around_effect", usage=TokenUsage(input=1))
    by = TurnIntervention(plugin_id="p", kind=TurnInterventionKind.CALL_FAILED, detail="lash_around_effect")
    assert outcome == DirectOutcome(answer, did=(by,))
    code = envelope(SCOPE, ExecCodeCommand("python", "1"), "c")
    assert _FAILED[code.command.kind](code, error, None) == ExecCodeOutcome(str(error))
