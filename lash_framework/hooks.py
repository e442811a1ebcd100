"""Calling hooks: each runner walks implementations in order, awaits what is awaitable, and says whose result it is.

Knows nothing of sessions or compositions: it gets a tuple of `HookImpl`, and a function that makes a plugin's `ctx`.
What a plugin raises comes out as a `PluginError` (from an observer: as a `HookIssue`); cancellation passes through, and
so does an interrupt.
"""

from __future__ import annotations

import inspect
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from time import perf_counter
from types import CoroutineType
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from lash_framework.faults import failure_text, pass_on
from lash_framework.implementations import HookImpl
from lash_hookspecs.errors import PluginError
from lash_hookspecs.values import frozen

__all__ = [
    "SLOW_S",
    "Bind",
    "HookImpl",
    "HookIssue",
    "Owned",
    "chain",
    "collect",
    "collect_sync",
    "failure_text",
    "first",
    "items_of",
    "observe",
    "spoken",
]

T = TypeVar("T")

SLOW_S = 0.1
"""For how long, in seconds, a hook may keep the event loop from everybody else before it is named in the log.

asyncio's debug mode draws the same line.
"""

Bind = Callable[[str], object]
"""From a plugin's id to the `ctx` that it gets."""

_log = logging.getLogger("lash.hooks")


class Owned(NamedTuple, Generic[T]):
    """A value, and the id of the plugin that it is from."""

    plugin_id: str
    value: T


@frozen(kw_only=True)
class HookIssue:
    """What went wrong in an observer: it stopped nobody, and the log has told it. `message` names plugin and hook."""

    plugin_id: str
    hook: str
    message: str


# ---- what all runners do --------------------------------------------------------------------------------------------


def arguments_of(impl: HookImpl, bind: Bind | None, given: dict[str, Any]) -> Sequence[Any]:
    """What the implementation asks for, out of what there is; its `ctx` is made here."""
    if bind is not None and impl.takes_ctx:
        ctx = bind(impl.plugin_id)
        if impl.takes_only_ctx:
            return (ctx,)
        given["ctx"] = ctx
    return impl.pick(given)


def failure_of(impl: HookImpl, error: BaseException) -> PluginError:
    """An implementation's exception as the error to raise. Re-raises a cancellation and an interrupt: not its own."""
    pass_on(error)
    if isinstance(error, PluginError) and error.plugin_id == impl.plugin_id:
        return error  # it says already what a new one would, and more exactly
    failure = PluginError(impl.plugin_id, impl.hook, failure_text(error))
    failure.__cause__ = error
    return failure


def wrong_type(impl: HookImpl, value: object, expected: Any, *, many: bool, optional: bool = True) -> PluginError:
    """The error of an implementation that returned something else."""
    classes = expected if isinstance(expected, tuple) else (expected,)
    *before, last = (f"`{each.__name__}`" for each in classes)
    names = f"{', '.join(before)} or {last}" if before else last
    shape = f"None, {names}, or a sequence of these" if many else f"None or {names}" if optional else names
    hint = ""
    if inspect.iscoroutine(value):
        value.close()
        hint = f": put `await` before the call of `{value.__name__}`"
    elif isinstance(value, str) and "`EnqueueMessages`" in names:
        hint = ": text for the model is `EnqueueMessages.note(text)`"
    return PluginError(impl.plugin_id, impl.hook, f"returned a `{type(value).__name__}`; expected is {shape}{hint}")


def _warn_of_slow(impl: HookImpl, took_s: float, outcome: object) -> None:
    """Name an implementation that kept everybody waiting; `outcome` is what calling it gave, before any awaiting."""
    # One that doesn't suspend can't be stopped. All that is left is to say who it was. One that may suspend has let
    # others work meanwhile, so that its duration says nothing.
    if hasattr(outcome, "__await__") and not impl.never_suspends:
        return
    if impl.registers:
        return  # it is to be called before anybody else works, and must not suspend
    _log.warning(
        "plugin `%s`, hook `%s`: blocked everything else for %.2f s; make it suspend, or move the work to a thread",
        impl.plugin_id,
        impl.hook,
        took_s,
    )


async def settled(result: Any) -> Any:
    """What an implementation gave, awaited where it can be."""
    return await result if hasattr(result, "__await__") else result


async def _in_time(impl: HookImpl, outcome: Any) -> Any:
    """`settled`, within the plugin's time limit: two that wait for each other, say, would keep a turn for ever."""
    if not hasattr(outcome, "__await__"):
        return outcome
    if impl.limit_s is None:
        return await outcome
    import anyio

    with anyio.move_on_after(impl.limit_s):
        return await outcome
    raise PluginError(
        impl.plugin_id,
        impl.hook,
        f"took longer than {impl.limit_s:g} s and was cancelled; does it wait for another plugin, or for this turn? "
        "Who has to wait longer says so with `PluginInfo(hook_limit_s=…)`",
    )


