"""Going on, on the same screen, where a turn was handed to another session, or once its questions are answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from lash_hookspecs.errors import TurnSuspended
from lash_hookspecs.turn_outcomes import Handoff

if TYPE_CHECKING:
    from lash_framework.cli.screens import Screen
    from lash_framework.cli.turns import Gate
    from lash_framework.lash import Lash
    from lash_framework.session import Session
    from lash_hookspecs.sessions import AssembledTurn, TurnInput

__all__ = ["run_followed", "successor"]


async def run_followed(
    lash: Lash,
    session: Session,
    given: TurnInput | str,
    screen: Screen,
    gate: Gate,
    *,
    resumes: Callable[[str], str | None],
    **options: Any,
) -> AssembledTurn:
    """`run_turn`, and then the turns that it is handed to, one after the other; returns the last one.

    `resumes` is what to type to go on with a session. A turn with a limit of its own is not followed: what its
    successor may spend is not its caller's to say.
    """
    screen.follows = options.get("max_cost") is None and options.get("max_tokens") is None
    turn = await _run(lash, session, given, screen, gate, **options)
    if not (screen.follows and isinstance(turn.outcome, Handoff)):
        return turn
    from lash_framework.successors import MOST_HANDOFFS

    left = MOST_HANDOFFS
    kept = {name: value for name, value in options.items() if name in ("logs", "location")}
    while left and isinstance(turn.outcome, Handoff) and turn.outcome.turn_id:
        left -= 1
        screen.follows = left > 0
        successor = turn.outcome
        gate.hand_over(successor.session_id, successor.turn_id, resumes(successor.session_id))
        there = await lash.session(successor.session_id, recover=False)
        turn = await _run(lash, there, None, screen, gate, turn_id=successor.turn_id, **kept)
    return turn


async def successor(lash: Lash, session_id: str) -> Session:
    """The session that a turn was handed to, as it was made: the command line's model and mode were the other one's."""
    from lash_hookspecs.codec import decode
    from lash_hookspecs.sessions import SessionPolicy

    session = await lash.session(session_id, recover=False)
    head = await lash.store.load_head(session_id)
    if head is not None and head.config:
        await session.set_policy(decode(SessionPolicy, head.config))
    return session


async def _run(
    lash: Lash, session: Session, given: TurnInput | str | None, screen: Screen, gate: Gate, **options: Any
) -> AssembledTurn:
    """`run_turn`, which goes on once the person at the terminal has answered what plugins ask."""
    from lash_framework.cli.turns import run_turn

    while True:
        try:
            return await run_turn(session, given, screen, gate, **options)
        except TurnSuspended as waits:
            from lash_framework.cli.asking import answer_at_terminal

            screen.pause()
            if not await answer_at_terminal(lash, waits):
                raise
            options["turn_id"] = gate.turn_id or options.get("turn_id")
