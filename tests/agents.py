"""Agents for tests: a host with a scripted model, and plugins made of a few functions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
from attrs import frozen

from lash_framework import Lash, RunningTurn
from lash_framework.settings import load_settings
from lash_hookspecs import AssembledTurn, Provider, ProviderSpec, RuntimeEffectEnvelope, hookimpl
from lash_hookspecs.plugins import PluginInfo
from lash_plugin_provider_scripted import ScriptedProvider
from lash_plugin_provider_scripted.script import Script

MODEL = "test:model"


@frozen
class NoSettings:
    """A provider without settings."""


def plugin(plugin_id: str, *functions: Callable[..., Any], **info: Any) -> object:
    """A plugin whose hooks are these functions, each named like its hook."""
    made: dict[str, Any] = {"lash_plugin_info": hookimpl(lambda: PluginInfo(id=plugin_id, **info))}
    for function in functions:
        made[function.__name__] = hookimpl(function)
    return SimpleNamespace(**made)


def model_plugin(provider: Provider) -> object:
    """A plugin that offers this provider as `test`."""

    def lash_providers() -> list[ProviderSpec]:
        return [ProviderSpec(provider_id="test", settings=NoSettings, open=lambda _: provider, live=False)]

    return plugin("test-model", lash_providers)


@frozen
class Unwritten:
    """The part of an effect controller that one without a queue of writes has no use for."""

    async def prepare(self, envelopes: Sequence[RuntimeEffectEnvelope]) -> None:
        """Nothing is written ahead."""

    async def flush(self) -> None:
        """Nothing is held back."""


@asynccontextmanager
async def agent(
    script: Script | Provider, *, store: str = "sqlite://", plugins: Sequence[object] = (), **options: Any
) -> AsyncIterator[Lash]:
    """A host whose default model answers from the script."""
    provider = script if isinstance(script, Provider) else ScriptedProvider(script)
    options.setdefault("settings", load_settings(env={}))
    async with Lash.open(store, model=MODEL, plugins=[model_plugin(provider), *plugins], **options) as lash:
        yield lash


def inline_agent(script: Script | Provider, **options: Any) -> AbstractAsyncContextManager[Lash]:
    """A host without a journal, whose effect host a test can replace."""
    return agent(script, settings=load_settings(env={}, sets=["durability.effects=inline"]), **options)


async def cancelled_when(reached: anyio.Event, running: RunningTurn, *reason: str) -> AssembledTurn:
    """What becomes of a turn that is cancelled once it has reached something."""
    async with running, anyio.create_task_group() as group:

        async def cancel() -> None:
            await reached.wait()
            assert running.cancel(*reason)

        group.start_soon(cancel)
        return await running.result()
