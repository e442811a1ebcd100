"""What is wrong with a plugin's hooks, before pluggy would accept it in silence. Nothing is called here."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import pluggy

from lash_hookspecs.errors import nearest
from lash_hookspecs.markers import PROJECT
from lash_hookspecs.specs import HOOKS, HookRunnerKind

__all__ = ["HookManager", "class_fault", "hook_faults", "marked", "unknown_arguments"]

_SPEC_MARK = f"{PROJECT}_spec"
_MARK = f"{PROJECT}_impl"
_HOOKABLE = (MethodType, staticmethod, classmethod)


class HookManager(pluggy.PluginManager):
    """pluggy's, that sees at once what is no hook, and a module's: `inspect` takes most of the time of registering."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        if name.startswith("__"):
            return None
        if isinstance(plugin, ModuleType):
            member = vars(plugin).get(name)
            if type(member) is FunctionType:
                return vars(member).get(_MARK)
            if not isinstance(member, _HOOKABLE):
                return None
        return super().parse_hookimpl_opts(plugin, name)


def marked(manager: pluggy.PluginManager, plugin: object) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Attribute, hook and options of everything that is marked as an implementation."""
    for attribute in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, attribute)
        if options is not None:
            yield attribute, options.get("specname") or attribute, options


def hook_faults(manager: pluggy.PluginManager, plugin: object, *, needs_one: bool) -> list[str]:
    """Unknown names, forgotten markers, hooks that can't be awaited; and, if it `needs_one`, that there is no hook."""
    found = list(marked(manager, plugin))
    faults = [text for attribute, hook, options in found if (text := _fault(plugin, attribute, hook, options))]
    faults += [
        f"`{name}` has a hook's name but no `@hookimpl`: mark it, or call it something else"
        for name in sorted(HOOKS.keys() & set(dir(plugin)) - {attribute for attribute, _, _ in found})
        if inspect.isroutine(member := _static(plugin, name)) and not hasattr(member, _SPEC_MARK)
    ]
    return faults if found or faults or not needs_one else _no_hook(plugin)


def class_fault(manager: pluggy.PluginManager, plugin: object) -> str | None:
    """That a class was passed whose hooks want an instance; None for all else, a class of static hooks among it."""
    if not isinstance(plugin, type):
        return None
    for attribute, hook, _ in marked(manager, plugin):
        function = getattr(plugin, attribute)
        if inspect.isfunction(function) and function.__code__.co_varnames[:1] == ("self",):
            name = plugin.__name__
            return f"`{name}` is a class, and its `{hook}` takes `self`: pass an instance, `{name}()`"
    return None


def _static(plugin: object, name: str) -> object:
    """An attribute as it stands, or None; of a module by a look, since each plugin is asked for all hooks' names."""
    if isinstance(plugin, ModuleType):
        return vars(plugin).get(name)
    return inspect.getattr_static(plugin, name, None)


def _fault(plugin: object, attribute: str, hook: str, options: Mapping[str, Any]) -> str | None:
    function = getattr(plugin, attribute)
    policy = HOOKS.get(hook)
    if policy is None:
        return None if options.get("optionalhook") else f"`{hook}` is no hook: {nearest(hook, HOOKS)}"
    if options.get("wrapper") or options.get("hookwrapper"):
        return f"`{hook}` is marked as a wrapper, which lash doesn't have: use a hook that is a chain"
    if policy.runner is HookRunnerKind.LIFESPAN and inspect.isasyncgenfunction(function):
        return f"`{hook}` must be a context manager: put `@asynccontextmanager` below `@hookimpl`"
    if (policy.sync or policy.runner is HookRunnerKind.LIFESPAN) and inspect.iscoroutinefunction(function):
        return f"`{hook}` is called without awaiting: make it a plain `def`"
    return None


def unknown_arguments(manager: pluggy.PluginManager, plugin: object) -> Iterator[str]:
    """Arguments that a hook isn't called with, each with those that it may take: once pluggy has refused them."""
    for attribute, hook, _ in marked(manager, plugin):
        spec = getattr(manager.hook, hook).spec
        given = inspect.signature(getattr(plugin, attribute)).parameters.values()
        for each in given if spec is not None else ():
            if each.default is each.empty and each.name not in spec.argnames:
                takes = ", ".join(f"`{name}`" for name in spec.argnames) or "none"
                yield f"`{hook}` has no argument `{each.name}`; it may take: {takes}"


def _no_hook(plugin: object) -> list[str]:
    """Somebody passed it in order to have it do something."""
    slips = [name for name in dir(plugin) if name.startswith("lash_") and callable(getattr(plugin, name, None))]
    seen = repr(plugin)
    return [
        f"`{seen if len(seen) <= 80 else seen[:79] + '…'}` has no hook: mark its functions with `@hookimpl`",
        *(f"`{name}` is no hook: {nearest(name, HOOKS)}" for name in slips),
    ]
