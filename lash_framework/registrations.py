"""What plugins offer when a host starts: providers, stores, modes, and the like. Asked once, each plugin alone.

A plugin that raises, returns something else, or offers what another one offers already becomes a row of the report and
is left out as a whole: half a plugin would be harder to understand than none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pluggy
from attrs import field
from attrs.exceptions import FrozenInstanceError

from lash_framework.cli.commands import COMMANDS
from lash_framework.effect_hosts import BUILT_IN
from lash_framework.hooks import Owned, collect_sync
from lash_framework.implementations import HookImpl, hook_impls
from lash_framework.plugins import LoadedPlugin, LoadFailure, LoadReport, failure_of, settle_order
from lash_hookspecs.commands import CommandSpec
from lash_hookspecs.contexts import HostContext, declared_state
from lash_hookspecs.effect_hosts import EffectHostSpec
from lash_hookspecs.errors import PluginError
from lash_hookspecs.llm import ProviderSpec
from lash_hookspecs.modes import Mode
from lash_hookspecs.plugins import SessionStateSpec
from lash_hookspecs.stores import StoreSpec
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_hookspecs.trace import TraceSink

__all__ = ["Registrations", "conflict_text", "drop", "register", "takes_over"]


def takes_over(plugin: LoadedPlugin, other: LoadedPlugin) -> bool:
    """Whether `plugin` says that it replaces `other`, and so may have what that one claims."""
    return other.plugin_id in plugin.info.replaces


def conflict_text(what: str, one: LoadedPlugin, other: LoadedPlugin) -> str:
    """Two plugins that claim one thing, in one line."""
    return f"{what}: plugin `{one.plugin_id}` of {one.origin} and plugin `{other.plugin_id}` of {other.origin}"


# ---- what one plugin offers -----------------------------------------------------------------------------------------

# Hook, what is claimed, the class of its results, and the names that one of them claims.
_CLAIMING: tuple[tuple[str, str, type, Callable[[Any], Sequence[str]]], ...] = (
    ("lash_providers", "provider", ProviderSpec, lambda spec: (spec.provider_id,)),
    ("lash_stores", "store scheme", StoreSpec, lambda spec: spec.schemes),
    ("lash_modes", "mode", Mode, lambda spec: (spec.mode_id,)),
    ("lash_effect_hosts", "effect host", EffectHostSpec, lambda spec: (spec.host_id,)),
    ("lash_commands", "command", CommandSpec, lambda spec: (spec.name,)),
)

_OURS: Mapping[str, Collection[str]] = {"effect host": BUILT_IN, "command": COMMANDS}
"""What no plugin can have: it is there without plugins, and known by that name."""


@frozen
class _Offer:
    """What a plugin offers: by (what, name) its specifications, its session state, and its trace sinks."""

    claims: Mapping[tuple[str, str], Any]
    state: SessionStateSpec | None
    sinks: tuple[TraceSink, ...] = ()


@frozen(kw_only=True)
class Registrations:
    """Everything that the plugins of a report offer, each under its name, and with its owner."""

    report: LoadReport
    providers: Mapping[str, Owned[ProviderSpec]] = field(factory=dict)
    stores: Mapping[str, Owned[StoreSpec]] = field(factory=dict)
    modes: Mapping[str, Owned[Mode]] = field(factory=dict)
    effect_hosts: Mapping[str, Owned[EffectHostSpec]] = field(factory=dict)
    commands: Mapping[str, Owned[CommandSpec]] = field(factory=dict)
    sinks: tuple[Owned[TraceSink], ...] = ()
    states: Mapping[str, SessionStateSpec] = field(factory=dict)
    offers: Mapping[str, _Offer] = field(factory=dict, repr=False)


def register(
    manager: pluggy.PluginManager, report: LoadReport, options: Callable[[LoadedPlugin], Any] = lambda plugin: {}
) -> Registrations:
    """Ask every plugin of the report what it offers, and settle who gets what. `options` reads a plugin's.

    Raises `ConfigurationError` for options that a plugin needs here, and that can't be.
    """
    offers: dict[str, _Offer] = {}
    failures = []
    for plugin in report.loaded:
        try:
            offers[plugin.plugin_id] = _ask(
                partial(hook_impls, manager, plugin_ids=[plugin.plugin_id]), plugin, options
            )
        except PluginError as error:
            failures.append(failure_of(plugin, "registration", str(error), error.__cause__ or error))
    return _settle(manager, report, offers, failures)


def drop(manager: pluggy.PluginManager, registrations: Registrations, failures: Sequence[LoadFailure]) -> Registrations:
    """The registrations without plugins that turned out to be broken. The others aren't asked again."""
    return _settle(manager, registrations.report, registrations.offers, failures)


