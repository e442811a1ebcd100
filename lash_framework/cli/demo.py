"""`lash demo`: a real turn through all layers, offline."""

from __future__ import annotations

import tempfile
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from lash_framework.cli.exits import exit_code_of
from lash_framework.cli.options import Invocation, common_with, program
from lash_framework.cli.screens import Screen, screen_for
from lash_framework.cli.streams import own_stdout

if TYPE_CHECKING:
    from lash_framework.cli.turns import Gate
    from lash_hookspecs.sessions import AssembledTurn
    from lash_hookspecs.toolkit import FunctionTool

__all__ = ["demo"]

QUESTION = "What time is it in UTC, and what is 19 + 23?"


def demo_tools() -> list[FunctionTool]:
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
        return a + b

    return [now, add]


@click.command()
@common_with("The session; made if there is none.")
def demo(invocation: Invocation) -> int:
    """Run a real turn on the screen, offline: a scripted model, two tools at once, a SQLite database."""
    import anyio

    from lash_framework.cli.turns import run_turn, with_signals
    from lash_framework.settings import Rank

    if invocation.settings.origin_of("store").rank is not Rank.CALLER:
        folder = Path(tempfile.mkdtemp(prefix="lash-demo-"))
        invocation.override("lash demo", store=f"sqlite:///{folder / 'lash-demo.db'}")
    if invocation.settings.origin_of("model").rank is not Rank.CALLER:
        invocation.override("lash demo", model="scripted:demo")

    async def work(screen: Screen, out: IO[str], gate: Gate) -> AssembledTurn:
        async with invocation.open(tools=demo_tools()) as lash:
            settings = invocation.settings
            click.secho(f"model {settings.model}, mode {settings.mode}, tools now and add", out, dim=True)
            click.echo(f"> {QUESTION}", out)
            session = await lash.session(invocation.session)
            return await run_turn(session, QUESTION, screen, gate, logs=invocation.logs, location=lash.location)

    with own_stdout() as out:
        screen = screen_for(out, notes_on_stdout=True)
        try:
            turn = anyio.run(with_signals, partial(work, screen, out))
        finally:
            screen.close()
    click.echo("\nType next:")
    for line in (
        invocation.again(f"explain {turn.turn_id[:8]}"),
        invocation.again(f"sessions show {turn.state.session_id}"),
        f'{program()} run --model openai-chat:NAME "your question"   # needs OPENAI_API_KEY',
    ):
        click.echo(f"  {line}")
    return exit_code_of(turn.outcome)
