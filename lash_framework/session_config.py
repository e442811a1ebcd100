"""What plugins make of a session's policy, one after the other, and whose each change of it is."""

from __future__ import annotations

import logging
from collections.abc import Callable

from attrs import evolve

from lash_framework.hooks import Bind, HookImpl, HookIssue, chain
from lash_framework.setting_sources import attribute
from lash_framework.state import PluginStates
from lash_hookspecs.codec import encode
from lash_hookspecs.errors import CodecError, ConfigurationError, PluginError
from lash_hookspecs.prompts import PromptSlot, SlotLayer
from lash_hookspecs.sessions import SessionPolicy

__all__ = ["decided_policy"]

log = logging.getLogger("lash.session")


async def decided_policy(
    impls: tuple[HookImpl, ...],
    bind: Bind,
    states: PluginStates,
    wanted: SessionPolicy,
    check: Callable[[SessionPolicy], None],
    sources: dict[str, str],
) -> SessionPolicy:
    """The policy as the plugins of `lash_session_config` want it; `sources` gets who changed what.

    `check` raises `ConfigurationError` for a policy that can't be: who made it is named in the log, and passed over.
    """
    for impl in impls:
        issues, before = list[HookIssue](), states.mark()
        given = await chain(
            (impl,), bind, wanted, argname="policy", expects=SessionPolicy, on_error="keep", issues=issues
        )
        try:
            states.recorded(before)  # it is stored with the next turn
        except PluginError as error:
            log.warning("%s; the previous policy is kept", error)
            issues.append(HookIssue(plugin_id=error.plugin_id, hook=error.hook, message=str(error)))
        if issues:  # who fails has changed nothing
            states.rollback(before)
            continue
        if given is wanted:
            continue
        given = _signed(wanted, given, impl.plugin_id)
        try:
            check(given)
            encode(given)
        except (ConfigurationError, CodecError) as error:
            log.warning("plugin `%s` made a policy that can't be: %s; its is dropped", impl.plugin_id, error)
            states.rollback(before)
            continue
        attribute(sources, wanted, given, f"plugin {impl.plugin_id}")
        wanted = given
    return wanted


def _signed(before: SessionPolicy, after: SessionPolicy, plugin_id: str) -> SessionPolicy:
    """The policy with the plugin's name on what it says to the model, and on what it keeps from being said.

    What it said before, it doesn't say twice.
    """
    slots: dict[PromptSlot, SlotLayer] = {}
    for slot, said in after.prompt.slots.items():
        known = before.prompt.slots.get(slot, SlotLayer())
        signed = [
            each if each in known.contributions else evolve(each, plugin_id=plugin_id) for each in said.contributions
        ]
        owner = None if not said.reset else known.plugin_id if known.reset else plugin_id
        slots[slot] = evolve(said, contributions=tuple(dict.fromkeys(signed)), plugin_id=owner)
    template = after.prompt.template
    if template is not None and template != before.prompt.template:
        template = evolve(template, plugin_id=plugin_id)
    return evolve(after, prompt=evolve(after.prompt, slots=slots, template=template))
