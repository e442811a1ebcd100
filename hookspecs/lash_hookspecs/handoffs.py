"""Sessions that a turn makes, and handing it to one of them: what is asked for, and the ids that follow from it. Pure.

Nothing is made before the turn is committed, and all of it is with that. Ids follow from the turn and from who asks, so
that a turn which goes on after a crash asks for the same sessions.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import Attribute, field

from lash_hookspecs import _checks as checks
from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.turn_outcomes import Handoff
from lash_hookspecs.values import frozen

__all__ = ["CreateSession", "HandoffSession", "child_session_id", "first_turn_id", "handoff_to"]


@frozen(kw_only=True)
class CreateSession:
    """Have a session made with the turn's commit, a child of the turn's session.

    Its id follows from the turn, the plugin and `key` (see `child_session_id`), unless `session_id` names it; one that
    is there stays as it is. What is None is as the turn's session has it. `fork`: it begins with the conversation, this
    turn included, and with what plugins remember. `task` is what it is told first, which waits in its inbox.
    """

    tag: ClassVar[str] = "create_session"
    key: str = field(default="child", validator=checks.text)
    session_id: str | None = field(default=None, validator=checks.optional_text)
    mode_id: str | None = field(default=None, validator=checks.optional_text)
    model: str | None = field(default=None, validator=checks.optional_text)
    instructions: str | None = field(default=None, validator=checks.optional_text)
    max_turns: int | None = field(default=None, validator=checks.optional_positive)
    fork: bool = field(default=False, validator=checks.flag)
    task: str | None = field(default=None, validator=checks.optional_text)


def _successor(instance: object, attribute: Attribute[Any], value: object) -> None:
    checks.a(CreateSession)(instance, attribute, value)
    assert isinstance(value, CreateSession)
    if value.task is not None:
        raise ValueError("`HandoffSession`: its own `task` is what the session is told first; `create` has none")


@frozen
class HandoffSession:
    """End the turn here, and have another session go on, which is told `task`.

    A hook returns it, and a tool's output has it as its `control`, which counts on success. The turn's outcome is
    `Handoff`; its commit makes the session, if it isn't there, and puts the task into its inbox.
    """

    tag: ClassVar[str] = "handoff_session"
    task: str = field(validator=checks.text)
    create: CreateSession = field(default=CreateSession(key="successor"), validator=_successor)


def child_session_id(session_id: str, turn_id: str, owner: str, key: str) -> str:
    """The id of a session that a turn makes for an owner: a plugin by its id, or a tool's call by that."""
    return stable_hash("lash.child-session", [session_id, turn_id, owner, key])[:32]


def first_turn_id(session_id: str, turn_id: str, owner: str, key: str) -> str:
    """The id of the turn in which such a session does what it is told first."""
    return stable_hash("lash.first-turn", [session_id, turn_id, owner, key])[:32]


def handoff_to(session_id: str, turn_id: str, owner: str, asked: HandoffSession) -> Handoff:
    """How a turn ends that is handed off: for modes, whose drivers find it as a call's control."""
    wish = asked.create
    successor = wish.session_id or child_session_id(session_id, turn_id, owner, wish.key)
    return Handoff(successor, first_turn_id(session_id, turn_id, owner, wish.key))
