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
from lash_hookspecs import (
    AssembledTurn,
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    LlmRole,
    Provider,
    ProviderSpec,
    RuntimeEffectEnvelope,
    StreamDelta,
    TextBlock,
    hookimpl,
)
from lash_hookspecs.plugins import PluginInfo
from lash_plugin_provider_scripted import Reply, ScriptedProvider
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


def waiting_model(started: anyio.Event) -> Any:
    """A model that says when it is asked, and then never answers."""

    async def answer(request: LlmRequest) -> str:
        started.set()
        await anyio.sleep_forever()
        raise AssertionError("unreachable")

    return answer


class CutModel(ScriptedProvider):
    """Says the replies one after the other; a reply that is text and then waits is cut there."""

    def __init__(self, *replies: Reply | str, waits_after: str | None = None) -> None:
        super().__init__(lambda request: replies[sum(each.role == "assistant" for each in request.messages)])
        self.waits_after = waits_after
        self.reached = anyio.Event()

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        if self.waits_after is not None:
            said, self.waits_after = self.waits_after, None
            self.requests.append(request)
            if said:
                await send([StreamDelta(said)])
            self.reached.set()
            await anyio.sleep_forever()
        return await super().complete(request, send)


def texts(request: LlmRequest) -> list[tuple[LlmRole, str]]:
    """What a model was shown, without the system prompt."""
    return [
        (message.role, block.text)
        for message in request.messages
        for block in message.blocks
        if isinstance(block, TextBlock) and message.role is not LlmRole.SYSTEM
    ]