# ---- runners --------------------------------------------------------------------------------------------------------


async def collect(
    impls: tuple[HookImpl, ...], bind: Bind | None, *, item: type | tuple[type, ...] | None = None, **kwargs: Any
) -> list[tuple[str, Any]]:
    """All in order, results concatenated: each may return None, one item, or a sequence of items.

    An item comes as a pair with the plugin's id. Raises `PluginError` for the first that raises, or returns what is no
    `item`; the later ones aren't called.
    """
    # The walk is that of `spoken`, which would be left and entered once an item: ten items took 9 µs in place of 5.
    found: list[tuple[str, Any]] = []
    expected = object if item is None else item
    known = None  # the class of the last item: the next one is nearly always of the same
    started = perf_counter()
    for impl in impls:
        try:
            if impl.is_plain and bind is not None:
                result = outcome = await impl.function(bind(impl.plugin_id))
            else:
                result = outcome = impl.function(*arguments_of(impl, bind, kwargs))
                if outcome is not None:
                    result = await _in_time(impl, outcome)
        except BaseException as error:
            raise failure_of(impl, error)  # noqa: B904  # it carries its cause
        # One reading of the clock per call: where this one ends, the next one starts.
        ended = perf_counter()
        if ended - started > SLOW_S:
            _warn_of_slow(impl, ended - started, outcome)
        started = ended
        if result is None:
            continue
        if type(result) is list and len(result) == 1:  # as most do that have something to say
            each = result[0]
            if type(each) is not known:
                if not isinstance(each, expected):
                    raise wrong_type(impl, each, expected, many=True)
                known = type(each)
            found.append((impl.plugin_id, each))
            continue
        found += items_of(impl, result, expected)
    return found


