"""Whole sessions with `memory`: notes are made, stored and shown, prompts keep their beginning, nothing is lost."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from loops import on_asyncio

from lash_framework.testing import call, crash_at_every_effect, crash_host
from lash_hookspecs import (
    LlmCallError,
    LlmRequest,
    LlmRole,
    LlmTerminalReason,
    NodeKind,
    ProviderFailureKind,
    TextBlock,
)

MODE = '[modes.long]\nextends = "standard"\nplugins = ["memory"]\n[plugin.memory]\n'
# A turn below says some 60 tokens.
SMALL = f"{MODE}observe_tokens = 50\nactivate_tokens = 150\nreflect_tokens = 100000\n"
REFLECTING = f"{MODE}observe_tokens = 50\nactivate_tokens = 150\nreflect_tokens = 60\n"


def text_of(request: LlmRequest, role: LlmRole | None = None) -> str:
    said = [each for each in request.messages if role is None or each.role is role]
    return "\n".join(block.text for each in said for block in each.blocks if isinstance(block, TextBlock))


def asks_for_notes(request: LlmRequest) -> bool:
    return "You keep the notes" in text_of(request, LlmRole.SYSTEM)


def answer(request: LlmRequest) -> str:
    """The session's model echoes; the observer notes the subjects that it reads, in a line each."""
    if not asks_for_notes(request):
        return "I see. " * 10
    read = text_of(request, LlmRole.USER)
    subjects = [word for word in read.split() if word.startswith("subject-")]
    if "They have become long" in text_of(request, LlmRole.SYSTEM):
        return "- " + ", ".join(subjects)
    return "\n".join(f"- the user spoke of {each} at some length" for each in subjects)


def prompt(number: int) -> str:
    return f"Let us speak of subject-{number} now. " + "So much to say. " * 10


async def talk(host: Any, first: int, last: int, session: str = "s") -> list[Any]:
    return [await host.run(prompt(n), session=session, turn_id=f"t{n}") for n in range(first, last + 1)]


def shown(host: Any) -> list[list[str]]:
    """What the session's model was shown, request by request, as texts, without the prompt."""
    conversations = [each for each in host.model.requests if not asks_for_notes(each)]
    return [[text_of_message(each) for each in request.messages[1:]] for request in conversations]


def text_of_message(message: Any) -> str:
    return "\n".join(block.text for block in message.blocks if isinstance(block, TextBlock))


async def test_notes_take_the_place_of_what_was_said(lash_host: Any) -> None:
    async with lash_host("memory", toml=SMALL, mode="long", says=answer) as host:
        turns = await talk(host, 1, 6)
        stored = await (await host.lash.session("s")).messages()
        loaded = await host.lash.store.load_session("s")
    # a note is a node of the graph, in the plugin's name, one for each turn and none besides
    nodes = [each for each in loaded.nodes if b"memory-note-" in each.body or "memory-note-" in each.node_id]
    assert [each.kind for each in nodes] == [NodeKind.MESSAGE] * 6
    assert len(loaded.nodes) == 6 * 3 + 1
    views = shown(host)
    assert len(views[1]) == 3, "before there is enough, all is shown in full, and no note"
    assert "subject-1 now" in views[1][0]
    last = "\n".join(views[-1])
    assert "the user spoke of subject-1" in last
    assert "subject-1 now" not in last
    assert "subject-6 now" in last
    assert max(map(len, views)) < 12
    # what is stored is all that was said, and the notes in the plugin's name
    said = [each.text for each in stored if each.role == "user" and not each.id.startswith("memory-")]
    assert said == [prompt(n) for n in range(1, 7)]
    # notes are of what anybody said, also a page or a file: no service is told them as the system's own words
    conversations = [each for each in host.model.requests if not asks_for_notes(each)]
    assert not any("the user spoke" in text_of(each, LlmRole.SYSTEM) for each in conversations)
    assert sum("memory-note-" in each.id for each in stored) == 6
    assert turns[-1].children_usage[0].source == "memory"


async def test_a_prompt_keeps_its_beginning_between_activations(lash_host: Any) -> None:
    async with lash_host("memory", toml=SMALL, mode="long", says=answer) as host:
        await talk(host, 1, 10)
    views = shown(host)
    broken = [at for at, (one, other) in enumerate(pairwise(views), 1) if other[: len(one)] != one]
    assert broken == [3, 6, 9], "once for every third turn here, when 150 tokens were said"


