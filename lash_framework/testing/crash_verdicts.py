"""What is right after a crash: pure functions of what the victim did, what it left, and how its turn ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import evolve

from lash_framework.call_rows import is_withdrawn
from lash_framework.recovery import RecoveredTurn
from lash_framework.silences import short, silent_keys
from lash_framework.testing.crash_points import CrashPoint, Started
from lash_hookspecs.codec import encode
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.inbox import InboxItem
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.messages import Message
from lash_hookspecs.sessions import AssembledTurn
from lash_hookspecs.stores import OperationId
from lash_hookspecs.tools import ToolCallFailure, ToolEffect
from lash_hookspecs.values import frozen

__all__ = ["Blur", "Ending", "judge"]

_DIRECT = RuntimeEffectKind.DIRECT.value

Blur = Callable[[str], str]
Claims = Iterator[tuple[str, object, object]]


@frozen(kw_only=True)
class Ending:
    """What a process found (`rows`, `was_accepted`, `was_committed`), executed (`started`), and made of the turn."""

    turn: AssembledTurn
    rows: tuple[JournalRow, ...]
    was_accepted: bool
    was_committed: bool
    started: tuple[Started, ...]
    recovered: tuple[RecoveredTurn, ...]
    messages: tuple[Message, ...]
    components: Mapping[str, str]
    session_usage: TokenUsage
    receipts: tuple[OperationId, ...]
    inbox: tuple[InboxItem, ...]

    @property
    def left_unknown(self) -> tuple[JournalRow, ...]:
        """The intents without an outcome; those of direct calls, which may be made again, apart."""
        intents = [row for row in self.rows if row.status is JournalStatus.INTENT and not is_withdrawn(row)]
        return tuple(row for row in intents if row.kind != _DIRECT)


def judge(point: CrashPoint, golden: Ending, ending: Ending, victim: Sequence[Started], blur: Blur = str) -> None:
    """Raise `AssertionError` for the first thing that isn't as it must be after a crash at `point`.

    `blur` takes out of a text what differs from run to run.
    """
    for what, expected, actual in _claims(golden, ending, victim, blur):
        if expected != actual:
            raise AssertionError(f"killed {point}: {what}: expected {expected!r}, got {actual!r}")


def _claims(golden: Ending, ending: Ending, victim: Sequence[Started], blur: Blur) -> Claims:
    turn_id = golden.turn.turn_id
    victim = [each for each in victim if each.turn_id == turn_id]
    ending = evolve(ending, started=tuple(each for each in ending.started if each.turn_id == turn_id))
    yield "commits of the turn", 1, ending.receipts.count(OperationId("turn", turn_id))
    yield "inputs left in the inbox", (), tuple(item.no for item in ending.inbox)
    yield "`turn.durable`", True, ending.turn.durable
    yield from _executions(golden, ending, victim)
    yield from _unknown_calls(ending)
    if not ending.left_unknown:
        yield from _same(golden, ending, blur)
    yield from _usage(golden, ending, victim)


def _executions(golden: Ending, ending: Ending, victim: Sequence[Started]) -> Claims:
    """How often each effect was executed, by its key."""
    before, after = Counter(each.key for each in victim), Counter(each.key for each in ending.started)
    labels = {each.key: each for each in (*victim, *ending.started)}
    again = {row.key for row in ending.rows if (row.kind, row.status) == (_DIRECT, JournalStatus.INTENT)}
    status = {row.key: row.status for row in ending.rows if row.key not in again}
    silent = silent_keys(ending.rows)
    for key, started in labels.items():
        what = f"executions of {started.label}"
        if started.effect is ToolEffect.UNSAFE and before[key] + after[key] > 1:
            yield f"{what}, which is unsafe", 1, before[key] + after[key]
        if before[key] > 1 or after[key] > 1:
            yield f"{what} by one process", 1, max(before[key], after[key])
        if ending.was_committed:
            yield f"{what} after the commit", 0, after[key]
        elif status.get(key) is JournalStatus.INTENT:
            yield f"{what}, of which only the intent is recorded", 0, after[key]
        elif key in status or short(key) in silent:
            yield f"{what}, whose outcome is recorded", 0, after[key]
        elif not ending.left_unknown:
            yield f"{what}, whose outcome isn't recorded", 1, after[key]


def _unknown_calls(ending: Ending) -> Claims:
    told = {each.call_id for each in ending.turn.tool_calls if _is_unknown(each.output.outcome)}
    left = sum(row.kind == RuntimeEffectKind.TOOL_CALL for row in ending.left_unknown)
    yield "calls that the model was told nobody knows of", left, len(told)


def _is_unknown(outcome: object) -> bool:
    return isinstance(outcome, ToolCallFailure) and outcome.code in ("unknown_after_crash", "resolved_as_failed")


def _same(golden: Ending, ending: Ending, blur: Blur) -> Claims:
    """Where nothing was uncertain, the turn is the golden one."""
    yield "the answer", blur(golden.turn.text), blur(ending.turn.text)
    yield "the outcome", golden.turn.outcome, ending.turn.outcome
    yield "the tool calls", _calls(golden.turn, blur), _calls(ending.turn, blur)
    yield from _conversation(golden, ending, blur)
    yield "what plugins remember", dict(golden.components), dict(ending.components)
    yield "the number of the session's commits", len(golden.receipts), len(ending.receipts)


def _conversation(golden: Ending, ending: Ending, blur: Blur) -> Claims:
    """Message by message, by what they say.

    What was queued meanwhile is there once, but perhaps earlier: a checkpoint whose record was lost comes again, and
    takes what waits by then.
    """
    expected, actual = (_of_the_turn(each) for each in (golden, ending))
    for number, (one, other) in enumerate(zip(expected, actual, strict=False), 1):
        yield f"message {number}", _said(one, blur), _said(other, blur)
    yield "the number of messages", len(golden.messages), len(ending.messages)
    yield "what was queued", _queued(golden), _queued(ending)


def _of_the_turn(ending: Ending) -> Sequence[Message]:
    return [each for each in ending.messages if not _is_queued(ending, each)]


def _queued(ending: Ending) -> Sequence[str]:
    return sorted(each.text for each in ending.messages if _is_queued(ending, each))


def _is_queued(ending: Ending, message: Message) -> bool:
    return message.id.startswith("m_user_") and message.id != f"m_user_{ending.turn.turn_id}"


def _said(message: Message, blur: Blur) -> object:
    return message.role.value, [(part.kind.value, part.tool_call_id, blur(part.content)) for part in message.parts]


def _calls(turn: AssembledTurn, blur: Blur) -> Sequence[object]:
    return [(each.call_id, blur(encode(each.output).decode())) for each in turn.tool_calls]


def _usage(golden: Ending, ending: Ending, victim: Sequence[Started]) -> Claims:
    recorded = {row.key for row in ending.rows if (row.kind, row.status) != (_DIRECT, JournalStatus.INTENT)}
    asks = (RuntimeEffectKind.LLM_CALL, _DIRECT)
    lost = [each for each in victim if each.kind in asks and each.key not in recorded]
    if lost and not ending.was_committed:
        label = lost[0].label
        yield f"`usage.at_least`, since {label} may have been paid for", True, ending.turn.usage.at_least
    if not ending.left_unknown:
        yield "usage", _counts(golden.turn.usage), _counts(ending.turn.usage)
        yield "the session's usage", _counts(golden.session_usage), _counts(ending.session_usage)


def _counts(usage: TokenUsage) -> TokenUsage:
    return evolve(usage, at_least=False)
