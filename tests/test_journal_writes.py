"""What the journal's controller writes when, and what it waits for; also where several effects end at once."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from asked_kit import answer, asked, call, never
from hypothesis import given, settings, strategies as st
from journal_kit import Killed, MemoryJournal

from lash_framework.call_rows import is_withdrawn
from lash_framework.cut_calls import EXTERNAL
from lash_framework.journal import JournalController
from lash_framework.journal_decisions import WRITTEN_AT_ONCE
from lash_framework.journal_queue import Later
from lash_hookspecs import (
    AwaitEventCommand,
    CheckpointOutcome,
    ClaimLost,
    ExecCodeCommand,
    JournalStatus,
    ProcessCommand,
    RuntimeEffectEnvelope,
    RuntimeEffectKind,
    RuntimeEffectOutcome,
    StoreUnavailable,
    ToolEffect,
)

# ---- what is written when -------------------------------------------------------------------------------------------

WRITES: dict[str, tuple[str, list[str]]] = {
    # effects one after the other, as `name`: what is written, each write with the kinds of its rows (`?` an intent)
    "nothing is written for a turn without tools": ("turn_start llm checkpoint turn_end", []),
    "a tool's outcome takes all before it along": ("turn_start pure", ["turn_start pure"]),
    "a reply is written before a tool starts": ("turn_start llm pure", ["turn_start llm", "pure"]),
    "and before the next model call": ("llm llm", ["llm"]),
    "internal records need not be": ("turn_start checkpoint llm", []),
    "a durable outcome needs no write before the next effect": ("pure pure llm", ["pure", "pure"]),
    "what hooks make of a durable reply need not be": ("llm flush assistant_response llm", ["llm"]),
    "it goes with what comes of it": ("llm flush assistant_response pure", ["llm", "assistant_response pure"]),
    "internal records wait for the next outcome": ("pure checkpoint pure", ["pure", "checkpoint pure"]),
    "an idempotent tool starts after all before it": ("checkpoint idempotent", ["checkpoint", "idempotent"]),
    "an unsafe one writes its intent with that": ("checkpoint unsafe", ["checkpoint unsafe?", "unsafe"]),
    "code is unsafe": ("llm code", ["llm code?", "code"]),
    "an intent is written though nothing is held": ("unsafe", ["unsafe?", "unsafe"]),
    "a direct call has an intent, and is durable at once": ("llm direct", ["llm direct?", "direct"]),
    "before it all is durable": ("checkpoint direct direct", ["checkpoint direct?", "direct", "direct?", "direct"]),
    "all before it is durable when a process is asked": ("checkpoint process llm", ["checkpoint", "process"]),
    "and when a wait begins, which others may see": ("checkpoint await_event", ["checkpoint", "await_event"]),
    "a sleep is held, as a model's reply is": ("llm sleep llm", ["llm", "sleep"]),
}


def shown(rows: list[str]) -> str:
    names = {"llm_call": "llm", "exec_code": "code"}
    found = []
    for row in rows:
        label, _, status = row.rpartition(": ")
        name = label.split("`")[1].split("-")[0] if "`" in label else label.split()[0]
        found.append(names.get(name, name) + ("?" if status == "intent" else ""))
    return " ".join(found)


@pytest.mark.parametrize(("effects", "wanted"), WRITES.values(), ids=WRITES)
async def test_what_is_written_when(effects: str, wanted: list[str]) -> None:
    journal = MemoryJournal()
    controller = JournalController((), journal.append)
    for number, name in enumerate(effects.split()):
        await (controller.flush() if name == "flush" else controller.execute(asked(name, str(number)), answer))
    assert [shown(rows) for rows in journal.writes] == wanted
    assert controller.durable
    held = [row.label for row in controller.held]
    assert [row.label for row in journal.rows] + held == controller.ran


EFFECTS = ["turn_start", "llm", "pure", "idempotent", "unsafe", "code", "direct", "checkpoint", "sleep", "process"]
EFFECTS += ["await_event", "flush"]


@given(st.lists(st.sampled_from(EFFECTS), max_size=12), st.booleans())
@settings(deadline=None, max_examples=120)
async def test_the_rules_of_the_order_hold_for_any_effects(effects: list[str], beside: bool) -> None:
    """What is durable is what a loss of power leaves, whether the disk is waited for in each write or later.

    Nothing outside that is remembered there goes before the disk has all; nothing at all before all is written. When a
    model is asked, the disk is at it.
    """
    journal = MemoryJournal()
    controller = JournalController((), journal.append, later=journal.later if beside else None)
    order: list[str] = []

    async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        durable = [row.label for row in journal.on_disk if row.status is JournalStatus.DONE]
        assert durable == order[: len(durable)]  # a durable record implies all before it
        before, kind = order, envelope.command.kind
        if kind in EXTERNAL:
            paid = {label for label in before if label.split()[0] in EXTERNAL}
            assert paid <= {row.label for row in journal.rows if row.status is JournalStatus.DONE}
            if kind is not RuntimeEffectKind.TOOL_CALL:
                assert paid <= {row.label for row in journal.under_way}
            if not beside:
                assert paid <= set(durable)
        if isinstance(envelope.command, ExecCodeCommand) or "unsafe" in str(envelope.command):
            assert journal.on_disk[-1].status is JournalStatus.INTENT
            assert durable == before
        if "idempotent" in str(envelope.command) or isinstance(envelope.command, (ProcessCommand, AwaitEventCommand)):
            assert durable == before
        order.append(controller.ran[-1])
        return await answer(envelope)

    for number, name in enumerate(effects):
        if name == "flush":
            await controller.flush()
            assert not [row for row in controller.held if row.kind in EXTERNAL]
            assert journal.on_disk == journal.rows
        else:
            question = asked(name, str(number))
            await controller.execute(question, run)
            assert (question.command.kind not in WRITTEN_AT_ONCE) or controller.held == ()
            own = beside and question.command.kind is RuntimeEffectKind.TOOL_CALL
            assert own or (question.command.kind not in WRITTEN_AT_ONCE) or journal.on_disk == journal.rows


@pytest.mark.parametrize(
    ("later", "syncs"),
    [
        ("llm", 0),  # the disk is at it: power that fails now takes no more than if it had failed a moment before
        ("llm flush", 0),  # to write the reply syncs what was before it, too
        ("sleep", 0),
        ("pure", 0),
        ("idempotent", 0),  # it has all before it written, and any write syncs
        ("unsafe", 0),
        ("direct", 0),
        ("flush", 1),
        ("save", 0),
        ("turn_start checkpoint turn_end", 0),  # nobody outside hears of it
    ],
)
async def test_the_disk_is_waited_for_before_anything_outside_remembers_a_tools_outcome(later: str, syncs: int) -> None:
    journal = MemoryJournal()
    controller = JournalController((), journal.append, later=journal.later)
    await controller.execute(asked("unsafe"), answer)
    assert [row.status for row in journal.rows] == [JournalStatus.DONE]
    assert [row.status for row in journal.on_disk] == [JournalStatus.INTENT]
    assert controller.durable  # it is: whatever is said of it waits for the disk
    await controller.execute(asked("checkpoint", "2"), answer)  # is held
    for number, name in enumerate(later.split(), 3):
        if name in ("flush", "save"):
            await (controller.flush() if name == "flush" else controller.save())
        else:
            await controller.execute(asked(name, str(number)), answer)
    assert journal.syncs == syncs
    waits_not = later in ("llm", "sleep", "pure", "turn_start checkpoint turn_end")
    assert (journal.on_disk[:1] == journal.rows[:1]) is not waits_not
    assert (journal.under_way[:1] == journal.rows[:1]) is (later not in ("pure", "turn_start checkpoint turn_end"))


async def test_a_pure_tool_starts_while_the_reply_that_asked_for_it_is_only_written() -> None:
    """A kill takes nothing. A loss of power takes the reply, and what the tool found, which leaves nothing outside."""
    journal = MemoryJournal()
    controller = JournalController((), journal.append, later=journal.later)
    await controller.execute(asked("llm"), answer)
    seen = []

    async def run(question: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        seen.append((len(journal.rows), len(journal.under_way), len(journal.on_disk)))
        return await answer(question)

    for name in ("pure", "pure", "llm", "unsafe"):
        await controller.execute(asked(name, str(len(seen))), run)
    assert seen == [(1, 0, 0), (2, 0, 0), (3, 3, 0), (5, 5, 5)]  # at last a reply, and an intent


async def test_the_disk_is_waited_for_before_the_turn_does_anything_outside() -> None:
    """Its beginning needn't be durable before."""
    journal = MemoryJournal()
    controller = JournalController((), journal.append, later=journal.later)
    await controller.execute(asked("turn_start"), answer)
    assert journal.syncs == 0

    async def run(question: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        assert journal.syncs == 1
        return await answer(question)

    await controller.execute(asked("llm"), run)
    await controller.flush()  # a reply is held: that is a write
    await controller.execute(asked("llm", "2"), run)
    assert journal.syncs == 1


async def test_what_a_tool_learns_from_another_tool_is_on_the_disk() -> None:
    """It may act on it, and nobody asks it to wait."""
    journal = MemoryJournal()
    controller = JournalController((), journal.append, later=journal.later)

    async def outer(question: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        await controller.execute(asked("unsafe", "inner"), answer)
        assert journal.on_disk == journal.rows
        return await answer(question)

    await controller.execute(asked("unsafe", "outer"), outer)
    assert journal.on_disk != journal.rows


@pytest.mark.parametrize("waited_for", [True, False])
async def test_a_disk_that_fails_beside_the_turn_ends_its_journal(waited_for: bool) -> None:
    journal = MemoryJournal()

    async def sync(*, wait: bool = True) -> None:
        if wait is waited_for:
            raise StoreUnavailable("the disk is gone")
        await journal.sync(wait=wait)

    controller = JournalController((), journal.append, later=Later(journal.post, sync))
    if not waited_for:
        await controller.execute(asked("llm"), answer)
        await controller.execute(asked("pure"), answer)
    for name in ("llm", "unsafe", "turn_end"):
        with pytest.raises(StoreUnavailable, match="the disk is gone"):
            await controller.execute(asked(name, "later"), never)
    assert not controller.durable


async def test_what_a_checkpoint_took_from_the_inbox_is_claimed_with_its_record() -> None:
    journal = MemoryJournal()
    controller = JournalController((), journal.append)
    await controller.execute(asked("turn_start"), answer)

    async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        return CheckpointOutcome(taken=(4, 7))

    await controller.execute(asked("checkpoint"), run)
    assert [shown(rows) for rows in journal.writes] == ["turn_start", "checkpoint"]
    assert journal.claims == [4, 7]


# ---- several at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effect", ToolEffect)
async def test_eight_calls_that_end_together_cost_one_write(effect: ToolEffect) -> None:
    journal = MemoryJournal()
    controller = JournalController((), journal.append)
    calls = [call(f"t{number}", effect) for number in range(8)]
    started, go = 0, anyio.Event()

    async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        nonlocal started
        started += 1
        if started == 8:
            go.set()
        await go.wait()
        return await answer(envelope)

    await controller.prepare(calls)
    before = len(journal.writes)
    assert before == (effect is ToolEffect.UNSAFE)
    async with anyio.create_task_group() as group:
        for each in calls:
            group.start_soon(controller.execute, each, run)
    assert list(map(len, journal.writes[before:])) == [8]


async def test_a_call_of_a_batch_does_not_wait_for_what_its_siblings_did() -> None:
    """All before the batch is durable; its calls begin at once, though one has ended already and is being written."""
    journal, writing, may_end = MemoryJournal(), anyio.Event(), anyio.Event()
    prepared = False

    async def append(rows: Any, claims: Any) -> None:
        if prepared:
            writing.set()
            await may_end.wait()
        await journal.append(rows, claims)

    async def slow(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        may_end.set()  # that it began lets the write of its sibling end
        return await answer(envelope)

    controller = JournalController((), append)
    first, second = call("first", ToolEffect.UNSAFE), call("second", ToolEffect.UNSAFE)
    await controller.prepare([first, second])
    prepared = True
    async with anyio.create_task_group() as group:
        group.start_soon(controller.execute, first, answer)
        await writing.wait()
        with anyio.fail_after(30):
            await controller.execute(second, slow)
    assert [row.status for row in journal.rows] == [JournalStatus.DONE] * 2


async def test_a_batch_is_prepared_in_one_write_and_recorded_calls_not_at_all() -> None:
    journal = MemoryJournal()
    first = JournalController((), journal.append)
    done, fresh = call("done", ToolEffect.UNSAFE), [call(f"t{number}", each) for number, each in enumerate(ToolEffect)]
    await first.execute(done, answer)
    journal.writes.clear()
    second = JournalController(journal.rows, journal.append)
    await second.execute(asked("turn_start"), answer)
    await second.prepare([done, *fresh])
    assert journal.writes == [["turn_start 1 of iteration 0: done", "tool_call `t2` (t2): intent"]]
    for each in [done, *fresh]:
        await second.execute(each, answer)
    assert second.replayed == ["tool_call `done` (done)"]


async def test_a_write_that_failed_ends_the_journal_for_all_with_the_same_error() -> None:
    journal = MemoryJournal(dies_at=0)
    controller = JournalController((), journal.append)
    errors: list[BaseException] = []

    async def execute(name: str) -> None:
        try:
            await controller.execute(call(name, ToolEffect.PURE), answer)
        except Killed as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(execute, name)
    for later in ("turn_end", "llm"):
        with pytest.raises(Killed) as raised:
            await controller.execute(asked(later), never)
        errors.append(raised.value)
    with pytest.raises(Killed):
        await controller.prepare([call("d", ToolEffect.UNSAFE)])
    with pytest.raises(Killed):
        await controller.flush()
    assert len(errors) == 5
    assert len(set(map(id, errors))) == 1
    assert journal.rows == []
    assert not controller.durable


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio knows no `Task.cancel()`
@pytest.mark.parametrize("made", [True, False])
@pytest.mark.parametrize(("at", "left"), [(0, ["llm unsafe?"]), (1, ["llm unsafe?", "unsafe"])])
async def test_a_bare_cancel_amid_a_write_comes_out_once_it_is_known_what_was_written(
    made: bool, at: int, left: list[str]
) -> None:
    """`asyncio.wait_for` cancels the task, not a scope. The journal ended there, and with it what was held by then."""
    journal, ran = MemoryJournal(), 0
    once = iter([True])

    async def append(rows: Any, claims: Any) -> None:
        if len(journal.writes) == at and next(once, False):
            if made:
                await journal.append(rows, claims)
            running.cancel()
            await anyio.lowlevel.checkpoint()
        await journal.append(rows, claims)

    async def run(question: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        nonlocal ran
        ran += 1
        return await answer(question)

    async def turn() -> None:
        await controller.execute(asked("llm"), answer)
        await controller.execute(asked("unsafe"), run)

    controller = JournalController((), append)
    running = asyncio.ensure_future(turn())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert list(dict.fromkeys(shown(rows) for rows in journal.writes)) == left
    assert ran == at
    assert controller.durable
    await controller.execute(asked("turn_end"), answer)
    await controller.save()
    assert shown(journal.writes[-1]) == "turn_end"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("cancels", [1, 2, 3])
@pytest.mark.parametrize("held", ["", "turn_start"])
async def test_bare_cancels_keep_nobody_from_taking_intents_back(held: str, cancels: int) -> None:
    """The first one came out of the write before it, and what was never begun was told as unknown."""
    journal, left = MemoryJournal(), cancels

    async def append(rows: Any, claims: Any) -> None:
        nonlocal left
        await journal.append([row for row in rows if row not in journal.rows], claims)
        if is_saved and left:
            left -= 1
            running.cancel()
            await anyio.lowlevel.checkpoint()

    async def turn() -> None:
        nonlocal is_saved
        await controller.prepare([asked("unsafe")])
        if held:
            await controller.execute(asked(held), answer)
        controller.withdraw([asked("unsafe")])
        is_saved = True
        await controller.save()

    is_saved = False
    controller = JournalController((), append)
    running = asyncio.ensure_future(turn())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert left == 0
    assert [is_withdrawn(row) for row in journal.rows if "unsafe" in row.label] == [True]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_bare_cancel_comes_out_also_if_the_items_were_not_to_be_had() -> None:
    """A checkpoint looks again then, and the turn went on."""
    journal = MemoryJournal()
    once = iter([True])

    async def append(rows: Any, claims: Any) -> None:
        if claims:
            if next(once, False):
                running.cancel()
                await anyio.lowlevel.checkpoint()
            raise ClaimLost("s", list(claims))
        await journal.append(rows, claims)

    async def take(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        return CheckpointOutcome(taken=(4,))

    controller = JournalController((), append)
    running = asyncio.ensure_future(controller.execute(asked("checkpoint"), take))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert controller.durable
    await controller.execute(asked("turn_end"), answer)


async def test_a_submitted_write_is_awaited_though_its_caller_is_cancelled() -> None:
    journal, writing, may_end = MemoryJournal(), anyio.Event(), anyio.Event()

    async def append(rows: Any, claims: Any) -> None:
        writing.set()
        await may_end.wait()
        await journal.append(rows, claims)

    controller = JournalController((), append)
    async with anyio.create_task_group() as group:
        group.start_soon(controller.execute, call("a", ToolEffect.PURE), answer)
        await writing.wait()
        group.cancel_scope.cancel()
        may_end.set()
    assert [row.label for row in journal.rows] == ["tool_call `a` (a)"]
    assert controller.durable
