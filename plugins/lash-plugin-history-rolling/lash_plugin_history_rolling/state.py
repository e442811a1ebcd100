"""What the plugin is told, and what it remembers. Imported whenever plugins are looked for: light."""

from __future__ import annotations

from attrs import field

from lash_hookspecs.option_checks import at_least, between
from lash_hookspecs.values import frozen

__all__ = ["RollingOptions", "RollingState"]


@frozen(kw_only=True)
class RollingOptions:
    """From `attachments_at` of the window on, attachments older than the `keep_turns` latest user turns aren't shown.

    A compaction keeps about `keep_tokens` of the latest messages, and has `model` write the summary: the turn's own,
    unless one is named. `notes_of` are plugins whose messages are notes on all that stands before them: they stay as
    they are, and only what none of them tells of is summed up.
    """

    attachments_at: float = field(default=0.6, validator=between(0, 1))
    keep_turns: int = field(default=2, validator=at_least(1))
    keep_tokens: int = field(default=20_000, validator=at_least(1))
    model: str = ""
    notes_of: tuple[str, ...] = ("memory",)


@frozen(kw_only=True)
class RollingState:
    """The id of the first message whose attachments are shown; empty: all are."""

    shown_from: str = ""
