"""`lash pending list|show|answer|resolve`: calls that wait to be allowed or completed, or that a crash left unknown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lash_framework.cli.groups import NearestGroup
from lash_framework.cli.lines import clean, shortened
from lash_framework.cli.options import Invocation, common
from lash_framework.cli.output import print_json
from lash_framework.cli.people import require_person
from lash_framework.cli.questions import visible
from lash_framework.cli.tables import moment, print_table

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.pending import PendingCall

__all__ = ["pending"]


@click.group(cls=NearestGroup)
def pending() -> None:
    """Calls that wait for somebody: to allow them, to complete them, or to say whether they happened."""


@pending.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common
def list_(invocation: Invocation, as_json: bool) -> None:
    """What waits, of all sessions, the oldest first."""

    async def work(lash: Lash) -> tuple[Sequence[PendingCall], str]:
        return await lash.pending(), lash.location

    found, location = invocation.with_lash(work)
    if as_json:
        print_json([_as_object(each) for each in found])
        return
    rows = [
        (
            each.key[:12],
            each.session_id,
            each.turn_id,
            each.tool_name,
            _waits_for(each),
            visible(shortened(each.args, 60)),
        )
        for each in found
    ]
    print_table(
        ("key", "session", "turn", "tool", "waits for", "arguments"), rows, empty=f"nothing waits in {location}"
    )
    if rows:
        click.echo(f"`{invocation.again('pending show KEY')}` shows a call whole, and what is asked about it", err=True)


def _as_object(call: PendingCall) -> dict[str, Any]:
    return {
        "key": call.key,
        "session_id": call.session_id,
        "turn_id": call.turn_id,
        "tool": call.tool_name,
        "call_id": call.call_id,
        "args": call.args,
        "waits_for": _waits_for(call),
        "until_ms": call.until_ms,
        "said": call.said,
        "asked_by": call.question and call.question.plugin_id,
        "preview": call.question and call.question.preview,
        "choices": [each.choice_id for each in call.question.choices] if call.question else [],
    }


@pending.command()
@click.argument("key")
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@common
def show(invocation: Invocation, key: str, as_json: bool) -> None:
    """The call KEY, as it would be made, and what is asked about it; a beginning of the key is enough."""
    call = invocation.with_lash(lambda lash: _call(lash, key))
    if as_json:
        print_json(_as_object(call))
        return
    from lash_framework.cli.asking import shown

    until = "" if call.until_ms is None else f", until {moment(call.until_ms)}"
    click.echo(
        clean(f"{call.key}\nsession {call.session_id}, turn {call.turn_id}, waits for {_waits_for(call)}{until}")
    )
    click.echo(shown(call, whole=True))


async def _call(lash: Lash, key: str) -> PendingCall:
    from lash_framework.pending import pending_call

    return await pending_call(lash.require_journal("`lash pending`"), key)


def _waits_for(call: PendingCall) -> str:
    if call.question is not None:
        return f"{call.question.plugin_id}: {'|'.join(each.choice_id for each in call.question.choices)}"
    return "completion" if call.deferred else "what happened"


@pending.command()
@click.argument("key")
@click.argument("choice")
@click.option("--note", metavar="TEXT", default="", help="What the model should read besides.")
@click.option("--wait", is_flag=True, help="Wait while its session runs a turn.")
@common
def answer(invocation: Invocation, key: str, choice: str, note: str, wait: bool) -> None:
    """Answer a plugin's question about the call KEY, as `lash pending list` has it. Then `lash resume` goes on."""

    require_person("answer a question")

    async def work(lash: Lash) -> PendingCall:
        from lash_framework.cli.asking import shown

        call = await _call(lash, key)
        if call.question is not None:  # so that it stands there what was answered, also where it is a slip
            click.echo(shown(call), err=True)
        return await lash.answer(call.key, choice, note=note, wait=wait)

    done = invocation.with_lash(work)
    again = invocation.again(f"resume {done.session_id}")
    click.echo(f"answered {choice} about {done.tool_name} of turn {done.turn_id}; `{again}` goes on with it")


@pending.command()
@click.argument("key")
@click.option("--result", metavar="JSON", help="Its result: JSON, or text that doesn't look like JSON.")
@click.option("--text", metavar="TEXT", help="Its result: this text, whatever it looks like.")
@click.option("--error", metavar="TEXT", help="It failed: what the model should read.")
@click.option("--wait", is_flag=True, help="Wait while its session runs a turn.")
@click.option("--not-done", is_flag=True, help="It never happened: of a call that a crash left unknown.")
@common
def resolve(
    invocation: Invocation,
    key: str,
    result: str | None,
    text: str | None,
    error: str | None,
    wait: bool,
    not_done: bool,
) -> None:
    """Complete the call KEY, or say what became of it; a beginning of the key is enough. Then `lash resume` goes on."""
    require_person("say what became of a call")
    if (result is not None) + (text is not None) + (error is not None) + not_done != 1:
        said = "say either --result, --text, --error or --not-done; a question is answered with"
        raise click.UsageError(f"{said} `lash pending answer KEY CHOICE`", click.get_current_context())
    value = text if result is None else _value(result)

    async def work(lash: Lash) -> PendingCall:
        if not_done:
            return await lash.resolve(key, happened=False, wait=wait)
        if error is not None:
            return await lash.resolve(key, error=error, wait=wait)
        return await lash.resolve(key, result=value, wait=wait)

    done = invocation.with_lash(work)
    again = invocation.again(f"resume {done.session_id}")
    click.echo(f"resolved {done.tool_name} of turn {done.turn_id}; `{again}` goes on with it")


def _value(text: str) -> Any:
    """The JSON, or the text. Raises `UsageError` for what was meant as JSON, by its first character, and is none."""
    try:
        return json.loads(text)
    except ValueError as error:
        if text.lstrip()[:1] not in ("{", "[", '"'):
            return text
        broken = f"--result looks like JSON, but is broken: {error}; mend it, or say --text if it is meant as text"
        raise click.UsageError(broken, click.get_current_context()) from error
