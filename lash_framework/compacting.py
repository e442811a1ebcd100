"""`lash_compact`: when it is asked, and what becomes of its answer: a new frame, which the turn's commit opens."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from lash_framework.composition import Composition
from lash_framework.context_views import count_of, owned, pieces_of, require_images, require_whole, shown
from lash_framework.conversation import Conversation, History
from lash_framework.hooks import first
from lash_framework.machine import MessageSequence
from lash_framework.machine.answers import refine_reason
from lash_framework.new_nodes import Frame
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.codec import encode
from lash_hookspecs.compaction import Compacted, Compaction, CompactReason, FrameSeed
from lash_hookspecs.context_hooks import CompactHookContext, ContextCall
from lash_hookspecs.contexts import binding
from lash_hookspecs.errors import CodecError, ConfigurationError, EffectControllerError, PluginError, TurnCancelled
from lash_hookspecs.llm import LlmCallError, LlmResponse, LlmTerminalReason
from lash_hookspecs.sessions import AssembledTurn

__all__ = [
    "compact",
    "compact_at_start",
    "compacted",
    "context_call",
    "frame_key",
    "new_frame",
    "opened",
    "overflowed",
    "require_compactor",
    "told_of_overflow",
]

HOOK = "lash_compact"


def require_compactor(composition: Composition) -> None:
    """Raise `ConfigurationError` if nobody there could do what is asked."""
    if not composition.hooks[HOOK]:
        text = f"mode `{composition.mode.mode_id}` has no plugin that compacts: add one with the hook `{HOOK}`"
        raise ConfigurationError(text)


async def context_call(plan: TurnPlan, hook: str, messages: MessageSequence, **more: Any) -> ContextCall:
    """What the hooks about the conversation's size are told."""
    return ContextCall(
        session_id=plan.session_id,
        mode_id=plan.composition.mode.mode_id,
        policy=plan.policy,
        turn_index=plan.conversation.head.turn_index,
        turn_id=plan.turn_id,
        turn_input=plan.turn_input,
        moment=lambda: (0, messages),
        tools=lambda: plan.tools.manifests,
        owners=lambda: plan.tools.catalog.owners,
        edit_tools=plan.tools.edit,
        context_window=plan.capability.context_window,
        context_tokens=await plan.context_tokens(),
        hook=hook,
        services=plan.services,
        **more,
    )


async def compact_at_start(plan: TurnPlan) -> Compaction | None:
    """Compact before a turn that was asked to, or whose model's window is nearly full. Raises `PluginError`.

    And `ConfigurationError` if it was asked to, and the plugin that could is gone since.
    """
    asked = plan.turn_input.compact
    if asked is not None:
        require_compactor(plan.composition)
        return await compact(plan, CompactReason.REQUESTED, asked.instructions)
    return await compact(plan, CompactReason.THRESHOLD) if await _is_due(plan) else None


async def _is_due(plan: TurnPlan) -> bool:
    window = plan.capability.context_window
    if not plan.composition.hooks[HOOK] or not window or not plan.compact_at:
        return False
    return await plan.context_tokens() >= plan.compact_at * window


async def compact(plan: TurnPlan, why: CompactReason, instructions: str = "") -> Compaction | None:
    """Ask the plugins for what the next frame begins with; None if there is nothing to compact, or nobody who would.

    What is compacted is all before this turn. Raises `PluginError`.
    """
    hooks = plan.composition.hooks[HOOK]
    await plan.conversation.load()
    base = plan.conversation.messages
    if not hooks or not len(base):
        return None
    call = await context_call(plan, HOOK, base, why=why, instructions=instructions)
    found = await first(hooks, binding(CompactHookContext, plan.states.scopes, call), expects=FrameSeed)
    if found is None:
        return None
    plugin_id, seed = found
    messages = owned(base, seed.messages, plugin_id, HOOK, transient=False)
    require_whole(messages, plugin_id, HOOK)
    try:
        encode(seed)
    except CodecError as error:
        raise PluginError(plugin_id, HOOK, f"its seed can't be recorded: {error}") from error
    pieces = pieces_of(base, messages)
    await require_images(pieces, plugin_id, HOOK, plan.get_blob)
    return Compaction(plugin_id=plugin_id, reason=why, before=len(base), pieces=pieces, events=seed.events)


# ---- what follows from it -------------------------------------------------------------------------------------------


def opened(conversation: Conversation, compaction: Compaction) -> History:
    """What the turn goes on with, in place of the conversation before it."""
    return History(shown(conversation.messages, compaction.pieces), compaction.events)


def frame_key(turn_id: str) -> str:
    """The key of the frame that a turn opens: at most one."""
    return f"compaction:{turn_id}"


def new_frame(turn_id: str, compaction: Compaction, history: Conversation | History) -> Frame:
    """The frame that the turn's commit opens."""
    key = frame_key(turn_id)
    body = encode(
        Compacted(
            plugin_id=compaction.plugin_id,
            reason=compaction.reason,
            before=compaction.before,
            after=count_of(compaction.pieces),
            frame_key=key,
        )
    )
    return Frame(key=key, body=body, messages=history.messages, events=history.events)


def compacted(turn: AssembledTurn) -> Compacted | None:
    """What a turn that only compacts came to. Raises what kept it from doing so."""
    if turn.is_success:
        return turn.compaction
    failed = next((each for each in turn.errors if each.blocking), None)
    if failed is None:
        raise TurnCancelled(f"the compaction (turn `{turn.turn_id}`) was stopped; the conversation is as it was")
    if failed.plugin_id is not None:
        told = failed.message.removeprefix(f"plugin `{failed.plugin_id}`, hook `{failed.code}`: ")
        raise PluginError(failed.plugin_id, failed.code or HOOK, told)
    raise EffectControllerError(failed.code or "compaction", failed.message)


# ---- overflow -------------------------------------------------------------------------------------------------------


def overflowed(result: LlmResponse | LlmCallError, window: int | None) -> bool:
    """Whether a model call came to nothing because it didn't fit the model's context window."""
    known = result if isinstance(result, LlmCallError) else refine_reason(result, window)
    return known.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW


def told_of_overflow(
    result: LlmResponse | LlmCallError, window: int | None, next_step: str
) -> LlmResponse | LlmCallError:
    """The failure with what to do about it."""
    if isinstance(result, LlmCallError):
        return evolve(result, message=f"{result.message}; {next_step}")
    result = refine_reason(result, window)
    said = result.terminal_diagnostic
    return evolve(result, terminal_diagnostic=f"{said}; {next_step}" if said else next_step)
