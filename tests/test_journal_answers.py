"""What the journal's controller answers from its rows, and what it refuses to answer or to record."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from asked_kit import ASKED, CALL, REQUEST, SCOPE, START, answer, asked, call, never
from attrs import evolve
from hypothesis import given, strategies as st
from journal_kit import Killed, MemoryJournal

from lash_framework.effects import envelope
from lash_framework.envelope_hash import EnvelopeHasher
from lash_framework.journal import JournalController
from lash_framework.journal_errors import EffectSuspended, JournalRefusal, differing_paths
from lash_hookspecs import (
    AwaitEventOutcome,
    CheckpointCommand,
    CheckpointKind,
    CheckpointOutcome,
    EffectControllerError,
    EmitEvents,
    HookRecord,
    JournalRow,
    JournalStatus,
    LlmCallCommand,
    LlmCallError,
    LlmCallOutcome,
    LlmRole,
    LlmToolSpec,
    OnUnknown,
    OwnedDirective,
    ProcessAbandoned,
    ProcessAwait,
    ProcessAwaited,
    ProcessCancel,
    ProcessCancelRequested,
    ProcessCommand,
    ProcessOutcome,
    ProcessRefused,
    ProcessSignal,
    ProcessSignalled,
    ProcessStarted,
    ProcessStatus,
    ProcessTransfer,
    ProcessTransferred,
    PromptPiece,
    RenderedPrompt,
    ResolvedError,
    ResolvedOk,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    SleepOutcome,
    SurfaceEvent,
    SyncEnvironmentCommand,
    SyncEnvironmentOutcome,
    TokenUsage,
    ToolCallCommand,
    ToolCallDone,
    ToolCallEffectOutcome,
    ToolCallOutput,
    ToolCallSuccess,
    ToolEffect,
    WaitCancelled,
    WaitTimedOut,
    expect,
    expect_process,
    llm_text,
    process_effect_id,
    wait_id,
)

# ---- answers from rows ----------------------------------------------------------------------------------------------


async def recorded(*questions: RuntimeEffectEnvelope, run: Any = answer, owners: Any = None) -> list[JournalRow]:
    """The rows of a process that came to its end."""
    journal = MemoryJournal()
    controller = JournalController((), journal.append, tool_owners=owners)
    for each in questions:
        try:
            await controller.execute(each, run)
        except EffectControllerError:
            continue
    return [*journal.rows, *controller.held]


@pytest.mark.statement(11, page="effects")
@pytest.mark.statement(25, page="effects")
@pytest.mark.parametrize("kind", ASKED)
async def test_a_done_row_of_every_kind_is_the_outcome_and_runs_nothing(kind: str) -> None:
    """11: what is recorded is the outcome; 25: its executor isn't called."""
    rows = await recorded(asked(kind))
    journal = MemoryJournal(rows)
    controller = JournalController(rows, journal.append)
    assert await controller.execute(asked(kind), never) == ASKED[kind][1]
    assert len(controller.replayed) == 1
    assert controller.ran == []
    assert journal.writes == []


SIGNAL = ProcessSignal(process_id="p", signal_name="go", signal_id="1", payload={"n": 1})
TRANSFER = ProcessTransfer(from_session="s", to_session="t", process_ids=("p",))
PROCESSES: list[tuple[Any, Any]] = [
    (START, ProcessStarted(ProcessStatus.RUNNING)),
    (START, ProcessRefused("process_conflict", "`p` is another process")),
    (ProcessAwait("p"), ProcessAwaited(ProcessAbandoned("engine_gave_up"))),
    (ProcessCancel("p", "late"), ProcessCancelRequested(ProcessStatus.WAITING)),
    (SIGNAL, ProcessSignalled(3)),
    (TRANSFER, ProcessTransferred()),
]


