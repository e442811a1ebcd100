"""What an open host is made of: its store, what turns with a journal need, work in the background, the application."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio

from lash_framework.admission import Journalling, new_holder
from lash_framework.discovery import none_offered
from lash_framework.faults import failure_text, pass_on
from lash_framework.hooks import Owned
from lash_framework.host import PluginHost
from lash_framework.lease_keeper import LeaseKeeper
from lash_framework.lock import lock_of
from lash_framework.provenance import APPLICATION, TOML
from lash_framework.providers import Providers, split_model
from lash_framework.settings import Settings, model_settings, plugin_settings, provider_settings, store_settings
from lash_framework.world import World
from lash_hookspecs.connected_tools import ConnectedToolSet
from lash_hookspecs.contexts import CompositionContext
from lash_hookspecs.effect_hosts import EffectHostSpec
from lash_hookspecs.errors import CapabilityMissing, ConfigurationError, LashError, UnknownName
from lash_hookspecs.markers import hookimpl
from lash_hookspecs.plugins import PluginInfo
from lash_hookspecs.prompts import PromptContribution, PromptLayer, PromptSlot
from lash_hookspecs.stores import Blobs, Capability, SessionLocks, SessionStore, Store, StoreContext
from lash_hookspecs.tools import Tool

if TYPE_CHECKING:
    from lash_framework.tracing import Tracer

__all__ = [
    "Application",
    "FullStore",
    "as_tool",
    "instructions_layer",
    "open_journalling",
    "open_plugins",
    "open_store",
    "open_traces",
    "providers_of",
    "shielded",
    "spoken_by",
]


SETTLED_FOR_H = 30 * 24
"""How long what is settled stays at most where no journals are kept, in hours: source keys, and journals of before."""


class FullStore(Store, SessionStore, Blobs, SessionLocks, Protocol):
    """What the kernel needs of a store."""


class Application:
    """The plugin that stands for the application: the tools that it gave in code."""

    def __init__(self, tools: Sequence[Tool | ConnectedToolSet]) -> None:
        self._tools = tools

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id=APPLICATION, version="0", summary="What the application gave in code.")

    @hookimpl
    def lash_tools(self, ctx: CompositionContext) -> Sequence[Tool | ConnectedToolSet]:
        return self._tools


def as_tool(given: Tool | ConnectedToolSet | Callable[..., Any]) -> Tool | ConnectedToolSet:
    is_one = hasattr(given, "manifest") or isinstance(given, ConnectedToolSet)
    if is_one:
        return given  # type: ignore[return-value]  # told apart so
    from lash_hookspecs.toolkit import FunctionTool

    made: Tool = FunctionTool(given)  # type: ignore[arg-type]  # a function, then
    return made


def open_plugins(
    settings: Settings, plugins: Sequence[object], tools: Sequence[Tool | ConnectedToolSet | Callable[..., Any]]
) -> PluginHost:
    """The plugins of an application. What it passed itself must load, and the mode must be one."""
    application = Application([as_tool(each) for each in tools])
    host = PluginHost(
        [*plugins, application] if tools else plugins,
        disabled=settings.plugins.disabled,
        only=settings.plugins.only,
        modes=tuple(Owned(TOML, mode) for mode in settings.modes.values()),
        options=settings.plugin,
        read_options=partial(plugin_settings, settings=settings),
        lock=lock_of(settings),
    )
    host.report.require_code()
    host.composition(settings.mode)  # fails now, by name, rather than at the first turn
    return host


_NEEDED = frozenset({Capability.SESSIONS, Capability.BLOBS, Capability.LOCKS})


def providers_of(settings: Settings, host: PluginHost) -> Providers:
    """The host's providers, none of them open yet. The model that is chosen must be of one of them."""
    if settings.model is not None:  # where nobody chose one, a stored session has its own, and others are told then
        split_model(settings.model, host.providers)
    return Providers(host.providers, partial(provider_settings, settings=settings), partial(model_settings, settings))


