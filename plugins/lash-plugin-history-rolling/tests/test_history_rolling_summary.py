"""Where a conversation is cut, and what of it is summed up, by themselves."""

from __future__ import annotations

import pytest
from attrs import evolve

from lash_hookspecs import Message, MessageRole, Part, PartKind, PluginOrigin, text_message
from lash_hookspecs.messages import AttachmentRef
from lash_plugin_history_rolling.attachments import bare, is_user_turn
from lash_plugin_history_rolling.summary import cut_at, parted, transcript

PICTURE = AttachmentRef("sha256:" + "0" * 64, "image/png", 1234)


def said(id: str, text: str, role: MessageRole = MessageRole.USER) -> Message:
    return text_message(id, role, text)


def result(id: str, text: str) -> Message:
    part = Part(id=f"{id}.p0", kind=PartKind.TOOL_RESULT, content=text, tool_call_id="c", tool_name="look")
    return Message(id=id, role=MessageRole.USER, parts=(part,))


TALK = [
    said("u1", "x" * 400),
    said("a1", "y" * 400, MessageRole.ASSISTANT),
    said("u2", "x" * 40),
    result("r2", "z" * 400),
    said("a2", "y" * 40, MessageRole.ASSISTANT),
    said("u3", "x" * 40),
]


@pytest.mark.parametrize(
    ("keep", "at"), [(0, 6), (10, 6), (11, 5), (133, 5), (134, 2), (200, 2), (336, 0), (10_000, 0)]
)
def test_the_latest_messages_begin_with_a_user_and_fit(keep: int, at: int) -> None:
    """A result of a tool stays with its call: it is no user's turn."""
    assert cut_at(TALK, keep) == at
    assert not is_user_turn(TALK[3])


def noted(id: str, plugin_id: str = "memory") -> Message:
    return evolve(said(id, "n" * 40), origin=PluginOrigin(plugin_id))


@pytest.mark.parametrize(
    ("messages", "room", "summary", "notes", "old"),
    [
        (TALK[:2], None, [], [], ["u1", "a1"]),
        ([*TALK[:2], noted("n1")], None, [], ["n1"], []),
        ([noted("n1"), TALK[0], noted("n2"), TALK[1]], None, [], ["n1", "n2"], ["a1"]),
        ([noted("n1"), TALK[0], noted("n2"), TALK[1]], 15, [], ["n2"], ["n1", "a1"]),
        ([noted("n1", "another"), TALK[0]], None, [], [], ["n1", "u1"]),
        ([], 100, [], [], []),
        # what is summed up nobody else tells of any more: no note behind it makes a summary needless
        ([said("summary-t", "s"), noted("n1"), TALK[0], noted("n2")], None, ["summary-t"], ["n1", "n2"], []),
        ([noted("n1"), said("summary-t", "s"), TALK[0], noted("n2"), TALK[1]], None,
         ["summary-t"], ["n1", "n2"], ["a1"]),
    ],
    ids=["no notes", "all is noted", "some is", "more notes than fit", "another's", "nothing", "a summary", "and more"],
)  # fmt: skip
def test_what_notes_tell_of_is_not_summed_up(
    messages: list[Message], room: int | None, summary: list[str], notes: list[str], old: list[str]
) -> None:
    found = parted(messages, len(messages), ("memory",), room)
    assert tuple([each.id for each in some] for some in found) == (summary, notes, old)


def test_a_note_among_the_latest_messages_tells_of_what_is_before_them() -> None:
    messages = [said("u1", "x"), said("u2", "x"), noted("n1"), said("u3", "x")]
    assert [parted(messages, at, ("memory",), None)[2] for at in (1, 2)] == [[], []]
    assert [each.id for each in parted([*messages, *TALK], 5, ("memory",), None)[2]] == ["u3", "u1"]


def test_a_transcript_has_the_summary_before_and_the_latest() -> None:
    summary = said("summary-t", "what was before")
    whole = transcript([summary, *TALK], None)
    assert whole.startswith("user:\nwhat was before\n\nuser:\nxxx")
    assert "(result of look: zzz" in whole
    short = transcript([summary, *TALK], 200)
    assert short.startswith("user:\nwhat was before\n\n[… some of it is left out here …]")
    assert short.endswith("user:\n" + "x" * 40)
    assert len(short) < 300


def test_words_stand_in_the_place_of_an_attachment_the_same_each_time() -> None:
    image = Part(id="u.p1", kind=PartKind.IMAGE, content="", attachment=PICTURE)
    message = Message(id="u", role=MessageRole.USER, parts=(Part(id="u.p0", kind=PartKind.TEXT, content="See"), image))
    made = bare(message)
    assert [each.content for each in made.parts] == [
        "See",
        "[an attachment that was shown here before: image/png, 1,234 bytes]",
    ]
    assert (made.id, made.parts[1].attachment, bare(message)) == ("u-bare", None, made)