async def test_few_words_cost_nothing(lash_host: Any) -> None:
    kinds = []
    for mode in ("long", "standard"):
        async with lash_host("memory", toml=MODE, mode=mode, says=answer) as host:
            turns = await talk(host, 1, 2)
            kinds.append([type(each).__name__ for each in host.activities])
            assert not any(asks_for_notes(each) for each in host.model.requests)
            assert turns[-1].children_usage == ()
    assert kinds[0] == kinds[1]


async def test_notes_that_are_too_long_are_written_anew(lash_host: Any) -> None:
    async with lash_host("memory", toml=REFLECTING, mode="long", says=answer) as host:
        await talk(host, 1, 12)
        stored = await (await host.lash.session("s")).messages()
    assert any("memory-reflection-" in each.id for each in stored)
    last = shown(host)[-1]
    assert "Notes on all earlier parts" in last[0]
    assert all(f"subject-{n}" in "\n".join(last) for n in range(1, 13))


async def test_notes_that_no_model_makes_shorter_have_an_end_all_the_same(lash_host: Any) -> None:
    """They grew with the conversation, and so did what each turn paid to have them written anew."""

    def says(request: LlmRequest) -> str:
        if "They have become long" in text_of(request, LlmRole.SYSTEM):
            return text_of(request, LlmRole.USER)
        if text_of_message(request.messages[-1]) == "Recall.":
            return call("recall", query="subject-2")  # type: ignore[return-value]  # as a reply
        return answer(request)

    async with lash_host("memory", toml=REFLECTING, mode="long", says=says) as host:
        await talk(host, 1, 40)
        asked = [len(text_of(each, LlmRole.USER)) for each in host.model.requests if asks_for_notes(each)]
        views = [sum(map(len, view)) for view in shown(host)]
        turn = await host.run("Recall.", session="s")
    assert max(asked[-20:]) <= max(asked[:20])
    assert max(views[-20:]) <= max(views[:20])
    assert "`recall` finds them" in "\n".join(shown(host)[-1])
    assert "subject-2" in turn.tool_calls[0].output.outcome.value[0]


async def test_a_turn_whose_observer_fails_succeeds_and_the_next_one_notes_it(lash_host: Any) -> None:
    failing = True

    def says(request: LlmRequest) -> Any:
        if failing and asks_for_notes(request):
            return LlmCallError(kind=ProviderFailureKind.VALIDATION, message="no notes today")
        return answer(request)

    async with lash_host("memory", toml=SMALL, mode="long", says=says) as host:
        assert all(each.is_success for each in await talk(host, 1, 4))
        assert "subject-1 now" in "\n".join(shown(host)[-1])
        failing = False
        await talk(host, 5, 6)
        last = "\n".join(shown(host)[-1])
    assert "subject-1 now" not in last
    assert all(f"spoke of subject-{n}" in last for n in range(1, 6))


async def test_a_long_turn_is_read_in_chunks_and_noted_once(lash_host: Any) -> None:
    toml = f"{SMALL}chunk_tokens = 100\npart_chars = 1000\n"
    async with lash_host("memory", toml=toml, mode="long", says=answer) as host:
        await host.run("A long story of subject-1. " * 50, session="s")
        stored = await (await host.lash.session("s")).messages()
        asked = [each for each in host.model.requests if asks_for_notes(each)]
    assert len(asked) == 2
    assert sum("memory-note-" in each.id for each in stored) == 1


async def test_calls_and_their_results_stay_together(lash_host: Any) -> None:
    def says(request: LlmRequest) -> Any:
        if asks_for_notes(request):
            return answer(request)
        last = request.messages[-1]
        return (
            call("recall", query="subject-1")
            if last.role is LlmRole.USER and "subject" in text_of_message(last)
            else "Yes."
        )

    async with lash_host("memory", toml=SMALL, mode="long", says=says) as host:
        turns = await talk(host, 1, 8)
    assert all(each.is_success for each in turns)


async def test_recall_finds_what_isnt_shown_any_more(lash_host: Any) -> None:
    def says(request: LlmRequest) -> Any:
        if asks_for_notes(request):
            return answer(request)
        return (
            call("recall", query="SUBJECT-2", limit=3) if text_of_message(request.messages[-1]) == "Recall." else "Yes."
        )

    async with lash_host("memory", toml=SMALL, mode="long", says=says) as host:
        await talk(host, 1, 6)
        turn = await host.run("Recall.", session="s")
    found = turn.tool_calls[0].output.outcome.value
    assert found[0] == "- the user spoke of subject-2 at some length"


