"""Keyed promises: what is waited for, and what comes of the wait.

A wait is known by where it is and what it is for, so whoever can say both can settle it, before anybody waits or after.
The first who settles it wins, so a second look reads what the first one read.
"""

from __future__ import annotations

from typing import Any, ClassVar, Union

from attrs import astuple

from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.values import frozen

__all__ = [
    "CustomWait",
    "InProcess",
    "InTurn",
    "PersonWait",
    "Resolution",
    "ResolvedError",
    "ResolvedOk",
    "SignalWait",
    "ToolCompletionWait",
    "TurnCancelWait",
    "TurnTerminalWait",
    "Wait",
    "WaitCancelled",
    "WaitKey",
    "WaitScope",
    "WaitTimedOut",
    "wait_id",
]


# ---- where ----------------------------------------------------------------------------------------------------------


@frozen
class InTurn:
    """In a turn."""

    tag: ClassVar[str] = "turn"
    session_id: str
    turn_id: str


@frozen
class InProcess:
    """In a process."""

    tag: ClassVar[str] = "process"
    process_id: str


WaitScope = Union[InTurn, InProcess]


# ---- for what -------------------------------------------------------------------------------------------------------


@frozen
class ToolCompletionWait:
    """Somebody completes a tool call, which is known by its replay key: a model may use an id again."""

    tag: ClassVar[str] = "tool_completion"
    call_id: str


@frozen
class PersonWait:
    """A person answers a plugin's question about a tool call; `shown` is the hash of what they are shown."""

    tag: ClassVar[str] = "person"
    call_id: str
    plugin_id: str
    shown: str


@frozen
class SignalWait:
    """A process gets a signal; `ordinal` counts its waits for signals of this name, from 1."""

    tag: ClassVar[str] = "process_signal"
    signal_name: str
    ordinal: int


@frozen
class TurnCancelWait:
    """Somebody cancels the turn, or it completes: who comes first wins."""

    tag: ClassVar[str] = "turn_cancel_gate"


@frozen
class TurnTerminalWait:
    """The turn is over."""

    tag: ClassVar[str] = "turn_terminal"


@frozen
class CustomWait:
    """Whatever the asker means by the name."""

    tag: ClassVar[str] = "custom"
    name: str


Wait = Union[ToolCompletionWait, PersonWait, SignalWait, TurnCancelWait, TurnTerminalWait, CustomWait]


@frozen
class WaitKey:
    """The identity of a wait."""

    scope: WaitScope
    wait: Wait


def wait_id(key: WaitKey) -> str:
    """The id of the promise, and of the effect that awaits it: a hash, so that no two identities share one."""
    return stable_hash("lash.wait", [[each.tag, *astuple(each)] for each in (key.scope, key.wait)])


# ---- what comes of it -----------------------------------------------------------------------------------------------


@frozen
class ResolvedOk:
    """It was settled, with this."""

    tag: ClassVar[str] = "ok"
    value: Any = None


@frozen
class ResolvedError:
    """It was settled, with an error. `code` is stable, for programs."""

    tag: ClassVar[str] = "err"
    code: str
    message: str


@frozen
class WaitTimedOut:
    """Nobody settled it in time."""

    tag: ClassVar[str] = "timeout"


@frozen
class WaitCancelled:
    """The wait was ended; nobody will settle it."""

    tag: ClassVar[str] = "cancelled"


Resolution = Union[ResolvedOk, ResolvedError, WaitTimedOut, WaitCancelled]
