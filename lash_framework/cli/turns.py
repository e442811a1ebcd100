"""Running a turn for a person: showing it, and what Ctrl-C, SIGTERM and a closed pipe mean for it.

Ctrl-C asks for a cancel, which is committed. A second one, and SIGTERM, interrupt: nothing is committed. A reader that
left is a cancel too: nobody wants the rest, but what was paid for is kept.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.abc

from lash_framework.cli.exits import Interrupted, ReaderLeft

if TYPE_CHECKING:
    from lash_framework.cli.screens import Screen
    from lash_framework.running import RunningTurn
    from lash_framework.session import Session
    from lash_hookspecs.sessions import AssembledTurn, TurnInput

__all__ = ["Gate", "run_turn", "with_signals"]

T = TypeVar("T")


class Gate:
    """Where a person's wish to stop meets the turn that runs, if one does."""

    def __init__(self) -> None:
        self.running: RunningTurn | None = None
        self.turn_id: str | None = None
        self._asked = False
        self._wanted = False

    def attach(self, running: RunningTurn) -> None:
        """A turn runs."""
        self.running = running
        self.turn_id = running.turn_id
        if self._wanted:
            self.cancel()

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
    session: Session, given: TurnInput | str, screen: Screen, gate: Gate, *, turn_id: str | None = None
) -> AssembledTurn:
    """Run one turn on the screen and return it, committed.

    Raises `ReaderLeft`, or the output's `OSError`, after committing what nobody could be shown.
    """
    # The screen has its own hold on stdout; what a tool or a hook prints must not end up between its lines.
    with redirect_stdout(sys.stderr):
        turn, failed = await _show_turn(session, given, screen, gate, turn_id)
    if failed is not None:
        if failed.errno == errno.EPIPE:
            raise ReaderLeft from failed
        raise failed
    return turn


async def _show_turn(
    session: Session, given: TurnInput | str, screen: Screen, gate: Gate, turn_id: str | None
) -> tuple[AssembledTurn, OSError | None]:
    """The committed turn, and the output's failure if there was one."""
    failed: OSError | None = None
    async with session.turn(given, turn_id=turn_id) as running:
        gate.attach(running)
        try:
            async for activity in running:
                try:
                    screen.show(activity)
                except OSError as error:  # a closed pipe, a full disk: of the output, never of the turn
                    failed = error
                    running.cancel("the output can't be written")
                    break
        finally:
            gate.running = None
        return await running.result(), failed


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
        raise Interrupted(numbers[0])
    return results[0]
