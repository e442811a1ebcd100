"""A session's policy, from all who have a say: what is stored, the settings, the caller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import evolve, fields_dict

from lash_framework.arguments import Said
from lash_framework.host import PluginHost
from lash_framework.modes import store_extension
from lash_framework.settings import Settings
from lash_hookspecs.costs import Budget
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import GenerationOptions
from lash_hookspecs.prompts import PromptContribution, PromptLayer, PromptSlot
from lash_hookspecs.sessions import SessionPolicy

__all__ = ["DEFAULT_MODEL", "changed_policy", "policy_with", "said_in_settings"]

DEFAULT_MODEL = "scripted:demo"
"""What answers when nobody chose a model: the offline script, so that a first try needs neither key nor network."""


def said_in_settings(settings: Settings, sources: Mapping[str, str], stored: SessionPolicy | None) -> dict[str, Any]:
    """What the settings say of a session's policy, over what is stored with it: a default says nothing.

    `sources` tells who said what.
    """
    fields = {"model": "model", "mode_id": "mode", "max_turns": "max_turns"}
    said: dict[str, Any] = {
        name: value
        for name, key in fields.items()
        if (value := getattr(settings, key)) is not None
        and (stored is None or sources.get(key, "default") != "default")
    }
    if settings.generation != GenerationOptions():
        generation = settings.generation
        said["generation"] = generation.over(stored.generation) if stored is not None else generation
    if settings.budget != Budget():
        before = None if stored is None else stored.budget
        said["budget"] = settings.budget if before is None else settings.budget.over(before)
    return said


def changed_policy(session_id: str, base: SessionPolicy, changes: Mapping[str, Any]) -> SessionPolicy:
    """The policy with other fields. Raises `ConfigurationError` for unknown ones, and values that can't be."""
    known = fields_dict(SessionPolicy)
    for name in changes:
        if name not in known:
            fields = ", ".join(f"`{each}`" for each in known)
            text = f"session `{session_id}` can't be configured so: there is no `{name}`, but {fields}"
            raise ConfigurationError(text)
    try:
        return evolve(base, **changes)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"session `{session_id}` can't be configured so: {error}") from None


def policy_with(host: PluginHost, base: SessionPolicy, said: Said) -> SessionPolicy:
    """The policy with what a caller says now."""
    try:
        policy = evolve(base, **{name: value for name, value in said.fields.items() if value is not None})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a session can't run so: {error}") from None
    if said.generation is not None:
        policy = evolve(policy, generation=said.generation.over(policy.generation))
    if said.budget is not None:
        policy = evolve(policy, budget=said.budget if policy.budget is None else said.budget.over(policy.budget))
    if said.instructions is not None:
        contribution = PromptContribution(content=said.instructions, slot=PromptSlot.PROJECT_INSTRUCTIONS)
        policy = evolve(policy, prompt=PromptLayer().with_contribution(contribution))
    if said.extension is not None:
        mode = host.composition(policy.mode_id).mode
        policy = evolve(policy, extension=store_extension(mode, "session", said.extension))
    return policy
