"""Calls of unsafe tools that a crash left unknown, and that wait for a person's word."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from lash_framework.tool_calls import completed, failure
from lash_framework.unfinished import all_items
from lash_hookspecs.codec import MAX_NESTING, decode, encode
from lash_hookspecs.effect_commands import RuntimeEffectKind, ToolCallCommand
from lash_hookspecs.effect_outcomes import ToolCallDone, ToolCallEffectOutcome
from lash_hookspecs.errors import CodecError, ConfigurationError, UnknownName
from lash_hookspecs.inbox import InboxItem, InboxState
from lash_hookspecs.journal import TurnBegun
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.tools import (
    OnUnknown,
    PendingToolCall,
    ToolCallOutput,
    ToolCallSuccess,
    ToolFailureClass,
    ToolFailureSource,
)
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.admission import Journalling

__all__ = ["PendingCall", "pending_calls", "resolve", "waiting_in"]

_CALL = RuntimeEffectKind.TOOL_CALL

_LEFT = frozenset({InboxState.SUSPENDED, InboxState.STUCK, InboxState.BLOCKED})
"""Where a turn with such a call stands; the last two if somebody tried to go on with it, and it couldn't."""


@frozen(kw_only=True)
class PendingCall:
    """A call that may or may not have happened. `key` names it for `resolve`; `item` is its turn's inbox item."""

    key: str
    session_id: str
    turn_id: str
    item: int
    tool_name: str
    call_id: str
    args: Mapping[str, Any]


async def pending_calls(journalling: Journalling) -> Sequence[PendingCall]:
    """All of them, those of turns that run right now apart."""
    return [_shown(*each) for each in await _waiting(journalling)]


async def _waiting(journalling: Journalling) -> list[tuple[InboxItem, JournalRow, ToolCallCommand]]:
    found = []
    async for item in all_items(journalling.store, states=_LEFT):
        rows = await journalling.store.load_journal(item.session_id, item.turn_id or "")
        found += [(item, row, command) for row, command in waiting_in(item, rows)]
    return found


def waiting_in(item: InboxItem, rows: Sequence[JournalRow]) -> list[tuple[JournalRow, ToolCallCommand]]:
    """The calls of an item's journal of which a person must say whether they happened."""
    open_calls = [each for each in rows if (each.status, each.kind) == (JournalStatus.INTENT, _CALL)]
    both = [(row, decode(ToolCallCommand, row.body)) for row in open_calls]
    suspended = item.state is InboxState.SUSPENDED
    return [each for each in both if suspended or each[1].call.on_unknown is OnUnknown.WAIT]


def _shown(item: InboxItem, row: JournalRow, command: ToolCallCommand) -> PendingCall:
    return PendingCall(
        key=row.key,
        session_id=item.session_id,
        turn_id=item.turn_id or "",
        item=item.no,
        tool_name=command.call.tool_name,
        call_id=command.call.call_id,
        args=command.call.args,
    )


async def resolve(
    journalling: Journalling, key: str, *, result: object, error: str | None, happened: bool = True
) -> PendingCall:
    """Record what became of a call, or that it never `happened`: the first answer counts.

    Raises `UnknownName` for a key that nothing waits under, or more than one does, and `SessionBusy` while the turn
    runs or somebody else answers, be it here.
    """
    waiting = await _waiting(journalling)
    found = [each for each in waiting if each[1].key.startswith(key)]
    if len(found) != 1 or not key:
        several = f"it begins {len(found)} keys: type more of it" if found and key else "`lash pending list` lists them"
        raise UnknownName("pending call", key, hint=several)
    ((item, row, command),) = found
    call = PendingToolCall(
        call_id=command.call.call_id,
        tool_name=command.call.tool_name,
        args=command.call.args,
        replay=command.call.replay,
    )
    if not happened:
        text = f"`{call.tool_name}` did not happen: the process ended before it, as a person found out"
        output = failure("did_not_happen", text, ToolFailureClass.UNAVAILABLE, ToolFailureSource.RUNTIME)
    elif error is not None:
        output = failure("resolved_as_failed", error, ToolFailureClass.EXECUTION, ToolFailureSource.RUNTIME)
    else:
        output = ToolCallOutput(ToolCallSuccess(result))
    try:
        body = encode(ToolCallEffectOutcome(ToolCallDone(completed(call, output))), levels=MAX_NESTING)
    except CodecError as fault:
        raise ConfigurationError(f"the result for `{call.tool_name}` has no JSON form: {fault}") from fault
    begun = await journalling.apart().begin(item.session_id, None)
    assert isinstance(begun, TurnBegun)  # nothing was to be accepted
    if begun.lease is None or begun.item is None or begun.item.no != item.no:
        if begun.lease is not None:
            await journalling.let_go(begun.lease)
        raise UnknownName("pending call", key, hint="its turn went on meanwhile; see `lash pending list`")
    try:
        if row not in begun.rows:
            raise UnknownName("pending call", key, hint="it was answered meanwhile; see `lash pending list`")
        resolved = evolve(row, status=JournalStatus.DONE, body=body)
        await journalling.append(begun.lease, item.no, [resolved], ())
    finally:
        # As it was: an answer is no attempt to go on.
        await journalling.park(begun.lease, item.no, item.state, reason=item.reason, fruitless=item.fruitless)
    return _shown(item, row, command)
