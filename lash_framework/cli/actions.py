"""`lash actions`: what plugins offer to be called (`list`), and calling it (`call`)."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from lash_framework.cli.exits import ExitCode
from lash_framework.cli.groups import NearestGroup
from lash_framework.cli.lines import say
from lash_framework.cli.options import Invocation, common, common_with
from lash_framework.cli.output import print_json
from lash_framework.cli.people import require_person
from lash_framework.cli.tables import print_table

if TYPE_CHECKING:
    from lash_hookspecs.actions import ActionProgress

__all__ = ["actions"]


@click.group(cls=NearestGroup)
def actions() -> None:
    """Operations that plugins offer."""


@actions.command("list", short_help="Every action, with its kind and its plugin.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array, with the schemas.")
@common
def list_(invocation: Invocation, as_json: bool) -> None:
    """Every action, with its kind, its plugin, and whether it is called on a session."""
    from lash_framework.cli.hosts import open_host

    found = open_host(invocation).actions()
    if as_json:
        rows: list[dict[str, Any]] = [
            {
                "name": name,
                "kind": each.value.kind,
                "plugin": each.plugin_id,
                "session": each.value.session,
                "description": each.value.description,
                "input": each.value.input_schema,
                "output": each.value.output_schema,
            }
            for name, each in found.items()
        ]
        print_json(rows)
        return
    print_table(
        ("action", "kind", "plugin", "session", "what it does"),
        [
            (name, str(each.value.kind), each.plugin_id, str(each.value.session), each.value.description)
            for name, each in found.items()
        ],
        empty="no plugin offers an action",
    )


@actions.command(short_help="Call an action, with a value in JSON.")
@click.argument("name")
@click.argument("value", required=False)
@common_with("The session that the action is called on.")
def call(invocation: Invocation, name: str, value: str | None) -> int:
    """Call the action NAME with VALUE, in JSON (`-`: from standard input), on the session of --session if it is given.

    What it returns is printed as JSON; how far a task has come is told on stderr.
    """
    import anyio

    from lash_hookspecs.actions import ActionKind
    from lash_hookspecs.codec import unstructure

    given = _read(sys.stdin.read() if value == "-" else value)

    async def work() -> Any:
        async with invocation.open() as lash:
            action = lash.actions().get(name)
            if action is not None and action.value.kind is not ActionKind.QUERY:
                require_person(f"call the action `{name}`")
            session = await invocation.session_in(lash, invocation.session) if invocation.session else None
            return await lash.call(name, given, session=session, on_progress=_tell)

    invocation.ask_for_trust()
    print_json(unstructure(anyio.run(work)))
    return ExitCode.FINISHED


def _read(text: str | None) -> Any:
    try:
        return None if text is None else json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"VALUE must be JSON: {error}", click.get_current_context()) from error


def _tell(progress: ActionProgress) -> None:
    part = "" if progress.done is None else f" ({progress.done:.0%})"
    say(f"{progress.text}{part}", err=True)
