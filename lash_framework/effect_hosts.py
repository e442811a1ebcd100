"""Where effects are executed and recorded: chosen by `durability.effects`, ours or a plugin's.

A plugin's host is held to the port: what it lacks is refused by name when it is opened, and what it does against the
rules is an error of the boundary that names it, never a turn that goes wrong without a word.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from lash_framework.faults import failure_text, pass_on
from lash_hookspecs.contexts import HostContext
from lash_hookspecs.effect_hosts import EffectHostSpec
from lash_hookspecs.effect_outcomes import RuntimeEffectOutcome
from lash_hookspecs.effects import EffectController, EffectHost, EffectRunner, RuntimeEffectEnvelope, RuntimeScope
from lash_hookspecs.errors import EffectControllerError, LashError, PluginError, UnknownName

if TYPE_CHECKING:
    from lash_framework.hooks import Owned
    from lash_framework.host import PluginHost
    from lash_framework.settings import Settings

__all__ = ["BUILT_IN", "GuardedHost", "TracedController", "chosen_host", "open_effect_host"]

BUILT_IN = ("inline", "journal")
"""The effect hosts that are there without plugins."""

_HOOK = "lash_effect_hosts"
_NEEDED = ("execute", "prepare", "flush")

Around = Callable[[RuntimeEffectEnvelope, EffectRunner], Awaitable[RuntimeEffectOutcome]]


def chosen_host(settings: Settings, host: PluginHost) -> Owned[EffectHostSpec] | None:
    """The plugin's effect host that the settings name; None for one of ours. Raises `UnknownName`."""
    chosen = settings.durability.effects
    if chosen in BUILT_IN:
        return None
    if chosen not in host.effect_hosts:
        raise UnknownName("effect host", chosen, (*BUILT_IN, *host.effect_hosts))
    return host.effect_hosts[chosen]


async def open_effect_host(chosen: Owned[EffectHostSpec], host: PluginHost, stack: AsyncExitStack) -> GuardedHost:
    """Open it until the `stack` is closed. Raises `PluginError`."""
    plugin_id, spec = chosen
    context = HostContext(plugin_id=plugin_id, options=host.options_of(plugin_id))
    try:
        opened: Any = await stack.enter_async_context(spec.open(context))
    except LashError:
        raise
    except BaseException as error:
        pass_on(error)
        text = f"effect host `{spec.host_id}` can't be opened: {failure_text(error)}"
        raise PluginError(plugin_id, _HOOK, text) from error
    if not callable(getattr(opened, "scoped", None)):
        text = f"effect host `{spec.host_id}` is a `{type(opened).__name__}`, which has no `scoped`"
        raise PluginError(plugin_id, _HOOK, text)
    return GuardedHost(opened, plugin_id, spec.durable)


class GuardedHost:
    """A plugin's host, held to the port. `durable`: the plugin says that outcomes outlive the process."""

    def __init__(self, host: EffectHost, plugin_id: str, durable: bool) -> None:
        self._host = host
        self._plugin_id = plugin_id
        self.durable = durable

    def scoped(self, scope: RuntimeScope) -> EffectController:
        """The controller of a turn. Raises `EffectControllerError` for one that isn't whole."""
        try:
            made = self._host.scoped(scope)
        except LashError:
            raise
        except BaseException as error:
            pass_on(error)
            raise _failed(self._plugin_id, f"made no controller: {failure_text(error)}") from error
        lacking = [name for name in _NEEDED if not callable(getattr(made, name, None))]
        if lacking or not isinstance(getattr(made, "durable", None), bool):
            named = ", ".join(f"`{each}`" for each in lacking or ["durable"])
            raise _failed(self._plugin_id, f"its controller lacks {named}")
        return _GuardedController(made, self._plugin_id)


class _GuardedController:
    def __init__(self, inner: EffectController, plugin_id: str) -> None:
        self._inner = inner
        self._plugin_id = plugin_id

    @property
    def durable(self) -> bool:
        return self._inner.durable

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        ours: list[BaseException] = []
        runs = 0

        async def noted(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            nonlocal runs
            runs += 1
            if runs > 1:  # it would be paid, and done, twice
                raise _failed(self._plugin_id, f"ran an effect twice, `{envelope.command.kind}`")
            try:
                return await run(asked)
            except BaseException as error:
                ours.append(error)
                raise

        try:
            outcome = await self._inner.execute(envelope, noted)
        except LashError:
            raise
        except BaseException as error:
            if error in ours:
                raise
            pass_on(error)
            raise _failed(self._plugin_id, f"failed at `{envelope.command.kind}`: {failure_text(error)}") from error
        if getattr(outcome, "kind", None) is not envelope.command.kind:
            raise EffectControllerError(
                "runtime_effect_wrong_outcome",
                f"the effect host of plugin `{self._plugin_id}` answered `{envelope.command.kind}` with a "
                f"`{type(outcome).__name__}`",
            )
        return outcome

    async def prepare(self, envelopes: Sequence[RuntimeEffectEnvelope]) -> None:
        await self._guarded(self._inner.prepare(envelopes), "prepare a batch")

    async def flush(self) -> None:
        await self._guarded(self._inner.flush(), "flush")

    async def _guarded(self, asked: Awaitable[None], what: str) -> None:
        try:
            await asked
        except LashError:
            raise
        except BaseException as error:
            pass_on(error)
            raise _failed(self._plugin_id, f"couldn't {what}: {failure_text(error)}") from error


def _failed(plugin_id: str, what: str) -> EffectControllerError:
    return EffectControllerError("effect_host_failed", f"the effect host of plugin `{plugin_id}` {what}")


class TracedController:
    """A controller whose executions are told: `around` is called in their place. `ran` says whether there were any."""

    def __init__(self, inner: EffectController, around: Around) -> None:
        self._inner = inner
        self._around = around
        self.ran = False
        self.prepare, self.flush = inner.prepare, inner.flush

    @property
    def durable(self) -> bool:
        """As the controller within says."""
        return self._inner.durable

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        """Execute it, and tell of it; not of one that is answered from a record."""

        async def told(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            self.ran = True
            return await self._around(asked, run)

        return await self._inner.execute(envelope, told)