def _ask(
    hooks: Callable[[str], tuple[HookImpl, ...]], plugin: LoadedPlugin, options: Callable[[LoadedPlugin], Any]
) -> _Offer:
    claims: dict[tuple[str, str], Any] = {}
    for hook, what, expected, names in _CLAIMING:
        for _, spec in collect_sync(hooks(hook), None, item=expected):
            for name in names(spec):
                if not name or (what, name) in claims:
                    fault = f"offers {what} `{name}` twice" if name else f"offers a {what} without a name"
                    raise PluginError(plugin.plugin_id, hook, fault)
                if name in _OURS.get(what, ()):
                    raise PluginError(plugin.plugin_id, hook, f"offers {what} `{name}`, which is lash's own")
                claims[what, name] = spec
    states = collect_sync(hooks("lash_session_state"), None, item=SessionStateSpec)
    if len(states) > 1:
        raise PluginError(plugin.plugin_id, "lash_session_state", "a plugin has at most one session state")
    state = states[0].value if states else None
    if state is not None:
        _check_state(plugin, state)
    return _Offer(claims, state, _sinks(hooks("lash_trace_sinks"), plugin, options))


def _sinks(
    impls: tuple[HookImpl, ...], plugin: LoadedPlugin, options: Callable[[LoadedPlugin], Any]
) -> tuple[TraceSink, ...]:
    if not impls:
        return ()
    host = HostContext(plugin_id=plugin.plugin_id, options=options(plugin))
    found = [each.value for each in collect_sync(impls, None, host=host)]
    for each in found:
        if not callable(getattr(each, "append", None)):
            fault = f"a `{type(each).__name__}` is no trace sink: it has no `append`"
            raise PluginError(plugin.plugin_id, "lash_trace_sinks", fault)
    return tuple(found)


def _check_state(plugin: LoadedPlugin, spec: SessionStateSpec) -> None:
    """A state must be made without arguments, and must not be changeable in place, which would go unnoticed."""
    try:
        made = declared_state(spec.state)
    except Exception as error:
        raise PluginError(plugin.plugin_id, "lash_session_state", f"its first state can't be made: {error}") from error
    for attribute in spec.state.__attrs_attrs__[:1]:  # type: ignore[attr-defined]  # declared_state made sure of it
        try:
            setattr(made, attribute.name, getattr(made, attribute.name))
        except FrozenInstanceError:
            return
        message = f"`{spec.state.__name__}` can be changed in place: make it `@attrs.frozen`"
        raise PluginError(plugin.plugin_id, "lash_session_state", message)


def _settle(
    manager: pluggy.PluginManager,
    report: LoadReport,
    offers: Mapping[str, _Offer],
    failures: Sequence[LoadFailure],
) -> Registrations:
    """Leave out who failed, who needs those, and who collides; until nobody does."""
    while True:
        if failures:
            for failure in failures:
                manager.unregister(name=failure.plugin_id)
            report = settle_order(manager, report.without(failures))
        holders, failures = _claim(report, offers)
        if not failures:
            break
    owned: dict[str, dict[str, Owned[Any]]] = {what: {} for _, what, _, _ in _CLAIMING}
    for (what, name), holder in holders.items():
        owned[what][name] = Owned(holder.plugin_id, offers[holder.plugin_id].claims[what, name])
    here = {each.plugin_id: offers[each.plugin_id] for each in report.loaded}
    return Registrations(
        report=report,
        providers=owned["provider"],
        stores=owned["store scheme"],
        modes=owned["mode"],
        effect_hosts=owned["effect host"],
        commands=owned["command"],
        sinks=tuple(Owned(plugin_id, each) for plugin_id, offer in here.items() for each in offer.sinks),
        states={plugin_id: offer.state for plugin_id, offer in here.items() if offer.state is not None},
        offers=here,
    )


def _claim(
    report: LoadReport, offers: Mapping[str, _Offer]
) -> tuple[dict[tuple[str, str], LoadedPlugin], list[LoadFailure]]:
    """Who holds each claim. Of two that want the same, the later in order fails, unless one replaces the other."""
    holders: dict[tuple[str, str], LoadedPlugin] = {}
    failures = []
    for plugin in report.loaded:
        claims = offers[plugin.plugin_id].claims
        held = {key: holders[key] for key in claims if key in holders}
        lost = [
            conflict_text(f"{what} `{name}`", holder, plugin)
            for (what, name), holder in held.items()
            if not takes_over(plugin, holder) and not takes_over(holder, plugin)
        ]
        if lost:
            message = f"it offers what another plugin offers already: {'; '.join(lost)}"
            failures.append(failure_of(plugin, "registration", message))
            continue
        for key in claims:
            if key not in held or takes_over(plugin, held[key]):
                holders[key] = plugin
    return holders, failures
