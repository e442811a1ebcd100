"""What a model is shown begins as it did before, byte for byte, or a record says what changed and whose doing it is.

Measured on the wire: the bodies that the real encoder sends to a server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hook_kit import Plugin, file_store
from wires_kit import anthropic_text, gemini_text, over, responses_text

from lash_framework import Lash
from lash_framework.explain import ExplainRecord, record_changes
from lash_framework.prefix_changes import differing
from lash_framework.settings import load_settings
from lash_hookspecs import (
    EnqueueMessages,
    FrameSeed,
    MessageRole,
    PrefixChange,
    PrefixPart,
    PromptContribution,
    PromptSlot,
    TurnInput,
    hookimpl,
    text_message,
    tool,
)
from lash_hookspecs.testing.provider.server import WireServer
from lash_provider_kit.testing import Answer, ChatServer, text, tools

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)


@tool
def look(at: str) -> str:
    """Look at something."""
    return f"seen: {at} \u00e4"


class Clock(Plugin):
    """Does, in some turns, what changes the prefix: a prompt of its own, a note for this turn only, a view."""

    def __init__(self) -> None:
        super().__init__("clock")
        self.prompt = "one"
        self.note = ""
        self.view = False

    @hookimpl
    async def lash_prompt_contributions(self, ctx: Any) -> PromptContribution:
        return PromptContribution(content=f"The hour is {self.prompt}.", title="Hour", slot=PromptSlot.ENVIRONMENT)

    @hookimpl
    async def lash_before_turn(self, ctx: Any) -> Any:
        lasting = EnqueueMessages.note(f"turn {ctx.turn_index}")
        return [lasting, EnqueueMessages.note(self.note, transient=True)] if self.note else [lasting]

    @hookimpl
    async def lash_prepare_context(self, ctx: Any, prepared: Any) -> Any:
        return prepared.showing(prepared.messages[2:]) if self.view else None

    @hookimpl
    async def lash_compact(self, ctx: Any) -> Any:
        return FrameSeed(messages=[text_message("sum", MessageRole.SYSTEM, "so far")])


@asynccontextmanager
async def over_the_wire(clock: Clock, server: ChatServer, store: str, *more: Any) -> Any:
    keys = {"OPENAI_API_KEY": "sk-test"}
    sets = [f"provider.openai-chat.base_url={server.url}"]
    settings = load_settings(env=keys, cwd=Path("/"), sets=sets)
    async with Lash.open(
        store, settings=settings, plugins=[clock], tools=[look, *more], model="openai-chat:test"
    ) as lash:
        yield lash


def beginning(body: bytes) -> bytes:
    """A body without its end: model, tools, and all messages."""
    head, found, _ = body.rpartition(b'],"stream"')
    assert found, body[-200:]
    return head


@contextmanager
def always(said: str) -> Iterator[ChatServer]:
    """A server that says the same again and again."""
    with ChatServer() as server:
        server.default = text(said)
        yield server


def answers(turn: int) -> tuple[Answer, ...]:
    """Every third turn calls a tool first."""
    said = text(f"answer {turn}")
    return (tools((f"c{turn}", "look", '{"at": "it"}')), said) if turn % 3 == 0 else (said,)


def sent(server: ChatServer) -> Iterator[tuple[bytes, bytes]]:
    return pairwise(each.body for each in server.requests)


@pytest.mark.costly
async def test_thirty_turns_of_a_session_share_their_prefix_to_the_byte_through_three_processes(tmp_path: Path) -> None:
    clock = Clock()
    with ChatServer() as server:
        for first in (0, 10, 20):
            async with over_the_wire(clock, server, file_store(tmp_path)) as lash:
                session = await lash.session("s")
                for turn in range(first, first + 10):
                    server.answer(*answers(turn))
                    asked = TurnInput.text(f"question {turn}")
                    done = await session.run(asked.with_image("i", PNG) if turn == 4 else asked, turn_id=f"t{turn}")
                    assert done.is_success
                    assert done.prefix_changes == ()
                    assert (await lash.explain(f"t{turn}")).changes == ()
        assert len(server.requests) == 30 + 10
        for before, after in sent(server):
            assert after.startswith(beginning(before))


CHANGES: dict[str, tuple[dict[str, Any], list[tuple[str, str, str]]]] = {
    "a prompt": ({"prompt": "two"}, [("prompt", "Hour", "changed")]),
    "a note": ({"note": "hurry"}, []),
    "a view": ({"view": True}, [("view", "history", "shown otherwise in this turn")]),
}


@pytest.mark.parametrize("kind", CHANGES)
async def test_whatever_changes_the_prefix_is_named_with_its_plugin(kind: str, tmp_path: Path) -> None:
    clock = Clock()
    does, told = CHANGES[kind]
    with always("well") as server:
        async with over_the_wire(clock, server, file_store(tmp_path)) as lash:
            session = await lash.session("s")
            for turn in range(10):
                if turn == 3:
                    for name, value in does.items():
                        setattr(clock, name, value)
                if turn == 6 and kind != "a prompt":
                    clock.note, clock.view = "", False
                await session.run(f"question {turn}", turn_id=f"t{turn}")
            broken = [
                turn
                for turn, (before, after) in enumerate(sent(server), start=1)
                if not after.startswith(beginning(before))
            ]
            explained = {turn: (await lash.explain(f"t{turn}")).changes for turn in range(10)}
    assert broken == {"a prompt": [3], "a note": [4, 5, 6], "a view": [3, 6]}[kind]
    for turn in broken:
        assert explained[turn]
        assert {each.plugin_ids for each in explained[turn]} == {("clock",)}
    # Nothing is told of turns in which nothing could change.
    assert {turn for turn, changes in explained.items() if changes} <= ({3} if kind == "a prompt" else {3, 4, 5, 6})
    if told:
        assert [(each.part, each.name, each.change) for each in explained[3]] == told


async def test_a_view_that_goes_on_as_in_the_turn_before_is_no_change(tmp_path: Path) -> None:
    """It is told of the turn that begins with it, of one that shows something else, and of the one behind it."""

    class Rolls(Clock):
        begins = 0

        @hookimpl
        async def lash_prepare_context(self, ctx: Any, prepared: Any) -> Any:
            if not self.begins:
                return None
            notes = text_message(f"notes:{ctx.turn_id}", MessageRole.SYSTEM, f"notes of {self.begins}")
            return prepared.showing([notes, *prepared.messages[self.begins :]])

    clock, begins = Rolls(), [0, 0, 0, 4, 4, 4, 10, 10, 0, 0]
    with always("well") as server:
        async with over_the_wire(clock, server, file_store(tmp_path)) as lash:
            session = await lash.session("s")
            for turn, clock.begins in enumerate(begins):
                await session.run(f"question {turn}", turn_id=f"t{turn}")
            broken = {at for at, (a, b) in enumerate(sent(server), 1) if not b.startswith(beginning(a))}
            explained = {turn: (await lash.explain(f"t{turn}")).changes for turn in range(10)}
    assert broken == {3, 6, 8}
    assert {turn for turn, changes in explained.items() if changes} == broken
    assert {each.part for turn in broken for each in explained[turn]} == {PrefixPart.VIEW}


# Per wire: an answer, what is the system's in a body, and what the conversation is.
WIRES: dict[str, tuple[Any, Any, Any]] = {
    "openai-chat:m": (text, lambda sent: sent["messages"][0], lambda sent: sent["messages"][1:]),
    "openai:gpt-5": (responses_text, lambda sent: sent["instructions"], lambda sent: sent["input"]),
    "anthropic:claude-opus-5-5": (anthropic_text, lambda sent: sent["system"], lambda sent: sent["messages"]),
    "google:gemini-3.8-flash": (gemini_text, lambda sent: sent["systemInstruction"], lambda sent: sent["contents"]),
}


@pytest.mark.parametrize("model", WIRES)
async def test_what_plugins_say_as_the_system_is_no_instruction_and_moves_none(model: str) -> None:
    """A note in each turn, one that is transient, and a view and a frame that begin with one.

    They went into what Responses and Gemini hold in front of the conversation, and so changed it with every turn.
    """
    answer, system, conversation = WIRES[model]
    clock = Clock()
    with WireServer() as server:
        server.default = answer("well")
        async with Lash.open(
            "sqlite://", model=model, settings=over(server, model.partition(":")[0]), plugins=[clock]
        ) as lash:
            session = await lash.session("s")
            for turn in range(4):
                clock.note = "hurry" if turn == 2 else ""
                assert (await session.run(f"question {turn}")).is_success
            await session.compact()
            assert (await session.run("question 4")).is_success
        sent = [each.json for each in server.requests]
    assert len(sent) == 5
    (said,) = {json.dumps(system(each)) for each in sent}
    assert "The hour is one." in said
    assert "turn 0" not in said
    plain = [_unmarked(conversation(each)) for each in sent]
    assert plain[1].startswith(plain[0])
    assert '"Runtime note: hurry"' in plain[2]
    assert plain[4].index("Runtime note: so far") < plain[4].index("question 4") < plain[4].index("turn 5")


def _unmarked(said: Any) -> str:
    """A conversation as text, without its end and the marks of caches, which move."""
    return json.dumps(said).replace(', "cache_control": {"type": "ephemeral"}', "").rstrip("]}")


async def test_a_compaction_and_another_set_of_tools_are_named(tmp_path: Path) -> None:
    @tool
    def smell() -> str:
        """Smell."""
        return "roses"

    clock = Clock()
    with always("well") as server:
        async with over_the_wire(clock, server, file_store(tmp_path)) as lash:
            session = await lash.session("s")
            await session.run("a", turn_id="one")
            await session.compact(turn_id="squeezed")
            await session.run("b", turn_id="two")
            (compacted,) = (await lash.explain("two")).changes
        async with over_the_wire(clock, server, file_store(tmp_path), smell) as lash:
            await (await lash.session("s")).run("c", turn_id="three")
            (added,) = (await lash.explain("three")).changes
    assert compacted == PrefixChange(
        part=PrefixPart.FRAME, name="compaction:squeezed", change="compacted (requested)", plugin_ids=("clock",)
    )
    assert added == PrefixChange(part=PrefixPart.TOOL, name="smell", change="added", plugin_ids=("application",))


async def test_a_prompt_that_changes_within_a_turn_is_named_in_its_result(tmp_path: Path) -> None:
    class Ticks(Clock):
        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> None:
            self.prompt = "two"

    with ChatServer(tools(("c1", "look", '{"at": "it"}')), text("done")) as server:
        async with over_the_wire(Ticks(), server, file_store(tmp_path)) as lash:
            turn = await (await lash.session("s")).run("go")
    ((before, after),) = sent(server)
    assert not after.startswith(beginning(before))
    changed = PrefixChange(part=PrefixPart.PROMPT, name="Hour", change="changed", plugin_ids=("clock",))
    assert turn.prefix_changes == (changed,)


async def test_a_lost_attachment_is_told_where_the_image_was(tmp_path: Path) -> None:
    with always("well") as server:
        async with over_the_wire(Clock(), server, file_store(tmp_path)) as lash:
            session = await lash.session("s")
            await session.run(TurnInput.text("see").with_image("i", PNG))
            store: Any = lash.store
            got = store.get_blob

            async def lost(id: str) -> bytes | None:
                data = await got(id)
                return None if data == PNG else data

            store.get_blob = lost
            turn = await session.run("again")
    assert [each.code for each in turn.errors] == ["attachment_lost"]


def test_pieces_are_told_apart_by_name_and_owner() -> None:
    a, b, other = ("a", ("x",), 1), ("b", ("y",), 1), ("b", ("y",), 2)

    def told(before: list[Any], after: list[Any]) -> list[tuple[str, str, tuple[str, ...]]]:
        return [(each.name, each.change, each.plugin_ids) for each in differing(PrefixPart.PROMPT, before, after)]

    assert told([a, b], [a, b]) == []
    assert told([a], [a, b]) == [("b", "added", ("y",))]
    assert told([a, b], [b]) == [("a", "removed", ("x",))]
    assert told([a, b], [a, other]) == [("b", "changed", ("y",))]
    assert told([a, b], [b, a]) == [("b", "moved", ("y",)), ("a", "moved", ("x",))]


def test_another_model_is_a_change_of_who_set_it() -> None:
    one = ExplainRecord(mode_id="m", model="a:x", composition_key="")
    (change,) = record_changes(one, ExplainRecord(mode_id="m", model="a:y", composition_key=""))
    assert (change.name, change.change) == ("model", "`a:y` in place of `a:x`")
