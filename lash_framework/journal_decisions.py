"""What a journal's row means for the effect that is asked for now. Pure; every decision of the journal is made here.

`decide` reads the row, `fate` says what to do about it. What isn't known is never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import ClassVar, Union

from lash_framework.envelope_hash import Asked
from lash_framework.faults import storable_text
from lash_framework.journal_errors import effect_label, mismatch
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.effect_commands import (
    AwaitEventCommand,
    ExecCodeCommand,
    ProcessCommand,
    RuntimeEffectCommand,
    RuntimeEffectKind,
    ToolCallCommand,
)
from lash_hookspecs.effect_outcomes import HookRecord, RuntimeEffectOutcome
from lash_hookspecs.effects import RuntimeEffectEnvelope
from lash_hookspecs.errors import CodecError, EffectControllerError
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.tools import OnUnknown, ToolEffect
from lash_hookspecs.values import frozen

__all__ = [
    "WRITTEN_AT_ONCE",
    "Absent",
    "Corrupt",
    "Decision",
    "Failed",
    "Fate",
    "Intended",
    "Mismatch",
    "Recorded",
    "RecordedError",
    "decide",
    "encode_error",
    "encode_outcome",
    "fate",
    "repeatability",
    "require_match",
]


_K = RuntimeEffectKind

WRITTEN_AT_ONCE = frozenset({_K.DIRECT, _K.TOOL_CALL, _K.EXEC_CODE, _K.PROCESS, _K.AWAIT_EVENT, _K.COMPACT})
"""What is answered only when its record is there. A model's reply need only be so before the next external effect."""


@frozen
class RecordedError:
    """A failure of the boundary itself, as a row holds it."""

    code: str
    message: str


def encode_error(error: EffectControllerError) -> bytes:
    """The body of a failed row."""
    return encode(RecordedError(error.code, storable_text(str(error).removeprefix(f"{error.code}: "))))


def encode_outcome(outcome: RuntimeEffectOutcome, label: str) -> bytes:
    """The body of a row that is done. Raises `EffectControllerError`, with the plugin whose part has no encoding."""
    try:
        return encode(outcome)
    except CodecError as error:
        hooks = getattr(outcome, "hooks", None)
        owner = _culprit(hooks) if isinstance(hooks, HookRecord) else None
        whose = f", of plugin `{owner}`," if owner else ""
        text = f"the outcome of {label}{whose} can't be recorded: {error}"
        raise EffectControllerError("runtime_effect_unencodable", text) from error


def _culprit(hooks: HookRecord) -> str | None:
    """The plugin whose part of a record has no encoding."""
    parts = [*((each.plugin_id, each) for each in hooks.directives), *hooks.states.items()]
    for plugin_id, part in parts:
        try:
            encode(part)
        except CodecError:
            return plugin_id
    return None


# ---- what the row says ----------------------------------------------------------------------------------------------


@frozen
class Absent:
    """There is no row: it never started, or it may start again."""

    tag: ClassVar[str] = "absent"


@frozen
class Intended:
    """It was about to start; whether it did, nobody knows."""

    tag: ClassVar[str] = "intent"


@frozen
class Recorded:
    """It was done, and this came of it."""

    tag: ClassVar[str] = "outcome"
    outcome: RuntimeEffectOutcome


@frozen
class Failed:
    """The boundary failed, and fails again."""

    tag: ClassVar[str] = "error"
    error: EffectControllerError


@frozen
class Mismatch:
    """Something else was asked under this key."""

    tag: ClassVar[str] = "mismatch"


@frozen
class Corrupt:
    """The row can't be what this program, or one like it, wrote."""

    tag: ClassVar[str] = "corrupt"
    reason: str


Decision = Union[Absent, Intended, Recorded, Failed, Mismatch, Corrupt]


_ABSENT = Absent()


def decide(row: JournalRow | None, envelope_hash: str) -> Decision:
    """What the row means for an envelope with its key and this hash. Another hash outranks whatever the status is."""
    if row is None:
        return _ABSENT
    if row.envelope_hash != envelope_hash:
        return Mismatch()
    match row.status:
        case JournalStatus.INTENT:
            return Intended()
        case JournalStatus.DONE:
            return (_outcome_often if len(row.body) <= _OFTEN else _outcome)(row.kind, row.body)
        case JournalStatus.FAILED:
            return _error(row)
    return Corrupt(f"its status is {row.status!r}, which this version doesn't know")


def _outcome(kind: str, body: bytes) -> Decision:
    if not body:
        return Corrupt("it is done, and has no outcome")
    try:
        outcome: RuntimeEffectOutcome = decode(RuntimeEffectOutcome, body)  # type: ignore[arg-type]  # a union is a type
    except CodecError as error:
        return Corrupt(f"its outcome can't be read: {error}")
    if outcome.kind != kind:
        return Corrupt(f"it is of kind `{kind}`, and its outcome of `{outcome.kind}`")
    return Recorded(outcome)


_outcome_often = lru_cache(maxsize=64)(_outcome)
"""Half of a long turn's records say that nobody had anything to say: the same few bytes again and again."""
_OFTEN = 128


def _error(row: JournalRow) -> Decision:
    if not row.body:
        return Corrupt("it failed, and has no error")
    try:
        error = decode(RecordedError, row.body)
    except CodecError as fault:
        return Corrupt(f"its error can't be read: {fault}")
    return Failed(EffectControllerError(error.code, error.message))


# ---- what follows ---------------------------------------------------------------------------------------------------


class Fate(StrEnum):
    """What to do about an effect that is asked for."""

    RUN = "run"
    """Run it: for the first time, or again if a process died in it."""
    REPLAY = "replay"
    """Answer from the row."""
    UNKNOWN = "unknown_after_crash"
    """Record that nobody knows whether it happened, and go on with that."""
    SUSPEND = "suspend"
    """Nobody knows whether it happened, and a person is to decide."""
    REFUSE = "refuse"
    """The turn can't go on with this row."""


def repeatability(command: RuntimeEffectCommand) -> ToolEffect:
    """What a second execution would do to the world. Code is unsafe; models, hooks and sleeps may run again.

    So may what is asked of a process, which its ids make the same, and a wait, which reads one promise again. The world
    remembers both, so they count as idempotent: what came before is durable first.
    """
    match command:
        case ToolCallCommand(call=call):
            return call.effect
        case ExecCodeCommand():
            return ToolEffect.UNSAFE
        case ProcessCommand() | AwaitEventCommand():
            return ToolEffect.IDEMPOTENT
    return ToolEffect.PURE


def fate(decision: Decision, command: RuntimeEffectCommand) -> Fate:
    """What the decision means for this command."""
    match decision:
        case Absent():
            return Fate.RUN
        case Recorded() | Failed():
            return Fate.REPLAY
        case Intended():
            if repeatability(command) is not ToolEffect.UNSAFE:
                return Fate.RUN
            waits = isinstance(command, ToolCallCommand) and command.call.on_unknown is OnUnknown.WAIT
            return Fate.SUSPEND if waits else Fate.UNKNOWN
        case Mismatch() | Corrupt():
            return Fate.REFUSE


def require_match(
    rows: Mapping[str, JournalRow],
    envelopes: Iterable[RuntimeEffectEnvelope],
    ask: Callable[[RuntimeEffectEnvelope], Asked],
) -> None:
    """Raise for a recorded one that isn't what it was before its siblings run: they would be recorded as wrongly."""
    for each in envelopes:
        row = rows.get(each.key)
        if row is not None and row.envelope_hash != (asked := ask(each)).hash:
            raise mismatch(row, asked, effect_label(each))
