"""Where each setting of a session, and of one turn of it, came from.

A policy passes through several hands: what is stored, settings, the application, plugins. Whoever changes a value is
its source from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lash_framework.provenance import NOT_TAKEN, Provenance
from lash_hookspecs.codec import unstructure
from lash_hookspecs.costs import Budget
from lash_hookspecs.llm import GenerationOptions
from lash_hookspecs.modes import Mode
from lash_hookspecs.sessions import SessionPolicy, TurnInput

__all__ = ["ACCEPTED", "STORED", "Sourced", "attribute", "attribute_opened", "effective_settings", "policy_settings"]

STORED = "stored with the session"
ACCEPTED = "accepted with the turn"

_NOTHING_SAID = GenerationOptions()

Sourced = tuple[str, str, str]
"""Key, value as text, source."""


def policy_settings(policy: SessionPolicy) -> dict[str, Any]:
    """A policy's settings by key, those that are set."""
    named = {
        "model": policy.model,
        "mode": policy.mode_id,
        "max_turns": policy.max_turns,
        "model_variant": policy.model_variant,
        "autonomous": policy.autonomous or None,
        "extension": policy.extension,
        **_generation(policy.generation),
        **_fields("budget", policy.budget),
        **{f"options.{key}": value for key, value in policy.options.items()},
    }
    return {key: value for key, value in named.items() if value is not None}


def _generation(options: GenerationOptions) -> dict[str, Any]:
    return {} if options == _NOTHING_SAID else _fields("generation", options)


def _fields(name: str, value: GenerationOptions | Budget | None) -> dict[str, Any]:
    return {} if value is None else {f"{name}.{key}": each for key, each in unstructure(value).items()}


def attribute(sources: dict[str, str], before: SessionPolicy | None, after: SessionPolicy, source: str) -> None:
    """Note `source` for every setting that it changed."""
    old = policy_settings(before) if before is not None else {}
    new = policy_settings(after)
    for key, value in new.items():
        if old.get(key) != value:
            sources[key] = source
    for key in old.keys() - new.keys():
        sources.pop(key, None)


def attribute_opened(
    sources: dict[str, str],
    stored: SessionPolicy | None,
    settled: SessionPolicy,
    policy: SessionPolicy,
    told: Mapping[str, str],
    caller: str,
) -> None:
    """Note the sources of a session that is opened: what is stored, under settings, under what the caller says.

    `told` has the sources of the settings.
    """
    before = {} if stored is None else policy_settings(stored)
    sources |= dict.fromkeys(before, STORED)
    for key, value in policy_settings(settled).items():
        if key not in before or before[key] != value:
            sources[key] = told.get(key, "default")
    attribute(sources, settled, policy, caller)


_MODE_KEYS = {"max_turns": "max_turns", "generation": "generation.{}", "option": "options.{}"}


def _mode_sources(provenance: Iterable[Provenance]) -> dict[str, str]:
    """By key, which of the modes that a mode extends says it, or whose extension of it."""
    return {
        _MODE_KEYS[row.kind].format(row.name): f"{row.detail.partition(':')[0].replace('`', '')} ({row.plugin_id})"
        for row in provenance
        if row.kind in _MODE_KEYS and not row.detail.startswith(NOT_TAKEN)
    }


def effective_settings(
    mode: Mode,
    provenance: Iterable[Provenance],
    policy: SessionPolicy,
    sources: Mapping[str, str],
    turn_input: TurnInput,
) -> tuple[Sourced, ...]:
    """What was in force for a turn: the mode's settings, the session's over them, the turn's over both.

    `provenance` says who set what in the mode.
    """
    context, by_mode = turn_input.context, _mode_sources(provenance)
    mode_settings = {
        "max_turns": mode.max_turns,
        **_generation(mode.generation),
        **{f"options.{key}": value for key, value in mode.options.items()},
    }
    turn_settings = {
        "model": context.model,
        "model_variant": context.model_variant,
        **_generation(context.generation),
        **{f"options.{key}": value for key, value in turn_input.mode_turn_options.values.items()},
    }
    shown: dict[str, tuple[Any, str]] = {}
    for settings, told in ((mode_settings, by_mode), (policy_settings(policy), sources)):
        for key, value in settings.items():
            if value is not None:
                shown[key] = value, told.get(key, "default")
    for key, value in turn_settings.items():
        if value is not None:
            shown[key] = value, "the turn's input"
    return tuple((key, str(value), source) for key, (value, source) in sorted(shown.items()))
