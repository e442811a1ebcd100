"""Every error that crosses a lash boundary, as one tree.

::

    LashError
    ├── ConfigurationError          the user can mend it: settings, names, arguments
    │   ├── UnknownName             no such model, mode, plugin, provider, tool, session …
    │   │   └── AlreadyAnswered     nothing waits under this key any more
    │   ├── PluginConflictError     two plugins claim one thing; names both
    │   ├── StaleToolState          a session's tools were changed meanwhile: look again
    │   └── CapabilityMissing       the chosen store, provider or host can't do this
    ├── CodecError                  bytes from disk or wire that aren't what they should be
    │   └── UnknownTag              a tagged union met a tag that it doesn't know
    ├── PluginError                 a plugin's hook failed; names plugin and hook
    ├── DriverError                 a protocol driver broke its contract
    ├── EffectControllerError       an effect envelope or outcome was refused (has a code)
    │   └── ReplayError             a turn can't go on from its records
    ├── LlmCallFailed               a model call failed; carries an `LlmCallError` value
    ├── InvalidCursor               an observer's cursor that this session never gave out
    ├── TurnConflict                same turn id, other input
    ├── SessionBusy                 another turn holds the session
    ├── TurnCancelled               cancelled before it began: nothing was asked or stored
    ├── TurnInterrupted             ended from outside: nothing was committed
    ├── TurnSuspended               waits for somebody; goes on once its keys are resolved
    ├── TurnBlocked                 can't go on: says why, and how to end it
    └── StoreError                  the store refused or failed
        ├── HeadConflict            somebody else committed first: reload
        ├── ReceiptConflict         same operation id, other content
        ├── SessionDeleted          the id is spent: session ids are single-use
        ├── SessionMismatch         a commit for another session than the bound one
        ├── CommitRefused           the commit breaks a rule of the graph (has a code)
        ├── BudgetExceeded          the commit is larger than its budget
        ├── LeaseLost               the session is somebody else's now: nothing was written
        ├── ClaimLost               an inbox item is not to be had any more
        ├── InboxConflict           same source key, other content
        ├── StoreCorrupt            stored data breaks its own rules
        ├── StoreVersionError       the database is newer than this software, or no database of ours
        ├── StoreUnavailable        can't be opened or written (permission, full disk, dead peer)
        └── Contended               a lock was busy: the same call may be retried unchanged
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lash_hookspecs.llm import LlmCallError

__all__ = [
    "AlreadyAnswered",
    "BudgetExceeded",
    "CapabilityMissing",
    "ClaimLost",
    "CodecError",
    "CommitRefused",
    "ConfigurationError",
    "Contended",
    "DriverError",
    "EffectControllerError",
    "HeadConflict",
    "InboxConflict",
    "InvalidCursor",
    "LashError",
    "LeaseLost",
    "LlmCallFailed",
    "PluginConflictError",
    "PluginError",
    "ReceiptConflict",
    "ReplayError",
    "SessionBusy",
    "SessionDeleted",
    "SessionMismatch",
    "StaleToolState",
    "StoreCorrupt",
    "StoreError",
    "StoreUnavailable",
    "StoreVersionError",
    "TurnBlocked",
    "TurnCancelled",
    "TurnConflict",
    "TurnInterrupted",
    "TurnSuspended",
    "UnknownName",
    "UnknownTag",
    "nearest",
]


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that suggests the most similar known name, or lists what there is."""
    from difflib import get_close_matches  # when a name was wrong, which is rare

    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean `{close[0]}`?"
    if not names:
        return "none is known here"
    shown = ", ".join(f"`{each}`" for each in names[:12])
    return f"known: {shown}{', …' if len(names) > 12 else ''}"


class LashError(Exception):
    """Base of every error that lash raises on purpose; its text is fit for a user's eyes."""


class ConfigurationError(LashError):
    """Something that the user typed or installed can't work; the text says what to change."""


class UnknownName(ConfigurationError):
    """A name that resolves to nothing. `kind` says of what, `name` is the text as typed."""

    def __init__(self, kind: str, name: str, known: Iterable[str] = (), hint: str | None = None) -> None:
        self.kind = kind
        self.name = name
        super().__init__(f"unknown {kind} `{name}`: {hint or nearest(name, known)}")


class AlreadyAnswered(UnknownName):
    """A call that waited, and that somebody has answered before. `name` is its key as typed, `hint` what is next."""

    def __init__(self, name: str, hint: str) -> None:
        super().__init__("pending call", name)
        self.args = (f"`{name}` was answered already, and the first answer counts: {hint}",)


class StaleToolState(ConfigurationError):
    """An edit of a session's tools was made for a generation that is over; look at the tools again."""


class PluginConflictError(ConfigurationError):
    """Two or more plugins claim what only one may have; all conflicts are reported together, with what to do."""

    def __init__(self, conflicts: Sequence[str], remedy: str = "") -> None:
        self.conflicts = tuple(conflicts)
        super().__init__("plugins conflict:\n  " + "\n  ".join([*conflicts, *([remedy] if remedy else [])]))


class CapabilityMissing(ConfigurationError):
    """A part that was chosen can't do what was asked; names the part and the capability."""


class CodecError(LashError):
    """Stored or received data doesn't have the shape of its type. `path` says where."""

    def __init__(self, message: str, path: str = "") -> None:
        self.path = path
        super().__init__(f"{message} (at `{path}`)" if path else message)


class UnknownTag(CodecError):
    """A tagged union met a tag that it doesn't know; a newer lash may have written it."""

    def __init__(self, union: str, field: str, tag: object, known: Iterable[str]) -> None:
        self.union = union
        self.tag = tag
        listed = ", ".join(sorted(known))
        super().__init__(f"unknown `{field}` {tag!r} for {union}; known: {listed}")


