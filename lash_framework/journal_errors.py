"""Why a journal refuses to go on, and how a turn stops without an end.

A `JournalRefusal` is the journal's own word and is never recorded: the turn goes on from the same rows once whatever
caused it is put right. `EffectSuspended` and `EffectUnrecorded` aren't failures at all.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Set

import orjson

from lash_framework.envelope_hash import Asked, owner_of
from lash_hookspecs.effect_commands import RuntimeEffectCommand, ToolCallCommand, ToolHooksCommand
from lash_hookspecs.effects import RuntimeEffectEnvelope
from lash_hookspecs.errors import LashError, ReplayError
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.tools import CompletedToolCall

__all__ = [
    "EffectSuspended",
    "EffectUnrecorded",
    "EffectsSuspended",
    "JournalRefusal",
    "cause",
    "differing_paths",
    "effect_label",
    "mismatch",
    "of_plugin",
]

log = logging.getLogger("lash.journal")

_NOT_THE_SAME = " is not what was recorded"

SHOWN = 8
"""How many paths a message names."""


def effect_label(envelope: RuntimeEffectEnvelope) -> str:
    """An effect for people."""
    command, id = envelope.command, envelope.invocation.subject.effect_id
    match command:
        case ToolCallCommand(call=call):
            return f"tool_call `{call.tool_name}` ({id})"
        case ToolHooksCommand(seam=seam, tool_name=name, call_id=call_id):
            return f"tool_hooks {seam} `{name}` ({call_id})"
    iteration = envelope.invocation.scope.protocol_iteration
    where = "" if iteration is None else f" of iteration {iteration}"
    return command.kind.value if id == command.kind else f"{command.kind} {id}{where}"


def of_plugin(command: RuntimeEffectCommand) -> str:
    """Whose a tool call is, to follow its label."""
    return f" of plugin `{command.call.plugin_id}`" if isinstance(command, ToolCallCommand) else ""


class JournalRefusal(ReplayError):
    """The journal can't answer, and won't guess. `label` names the effect.

    `paths` are those that differ, if any do, and `difference` says of each which digest it had and has.
    """

    def __init__(
        self, code: str, message: str, *, label: str, paths: tuple[str, ...] = (), difference: tuple[str, ...] = ()
    ) -> None:
        self.label = label
        self.paths = paths
        self.difference = difference
        super().__init__(code, message)


class EffectsSuspended(LashError):
    """The turn can't go on before somebody answered these. `waiting` has the label of each by its replay key.

    `deferred` are those that wait for their completion, `questions` for a person to allow them; of the others a person
    must say whether they happened.
    """

    def __init__(
        self, waiting: Mapping[str, str], deferred: Set[str] = frozenset(), *, questions: Set[str] = frozenset()
    ) -> None:
        self.waiting = dict(waiting)
        self.deferred = frozenset(deferred)
        self.questions = frozenset(questions)
        known = self.deferred | self.questions
        unknown = ", ".join(label for key, label in waiting.items() if key not in known)
        waits = ", ".join(label for key, label in waiting.items() if key in deferred)
        asked = ", ".join(label for key, label in waiting.items() if key in questions)
        told = [f"a crash interrupted {unknown}; a person must say whether it happened"] if unknown else []
        told += [f"{waits} waits for its completion"] if waits else []
        super().__init__("; ".join([*told, *([f"{asked} waits for a person to allow it"] if asked else [])]))

    @property
    def keys(self) -> tuple[str, ...]:
        """The replay keys of what waits."""
        return tuple(self.waiting)


class EffectSuspended(EffectsSuspended):
    """One effect of an unsafe tool waits for a person."""

    def __init__(self, key: str, label: str) -> None:
        super().__init__({key: label})


class EffectUnrecorded(LashError):
    """The records end here, and nothing is to be run.

    `left` is what is known of it, if it is a tool call. `spent` is what its turn has cost without a record here: "at
    least", if who died here may have paid for a model call.
    """

    def __init__(self, label: str, *, left: CompletedToolCall | None = None, spent: TokenUsage = TokenUsage()) -> None:
        self.label = label
        self.left = left
        self.spent = spent
        super().__init__(f"there is no record of {label}, and nothing is run here")


# ---- the difference -------------------------------------------------------------------------------------------------


def differing_paths(before: Mapping[str, str], now: Mapping[str, str]) -> tuple[str, ...]:
    """The paths whose digests aren't the same, those that are only on one side among them; sorted."""
    return tuple(sorted(path for path in {**before, **now} if before.get(path) != now.get(path)))


def mismatch(row: JournalRow, asked: Asked, label: str) -> JournalRefusal:
    """Another thing was asked under this key: how many of its pieces differ, which, and whose they are."""
    before = _digests(row)
    now = asked.digests
    paths = differing_paths(before, now)
    hashes = f"the record is of {row.envelope_hash}, and now {asked.hash} is asked"
    if not before:
        text = f"{label}{_NOT_THE_SAME}: {hashes}; the record has no digests to compare"
    elif not paths:
        text = (
            f"{label}{_NOT_THE_SAME}: {hashes}, although all {len(now)} pieces have the same digests; "
            "the record was altered, or this version of lash hashes differently"
        )
    else:
        shown = ", ".join(map(_named, paths[:SHOWN]))
        more = f", … and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
        differ = "1 path differs" if len(paths) == 1 else f"{len(paths)} paths differ"
        gone = "there is no such tool here; " if "tool_name" in now else ""  # without the owner that a tool has
        text = f"{label}{_NOT_THE_SAME}: {gone}{differ}: {shown}{more}; {hashes}"
    difference = tuple(f"{path} was {before.get(path, 'absent')}, is {now.get(path, 'absent')}" for path in paths)
    for line in difference:
        log.debug("%s: %s", label, line)
    return JournalRefusal("runtime_effect_mismatch", text, label=label, paths=paths, difference=difference)


def cause(reason: str) -> str:
    """What two reasons have in common that are the same but for hashes and paths."""
    return reason.partition(_NOT_THE_SAME)[0]


def _named(path: str) -> str:
    owner = owner_of(path)
    return f"`{path.rpartition('@')[0]}` of plugin `{owner}`" if owner else f"`{path}`"


def _digests(row: JournalRow) -> dict[str, str]:
    try:
        found = orjson.loads(row.digests) if row.digests else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
