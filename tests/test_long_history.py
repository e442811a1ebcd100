"""A stored history stays encoded until it is read, and what a model is shown of it is made once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
from agents import agent, plugin
from hypothesis import example, given, settings, strategies as st
from machine_kit import PICTURE
from meter_kit import Meter, metered_store
from test_messages_projection import view

from lash_framework import conversation
from lash_framework.conversation import restore
from lash_framework.machine import ChatProjector, MessageSequence, plain, projection
from lash_framework.machine.plain import render_body, render_stored, render_texts
from lash_framework.machine.projection import render_message
from lash_framework.session import Session
from lash_hookspecs import (
    AppendSessionNodesRequest,
    CodecError,
    EncodedRun,
    Intact,
    LlmMessage,
    LlmMessages,
    LlmRequest,
    LlmTextMessage,
    LoadedSession,
    Message,
    MessageRole,
    MessageRun,
    NodeKind,
    NodeRecord,
    Part,
    PartKind,
    PluginOrigin,
    SessionAppendNode,
    SessionHead,
    StoreCorrupt,
    Summarized,
    TurnCause,
    decode,
    encode,
    llm_messages,
    llm_text,
    structure,
    text_message,
    unstructure,
)
from lash_plugin_provider_openai import OpenAiChatSettings
from lash_plugin_provider_openai.chat_messages import MessageEncoder
from lash_plugin_provider_openai.encode import RequestEncoder

USER, ASSISTANT = MessageRole.USER, MessageRole.ASSISTANT

# ---- what is plain --------------------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["hi", "ä\u2028", "{}", "", " ", "\u2003\n", "\x1f"])
USUAL = st.sampled_from([PartKind.TEXT, PartKind.PROSE, PartKind.REASONING])
CALLS = st.sampled_from([PartKind.TOOL_CALL, PartKind.TOOL_RESULT])
PLAIN_PARTS = st.builds(Part, id=TEXTS, kind=USUAL, content=TEXTS) | st.builds(
    Part, id=TEXTS, kind=CALLS, content=TEXTS, tool_call_id=TEXTS, tool_name=TEXTS
)
PARTS = PLAIN_PARTS | st.builds(
    Part,
    id=TEXTS,
    kind=st.sampled_from(PartKind),
    content=TEXTS,
    tool_call_id=st.none() | TEXTS,
    tool_name=st.none() | TEXTS,
    attachment=st.sampled_from([None, PICTURE]),
    prune_state=st.sampled_from([Intact(), Intact(), Summarized("short", "h")]),
)
MESSAGES = st.builds(
    Message,
    id=TEXTS,
    role=st.sampled_from([USER, ASSISTANT]),
    parts=st.lists(PLAIN_PARTS, min_size=1, max_size=3).map(tuple),
) | st.builds(
    Message,
    id=TEXTS,
    role=st.sampled_from(MessageRole),
    parts=st.lists(PARTS, max_size=3).map(tuple),
    origin=st.sampled_from([None, PluginOrigin("guard")]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=3,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """The data of a message in which one value was replaced, removed or added."""
    data = unstructure(draw(MESSAGES))
    places: list[Any] = [data, *(part for part in data.get("parts", ()))]
    place = draw(st.sampled_from(places))
    name = draw(
        st.sampled_from(["id", "role", "parts", "content", "kind", "tool_name", "origin", "prune_state", "new"])
    )
    if draw(st.booleans()):
        place.pop(name, None)
    else:
        place[name] = draw(JSON | st.sampled_from([*MessageRole, *PartKind]))
    return orjson.loads(orjson.dumps(data))


@settings(max_examples=500)
@given(MESSAGES.map(unstructure) | damaged() | JSON)
@example({"id": "m", "role": "user", "parts": [{"id": "p", "kind": "tool_result", "content": "", "tool_call_id": 1}]})
@example({"id": 1, "role": "user", "parts": [{"id": "p", "kind": "text", "content": "x"}]})
@example({"id": "m", "role": "user", "parts": {"id": "p", "kind": "text", "content": "x"}})
def test_what_is_rendered_at_once_is_what_the_decoder_would_have_made(data: Any) -> None:
    """The short way never shows anything else than the long one, nor anything that the long one refuses."""
    rendered = render_stored(data)
    if rendered is not None:
        assert rendered == render_message(structure(data, Message))[0]
    assert render_body(orjson.dumps(data)) == (None if rendered is None else (data["id"], rendered))


@settings(max_examples=300)
@given(st.lists(MESSAGES.map(encode) | damaged().map(orjson.dumps) | JSON.map(orjson.dumps), min_size=1, max_size=2))
@example([b'{"id":"m","parts":[{"content":"x","id":"p","kind":"text"}],"role":"user"}', b'{"id":"m"'])
@example([b'{"id":"m","parts":[{"content":"x","id":"p","kind":"text"}],"role":"user"},1', b""])
def test_texts_that_are_read_together_are_what_each_is_alone(bodies: list[bytes]) -> None:
    """Whatever stands among them: then nothing is said of any."""
    known = [encode(each) for each in talk(2)]
    alone = [render_body(body) for body in (known[0], *bodies, known[1])]
    ids, told = render_texts([known[0], *bodies, known[1]])
    if ids:
        assert [*zip(ids, told.messages, strict=True)] == alone
    else:
        assert not told
        assert not all(each is not None and type(each[1]) is LlmTextMessage for each in alone)


PLAIN = [
    text_message("m", USER, "hi"),
    text_message("m", ASSISTANT, " ho\n", kind=PartKind.PROSE),
    Message(id="m", role=USER, parts=(Part(id="p", kind=PartKind.ERROR, content="x"),) * 2),
    Message(
        id="m",
        role=ASSISTANT,
        parts=(
            Part(id="p", kind=PartKind.REASONING, content="hm"),
            Part(id="p0", kind=PartKind.PROSE, content="so"),
            Part(id="p1", kind=PartKind.TOOL_CALL, content="{}", tool_call_id="c", tool_name="look"),
            Part(id="p2", kind=PartKind.TOOL_CALL, content="", tool_call_id="d", tool_name="look"),
        ),
    ),
    Message(
        id="m",
        role=USER,
        parts=(Part(id="p0", kind=PartKind.TOOL_RESULT, content="", tool_call_id="c", tool_name="look"),),
    ),
]


@pytest.mark.parametrize("message", PLAIN)
def test_the_usual_messages_are_plain(message: Message) -> None:
    """As encoded for the store, they are rendered at once; else the short way would be of no use."""
    assert render_stored(orjson.loads(encode(message))) == render_message(message)[0]


# ---- a conversation out of a store ----------------------------------------------------------------------------------


def loaded(messages: Iterable[Message | bytes]) -> LoadedSession:
    nodes: list[NodeRecord] = []
    for at, message in enumerate(messages):
        nodes.append(
            NodeRecord(
                node_id=f"n{at}",
                parent_node_id=f"n{at - 1}" if at else None,
                kind=NodeKind.MESSAGE,
                timestamp_ms=0,
                body=message if isinstance(message, bytes) else encode(message),
            )
        )
    return LoadedSession(head=SessionHead(session_id="s"), nodes=tuple(nodes))


def talk(count: int) -> list[Message]:
    return [text_message(f"m{at}", ASSISTANT if at % 2 else USER, f"text {at}") for at in range(count)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that the decoder was given."""
    seen: list[bytes] = []
    real = conversation.decode

    def watch(tp: Any, data: Any) -> Any:
        seen.append(data)
        return real(tp, data)

    monkeypatch.setattr(conversation, "decode", watch)  # a counter around our own function, not a stand-in
    return seen


