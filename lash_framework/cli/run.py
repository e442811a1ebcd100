"""`lash run`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lash_framework.cli.exits import ExitCode, Interrupted, State, exit_code_of, settle
from lash_framework.cli.options import Invocation, common
from lash_framework.cli.prompts import decoded, read_prompt
from lash_framework.cli.screens import Screen, screen_for

if TYPE_CHECKING:
    from lash_framework.cli.turns import Gate
    from lash_framework.session import Session
    from lash_hookspecs.sessions import AssembledTurn

__all__ = ["run"]


@click.command()
@click.argument("prompt", nargs=-1)
@click.option("-c", "--continue", "continue_", is_flag=True, help="Go on with the session that was used last.")
@click.option("--tools", metavar="FILE.py", multiple=True, help="Python file with functions marked @tool; repeatable.")
@click.option("--system", metavar="TEXT", help="Instructions for the model (or @file).")
@click.option("--turn-id", metavar="ID", help="Name of the turn: the same name and prompt run only once.")
@click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object.")
@click.option("--jsonl", is_flag=True, help="Print one activity a line, and that object last.")
@click.option("--reasoning", is_flag=True, help="Show the model's reasoning (on a terminal).")
@common
def run(
    invocation: Invocation,
    prompt: tuple[str, ...],
    continue_: bool,
    tools: tuple[str, ...],
    system: str | None,
    turn_id: str | None,
    as_json: bool,
    jsonl: bool,
    reasoning: bool,
) -> int:
    """Run one turn and print the answer.

    PROMPT is text, `@file`, or `-` for standard input, which is also read when there is no PROMPT.

    Exit codes: 0 finished, 1 stopped, 2 usage or configuration, 3 suspended, 130 cancelled (Ctrl-C).
    """
    if continue_ and invocation.session is not None:
        raise click.UsageError("--continue and --session exclude each other")
    screen = screen_for(json=as_json, jsonl=jsonl, reasoning=reasoning)
    names: dict[str, str | None] = {"session_id": invocation.session, "turn_id": turn_id}
    try:
        text = read_prompt(prompt)
        if system is not None:
            invocation.override("--system", instructions=_instructions(system))
        turn = _run(invocation, text, tools, continue_, screen, names)
    except (Exception, KeyboardInterrupt) as error:
        with suppress(OSError):
            screen.close()
        if as_json or jsonl:
            return _settle_in_json(error, invocation.state, names)
        raise
    return exit_code_of(turn.outcome)


def _instructions(text: str) -> str:
    if not text.startswith("@") or text.startswith("@@"):
        return text.removeprefix("@")
    try:
        return decoded(Path(text[1:]).expanduser().read_bytes(), f"`{text[1:]}`")
    except OSError as error:
        raise click.UsageError(f"--system {text}: {error.strerror or error}") from error


def _run(
    invocation: Invocation,
    text: str,
    tools: tuple[str, ...],
    continue_: bool,
    screen: Screen,
    names: dict[str, str | None],
) -> AssembledTurn:
    import anyio

    from lash_framework.cli.tool_files import load_tools
    from lash_framework.cli.turns import run_turn, with_signals
    from lash_hookspecs.errors import ConfigurationError

    async def work(gate: Gate) -> AssembledTurn:
        async with invocation.open(tools=load_tools(tools)) as lash:
            session_id = invocation.session
            if continue_ and (session_id := await lash.latest_session_id()) is None:
                raise ConfigurationError(f"--continue: there is no session yet in {lash.location}; leave it out")
            session: Session = await lash.session(session_id)
            invocation.tell_model(session)
            names["session_id"] = session.id
            try:
                turn = await run_turn(session, text, screen, gate, turn_id=names["turn_id"])
            finally:
                names["turn_id"] = gate.turn_id or names["turn_id"]
            screen.end(turn, lash.location)
            return turn

    return anyio.run(with_signals, work)


def _settle_in_json(error: BaseException, state: State, names: dict[str, str | None]) -> int:
    """The message on stderr as ever, and on stdout an object of the documented shape."""
    from lash_framework.cli.output import failure_object, print_json

    code = settle(error, state)
    kind = type(error).__name__
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        kind, message = "Interrupted", "interrupted; nothing of the turn was committed"
    if code != ExitCode.READER_LEFT:
        print_json(failure_object(names["session_id"], names["turn_id"], kind, message))
    return code
