"""Who was asked and had nothing to say: one row tells it of all that lie between two writes. Pure.

Most hooks have nothing to say most of the time, nobody has said anything at a checkpoint, and prompt and tools are what
they were; and a replay must know that they were asked. A record of each would be a question's hash, its digests and an
empty answer; all that a replay needs is the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from lash_framework.journal_errors import JournalRefusal
from lash_hookspecs.canonical import content_hash
from lash_hookspecs.codec import decode
from lash_hookspecs.effect_commands import RuntimeEffectCommand, RuntimeEffectKind, ToolHooksCommand
from lash_hookspecs.effect_outcomes import (
    AssistantResponseOutcome,
    CheckpointOutcome,
    HookRecord,
    RuntimeEffectOutcome,
    SyncEnvironmentOutcome,
    ToolHooksOutcome,
)
from lash_hookspecs.errors import CodecError
from lash_hookspecs.journal_rows import JournalRow, JournalStatus

__all__ = [
    "MOSTLY_SILENT",
    "is_silence",
    "is_silent",
    "readable",
    "short",
    "silence_row",
    "silent_keys",
    "silent_outcome",
]

KIND = "silence"
"""The kind of such a row, which is no effect's."""

DIGITS = 16
"""Of a key, which is a hash: a turn has some thousands of them, at most."""

_NOTHING: Mapping[RuntimeEffectKind, RuntimeEffectOutcome] = {
    RuntimeEffectKind.ASSISTANT_RESPONSE: AssistantResponseOutcome(),
    RuntimeEffectKind.CHECKPOINT: CheckpointOutcome(),
    RuntimeEffectKind.SYNC_EXECUTION_ENVIRONMENT: SyncEnvironmentOutcome(unchanged=True),
}

MOSTLY_SILENT = frozenset({*_NOTHING, RuntimeEffectKind.TOOL_HOOKS})
"""Effects that mostly come to nothing, of which no hash is kept then: it is made when something comes of them."""


def short(key: str) -> str:
    """A replay key as such a row holds it."""
    return key[:DIGITS]


def is_silent(outcome: RuntimeEffectOutcome) -> bool:
    """Whether nothing was said, nothing changed, and hooks remember nothing new."""
    says = _SAYS.get(outcome.__class__)
    if says is None or says(outcome):
        return False
    record: HookRecord = outcome.hooks  # type: ignore[union-attr]  # these have one
    return not (record.directives or record.states or record.failure)


_SAYS: Mapping[type, Callable[[Any], object]] = {
    CheckpointOutcome: lambda it: it.taken,
    SyncEnvironmentOutcome: lambda it: not it.unchanged,
    ToolHooksOutcome: lambda it: (
        it.interventions or it.questions or not (it.args is None and it.output is None and it.view is None)
    ),
    AssistantResponseOutcome: lambda it: it.response is not None,
}
"""What such an outcome says, but for what hooks did."""


def silent_outcome(command: RuntimeEffectCommand) -> RuntimeEffectOutcome:
    """What came of a command that nobody had an answer to."""
    if isinstance(command, ToolHooksCommand):
        return ToolHooksOutcome(call_id=command.call_id)
    return _NOTHING[command.kind]


def silence_row(keys: Sequence[str]) -> JournalRow:
    """The row that tells it of these."""
    hash = content_hash(f"lash.silence {keys[0]}".encode())
    return JournalRow(
        key=hash,
        kind=KIND,
        status=JournalStatus.DONE,
        envelope_hash=hash,
        body=orjson.dumps([short(key) for key in keys]),
        label=f"what came to nothing, {len(keys)} times",
    )


def is_silence(row: JournalRow) -> bool:
    """Whether the row is such a one."""
    return row.kind == KIND


def silent_keys(rows: Iterable[JournalRow]) -> set[str]:
    """The keys that these rows tell of, in short.

    Raises `JournalRefusal` for one that can't be read: its hooks would be asked again, and their row be there already.
    """
    found = set[str]()
    for row in rows:
        if is_silence(row):
            try:
                found.update(_told(row))
            except CodecError as error:
                text = f"the record of {row.label} is broken: {error}"
                raise JournalRefusal("runtime_effect_corrupt", text, label=row.label) from error
    return found


def readable(rows: Iterable[JournalRow]) -> Iterator[JournalRow]:
    """The rows without such as can't be read: for who asks no hook again."""
    for row in rows:
        if is_silence(row):
            try:
                _told(row)
            except CodecError:
                continue
        yield row


def _told(row: JournalRow) -> list[str]:
    return decode(list[str], row.body)
