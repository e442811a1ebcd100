"""How much the results of one turn may take: it is stored by one commit, which has a budget.

One result has its own limit; many just below it would make a turn that was paid for and can't be committed. So the one
that no longer fits is a failed call, whose text the model can act on.
"""

from __future__ import annotations

import orjson
from attrs import evolve

from lash_hookspecs.tools import (
    CompletedToolCall,
    ModelToolReturn,
    PendingToolCall,
    TextPart,
    ToolCallOutput,
    ToolFailureClass,
    ToolFailureSource,
)

__all__ = ["MAX_TURN_BYTES", "TOO_MUCH", "ResultRoom"]

MAX_TURN_BYTES = 48 * 1024 * 1024
"""Of all results of a turn, each with what the model sees of it. The rest of a commit's budget is for all else."""

TOO_MUCH = "turn_results_too_large"
"""The code of a call whose result no longer fits."""

ALWAYS = 4096
"""What always fits: a failure has to."""

_SMALL = 1024
_NOTHING = None, 0


class ResultRoom:
    """What a turn's results take, by their calls' replay keys: whatever is known of them, live or recorded."""

    def __init__(self) -> None:
        self._taken: dict[str, tuple[CompletedToolCall, int]] = {}
        self._total = 0

    def take(self, key: str, done: CompletedToolCall) -> None:
        """This is the call's result, instead of what it was before."""
        before, taken = self._taken.get(key, _NOTHING)
        if before is not done:
            size = _size(done) + (_within(done) if done.children else 0)
            self._total += size - taken
            self._taken[key] = done, size

    def drop(self, key: str) -> None:
        """The call's result is a part of another one's."""
        self._total -= self._taken.pop(key, _NOTHING)[1]

    def refusal(self, key: str, done: CompletedToolCall) -> ToolCallOutput | None:
        """What the call comes to if its result doesn't fit; None if it does."""
        from lash_framework.tool_calls import failure

        size = _size(done)
        others = self._total - self._taken.get(key, _NOTHING)[1] + (_within(done) if done.children else 0)
        if size <= ALWAYS or others + size <= MAX_TURN_BYTES:
            return None
        text = (
            f"the result of `{done.tool_name}` takes {size:,} bytes, and of the {MAX_TURN_BYTES:,} that the results of "
            f"one turn may take, {max(0, MAX_TURN_BYTES - others):,} are left: ask for less, or answer now and go on "
            "in the next turn"
        )
        return failure(TOO_MUCH, text, ToolFailureClass.EXECUTION, ToolFailureSource.RUNTIME)

    def fitted(self, key: str, done: CompletedToolCall) -> CompletedToolCall:
        """The call, as it is or as failed."""
        from lash_framework.tool_calls import completed

        output = self.refusal(key, done)
        if output is None:
            return done
        call = PendingToolCall(call_id=done.call_id, tool_name=done.tool_name, args=done.args, replay=done.replay)
        return evolve(completed(call, output, done.duration_ms), children=done.children)


def _size(done: CompletedToolCall) -> int:
    """In bytes: the output, and what the model sees. Where nobody made another view, one text is both."""
    from lash_framework.tool_calls import model_return

    outcome, parts = done.output.outcome, done.model_return.parts
    value = getattr(outcome, "value", None)
    if type(value) is str and len(value) <= _SMALL and len(parts) == 1 and parts[0] == TextPart(value):
        return 2 * len(value)  # as most are
    shown = _text_size(done.model_return)
    if isinstance(value, str):
        return shown + _json_size(value)
    # Of other values the plain view is the JSON; only where another was made is it made once more to be measured.
    return shown + _text_size(model_return(done.call_id, done.tool_name, outcome))


def _within(done: CompletedToolCall) -> int:
    """The same of the calls that it made."""
    return sum(_size(each) + _within(each) for each in done.children)


def _text_size(view: ModelToolReturn) -> int:
    return sum(_json_size(part.text) for part in view.parts if isinstance(part, TextPart))


def _json_size(text: str) -> int:
    return len(text) if len(text) <= _SMALL else len(orjson.dumps(text))
