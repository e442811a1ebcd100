"""`lash sessions list|show|queue|export|compact|fork|delete`."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lash_framework.cli.exits import complain
from lash_framework.cli.groups import NearestGroup
from lash_framework.cli.lines import clean, say, shortened, usage_text
from lash_framework.cli.options import Invocation, common, common_with
from lash_framework.cli.output import print_json, turn_object, usage_object
from lash_framework.cli.tables import heading, moment, print_table
from lash_framework.cli.unfinished import ALL, matching, unfinished_line, unknown_session

if TYPE_CHECKING:
    from lash_framework.archive import HistoryExport
    from lash_framework.lash import Lash
    from lash_framework.unfinished import UnfinishedTurn
    from lash_hookspecs.compaction import Compacted
    from lash_hookspecs.inbox import CancelOutcome, InboxItem
    from lash_hookspecs.messages import Message
    from lash_hookspecs.stores import SessionSummary

__all__ = ["sessions"]


@click.group(cls=NearestGroup)
def sessions() -> None:
    """List, show, export, compact, fork and delete sessions, and what is queued in one."""


def _chosen(invocation: Invocation, given: str | None) -> str:
    session_id = invocation.session_of(given)
    if session_id is None:
        raise click.UsageError("which session? Name one; `lash sessions list` lists them", click.get_current_context())
    return session_id


def _history(invocation: Invocation, given: str | None) -> tuple[HistoryExport, Sequence[UnfinishedTurn], set[str]]:
    """A session, its unfinished turns, and which of them began with tools of a file."""
    chosen = _chosen(invocation, given)

    async def work(lash: Lash) -> tuple[HistoryExport, Sequence[UnfinishedTurn], set[str]]:
        session_id = await matching(lash, chosen)
        history, unfinished = await lash.load_history(session_id), await lash.unfinished(session_id)
        if not unfinished:
            return history, (), set()
        from lash_framework.accepted import accepted_with
        from lash_framework.provenance import APPLICATION
        from lash_framework.unfinished import all_items

        items = [each async for each in all_items(lash.require_journal("its inbox").store, session_id)]
        return history, unfinished, {each.turn_id or "" for each in items if APPLICATION in accepted_with(each)}

    return invocation.with_lash(work)


@sessions.command("list")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, the latest used first.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common
def list_(invocation: Invocation, limit: int, as_json: bool) -> None:
    """Sessions, the latest used first."""

    async def work(lash: Lash) -> tuple[Sequence[SessionSummary], int, Sequence[UnfinishedTurn], str]:
        found = await lash.list_sessions(limit=limit + 1)
        count = len(found if len(found) <= limit else await lash.list_sessions(limit=ALL))
        return found[:limit], count, await lash.unfinished(), lash.location

    found, count, unfinished, location = invocation.with_lash(work)
    by_session: dict[str, list[UnfinishedTurn]] = {}
    for each in unfinished:
        by_session.setdefault(each.session_id, []).append(each)
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
                    "unfinished": [_unfinished_object(turn) for turn in by_session.get(each.session_id, ())],
                }
                for each in found
            ]
        )
        return
    rows = [
        (
            each.session_id,
            moment(each.updated_at_ms),
            each.turn_index,
            _states(by_session.get(each.session_id, ())),
            usage_text(each.usage),
        )
        for each in found
    ]
    print_table(("session", "last used", "turns", "unfinished", "usage"), rows, empty=f"no sessions in {location}")


def _states(unfinished: Sequence[UnfinishedTurn]) -> str:
    """`interrupted`, and how many others wait behind it."""
    if not unfinished:
        return "-"
    more = len(unfinished) - 1
    return f"{unfinished[0].state}{f' (+{more})' if more else ''}"


def _unfinished_object(turn: UnfinishedTurn) -> dict[str, Any]:
    return {
        "turn_id": turn.turn_id,
        "state": turn.state.value,
        "attempts": turn.attempts,
        "reason": turn.reason,
    }


@sessions.command()
@click.argument("session_id", required=False, metavar="SESSION")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@common_with("The session, in place of SESSION.")
def show(invocation: Invocation, session_id: str | None, as_json: bool) -> None:
    """A session: its turns, with their ids, those that aren't finished, and what was said."""
    history, unfinished, with_tools = _history(invocation, session_id)
    if as_json:
        print_json({**_export(history), "unfinished": [_unfinished_object(each) for each in unfinished]})
        return
    heading(f"session {history.session_id}")
    if history.policy is not None:
        say(f"model {history.policy.model}, mode {history.policy.mode_id}, {usage_text(history.usage.total)}")
    click.echo()
    rows = [
        (each.turn_id, moment(each.finished_at_ms), _ending(each.outcome), len(each.tool_calls), usage_text(each.usage))
        for each in history.turns
    ]
    print_table(("turn", "ended", "outcome", "tool calls", "usage"), rows, empty="no turns yet")
    for each in unfinished:
        again = invocation.again(f"resume {shlex.quote(history.session_id)}")
        say(unfinished_line(each, again, with_tools=each.turn_id in with_tools))
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


