"""What a turn depends on, decided before it starts, and the scopes that its effects have."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from lash_framework.call_limits import CallLimits
from lash_framework.composition import Composition
from lash_framework.conversation import Conversation
from lash_framework.prompt import OwnedLayer, PromptRenderer
from lash_framework.providers import split_model
from lash_framework.session_tools import SessionTools
from lash_framework.state import PluginStates
from lash_hookspecs.connected_tools import ToolSetRecord
from lash_hookspecs.effects import EffectController, RuntimeScope
from lash_hookspecs.llm import Provider
from lash_hookspecs.messages import AttachmentRef, Message, ProviderRoute
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.sessions import SessionPolicy, TurnInput
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.budget import Payer
    from lash_framework.lash import Lash
    from lash_framework.tracing import TurnTrace
    from lash_framework.turn_services import HookServices

__all__ = ["DEFAULT_MAX_TURNS", "Queued", "Scopes", "TurnPlan", "answering"]

DEFAULT_MAX_TURNS = 100
"""How many iterations a turn may take if neither session nor mode says: enough for long work, an end for a loop."""

Queued = Callable[[], Awaitable[Sequence[tuple[int, Message]]]]
"""Looks into the session's inbox: what users said meanwhile, by the item's number."""


@frozen(kw_only=True)
class TurnPlan:
    """All that a turn depends on, decided before it starts.

    `images` are the input's, which are in the store already: nothing that crosses the effect boundary holds bytes.
    `scope` is the turn's, outside of its iterations. `tool_edits` are what the application said of the session's
    `tools` since the last turn. `keep_partial`: the text of a reply that is cut off is kept. `compact_at` is the part
    of the model's window from which on a conversation is compacted (0: never), `context_tokens` what the last call took
    of it. `limits` are the host's, for tools of which only so many calls run at once. `services` are what its hooks and
    tools are given. `connect` asks the toolsets that connect to something. `trace` tells the trace sinks, if there are
    any. `payer` is there where a turn of another session waits for this one.
    """

    session_id: str
    turn_id: str
    turn_input: TurnInput
    input_hash: str
    images: Mapping[str, AttachmentRef]
    session_extension: Any
    options: Any
    policy: SessionPolicy
    composition: Composition
    conversation: Conversation
    states: PluginStates
    provider_id: str
    model: str
    provider: Provider
    capability: ModelCapability
    route: ProviderRoute
    controller: EffectController
    scope: RuntimeScope
    layers: tuple[OwnedLayer, ...]
    renderer: PromptRenderer
    tools: SessionTools
    tool_edits: Sequence[Mapping[str, bool]]
    hosts: Callable[[], Awaitable[Mapping[str, Any]]]
    connect: Callable[[], Awaitable[tuple[ToolSetRecord, ...]]]
    get_blob: Callable[[str], Awaitable[bytes | None]]
    queued: Queued
    now_ms: Callable[[], int]
    limits: CallLimits
    keep_partial: bool
    compact_at: float
    context_tokens: Callable[[], Awaitable[int]]
    services: HookServices
    trace: TurnTrace | None = None
    payer: Payer | None = None

    @property
    def only_compacts(self) -> bool:
        """Whether the turn does nothing else: no model is asked, and no other hook has a say."""
        return self.turn_input.compact is not None

    async def enter(self) -> None:
        """Have at hand what the plugins hold for the host, before code of theirs runs. Raises `PluginError`.

        Whatever runs live asks for it: in a turn that goes on from records, nobody knows which effect is the first.
        """
        if self.composition.hooks["lash_lifespan"]:
            self.states.attach_hosts(await self.hosts())


def answering(lash: Lash, model: str) -> dict[str, Any]:
    """A plan's fields about the model that answers, given as `provider:name`. Raises `ConfigurationError`."""
    provider_id, name = split_model(model, lash.host.providers)
    capability = lash.providers.capability(provider_id, name)
    return {
        "provider_id": provider_id,
        "model": name,
        "provider": lash.providers.get(provider_id),
        "capability": capability,
        "route": ProviderRoute(provider_id, capability.endpoint, name),
    }


class Scopes:
    """Where a turn stands: one scope for all effects of an iteration."""

    def __init__(self, turn: RuntimeScope) -> None:
        self._turn = self._last = turn

    def at(self, iteration: int) -> RuntimeScope:
        """The scope of an iteration."""
        if self._last.protocol_iteration != iteration:
            self._last = evolve(self._turn, protocol_iteration=iteration)
        return self._last