def _lacking(port: type, store: object) -> list[str]:
    """What a store lacks of a port. One that passes on what it lacks itself has it."""
    return [f"`{name}`" for name in dir(port) if not name.startswith("_") and not hasattr(store, name)]


async def open_store(settings: Settings, host: PluginHost, world: World) -> FullStore:
    scheme, separator, _ = settings.store.partition(":")
    if not separator:
        raise ConfigurationError(f"store `{settings.store}` is no URL: type for instance `sqlite:///agent.db`")
    if scheme not in host.stores:
        raise UnknownName("store scheme", scheme, host.stores, none_offered(host.stores))
    plugin_id, spec = host.stores[scheme]
    who = f"the store for `{scheme}:` of plugin `{plugin_id}`"
    context = StoreContext(url=settings.store, settings=store_settings(spec, settings))
    try:
        opened: Any = await world.open_store(spec, context)
    except LashError:
        raise  # it says already what to mend
    except BaseException as error:
        pass_on(error)
        raise ConfigurationError(f"{who} can't be opened: {failure_text(error)}") from error
    if _lacking(Store, opened):
        what = "None" if opened is None else f"a `{type(opened).__name__}`"
        raise ConfigurationError(f"{who} can't be opened: its `open` returned {what}, which is no `Store`")
    if lacks := sorted(_NEEDED - opened.capabilities) or _lacking(FullStore, opened):
        await opened.aclose()
        raise CapabilityMissing(f"{who} lacks {', '.join(lacks)}")
    full: FullStore = opened
    return full


async def open_journalling(
    settings: Settings,
    store: Any,
    stack: AsyncExitStack,
    require_durable: bool,
    world: World,
    other: Owned[EffectHostSpec] | None = None,
) -> Journalling | None:
    """What turns need that survive their process here; None where they don't, or an `other` host cares for that."""
    chosen = settings.durability
    missing = {Capability.LEASES, Capability.INBOX, Capability.JOURNAL} - store.capabilities
    reason = None
    if other is not None:
        if not other.value.durable:
            reason = f"effect host `{other.value.host_id}` keeps nothing ({settings.source_of('durability.effects')})"
    elif chosen.effects != "journal":
        reason = f"`durability.effects` is `{chosen.effects}` ({settings.source_of('durability.effects')})"
    elif missing:
        reason = f"the store `{store.location}` lacks {', '.join(sorted(missing))}"
    elif not store.persistent:
        reason = f"the store `{store.location}` doesn't outlive the process"
    if reason is not None and require_durable:
        raise CapabilityMissing(f"`require_durable=True`: {reason}")
    if chosen.effects != "journal" or missing:
        return None
    keeper = LeaseKeeper(store, max(int(chosen.lease_ttl_s * 1000), 1))
    await stack.enter_async_context(keeper.run())
    journalling = Journalling(store, new_holder(world), keeper, keep=chosen.keep_journal_h > 0, world=world)
    hours = chosen.keep_journal_h or SETTLED_FOR_H
    await store.drop_journals(before_ms=journalling.now_ms() - int(hours * 3_600_000))
    return journalling


def open_traces(host: PluginHost, stack: AsyncExitStack, world: World) -> Tracer | None:
    """What gives records to the host's sinks, until the `stack` is closed; None where nobody wants any."""
    if not host.sinks:
        return None
    from lash_framework.tracing import Tracer  # few have sinks

    tracer = Tracer(host.sinks, world)
    stack.push_async_callback(tracer.flush)
    tracer.report(host.report)
    return tracer


async def shielded(close: Callable[[], Any]) -> None:
    with anyio.CancelScope(shield=True):
        await close()


def instructions_layer(settings: Settings) -> PromptLayer:
    """What the settings tell every model."""
    if not settings.instructions:
        return PromptLayer()
    contribution = PromptContribution(content=settings.instructions, slot=PromptSlot.PROJECT_INSTRUCTIONS)
    return PromptLayer().with_contribution(contribution)


def spoken_by(source: str) -> str:
    """Where a setting came from, with the application by its name."""
    return APPLICATION if source == "code" else source
