"""Checkpoints: the points between steps where plugins may add to a turn."""

from __future__ import annotations

import re
from enum import StrEnum

from lash_hookspecs.messages import Message, PluginMessage, TurnCause
from lash_hookspecs.values import frozen

__all__ = ["CheckpointDelivery", "CheckpointKind"]


# Whose kind it is, and its name: two modes never mean different points by one kind.
_OWN = re.compile(r"[a-z0-9][a-z0-9_-]*:[a-z0-9][a-z0-9_-]*")


class CheckpointKind(StrEnum):
    """Which point it is.

    `AFTER_WORK`: tools or code ran, and the next model call follows. `BEFORE_COMPLETION`: the answer is about to be
    final. A mode may have points of its own, which its driver declares (`ModeDriver.checkpoints`):
    `CheckpointKind("MODE:NAME")`, the same object for the same name. Any other text is a `ValueError`.
    """

    AFTER_WORK = "after_work"
    BEFORE_COMPLETION = "before_completion"

    @classmethod
    def _missing_(cls, value: object) -> CheckpointKind | None:
        if not isinstance(value, str) or not _OWN.fullmatch(value):
            return None
        kind = str.__new__(cls, value)
        kind._name_ = kind._value_ = value
        return cls._value2member_map_.setdefault(value, kind)  # type: ignore[return-value]  # the map is of plain enums

    @property
    def is_own(self) -> bool:
        """Whether it is a point of a mode's own."""
        return ":" in self


@frozen(kw_only=True)
class CheckpointDelivery:
    """What a checkpoint adds: what users said meanwhile, messages that stay, messages for this turn only, and news.

    `inputs` are finished messages of users, from the session's inbox.
    """

    inputs: tuple[Message, ...] = ()
    messages: tuple[PluginMessage, ...] = ()
    transient_messages: tuple[PluginMessage, ...] = ()
    turn_causes: tuple[TurnCause, ...] = ()
