"""`lash resume`, `lash cancel`: what becomes of turns that were begun and aren't committed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from lash_framework.cli.exits import ExitCode, complain, told
from lash_framework.cli.lines import say
from lash_framework.cli.options import Invocation, common_with, tools_option
from lash_framework.cli.tool_files import load_tools
from lash_framework.cli.unfinished import committed_line, lacks, matching, needs_tools

if TYPE_CHECKING:
    from lash_framework.cli.turns import Gate
    from lash_framework.lash import Lash
    from lash_framework.recovery import RecoveredTurn, RecoveryGate
    from lash_framework.session import Session

__all__ = ["cancel", "resume"]


@click.command()
@click.argument("session_id", required=False, metavar="[SESSION]")
@click.option("--abandon", metavar="TURN", help="Run nothing more of this turn: commit what is recorded, as stopped.")
@tools_option
@common_with("The session, in place of SESSION.")
def resume(invocation: Invocation, session_id: str | None, abandon: str | None, tools: tuple[str, ...]) -> int:
    """Go on with interrupted turns: of SESSION, or of all sessions.

    What is recorded is neither run nor paid again. A turn that is blocked, or whose process died three times in a row
    before anything more was recorded, is tried once more only if its SESSION is named. Ctrl-C cancels the turn that
    runs, which is committed as cancelled; a second one interrupts it.

    Exit codes: 0 all are committed, or run elsewhere, 1 one can't go on, 3 one waits for somebody, 130 cancelled.
    """
    import anyio

    from lash_framework.cli.turns import with_signals

    chosen = invocation.session_of(session_id)
    if abandon is not None and not chosen:
        raise click.UsageError("--abandon needs the SESSION too")
    if "" in (session_id, invocation.session):  # a variable that isn't set: all sessions aren't meant
        raise click.UsageError("the session's name is empty; `lash resume` without one goes on with all of them")
    invocation.ask_for_trust()

    async def work(gate: Gate) -> int:
        async with invocation.open(tools=load_tools(tools), existing=True) as lash:
            lash.require_journal("`lash resume`")
            named = [await matching(lash, chosen)] if chosen is not None else await _waiting(lash)
            gate.again = invocation.resumes(lash, named[0] if len(named) == 1 else "", tools)
            if abandon is not None:
                return await _abandon(lash, named[0], abandon)
            again = partial(invocation.resumes, lash, tools=tools)
            return await _resume(lash, named, tools, gate, again, force=chosen is not None)

    return anyio.run(with_signals, work)


async def _waiting(lash: Lash) -> Sequence[str]:
    """Sessions with something that isn't settled."""
    from lash_framework.unfinished import all_items

    waiting = all_items(lash.require_journal("`lash resume`").store)
    return list(dict.fromkeys([each.session_id async for each in waiting]))


async def _resume(
    lash: Lash,
    session_ids: Sequence[str],
    tools: Sequence[str],
    gate: Gate,
    again: Callable[[str], str | None],
    *,
    force: bool,
) -> int:
    from lash_framework.cli.turns import mended
    from lash_framework.recovery import RecoveryGate
    from lash_hookspecs.errors import LashError, SessionBusy, StoreError, TurnSuspended

    if not session_ids:
        say(f"nothing to resume in {lash.location}")
    code, stops = ExitCode.FINISHED, RecoveryGate()
    gate.attach(stops)
    for session_id in session_ids:
        try:
            session = await lash.session(session_id, recover=False)
            recovered = await _recovered(lash, session, stops, force)
        except SessionBusy:
            left = f"what it leaves is run with the next one, or by `{again(session_id)}`"
            say(f"{session_id}: a turn runs elsewhere; {left}")
            continue
        except LashError as error:
            reason = told(error)
            join = "" if reason.endswith("?") else ";"
            then = f"{join} the turn is not committed; {mended(error, again(session_id))}"
            hint = needs_tools(lacks(error), tools).removeprefix("; ")
            first = f"{hint}; " if hint else ""  # before all that differs without them
            complain(f"{session_id}: {first}{reason}{then if isinstance(error, StoreError) else ''}")
            code = max(code, ExitCode.SUSPENDED if isinstance(error, TurnSuspended) else ExitCode.STOPPED)
            continue
        for each in recovered:
            turn = each.turn
            say(f"{session_id}: {committed_line(each)}")
            if text := turn.assistant_output.safe_text:
                say(text)
        if stops.reason is not None:
            return ExitCode.CANCELLED
        if not recovered and len(session_ids) == 1:
            say(f"{session_id}: nothing to resume")
    return code


async def _recovered(lash: Lash, session: Session, stops: RecoveryGate, force: bool) -> Sequence[RecoveredTurn]:
    """Go on with a session's turns; at a terminal, whoever sits there is asked what they wait for."""
    from lash_framework.cli.asking import answer_at_terminal
    from lash_hookspecs.errors import TurnSuspended

    while True:
        try:
            return await session.recover(force=force, gate=stops)
        except TurnSuspended as waits:
            if not await answer_at_terminal(lash, waits):
                raise


async def _abandon(lash: Lash, session_id: str, turn_id: str) -> int:
    from lash_hookspecs.errors import SessionBusy

    session = await lash.session(session_id, recover=False)
    try:
        ended = await session.abandon(turn_id)
    except SessionBusy as error:
        text = f"session `{session_id}` is running a turn elsewhere; `lash cancel {session_id}` asks that to end"
        raise SessionBusy(text) from error
    count = len(ended.replayed)
    say(f"{session_id}: turn {ended.turn.turn_id} is committed as stopped, with {count} recorded effects")
    return ExitCode.FINISHED


@click.command()
@click.argument("session_id", required=False, metavar="SESSION")
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait until it has ended.")
@common_with("The session, in place of SESSION.")
def cancel(invocation: Invocation, session_id: str | None, wait: bool) -> int:
    """Cancel the turn that runs, or was interrupted, on SESSION, whichever process runs it.

    It is committed as cancelled, with what it had done. Exit codes: 0 cancelled, 1 it completed first, or none runs.
    """
    import anyio

    chosen = invocation.session_of(session_id)
    if chosen is None:
        raise click.UsageError("which session? Name one; `lash sessions list` lists them", click.get_current_context())

    async def work() -> int:
        async with invocation.open(existing=True) as lash:
            return await _cancel(lash, chosen, wait)

    invocation.ask_for_trust()
    return anyio.run(work)


async def _cancel(lash: Lash, session_id: str, wait: bool) -> int:
    session_id = await matching(lash, session_id)
    session = await lash.session(session_id, recover=False)
    asked = await session.cancel("cancelled with `lash cancel`")
    if asked is None:
        say(f"{session_id}: no turn runs or waits")
        return ExitCode.STOPPED
    say(f"{session_id}: asked turn {asked.turn_id} to end")
    if not wait:
        return ExitCode.FINISHED
    if await asked.won():
        say(f"{session_id}: turn {asked.turn_id} is committed as cancelled")
        return ExitCode.FINISHED
    say(f"{session_id}: turn {asked.turn_id} had completed first")
    return ExitCode.STOPPED
