"""What the plugin is told, and what it remembers. Imported whenever plugins are looked for: light."""

from __future__ import annotations

from typing import Any

from attrs import Attribute, field

from lash_hookspecs.values import frozen

__all__ = ["RollingOptions", "RollingState"]


def _share(instance: object, attribute: Attribute[Any], value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"`{attribute.name}` must be a part from 0 to 1, and is {value}")


def _positive(instance: object, attribute: Attribute[Any], value: int) -> None:
    if value < 1:
        raise ValueError(f"`{attribute.name}` must be at least 1, and is {value}")


@frozen(kw_only=True)
class RollingOptions:
    """From `attachments_at` of the window on, attachments older than the `keep_turns` latest user turns aren't shown.

    A compaction keeps about `keep_tokens` of the latest messages, and has `model` write the summary: the turn's own,
    unless one is named. `notes_of` are plugins whose messages are notes on all that stands before them: they stay as
    they are, and only what none of them tells of is summed up.
    """

    attachments_at: float = field(default=0.6, validator=_share)
    keep_turns: int = field(default=2, validator=_positive)
    keep_tokens: int = field(default=20_000, validator=_positive)
    model: str = ""
    notes_of: tuple[str, ...] = ("memory",)


@frozen(kw_only=True)
class RollingState:
    """The id of the first message whose attachments are shown; empty: all are."""

    shown_from: str = ""
