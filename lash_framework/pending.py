"""Calls that wait for somebody: whose end tools put off, that a person is to allow, or that a crash left unknown."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from attrs import evolve

from lash_framework.arguments import KEY, check_given
from lash_framework.call_rows import hooked_call_of, pending
from lash_framework.cut_calls import cut_row, may_be_cut
from lash_framework.result_room import ResultRoom
from lash_framework.tool_calls import MAX_RESULT_BYTES, completed, failure
from lash_framework.tool_deferrals import answer_row
from lash_framework.tool_questions import question_row
from lash_framework.unfinished import all_items
from lash_hookspecs.codec import MAX_NESTING, decode, encode
from lash_hookspecs.effect_commands import RuntimeEffectKind, ToolCallCommand
from lash_hookspecs.effect_outcomes import ToolCallDone, ToolCallEffectOutcome, ToolCallPending, ToolHooksOutcome
from lash_hookspecs.errors import AlreadyAnswered, CodecError, ConfigurationError, StoreCorrupt, UnknownName
from lash_hookspecs.inbox import InboxItem, InboxState
from lash_hookspecs.journal import TurnBegun
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.questions import PersonQuestion
from lash_hookspecs.tools import (
    CompletedToolCall,
    OnUnknown,
    PendingToolCall,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolFailureClass,
    ToolFailureSource,
)
from lash_hookspecs.values import frozen
from lash_hookspecs.waits import Resolution, ResolvedError, ResolvedOk

if TYPE_CHECKING:
    from lash_framework.admission import Journalling

__all__ = ["PendingCall", "answer", "pending_call", "pending_calls", "resolve", "waiting_in"]

log = logging.getLogger("lash.turn")

_CALL = RuntimeEffectKind.TOOL_CALL

_ANSWERS = (_CALL, RuntimeEffectKind.AWAIT_EVENT)
"""What an answer is recorded as: what became of a call that was unknown, and what somebody was waited for to say."""

FAILED = "resolved_as_failed"
"""The code of a call that somebody says has failed."""

_LEFT = frozenset({InboxState.SUSPENDED, InboxState.STUCK, InboxState.BLOCKED})
"""Where a turn with such a call stands; the last two if somebody tried to go on with it, and it couldn't."""

_BEGUN = _LEFT | {InboxState.CLAIMED}
"""It runs, or its process died: a call whose end was put off waits already then."""


@frozen(kw_only=True)
class PendingCall:
    """A call that waits for an answer. `key` names it for `resolve`; `item` is its turn's inbox item.

    `deferred`: its tool put off its end, until `until_ms` (since 1970) if that is given, and `said` so much meanwhile.
    `question`: a plugin asks a person about it before it is made, `said` is what it asks, and nothing happened yet.
    Else a crash interrupted it, and it may or may not have happened.
    """

    key: str
    session_id: str
    turn_id: str
    item: int
    tool_name: str
    call_id: str
    args: Mapping[str, Any]
    deferred: bool = False
    until_ms: int | None = None
    said: Any = None
    question: PersonQuestion | None = None


What = ToolCallCommand | ToolCallPending | PersonQuestion
Waiting = tuple[JournalRow, What]
"""The record of a call, or of the hooks before it, and what it says."""


async def pending_calls(journalling: Journalling) -> Sequence[PendingCall]:
    """All of them; of turns that run right now, only those whose end was put off."""
    return [_shown(*each) for each in await _waiting(journalling)]


async def pending_call(journalling: Journalling, key: str) -> PendingCall:
    """The one whose key begins so. Raises `UnknownName`."""
    return _shown(*await _named(journalling, key))


async def _waiting(journalling: Journalling) -> list[tuple[InboxItem, JournalRow, What]]:
    found = []
    async for item in all_items(journalling.store, states=_BEGUN):
        rows = await _rows(journalling, item)
        found += [(item, row, command) for row, command in waiting_in(item, rows)]
    return found


async def _rows(journalling: Journalling, item: InboxItem) -> Sequence[JournalRow]:
    """The item's journal; nothing of one that can't be read, so that what others wait for can be answered."""
    try:
        return await journalling.store.load_journal(item.session_id, item.turn_id or "")
    except StoreCorrupt as error:
        log.warning("turn `%s` of session `%s`: %s", item.turn_id, item.session_id, error)
        return ()


def waiting_in(item: InboxItem, rows: Sequence[JournalRow]) -> list[Waiting]:
    """The calls of an item's journal that wait for an answer: to be allowed or completed, or whether they happened."""
    answered = {row.key for row in rows}
    found: list[Waiting] = []
    for row in rows:
        if row.kind == RuntimeEffectKind.TOOL_HOOKS:
            found += [(row, each) for each in _questions(row) if each.key not in answered]
        elif row.kind != _CALL:
            continue
        elif row.status is JournalStatus.DONE:
            try:
                launch = decode(ToolCallEffectOutcome, row.body).launch
            except CodecError:
                continue  # which is told to who goes on with the turn
            if isinstance(launch, ToolCallPending) and launch.key not in answered:
                found.append((row, launch))
        elif row.status is JournalStatus.INTENT and item.state is not InboxState.CLAIMED:
            try:
                command = decode(ToolCallCommand, row.body)
            except CodecError:
                continue  # which is told to who goes on with the turn
            if item.state is InboxState.SUSPENDED or command.call.on_unknown is OnUnknown.WAIT:
                found.append((row, command))
    return found