def test_a_plain_message_is_decoded_when_it_is_read_and_once(decoded: list[bytes]) -> None:
    """Opening, projecting and finding decode nothing; reading does, and gives the same object and rendering again."""
    pictured = Message(id="p", role=USER, parts=(Part(id="p.p0", kind=PartKind.IMAGE, content="", attachment=PICTURE),))
    kept = [*talk(5), pictured]
    messages = restore(loaded(kept)).messages
    assert decoded == [encode(pictured)]
    request = ChatProjector().project(view(messages=messages))
    assert request == ChatProjector().project(view(messages=MessageSequence(kept)))
    assert [messages.position_of(each.id) for each in kept] == [0, 1, 2, 3, 4, 5]
    assert messages.position_of("nobody") is None
    assert len(decoded) == 1
    assert messages[3] is messages[-3]
    assert messages[3] == kept[3]
    assert len(decoded) == 2
    assert render_message(messages[3])[0] is request.messages[3]
    assert messages == kept
    assert len(decoded) == 6


@given(st.lists(st.integers(0, 7), max_size=6), st.integers(0, 6), st.lists(st.integers(0, 5), max_size=2))
def test_a_restored_conversation_goes_on_like_any_other(read: list[int], at: int, grow: list[int]) -> None:
    """Whatever was read of it, and wherever it is continued or forked, it equals the same one that was never stored."""
    kept = talk(6)
    mine, theirs = restore(loaded(kept)).messages, MessageSequence(kept)
    for place in read:
        if place < 6:
            assert mine[place] == kept[place]
    whisper = text_message("w", USER, "psst", origin=PluginOrigin("guard", transient=True))
    pairs = [(mine, theirs)]
    for number, count in enumerate(grow):
        added = [whisper, *(text_message(f"x{number}.{each}", USER, "x") for each in range(count))]
        pairs += [(a.extended(added), b.extended(added)) for a, b in pairs]
        pairs.append((pairs[-1][0].without_transient(at), pairs[-1][1].without_transient(at)))
    for a, b in pairs:
        assert ChatProjector().project(view(messages=a)) == ChatProjector().project(view(messages=b))
        assert [a.position_of(each.id) for each in (*kept, whisper)] == [
            b.position_of(each.id) for each in (*kept, whisper)
        ]
        assert a == b
        assert a[1:-1:2] == b[1:-1:2]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"id":"m","role":"queen"}', b"\xff", encode(talk(1)[0])[:-1]])