@pytest.mark.statement(70, page="effects")
@pytest.mark.parametrize(("operation", "result"), PROCESSES)
async def test_what_a_process_is_asked_is_asked_once_and_replayed(operation: Any, result: Any) -> None:
    """The journal knows of no process: whoever calls it brings the runner."""
    ran = 0

    async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        nonlocal ran
        ran += 1
        assert envelope.command == ProcessCommand(operation)
        return ProcessOutcome(result)

    question = envelope(SCOPE, ProcessCommand(operation), process_effect_id(operation))
    rows = await recorded(question, run=run)
    outcome = await JournalController(rows, MemoryJournal(rows).append).execute(question, run)
    assert expect_process(outcome, type(result)) == result
    assert ran == 1


@pytest.mark.parametrize(
    "resolution", [ResolvedOk({"yes": True}), ResolvedError("no", "not now"), WaitTimedOut(), WaitCancelled()]
)
async def test_what_came_of_a_wait_is_read_once_and_replayed(resolution: Any) -> None:
    ran = 0

    async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        nonlocal ran
        ran += 1
        return AwaitEventOutcome(resolution)

    command = ASKED["await_event"][0]
    question = envelope(SCOPE, command, wait_id(command.key))
    rows = await recorded(question, run=run)
    outcome = await JournalController(rows, MemoryJournal(rows).append).execute(question, run)
    assert expect(outcome, AwaitEventOutcome).resolution == resolution
    assert ran == 1


@pytest.mark.statement(12, page="effects")
async def test_a_failed_row_raises_its_error_again() -> None:
    """An error of the boundary is recorded, and raised by a replay with its code and its words."""

    async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        raise EffectControllerError("broken", "no way")

    rows = await recorded(asked("pure"), run=run)
    assert [row.status for row in rows] == ["failed"]
    journal = MemoryJournal(rows)
    with pytest.raises(EffectControllerError, match=r"^broken: no way$"):
        await JournalController(rows, journal.append).execute(asked("pure"), never)


@pytest.mark.statement(9, page="effects")
async def test_an_executors_wrong_outcome_is_a_failure_of_the_boundary() -> None:
    """The error names the kind that was asked for and the one that came."""

    async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        return SleepOutcome()

    with pytest.raises(EffectControllerError, match=r"runtime_effect_wrong_outcome.*`checkpoint`.*`sleep`"):
        await JournalController((), MemoryJournal().append).execute(asked("checkpoint"), run)


@pytest.mark.statement(13, page="effects")
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"body": b""}, "it is done, and has no outcome"),
        ({"body": b"{"}, "its outcome can't be read"),
        ({"status": "of_tomorrow"}, "its status is 'of_tomorrow'"),
        ({"status": JournalStatus.FAILED, "body": b""}, "it failed, and has no error"),
    ],
)
async def test_a_row_that_can_not_be_read_is_refused_by_name_and_nothing_runs(changes: Any, reason: str) -> None:
    """A row without what its status promises, or of an unknown one, is corrupt."""
    (row,) = await recorded(asked("pure"))
    controller = JournalController([evolve(row, **changes)], MemoryJournal().append)
    with pytest.raises(JournalRefusal, match=f"runtime_effect_corrupt: the record of tool_call `pure-1`.*{reason}"):
        await controller.execute(asked("pure"), never)


