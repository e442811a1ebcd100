"""Who put what into a composition: the rows behind `lash modes show` and `lash explain`."""

from __future__ import annotations

from typing import Literal

from lash_hookspecs.values import frozen

__all__ = ["APPLICATION", "NOT_TAKEN", "OWN", "SETTINGS", "TOML", "Provenance", "ProvenanceKind"]

APPLICATION = "application"
"""Stands where a plugin's id would, for what the application passed."""

TOML = "lash.toml"
"""The same for what is from the settings file."""

SETTINGS = "the settings"
"""The same for what is from the environment or the command line."""

NOT_TAKEN = "not taken"
"""What the detail of a piece begins with that doesn't count, since the mode says something else."""

OWN = frozenset({APPLICATION, TOML, SETTINGS})
"""Those who use lash, and not the plugins that they use: what these say is stronger."""

ProvenanceKind = Literal[
    "mode",
    "driver",
    "max_turns",
    "generation",
    "option",
    "plugin_option",
    "prompt",
    "turn_extension",
    "session_extension",
    "plugin",
    "without",
    "tool",
    "toolset",
    "hide",
    "annotate",
]


@frozen
class Provenance:
    """One piece of a composition and who put it there: a plugin, `lash.toml`, or the application."""

    kind: ProvenanceKind
    name: str
    plugin_id: str
    detail: str = ""