def test_a_body_that_cant_be_read_is_found_when_the_session_is_opened(body: bytes) -> None:
    """Its node is named, with the decoder's reason and the way out, before anything is asked of a model."""
    with pytest.raises(CodecError) as reason:
        decode(Message, body)
    with pytest.raises(StoreCorrupt) as caught:
        restore(loaded([*talk(3), body, *talk(2)]))
    assert str(caught.value) == (
        f"session `s`: node `n3` can't be read: {reason.value}; `lash sessions export` saves the others; "
        "go on in a new session"
    )


# ---- runs -----------------------------------------------------------------------------------------------------------


def requests_of(turns: int, base: MessageSequence) -> list[LlmRequest]:
    """The requests of turns that go on from `base`."""
    made, messages = [], base
    for number in range(turns):
        messages = messages.extended([text_message(f"q{number}", USER, f"question {number}")])
        made.append(ChatProjector().project(view(messages=messages, system_prompt="Be brief.")))
        messages = messages.extended([text_message(f"a{number}", ASSISTANT, "answer", kind=PartKind.PROSE)])
    return made


def runs_of(request: LlmRequest) -> tuple[MessageRun, ...]:
    assert isinstance(request.messages, LlmMessages)
    return request.messages.runs


def test_a_history_comes_in_few_runs_which_stay_the_same() -> None:
    """However long it is; and of all that was ever handed over, few messages come in a run that is new."""
    asked = requests_of(1_000, MessageSequence())
    assert asked[-1].messages[1:] == requests_of(1_000, MessageSequence(talk(0)))[-1].messages[1:]
    assert max(len(runs_of(each)) for each in asked) <= 9
    known: set[int] = set()
    fresh = 0
    for request in asked:
        fresh += sum(len(run.messages) for run in runs_of(request) if id(run) not in known)
        known |= {id(run) for run in runs_of(request)}
    # 2,000 messages: each some 32 times among the last, and once for each doubling of its run.
    assert fresh < 2_000 * 45


def test_a_restored_history_is_one_run_for_every_later_turn() -> None:
    first, *others = requests_of(30, restore(loaded(talk(1_000))).messages)
    system, whole, _ = runs_of(first)
    assert isinstance(whole, EncodedRun)
    assert len(whole) == 1_000
    for request in others:
        assert runs_of(request)[0] is system
        assert runs_of(request)[1] is whole