def _questions(row: JournalRow) -> Sequence[PersonQuestion]:
    """What hooks asked people about a call."""
    if row.status is not JournalStatus.DONE:
        return ()
    try:
        return decode(ToolHooksOutcome, row.body).questions
    except CodecError:
        return ()  # which is told to who goes on with the turn


def _shown(item: InboxItem, row: JournalRow, what: What) -> PendingCall:
    shown = partial(PendingCall, session_id=item.session_id, turn_id=item.turn_id or "", item=item.no)
    match what:
        case PersonQuestion():
            return shown(
                key=what.key,
                tool_name=what.tool_name,
                call_id=hooked_call_of(row) or "",
                args=what.args,
                until_ms=what.until_ms,
                said=what.question,
                question=what,
            )
        case ToolCallPending(result=call):
            outcome = call.output.outcome
            return shown(
                key=what.key,
                tool_name=call.tool_name,
                call_id=call.call_id,
                args=call.args,
                deferred=True,
                until_ms=what.until_ms,
                said=outcome.value if isinstance(outcome, ToolCallSuccess) else None,
            )
        case ToolCallCommand(call=asked):
            return shown(key=row.key, tool_name=asked.tool_name, call_id=asked.call_id, args=asked.args)


async def resolve(
    journalling: Journalling, key: str, *, result: object, error: str | None, happened: bool = True, wait: bool = False
) -> PendingCall:
    """Record the answer to a call: its result, why it failed, or that it never `happened`. The first answer counts.

    Raises `UnknownName` for a key that nothing waits under, or more than one does (`AlreadyAnswered`, which is one, if
    it has its answer and its turn waits to go on), `ConfigurationError` for an answer that is too large, and
    `SessionBusy` while the turn runs or somebody else answers, be it here; with `wait`, that is waited for.
    """
    item, row, what = await _named(journalling, key)
    shown = _shown(item, row, what)
    became: CompletedToolCall | None = None
    if isinstance(what, PersonQuestion):
        text = f"`{shown.tool_name}` waits for a person to allow it: answer with {_choices(what)}, as in "
        raise ConfigurationError(f"{text}`lash pending answer {shown.key[:12]} {what.choices[0].choice_id}`")
    try:
        _require_small(shown.tool_name, result if error is None else error)
        if isinstance(what, ToolCallPending):
            said = _resolution(shown, result, error, happened)
            answer = answer_row(item.session_id, shown.turn_id, row, what, said)
        else:
            became = _what_became(pending(what), result, error, happened)
            outcome = ToolCallEffectOutcome(ToolCallDone(became))
            answer = evolve(row, status=JournalStatus.DONE, body=encode(outcome, levels=MAX_NESTING))
    except CodecError as fault:
        raise ConfigurationError(f"the result for `{shown.tool_name}` has no JSON form: {fault}") from fault
    await _record(journalling, item, row, what, answer, became, key, wait)
    return shown


async def answer(journalling: Journalling, key: str, choice: str, note: str, *, wait: bool = False) -> PendingCall:
    """Record what a person says to a plugin's question about a call. The first answer counts.

    Raises `UnknownName` for a key that nothing waits under, or more than one does (`AlreadyAnswered`, which is one, if
    it has its answer and its turn waits to go on), `ConfigurationError` for one that waits for something else, a choice
    that there isn't and an answer after its time, also if the time ends while this waits, and `SessionBusy` while the
    turn runs, or waits for it.
    """
    item, row, what = await _named(journalling, key)
    shown = _shown(item, row, what)
    if not isinstance(what, PersonQuestion):
        text = f"`{shown.tool_name}` waits for no such answer: `lash pending resolve {shown.key[:12]}` completes it"
        raise ConfigurationError(text)
    if what.choice(choice) is None:
        raise ConfigurationError(f"`{choice}` is no answer to plugin `{what.plugin_id}`: it takes {_choices(what)}")
    _require_in_time(journalling, item, what)
    _require_small(shown.tool_name, note)
    said = question_row(item.session_id, shown.turn_id, what, choice, note)
    await _record(journalling, item, row, what, said, None, key, wait)
    return shown


def _require_in_time(journalling: Journalling, item: InboxItem, what: What) -> None:
    if isinstance(what, PersonQuestion) and what.until_ms is not None and journalling.now_ms() >= what.until_ms:
        text = f"it is too late to answer: `lash resume {item.session_id}` goes on, and the call is denied"
        raise ConfigurationError(text)


