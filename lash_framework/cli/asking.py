"""Asking the person at the terminal what a turn waits for: plugins' questions about tool calls.

Whoever isn't at a terminal isn't asked: the turn stays suspended, and is answered with `lash pending`. So does a
question that is left open here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.pending import PendingCall
    from lash_hookspecs.errors import TurnSuspended
    from lash_hookspecs.questions import PersonQuestion

__all__ = ["answer_at_terminal", "chosen", "shown"]

LONG = 4_000
"""How many characters of a call's arguments are shown: who sees only a part is told so."""


def _at_terminal() -> bool:
    """Whether there is somebody to ask."""
    return all(each is not None and each.isatty() for each in (sys.stdin, sys.stderr))


async def _questions_in(lash: Lash, waits: TurnSuspended) -> Sequence[PendingCall]:
    """The questions that the turn waits for; none if it waits for anything else besides, which nobody here can say."""
    if waits.questions != {*waits.keys}:
        return ()
    return [each for each in await lash.pending() if each.key in waits.questions and each.question is not None]


def shown(call: PendingCall, at: int, of: int) -> list[str]:
    """What a person reads before they answer: who asks, what, and the call exactly as it would be made."""
    question = _question(call)
    args = json.dumps(call.args, ensure_ascii=False, indent=2, default=str)
    cut = len(args) - LONG
    if cut > 0:
        args = (
            f"{args[: LONG // 2]}\n… {cut} more characters; `lash pending list --json` has all …\n{args[-LONG // 2 :]}"
        )
    count = f" ({at} of {of})" if of > 1 else ""
    choices = (f"  {no}  {each.choice_id}: {each.text}" for no, each in enumerate(question.choices, 1))
    lines = (f"{question.plugin_id} asks{count}: {question.question}", f"{call.tool_name} {args}", *choices)
    return [_plain(each) for each in lines]


def chosen(call: PendingCall, line: str) -> tuple[str, str] | None:
    """The choice, by number, id or the only beginning of one, and the note behind it; None for anything else."""
    word, _, note = line.strip().partition(" ")
    ids = [each.choice_id for each in _question(call).choices]
    if word.isdecimal() and 1 <= int(word) <= len(ids):
        return ids[int(word) - 1], note.strip()
    found = [word] if word in ids else [each for each in ids if word and each.startswith(word)]
    return (found[0], note.strip()) if len(found) == 1 else None


PROMPT = "your answer, and perhaps a note behind it (nothing: later) › "


async def answer_at_terminal(lash: Lash, waits: TurnSuspended) -> bool:
    """Ask all that the turn waits for, and record the answers. False: something is left open."""
    questions = await _questions_in(lash, waits) if _at_terminal() else ()
    answered = 0
    for at, call in enumerate(questions, 1):
        click.echo("\n".join(shown(call, at, len(questions))), err=True)
        found = None
        while found is None:
            click.echo(PROMPT, nl=False, err=True)
            line = await _read_line()
            if not line.strip():
                break
            if (found := chosen(call, line)) is None:
                click.echo("that is none of them", err=True)
        if found is not None:
            await lash.answer(call.key, found[0], note=found[1])
            answered += 1
    return answered > 0 and answered == len(questions)


async def _read_line() -> str:
    """One line of the terminal, without a thread: so Ctrl-C ends the wait. Empty at the end of the input."""
    import anyio

    try:
        await anyio.wait_readable(sys.stdin.fileno())
    except anyio.get_cancelled_exc_class():
        click.echo(err=True)  # what is said next stands on a line of its own
        raise
    return os.read(sys.stdin.fileno(), 65_536).decode(errors="replace")  # a terminal gives a line at a time


def _question(call: PendingCall) -> PersonQuestion:
    assert call.question is not None  # only such calls are asked about
    return call.question


def _plain(text: str) -> str:
    """Text that steers no terminal, and hides nothing: what can't be seen is written out."""
    return "".join(each if each == "\n" or each.isprintable() else f"\\u{ord(each):04x}" for each in text)
