"""Programs that are killed, or that stop themselves: `python crash_children.py PROGRAM …`. They print lines of JSON.

`matrix FOLDER` kills a process at every place. Its first process runs the turn once, which imports everything, and then
only forks: it has no event loop and no other thread by then, so a child is as good as a new process. A child runs the
turn and is killed (SIGKILL, by its own hand) at its place; at the end one more child survives all of them, one by one.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from attrs import asdict
from crash_kit import SESSION, SUBJECT, TURN, World, paused_agent, row_of

from lash_framework.testing.crash_matrix import golden_run
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


async def victim(place: Path, point: CrashPoint) -> None:
    """Run the turn, and be killed."""

    def note(started: Started) -> None:
        file = os.open(place / "started", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{json.dumps(asdict(started))}\n".encode())
        os.close(file)

    await SUBJECT.live(url_of(place), Watch(point, partial(os.kill, os.getpid(), signal.SIGKILL), note))


async def survivor(folder: Path, points: list[CrashPoint]) -> None:
    """Go on with each turn, and say what became of it."""
    (folder / "again").mkdir()
    golden, _ = await golden_run(SUBJECT, url_of(folder / "again"))
    for number, point in enumerate(points):
        place = place_of(folder, number)
        url, noted = url_of(place), place / "started"
        lines = noted.read_text().splitlines() if noted.exists() else []
        ending = await SUBJECT.survive(url)
        fault = ""
        try:
            judge(point, golden, ending, [_started(line) for line in lines])
        except AssertionError as error:
            fault = str(error)
        row = asdict(row_of(ending, World(url)))
        told = {"point": asdict(point), "row": row, "fault": fault, "text": ending.turn.text}
        os.write(1, f"{json.dumps(told)}\n".encode())


def _started(line: str) -> Started:
    told = json.loads(line)
    kind, effect = RuntimeEffectKind(told["kind"]), ToolEffect(told["effect"])
    return Started(told["turn_id"], told["key"], told["label"], kind, effect)


# ---- the parent -----------------------------------------------------------------------------------------------------


async def trace(folder: Path, points: list[CrashPoint]) -> None:
    """The places of the turn that nobody kills."""
    (folder / "golden").mkdir()
    points.extend((await golden_run(SUBJECT, url_of(folder / "golden")))[1])


def main(given: str) -> None:
    folder = Path(given)
    points: list[CrashPoint] = []
    run(trace, folder, points)
    assert threading.active_count() == 1
    gc.freeze()  # what is there by now is there for good, and no child need look at it
    running: dict[int, CrashPoint] = {}

    def reap() -> None:
        child, status = os.wait()
        point = running.pop(child)
        if not os.WIFSIGNALED(status) or os.WTERMSIG(status) != signal.SIGKILL:
            raise SystemExit(f"{point}: the process was not killed there, its status is {status}")

    for number, point in enumerate(points):
        place = place_of(folder, number)
        place.mkdir()
        while len(running) >= AT_ONCE:
            reap()
        running[fork(partial(run, victim, place, point))] = point
    while running:
        reap()
    if os.waitpid(fork(partial(run, survivor, folder, points)), 0)[1]:
        raise SystemExit("the survivor failed")


# ---- single processes -----------------------------------------------------------------------------------------------


def dies(place: str, name: str, when: str, nth: str) -> None:
    """Run the turn in a folder, and be killed at a place."""
    run(victim, Path(place), CrashPoint(name, When(when), int(nth)))


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
