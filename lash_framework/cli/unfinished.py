"""What the command line says of turns that aren't committed, and which session is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lash_framework.cli.exits import complain
from lash_framework.cli.lines import clean, usage_text
from lash_framework.provenance import APPLICATION
from lash_hookspecs.errors import ConfigurationError, ReplayError, TurnBlocked, UnknownName, nearest

if TYPE_CHECKING:
    from lash_framework.cli.turns import Gate
    from lash_framework.lash import Lash
    from lash_framework.recovery import RecoveredTurn
    from lash_framework.session import Session
    from lash_framework.unfinished import UnfinishedTurn

__all__ = [
    "ALL",
    "committed_line",
    "go_on_first",
    "lacks",
    "matching",
    "needs_tools",
    "unfinished_line",
    "unknown_session",
]

ALL = 100_000  # sessions


# ---- which session --------------------------------------------------------------------------------------------------


async def matching(lash: Lash, given: str) -> str:
    """The session with this id, or the only one whose id begins so. Raises `ConfigurationError`."""
    if await lash.store.load_head(given) is not None:
        return given
    ids = [each.session_id for each in await lash.list_sessions(limit=ALL)]
    found = [each for each in ids if each.startswith(given)]
    if not found:
        raise unknown_session(given, ids)
    if len(found) > 1:
        some = ", ".join(f"`{each}`" for each in found[:5])
        raise ConfigurationError(f"session `{given}` is ambiguous: {some}{', …' if len(found) > 5 else ''}")
    return found[0]


def unknown_session(given: str, ids: list[str]) -> UnknownName:
    near = nearest(given, ids)
    hint = f"{near} " if near.startswith("did you mean") else ""
    return UnknownName("session", given, hint=f"{hint}`lash sessions list` lists them")


# ---- turns that aren't committed ------------------------------------------------------------------------------------


def committed_line(recovered: RecoveredTurn) -> str:
    """How an interrupted turn ended, and what that took."""
    from lash_framework.tool_calls import UNKNOWN

    turn = recovered.turn
    tag = turn.outcome.tag
    ending = f"stopped: {getattr(turn.outcome, 'reason', '')}" if tag == "stopped" else tag
    outcomes = [(each.tool_name, each.output.outcome) for each in turn.tool_calls]
    unknown = ", ".join(f"`{name}`" for name, outcome in outcomes if getattr(outcome, "code", "") == UNKNOWN)
    return (
        f"turn {turn.turn_id} is committed ({ending}, {usage_text(turn.usage)}): "
        f"{len(recovered.replayed)} effects from its records, {len(recovered.ran)} run now"
        f"{f'; nobody knows whether {unknown} happened: find out before doing it again' if unknown else ''}"
    )


def unfinished_line(turn: UnfinishedTurn, again: str, *, with_tools: bool = False) -> str:
    """Where a turn stands, and what to type; `with_tools`: it began with tools of a file."""
    tools = " --tools FILE.py" if with_tools else ""
    goes_on = f"{again}{tools}"
    advice = {
        "waiting": f"it runs after those before it, or with `{goes_on}`",
        "running": "it runs right now",
        "interrupted": f"{f'{clean(turn.reason)}; ' if turn.reason else ''}`{goes_on}` goes on with it",
        "suspended": f"`lash pending list` says what it waits for; once that is answered, `{goes_on}` goes on with it",
        "blocked": f"{clean(turn.reason or '')}; mend that and type `{goes_on}`, or `{again} --abandon {turn.turn_id}`",
    }
    times = f", begun {turn.attempts} times" if turn.attempts > 1 and turn.state == "interrupted" else ""
    return f"turn {turn.turn_id} is {turn.state}{times}: {advice[turn.state]}"


async def go_on_first(lash: Lash, session: Session, tools: Sequence[str], gate: Gate) -> bool:
    """Go on with what was begun or accepted on the session before, and say so. False: a person stopped that.

    Raises `TurnSuspended` and `TurnBlocked` for a turn that stands in the way. Who runs the session elsewhere goes on
    with all of it.
    """
    if not lash.settings.durability.recover:
        return True
    unfinished = await lash.unfinished(session.id)
    if not unfinished or unfinished[0].state == "running":
        return True
    from lash_framework.recovery import RecoveryGate
    from lash_hookspecs.errors import LashError, SessionBusy, TurnSuspended

    if unfinished[0].state in ("interrupted", "waiting"):
        complain(f"turn {unfinished[0].turn_id} of this session is {unfinished[0].state}: going on with it first")
    stops = RecoveryGate()
    gate.attach(stops)
    try:
        while True:
            try:
                recovered = await session.recover(gate=stops)
                break
            except TurnSuspended as waits:
                from lash_framework.cli.asking import answer_at_terminal

                if not await answer_at_terminal(lash, waits):
                    raise
    except SessionBusy:
        return True
    except LashError as error:
        if hint := needs_tools(lacks(error), tools):
            error.add_note(hint.removeprefix("; "))
        raise
    finally:
        gate.running = None
    for each in recovered:
        complain(committed_line(each))
    return stops.reason is None


def lacks(error: Exception) -> Sequence[str]:
    """The plugins without which a turn can't go on, as far as the error knows."""
    return error.lacks if isinstance(error, ReplayError | TurnBlocked) else ()


def needs_tools(plugins: Sequence[str], tools: Sequence[str]) -> str:
    """A clause for a turn that lacks these plugins, if it began with tools of a file; empty for others."""
    if tools or APPLICATION not in plugins:
        return ""
    return "; it began with tools of a file: name them again with `--tools`"
