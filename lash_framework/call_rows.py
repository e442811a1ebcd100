"""Which tool calls a journal's rows are about. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from lash_hookspecs.codec import decode
from lash_hookspecs.effect_commands import RuntimeEffectKind, ToolCallCommand, ToolSeam
from lash_hookspecs.effect_outcomes import ToolCallEffectOutcome, ToolHooksOutcome
from lash_hookspecs.effects import child_key
from lash_hookspecs.errors import CodecError
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.tools import CompletedToolCall, PendingToolCall

__all__ = ["call_of", "descendants", "hooked_call_of", "hooks_key", "pending"]


def pending(command: ToolCallCommand) -> PendingToolCall:
    """The call as it was to be made."""
    call = command.call
    return PendingToolCall(call_id=call.call_id, tool_name=call.tool_name, args=call.args, replay=call.replay)


def call_of(row: JournalRow) -> str | None:
    """The id of the call that a row is about, if it is one and can be read."""
    if row.kind != RuntimeEffectKind.TOOL_CALL:
        return None
    try:
        if row.status is JournalStatus.INTENT:
            return decode(ToolCallCommand, row.body).call.call_id
        return decode(ToolCallEffectOutcome, row.body).launch.result.call_id
    except CodecError:
        return None


def hooked_call_of(row: JournalRow) -> str | None:
    """The id of the call that the hooks were called around of which a row tells."""
    if row.kind != RuntimeEffectKind.TOOL_HOOKS or row.status is not JournalStatus.DONE:
        return None
    try:
        return decode(ToolHooksOutcome, row.body).call_id
    except CodecError:
        return None


def hooks_key(call_key: str, seam: ToolSeam) -> str:
    """The replay key of the hooks around a call, from the call's own."""
    return child_key(call_key, "", seam.value)


def descendants(call: CompletedToolCall) -> Iterator[str]:
    """The ids of the calls within a call."""
    for child in call.children:
        yield child.call_id
        yield from descendants(child)
