"""One plugin's implementation of one hook, prepared for being called often, and all of them in a table.

Nothing is called here.
"""

from __future__ import annotations

import inspect
import opcode
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import pluggy
from attrs import field

from lash_hookspecs.specs import HOOKS, HookRunnerKind
from lash_hookspecs.values import frozen

__all__ = ["HookImpl", "hook_impls", "hook_table", "watching"]

_SUSPENDING = [opcode.opmap.get(name) for name in ("SEND", "YIELD_VALUE")]


def _never_suspends(function: Callable[..., Any]) -> bool:
    """Whether it is a coroutine function without any `await`: such a one is as good as a plain function.

    False for everything else, and for a Python whose instructions are not known here.
    """
    if not inspect.iscoroutinefunction(function):
        return False
    code = getattr(function, "__code__", None)
    return code is not None and None not in _SUSPENDING and not set(_SUSPENDING) & set(code.co_code[::2])


def _picker(argnames: tuple[str, ...]) -> Callable[[Mapping[str, Any]], Sequence[Any]]:
    """A function that takes these out of a mapping, in this order."""
    if len(argnames) == 1:
        only = argnames[0]
        return lambda given: (given[only],)
    return itemgetter(*argnames) if argnames else lambda given: ()


@frozen
class HookImpl:
    """One plugin's implementation of one hook. `argnames` are what it asks for, in the order of its parameters.

    `never_suspends`: it is a coroutine function in which there is nothing to await; `is_plain`: and it asks for `ctx`
    only, as most do. `registers`: of a hook that is only called when a host starts or a mode is composed. `limit_s`:
    for how many seconds it may suspend; None without end.
    """

    plugin_id: str
    function: Callable[..., Any]
    argnames: tuple[str, ...]
    hook: str = ""
    limit_s: float | None = field(default=None, eq=False, repr=False)
    takes_ctx: bool = field(init=False, eq=False, repr=False)
    takes_only_ctx: bool = field(init=False, eq=False, repr=False)
    never_suspends: bool = field(init=False, eq=False, repr=False)
    is_plain: bool = field(init=False, eq=False, repr=False)
    registers: bool = field(init=False, eq=False, repr=False)
    pick: Callable[[Mapping[str, Any]], Sequence[Any]] = field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        # Worked out once per composition, since it would take longer than calling the hook.
        derived = {
            "takes_ctx": "ctx" in self.argnames,
            "takes_only_ctx": self.argnames == ("ctx",),
            "never_suspends": _never_suspends(self.function),
            "registers": self.hook in HOOKS and HOOKS[self.hook].runner is HookRunnerKind.REGISTER,
            "pick": _picker(self.argnames),
        }
        derived["is_plain"] = derived["never_suspends"] and derived["takes_only_ctx"]
        if derived["never_suspends"]:
            derived["limit_s"] = None
        for name, value in derived.items():
            object.__setattr__(self, name, value)


watching: ContextVar[Callable[[HookImpl], HookImpl] | None] = ContextVar("lash_framework.watching", default=None)
"""Puts something else in each implementation's place, in the tables that are made meanwhile: to time it, say."""


def hook_impls(
    manager: pluggy.PluginManager,
    name: str,
    plugin_ids: Sequence[str],
    limits: Mapping[str, float | None] = MappingProxyType({}),
) -> tuple[HookImpl, ...]:
    """A hook's implementations, in the order of `plugin_ids`. `limits` are the plugins' time limits.

    Implementations marked `tryfirst` come before all unmarked ones, `trylast` after; among equals the plugins' order
    counts. (pluggy itself would call the last registered first.)
    """
    impls = [each for each in getattr(manager.hook, name).get_hookimpls() if each.plugin_name in plugin_ids]
    if not impls:
        return ()

    def place(impl: pluggy.HookImpl) -> tuple[int, int]:
        rank = 0 if impl.tryfirst else 2 if impl.trylast else 1
        return rank, plugin_ids.index(impl.plugin_name)

    watch = watching.get()
    table = (
        HookImpl(each.plugin_name, each.function, tuple(each.argnames), name, limits.get(each.plugin_name))
        for each in sorted(impls, key=place)
    )
    return tuple(table if watch is None else map(watch, table))


def hook_table(
    manager: pluggy.PluginManager, plugin_ids: Sequence[str], limits: Mapping[str, float | None] = MappingProxyType({})
) -> dict[str, tuple[HookImpl, ...]]:
    """Every hook with its implementations: see `hook_impls`."""
    return {name: hook_impls(manager, name, plugin_ids, limits) for name in HOOKS}
