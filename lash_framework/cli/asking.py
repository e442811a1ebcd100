"""Asking the person at the terminal what a turn waits for: plugins' questions about tool calls.

Whoever isn't at a terminal isn't asked: the turn stays suspended, and is answered with `lash pending`. So does a
question that is left open here.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lash_framework.cli.people import is_for_a_model
from lash_framework.cli.questions import call_rows, question_rows, said_rows

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.pending import PendingCall
    from lash_hookspecs.errors import TurnSuspended
    from lash_hookspecs.questions import PersonQuestion

__all__ = ["answer_at_terminal", "chosen", "shown"]


def at_terminal() -> bool:
    """Whether there is somebody to ask: a person, and no model that runs `lash` in a terminal of its own."""
    return all(each is not None and each.isatty() for each in (sys.stdin, sys.stderr)) and not is_for_a_model()


async def _questions_in(lash: Lash, waits: TurnSuspended) -> Sequence[PendingCall]:
    """The questions that the turn waits for; none if it waits for anything else besides, which nobody here can say."""
    if waits.questions != {*waits.keys}:
        return ()
    return [each for each in await lash.pending() if each.key in waits.questions and each.question is not None]


def shown(call: PendingCall, count: str = "", *, whole: bool = False) -> str:
    """What a person reads before they answer: the call exactly as it would be made, who asks, and what."""
    width = max(40, shutil.get_terminal_size().columns)
    return "\n".join(
        (*call_rows(call, width, whole=whole), *said_rows(call, width, whole=whole), *question_rows(call, width, count))
    )


def chosen(call: PendingCall, line: str) -> tuple[str, str] | None:
    """The choice, by number, id or the only beginning of one, and the note behind it; None for anything else.

    Who allows something and says more has to write the id out: "a test first" is no `allow`.
    """
    word, _, note = line.strip().partition(" ")
    choices = {each.choice_id: each for each in _question(call).choices}
    found = [word] if word in choices else [each for each in choices if word and each.startswith(word)]
    if word.isdecimal() and 1 <= int(word) <= len(choices):
        found = [[*choices][int(word) - 1]]
    if len(found) != 1 or (note and word != found[0] and choices[found[0]].allows):
        return None
    return found[0], note.strip()


PROMPT = "your answer, and perhaps a note behind it (nothing: later) › "


async def answer_at_terminal(lash: Lash, waits: TurnSuspended) -> bool:
    """Ask all that the turn waits for, and record the answers. False: something is left open."""
    from lash_hookspecs.errors import UnknownName

    questions = await _questions_in(lash, waits) if at_terminal() else ()
    answered = 0
    for at, call in enumerate(questions, 1):
        click.echo(shown(call, f" ({at} of {len(questions)})" if len(questions) > 1 else ""), err=True)
        forget_what_was_typed()
        found = None
        while found is None:
            click.echo(PROMPT, nl=False, err=True)
            line = await _read_line()
            if not line.strip():
                break
            if (found := chosen(call, line)) is None:
                click.echo("that is none of them: type a number, a word such as `deny`, or how it begins", err=True)
        if found is not None:
            try:
                await lash.answer(call.key, found[0], note=found[1])
            except UnknownName:  # also `AlreadyAnswered`
                click.echo("somebody else has answered that meanwhile, and their answer counts", err=True)
            answered += 1
    return answered > 0 and answered == len(questions)


def forget_what_was_typed() -> None:
    """What was typed before a question was there is no answer to it."""
    try:
        import termios
    except ImportError:  # no such terminals here
        return
    termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


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
