"""From a request to what its turn depends on: the plan, made before anything runs. Here it shows what can't run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import evolve

from lash_framework.accepted import TurnRequest
from lash_framework.conversation import Conversation
from lash_framework.modes import driver_options, load_extension
from lash_framework.prompt import OwnedLayer
from lash_framework.session_tools import SessionTools
from lash_framework.state import PluginStates
from lash_framework.turn_plan import Queued, TurnPlan, answering
from lash_framework.turn_services import HookServices
from lash_hookspecs.effects import EffectController, RuntimeScope
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.sessions import SessionPolicy

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_framework.lash import Lash
    from lash_framework.resident import Resident
    from lash_framework.tracing import TurnTrace

__all__ = ["check_request", "plan_turn"]


def check_request(session: Resident, request: TurnRequest, policy: SessionPolicy | None = None) -> None:
    """Raise `ConfigurationError` for a request that can't run, with the session's policy if none is given."""
    policy = policy or session.policy
    composition = session.lash.host.composition(policy.mode_id)
    _answering(session.lash, request, policy)
    _options(composition, request, policy)
    if request.turn_input.compact is not None:
        from lash_framework.compacting import require_compactor

        require_compactor(composition)
    composition.check_turn_extension(request.turn_input.mode_extension)


def plan_turn(
    session: Resident,
    request: TurnRequest,
    policy: SessionPolicy,
    conversation: Conversation,
    states: PluginStates,
    controller: EffectController,
    *,
    queued: Queued,
    trace: TurnTrace | None,
) -> TurnPlan:
    """The plan of a turn with this policy, in the composition of the `states`. Raises `ConfigurationError`."""
    lash, composition = session.lash, states.composition
    composition.check_turn_extension(request.turn_input.mode_extension)
    layers = [
        OwnedLayer(lash.layer_source, lash.layer),
        *(OwnedLayer(owner, layer) for owner, layer in composition.prompt_layers),
        OwnedLayer("session", policy.prompt),
        OwnedLayer("turn", request.turn_input.context.prompt),
    ]
    return TurnPlan(
        session_id=session.id,
        turn_id=request.turn_id,
        turn_input=request.turn_input,
        input_hash=request.input_hash,
        images=request.images,
        options=_options(composition, request, policy),
        session_extension=load_extension(composition.mode, "session", policy.extension),
        composition=composition,
        conversation=conversation,
        states=states,
        controller=controller,
        scope=RuntimeScope(session_id=session.id, turn_id=request.turn_id, turn_index=conversation.head.turn_index),
        layers=tuple(layers),
        renderer=lash.renderer(composition),
        tools=SessionTools(composition.catalog, states),
        tool_edits=tuple(session.tool_edits),
        hosts=lambda: lash.host.enter(composition),
        connect=lambda: lash.host.toolsets.connect(composition.catalog.toolsets),
        get_blob=lash.store.get_blob,
        queued=queued,
        now_ms=lash.world.now_ms,
        limits=lash.host.limits,
        keep_partial=lash.settings.durability.partial_text == "keep",
        compact_at=lash.settings.context.compact_at,
        context_tokens=partial(_context_tokens, session, conversation),
        services=HookServices(session),
        trace=trace,
        payer=request.payer,
        **_answering(lash, request, policy),
    )


def _answering(lash: Lash, request: TurnRequest, policy: SessionPolicy) -> Mapping[str, Any]:
    """The plan's fields about the model, with a policy that has it. Raises `ConfigurationError` if it can't answer."""
    chosen = request.turn_input.context.model or policy.model
    fields = answering(lash, chosen)
    if request.wish is not None and fields["capability"].structured_output is False:
        raise ConfigurationError(f"model `{chosen}` doesn't offer structured output; ask without `output=`")
    fields["policy"] = policy if chosen == policy.model else evolve(policy, model=chosen)
    return fields


def _options(composition: Composition, request: TurnRequest, policy: SessionPolicy) -> Any:
    """The driver's options: the mode's, the session's over them, and the turn's over those."""
    more = {**policy.options, **request.turn_input.mode_turn_options.values}
    if not more:
        return composition.driver_options
    return driver_options(composition.mode, {**composition.mode.options, **more})


async def _context_tokens(session: Resident, conversation: Conversation) -> int:
    from lash_framework.session_view import context_tokens  # few turns ask

    return await context_tokens(session, conversation)
