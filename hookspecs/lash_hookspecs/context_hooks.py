"""What the hooks about a conversation's size are told: `lash_prepare_context` and `lash_compact`."""

from __future__ import annotations

from lash_hookspecs.compaction import CompactReason
from lash_hookspecs.contexts import TurnCall, TurnHookContext
from lash_hookspecs.values import mutable

__all__ = ["CompactHookContext", "ContextCall", "ContextHookContext"]


@mutable(kw_only=True, eq=False)
class ContextCall(TurnCall):
    """What such a call is about. `why` is set for a compaction."""

    context_window: int | None = None
    context_tokens: int = 0
    why: CompactReason = CompactReason.REQUESTED
    instructions: str = ""


class ContextHookContext(TurnHookContext):
    """For `lash_prepare_context`. `messages` is the conversation before this turn."""

    __slots__ = ()
    _call: ContextCall

    @property
    def context_window(self) -> int | None:
        """How many tokens the model takes, as its provider says; None if it doesn't."""
        return self._call.context_window

    @property
    def context_tokens(self) -> int:
        """The tokens of the session's last model call, prompt and answer; 0 if none is known."""
        return self._call.context_tokens


class CompactHookContext(ContextHookContext):
    """For `lash_compact`. `messages` is what is to be compacted: all before this turn, in the current frame."""

    __slots__ = ()

    @property
    def why(self) -> CompactReason:
        """Why it is compacted."""
        return self._call.why

    @property
    def instructions(self) -> str:
        """What the caller of `Session.compact` said about it."""
        return self._call.instructions