async def test_a_fork_keeps_the_notes_and_a_branch_that_was_left_has_its_own(lash_host: Any) -> None:
    async with lash_host("memory", toml=SMALL, mode="long", says=answer) as host:
        await talk(host, 1, 5)
        session = await host.lash.session("s")
        await session.fork("whole")
        await session.fork("early", at="t2")  # there is no state that would forbid it
        await host.run(prompt(77), session="whole", turn_id="whole-6")
        whole = "\n".join(shown(host)[-1])
        await host.run(prompt(88), session="early", turn_id="early-3")
        early = "\n".join(shown(host)[-1])
        await talk(host, 6, 6)
        here = "\n".join(shown(host)[-1])
    assert "spoke of subject-1" in whole
    assert "subject-4" not in early
    assert "subject-2 now" in early
    assert "subject-77" not in here


async def test_a_session_that_is_opened_again_shows_the_same(lash_host: Any, tmp_path: Any) -> None:
    views = []
    for runs in ([(1, 7)], [(1, 3), (4, 4), (5, 7)]):
        store = f"sqlite:///{tmp_path}/{len(runs)}.db"
        for first, last in runs:
            async with lash_host("memory", toml=SMALL, mode="long", says=answer, store=store) as host:
                await talk(host, first, last)
                view = shown(host)[-1]
        views.append(view)
    assert views[0] == views[1]


async def test_a_compaction_begins_with_the_notes(lash_host: Any) -> None:
    async with lash_host("memory", toml=SMALL, mode="long", says=answer) as host:
        await talk(host, 1, 2)
        session = await host.lash.session("s")
        done = await session.compact()
        assert (done.before, done.after) == (6, 2)
        await talk(host, 3, 3)
        view = shown(host)[-1]
        assert all("Notes on an earlier part of this conversation" in each for each in view[:2])
        assert "subject-3 now" in view[2]
        await talk(host, 4, 4)
        assert shown(host)[-1][: len(view)] == view
        assert (await session.compact()).after == 4, "all is noted: the notes are the new frame"
        assert await session.compact() is None, "there is nothing else than notes"


async def test_a_conversation_that_doesnt_fit_goes_on_with_notes(lash_host: Any) -> None:
    def says(request: LlmRequest) -> Any:
        if not asks_for_notes(request) and sum(len(text_of_message(each)) for each in request.messages[1:]) > 1500:
            text = "too long"
            return LlmCallError(
                kind=ProviderFailureKind.VALIDATION, message=text, terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW
            )
        return answer(request)

    rarely = f"{MODE}observe_tokens = 100000\n"
    async with lash_host("memory", toml=rarely, mode="long", says=says) as host:
        turns = await talk(host, 1, 8)
        view = "\n".join(shown(host)[-1])
    assert all(each.is_success for each in turns)
    assert "overflow" in {each.compaction.reason.value for each in turns if each.compaction is not None}
    assert all(f"subject-{n}" in view for n in range(1, 9))


CRASHING = f"{MODE}observe_tokens = 1\nactivate_tokens = 1\nreflect_tokens = 5\n"


@pytest.mark.costly
async def test_a_crash_pays_no_note_twice_that_is_recorded(lash_crashes: Any) -> None:
    report = await lash_crashes("memory", toml=CRASHING, mode="long", says=answer, prompt=prompt(1))
    assert not report.unreached
    labels = [str(point) for point in (each.point for each in report.crashes)]
    assert any("direct" in each for each in labels)


@on_asyncio
@pytest.mark.costly
async def test_a_crash_with_notes_in_the_place_of_history_loses_none(lash_host: Any, tmp_path: Path) -> None:
    """The turn after six others: its view is of notes, and it makes one, and a reflection."""
    prepared = tmp_path / "prepared.db"
    plugins: dict[str, Any] = {"toml": REFLECTING, "mode": "long", "says": answer}
    async with lash_host("memory", store=f"sqlite:///{prepared}", **plugins) as host:
        await talk(host, 1, 6)

    def database(folder: Path) -> str:
        shutil.copy(prepared, folder / "crash.db")
        return f"sqlite:///{folder}/crash.db"

    report = await crash_at_every_effect(
        crash_host("memory", folder=tmp_path, **plugins),
        prompt(7),
        session_id="s",
        turn_id="t7",
        points=lambda point: point.kind == "effect",
        database=database,
    )
    assert not report.unreached
    asked = [each for each in report.golden.turn.children_usage if each.source == "memory"]
    assert asked
