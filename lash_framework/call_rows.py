"""Which tool calls a journal's rows are about. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set

from attrs import evolve

from lash_hookspecs.codec import decode
from lash_hookspecs.effect_commands import RuntimeEffectKind, ToolCallCommand, ToolSeam
from lash_hookspecs.effect_outcomes import ToolCallDone, ToolCallEffectOutcome, ToolCallPending, ToolHooksOutcome
from lash_hookspecs.effects import child_key
from lash_hookspecs.errors import CodecError
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.tools import CompletedToolCall, PendingToolCall

__all__ = [
    "call_of",
    "descendants",
    "hooked_call_of",
    "hooks_key",
    "is_withdrawn",
    "keys_within",
    "pending",
    "withdrawn",
]

_WITHDRAWN = "withdrawn"
"""The kind of a row in the place of an intent, which is no effect's."""


def withdrawn(intent: JournalRow) -> JournalRow:
    """The row that says of a call that it was never begun, so that it may be made; it takes its intent's place."""
    return evolve(intent, kind=_WITHDRAWN, body=b"", digests=b"")


def is_withdrawn(row: JournalRow) -> bool:
    """Whether the row is such a one."""
    return row.kind == _WITHDRAWN


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


def keys_within(rows: Mapping[str, JournalRow], calls: Set[str]) -> Iterator[str]:
    """The keys of rows that are about these calls: of the calls, of hooks around them, and of what they waited for."""
    for key, row in rows.items():
        if hooked_call_of(row) in calls:
            yield key
            yield from (each.key for each in decode(ToolHooksOutcome, row.body).questions)
        elif call_of(row) in calls:
            yield key
            attempt = 1
            while (pause := child_key(key, "", f"pause:{attempt}")) in rows:
                yield pause
                attempt += 1
            launch = _launch_of(row)
            if isinstance(launch, ToolCallPending):
                yield launch.key


def _launch_of(row: JournalRow) -> ToolCallDone | ToolCallPending | None:
    return None if row.status is not JournalStatus.DONE else decode(ToolCallEffectOutcome, row.body).launch


def hooks_key(call_key: str, seam: ToolSeam) -> str:
    """The replay key of the hooks around a call, from the call's own."""
    return child_key(call_key, "", seam.value)


def descendants(call: CompletedToolCall) -> Iterator[str]:
    """The ids of the calls within a call."""
    for child in call.children:
        yield child.call_id
        yield from descendants(child)
