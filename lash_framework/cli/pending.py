"""`lash pending list|answer|resolve`: calls that wait to be allowed or completed, or that a crash left unknown."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from lash_framework.cli.options import Invocation, common
from lash_framework.cli.output import print_json
from lash_framework.cli.tables import print_table

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.pending import PendingCall

__all__ = ["pending"]

T = TypeVar("T")


@click.group()
def pending() -> None:
    """Calls that wait for somebody: to allow them, to complete them, or to say whether they happened."""


def _with_lash(invocation: Invocation, work: Callable[[Lash], Awaitable[T]]) -> T:
    import anyio

    async def run() -> T:
        async with invocation.open(existing=True) as lash:
            return await work(lash)

    return anyio.run(run)


@pending.command("list")
@click.option("--json", "as_json", is_flag=True, help="As a JSON array.")
@common
def list_(invocation: Invocation, as_json: bool) -> None:
    """What waits, of all sessions, the oldest first."""

    async def work(lash: Lash) -> tuple[Sequence[PendingCall], str]:
        return await lash.pending(), lash.location

    found, location = _with_lash(invocation, work)
    if as_json:
        print_json(
            [
                {
                    "key": each.key,
                    "session_id": each.session_id,
                    "turn_id": each.turn_id,
                    "tool": each.tool_name,
                    "call_id": each.call_id,
                    "args": each.args,
                    "waits_for": _waits_for(each),
                    "until_ms": each.until_ms,
                    "said": each.said,
                    "asked_by": each.question and each.question.plugin_id,
                    "choices": [choice.choice_id for choice in each.question.choices] if each.question else [],
                }
                for each in found
            ]
        )
        return
    rows = [
        (
            each.key[:12],
            each.session_id,
            each.turn_id,
            each.tool_name,
            _waits_for(each),
            json.dumps(each.args, ensure_ascii=False)[:60],
        )
        for each in found
    ]
    print_table(
        ("key", "session", "turn", "tool", "waits for", "arguments"), rows, empty=f"nothing waits in {location}"
    )


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

    async def work(lash: Lash) -> PendingCall:
        return await lash.answer(key, choice, note=note, wait=wait)

    done = _with_lash(invocation, work)
    again = invocation.again(f"resume {done.session_id}")
    click.echo(f"answered {choice} about {done.tool_name} of turn {done.turn_id}; `{again}` goes on with it")


@pending.command()
@click.argument("key")
@click.option("--result", metavar="JSON", help="Its result: JSON, or else plain text.")
@click.option("--error", metavar="TEXT", help="It failed: what the model should read.")
@click.option("--wait", is_flag=True, help="Wait while its session runs a turn.")
@click.option("--not-done", is_flag=True, help="It never happened: of a call that a crash left unknown.")
@common
def resolve(
    invocation: Invocation, key: str, result: str | None, error: str | None, wait: bool, not_done: bool
) -> None:
    """Complete the call KEY, or say what became of it; a beginning of the key is enough. Then `lash resume` goes on."""
    if (result is not None) + (error is not None) + not_done != 1:
        text = "say either --result, --error or --not-done; `lash pending answer` is for questions"
        raise click.UsageError(text, click.get_current_context())

    async def work(lash: Lash) -> PendingCall:
        if not_done:
            return await lash.resolve(key, happened=False, wait=wait)
        if error is not None:
            return await lash.resolve(key, error=error, wait=wait)
        return await lash.resolve(key, result=_value(result or ""), wait=wait)

    done = _with_lash(invocation, work)
    again = invocation.again(f"resume {done.session_id}")
    click.echo(f"resolved {done.tool_name} of turn {done.turn_id}; `{again}` goes on with it")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
