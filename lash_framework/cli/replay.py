"""`lash replay`, `lash upgrade-check`: turns from their records alone; nothing is executed and nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap
from typing import TYPE_CHECKING

import click

from lash_framework.cli.exits import ExitCode
from lash_framework.cli.lines import say
from lash_framework.cli.options import Invocation, common_with, tools_option
from lash_framework.cli.output import print_json
from lash_framework.cli.tables import print_table
from lash_framework.cli.tool_files import load_tools
from lash_framework.cli.unfinished import matching, needs_tools

if TYPE_CHECKING:
    from lash_framework.replaying import Replayed
    from lash_framework.upgrade_check import UpgradeCheck

__all__ = ["replay", "upgrade_check"]


@click.command()
@click.argument("turn_id", metavar="TURN")
@tools_option
@common_with("The session, if the beginning of the turn's id is not enough.")
def replay(invocation: Invocation, turn_id: str, tools: tuple[str, ...]) -> int:
    """Replay the committed turn TURN from its journal, and compare it with what was committed.

    Its journal must have been kept: see the setting `durability.keep_journal_h`. Exit codes: 0 the same bytes, 1 not.
    """
    import anyio

    from lash_hookspecs.errors import ReplayError

    async def work() -> Replayed:
        async with invocation.open(tools=load_tools(tools), existing=True) as lash:
            try:
                return await lash.replay(turn_id, invocation.session)
            except ReplayError as error:
                if hint := needs_tools(error.lacks, tools):
                    error.add_note(hint.removeprefix("; "))
                raise

    invocation.ask_for_trust()
    replayed = anyio.run(work)
    for number, label in enumerate(replayed.effects, 1):
        say(f"{number:4}  {label}")
    count = len(replayed.effects)
    if replayed.differences:
        say(f"{count} effects from the journal, none executed: {' and '.join(replayed.differences)} differ")
        return ExitCode.STOPPED
    say(f"{count} effects from the journal, none executed: the same {replayed.size:,} bytes")
    return ExitCode.FINISHED


@click.command("upgrade-check")
@tools_option
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common_with("Only this session.")
def upgrade_check(invocation: Invocation, tools: tuple[str, ...], as_json: bool) -> int:
    """Would unfinished turns go on with the plugins, versions and modes that are installed now?

    Each is replayed from its records, or, if it isn't begun, held against what is here; nothing is executed and nothing
    is written. `safe`: it goes on; `mismatch`: it would stop at that effect; `old_set`: finish it with the plugins that
    it began with. Exit codes: 0 all are safe, 1 one is not.
    """
    import anyio

    async def work() -> tuple[Sequence[UpgradeCheck], str]:
        async with invocation.open(tools=load_tools(tools), existing=True) as lash:
            chosen = await matching(lash, invocation.session) if invocation.session is not None else None
            return await lash.upgrade_check(chosen), lash.location

    invocation.ask_for_trust()
    found, location = anyio.run(work)
    if as_json:
        print_json(
            [
                {
                    "session_id": each.session_id,
                    "turn_id": each.turn_id,
                    "verdict": each.verdict.value,
                    "at_effect": each.at,
                    "reason": each.reason,
                    "versions": [list(change) for change in each.versions],
                    "waits_for": list(each.waits_for),
                }
                for each in found
            ]
        )
    else:
        rows = [(each.session_id, each.turn_id, each.verdict.value, each.at) for each in found]
        print_table(("session", "turn", "verdict", "at effect"), rows, empty=f"no unfinished turns in {location}")
        for each in found:
            changes = "; ".join(starmap(_change, each.versions))
            waits = f"it waits for somebody to say what became of {', '.join(each.waits_for)}: see `lash pending list`"
            told = f"{each.reason}{needs_tools(each.lacks, tools)}"
            for line in filter(None, (told, waits if each.waits_for else "", changes)):
                say(f"{each.turn_id}: {line}")
    return ExitCode.FINISHED if all(each.verdict == "safe" for each in found) else ExitCode.STOPPED


def _change(plugin_id: str, before: str, now: str) -> str:
    from lash_framework.accepted import ABSENT
    from lash_framework.provenance import APPLICATION

    if plugin_id == APPLICATION:
        return f"its program's own tools and plugins are {'not' if now == ABSENT else 'new'} here"
    if now == ABSENT:
        return f"plugin {plugin_id} was {before}, and is not here"
    return f"plugin {plugin_id} is new, {now}" if before == ABSENT else f"plugin {plugin_id} was {before}, is {now}"
