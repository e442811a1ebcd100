"""Checkpoints: the points between steps where plugins may add to a turn."""

from __future__ import annotations

from enum import StrEnum

from lash_hookspecs.messages import Message, PluginMessage, TurnCause
from lash_hookspecs.values import frozen

__all__ = ["CheckpointDelivery", "CheckpointKind"]


class CheckpointKind(StrEnum):
    """Which point it is.

    `AFTER_WORK`: tools or code ran, and the next model call follows. `BEFORE_COMPLETION`: the answer is about to be
    final.
    """

    AFTER_WORK = "after_work"
    BEFORE_COMPLETION = "before_completion"


@frozen(kw_only=True)
class CheckpointDelivery:
    """What a checkpoint adds: what users said meanwhile, messages that stay, messages for this turn only, and news.

    `inputs` are finished messages of users, from the session's inbox.
    """

    inputs: tuple[Message, ...] = ()
    messages: tuple[PluginMessage, ...] = ()
    transient_messages: tuple[PluginMessage, ...] = ()
    turn_causes: tuple[TurnCause, ...] = ()
