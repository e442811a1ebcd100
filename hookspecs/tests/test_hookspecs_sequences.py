"""Sequences that make their entries when they are read are otherwise like tuples; so is a message of one text."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterable
from itertools import pairwise

import attrs
import pytest
from hypothesis import given, strategies as st

from lash_hookspecs import (
    EncodedRun,
    LazySequence,
    LlmMessage,
    LlmMessages,
    LlmRequest,
    LlmRole,
    LlmTextMessage,
    LoadedSession,
    MessageRun,
    NodeKind,
    NodePath,
    NodeRecord,
    SessionHead,
    StoreCorrupt,
    TextBlock,
    decode,
    encode,
    llm_text,
    unstructure,
)

TEXTS = st.text(max_size=3)
ROLES = st.sampled_from(LlmRole)
RUNS = st.lists(st.lists(st.builds(llm_text, ROLES, TEXTS), max_size=4), max_size=5)


def in_runs(runs: Iterable[Iterable[LlmMessage]]) -> LlmMessages:
    return LlmMessages(MessageRun(tuple(run)) for run in runs)


# ---- sequences ------------------------------------------------------------------------------------------------------


@given(RUNS, st.integers(-12, 12), st.integers(-12, 12), st.sampled_from([1, 2, -1, -3]))
def test_messages_in_runs_are_read_like_a_tuple(runs: list[list[LlmMessage]], start: int, stop: int, step: int) -> None:
    model = tuple(message for run in runs for message in run)
    messages = in_runs(runs)
    assert (len(messages), tuple(messages), tuple(reversed(messages))) == (len(model), model, model[::-1])
    assert messages[start:stop:step] == model[start:stop:step]
    for at in range(-len(model), len(model)):
        assert messages[at] is model[at]
    for at in (-len(model) - 1, len(model)):
        with pytest.raises(IndexError, match=f"of {len(model)}"):
            messages[at]


@given(RUNS)
def test_how_messages_are_divided_is_no_part_of_their_value(runs: list[list[LlmMessage]]) -> None:
    divided, whole = in_runs(runs), LlmMessages.of([message for run in runs for message in run])
    assert divided == whole
    assert divided == tuple(whole)
    assert divided == list(whole)
    assert hash(divided) == hash(whole) == hash(tuple(whole))
    assert divided != [*whole, llm_text(LlmRole.USER, "more")]
    assert divided != "text"


@given(st.lists(st.builds(llm_text, ROLES, TEXTS), max_size=4))
def test_an_encoded_run_is_the_run_of_its_messages(said: list[LlmMessage]) -> None:
    """Also copied, and as a part of a request; and its messages are the same objects each time."""
    encoded = b",".join(json.dumps({"role": each.role, "content": each.text}).encode() for each in said)
    run, plain = EncodedRun(encoded, len(said)), MessageRun(tuple(said))
    assert (len(run), run, hash(run)) == (len(plain), plain, hash(plain))
    assert plain == run
    assert copy.deepcopy(run) == run
    assert run != MessageRun((*said, llm_text(LlmRole.USER, "more")))
    assert run != "text"
    whole = LlmMessages([run, plain])
    assert whole == (*said, *said)
    assert all(a is b for a, b in zip(whole, (*run.messages, *said), strict=True))
    assert pickle.loads(pickle.dumps(run)) == run
    assert isinstance(run, MessageRun)


def test_a_request_takes_any_sequence_and_keeps_runs() -> None:
    """Who gives a list gets runs; who gives runs gets the very same back, also after a change of something else."""
    message = llm_text(LlmRole.USER, "hi")
    request = LlmRequest(model="m", messages=[message])
    assert isinstance(request.messages, LlmMessages)
    assert attrs.evolve(request, model="n").messages is request.messages
    assert unstructure(request)["messages"] == [unstructure(message)]
    assert decode(LlmRequest, encode(request)) == request


def test_a_lazy_sequence_says_what_it_is() -> None:
    assert repr(in_runs([[llm_text(LlmRole.USER, "hi")]])) == "<LlmMessages of 1>"


def test_a_lazy_sequence_without_entries_of_its_own_cant_be_made() -> None:
    class Empty(LazySequence[int]):
        def __len__(self) -> int:
            return 0

    with pytest.raises(TypeError, match="entry"):
        Empty()  # type: ignore[abstract]  # the slip that is tested


# ---- a message of one text ------------------------------------------------------------------------------------------


@given(ROLES, TEXTS)
def test_a_text_message_is_an_ordinary_message(role: LlmRole, text: str) -> None:
    """It can't be told from one that was made the usual way, by comparing, storing, matching, copying or changing."""
    light, usual = llm_text(role, text), LlmMessage(role, (TextBlock(text=text),))
    assert (light, usual) == (usual, light)
    assert hash(light) == hash(usual)
    assert light == llm_text(role, text)
    assert light not in (llm_text(role, text + "."), LlmMessage(role, ()), "text")
    assert encode(light) == encode(usual)
    assert repr(light).removeprefix("LlmText") == repr(usual).removeprefix("Llm")
    for made in (copy.copy(light), copy.deepcopy(light), pickle.loads(pickle.dumps(light)), attrs.evolve(light)):
        assert made == usual
        assert type(made) is LlmMessage
    assert attrs.evolve(light, role=LlmRole.SYSTEM).role is LlmRole.SYSTEM
    match light:
        case LlmMessage(role=found, blocks=(TextBlock(text=said),)):
            assert (found, said) == (role, text)