def test_a_restored_history_goes_out_as_it_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even what a model is shown is made of it, where the wire says it so."""
    made: list[Any] = []
    monkeypatch.setattr(llm_messages, "llm_text", lambda *given: made.append(given) or llm_text(*given))
    kept = talk(1_000)
    request, *_ = requests_of(1, restore(loaded(kept)).messages)
    (same,) = requests_of(1, MessageSequence(kept))
    sent = RequestEncoder(OpenAiChatSettings()).encode(request)
    assert made == []
    assert sent == RequestEncoder(OpenAiChatSettings()).encode(same)
    assert request == same
    assert len(made) == 1_000


def test_what_is_said_behind_a_restored_history_leaves_it_encoded() -> None:
    """However much that is; and requests show the same, however they are divided."""
    kept = talk(100)
    asked = requests_of(200, restore(loaded(kept)).messages)
    assert asked == requests_of(200, MessageSequence(kept))
    assert len({id(run) for request in asked for run in runs_of(request) if isinstance(run, EncodedRun)}) == 1
    assert max(map(len, map(runs_of, asked))) <= 9


@pytest.mark.parametrize("place", [0, 63, 150, 199])
def test_what_is_not_plain_stands_where_it_was_said(place: int, decoded: list[bytes]) -> None:
    """The texts before it stay encoded, as many as are read together; those behind it are rendered, and no message."""
    pictured = Message(id="p", role=USER, parts=(Part(id="p.p0", kind=PartKind.IMAGE, content="", attachment=PICTURE),))
    kept = talk(200)
    kept[place] = pictured
    messages = restore(loaded(kept)).messages
    assert decoded == [encode(pictured)]
    request = ChatProjector().project(view(messages=messages))
    assert [len(run) for run in runs_of(request) if isinstance(run, EncodedRun)] == [place // 64 * 64] * (place >= 64)
    assert request == ChatProjector().project(view(messages=MessageSequence(kept)))
    assert len(decoded) == 1
    assert messages == kept


def test_news_that_the_history_holds_are_cut_out_of_what_is_encoded() -> None:
    """As they are out of any other history."""
    kept = talk(80)
    kept.append(text_message("e", MessageRole.EVENT, "it rang"))
    cause = TurnCause(id="e", event_type="bell", text="it rang", origin=PluginOrigin("bell"))
    mine, theirs = (
        ChatProjector().project(view(messages=each, turn_causes=(cause,)))
        for each in (restore(loaded(kept)).messages, MessageSequence(kept))
    )
    assert mine == theirs


def test_all_ways_of_encoding_a_history_give_the_same_bytes() -> None:
    """A provider that keeps the bytes of runs sends what one that has just been opened does, at every length."""
    keeps = RequestEncoder(OpenAiChatSettings())
    for request in requests_of(200, restore(loaded(talk(300))).messages):
        flat = LlmRequest(model=request.model, messages=[LlmMessage(m.role, m.blocks) for m in request.messages])
        alone = LlmRequest(model=request.model, messages=request.messages)
        assert keeps.encode(alone) == RequestEncoder(OpenAiChatSettings()).encode(flat)


# ---- through all layers ---------------------------------------------------------------------------------------------


async def append(session: Session, count: int) -> None:
    nodes = tuple(SessionAppendNode(message=each) for each in talk(count))
    await session.append(AppendSessionNodesRequest(operation_id="fill", nodes=nodes))


def watched(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The bodies that are parsed."""
    parsed: list[bytes] = []
    texts, body = plain.render_texts, plain.render_body
    monkeypatch.setattr(conversation, "render_texts", lambda bodies: parsed.extend(bodies) or texts(bodies))
    monkeypatch.setattr(conversation, "render_body", lambda given: parsed.append(given) or body(given))
    return parsed