def items_of(impl: HookImpl, result: Any, expected: type | tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """What an implementation returned, item by item, with the plugin's id. Raises `PluginError` for another type."""
    is_one = isinstance(result, (str, bytes)) or not isinstance(result, Sequence)
    for each in (result,) if is_one else result:
        if not isinstance(each, expected):
            raise wrong_type(impl, each, expected, many=True)
        yield impl.plugin_id, each


def collect_sync(
    impls: tuple[HookImpl, ...], bind: Bind | None, *, item: type | tuple[type, ...] | None = None, **kwargs: Any
) -> list[Owned[Any]]:
    """`collect` for hooks that are called without awaiting; a coroutine is a wrong type here."""
    found: list[Owned[Any]] = []
    expected = object if item is None else item
    for impl in impls:
        arguments = arguments_of(impl, bind, kwargs)
        started = perf_counter()
        try:
            result = impl.function(*arguments)
        except BaseException as error:
            raise failure_of(impl, error)  # noqa: B904  # it carries its cause
        took_s = perf_counter() - started
        if took_s > SLOW_S:
            _warn_of_slow(impl, took_s, result)
        if hasattr(result, "__await__"):
            wrong_type(impl, result, expected, many=True)
            raise PluginError(impl.plugin_id, impl.hook, "returned an awaitable; this hook is called without awaiting")
        if result is not None:
            found += [Owned(*each) for each in items_of(impl, result, expected)]
    return found


async def spoken(rest: Iterator[HookImpl], bind: Bind | None, given: dict[str, Any]) -> tuple[HookImpl, Any] | None:
    """Ask one after the other until somebody says something: who it was, and what; None if nobody does.

    `rest` then goes on behind that one. Raises `PluginError` for one that raises.
    """
    # Most have nothing to say, so the walk past them is what a hook costs.
    started = perf_counter()
    for impl in rest:
        try:
            if impl.is_plain and bind is not None:
                result = outcome = await impl.function(bind(impl.plugin_id))
            else:
                result = outcome = impl.function(*arguments_of(impl, bind, given))
                if outcome is not None:
                    result = await _in_time(impl, outcome)
        except BaseException as error:
            raise failure_of(impl, error)  # noqa: B904  # it carries its cause
        ended = perf_counter()
        if ended - started > SLOW_S:
            _warn_of_slow(impl, ended - started, outcome)
        started = ended
        if result is not None:
            return impl, result
    return None


async def chain(
    impls: tuple[HookImpl, ...],
    bind: Bind | None,
    value: T,
    *,
    argname: str,
    expects: type[T] | tuple[type, ...],
    on_error: Literal["raise", "keep"] = "raise",
    issues: list[HookIssue] | None = None,
    changed_by: list[str] | None = None,
    **kwargs: Any,
) -> T:
    """Each gets, as `argname`, what the one before it returned; None passes the value on.

    With `on_error="keep"` one that fails is logged, added to `issues`, and passed over. `changed_by` gets the ids of
    those that returned a value.
    """
    # The walk is that of `spoken`, as in `collect`: all may have a value to return.
    kwargs[argname] = value
    started = perf_counter()
    for impl in impls:
        try:
            result = outcome = impl.function(*arguments_of(impl, bind, kwargs))
            if impl.never_suspends:
                result = await outcome
            elif outcome is not None:
                result = await _in_time(impl, outcome)
        except BaseException as error:
            failure = failure_of(impl, error)
        else:
            ended = perf_counter()
            if ended - started > SLOW_S:
                _warn_of_slow(impl, ended - started, outcome)
            started = ended
            if result is None:
                continue
            fits = isinstance(result, expects)  # a checker would take `result` for any object
            if fits:
                kwargs[argname] = value = result
                if changed_by is not None:
                    changed_by.append(impl.plugin_id)
                continue
            failure = wrong_type(impl, result, expects, many=False)
        if on_error == "raise":
            raise failure
        _log.warning("%s; the previous value is kept", failure, exc_info=failure.__cause__ or failure)
        if issues is not None:
            issues.append(HookIssue(plugin_id=failure.plugin_id, hook=failure.hook, message=str(failure)))
        started = perf_counter()
    return value


async def first(
    impls: tuple[HookImpl, ...], bind: Bind | None, *, expects: type | tuple[type, ...] | None = None, **kwargs: Any
) -> Owned[Any] | None:
    """The first result that isn't None, with its owner; who comes later isn't asked."""
    said = await spoken(iter(impls), bind, kwargs)
    if said is None:
        return None
    impl, result = said
    if expects is not None and not isinstance(result, expects):
        raise wrong_type(impl, result, expects, many=False)
    return Owned(impl.plugin_id, result)


# ---- observers ------------------------------------------------------------------------------------------------------


async def observe(
    impls: tuple[HookImpl, ...], bind: Bind | None, *, time_limit_s: float = 30.0, **kwargs: Any
) -> list[HookIssue]:
    """All at once: none waits for another, stops it, or fails the caller. Results are ignored.

    Those that suspend have `time_limit_s` seconds together and are cancelled then; those that had no turn by the half
    of it, since somebody kept all the others waiting, have as long once more. Those that don't suspend are over when
    they return; only the log can name a slow one.
    """
    issues: list[HookIssue] = []
    waiting: deque[tuple[HookImpl, Awaitable[Any]]] = deque()
    started = perf_counter()
    try:
        for impl in impls:
            arguments = (bind(impl.plugin_id),) if impl.takes_only_ctx and bind else arguments_of(impl, bind, kwargs)
            outcome = None
            try:
                outcome = impl.function(*arguments)
                if type(outcome) is CoroutineType and impl.never_suspends:
                    await outcome
                elif outcome is not None and hasattr(outcome, "__await__"):
                    waiting.append((impl, outcome))
            except BaseException as error:
                issues.append(_issue(impl, error))
                outcome = None  # whatever it is, it isn't looked at again
            before, started = started, perf_counter()
            if started - before > SLOW_S:
                _warn_of_slow(impl, started - before, outcome)
        while waiting:
            await _all_at_once(waiting, time_limit_s, issues)
    finally:
        for _, never_started in waiting:
            if inspect.iscoroutine(never_started):
                never_started.close()
    return issues


async def _all_at_once(
    waiting: deque[tuple[HookImpl, Awaitable[Any]]], time_limit_s: float, issues: list[HookIssue]
) -> None:
    """Await these, each from beginning to end in one task, with as few tasks as it takes. Who comes too late stays.

    The caller's task works through the queue. While it does, one spare task lies ready; when somebody suspends, the
    spare one wakes, takes over the rest of the queue, and leaves a spare one itself. So ten that turn out not to
    suspend cost one task and not ten, and each may still open cancel scopes, which must not change their task.
    """
    import anyio

    unfinished: dict[int, HookImpl] = {}
    has_spare = False

    async def work() -> None:
        nonlocal has_spare
        has_spare = False
        while waiting and anyio.current_time() <= half:
            impl, awaitable = waiting.popleft()
            unfinished[id(awaitable)] = impl
            if waiting and not has_spare:
                has_spare = True
                tasks.start_soon(work)
            try:
                await awaitable
            except BaseException as error:
                issues.append(_issue(impl, error))
            unfinished.pop(id(awaitable), None)

    async with anyio.create_task_group() as tasks:
        now = anyio.current_time()
        half, tasks.cancel_scope.deadline = now + time_limit_s / 2, now + time_limit_s
        await work()
    # Not whether the scope caught its cancellation: one that fails at its end takes that away.
    for impl in unfinished.values():
        text = f"took longer than {time_limit_s:g} s and was cancelled"
        issues.append(_issue(impl, PluginError(impl.plugin_id, impl.hook, text)))


def _issue(impl: HookImpl, error: BaseException) -> HookIssue:
    """An observer's exception as an issue. Re-raises what isn't the observer's own: a cancellation, an interrupt."""
    failure = failure_of(impl, error)
    _log.warning("%s", failure, exc_info=error)
    return HookIssue(plugin_id=impl.plugin_id, hook=impl.hook, message=str(failure))
