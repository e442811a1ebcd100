"""Running a turn for a person: showing it, and what Ctrl-C, SIGTERM and a closed pipe mean for it.

Ctrl-C asks for a cancel, which is committed. A second one, and SIGTERM, interrupt: nothing is committed, and with a
journal `lash resume` goes on. A reader that left is a cancel too: nobody wants the rest, but what was paid for is kept.
"""

from __future__ import annotations

import errno
import logging
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import anyio.abc

from lash_framework.cli.exits import Interrupted, OutputFailed, ReaderLeft
from lash_framework.cli.lines import usage_text
from lash_hookspecs.errors import LashError, SessionBusy, StoreError

if TYPE_CHECKING:
    from lash_framework.cli.logs import LineHandler
    from lash_framework.cli.screens import Screen
    from lash_framework.running import RunningTurn
    from lash_framework.session import Session
    from lash_framework.turn_job import TurnOptions
    from lash_hookspecs.activity import ToolCallCompleted, ToolCallStarted, TurnActivity
    from lash_hookspecs.llm import TokenUsage
    from lash_hookspecs.sessions import AssembledTurn, TurnInput

__all__ = ["Evidence", "Gate", "NotCommitted", "mended", "run_turn", "with_signals"]

T = TypeVar("T")

log = logging.getLogger("lash.cli")


class NotCommitted(LashError):
    """The model has answered, and then the store refused the turn. The store's error is the cause."""


class Evidence:
    """What was heard of a turn, for when its result never comes."""

    def __init__(self) -> None:
        self.asked = False
        self._texts: dict[str, str] = {}
        self._calls: dict[str, ToolCallStarted | ToolCallCompleted] = {}
        self._usage: TokenUsage | None = None
        self._pending = False  # a call whose usage isn't known yet

    def hear(self, activity: TurnActivity) -> None:
        """Take in one activity."""
        event: Any = activity.event
        match event.tag:
            case "model_request_started":
                self.asked = self._pending = True
            case "assistant_prose_delta":
                self._texts[activity.correlation_id] = self._texts.get(activity.correlation_id, "") + event.text
            case "model_attempt_reset":
                self._texts.pop(activity.correlation_id, None)
            case "tool_call_started" | "tool_call_completed":
                self._calls[event.call_id] = event
            case "usage":
                self._usage, self._pending = event.cumulative, False

    @property
    def text(self) -> str:
        """All text of the answers so far, a line's end between two of them."""
        return "\n".join(self._texts.values())

    @property
    def calls(self) -> Sequence[ToolCallStarted | ToolCallCompleted]:
        """The tool calls, each as it ended, or as it began."""
        return list(self._calls.values())

    @property
    def answered(self) -> bool:
        """Whether anything came back from the model."""
        return bool(self._texts) or self._usage is not None

    @property
    def usage(self) -> TokenUsage:
        """Tokens so far; "at least" where a call's own are unknown."""
        from attrs import evolve

        from lash_hookspecs.llm import TokenUsage

        known = self._usage or TokenUsage()
        return evolve(known, at_least=True) if self._pending else known


class Cancellable(Protocol):
    """A turn that runs, or turns that are gone on with."""

    @property
    def turn_id(self) -> str | None:
        """The turn that runs."""
        ...

    def cancel(self, reason: str) -> bool:
        """Ask it to end."""
        ...


class Gate:
    """Where a person's wish to stop meets the turn that runs, if one does. `evidence` is of the latest turn.

    `again` is what to type to go on with the turn if it is interrupted; None where there is no journal. `session_id`
    is the session that a turn was handed to.
    """

    def __init__(self) -> None:
        self.running: Cancellable | None = None
        self.turn_id: str | None = None
        self.again: str | None = None
        self.session_id: str | None = None
        self.evidence = Evidence()
        self._asked = False
        self._wanted = False

    def attach(self, running: Cancellable) -> None:
        """A turn runs. One that was asked to end while another ran in its place is asked again."""
        self.running = running
        self.turn_id = running.turn_id
        if self._wanted or self._asked:
            self._asked = False
            self.cancel()

    def hand_over(self, session_id: str, turn_id: str, again: str | None) -> None:
        """The next turn is this one, of another session."""
        self.session_id, self.turn_id, self.again, self.evidence = session_id, turn_id, again, Evidence()

    def cancel_when_it_runs(self) -> None:
        """Ask the turn to end, or as soon as there is one."""
        self._wanted = True
        self.cancel()

    def cancel(self) -> bool:
        """Ask the running turn to end; False if none runs, or it was asked before."""
        if self.running is None or self._asked:
            return False
        self._asked = True
        self.running.cancel("cancelled with Ctrl-C")
        return True


