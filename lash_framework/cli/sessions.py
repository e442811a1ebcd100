"""`lash sessions list|show|export|delete`."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lash_framework.cli.exits import complain
from lash_framework.cli.lines import clean, shortened, usage_text
from lash_framework.cli.options import Invocation, common, common_with
from lash_framework.cli.output import print_json, turn_object, usage_object
from lash_framework.cli.tables import heading, moment, print_table
from lash_hookspecs.errors import ConfigurationError, UnknownName, nearest

if TYPE_CHECKING:
    from lash_framework.archive import HistoryExport
    from lash_framework.lash import Lash
    from lash_hookspecs.messages import Message
    from lash_hookspecs.stores import SessionSummary

__all__ = ["sessions"]

T = TypeVar("T")

_ALL = 100_000  # sessions


@click.group()
def sessions() -> None:
    """List, show, export and delete sessions."""


def _with_lash(invocation: Invocation, work: Callable[[Lash], Awaitable[T]]) -> T:
    import anyio

    async def run() -> T:
        async with invocation.open(existing=True) as lash:
            return await work(lash)

    return anyio.run(run)


def _chosen(invocation: Invocation, given: str | None) -> str:
    session_id = given or invocation.session
    if session_id is None:
        raise click.UsageError("which session? Name one; `lash sessions list` lists them", click.get_current_context())
    return session_id


async def _matching(lash: Lash, given: str) -> str:
    """The session with this id, or the only one whose id begins so. Raises `ConfigurationError`."""
    if await lash.store.load_head(given) is not None:
        return given
    ids = [each.session_id for each in await lash.list_sessions(limit=_ALL)]
    found = [each for each in ids if each.startswith(given)]
    if not found:
        raise _unknown(given, ids)
    if len(found) > 1:
        some = ", ".join(f"`{each}`" for each in found[:5])
        raise ConfigurationError(f"session `{given}` is ambiguous: {some}{', …' if len(found) > 5 else ''}")
    return found[0]


def _unknown(given: str, ids: list[str]) -> UnknownName:
    near = nearest(given, ids)
    hint = f"{near} " if near.startswith("did you mean") else ""
    return UnknownName("session", given, hint=f"{hint}`lash sessions list` lists them")


def _history(invocation: Invocation, given: str | None) -> HistoryExport:
    chosen = _chosen(invocation, given)

    async def work(lash: Lash) -> HistoryExport:
        return await lash.load_history(await _matching(lash, chosen))

    return _with_lash(invocation, work)


@sessions.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, the latest used first.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common
def list_(invocation: Invocation, limit: int, as_json: bool) -> None:
    """Sessions, the latest used first."""

    async def work(lash: Lash) -> tuple[Sequence[SessionSummary], int, str]:
        found = await lash.list_sessions(limit=limit + 1)
        count = len(found if len(found) <= limit else await lash.list_sessions(limit=_ALL))
        return found[:limit], count, lash.location

    found, count, location = _with_lash(invocation, work)
    if count > limit:
        complain(f"{count - limit} more; `--limit {count}` lists them all")
    if as_json:
        print_json(
            [
                {
                    "session_id": each.session_id,
                    "created_at_ms": each.created_at_ms,
                    "updated_at_ms": each.updated_at_ms,
                    "turns": each.turn_index,
                    "usage": usage_object(each.usage),
                }
                for each in found
            ]
        )
        return
    rows = [(each.session_id, moment(each.updated_at_ms), each.turn_index, usage_text(each.usage)) for each in found]
    print_table(("session", "last used", "turns", "usage"), rows, empty=f"no sessions in {location}")


@sessions.command()
@click.argument("session_id", required=False, metavar="SESSION")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@common_with("The session, in place of SESSION.")
def show(invocation: Invocation, session_id: str | None, as_json: bool) -> None:
    """A session: its turns, with their ids, and what was said."""
    history = _history(invocation, session_id)
    if as_json:
        print_json(_export(history))
        return
    heading(f"session {history.session_id}")
    if history.policy is not None:
        click.echo(f"model {history.policy.model}, mode {history.policy.mode_id}, {usage_text(history.usage.total)}")
    click.echo()
    rows = [
        (each.turn_id, moment(each.finished_at_ms), _ending(each.outcome), len(each.tool_calls), usage_text(each.usage))
        for each in history.turns
    ]
    print_table(("turn", "ended", "outcome", "tool calls", "usage"), rows, empty="no turns yet")
    for message in history.messages:
        for who, text in _said(message):
            click.echo()
            click.secho(who, bold=True)
            click.echo(clean(text))


def _ending(outcome: Any) -> str:
    return f"stopped: {outcome.reason}" if outcome.tag == "stopped" else str(outcome.tag)


def _said(message: Message) -> Iterator[tuple[str, str]]:
    """Who said what, for reading: one entry per part that has text."""
    for part in message.parts:
        match part.kind.value:
            case "tool_call":
                yield f"{message.role} calls {part.tool_name}", shortened(part.content, 400)
            case "tool_result":
                yield f"{part.tool_name} returns", shortened(part.content, 400)
            case "reasoning":
                continue
            case _:
                if part.content:
                    yield str(message.role), part.content


def _export(history: HistoryExport) -> dict[str, Any]:
    from lash_hookspecs.codec import unstructure

    return {
        "format": "lash-session",
        "version": 1,
        "session_id": history.session_id,
        "policy": None if history.policy is None else unstructure(history.policy),
        "usage": usage_object(history.usage.total),
        "turns": [turn_object(each) for each in history.turns],
        "messages": [unstructure(each) for each in history.messages],
    }


def _markdown(history: HistoryExport) -> str:
    pieces = [f"# Session {history.session_id}"]
    pieces += [f"**{who}**\n\n{text}" for message in history.messages for who, text in _said(message)]
    return "\n\n".join(pieces) + "\n"


@sessions.command()
@click.argument("session_id", required=False, metavar="SESSION")
@click.option("--format", "form", type=click.Choice(["json", "markdown"]), default="json", show_default=True)
@click.option("-o", "--output", metavar="FILE", help="Write there instead of to stdout; refuses to overwrite.")
@common_with("The session, in place of SESSION.")
def export(invocation: Invocation, session_id: str | None, form: str, output: str | None) -> None:
    """A session, whole: as JSON for programs, as Markdown for reading."""
    history = _history(invocation, session_id)
    if form == "markdown":
        text = _markdown(history)
    else:
        text = json.dumps(_export(history), ensure_ascii=False, indent=2, default=str) + "\n"
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with Path(output).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise click.UsageError(f"`{output}` exists already; choose another name") from None
    except OSError as error:
        raise click.UsageError(f"`{output}` can't be written: {error.strerror or error}") from error
    click.echo(f"wrote {output}")


@sessions.command()
@click.argument("session_id", required=False, metavar="SESSION")
@click.option("--yes", is_flag=True, help="Don't ask.")
@common_with("The session, in place of SESSION.")
def delete(invocation: Invocation, session_id: str | None, yes: bool) -> None:
    """Delete a session for good. Its id can't be used again."""
    chosen = _chosen(invocation, session_id)
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("deleting is for good: say --yes where nobody can be asked")
        click.confirm(f"Delete session `{chosen}` for good?", abort=True)

    async def work(lash: Lash) -> None:
        if not await lash.delete_session(chosen):
            raise _unknown(chosen, [each.session_id for each in await lash.list_sessions(limit=_ALL)])

    _with_lash(invocation, work)
    click.echo(f"deleted {chosen}")
