"""`lash chat`: a conversation, line by line.

The event loop runs in a thread of its own, so that the line is edited, and Ctrl-C felt, where Python does both best: in
the main thread.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

import click

from lash_framework.cli.exits import ExitCode, Interrupted, code_of_error, complain, exit_code_of, told
from lash_framework.cli.options import Invocation, common_with, tools_option
from lash_framework.cli.prompts import read_instructions
from lash_framework.cli.screens import screen_for
from lash_framework.cli.streams import own_stdout

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

    from lash_framework.cli.turns import Gate
    from lash_framework.lash import Lash
    from lash_framework.session import Session

__all__ = ["chat"]

T = TypeVar("T")

PROMPT = "› "
HISTORY_LENGTH = 2000  # lines
HELP = """/help     this
/session  the session's id, and how to go on with it later
/quit     leave (also Ctrl-D)
Ctrl-C    cancels the turn that runs; a second one leaves
A line that ends in \\ goes on in the next one."""


@click.command()
@click.option("-c", "--continue", "continue_", is_flag=True, help="Go on with the session that was used last.")
@tools_option
@click.option("--system", metavar="TEXT", help="Instructions for the model (or @file).")
@click.option("--reasoning", is_flag=True, help="Show the model's reasoning (on a terminal).")
@click.option("--wait", is_flag=True, help="Wait for turns that another process runs on the session.")
@common_with("The session; made if there is none.")
def chat(
    invocation: Invocation, continue_: bool, tools: tuple[str, ...], system: str | None, reasoning: bool, wait: bool
) -> int:
    """Talk with a model, line by line.

    Ctrl-C cancels the turn that runs and keeps the session; a second one leaves, as Ctrl-D does.
    """
    from anyio.from_thread import start_blocking_portal

    from lash_framework.cli.tool_files import load_tools
    from lash_framework.cli.turns import Gate
    from lash_framework.cli.unfinished import go_on_first

    if continue_ and invocation.session is not None:
        raise click.UsageError("--continue and --session exclude each other")
    invocation.ask_for_trust()
    if system is not None:
        invocation.override("--system", instructions=read_instructions(system))
    with (
        _terminated(),
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(invocation.open(tools=load_tools(tools), existing=continue_)) as lash,
    ):
        session_id = portal.call(invocation.latest_session_id, lash) if continue_ else invocation.session
        session = portal.call(invocation.session_in, lash, session_id)
        invocation.tell(lash, session)
        resumes, gate = partial(invocation.resumes, lash, tools=tools), Gate()
        gate.again = resumes(session.id)
        goes_on = _result(portal, portal.start_task_soon(go_on_first, lash, session, tools, gate), gate)
        with _line_editing():
            conversation = _Conversation(invocation, portal, lash, session, reasoning, wait, resumes)
            return conversation.run([] if goes_on else [ExitCode.CANCELLED])


class _Conversation:
    """Lines in, turns out, until somebody leaves."""

    def __init__(
        self,
        invocation: Invocation,
        portal: BlockingPortal,
        lash: Lash,
        session: Session,
        reasoning: bool,
        wait: bool,
        resumes: Callable[[str], str | None],
    ) -> None:
        self._resumes = resumes
        self._invocation = invocation
        self._logs = invocation.logs
        self._wait = wait
        self._portal = portal
        self._lash = lash
        self._session = session
        self._reasoning = reasoning
        self._interactive = sys.stdin.isatty()
        self._bytes_read = 0
        self._codes: set[ExitCode] = set()  # of the turns
        if hasattr(sys.stdin, "reconfigure"):
            # What can't be decoded is found by `_read`, which can say where it stood.
            sys.stdin.reconfigure(errors="surrogateescape")

    def run(self, codes: Sequence[ExitCode] = ()) -> int:
        """Until somebody leaves; `codes` are of the turns before."""
        self._codes.update(codes)
        if self._interactive:
            click.echo(f"session {self._session.id}, model {self._session.policy.model}; /help helps, Ctrl-D leaves")
        warned = False
        while True:
            try:
                line = self._read()
            except EOFError:
                if self._interactive:
                    click.echo()
                return self._leave(self._code())
            except KeyboardInterrupt:
                click.echo()
                if warned or not self._interactive:
                    return self._leave(ExitCode.CANCELLED)
                warned = True
                click.echo("Ctrl-C again, or Ctrl-D, leaves")
                continue
            warned = False
            text = line.strip()
            if text in ("/quit", "/exit"):
                return self._leave(self._code())
            if text == "/help":
                click.echo(HELP)
            elif text == "/session":
                click.echo(f"session {self._session.id} in {self._lash.location}")
                click.echo(f"go on with it: {self._again()}")
            elif text.startswith("/") and " " not in text:
                complain(f"unknown command `{text}`; /help lists them")
            elif text:
                self._turn(line)

    def _read(self) -> str:
        """One line; several where each but the last ends in a backslash. Raises `click.UsageError` for binary input."""
        line = self._line(PROMPT)
        while line.endswith("\\"):
            line = line[:-1] + "\n" + self._line("… ")
        return line

    def _line(self, prompt: str) -> str:
        line = input(prompt if self._interactive else "")
        try:
            line.encode()
        except UnicodeEncodeError as error:
            offset = self._bytes_read + len(line[: error.start].encode())
            byte = line[error.start].encode(errors="surrogateescape")[0]
            raise click.UsageError(f"standard input is no UTF-8 text: byte 0x{byte:02x} at offset {offset}") from None
        self._bytes_read += len(line.encode()) + 1
        return line

    def _turn(self, text: str) -> None:
        """Run one turn; what goes wrong in it is said, and the session stays."""
        from lash_framework.cli.handoffs import run_followed
        from lash_framework.cli.turns import Gate
        from lash_hookspecs.errors import LashError

        with own_stdout() as out:
            screen = screen_for(out, reasoning=self._reasoning, notes_on_stdout=True)
            gate = Gate()
            gate.again = self._resumes(self._session.id)
            work = partial(
                run_followed,
                self._lash,
                self._session,
                text,
                screen,
                gate,
                resumes=self._resumes,
                wait=self._wait,
                logs=self._logs,
            )
            try:
                turn = _result(self._portal, self._portal.start_task_soon(work), gate)
                self._codes.add(exit_code_of(turn.outcome))
            except LashError as error:
                screen.close()
                complain(told(error))
                self._codes.add(code_of_error(error) or ExitCode.STOPPED)
            finally:
                screen.close()
        if gate.session_id is not None:
            self._go_over_to(gate.session_id)

    def _go_over_to(self, session_id: str) -> None:
        """What is said next goes to the session that the turn was handed to."""
        from lash_framework.cli.handoffs import successor

        self._session = self._portal.call(successor, self._lash, session_id)
        if self._interactive:
            click.echo(f"session {session_id}, model {self._session.policy.model}, goes on with the conversation")

    def _again(self) -> str:
        return self._invocation.again(f"chat --session {shlex.quote(self._session.id)}")

    def _code(self) -> ExitCode:
        """A person has seen how the turns ended; a program is told: what they have in common, or that one failed."""
        if self._interactive or self._codes <= {ExitCode.FINISHED}:
            return ExitCode.FINISHED
        return next(iter(self._codes)) if len(self._codes) == 1 else ExitCode.STOPPED

    def _leave(self, code: ExitCode) -> int:
        if self._interactive:
            click.echo(f"go on later: {self._again()}")
        return code


def _result(portal: BlockingPortal, future: Future[T], gate: Gate) -> T:
    """Wait for a turn: the first Ctrl-C cancels it, the second one gives up waiting and leaves."""
    try:
        return future.result()
    except KeyboardInterrupt:
        portal.call(gate.cancel_when_it_runs)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise Interrupted(signal.SIGINT, gate.again) from None


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM leaves at once: an exception in the main thread, which cancels what runs, so nothing is committed."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _line_editing() -> Iterator[None]:
    """Line editing and a history file in the user's state folder, on a terminal and where Python has readline."""
    if not sys.stdin.isatty():
        yield
        return
    try:
        import readline
    except ImportError:
        yield
        return
    from platformdirs import user_state_path

    path: Path = user_state_path("lash", appauthor=False) / "history"
    try:
        readline.read_history_file(path)
    except OSError:
        readline.clear_history()
    readline.set_history_length(HISTORY_LENGTH)
    try:
        yield
    finally:
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            readline.write_history_file(path)
            path.chmod(0o600)
        except OSError as error:
            complain(f"the history could not be kept in {path}: {error.strerror or error}")
