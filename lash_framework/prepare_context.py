"""`lash_prepare_context`: what plugins show of the conversation in one turn, asked once, when it begins."""

from __future__ import annotations

from attrs import evolve

from lash_framework.compacting import context_call
from lash_framework.context_views import owned, pieces_of, require_images, require_whole
from lash_framework.conversation import Conversation, History
from lash_framework.hooks import chain
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.context_hooks import ContextHookContext
from lash_hookspecs.context_views import ContextView, OwnedPrompt, PreparedContext
from lash_hookspecs.contexts import binding

__all__ = ["prepare_context"]

HOOK = "lash_prepare_context"


async def prepare_context(plan: TurnPlan, history: Conversation | History) -> ContextView | None:
    """What is shown of the history, as a record; None if that is all of it. Raises `PluginError`."""
    hooks = plan.composition.hooks[HOOK]
    if not hooks:
        return None
    if isinstance(history, Conversation):
        await history.load()
    base = history.messages
    bind = binding(ContextHookContext, plan.states.scopes, await context_call(plan, HOOK, base))
    prepared = PreparedContext(messages=base)
    prompt: tuple[OwnedPrompt, ...] = ()
    by: list[str] = []
    for impl in hooks:
        plugin_id = impl.plugin_id
        after = await chain((impl,), bind, prepared, argname="prepared", expects=PreparedContext)
        if after is prepared or after == prepared:
            continue
        by.append(plugin_id)
        if after.messages is not prepared.messages:
            known = () if prepared.messages is base else prepared.messages
            messages = owned(base, after.messages, plugin_id, HOOK, known=known, transient=True)
            require_whole(messages, plugin_id, HOOK)
            after = evolve(after, messages=messages)
            await require_images(pieces_of(base, messages), plugin_id, HOOK, plan.get_blob)
        kept = tuple(each for each in prompt if each.contribution in after.prompt)
        new = (each for each in after.prompt if each not in prepared.prompt)
        prompt = (*kept, *(OwnedPrompt(plugin_id, each) for each in new))
        prepared = after
    if not by:
        return None
    pieces = None if prepared.messages is base else pieces_of(base, prepared.messages)
    return ContextView(pieces=pieces, prompt=prompt, plugin_ids=tuple(by))
