"""What a turn depends on, decided before it starts, and the gate through which it may be cancelled."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import anyio
from attrs import evolve

from lash_framework.assembly import TurnAssembler
from lash_framework.call_limits import CallLimits
from lash_framework.composition import Composition
from lash_framework.history import Conversation
from lash_framework.prompt import OwnedLayer, PromptRenderer
from lash_framework.session_tools import SessionTools
from lash_framework.state import PluginStates
from lash_hookspecs.connected_tools import ToolSetRecord
from lash_hookspecs.effects import EffectController, RuntimeScope
from lash_hookspecs.llm import Provider
from lash_hookspecs.messages import AttachmentRef, Message, ProviderRoute
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy, SessionStateEnvelope, TurnInput
from lash_hookspecs.values import frozen, mutable

if TYPE_CHECKING:
    from lash_framework.budget import Payer
    from lash_framework.direct_calls import DirectCalls
    from lash_framework.tracing import TurnTrace
    from lash_framework.turn_services import HookServices

__all__ = ["DEFAULT_MAX_TURNS", "CancelGate", "Scopes", "TurnPlan", "assemble_for"]

DEFAULT_MAX_TURNS = 100
"""How many iterations a turn may take if neither session nor mode says: enough for long work, an end for a loop."""


@frozen(kw_only=True)
class TurnPlan:
    """All that a turn depends on, decided before it starts.

    `images` are the input's, which are in the store already: nothing that crosses the effect boundary holds bytes.
    `scope` is the turn's, outside of its iterations. `queued` looks into the session's inbox: what users said
    meanwhile, by the item's number. `tool_edits` are what the application said of the session's `tools` since the last
    turn. `keep_partial`: the text of a reply that is cut off is kept. `compact_at` is the part of the model's window
    from which on a conversation is compacted (0: never), `context_tokens` what the last call took of it. `limits` are
    the host's, for tools of which only so many calls run at once. `services` are what its hooks and tools are given.
    `connect` asks the toolsets that connect to something. `trace` tells the trace sinks, if there are any.
    `payer` is there where a turn of another session waits for this one.
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
    queued: Callable[[], Awaitable[Sequence[tuple[int, Message]]]]
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


def assemble_for(
    plan: TurnPlan,
    assembler: TurnAssembler,
    messages: Sequence[Message],
    directs: DirectCalls,
    *,
    cancelled: bool,
) -> AssembledTurn:
    """The turn as it stands; its place in the session is the one before it, until it is committed."""
    head = plan.conversation.head
    for cost in directs.count():
        assembler.fold(cost)
    return assembler.assemble(
        turn_id=plan.turn_id,
        state=SessionStateEnvelope(
            session_id=plan.session_id,
            turn_index=head.turn_index,
            head_revision=head.head_revision,
            leaf_node_id=head.leaf_node_id,
        ),
        mode_id=plan.composition.mode.mode_id,
        messages=messages,
        cancelled=cancelled,
        durable=plan.controller.durable,
        aside=directs.did(),
    )


class Scopes:
    """Where a turn stands: one scope for all effects of an iteration."""

    def __init__(self, turn: RuntimeScope) -> None:
        self._turn = self._last = turn

    def at(self, iteration: int) -> RuntimeScope:
        """The scope of an iteration."""
        if self._last.protocol_iteration != iteration:
            self._last = evolve(self._turn, protocol_iteration=iteration)
        return self._last


@mutable(eq=False)
class CancelGate:
    """Cancel races completion; exactly one wins, and the first request's reason stays.

    While it is `shut`, a request waits: what is recorded belongs to the turn however it ends.
    """

    reason: str | None = None
    sealed: bool = False
    scope: anyio.CancelScope | None = None
    shut: bool = False
    _deadline: float = math.inf

    def request(self, reason: str) -> bool:
        """Ask for the end. False: the turn completed first."""
        if self.sealed:
            return False
        if self.reason is None:
            self.reason = reason
        if self.scope is not None and not self.shut:
            self.scope.cancel()
        return True

    def attach(self, scope: anyio.CancelScope, deadline: float) -> None:
        """The turn runs in this scope, until `deadline` on the event loop's clock."""
        self.scope, self._deadline = scope, deadline
        if not self.shut:
            self.open()

    def detach(self) -> None:
        """The turn has left its scope: completed, asked to end, or out of time."""
        self.scope = None
        if not self.sealed and self.reason is None:
            self.reason = "deadline"

    def open(self) -> None:
        """Let requests and the deadline reach the turn."""
        self.shut = False
        if self.scope is not None:
            self.scope.deadline = self._deadline
            if self.requested:
                self.scope.cancel()

    @property
    def requested(self) -> bool:
        """Whether cancel won, or will."""
        return self.reason is not None