@sessions.command()
@click.argument("session_id", required=False, metavar="SESSION")
@click.option("--cancel", "one", type=int, metavar="NO", help="Cancel this input.")
@click.option("--cancel-from", "first", type=int, metavar="NO", help="Cancel this one, and all later ones that wait.")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common_with("The session, in place of SESSION.")
def queue(
    invocation: Invocation, session_id: str | None, one: int | None, first: int | None, as_json: bool
) -> int | None:
    """Inputs that are accepted and not done yet, in order; or cancel some by their numbers.

    Exit codes: 0 listed, or cancelled, 1 not all could be cancelled.
    """
    if one is not None and first is not None:
        raise click.UsageError("--cancel and --cancel-from exclude each other")
    chosen = _chosen(invocation, session_id)
    no = one if first is None else first

    async def work(lash: Lash) -> tuple[str, Sequence[InboxItem], Mapping[int, CancelOutcome] | None]:
        lash.require_journal("`lash sessions queue`")
        session = await lash.session(await matching(lash, chosen), recover=False)
        if no is None:
            return session.id, await session.inbox(), None
        reason = "cancelled with `lash sessions queue`"
        return session.id, (), await session.cancel_queued(no, onward=first is not None, reason=reason)

    session_id, waiting, outcomes = invocation.with_lash(work)
    if outcomes is None:
        _list_queue(session_id, waiting, as_json)
        return None
    if as_json:
        print_json([{"no": each, "outcome": outcome.value} for each, outcome in outcomes.items()])
    else:
        for each, outcome in outcomes.items():
            click.echo(f"{each}: {_BECAME[outcome.value].format(clean(session_id))}")
    return 0 if all(outcome in ("cancelled", "requested") for outcome in outcomes.values()) else 1


_BECAME = {
    "cancelled": "cancelled",
    "requested": "running: its turn is asked to end; `lash cancel {0}` waits for that",
    "already_requested": "running: its turn was asked to end before; `lash cancel {0}` waits for that",
    "taken": "running: another turn took it; `lash cancel {0}` ends that",
    "completed": "completed: it came too late",
    "unknown": "unknown: session {0} has no such input, or no more; `lash sessions queue {0}` lists them",
}


def _list_queue(session_id: str, waiting: Sequence[InboxItem], as_json: bool) -> None:
    from lash_framework.accepted import bare_request
    from lash_hookspecs.sessions import TextItem

    rows = []
    for each in waiting:
        items = bare_request(each).turn_input.items
        text = " ".join(item.text if isinstance(item, TextItem) else "[image]" for item in items)
        rows.append((each, text))
    if as_json:
        print_json(
            [
                {
                    "no": each.no,
                    "state": each.state.value,
                    "ingress": each.ingress.value,
                    "source_key": each.source_key,
                    "turn_id": each.turn_id,
                    "text": text,
                }
                for each, text in rows
            ]
        )
        return
    print_table(
        ("no", "accepted", "state", "for", "input"),
        [
            (each.no, moment(each.accepted_at_ms), each.state.value, each.ingress.value, shortened(text, 60))
            for each, text in rows
        ],
        empty=f"nothing is queued in session {clean(session_id)}",
    )


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
    history, _, _ = _history(invocation, session_id)
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


@sessions.command(short_help="Make a conversation shorter; nothing of it is lost.")
@click.argument("session_id", required=False, metavar="SESSION")
@click.option("--instructions", metavar="TEXT", default="", help="What the plugin that compacts should mind.")
@common_with("The session, in place of SESSION.")
def compact(invocation: Invocation, session_id: str | None, instructions: str) -> None:
    """Go on in a new frame: a plugin makes the conversation shorter, and what was said before stays in the store."""
    chosen = _chosen(invocation, session_id)

    async def work(lash: Lash) -> Compacted | None:
        session = await lash.session(await matching(lash, chosen))
        return await session.compact(instructions)

    done = invocation.with_lash(work)
    if done is None:
        click.echo("nothing to compact")
    else:
        click.echo(f"plugin {done.plugin_id}: {done.before} messages became {done.after}")


@sessions.command(short_help="Make a session that begins where another one stands.")
@click.argument("session_id", metavar="SESSION")
@click.argument("new_id", required=False, metavar="[NEW]")
@click.option("--at", metavar="TURN", help="Begin after this turn of it, instead of after the last one.")
@common
def fork(invocation: Invocation, session_id: str, new_id: str | None, at: str | None) -> None:
    """Make a session that begins where SESSION stands, and goes on by itself; NEW is its id, or one is made up."""

    async def work(lash: Lash) -> str:
        session = await lash.session(await matching(lash, session_id), recover=False)
        return (await session.fork(new_id, at=at)).id

    made = invocation.with_lash(work)
    goes_on = invocation.again(f"chat --session {shlex.quote(clean(made))}")
    click.echo(f"session {clean(made)} begins where {clean(session_id)} stands; `{goes_on}` goes on")


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
            raise unknown_session(chosen, [each.session_id for each in await lash.list_sessions(limit=ALL)])

    invocation.with_lash(work)
    say(f"deleted {chosen}")
