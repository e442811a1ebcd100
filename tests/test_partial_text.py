"""What becomes of the text of a reply that is cut off: `durability.partial_text` says so, case by case."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, cancelled_when
from observe_kit import Told, told

from lash_framework import Lash, Session
from lash_framework.cli.lines import problems
from lash_framework.settings import load_settings
from lash_framework.testing import CrashPoint, When
from lash_framework.testing.crash_points import Watch
from lash_framework.testing.crash_seams import watch_host
from lash_hookspecs import (
    AssembledTurn,
    AttemptReset,
    LlmCallError,
    LlmTerminalReason,
    MessageRole,
    PartKind,
    Stopped,
    StopReason,
    StreamReasoningDelta,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

KEPT = {"drop": [], "keep": ["Half of an"]}
TOLD = {
    "drop": "cancelled; your message is stored, the unfinished answer is not",
    "keep": "cancelled; your message is stored, and the answer as far as it came",
}
each_policy = pytest.mark.parametrize("policy", KEPT)


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'a.db'}"


def sets(policy: str) -> list[str]:
    return [f"durability.partial_text={policy}"]


async def said(session: Session) -> list[str]:
    """What the assistant has said, as it is stored."""
    return [each.text for each in await session.messages() if each.role is MessageRole.ASSISTANT]


# ---- a turn that is asked to end ------------------------------------------------------------------------------------

Run = Callable[[Lash, Session, anyio.Event], Awaitable[AssembledTurn]]


async def by_cancel(lash: Lash, session: Session, reached: anyio.Event) -> AssembledTurn:
    return await cancelled_when(reached, session.turn("q", turn_id="t"))


async def by_break(lash: Lash, session: Session, reached: anyio.Event) -> AssembledTurn:
    async with session.turn("q", turn_id="t") as running:
        async for _ in running:
            if reached.is_set():
                break
    return await session.run("q", turn_id="t")


async def by_deadline(lash: Lash, session: Session, reached: anyio.Event) -> AssembledTurn:
    return await session.run("q", turn_id="t", deadline_s=1.0)


async def by_another_process(lash: Lash, session: Session, reached: anyio.Event) -> AssembledTurn:
    """Asked for in the database, as `lash cancel` does."""
    turns: list[AssembledTurn] = []

    async def run() -> None:
        turns.append(await session.run("q", turn_id="t"))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await reached.wait()
        other = await session.cancel("enough")
        assert other is not None
    return turns[0]


@each_policy
@pytest.mark.parametrize("run", [by_cancel, by_break, by_deadline, by_another_process], ids=lambda run: run.__name__)
async def test_what_was_streamed_of_a_reply_whose_turn_is_asked_to_end(run: Run, policy: str, tmp_path: Path) -> None:
    """Watched or not, whoever asks. What is kept is the turn's text, is said to be cut, and the model reads it next."""
    reached = anyio.Event()
    halting = ["No.", AttemptReset(), "Half ", "of an", reached.set, "", anyio.sleep_forever]
    model = Told(halting, ["after"])
    async with agent(model, store=url_in(tmp_path), settings=load_settings(env={}, sets=sets(policy))) as lash:
        session = await lash.session("s")
        with anyio.fail_after(10):
            turn = await run(lash, session, reached)
        assert turn.outcome == Stopped(StopReason.CANCELLED)
        assert turn.usage.at_least
        assert turn.text == "".join(KEPT[policy])
        assert [each.code for each in turn.errors] == ["partial_text_kept"] * len(KEPT[policy])
        assert await said(session) == KEPT[policy]
        assert list(problems(turn)) == [TOLD[policy]]
        await session.run("go on")
        shown = [block.text for message in model.requests[-1].messages for block in message.blocks]  # type: ignore[union-attr]  # texts
        assert shown[-2 - len(KEPT[policy]) :] == ["q", *KEPT[policy], "go on"]
    async with told(store=url_in(tmp_path)) as lash:
        assert await said(await lash.session("s")) == [*KEPT[policy], "after"]


@each_policy
async def test_a_cancel_in_a_tool_keeps_the_reply_that_called_it_under_both(policy: str, tmp_path: Path) -> None:
    """That reply is whole: no policy is needed."""
    started = anyio.Event()

    @tool
    async def slow() -> str:
        """Never ends."""
        started.set()
        await anyio.sleep_forever()
        return ""

    script = ["Let me see.", Reply(tool_calls=[Call("slow")])]
    async with told(script, store=url_in(tmp_path), tools=[slow], sets=sets(policy)) as lash:
        session = await lash.session("s")
        turn = await by_cancel(lash, session, started)
        assert await said(session) == ["Let me see."]
        assert "partial_text_kept" not in [each.code for each in turn.errors]


async def test_neither_reasoning_nor_a_call_that_was_on_its_way_is_kept(tmp_path: Path) -> None:
    """Whether the turn was asked to end, or its service cut the reply off: text is kept, and nothing else."""
    reached, asked = anyio.Event(), list[str]()

    @tool
    async def pay() -> str:
        """Never called."""
        asked.append("pay")
        return ""

    halting = [StreamReasoningDelta("I wonder. "), "Half ", "of an", reached.set, anyio.sleep_forever]
    limit = Reply(tool_calls=[Call("pay")], terminal_reason=LlmTerminalReason.OUTPUT_LIMIT)
    cut = [StreamReasoningDelta("I wonder. "), "Half ", "of an", limit]
    for number, script in enumerate((halting, cut)):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with told(script, store=url_in(folder), tools=[pay], sets=sets("keep")) as lash:
            session = await lash.session("s")
            await (by_cancel(lash, session, reached) if script is halting else session.run("q"))
            (kept,) = [each for each in await session.messages() if each.role is MessageRole.ASSISTANT]
            assert [(part.kind, part.content) for part in kept.parts] == [(PartKind.PROSE, "Half of an")]
    assert asked == []


