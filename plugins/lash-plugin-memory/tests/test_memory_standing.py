"""What follows from the places of notes: a pure walk, and a search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, strategies as st

from lash_hookspecs.context_views import PreparedContext
from lash_hookspecs.messages import Message, MessageRole, PluginOrigin, text_message
from lash_hookspecs.transcripts import message_as_text
from lash_plugin_memory.info import INFO, MemoryOptions
from lash_plugin_memory.recall import ranked
from lash_plugin_memory.standing import note, reflection, standing, view
from lash_plugin_memory.transcript import chunks


def said(id: str, size: int = 9, role: MessageRole = MessageRole.USER) -> Message:
    """A message of `size + 1` tokens."""
    return text_message(id, role, "x" * size * 4)


def noted(id: str, text: str = "- it", *, takes_place: bool = False) -> Message:
    made = note(id, text, takes_place=takes_place)
    return text_message(str(made.id), made.role, made.content, origin=PluginOrigin("memory"))


def reflected(id: str, *, takes_place: bool = False) -> Message:
    made = reflection(id, "- all", takes_place=takes_place)
    return text_message(str(made.id), made.role, made.content, origin=PluginOrigin("memory"))


def other(id: str, role: MessageRole = MessageRole.SYSTEM) -> Message:
    return text_message(id, role, "from another plugin", origin=PluginOrigin("other"))


def ids(messages: object) -> list[str]:
    return [each.id.replace("memory-", "") for each in messages]  # type: ignore[attr-defined]  # messages


@pytest.mark.parametrize(
    ("messages", "shown", "tail", "notes", "unobserved"),
    [
        ([], [], [], [], []),
        ([said("a")], [], ["a"], [], ["a"]),
        ([said("a"), noted("1")], [], ["a"], ["note-1"], []),
        ([said("a"), noted("1"), said("b")], [], ["a", "b"], ["note-1"], ["b"]),
        # a note that takes the place of what was said, since that was enough
        ([said("a"), noted("1", takes_place=True), said("b")], ["shown-note-1"], ["b"], ["shown-note-1"], ["b"]),
        # what comes later changes nothing before the next such note, however much it is
        ([said("a"), noted("1"), said("b", 999)], [], ["a", "b"], ["note-1"], ["b"]),
        ([said("a"), noted("1"), said("b", 999), noted("2", takes_place=True)],
         ["note-1", "shown-note-2"], [], ["note-1", "shown-note-2"], []),
        ([said("a"), noted("1", takes_place=True), said("b"), noted("2"), said("c")], ["shown-note-1"], ["b", "c"],
         ["shown-note-1", "note-2"], ["c"]),
        # a reflection stands for all notes before it, from the next time on
        ([said("a"), noted("1", takes_place=True), said("b"), noted("2"), reflected("2"), said("c")],
         ["shown-note-1"], ["b", "c"], ["reflection-2"], ["c"]),
        ([said("a"), noted("1", takes_place=True), reflected("1"), said("b")],
         ["reflection-1"], ["b"], ["reflection-1"], ["b"]),
        ([said("a"), noted("1", takes_place=True), said("b"), noted("2"), reflected("2"), said("c", 99),
          noted("3", takes_place=True)], ["reflection-2", "shown-note-3"], [], ["reflection-2", "shown-note-3"], []),
        # a frame that begins with notes
        ([reflected("1"), noted("2"), said("a")], ["reflection-1", "note-2"], ["a"], ["reflection-1", "note-2"], ["a"]),
        # what another plugin says at the same end of a turn was not seen by the observer
        ([said("a"), other("o"), noted("1", takes_place=True), said("b")],
         ["shown-note-1"], ["o", "b"], ["shown-note-1"], ["o", "b"]),
        ([said("a"), other("o"), noted("1"), noted("2")], [], ["a", "o"], ["note-1", "note-2"], ["o"]),
        ([said("a"), other("o", MessageRole.USER), noted("1", takes_place=True)],
         ["shown-note-1"], [], ["shown-note-1"], []),
    ],
)  # fmt: skip
def test_how_notes_stand(
    messages: list[Message], shown: list[str], tail: list[str], notes: list[str], unobserved: list[str]
) -> None:
    found = standing(messages)
    assert (ids(found.shown), ids(found.tail), ids(found.notes), ids(found.unobserved)) == (
        shown,
        tail,
        notes,
        unobserved,
    )
    assert found.head == ()


def test_what_another_plugin_began_a_frame_with_stays_though_notes_take_the_place_of_what_follows() -> None:
    """Once a summary was hidden by a note that had been made before it, and so told of none of it."""
    frame = [other("summary", MessageRole.USER), noted("1"), said("a"), noted("2", takes_place=True), said("b")]
    shown = view(PreparedContext(messages=frame))
    assert shown is not None
    assert ids(shown.messages) == ["summary", "note-1", "shown-note-2", "b"]
    assert ids(standing(frame).unobserved) == ["b"]


KINDS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from("mmmmnnNrRo")), max_size=40)
MADE: dict[str, Callable[[str, int], Message]] = {
    "m": said,
    "n": lambda name, _: noted(name),
    "N": lambda name, _: noted(name, takes_place=True),
    "r": lambda name, _: reflected(name),
    "R": lambda name, _: reflected(name, takes_place=True),
    "o": lambda name, _: other(name),
}


def conversation(kinds: list[tuple[int, str]]) -> list[Message]:
    return [MADE[kind](str(at), size) for at, (size, kind) in enumerate(kinds)]


@given(KINDS)
def test_between_two_notes_a_view_only_grows(kinds: list[tuple[int, str]]) -> None:
    """So a provider's cached prefix holds; nothing that no note tells of is ever left out; and nothing comes twice."""
    messages = conversation(kinds)
    before: tuple[Message, ...] = ()
    for at, each in enumerate(messages, 1):
        found = standing(messages[:at])
        now = (*found.head, *found.shown, *found.tail)
        if kinds[at - 1][1] in "mo":
            assert now == (*before, each)
        assert len({id(one) for one in now}) == len(now)
        assert found.tail[len(found.tail) - len(found.unobserved) :] == found.unobserved
        before = now


