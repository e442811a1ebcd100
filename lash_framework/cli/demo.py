"""`lash demo`: a real turn through all layers, offline, whose process is killed in the middle of a tool round.

The turn begins in a worker, a process of its own. Its tool `add` waits until the result of `now` is in the journal, and
then kills the worker with SIGKILL. This process goes on with the turn, and tells what was replayed and what ran.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

import click

from lash_framework.cli.exits import ExitCode, exit_code_of
from lash_framework.cli.options import Invocation, common_with, program
from lash_framework.cli.screens import Screen, screen_for
from lash_framework.cli.streams import own_stdout

if TYPE_CHECKING:
    from lash_framework.cli.turns import Gate
    from lash_framework.recovery import RecoveredTurn
    from lash_hookspecs.observation import Observation
    from lash_hookspecs.sessions import AssembledTurn
    from lash_hookspecs.toolkit import FunctionTool

__all__ = ["demo"]

QUESTION = "What time is it in UTC, and what is 19 + 23?"


def demo_tools(before_adding: Callable[[], Awaitable[None]] | None = None) -> list[FunctionTool]:
    """The two tools that the demo's model calls at once."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from lash_hookspecs.toolkit import tool
    from lash_hookspecs.tools import ToolEffect, ToolError

    @tool(effect=ToolEffect.PURE)
    async def now(tz: str = "UTC") -> str:
        """The current time in a time zone, such as `Europe/Vienna`."""
        try:
            return datetime.now(ZoneInfo(tz)).isoformat(timespec="seconds")
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ToolError(f"there is no time zone `{tz}`") from error

    @tool(effect=ToolEffect.PURE)
    async def add(a: float, b: float) -> float:
        """The sum of two numbers."""
        if before_adding is not None:
            await before_adding()
        return a + b

    return [now, add]


@click.command()
@click.option("--worker", metavar="TURN", hidden=True, help="Run this turn, and die in it.")
@common_with("The session; made if there is none.", finds=False)
def demo(invocation: Invocation, worker: str | None) -> int:
    """Run a real turn on the screen, offline, kill its process halfway, and go on with it.

    A scripted model, two tools at once, a SQLite database. No lash.toml is read, unless it is named.
    """
    from lash_framework.settings import Rank

    if invocation.settings.origin_of("store").rank is not Rank.CALLER:
        folder = Path(tempfile.mkdtemp(prefix="lash-demo-"))
        invocation.override("lash demo", store=f"sqlite:///{folder / 'lash-demo.db'}")
    if invocation.settings.origin_of("model").rank is not Rank.CALLER:
        invocation.override("lash demo", model="scripted:demo")
    if worker is not None:
        return _work(invocation, worker)
    settings = invocation.settings
    session_id, turn_id = invocation.session or token_hex(8), token_hex(16)
    click.secho(f"model {settings.model}, mode {settings.mode}, tools now and add", dim=True)
    click.echo(f"> {QUESTION}")
    code = _run_worker(invocation, session_id, turn_id)
    if code > 0:
        return code  # the worker said why
    turn = _go_on(invocation, session_id, turn_id, -code)
    click.echo("\nType next:")
    for line in (
        invocation.again(f"explain {turn.turn_id[:8]}"),
        invocation.again(f"sessions show {turn.state.session_id}"),
        f'{program()} run --model openai-chat:NAME "your question"   # needs OPENAI_API_KEY',
    ):
        click.echo(f"  {line}")
    return exit_code_of(turn.outcome)


# ---- the worker, which dies -----------------------------------------------------------------------------------------


def _run_worker(invocation: Invocation, session_id: str, turn_id: str) -> int:
    """Begin the turn in another process; its number, negative, if it was killed, else its exit code."""
    settings = invocation.settings
    command = [sys.executable, "-P", "-m", "lash_framework", "demo", "--worker", turn_id, "--session", session_id]
    command += ["--store", settings.store, "--model", settings.model or "", "--mode", settings.mode]
    with subprocess.Popen([*command, *invocation.passed_on]) as process:
        code = process.wait()
    if code == -signal.SIGKILL:
        return -process.pid
    return code if code >= 0 else ExitCode.STOPPED


def _work(invocation: Invocation, turn_id: str) -> int:
    """Run the turn until a tool kills us."""
    import anyio

    from lash_framework.cli.turns import run_turn, with_signals
    from lash_hookspecs.activity import ToolCallCompleted

    async def work(screen: Screen, gate: Gate) -> AssembledTurn:
        async def die() -> None:
            async for seen in session.observe():
                if any(isinstance(each, ToolCallCompleted) for each in _calls_in(seen)):
                    break  # what is told of `now` is recorded
            await anyio.wait_all_tasks_blocked()  # and is on the screen
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)

        async with invocation.open(tools=demo_tools(die)) as lash:
            session = await lash.session(invocation.session)
            return await run_turn(session, QUESTION, screen, gate, turn_id=turn_id, logs=invocation.logs)

    with own_stdout() as out:
        screen = screen_for(out, notes_on_stdout=True)
        try:
            turn = anyio.run(with_signals, partial(work, screen))
        finally:
            screen.close()
    return exit_code_of(turn.outcome)


def _calls_in(seen: Observation) -> Sequence[object]:
    """What an observer is told of tool calls: as they happen, or how they stand when it comes."""
    from lash_hookspecs.observation import Observed

    if isinstance(seen, Observed):
        return (seen.activity.event,)
    return seen.state.running.tool_calls if seen.state.running is not None else ()


# ---- whoever goes on ------------------------------------------------------------------------------------------------


def _go_on(invocation: Invocation, session_id: str, turn_id: str, killed: int) -> AssembledTurn:
    """Go on with the turn here, and tell what that took."""
    import anyio

    from lash_hookspecs.codec import decode
    from lash_hookspecs.sessions import AssembledTurn
    from lash_hookspecs.stores import OperationId

    async def recover() -> tuple[list[RecoveredTurn], AssembledTurn, str]:
        async with invocation.open(tools=demo_tools()) as lash:
            session = await lash.session(session_id, recover=False)
            recovered = list(await session.recover())
            receipt = await lash.store.load_receipt(session_id, OperationId("turn", turn_id))
            assert receipt is not None  # the worker, or we, committed it
            return recovered, decode(AssembledTurn, receipt.result), lash.location

    if killed:
        click.secho(f"\n✗ process {killed} was killed (SIGKILL) while `add` ran", fg="red")
        click.secho(f"… process {os.getpid()} goes on with the turn", dim=True)
    recovered, turn, location = anyio.run(recover)
    for each in recovered:
        _tell("from the journal", each.replayed)
        _tell("run now", each.ran)
        click.echo(f"\n{turn.text}\n")
        asked = sum(label.startswith("llm_call") for label in each.ran)
        paid = sum(label.startswith("llm_call") for label in each.replayed)
        click.secho(
            f"✓ committed in {location}: {asked + paid} model calls, {paid} before the kill and {asked} after it; "
            "nothing that was recorded was run or paid twice",
            fg="green",
        )
    if not recovered:
        click.echo("the turn came to its end before it could be killed: its model didn't call the tool `add`")
    return turn


def _tell(what: str, labels: tuple[str, ...]) -> None:
    click.echo(f"  {what}:")
    for label in labels:
        click.echo(f"    {label}")