@pytest.mark.statement(36, page="effects")
@pytest.mark.parametrize(("run", "ends_cancelled"), [(by_cancel, False), (by_another_process, True)])
async def test_a_process_that_dies_between_a_cancel_and_its_commit_loses_the_text(
    run: Run, ends_cancelled: bool, tmp_path: Path
) -> None:
    """And the cancel, too, unless it is in the database, where `lash cancel` puts it.

    36: whoever goes on with the turn ends it as cancelled.
    """
    reached, watch = anyio.Event(), Watch(CrashPoint("store commit", When.BEFORE))
    halting = ["Half ", "of an", reached.set, anyio.sleep_forever]
    with anyio.CancelScope() as watch.scope:
        try:
            async with told(halting, store=url_in(tmp_path), sets=sets("keep")) as lash:
                watch_host(lash, watch, mortal=True)
                watch.active = True
                await run(lash, await lash.session("s"), reached)
        except Exception:
            assert watch.dead
    assert watch.dead
    async with told(["The whole answer."], store=url_in(tmp_path), sets=sets("keep")) as lash:
        session = await lash.session("s", recover=False)
        (recovered,) = await session.recover()
        assert (recovered.turn.outcome == Stopped(StopReason.CANCELLED)) is ends_cancelled
        assert await said(session) == ([] if ends_cancelled else ["The whole answer."])


# ---- a reply that its service cut off -------------------------------------------------------------------------------

CUTS = {
    "broke off": (Reply(error=LlmCallError(message="the connection broke")), StopReason.PROVIDER_ERROR),
    "output limit": (Reply(terminal_reason=LlmTerminalReason.OUTPUT_LIMIT), StopReason.INCOMPLETE),
}


@each_policy
@pytest.mark.parametrize("cut", CUTS)
async def test_what_there_was_of_a_reply_that_its_service_cut_off(cut: str, policy: str, tmp_path: Path) -> None:
    end, reason = CUTS[cut]
    async with told(["Half ", "of an", end], store=url_in(tmp_path), sets=sets(policy)) as lash:
        session = await lash.session("s")
        turn = await session.run("q")
        assert turn.outcome == Stopped(reason)
        assert turn.text == "".join(KEPT[policy])
        assert await said(session) == KEPT[policy]


@each_policy
async def test_that_text_is_in_the_record_so_that_a_replay_keeps_it_whatever_is_set_by_then(
    policy: str, tmp_path: Path
) -> None:
    other = "keep" if policy == "drop" else "drop"
    kept = [*sets(policy), "durability.keep_journal_h=1"]
    async with told(["Half ", "of an", CUTS["broke off"][0]], store=url_in(tmp_path), sets=kept) as lash:
        await (await lash.session("s")).run("q", turn_id="t")
    async with told(store=url_in(tmp_path), sets=[*sets(other), "durability.keep_journal_h=1"]) as lash:
        replayed = await lash.replay("t")
        assert replayed.differences == ()
        assert replayed.turn.text == "".join(KEPT[policy])


# ---- a crash --------------------------------------------------------------------------------------------------------


async def interrupted(policy: str, folder: Path) -> None:
    """A turn whose process is gone in the middle of a reply: what was streamed is in no record."""
    reached = anyio.Event()
    async with told(
        ["Half ", "of an", reached.set, anyio.sleep_forever], store=url_in(folder), sets=sets(policy)
    ) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.run("q", turn_id="t"))
            await reached.wait()
            group.cancel_scope.cancel()


@each_policy
async def test_after_a_crash_in_the_middle_of_a_reply_the_model_is_asked_again_under_both(
    policy: str, tmp_path: Path
) -> None:
    await interrupted(policy, tmp_path)
    async with told(["The whole answer."], store=url_in(tmp_path), sets=sets(policy)) as lash:
        session = await lash.session("s")
        assert await said(session) == ["The whole answer."]


async def abandoned(session: Session) -> Any:
    return (await session.abandon("t")).turn


async def cancelled(session: Session) -> Any:
    await session.cancel()
    (recovered,) = await session.recover()
    return recovered.turn


@each_policy
@pytest.mark.parametrize("end", [abandoned, cancelled], ids=lambda end: end.__name__)
async def test_a_turn_that_is_given_up_after_a_crash_has_no_half_reply_under_both(
    end: Callable[[Session], Awaitable[AssembledTurn]], policy: str, tmp_path: Path
) -> None:
    """Its end commits what is recorded; what was streamed isn't, wherever it was seen."""
    await interrupted(policy, tmp_path)
    async with told(store=url_in(tmp_path), sets=sets(policy)) as lash:
        session = await lash.session("s", recover=False)
        turn = await end(session)
        assert isinstance(turn.outcome, Stopped)
        assert (turn.text, await said(session)) == ("", [])
