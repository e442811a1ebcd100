"""What may be asked of processes, which outlive the turn that started them, and what comes of each.

Every operation may be asked again: its ids say that it is the same one. What nobody would do for the asker is a
`ProcessRefused`, an answer like any other.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar, Union

from lash_hookspecs.canonical import canonical_bytes, stable_hash
from lash_hookspecs.tools import PreparedToolCall
from lash_hookspecs.values import frozen

__all__ = [
    "EngineInput",
    "ExternalInput",
    "ProcessAbandoned",
    "ProcessAwait",
    "ProcessAwaited",
    "ProcessCancel",
    "ProcessCancelRequested",
    "ProcessCancelled",
    "ProcessCompleted",
    "ProcessFailed",
    "ProcessInput",
    "ProcessOperation",
    "ProcessOutput",
    "ProcessRecovery",
    "ProcessRefused",
    "ProcessResult",
    "ProcessSignal",
    "ProcessSignalled",
    "ProcessStart",
    "ProcessStarted",
    "ProcessStatus",
    "ProcessTransfer",
    "ProcessTransferred",
    "ToolCallInput",
    "process_effect_id",
]


class ProcessStatus(StrEnum):
    """Where a process is in its life; the last four end it."""

    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    ABANDONED = "abandoned"


class ProcessRecovery(StrEnum):
    """What becomes of a process whose runner died."""

    RERUNNABLE = "rerunnable"
    """It runs again, from the start."""
    OWNER_BOUND = "owner_bound"
    """It ran once, and nobody runs it again."""
    EXTERNALLY_OWNED = "externally_owned"
    """Nobody here ever runs it."""


# ---- what it does ---------------------------------------------------------------------------------------------------


@frozen
class ToolCallInput:
    """It runs a tool."""

    tag: ClassVar[str] = "tool_call"
    call: PreparedToolCall


@frozen
class EngineInput:
    """An engine runs it; `payload` is that engine's own."""

    tag: ClassVar[str] = "engine"
    engine: str
    payload: Any = None


@frozen
class ExternalInput:
    """Somebody else runs it, and reports here."""

    tag: ClassVar[str] = "external"


ProcessInput = Union[ToolCallInput, EngineInput, ExternalInput]


# ---- what is asked --------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class ProcessStart:
    """Start it, unless one with this id and this definition is there; another definition is refused."""

    tag: ClassVar[str] = "start"
    process_id: str
    input: ProcessInput
    recovery: ProcessRecovery
    max_attempts: int | None = None


@frozen
class ProcessAwait:
    """Wait for its end."""

    tag: ClassVar[str] = "await"
    process_id: str


@frozen
class ProcessCancel:
    """Ask it to end. It reads that when it next looks."""

    tag: ClassVar[str] = "cancel"
    process_id: str
    reason: str | None = None


@frozen(kw_only=True)
class ProcessSignal:
    """Tell it something. One `signal_id` is one signal, however often it is sent."""

    tag: ClassVar[str] = "signal"
    process_id: str
    signal_name: str
    signal_id: str
    payload: Any = None


@frozen(kw_only=True)
class ProcessTransfer:
    """Hand processes from one session to another, in this order."""

    tag: ClassVar[str] = "transfer"
    from_session: str
    to_session: str
    process_ids: tuple[str, ...]


ProcessOperation = Union[ProcessStart, ProcessAwait, ProcessCancel, ProcessSignal, ProcessTransfer]


def process_effect_id(operation: ProcessOperation) -> str:
    """The effect id of an operation: what makes it the same one, as canonical JSON, so that no two share it."""
    match operation:
        case ProcessSignal():
            named = [operation.process_id, operation.signal_name, operation.signal_id]
        case ProcessTransfer():
            moved = stable_hash("lash.process-transfer", list(operation.process_ids))
            named = [operation.from_session, operation.to_session, moved]
        case _:
            named = [operation.process_id]
    return canonical_bytes([operation.tag, *named]).decode()


# ---- how a process ended --------------------------------------------------------------------------------------------


@frozen
class ProcessCompleted:
    """It did what it was to do."""

    tag: ClassVar[str] = "completed"
    value: Any = None


@frozen
class ProcessFailed:
    """It failed. `code` is stable, for programs."""

    tag: ClassVar[str] = "failed"
    code: str
    message: str


@frozen
class ProcessCancelled:
    """It ended because somebody asked it to."""

    tag: ClassVar[str] = "cancelled"
    reason: str | None = None


@frozen
class ProcessAbandoned:
    """Nobody will run it to its end, such as after too many attempts."""

    tag: ClassVar[str] = "abandoned"
    reason: str


ProcessOutput = Union[ProcessCompleted, ProcessFailed, ProcessCancelled, ProcessAbandoned]


# ---- what came of an operation --------------------------------------------------------------------------------------


@frozen
class ProcessStarted:
    """It is there; `status` says how far it is."""

    tag: ClassVar[str] = "start"
    status: ProcessStatus


@frozen
class ProcessAwaited:
    """It ended so."""

    tag: ClassVar[str] = "await"
    output: ProcessOutput


@frozen
class ProcessCancelRequested:
    """It was asked to end, or had ended already, as `status` says."""

    tag: ClassVar[str] = "cancel"
    status: ProcessStatus


@frozen
class ProcessSignalled:
    """The signal is among its events; `sequence` counts those from 1."""

    tag: ClassVar[str] = "signal"
    sequence: int


@frozen
class ProcessTransferred:
    """They are the other session's."""

    tag: ClassVar[str] = "transfer"


@frozen
class ProcessRefused:
    """Nothing was done: no such process, another definition under its id, a signal that it doesn't take."""

    tag: ClassVar[str] = "refused"
    code: str
    message: str


ProcessResult = Union[
    ProcessStarted, ProcessAwaited, ProcessCancelRequested, ProcessSignalled, ProcessTransferred, ProcessRefused
]