def _choices(question: PersonQuestion) -> str:
    return ", ".join(f"`{each.choice_id}`" for each in question.choices)


async def _named(journalling: Journalling, key: str) -> tuple[InboxItem, JournalRow, What]:
    """What waits under the only key that begins so."""
    check_given("the pending call's key", key, KEY)
    found = [each for each in await _waiting(journalling) if _shown(*each).key.startswith(key)]
    if len(found) == 1 and key:
        return found[0]
    if key and not found and (item := await _answered(journalling, key)) is not None:
        raise AlreadyAnswered(key, f"`lash resume {item.session_id}` goes on with its turn")
    several = f"it begins {len(found)} keys: type more of it" if found and key else "`lash pending list` lists them"
    raise UnknownName("pending call", key, hint=several)


async def _answered(journalling: Journalling, key: str) -> InboxItem | None:
    """The turn, not yet gone on with, in which an answer is recorded under a key that begins so."""
    async for item in all_items(journalling.store, states=_BEGUN):
        for row in await _rows(journalling, item):
            if row.kind in _ANSWERS and row.status is JournalStatus.DONE and row.key.startswith(key):
                return item
    return None


async def _record(
    journalling: Journalling,
    item: InboxItem,
    row: JournalRow,
    what: What,
    answer: JournalRow,
    became: CompletedToolCall | None,
    key: str,
    wait: bool,
) -> None:
    """Write the answer to what is in `row`, unless the turn went on or somebody was faster."""
    begun = await journalling.apart().begin(item.session_id, None, wait=wait)
    assert isinstance(begun, TurnBegun)  # nothing was to be accepted
    lease = begun.lease
    if lease is None or begun.item is None or begun.item.no != item.no:
        if lease is not None:
            await journalling.let_go(lease)
        raise UnknownName("pending call", key, hint="its turn went on meanwhile; see `lash pending list`")
    if begun.displaced is not None and may_be_cut(begun.rows, died=True) and not may_be_cut(begun.rows, died=False):
        await journalling.note(lease, item.no, [cut_row(len(begun.rows))])  # we were told of the death, nobody else is
    try:
        is_answered = answer.key != row.key and any(each.key == answer.key for each in begun.rows)
        if is_answered or row not in begun.rows:
            raise AlreadyAnswered(key, f"`lash resume {item.session_id}` goes on with its turn")
        _require_in_time(journalling, item, what)  # it may have been waited for the session
        if became is not None:
            _require_room(begun.rows, row, became)
        await journalling.append(lease, item.no, [answer], ())
    finally:
        # As it was: an answer is no attempt to go on.
        state = InboxState.SUSPENDED if item.state is InboxState.CLAIMED else item.state
        await journalling.park(lease, item.no, state, reason=item.reason, fruitless=item.fruitless)


def _require_small(tool_name: str, said: object) -> None:
    """Raise `ConfigurationError` for what is more than a tool could return, `CodecError` for what has no JSON form."""
    size = len(encode(said, levels=MAX_NESTING))
    if size > MAX_RESULT_BYTES:
        text = f"the result for `{tool_name}` has {size:,} bytes, and may have {MAX_RESULT_BYTES:,}: give a part of it"
        raise ConfigurationError(text)


def _require_room(rows: Sequence[JournalRow], row: JournalRow, done: CompletedToolCall) -> None:
    """Raise `ConfigurationError` if the turn couldn't be committed with this result beside those that it has."""
    room = ResultRoom()
    for each in rows:
        if each.kind == _CALL and each.status is JournalStatus.DONE and each.key != row.key:
            try:
                known = decode(ToolCallEffectOutcome, each.body).launch.result
            except CodecError:
                continue  # which is told to who goes on with the turn
            room.take(each.key, evolve(known, children=()))  # which have rows of their own
    refused = room.refusal(row.key, done)
    if refused is not None and isinstance(refused.outcome, ToolCallFailure):
        raise ConfigurationError(refused.outcome.message)


def _what_became(call: PendingToolCall, result: object, error: str | None, happened: bool) -> CompletedToolCall:
    """A call of which nobody knew, as a person found it."""
    if not happened:
        text = f"`{call.tool_name}` did not happen: the process ended before it, as a person found out"
        return completed(call, failure("did_not_happen", text, ToolFailureClass.UNAVAILABLE, ToolFailureSource.RUNTIME))
    if error is not None:
        return completed(call, failure(FAILED, error, ToolFailureClass.EXECUTION, ToolFailureSource.RUNTIME))
    return completed(call, ToolCallOutput(ToolCallSuccess(result)))


def _resolution(call: PendingCall, result: object, error: str | None, happened: bool) -> Resolution:
    if not happened:
        text = f"`{call.tool_name}` has happened, and waits to be completed: give its result, or say why it failed"
        raise ConfigurationError(text)
    return ResolvedOk(result) if error is None else ResolvedError(FAILED, error)
