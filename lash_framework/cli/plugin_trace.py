"""`lash plugins trace`: a real turn, and where its time went: per plugin, and hook or tool."""

from __future__ import annotations

from collections.abc import Iterable
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from lash_framework.cli.exits import exit_code_of
from lash_framework.cli.options import Invocation, common_with, tools_option
from lash_framework.cli.output import print_json
from lash_framework.cli.prompts import read_prompt
from lash_framework.cli.streams import own_stdout
from lash_framework.cli.tables import print_table

if TYPE_CHECKING:
    from lash_framework.cli.hook_times import HookTime
    from lash_framework.cli.turns import Gate
    from lash_hookspecs.sessions import AssembledTurn

__all__ = ["trace"]

PROMPT = "Hello"


@click.command(short_help="Run a real turn, and show how long each plugin took.")
@click.argument("prompt", nargs=-1)
@tools_option
@click.option("--turns", metavar="N", type=click.IntRange(1), default=1, help="So many turns, one after the other (1).")
@click.option("--json", "as_json", is_flag=True, help="Print exactly one JSON object.")
@common_with("The session; made if there is none.")
def trace(invocation: Invocation, prompt: tuple[str, ...], tools: tuple[str, ...], turns: int, as_json: bool) -> int:
    """Run a real turn, and show how long each plugin's hooks and tools took.

    PROMPT is what `lash run` takes (default: Hello). The turn goes to the model and the store of the settings, and is
    committed; `--model scripted:demo --store sqlite://` costs nothing and leaves nothing. The first turn of a host
    starts what its plugins hold open, and loads what they need: `--turns 2` and more show what is left later.

    `total` is from call to end, waiting included; `busy` the part in which nothing else could run. The exit code is
    that of `lash run`.
    """
    text = read_prompt(prompt) if prompt else PROMPT
    invocation.ask_for_trust()
    with own_stdout() as out:
        traced = _traced(invocation, text, tools, turns)
        if as_json:
            print_json(traced.as_object(), file=out)
    if not as_json:
        traced.show()
    return exit_code_of(traced.last.outcome)


class _Traced:
    def __init__(self, rows: list[HookTime], ended: list[AssembledTurn], opening_s: float, turns_s: float) -> None:
        self.rows = [*rows, *_tool_rows(ended)]
        self.rows.sort(key=lambda each: -each.total_s)
        self.last = ended[-1]
        self.count = len(ended)
        self.opening_s = opening_s
        self.turns_s = turns_s

    def show(self) -> None:
        """As a table, with a line that says what it is a part of."""
        columns = ("plugin", "hook or tool", "calls", "total ms", "busy ms", "slowest ms")
        rows = [
            (each.plugin_id, each.hook, each.calls, _ms(each.total_s), _ms(each.busy_s), _ms(each.slowest_s))
            for each in self.rows
        ]
        print_table(columns, rows, empty="no hook was called")
        what = "the turn" if self.count == 1 else f"the {self.count} turns"
        click.echo(f"\nopening the host took {_ms(self.opening_s)} ms, {what} {_ms(self.turns_s)} ms")
        click.echo("what plugins didn't take, the model, the store and lash itself did")

    def as_object(self) -> dict[str, Any]:
        """The same for programs, in milliseconds."""
        return {
            "session_id": self.last.state.session_id,
            "turn_id": self.last.turn_id,
            "turns": self.count,
            "opening_ms": round(self.opening_s * 1000, 3),
            "turns_ms": round(self.turns_s * 1000, 3),
            "rows": [
                {
                    "plugin": each.plugin_id,
                    "hook": each.hook,
                    "calls": each.calls,
                    "total_ms": round(each.total_s * 1000, 3),
                    "busy_ms": round(each.busy_s * 1000, 3),
                    "slowest_ms": round(each.slowest_s * 1000, 3),
                }
                for each in self.rows
            ],
        }


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f}"


def _tool_rows(turns: Iterable[AssembledTurn]) -> list[HookTime]:
    """The tools that ran. What of their time was busy isn't known: a plain function runs in a thread."""
    from lash_framework.cli.hook_times import HookTime

    rows: dict[tuple[str, str], HookTime] = {}
    for turn in turns:
        for call in turn.tool_calls:
            key = (call.plugin_id or "-", f"tool {call.tool_name}")
            rows.setdefault(key, HookTime(*key)).add(call.duration_ms / 1000)
    return list(rows.values())


def _traced(invocation: Invocation, text: str, tools: tuple[str, ...], turns: int) -> _Traced:
    import anyio

    from lash_framework.cli.hook_times import HookTimes
    from lash_framework.cli.screens import Screen
    from lash_framework.cli.tool_files import load_tools
    from lash_framework.cli.turns import run_turn, with_signals

    times = HookTimes()

    async def work(gate: Gate) -> _Traced:
        began = perf_counter()
        ended: list[AssembledTurn] = []
        with times.kept():
            async with invocation.open(tools=load_tools(tools)) as lash:
                session = await invocation.session_in(lash, invocation.session)
                invocation.tell(lash, session)
                opened = perf_counter()
                for _ in range(turns):
                    gate.again = invocation.resumes(lash, session.id, tools)
                    ended.append(await run_turn(session, text, Screen(), gate, logs=invocation.logs))
                    if ended[-1].outcome.tag == "stopped":
                        break
                done = perf_counter()
        return _Traced(times.rows, ended, opened - began, done - opened)

    return anyio.run(with_signals, work)
