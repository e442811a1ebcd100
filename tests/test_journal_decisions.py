"""What the journal decides: a table with every cell of a row, and one with every crash of every kind of effect."""

from __future__ import annotations

from typing import Any

import pytest
from asked_kit import ASKED, SCOPE, tool_call
from attrs import define, field
from journal_kit import Killed, MemoryJournal

from lash_framework.effects import envelope
from lash_framework.journal import JournalController
from lash_framework.journal_decisions import (
    Absent,
    Corrupt,
    Decision,
    Failed,
    Intended,
    Mismatch,
    Recorded,
    RecordedError,
    decide,
    encode_error,
    fate,
)
from lash_framework.journal_errors import EffectSuspended
from lash_hookspecs import (
    EffectControllerError,
    JournalRow,
    JournalStatus,
    OnUnknown,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    SleepOutcome,
    ToolCallCommand,
    ToolCallEffectOutcome,
    ToolCallFailure,
    ToolEffect,
    decode,
    encode,
)

# ---- a row ----------------------------------------------------------------------------------------------------------

SAME, OTHER = "a" * 64, "b" * 64
DONE, ERROR = encode(SleepOutcome()), encode(RecordedError("c", "m"))
CELLS = [
    # status, hash, kind, body: what it is
    ("intent", SAME, "sleep", b"{}", "intent"),
    ("intent", SAME, "sleep", b"", "intent"),
    ("done", SAME, "sleep", DONE, "outcome"),
    ("failed", SAME, "sleep", ERROR, "error"),
    ("done", SAME, "sleep", b"", "corrupt"),
    ("done", SAME, "sleep", b"{", "corrupt"),
    ("done", SAME, "sleep", b"[]", "corrupt"),
    ("done", SAME, "sleep", b'{"type":"of_tomorrow"}', "corrupt"),
    ("done", SAME, "checkpoint", DONE, "corrupt"),
    ("failed", SAME, "sleep", b"", "corrupt"),
    ("failed", SAME, "sleep", b"{}", "corrupt"),
    ("failed", SAME, "sleep", DONE, "corrupt"),
    ("of_tomorrow", SAME, "sleep", DONE, "corrupt"),
    ("", SAME, "sleep", DONE, "corrupt"),
    ("intent", OTHER, "sleep", b"", "mismatch"),
    ("done", OTHER, "sleep", DONE, "mismatch"),
    ("done", OTHER, "sleep", b"", "mismatch"),
    ("failed", OTHER, "sleep", ERROR, "mismatch"),
    ("of_tomorrow", OTHER, "sleep", DONE, "mismatch"),
]


@pytest.mark.statement(10, page="effects")
@pytest.mark.statement(13, page="effects")
@pytest.mark.parametrize(("status", "hash", "kind", "body", "wanted"), CELLS)
def test_every_cell_of_a_row_has_one_meaning_and_another_hash_outranks_them_all(
    status: str, hash: str, kind: str, body: bytes, wanted: str
) -> None:
    """10: another hash is a mismatch, whatever the status; 13: what lacks its payload, or has an unknown status, is
    corrupt."""
    row = JournalRow(key="k", kind=kind, status=status, envelope_hash=hash, body=body)  # type: ignore[arg-type]  # on disk it is text
    assert decide(row, SAME).tag == wanted


def test_no_row_is_absent() -> None:
    assert decide(None, SAME).tag == "absent"


def test_an_error_comes_back_with_its_code_and_its_text_even_if_no_store_can_hold_that() -> None:
    row = JournalRow(
        key="k",
        kind="sleep",
        status=JournalStatus.FAILED,
        envelope_hash=SAME,
        body=encode_error(EffectControllerError("broken", "it \ud83d is")),
    )
    decision: Any = decide(row, SAME)
    assert decision.error.code == "broken"
    assert str(decision.error) == "broken: it \ufffd is"


# ---- a crash --------------------------------------------------------------------------------------------------------

# What the next process does, by where the one before died.
POINTS = ["before_intent", "after_intent", "in_it", "after_it", "after_outcome"]
AGAIN = ["run", "run", "run_again", "run_again", "replay"]  # no intent is written, or it means nothing
HELD = ["run", "run", "run_again", "run_again", "run_again"]  # nor is the outcome, until something needs it
FAILS = ["run", "unknown", "unknown", "unknown", "replay"]
WAITS = ["run", "suspend", "suspend", "suspend", "replay"]

CRASHES: dict[tuple[str, str, str], list[str]] = {
    # kind, what repeating it does, policy: what happens for each point
    ("tool_call", "pure", "fail"): AGAIN,
    ("tool_call", "pure", "wait"): AGAIN,
    ("tool_call", "idempotent", "fail"): AGAIN,
    ("tool_call", "idempotent", "wait"): AGAIN,
    ("tool_call", "unsafe", "fail"): FAILS,
    ("tool_call", "unsafe", "wait"): WAITS,
    ("exec_code", "unsafe", "fail"): FAILS,
    ("direct", "pure", "fail"): AGAIN,
    ("compact", "pure", "fail"): AGAIN,  # it may have asked a model
    # A start is the same by the process's id, a wait reads the same promise.
    ("process", "idempotent", "fail"): AGAIN,
    ("await_event", "idempotent", "fail"): AGAIN,
    ("llm_call", "pure", "fail"): HELD,
    ("assistant_response", "pure", "fail"): HELD,
    ("sleep", "pure", "fail"): HELD,
    ("turn_start", "pure", "fail"): HELD,
    ("turn_end", "pure", "fail"): HELD,
    ("checkpoint", "pure", "fail"): HELD,
    ("tool_hooks", "pure", "fail"): HELD,
    ("sync_execution_environment", "pure", "fail"): HELD,
}