class PluginError(LashError):
    """A plugin's hook failed or returned nonsense. The cause is chained."""

    def __init__(self, plugin_id: str, hook: str, message: str) -> None:
        self.plugin_id = plugin_id
        self.hook = hook
        super().__init__(f"plugin `{plugin_id}`, hook `{hook}`: {message}")


class DriverError(LashError):
    """A protocol driver returned a step that breaks its contract."""


class EffectControllerError(LashError):
    """An envelope or outcome was refused at the effect boundary. `code` is stable, for programs."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}")


class ReplayError(EffectControllerError):
    """A turn can't go on from its records: they say something else, or can't be read. Nothing of it is committed.

    `lacks` are the plugins that it was accepted with and that aren't here, where that is known.
    """

    lacks: tuple[str, ...] = ()


class LlmCallFailed(LashError):
    """A model call failed for good. `error` is the typed, storable description."""

    def __init__(self, error: LlmCallError) -> None:
        self.error = error
        super().__init__(error.message)


class InvalidCursor(LashError):
    """A cursor that this session never gave out. `cursor` is the text as it was passed."""

    def __init__(self, cursor: str, session_id: str, why: str) -> None:
        self.cursor = cursor
        super().__init__(
            f"session `{session_id}` can't be observed from cursor `{cursor[:80]}`: {why}; pass a cursor as it was "
            "received, or none to get the session's state"
        )


class TurnConflict(LashError):
    """The turn id was used before with another input; choose another id, or send the same input."""


class SessionBusy(LashError):
    """Another process runs a turn on this session; nothing was called."""


class TurnCancelled(LashError):
    """The turn was cancelled, or its time was up, while it stood in line; nothing was asked and nothing stored."""


class TurnInterrupted(LashError):
    """The turn was ended from outside before its commit; nothing of it was stored."""


class TurnSuspended(LashError):
    """The turn waits for somebody, and holds neither lease nor process. `keys` are what it waits for.

    Those among `questions` are answered with `Lash.answer`, the others with `Lash.resolve`.
    """

    def __init__(
        self, session_id: str, turn_id: str, keys: Sequence[str], *, questions: Set[str] = frozenset()
    ) -> None:
        self.session_id = session_id
        self.turn_id = turn_id
        self.keys = tuple(keys)
        self.questions = frozenset(questions)
        listed = ", ".join(f"`{key}`" for key in self.keys)
        ways = ["`lash pending answer KEY CHOICE`"] if self.questions else []
        ways += ["`lash pending resolve KEY`"] if self.questions != {*self.keys} else []
        super().__init__(
            f"turn `{turn_id}` of session `{session_id}` waits for {listed}: see `lash pending list`, answer with "
            f"{' or '.join(ways)}, then `lash resume {session_id}`"
        )


class TurnBlocked(LashError):
    """The turn can't go on; nothing more is tried until somebody decides. `reason` says why.

    `lacks` are the plugins that it was accepted with, and that aren't here.
    """

    def __init__(self, session_id: str, turn_id: str, reason: str, lacks: tuple[str, ...] = ()) -> None:
        self.lacks = lacks
        self.session_id = session_id
        self.turn_id = turn_id
        self.reason = reason
        super().__init__(
            f"turn `{turn_id}` of session `{session_id}` can't go on: {reason}. Mend that and run `lash resume "
            f"{session_id}`, or keep what is recorded of it with `lash resume {session_id} --abandon {turn_id}`"
        )


class StoreError(LashError):
    """Base of everything that a store raises."""


class HeadConflict(StoreError):
    """The head moved since this commit was prepared; reload the session and try again."""

    def __init__(self, session_id: str, expected: int, actual: int) -> None:
        self.session_id = session_id
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"session `{session_id}` is at revision {actual}, this commit expected {expected}: reload and run again"
        )


class ReceiptConflict(StoreError):
    """The operation id was committed before with other content."""


class SessionDeleted(StoreError):
    """The session was deleted; its id can't be used again."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(f"session `{session_id}` was deleted; session ids are single-use, choose another")


class SessionMismatch(StoreError):
    """A commit names another session than the one it is applied to."""


class CommitRefused(StoreError):
    """The commit breaks a rule of the session graph. `code` is stable, for programs."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        super().__init__(f"{code}: {message}")


class BudgetExceeded(StoreError):
    """The commit is larger than its row or byte budget; measured before the transaction."""


class LeaseLost(StoreError):
    """The lease lapsed or is another holder's, who has what was recorded; nothing was written."""


class ClaimLost(StoreError):
    """Items of the inbox are not to be had: cancelled, settled, or claimed by a successor. Nothing was written."""

    def __init__(self, session_id: str, nos: Sequence[int]) -> None:
        self.session_id = session_id
        self.nos = tuple(nos)
        listed = ", ".join(map(str, self.nos))
        super().__init__(
            f"session `{session_id}`: inbox items {listed} were cancelled, settled or taken by another run"
        )


class InboxConflict(StoreError):
    """The source key was accepted before with other content; choose another, or send the same."""


class StoreCorrupt(StoreError):
    """Stored data breaks its own rules; nothing was changed."""


class StoreVersionError(StoreError):
    """The file is a newer database than this software understands, or no lash database at all."""


class StoreUnavailable(StoreError):
    """The store can't be opened, read or written; the text names the place and the cause."""


class Contended(StoreError):
    """A lock was busy for longer than its time limit; the same call may be retried unchanged."""
