"""Hooks that stand around something: nested, the first one outermost, each calling what is behind it at most once.

What is behind a wrapper raises through it untouched; only what a wrapper does itself is laid at its door.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from lash_framework.faults import leaves
from lash_framework.hooks import Bind, HookImpl, arguments_of, failure_of, settled, wrong_type
from lash_hookspecs.errors import PluginError

__all__ = ["Adopt", "Failed", "wrap"]

T = TypeVar("T")

Failed = Callable[[PluginError, T | None], T]
"""From a wrapper's failure, and what was behind it gave, if it was called, to what its effect comes to."""

Adopt = Callable[[T, T | None, str], Awaitable[T]]
"""Makes what a wrapper of this plugin returned in place of what was behind it fit. Raises `ValueError` if it can't."""


class _CallNext:
    """What a wrapper is given: it makes the call, once, while the wrapper runs."""

    __slots__ = ("_call", "_impl", "calls", "error", "is_over", "result")

    def __init__(self, impl: HookImpl, call: Callable[[], Awaitable[Any]]) -> None:
        self._impl = impl
        self._call = call
        self.calls = 0
        self.is_over = False
        self.result: Any = None
        self.error: BaseException | None = None

    async def __call__(self) -> Any:
        if self.is_over:
            raise PluginError(self._impl.plugin_id, self._impl.hook, "called `call_next` after it had returned")
        self.calls += 1
        if self.calls > 1:
            raise self.twice()
        try:
            self.result = await self._call()
        except BaseException as error:
            self.error = error
            raise
        return self.result

    def twice(self) -> PluginError:
        return PluginError(self._impl.plugin_id, self._impl.hook, "called `call_next` twice; once is all it may")


async def wrap(
    impls: tuple[HookImpl, ...],
    bind: Bind | None,
    call: Callable[[], Awaitable[T]],
    *,
    expects: type[T],
    failed: Failed[T] | None = None,
    adopt: Adopt[T] | None = None,
    **kwargs: Any,
) -> T:
    """Call what is wrapped, through all of these; each gets `call_next`, and returns an `expects`.

    With `failed` a wrapper's failure becomes a value for those around it; without, it is raised as `PluginError`. What
    `call` raises comes out as it is, also where a wrapper would swallow it.
    """
    if not impls:
        return await call()
    impl, inner = impls[0], impls[1:]

    async def behind() -> T:
        return await wrap(inner, bind, call, expects=expects, failed=failed, adopt=adopt, **kwargs)

    call_next = _CallNext(impl, behind)
    try:
        result = await settled(impl.function(*arguments_of(impl, bind, {**kwargs, "call_next": call_next})))
        if isinstance(call_next.error, Exception):
            raise call_next.error
        if call_next.calls > 1:
            raise call_next.twice()
        if not isinstance(result, expects):
            raise wrong_type(impl, result, expects, many=False, optional=False)
        if result is not call_next.result and adopt is not None:
            try:
                result = await adopt(result, call_next.result, impl.plugin_id)
            except ValueError as error:
                raise PluginError(impl.plugin_id, impl.hook, f"returned an outcome that {error}") from error
    except BaseException as error:
        if call_next.error is not None and any(each is call_next.error for each in leaves(error)):
            raise call_next.error  # noqa: B904  # the same, without the groups that a wrapper put around it
        failure = failure_of(impl, error)
        if failed is None:
            raise failure  # noqa: B904  # it carries its cause
        return failed(failure, call_next.result)
    finally:
        call_next.is_over = True
    return result
