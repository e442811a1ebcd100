"""What plugins did about a tool call, by name: a stored call tells who denied it, or changed it."""

from __future__ import annotations

from enum import StrEnum

from lash_hookspecs.values import frozen

__all__ = ["ToolIntervention", "ToolInterventionKind"]


class ToolInterventionKind(StrEnum):
    """What a plugin did."""

    ARGS_REPLACED = "args_replaced"
    ASKED = "asked"
    """It asked a person, who said what `detail` has."""
    DENIED = "denied"
    SHORT_CIRCUITED = "short_circuited"
    """It answered in the tool's place."""
    RESULT_REPLACED = "result_replaced"
    VIEW_CHANGED = "view_changed"
    """It changed what the model sees of the result."""
    FAILED = "failed"
    """Its hook raised, or took part in a conflict, and so the call, or its view, failed."""
    OVERRULED = "overruled"
    """It wanted something else than what was done, which another plugin decided."""


@frozen(kw_only=True)
class ToolIntervention:
    """What a plugin did about a call. `detail`: a denial's code, what a person said, or what it had wanted.

    `by`: who overruled it.
    """

    plugin_id: str
    kind: ToolInterventionKind
    detail: str | None = None
    by: str | None = None