async def test_a_refusal_within_a_call_is_not_recorded_as_that_calls_outcome() -> None:
    """Put right what caused it, and the turn goes on from the same rows."""
    rows = await recorded(call("child", ToolEffect.PURE, x=1))
    journal = MemoryJournal(list(rows))
    controller = JournalController(rows, journal.append)

    async def parent(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        return await controller.execute(call("child", ToolEffect.PURE, x=2), never)

    with pytest.raises(JournalRefusal):
        await controller.execute(call("parent", ToolEffect.PURE), parent)
    assert journal.rows == rows
    assert controller.held == ()


async def test_a_key_that_is_asked_for_twice_is_refused() -> None:
    controller = JournalController((), MemoryJournal().append)
    await controller.execute(asked("llm"), answer)
    with pytest.raises(EffectControllerError, match="runtime_effect_key_reused: llm_call 1"):
        await controller.execute(asked("llm"), never)


async def test_rows_that_nobody_asked_for_are_told_but_for_those_within_a_replayed_call() -> None:
    child = evolve(CALL, call_id="p:00", tool_name="c")
    parent = ToolCallEffectOutcome(ToolCallDone(evolve(CALL, call_id="p", tool_name="p", children=(child,))))

    async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        whole = envelope.invocation.subject.effect_id == "p"
        return parent if whole else ToolCallEffectOutcome(ToolCallDone(child))

    rows = await recorded(call("p:00", ToolEffect.PURE), call("p", ToolEffect.PURE), run=run)
    rows += await recorded(asked("checkpoint"))
    controller = JournalController(rows, MemoryJournal().append)
    assert len(controller.recorded.left) == 3
    await controller.execute(call("p", ToolEffect.PURE), never)
    assert [row.label for row in controller.recorded.left] == ["checkpoint 1 of iteration 0"]


async def test_a_call_that_waits_for_a_person_says_which_and_leaves_its_intent() -> None:
    journal = MemoryJournal(dies_at=1)
    question = call("pay", ToolEffect.UNSAFE, OnUnknown.WAIT)
    with pytest.raises(Killed):
        await JournalController((), journal.append).execute(question, answer)
    rows = list(journal.rows)
    with pytest.raises(EffectSuspended, match=r"tool_call `pay` \(pay\)") as raised:
        await JournalController(rows, journal.append, died=True).execute(question, never)
    assert raised.value.keys == (question.key,)
    assert journal.rows == rows


# ---- what can't be recorded -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "outcome", "named"),
    [
        (
            call("add", ToolEffect.PURE),
            ToolCallEffectOutcome(ToolCallDone(evolve(CALL, output=ToolCallOutput(ToolCallSuccess(object()))))),
            "tool_call `add` (add) of plugin `bank`",
        ),
        (
            asked("checkpoint"),
            CheckpointOutcome(
                hooks=HookRecord(
                    directives=(
                        OwnedDirective("fine", EmitEvents((SurfaceEvent(name="n", payload=1),))),
                        OwnedDirective("mine", EmitEvents((SurfaceEvent(name="n", payload=object()),))),
                    )
                )
            ),
            "of plugin `mine`",
        ),
        (asked("checkpoint"), CheckpointOutcome(hooks=HookRecord(states={"mine": {1: 2}})), "of plugin `mine`"),
    ],
    ids=["tool", "directive", "state"],
)
async def test_an_outcome_that_can_not_be_encoded_names_whose_it_is_and_replays_as_that_error(
    question: RuntimeEffectEnvelope, outcome: RuntimeEffectOutcome, named: str
) -> None:
    async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        return outcome

    with pytest.raises(EffectControllerError) as raised:
        await JournalController((), MemoryJournal().append).execute(question, run)
    assert raised.value.code == "runtime_effect_unencodable"
    assert named in str(raised.value)
    rows = await recorded(question, run=run)
    with pytest.raises(EffectControllerError) as again:
        await JournalController(rows, MemoryJournal().append).execute(question, never)
    assert str(again.value) == str(raised.value)


async def test_arguments_that_can_not_be_hashed_are_refused_before_anything_runs() -> None:
    with pytest.raises(EffectControllerError, match=r"runtime_effect_unencodable: tool_call `add`.*plugin `bank`"):
        await JournalController((), MemoryJournal().append).execute(call("add", ToolEffect.PURE, x=object()), never)