async def run_turn(
    session: Session,
    given: TurnInput | str | None,
    screen: Screen,
    gate: Gate,
    *,
    turn_id: str | None = None,
    wait: bool = False,
    max_cost: float | None = None,
    max_tokens: int | None = None,
    logs: LineHandler | None = None,
    location: str | None = None,
) -> AssembledTurn:
    """Run one turn on the screen to its end there and return it, committed. Without an input it is one that waits.

    Raises `ReaderLeft` or `OutputFailed` after committing what nobody could be shown, and `NotCommitted` for a turn
    that was paid for and couldn't be stored.
    """
    started = time.monotonic()
    options: TurnOptions = {"turn_id": turn_id, "max_cost": max_cost, "max_tokens": max_tokens}
    try:
        with nullcontext() if logs is None else logs.beside(screen.make_room):
            try:
                turn, failed = await _show_turn(session, given, screen, gate, options)
            except SessionBusy:
                if not wait:
                    raise
                screen.wait_for(session.id)
                turn, failed = await _show_turn(session, given, screen, gate, {**options, "wait": True})
            seconds = time.monotonic() - started
            log.info("turn %s ended after %.2f s: %s", turn.turn_id, seconds, usage_text(turn.usage))
    except SessionBusy as error:
        raise SessionBusy(
            f"session `{session.id}` is running a turn elsewhere; pass --wait to wait for its end, "
            "or use another session"
        ) from error
    except StoreError as error:
        if not gate.evidence.asked:
            raise
        had = "the model has answered" if gate.evidence.answered else "the model was asked"
        text = f"{error}{'' if str(error).endswith('?') else ';'}"
        raise NotCommitted(f"{text} {had}, but the turn was not committed; {mended(error, gate.again)}") from error
    try:
        if failed is None:
            screen.end(turn, location, said=logs.said if logs is not None else ())
    except OSError as error:
        failed = error
    if failed is not None:
        raise (ReaderLeft() if failed.errno == errno.EPIPE else OutputFailed(failed)) from failed
    return turn


def mended(error: Exception, again: str | None) -> str:
    """What to do about a store that failed, and then to type."""
    mend = "make room" if "full" in str(error) else "mend that"
    return f"{mend}, then {'run it again' if again is None else f'`{again}` goes on with it'}"


async def _show_turn(
    session: Session, given: TurnInput | str | None, screen: Screen, gate: Gate, options: TurnOptions
) -> tuple[AssembledTurn, OSError | None]:
    """The committed turn, and the output's failure if there was one."""
    failed: OSError | None = None
    async with _turn(session, given, options) as running:
        gate.attach(running)
        try:
            async for activity in running:
                gate.evidence.hear(activity)
                try:
                    screen.show(activity)
                except OSError as error:  # a closed pipe, a full disk: of the output, never of the turn
                    failed = error
                    running.cancel("the output can't be written")
                    break
        finally:
            gate.running = None
        return await running.result(), failed


def _turn(session: Session, given: TurnInput | str | None, options: TurnOptions) -> RunningTurn:
    if given is not None:
        return session.turn(given, **options)
    from lash_framework.accepted_job import accepted_turn

    return accepted_turn(session, options["turn_id"] or "")


async def with_signals(work: Callable[[Gate], Awaitable[T]]) -> T:
    """Do the work, which may run turns; signals reach it through the gate. Raises `Interrupted`."""
    gate = Gate()
    numbers: list[int] = []
    results: list[T] = []
    errors: list[Exception] = []

    async def listen(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if number != signal.SIGINT or not gate.cancel():
                    numbers.append(number)
                    group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        await group.start(listen)
        try:
            results.append(await work(gate))
        except Exception as error:
            # Kept out of the group, which would wrap it.
            errors.append(error)
        group.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if not results:
        raise Interrupted(numbers[0], gate.again)
    return results[0]