class Read(Sequence[Message]):
    """Messages, and which of them somebody looked at."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages
        self.places: set[int] = set()

    def __len__(self) -> int:
        return len(self._messages)

    def __getitem__(self, at: Any) -> Any:
        self.places.add(at)
        return self._messages[at]


@given(KINDS, KINDS)
def test_what_was_before_a_reflection_that_is_shown_is_not_looked_at(
    before: list[tuple[int, str]], kinds: list[tuple[int, str]]
) -> None:
    """And so comes to nothing: however long the conversation was, the end of it stands as it would alone."""
    end = [said("z", 1), reflected("z"), said("y", 1), noted("y", takes_place=True), *conversation(kinds)]
    long = Read([said("first", 1), *conversation([*before, *before]), *end])
    found, alone = standing(long), standing(end)
    assert (found.shown, found.tail, found.notes) == (alone.shown, alone.tail, alone.notes)
    assert found.unobserved == alone.unobserved
    assert min(long.places - {0, 1}) >= len(long) - len(end)


def test_a_view_without_notes_is_none() -> None:
    assert view(PreparedContext(messages=[said("a")])) is None
    shown = view(PreparedContext(messages=[said("a"), noted("1"), said("b")]))
    assert shown is not None
    assert ids(shown.messages) == ["a", "b"]


# ---- transcripts ----------------------------------------------------------------------------------------------------


def test_a_long_transcript_comes_in_chunks_and_no_message_is_parted() -> None:
    messages = [text_message(str(n), MessageRole.USER, f"{n}" * 300) for n in range(9)]
    made = list(chunks(messages, 1_000, 200))
    assert [len(each.split("\n\n")) for each in made] == [2, 2, 2, 2, 1]
    assert "\n\n".join(made) == "\n\n".join(message_as_text(each, 1_000) for each in messages)
    assert list(chunks([], 100, 100)) == []


# ---- searching ------------------------------------------------------------------------------------------------------

LINES = [
    "- The user's name is Ada.",
    "- Ada lives in Graz and works on engines.",
    "- The build fails with error E4017 in src/engine.py.",
    "- 会議は火曜日です。",
    "- Graz, Graz, Graz.",
    "- Nothing of note.",
]


@pytest.mark.parametrize(
    ("query", "first", "count"),
    [
        ("E4017", 2, 1),
        ("where does ADA live? Graz", 1, 3),
        ("Graz", 4, 2),
        ("火曜日", 3, 1),
        ("name", 0, 1),
        ("zebra", None, 0),
        ("", None, 0),
        ("src/engine.py", 2, 1),
    ],
)
def test_recall_ranks_lines(query: str, first: int | None, count: int) -> None:
    found = ranked(query, LINES)
    assert ((found or [None])[0], len(found)) == (first, count)


def test_of_equal_lines_the_latest_comes_first() -> None:
    assert ranked("tea", ["- tea", "- coffee", "- tea"]) == [2, 0]
    assert ranked("tea", []) == []


# ---- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["observe_tokens", "activate_tokens", "reflect_tokens", "chunk_tokens"])
def test_bad_options_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"`{option}` is 0: use a number of at least"):
        MemoryOptions(**{option: 0})


def test_the_thresholds_are_those_of_the_docs() -> None:
    options = MemoryOptions()
    assert (options.observe_tokens, options.activate_tokens, options.reflect_tokens) == (6_000, 30_000, 40_000)
    assert not INFO.enabled_by_default