def test_a_text_message_makes_block_and_memo_once() -> None:
    """Whoever reads them twice gets the same; and nothing else can be set."""
    message = llm_text(LlmRole.USER, "hi")
    assert message.blocks is message.blocks
    message.memo["wire"] = b"x"
    assert message.memo == {"wire": b"x"}
    assert message == llm_text(LlmRole.USER, "hi")
    for name in ("role", "text", "blocks", "memo"):
        with pytest.raises(AttributeError):
            setattr(message, name, "other")
    assert isinstance(LlmTextMessage(LlmRole.USER, ()), LlmMessage)


# ---- nodes ----------------------------------------------------------------------------------------------------------


def records(count: int, parent: str | None) -> list[NodeRecord]:
    made: list[NodeRecord] = []
    for at in range(count):
        made.append(
            NodeRecord(
                node_id=f"n{at}",
                parent_node_id=made[-1].node_id if made else parent,
                kind=NodeKind.MESSAGE if at else NodeKind.FRAME_OPEN,
                timestamp_ms=at,
                body=b"%d" % at,
                frame_key=None if at else "main",
            )
        )
    return made


@given(st.integers(0, 5), st.sampled_from([None, "above"]))
def test_nodes_in_columns_are_the_same_nodes(count: int, parent: str | None) -> None:
    nodes = records(count, parent)
    path = NodePath.of(nodes)
    assert path == nodes
    assert [*path] == nodes
    assert [*zip(path.ids, path.kinds, path.bodies, strict=True)] == [(n.node_id, n.kind, n.body) for n in nodes]
    assert NodePath.of(path) is path
    assert LoadedSession(head=SessionHead(session_id="s"), nodes=path).nodes[-1:] == tuple(nodes[-1:])


def test_nodes_that_are_no_path_are_corrupt() -> None:
    """A store that leaves a node out, or turns two round, is found out before anything is shown."""
    nodes = records(4, None)
    for wrong in (nodes[:1] + nodes[2:], [nodes[0], nodes[2], nodes[1]]):
        at = next(b for a, b in pairwise(wrong) if b.parent_node_id != a.node_id)
        with pytest.raises(StoreCorrupt, match=f"`{at.node_id}` doesn't stand below"):
            NodePath.of(wrong)
