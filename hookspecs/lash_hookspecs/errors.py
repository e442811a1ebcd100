"""Every error that crosses a lash boundary, as one tree.

::

    LashError
    ├── ConfigurationError          the user can mend it: settings, names, arguments
    │   ├── UnknownName             no such model, mode, plugin, provider, tool, session …
    │   ├── PluginConflictError     two plugins claim one thing; names both
    │   └── CapabilityMissing       the chosen store, provider or host can't do this
    ├── CodecError                  bytes from disk or wire that aren't what they should be
    │   └── UnknownTag              a tagged union met a tag that it doesn't know
    ├── PluginError                 a plugin's hook failed; names plugin and hook
    ├── DriverError                 a protocol driver broke its contract
    ├── EffectControllerError       an effect envelope or outcome was refused (has a code)
    ├── LlmCallFailed               a model call failed; carries an `LlmCallError` value
    ├── TurnConflict                same turn id, other input
    ├── SessionBusy                 another turn holds the session
    ├── TurnCancelled               cancelled before it began: nothing was asked or stored
    ├── TurnInterrupted             ended from outside: nothing was committed
    └── StoreError                  the store refused or failed
        ├── HeadConflict            somebody else committed first: reload
        ├── ReceiptConflict         same operation id, other content
        ├── SessionDeleted          the id is spent: session ids are single-use
        ├── SessionMismatch         a commit for another session than the bound one
        ├── CommitRefused           the commit breaks a rule of the graph (has a code)
        ├── BudgetExceeded          the commit is larger than its budget
        ├── StoreCorrupt            stored data breaks its own rules
        ├── StoreVersionError       the database is newer than this software, or no database of ours
        ├── StoreUnavailable        can't be opened or written (permission, full disk, dead peer)
        └── Contended               a lock was busy: the same call may be retried unchanged
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lash_hookspecs.llm import LlmCallError

__all__ = [
    "BudgetExceeded",
    "CapabilityMissing",
    "CodecError",
    "CommitRefused",
    "ConfigurationError",
    "Contended",
    "DriverError",
    "EffectControllerError",
    "HeadConflict",
    "LashError",
    "LlmCallFailed",
    "PluginConflictError",
    "PluginError",
    "ReceiptConflict",
    "SessionBusy",
    "SessionDeleted",
    "SessionMismatch",
    "StoreCorrupt",
    "StoreError",
    "StoreUnavailable",
    "StoreVersionError",
    "TurnCancelled",
    "TurnConflict",
    "TurnInterrupted",
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


class PluginConflictError(ConfigurationError):
    """Two or more plugins claim what only one may have; all conflicts are reported together."""

    def __init__(self, conflicts: Sequence[str]) -> None:
        self.conflicts = tuple(conflicts)
        super().__init__("plugins conflict:\n  " + "\n  ".join(conflicts))


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


class LlmCallFailed(LashError):
    """A model call failed for good. `error` is the typed, storable description."""

    def __init__(self, error: LlmCallError) -> None:
        self.error = error
        super().__init__(error.message)


class TurnConflict(LashError):
    """The turn id was used before with another input; choose another id, or send the same input."""


class SessionBusy(LashError):
    """Another process runs a turn on this session; nothing was called."""


class TurnCancelled(LashError):
    """The turn was cancelled, or its time was up, while it stood in line; nothing was asked and nothing stored."""


class TurnInterrupted(LashError):
    """The turn was ended from outside before its commit; nothing of it was stored."""


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


class StoreCorrupt(StoreError):
    """Stored data breaks its own rules; nothing was changed."""


class StoreVersionError(StoreError):
    """The file is a newer database than this software understands, or no lash database at all."""


class StoreUnavailable(StoreError):
    """The store can't be opened, read or written; the text names the place and the cause."""


class Contended(StoreError):
    """A lock was busy for longer than its time limit; the same call may be retried unchanged."""