# ---- usage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("died", "effects", "wanted"),
    [
        (False, "llm llm", [False, False]),
        (True, "llm llm", [True, False]),  # once
        (True, "turn_start checkpoint llm llm", [True, False]),  # their records may be lost with the reply's
        (True, "pure llm", [False]),  # it was durable before the tool began
    ],
)
async def test_a_model_call_that_a_killed_process_may_have_paid_for_makes_the_usage_at_least(
    died: bool, effects: str, wanted: list[bool]
) -> None:
    controller = JournalController((), MemoryJournal().append, died=died)
    outcomes = [await controller.execute(asked(each, str(n)), answer) for n, each in enumerate(effects.split())]
    assert [each.result.usage.at_least for each in outcomes if isinstance(each, LlmCallOutcome)] == wanted  # type: ignore[union-attr]  # answers


async def test_the_usage_of_a_failed_call_is_unknown_too_and_the_record_says_so() -> None:
    async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        return LlmCallOutcome(LlmCallError(message="down"))

    journal = MemoryJournal()
    controller = JournalController((), journal.append, died=True)
    outcome: Any = await controller.execute(asked("llm"), run)
    assert outcome.result.usage == TokenUsage(at_least=True)
    again = JournalController(controller.held, journal.append)
    assert await again.execute(asked("llm"), never) == outcome


# ---- mismatch -------------------------------------------------------------------------------------------------------


async def refused(before: RuntimeEffectEnvelope, now: RuntimeEffectEnvelope, **changes: Any) -> JournalRefusal:
    (row,) = await recorded(before)
    controller = JournalController([evolve(row, **changes)], MemoryJournal().append)
    with pytest.raises(JournalRefusal) as raised:
        await controller.execute(now, never)
    assert raised.value.code == "runtime_effect_mismatch"
    return raised.value


@pytest.mark.statement(20, page="effects")
@pytest.mark.statement(10, page="effects")
@pytest.mark.statement(18, page="effects")
async def test_a_mismatch_has_both_hashes_and_names_what_differs_without_values(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """10: another hash is refused, although its row is done; 18: each path that was added, removed or changed is named;

    20: no value is told but by its digest, whatever its size.
    """
    caplog.set_level(logging.DEBUG, logger="lash.journal")
    before = call("pay", ToolEffect.UNSAFE, amount=1, to="Ann", old=None)
    now = call("pay", ToolEffect.UNSAFE, amount=2, to="Ann", new={"secret": "hush"})
    error = await refused(before, now)
    old, new = (EnvelopeHasher().ask(each.command).hash for each in (before, now))
    assert str(error) == (
        "runtime_effect_mismatch: tool_call `pay` (pay) is not what was recorded: 3 paths differ: "
        f"`args/amount`, `args/new`, `args/old`; the record is of {old}, and now {new} is asked"
    )
    assert error.paths == ("args/amount", "args/new", "args/old")
    assert "hush" not in caplog.text
    digest = EnvelopeHasher().ask(now.command).digests["args/new"]
    assert f"args/new was absent, is {digest}" in caplog.text


@pytest.mark.statement(19, page="effects")
async def test_a_mismatch_counts_all_paths_and_shows_eight() -> None:
    """All paths are counted, and the first eight named."""
    error = await refused(
        call("pay", ToolEffect.PURE), call("pay", ToolEffect.PURE, **{f"a{n:02d}": n for n in range(11)})
    )
    assert ": 11 paths differ: `args/a00`, " in str(error)
    assert "`args/a07`, … and 3 more; the record" in str(error)
    assert "a08" not in str(error)
    assert len(error.paths) == 11


async def test_a_mismatch_says_that_the_tool_is_gone() -> None:
    """Six paths that differ were all that it said of a tool file that nobody had named again."""
    before = call("pay", ToolEffect.UNSAFE)
    assert isinstance(before.command, ToolCallCommand)
    gone = evolve(before.command.call, plugin_id="", effect=ToolEffect.PURE)
    error = await refused(before, envelope(SCOPE, ToolCallCommand(gone), "pay"))
    assert "is not what was recorded: there is no such tool here; 6 paths differ: `effect`, " in str(error)
    error = await refused(envelope(SCOPE, ToolCallCommand(gone), "pay"), before)
    assert "is not what was recorded: 6 paths differ: " in str(error)


@pytest.mark.statement(21, page="effects")
async def test_another_hash_with_equal_digests_says_that_nothing_explains_it() -> None:
    """Another hash of the same content is refused, and said to be that."""
    question = call("pay", ToolEffect.PURE)
    error = await refused(question, question, envelope_hash="0" * 64)
    assert "although all" in str(error)
    assert "the record was altered, or this version of lash hashes differently" in str(error)
    error = await refused(question, question, envelope_hash="0" * 64, digests=b"")
    assert "has no digests to compare" in str(error)


async def test_a_mismatch_of_a_request_names_the_plugins_whose_pieces_changed() -> None:
    def turn(rule: str, tool: str, said: str) -> tuple[list[RuntimeEffectEnvelope], Callable[..., Any]]:
        piece = PromptPiece(owners=("rules",), start=0, end=len(rule), sha256=rule[:1] * 64, section="Guidance")
        prompt = RenderedPrompt(text=rule, pieces=(piece,))
        messages = [llm_text(LlmRole.SYSTEM, rule), llm_text(LlmRole.USER, said)]
        spec = LlmToolSpec(name="add", description=tool, input_schema={})
        request = evolve(REQUEST, messages=messages, tools=(spec,))
        questions = [
            envelope(SCOPE, SyncEnvironmentCommand(True), "0"),
            envelope(SCOPE, LlmCallCommand("p", request), "1"),
        ]

        async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            if envelope.command.kind is RuntimeEffectKind.LLM_CALL:
                return await answer(envelope)
            return SyncEnvironmentOutcome(prompt=prompt)

        return questions, run

    questions, run = turn("Be kind.", "Add.", "Hi")
    rows = await recorded(*questions, run=run, owners={"add": "maths"})
    (sync, now), run = turn("be brief.", "Sum.", "Ho")
    controller = JournalController(rows[1:], MemoryJournal().append, tool_owners={"add": "maths"})
    await controller.execute(sync, run)
    with pytest.raises(JournalRefusal) as raised:
        await controller.execute(now, never)
    assert (
        "5 paths differ: `messages/1`, `messages/all`, `prompt/Guidance/1` of plugin `rules`, `prompt/text`, "
        "`tools/add` of plugin `maths`; "
    ) in str(raised.value)


PATHS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("12"))


