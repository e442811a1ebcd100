"""The turn machine's states and transitions, as data.

Everything about which transition exists is here; this file doesn't know how one is carried out. A row names the method
of `TurnMachine` that does the work, the states in which it may end, and why. A trigger that has no row in the current
state changes nothing: that is how stale and misdirected responses are ignored.

Two couplings don't fit the rows:

* Which trigger a response is depends on its content (a model's answer may end the turn by its terminal reason, a
  delivery may add nothing): `TurnMachine` classifies first and looks up then.
* Rows that ask the driver end where its step says. `CONTINUATIONS` tells which answer leads where.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from lash_hookspecs.turn_outcomes import Finished, Handoff, Stopped
from lash_hookspecs.turn_steps import PrepareIteration, StartCheckpoint, StartExec, StartLlm, StartTools
from lash_hookspecs.values import frozen

__all__ = ["CONTINUATIONS", "TABLE", "Row", "State", "Trigger"]


class State(StrEnum):
    """Where a turn is. `WAITING` is one state for every effect that owes a response."""

    START = "start"
    PREPARE = "prepare_iteration"
    WAITING = "waiting"
    DONE = "done"


class Trigger(StrEnum):
    """What moves a turn: the host polls, answers, fails it or ends it."""

    POLL_UNSYNCED = "poll_unsynced"
    POLL_READY = "poll_ready"
    SYNCED = "synced"
    SYNC_FAILED = "sync_failed"
    LLM_ANSWERED = "llm_answered"
    LLM_ENDED = "llm_ended"
    LLM_FAILED = "llm_failed"
    LLM_COMPACTED = "llm_compacted"
    TOOLS_ANSWERED = "tools_answered"
    CODE_ANSWERED = "code_answered"
    CHECKPOINT_EMPTY = "checkpoint_empty"
    CHECKPOINT_ADDED = "checkpoint_added"
    FAIL = "fail"
    FINISH = "finish"


@frozen
class Row:
    """One transition: the method that does it, the states it may end in, and a note for readers."""

    handler: str
    to: tuple[State, ...]
    note: str


_BY_STEP = (State.WAITING, State.PREPARE, State.DONE)
_HOST_ENDS = {
    Trigger.FAIL: Row("_fail", (State.DONE,), "the host reports an error: stopped as `runtime_error`"),
    Trigger.FINISH: Row("_finish", (State.DONE,), "the host ends the turn, e.g. as cancelled"),
}

TABLE: Mapping[State, Mapping[Trigger, Row]] = MappingProxyType(
    {
        State.START: {
            Trigger.POLL_UNSYNCED: Row(
                "_sync_first", (State.WAITING,), "the host looks at prompt and tools; the machine keeps its own"
            ),
            Trigger.POLL_READY: Row("_ask_prepare", _BY_STEP, "no sync wanted: the driver begins"),
            **_HOST_ENDS,
        },
        State.PREPARE: {
            Trigger.POLL_UNSYNCED: Row(
                "_sync_again", (State.WAITING,), "a new iteration: prompt and tools are refreshed first"
            ),
            Trigger.POLL_READY: Row("_ask_prepare", _BY_STEP, "the driver begins the iteration"),
            **_HOST_ENDS,
        },
        State.WAITING: {
            Trigger.SYNCED: Row("_take_environment", (State.PREPARE,), "this iteration is synced"),
            Trigger.SYNC_FAILED: Row("_fail_environment", (State.DONE,), "stopped as `runtime_error`"),
            Trigger.LLM_ANSWERED: Row("_ask_llm", _BY_STEP, "the driver reads the answer"),
            Trigger.LLM_ENDED: Row("_end_by_reason", (State.DONE,), "the terminal reason leaves nothing to go on with"),
            Trigger.LLM_FAILED: Row("_end_by_error", (State.DONE,), "retries were the provider's affair: final"),
            Trigger.LLM_COMPACTED: Row(
                "_ask_over", (State.PREPARE,), "it didn't fit: asked again, over a conversation that was made shorter"
            ),
            Trigger.TOOLS_ANSWERED: Row("_ask_tools", _BY_STEP, "the driver reads the results, in source order"),
            Trigger.CODE_ANSWERED: Row("_ask_exec", _BY_STEP, "the driver reads what the code did"),
            Trigger.CHECKPOINT_EMPTY: Row("_resume", _BY_STEP, "nothing was added: do `on_empty`"),
            Trigger.CHECKPOINT_ADDED: Row(
                "_take_delivery",
                (State.PREPARE, State.DONE),
                "something was added: another iteration, unless the turn's last one is over",
            ),
            **_HOST_ENDS,
        },
        # Nothing leaves the last state: what is still queued is handed out, then there is nothing more to say.
        State.DONE: {},
    }
)

CONTINUATIONS: Mapping[type, State] = MappingProxyType(
    {
        StartLlm: State.WAITING,
        StartTools: State.WAITING,  # or asks the driver at once, if every call of the batch was refused
        StartExec: State.WAITING,
        StartCheckpoint: State.WAITING,
        PrepareIteration: State.PREPARE,
        Finished: State.DONE,
        Stopped: State.DONE,
        Handoff: State.DONE,
    }
)
