"""`lash demo`: a real turn through all layers, offline."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lash_framework.cli.exits import exit_code_of
from lash_framework.cli.options import Invocation, common
from lash_framework.cli.screens import screen_for

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
@common
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
    screen = screen_for(notes_on_stdout=True)

    async def work(gate: Gate) -> AssembledTurn:
        async with invocation.open(tools=demo_tools()) as lash:
            click.secho(
                f"model {invocation.settings.model}, mode {invocation.settings.mode}, tools now and add", dim=True
            )
            click.echo(f"> {QUESTION}")
            session = await lash.session(invocation.session)
            turn = await run_turn(session, QUESTION, screen, gate)
            screen.end(turn, lash.location)
            return turn

    try:
        turn = anyio.run(with_signals, work)
    finally:
        screen.close()
    click.echo("\nType next:")
    for line in (
        invocation.again(f"lash explain {turn.turn_id[:8]}"),
        invocation.again(f"lash sessions show {turn.state.session_id}"),
        'lash run --model openai-chat:NAME "your question"   # needs OPENAI_API_KEY',
    ):
        click.echo(f"  {line}")
    return exit_code_of(turn.outcome)
