"""`lash run`."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import click

from lash_framework.cli.exits import ExitCode, Interrupted, OutputFailed, State, exit_code_of, settle
from lash_framework.cli.options import Invocation, common_with, tools_option
from lash_framework.cli.prompts import read_instructions, read_prompt
from lash_framework.cli.screens import Screen, screen_for
from lash_framework.cli.streams import own_stdout

if TYPE_CHECKING:
    from lash_framework.cli.turns import Gate
    from lash_hookspecs.sessions import AssembledTurn

__all__ = ["run"]


@click.command()
@click.argument("prompt", nargs=-1)
@click.option("-c", "--continue", "continue_", is_flag=True, help="Go on with the session that was used last.")
@tools_option
@click.option("--system", metavar="TEXT", help="Instructions for the model (or @file).")
@click.option("--turn-id", metavar="ID", help="Name of the turn: the same name and prompt run only once.")
@click.option(
    "--max-cost", metavar="USD", type=click.FloatRange(0), help="Stop before a call that would make the turn cost more."
)
@click.option(
    "--max-tokens", metavar="N", type=click.IntRange(0), help="Stop before a call that would make the turn take more."
)
@click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object.")
@click.option("--jsonl", is_flag=True, help="Print one activity a line, and that object last.")
@click.option("--reasoning", is_flag=True, help="Show the model's reasoning (on a terminal).")
@click.option("--wait", is_flag=True, help="Wait for a turn that another process runs on the session.")
@common_with("The session; made if there is none.")
def run(
    invocation: Invocation,
    prompt: tuple[str, ...],
    continue_: bool,
    tools: tuple[str, ...],
    system: str | None,
    turn_id: str | None,
    max_cost: float | None,
    max_tokens: int | None,
    as_json: bool,
    jsonl: bool,
    reasoning: bool,
    wait: bool,
) -> int:
    """Run one turn and print the answer.

    PROMPT is text, `@file`, or `-` for standard input. What is piped in without a `-` comes after the PROMPT.

    Exit codes: 0 finished, 1 stopped, 2 usage or configuration, 3 suspended, 130 cancelled (Ctrl-C).
    """
    if continue_ and invocation.session is not None:
        raise click.UsageError("--continue and --session exclude each other")
    if as_json and jsonl:
        raise click.UsageError("--json and --jsonl exclude each other")
    job = _Job(
        session_id=invocation.session,
        turn_id=turn_id,
        continues=continue_,
        wait=wait,
        max_cost=max_cost,
        max_tokens=max_tokens,
    )
    try:
        text = read_prompt(prompt)
        invocation.ask_for_trust()
        if system is not None:
            invocation.override("--system", instructions=read_instructions(system))
        # Around all of it: plugins and tools may print while they are imported, too.
        with own_stdout() as out:
            screen = screen_for(out, json=as_json, jsonl=jsonl, reasoning=reasoning)
            try:
                turn = _run(invocation, text, tools, screen, job)
            finally:
                with suppress(OSError):
                    screen.close()
    except BaseException as error:
        if as_json or jsonl:
            return _settle_in_json(error, invocation.state, job)
        raise
    return exit_code_of(turn.outcome)


class _Job:
    """What was asked for, and what is known of it when it fails."""

    def __init__(
        self,
        *,
        session_id: str | None,
        turn_id: str | None,
        continues: bool,
        wait: bool,
        max_cost: float | None,
        max_tokens: int | None,
    ) -> None:
        self.session_id = session_id
        self.turn_id = turn_id
        self.continues = continues
        self.wait = wait
        self.max_cost = max_cost
        self.max_tokens = max_tokens
        self.gate: Gate | None = None


def _run(invocation: Invocation, text: str, tools: tuple[str, ...], screen: Screen, job: _Job) -> AssembledTurn:
    import anyio

    from lash_framework.cli.handoffs import run_followed
    from lash_framework.cli.tool_files import load_tools
    from lash_framework.cli.turns import with_signals
    from lash_framework.cli.unfinished import go_on_first
    from lash_hookspecs.errors import TurnCancelled

    async def work(gate: Gate) -> AssembledTurn:
        job.gate = gate
        async with invocation.open(tools=load_tools(tools), existing=job.continues) as lash:
            job.session_id = await invocation.latest_session_id(lash) if job.continues else job.session_id
            gate.again = invocation.resumes(lash, job.session_id, tools)
            session = await invocation.session_in(lash, job.session_id)
            job.session_id = session.id
            invocation.tell(lash, session)
            if not await go_on_first(lash, session, tools, gate):
                raise TurnCancelled("cancelled while the turn before it ran")
            gate.again = invocation.resumes(lash, session.id, tools)
            try:
                return await run_followed(
                    lash,
                    session,
                    text,
                    screen,
                    gate,
                    resumes=partial(invocation.resumes, lash, tools=tools),
                    turn_id=job.turn_id,
                    wait=job.wait,
                    max_cost=job.max_cost,
                    max_tokens=job.max_tokens,
                    logs=invocation.logs,
                    location=lash.location,
                )
            finally:
                job.turn_id = gate.turn_id or job.turn_id
                job.session_id = gate.session_id or job.session_id

    return anyio.run(with_signals, work)


def _settle_in_json(error: BaseException, state: State, job: _Job) -> int:
    """The message on stderr as ever, and on stdout an object of the documented shape."""
    from lash_framework.cli.output import failure_object, print_json

    code = settle(error, state)
    if code == ExitCode.READER_LEFT or isinstance(error, OutputFailed):
        return code  # nobody could read it
    told = error.__cause__ if type(error).__name__ == "NotCommitted" and error.__cause__ else error
    kind = type(told).__name__
    message = error.format_message() if isinstance(error, click.ClickException) else str(error)
    if isinstance(error, (Interrupted, KeyboardInterrupt)):
        kind, message = "Interrupted", str(error) or "cancelled"
    evidence = job.gate.evidence if job.gate is not None else None
    # Only of a turn that was interrupted it is sure that all of it is recorded: a store that failed may lack some.
    durable = kind in ("Interrupted", "TurnInterrupted") and job.gate is not None and job.gate.again is not None
    print_json(failure_object(job.session_id, job.turn_id, kind, message, evidence, durable=durable))
    return code