@given(PATHS, PATHS)
def test_the_difference_is_what_is_added_removed_or_changed(before: dict[str, str], now: dict[str, str]) -> None:
    paths = differing_paths(before, now)
    assert (paths == ()) is (before == now)
    assert set(paths) == {key for key, _ in set(before.items()) ^ set(now.items())}


async def test_what_comes_to_nothing_is_told_by_its_key_and_answered_without_asking() -> None:
    async def nothing(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        is_checkpoint = asked.command.kind is RuntimeEffectKind.CHECKPOINT
        return CheckpointOutcome() if is_checkpoint else SyncEnvironmentOutcome(unchanged=True)

    journal = MemoryJournal()
    controller = JournalController((), journal.append)
    quiet = [asked("checkpoint", "1"), asked("sync_execution_environment", "2")]
    for each in quiet:
        await controller.execute(each, nothing)
    await controller.execute(asked("pure"), answer)
    assert journal.writes == [["what came to nothing, 2 times: done", "tool_call `pure-1` (pure-1): done"]]
    again = JournalController(journal.rows, journal.append)
    assert [await again.execute(each, never) for each in quiet] == [await nothing(each) for each in quiet]
    assert again.replayed == controller.ran[:2]


async def test_a_checkpoint_command_is_hashed_by_its_kind() -> None:
    other = envelope(SCOPE, CheckpointCommand(CheckpointKind.BEFORE_COMPLETION), "1")
    error = await refused(asked("checkpoint"), other)
    assert error.paths == ("checkpoint",)
