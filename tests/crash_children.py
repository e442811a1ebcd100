"""Programs that are killed, or that stop themselves: `python crash_children.py PROGRAM …`. They print lines of JSON.

`matrix FOLDER TURN` kills a process at every place of a session's `first` or `second` turn. Its first process runs the
turn once, which imports everything, and then only forks: it has no event loop and no other thread by then, so a child
is as good as a new process. A child runs the turn and is killed (SIGKILL, by its own hand) at its place; at the end one
more child survives all of them, one by one.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import anyio
from attrs import asdict
from crash_kit import (
    DEEDS,
    SECOND,
    SECOND_DEEDS,
    SESSION,
    SUBJECT,
    TURN,
    World,
    after_the_first,
    paused_agent,
    row_of,
    url_in,
)

from lash_framework.testing.crash_matrix import Subject, golden_run
from lash_framework.testing.crash_points import CrashPoint, Started, Watch, When
from lash_framework.testing.crash_verdicts import judge
from lash_hookspecs import LashError, RuntimeEffectKind, ToolEffect

AT_ONCE = 3


def fork(work: Callable[[], Any]) -> int:
    """A child that does this and ends."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def run(main: Callable[..., Any], *args: Any) -> None:
    anyio.run(partial(main, *args), backend="asyncio")


def place_of(folder: Path, number: int) -> Path:
    return folder / str(number)


def url_of(place: Path) -> str:
    return f"sqlite:///{place}/lash.db"


# ---- the children ---------------------------------------------------------------------------------------------------


class Turn(NamedTuple):
    """A turn to be killed, what it does to the outside, and how a database is made that it begins with, by name."""

    subject: Subject
    deeds: Sequence[str]
    made: Callable[[str], str]


async def turn_in(folder: Path, which: str) -> Turn:
    """The session's `first` turn, or its `second`."""
    if which == "second":
        return Turn(SECOND, SECOND_DEEDS, await after_the_first(folder))
    return Turn(SUBJECT, DEEDS, lambda name: url_in(folder / name))


async def victim(subject: Subject, place: Path, point: CrashPoint) -> None:
    """Run the turn, and be killed."""

    def note(started: Started) -> None:
        file = os.open(place / "started", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{json.dumps(asdict(started))}\n".encode())
        os.close(file)

    await subject.live(url_of(place), Watch(point, partial(os.kill, os.getpid(), signal.SIGKILL), note))


async def survivor(turn: Turn, folder: Path, points: list[CrashPoint]) -> None:
    """Go on with each turn, and say what became of it."""
    golden, _ = await golden_run(turn.subject, turn.made("again"))
    for number, point in enumerate(points):
        place = place_of(folder, number)
        url, noted = url_of(place), place / "started"
        lines = noted.read_text().splitlines() if noted.exists() else []
        ending = await turn.subject.survive(url)
        fault = ""
        try:
            judge(point, golden, ending, [_started(line) for line in lines])
        except AssertionError as error:
            fault = str(error)
        row = asdict(row_of(ending, World(url), turn.deeds))
        told = {"point": asdict(point), "row": row, "fault": fault, "text": ending.turn.text}
        os.write(1, f"{json.dumps(told)}\n".encode())


def _started(line: str) -> Started:
    told = json.loads(line)
    kind, effect = RuntimeEffectKind(told["kind"]), ToolEffect(told["effect"])
    return Started(told["turn_id"], told["key"], told["label"], kind, effect)


# ---- the parent -----------------------------------------------------------------------------------------------------


async def trace(folder: Path, which: str, found: list[tuple[Turn, list[CrashPoint]]]) -> None:
    """The turn, and the places that it passes if nobody kills it."""
    turn = await turn_in(folder, which)
    found.append((turn, list((await golden_run(turn.subject, turn.made("golden")))[1])))


def main(given: str, which: str) -> None:
    folder = Path(given)
    found: list[tuple[Turn, list[CrashPoint]]] = []
    run(trace, folder, which, found)
    ((turn, points),) = found
    for other in threading.enumerate():
        if other is not threading.main_thread():
            other.join(30)  # a watchdog notices by itself that its host is closed
    assert threading.active_count() == 1, threading.enumerate()
    gc.freeze()  # what is there by now is there for good, and no child need look at it
    running: dict[int, CrashPoint] = {}

    def reap() -> None:
        child, status = os.wait()
        point = running.pop(child)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f"{point}: the process was not killed there, its status is {status}")

    for number, point in enumerate(points):
        turn.made(str(number))
        while len(running) >= AT_ONCE:
            reap()
        running[fork(partial(run, victim, turn.subject, place_of(folder, number), point))] = point
    while running:
        reap()
    if os.waitpid(fork(partial(run, survivor, turn, folder, points)), 0)[1]:
        raise SystemExit("the survivor failed")


# ---- single processes -----------------------------------------------------------------------------------------------


def dies(place: str, name: str, when: str, nth: str) -> None:
    """Run the turn in a folder, and be killed at a place."""
    run(victim, SUBJECT, Path(place), CrashPoint(name, When(when), int(nth)))


def pauses(place: str, where: str, ttl_s: str) -> None:
    """Run a turn under a lease of so many seconds, and stop oneself: `in the model`, or before a call of the store.

    Says what became of the turn once somebody woke the process up.
    """
    run(_pauses, url_of(Path(place)), where, float(ttl_s))


async def _pauses(url: str, where: str, ttl_s: float) -> None:
    async with paused_agent(url, "the first", where, ttl_s) as lash:
        try:
            turn = await (await lash.session(SESSION, recover=False)).run("Go.", turn_id=TURN)
            told = {"text": turn.text}
        except LashError as error:
            told = {"error": type(error).__name__, "message": str(error)}
    os.write(1, f"{json.dumps(told)}\n".encode())


PROGRAMS: dict[str, Callable[..., None]] = {"matrix": main, "dies": dies, "pauses": pauses}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
