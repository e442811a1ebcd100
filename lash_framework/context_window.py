"""A turn and its model's context window: when a call doesn't fit, compact, once, and ask again.

The failed call and the compaction are records of the turn, so a replay goes the same way.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from lash_framework.conversation import Conversation, History
from lash_framework.machine import MessageSequence, TurnMachine
from lash_framework.turn_errors import plugin_failed
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.compaction import Compaction
from lash_hookspecs.context_views import ContextView
from lash_hookspecs.effect_outcomes import CompactOutcome, TurnStartOutcome
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.llm import LlmCallError, LlmResponse, LlmTerminalReason
from lash_hookspecs.messages import Message
from lash_hookspecs.prefix import PrefixChange

__all__ = ["ContextWindow"]

log = logging.getLogger("lash.turn")

_OVERFLOW, _LIMIT = LlmTerminalReason.CONTEXT_OVERFLOW, LlmTerminalReason.OUTPUT_LIMIT

NO_PLUGIN = "go on in a new session, or add a plugin that compacts (hook `lash_compact`)"
NO_SEED = "no plugin made the conversation shorter; go on in a new session, or give a model with a larger window"
AGAIN = "the conversation was compacted in this turn already; say less at once, or give a model with a larger window"


class _Compacts(Protocol):
    history: Conversation | History
    context: ContextView | None
    changes: list[PrefixChange]

    async def compact(self, scope: RuntimeScope, effect_id: str) -> CompactOutcome: ...


class ContextWindow:
    """One turn's view of the window. `compaction` is what the turn's new frame is made of, if it opens one.

    `hook_failed`: one that should have made room.
    """

    def __init__(self, plan: TurnPlan, hooks: _Compacts) -> None:
        self._plan = plan
        self._hooks = hooks
        self.compaction: Compaction | None = None
        self.hook_failed = False

    @property
    def history(self) -> Conversation | History:
        """The conversation before the turn's own messages, as it is from the turn's start, or a compaction, on."""
        return self._plan.conversation if self.compaction is None else self._hooks.history

    def changes(self, said: Iterable[Message]) -> tuple[PrefixChange, ...]:
        """Why the turn's model calls don't all begin alike, or the next turn's won't. `said` is the turn's."""
        from lash_framework.compacting import frame_key
        from lash_framework.prefix_changes import turn_changes

        key, shown = "" if self.compaction is None else frame_key(self._plan.turn_id), self._hooks.context
        before = self.history.messages if shown is not None and shown.pieces is not None else MessageSequence()
        found = turn_changes(said, shown, self.compaction, key, before.position_of, len(before))
        return (*self._hooks.changes, *found)

    def begin(self, begun: TurnStartOutcome) -> None:
        """Take what the turn's start decided."""
        self._note(begun.compaction)

    async def answered(
        self, machine: TurnMachine, id: int, result: LlmResponse | LlmCallError, scope: RuntimeScope
    ) -> LlmResponse | LlmCallError | None:
        """The result of a model call; if it didn't fit and nothing makes room, with what to do about it.

        None: the machine was told to ask again, or that a hook failed. Raises `EffectControllerError`.
        """
        reason, window = result.terminal_reason, self._plan.capability.context_window
        if reason is not _OVERFLOW and reason is not _LIMIT:
            return result  # as nearly always
        from lash_framework.compacting import overflowed, told_of_overflow

        if reason is _LIMIT and not overflowed(result, window):
            return result
        if not self._plan.composition.hooks["lash_compact"]:
            return told_of_overflow(result, window, NO_PLUGIN)
        if self.compaction is not None:
            return told_of_overflow(result, window, AGAIN)
        before = self.history
        made = await self._hooks.compact(scope, str(id))
        if made.hooks.failure is not None:
            self.hook_failed = True
            machine.ask_over(before.messages, machine.events, result.usage)  # what the call has cost counts
            machine.fail_turn(plugin_failed(made.hooks.failure))
            return None
        if made.compaction is None:
            return told_of_overflow(result, window, NO_SEED)
        self._note(made.compaction)
        events = (*self.history.events, *machine.events[len(before.events) :])
        machine.ask_over(self.history.messages, events, result.usage)
        return None

    def _note(self, compaction: Compaction | None) -> None:
        self.compaction = compaction
        if compaction is not None:
            log.info(
                "session `%s`: plugin `%s` compacted %d messages (%s); turn `%s` opens a new frame",
                self._plan.session_id,
                compaction.plugin_id,
                compaction.before,
                compaction.reason,
                self._plan.turn_id,
            )