async def test_a_new_process_decodes_nothing_of_a_plain_history_and_parses_it_once(
    tmp_path: Path, decoded: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next turn of 1,000 messages; then a second one, which does nothing with those before it."""
    rendered: list[Message] = []
    parsed = watched(monkeypatch)
    real = projection.render_message
    monkeypatch.setattr(projection, "render_message", lambda m, *more: rendered.append(m) or real(m, *more))
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent([], store=url) as lash:
        await append(await lash.session("s"), 1_000)
    asked: list[LlmRequest] = []
    async with agent(lambda request: asked.append(request) or "a", store=url) as lash:
        session = await lash.session("s")
        for expected in (1_000, 1_000):
            await session.run("q")
            assert len(parsed) == expected
        assert len(rendered) == 3  # both questions and the first answer
        assert {body.partition(b":")[0] for body in decoded} <= {b'{"mode_id"', b'{"model"'}
        old, new = (request.messages[:1_000] for request in asked)
        assert all(a is b for a, b in zip(old, new, strict=True))
        assert (await session.messages())[:1_000] == tuple(talk(1_000))


async def test_a_warm_turn_touches_nothing_of_a_long_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither decoded, rendered, encoded nor copied: a turn's work on messages is the same after 100 and 2,000."""
    encoder = RequestEncoder(OpenAiChatSettings())
    runs: list[int] = []
    handled: list[int] = []
    real_run = MessageRun.__init__

    def counted_run(self: MessageRun, messages: tuple[LlmMessage, ...]) -> None:
        runs.append(len(messages))
        real_run(self, messages)

    monkeypatch.setattr(MessageRun, "__init__", counted_run)
    for name in ("_one_by_one", "_at_once"):
        real = getattr(MessageEncoder, name)
        monkeypatch.setattr(
            MessageEncoder,
            name,
            lambda self, messages, more, real=real: handled.append(len(messages)) or real(self, messages, more),
        )

    def answer(request: LlmRequest) -> str:
        encoder.pieces(request)
        return "a"

    readings = []
    for length in (100, 2_000):
        async with agent(answer) as lash:
            session = await lash.session("s")
            await append(session, length)
            await session.run("q")
            runs.clear()
            handled.clear()
            await session.run("q")
            readings.append((sum(runs), sum(handled)))
    assert readings[0] == readings[1] == (3, 3)  # what was said since it was read, and the question


async def test_a_turn_begins_before_any_of_its_history_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read by its first hook is as much after 10 messages as after 1,000, and no message is among it."""
    parsed = watched(monkeypatch)
    meter, readings = Meter(), []

    async def lash_before_turn(ctx: Any) -> list[Any]:
        readings.append((meter.reading()[0], len(parsed)))
        return []

    plugins = [metered_store(meter), plugin("watcher", lash_before_turn)]
    async with agent(lambda request: "a", store="metered://", plugins=plugins) as lash:
        for length in (10, 1_000):
            session = await lash.session(f"of {length}")
            await append(session, length)
            parsed.clear()
            meter.reading()
            await session.run("q")
            assert len(parsed) == length
    assert readings == [(readings[0][0], 0)] * 2


@pytest.mark.parametrize("in_a_file", [False, True])
async def test_a_hook_that_looks_at_the_history_sees_all_of_it_at_once(tmp_path: Path, in_a_file: bool) -> None:
    """Also where nothing of it was read: then it is, on the spot."""
    seen: list[Any] = []

    def lash_before_turn(ctx: Any) -> list[Any]:
        seen.append(
            (ctx.iteration, len(ctx.messages), ctx.messages[57], ctx.messages[-1].text, tuple(ctx.messages)[:100])
        )
        return []

    store = f"sqlite:///{tmp_path / 'a.db'}" if in_a_file else "sqlite://"
    async with agent(lambda request: "a", store=store, plugins=[plugin("watcher", lash_before_turn)]) as lash:
        session = await lash.session("s")
        await append(session, 100)
        assert (await session.run("q")).is_success
    assert seen == [(0, 101, talk(58)[57], "q", tuple(talk(100)))]


async def test_a_damaged_message_stops_the_turn_before_any_model_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with agent([], store=f"sqlite:///{path}") as lash:
        await append(await lash.session("s"), 100)
    database = sqlite3.connect(path, isolation_level=None)
    rows = database.execute("SELECT key, node_id, body FROM nodes").fetchall()
    ((key, node, body),) = [row for row in rows if b'"text 57"' in row[2]]
    database.execute("UPDATE nodes SET body = ? WHERE key = ?", (body.replace(b'"text 57"', b"57"), key))
    database.close()
    asked: list[LlmRequest] = []
    async with agent(lambda request: asked.append(request) or "a", store=f"sqlite:///{path}") as lash:
        with pytest.raises(StoreCorrupt, match=rf"`{node.hex()}` can't be read: .*parts\[0\]\.content"):
            await (await lash.session("s")).run("q")
        assert not await (await lash.session("s")).inbox()
    assert asked == []