PURE, IDEMPOTENT, UNSAFE = (tool_call(each) for each in ToolEffect)
PATIENT, CODE, MODEL = tool_call(ToolEffect.UNSAFE, OnUnknown.WAIT), *(ASKED[k][0] for k in ("exec_code", "llm_call"))
PROCESS, WAIT = (ASKED[k][0] for k in ("process", "await_event"))
OUTCOME, REFUSED = Recorded(SleepOutcome()), EffectControllerError("c", "m")
FATES: list[tuple[Decision, Any, str]] = [
    *((Absent(), each, "run") for each in (PURE, IDEMPOTENT, UNSAFE, PATIENT, CODE, MODEL, PROCESS, WAIT)),
    *((OUTCOME, each, "replay") for each in (PURE, UNSAFE, PATIENT, MODEL)),
    *((Failed(REFUSED), each, "replay") for each in (PURE, UNSAFE, PATIENT, MODEL)),
    *((Mismatch(), each, "refuse") for each in (PURE, UNSAFE, PATIENT, MODEL)),
    *((Corrupt("broken"), each, "refuse") for each in (PURE, UNSAFE, PATIENT, MODEL)),
    # Of what may run again only direct calls have an intent, for what they may have cost.
    *((Intended(), each, "run") for each in (PURE, IDEMPOTENT, MODEL, PROCESS, WAIT)),
    *((Intended(), each, "unknown_after_crash") for each in (UNSAFE, CODE)),
    (Intended(), PATIENT, "suspend"),
]


@pytest.mark.parametrize(("decision", "command", "wanted"), FATES)
def test_what_follows_from_a_decision(decision: Decision, command: Any, wanted: str) -> None:
    assert fate(decision, command) == wanted


def test_the_table_of_crashes_has_every_kind_that_there_is() -> None:
    assert {kind for kind, *_ in CRASHES} == {each.value for each in RuntimeEffectKind} == ASKED.keys()
    tools = {(effect, policy) for kind, effect, policy in CRASHES if kind == "tool_call"}
    assert tools == {(effect.value, policy.value) for effect in ToolEffect for policy in OnUnknown}


@define
class Crash:
    """An effect that counts how often it was begun, and in which its process may die."""

    point: str
    journal: MemoryJournal = field(factory=MemoryJournal)
    begun: int = 0

    async def run(self, asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        self.begun += 1
        if self.point == "in_it":
            raise Killed
        return ASKED[asked.command.kind][1]

    async def first(self, asked: RuntimeEffectEnvelope) -> None:
        """The process that dies. An effect without an intent makes no write before it."""
        journal = self.journal
        has_intent = asked.command.kind in ("exec_code", "direct") or (
            isinstance(asked.command, ToolCallCommand) and asked.command.call.effect is ToolEffect.UNSAFE
        )
        match self.point:
            case "before_intent":
                return
            case "after_intent" if not has_intent:
                return
            case "after_intent":
                journal.dies_at, journal.after = 0, True
            case "after_it":
                journal.dies_at = 1 if has_intent else 0
        controller = JournalController((), journal.append)
        try:
            await controller.execute(asked, self.run)
        except Killed:
            return
        assert self.point == "after_outcome" or not journal.writes  # all other points killed it, if it wrote at all

    async def second(self, asked: RuntimeEffectEnvelope) -> str:
        """What the next process does."""
        before, self.point = self.begun, "none"
        journal = self.journal.left()
        controller = JournalController(journal.rows, journal.append, died=True)
        try:
            outcome = await controller.execute(asked, self.run)
        except EffectSuspended:
            assert (self.begun, journal.writes) == (before, [])
            return "suspend"
        if controller.unknown:
            assert self.begun == before
            assert "unknown_after_crash" in str(outcome)
            # It is settled: a third process reads the same.
            third = JournalController(journal.rows, journal.append, died=True)
            assert await third.execute(asked, self.run) == outcome
            return "unknown"
        if controller.replayed:
            assert self.begun == before
            return "replay"
        return "run_again" if before else "run"


CASES = [(*row, point, wanted) for row, fates in CRASHES.items() for point, wanted in zip(POINTS, fates, strict=True)]


@pytest.mark.parametrize(("kind", "effect", "policy", "point", "wanted"), CASES)
async def test_what_becomes_of_an_effect_after_a_crash(
    kind: str, effect: str, policy: str, point: str, wanted: str
) -> None:
    command = ASKED[kind][0]
    if kind == "tool_call":
        command = tool_call(ToolEffect(effect), OnUnknown(policy))
    asked = envelope(SCOPE, command, "1")
    crash = Crash(point)
    await crash.first(asked)
    assert await crash.second(asked) == wanted
    if effect == "unsafe":
        assert crash.begun <= 1


async def test_the_model_reads_of_an_unknown_call_that_it_may_or_may_not_have_happened() -> None:
    asked = envelope(SCOPE, tool_call(ToolEffect.UNSAFE), "c")
    crash = Crash("in_it")
    await crash.first(asked)
    journal = crash.journal.left()
    outcome: Any = await JournalController(journal.rows, journal.append, died=True).execute(asked, crash.run)
    result = outcome.launch.result
    assert isinstance(result.output.outcome, ToolCallFailure)
    assert result.output.outcome.code == "unknown_after_crash"
    assert result.model_return.parts[0].text == (
        "Error: `pay` was interrupted by a crash: it may or may not have happened, and nobody knows. "
        "Find out before you do it again."
    )
    assert journal.writes == [["tool_call `pay` (c): done"]]
    assert len(journal.rows) == 1
    assert decode(ToolCallEffectOutcome, journal.rows[0].body) == outcome
