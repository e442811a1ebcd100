"""What a caller gives that can't be: an error of lash's own that says what was given, and what is wanted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from agents import agent
from attrs import frozen

from lash_hookspecs import AppendSessionNodesRequest, ConfigurationError, SessionAppendNode


@frozen
class Here:
    """What there is to give to the wrong argument."""

    lash: Any
    session: Any
    turn: Any


TURN_ID = "a `AssembledTurn`; expected is text, such as `turn.turn_id`"
SESSION_ID = "a `Session`; expected is text, such as `session.id`"

CALLS: dict[str, tuple[Callable[[Here], Any], str]] = {
    "append text": (
        lambda at: at.session.append("hello"),
        "what to append is `'hello'`, a `str`; expected is an `Appe",
    ),
    "append nothing": (lambda at: at.session.append(None), "expected is an `AppendSessionNodesRequest`, with nodes"),
    "follow an id": (
        lambda at: at.session.follow(at.turn.turn_id),
        "a `str`; expected is an `AssembledTurn`, as `session.run` returns it",
    ),
    "policy of text": (
        lambda at: at.session.set_policy("scripted:demo"),
        "the policy is `'scripted:demo'`, a `str`; expected is a `SessionPolicy`; `session.configure` changes fields",
    ),
    "configure a field by its other name": (
        lambda at: at.session.configure(mode="standard"),
        "session `s` can't be configured so: there is no `mode`, but `model`, `mode_id`, ",
    ),
    "explain a turn": (lambda at: at.lash.explain(at.turn), TURN_ID),
    "explain nothing": (lambda at: at.lash.explain(None), "the turn's id is `None`, a `NoneType`; expected is text"),
    "replay a turn": (lambda at: at.lash.replay(at.turn), TURN_ID),
    "history of a session": (lambda at: at.lash.load_history(at.session), SESSION_ID),
    "delete a session": (
        lambda at: at.lash.delete_session(at.session),
        "`Lash.delete_session`: `session_id` is `<Session s at revision 1>`, a `Session`; expected is text",
    ),
    "what a session has left": (lambda at: at.lash.unfinished(at.session), SESSION_ID),
    "check a session": (lambda at: at.lash.upgrade_check(at.session), SESSION_ID),
    "answer what has no key": (
        lambda at: at.lash.answer(7, "allow"),
        "the pending call's key is `7`, a `int`; expected is text, such as `pending_call.key`",
    ),
    "resolve what has no key": (
        lambda at: at.lash.resolve(7, result=1),
        "expected is text, such as `pending_call.key`",
    ),
    "call no name": (lambda at: at.lash.call(7), "the action is `7`, a `int`; expected is its name"),
    "call on no session": (
        lambda at: at.lash.call("plan_show", session=7),
        "the session is `7`, a `int`; expected is a `Session`, or its id",
    ),
    "enqueue in words": (
        lambda at: at.session.enqueue("hello", ingress="next_turn"),
        "`ingress` is `'next_turn'`, a `str`; expected is an `Ingress`, such as `Ingress.NEXT_TURN`",
    ),
    "a number for a source key": (
        lambda at: at.session.enqueue("hello", source_key=7),
        "`session.enqueue`: `source_key` is `7`, a `int`; expected is text",
    ),
}


@pytest.mark.parametrize("case", CALLS)
async def test_what_cannot_be_is_told_with_what_is_wanted(case: str, tmp_path: Any) -> None:
    """Most of these were an `AttributeError`; a session for its id was a store that can't be opened."""
    call, message = CALLS[case]
    async with agent(["Hello."], store=f"sqlite:///{tmp_path / 'a.db'}") as lash:
        session = await lash.session("s")
        turn = await session.run("Hi")
        with pytest.raises(ConfigurationError) as caught:
            await call(Here(lash, session, turn))
        assert message in str(caught.value)
        assert await session.inbox() == []
        assert len((await lash.load_history("s")).messages) == 2


NODE: Any = SessionAppendNode
REQUEST: Any = AppendSessionNodesRequest
MADE: dict[str, tuple[Callable[[], object], str]] = {
    "text for nodes": (lambda: REQUEST(operation_id="a", nodes="hello"), "is a `str` ('hello')"),
    "texts": (lambda: REQUEST(operation_id="a", nodes=["hello"]), "a tuple of `SessionAppendNode` only; one of it"),
    "text for a message": (lambda: NODE(message="hello"), "`SessionAppendNode.message` must be a `Message` or None"),
    "a number for an operation": (lambda: REQUEST(operation_id=7, nodes=()), "must be text, and is a `int` (7)"),
}


@pytest.mark.parametrize("case", MADE)
def test_an_append_that_cannot_be_is_refused_where_it_is_made(case: str) -> None:
    make, message = MADE[case]
    with pytest.raises(TypeError) as caught:
        make()
    assert message in str(caught.value)


async def test_nodes_may_come_in_a_list() -> None:
    async with agent([]) as lash:
        session = await lash.session("s")
        await session.append(REQUEST(operation_id="a", nodes=[SessionAppendNode.user("m1", "Hello.")]))
        assert [each.id for each in await session.messages()] == ["m1"]
