"""Workers that are killed at random moments, and whether anything was lost: `python -m bench.chaos --kills N`.

Workers run scripted sessions against the local model server on one SQLite file: some of their own, and one that all of
them want. Each is killed with SIGKILL again and
again, half the time at any moment and half the time aimed at the phase that was hit least, and born again: it goes on
with what was interrupted. To know where a kill fell, a worker is stopped first, then what it says of its phases in
shared memory is read, then it is killed. After each kill, what the database holds of the worker's open turns is noted
down. In the end `chaos_check.py`, which knows nothing of lash, reads the database, and the logs of the server, the
tools and the workers. SIGINT ends the killing early, and all the rest is done as ever.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import random
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from typing import Any

import orjson

from bench.chaos_worker import LINES, PHASES, SLOT, Life, Lines, Shared, live, session_name, warm_up

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "chaos.json"
README = HERE / "README.md"
BETWEEN = re.compile(r"(?<=<!-- chaos -->\n).*(?=<!-- end of chaos -->)", re.DOTALL)

LIFE_S = 0.1
"""How long a life is let go on, on average: most are short, and some are long enough for a turn or two."""
REACH_S = {"stream": 0.05, "tool": 0.008, "journal": 0.004, "commit": 0.004}
"""An aimed kill falls within this time from the moment when its phase is seen: about as long as one lasts."""
AIM_S = 2.0
"""How long an aimed kill waits for its phase before it falls anywhere."""
LAST_S = 120.0
ELSEWHERE = "elsewhere"


class Server:
    """The model server, with its log, if it is to keep one."""

    def __init__(self, log: Path | None = None) -> None:
        command = [sys.executable, str(HERE / "server.py"), *([] if log is None else [str(log)])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self._process.stdout is not None
        self.address = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Slot:
    """One worker, in its many lives."""

    def __init__(self, run: Run, number: int) -> None:
        self._run = run
        self._number = number
        self.shared = Shared(run.memory, number)
        self.pid = 0
        self.died_at = 0.0

    def begin(self, *, last: bool = False) -> None:
        """Give it a life, and decide when to end it."""
        self.shared.reborn()
        self.pid = os.fork()
        if not self.pid:
            _be_worker(self._run.life(self._number, self.shared, last=last))
        now, chance = time.monotonic(), self._run.chance
        self.born_at = now
        self.aim = self._run.wanted() if chance.random() < 0.5 else None
        self.life = chance.expovariate(1 / LIFE_S)
        self.due = now + self.life if self.aim is None and chance.random() < 0.25 else None
        self._armed = False

    def is_due(self, now: float) -> bool:
        """Whether it is to be killed now."""
        if self.due is None:
            if not self.shared.ready:
                return False
            self.due = now + self.life
        if now < self.due:
            return False
        if self.aim is None or self._armed:
            return True
        if self.aim in self.shared.active():
            self._armed = True
            self.due = now + self._run.chance.uniform(0, REACH_S[self.aim])
        return now > self.due + AIM_S

    def kill(self) -> list[str]:
        """End its life; the phases that it was in."""
        os.kill(self.pid, signal.SIGSTOP)
        _, status = os.waitpid(self.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            self.pid = 0
            raise RuntimeError(f"worker {self._number} ended by itself, with {status}; see `errors.txt`")
        active = self.shared.active()
        # It does nothing more, and nobody can have noticed yet that it is dead.
        self.died_at = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        return active

    def sessions(self) -> list[str]:
        """Those that it works on."""
        return [session_name(self._number, line, self.shared.turn(line)) for line in range(LINES)]


def _be_worker(life: Life) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who stops the run wants its workers killed as ever
    try:
        asyncio.run(live(life))
    except BaseException:
        with (life.folder / "errors.txt").open("a") as file:
            traceback.print_exc(file=file)
        os._exit(1)
    os._exit(0)


class Run:
    """One run: workers, kills, and what was noted of them."""

    def __init__(self, folder: Path, seed: int, workers: int) -> None:
        self._seed = seed
        self._folder = folder
        self.chance = random.Random(seed)
        self.memory = mmap(-1, SLOT * workers)
        self.hits: Counter[str] = Counter()
        self._kills = Lines(folder / "kills.jsonl")
        self._server = Server(folder / "server.jsonl")
        self._slots = [Slot(self, number) for number in range(workers)]
        self._db: sqlite3.Connection | None = None
        self._seen: set[int] = set()
        self.stopped = False
        self.done = 0

    def life(self, slot: int, shared: Shared, *, last: bool) -> Life:
        """What a worker is told."""
        return Life(self._seed, slot, self._folder, self._server.address, shared, last)

    def wanted(self) -> str:
        """The phase that was hit least."""
        return min(PHASES, key=lambda name: self.hits[name])

    def kill(self, count: int) -> None:
        """Kill that many times, or until somebody stops it, and let the workers come to their ends."""
        self._warm_up()
        for slot in self._slots:
            slot.begin()
            while not slot.shared.ready:  # the first makes the database
                time.sleep(0.01)
        try:
            while self.done < count and not self.stopped:
                now = time.monotonic()
                for slot in self._slots:
                    if slot.is_due(now):
                        self.done += 1
                        self._note(self.done, slot, slot.kill())
                        if self.done % 50 == 0:
                            print(f"{self.done} of {count} kills: {dict(self.hits)}", file=sys.stderr, flush=True)
                        slot.begin()
                time.sleep(0.0005)
            for slot in self._slots:
                self._note(0, slot, slot.kill())
                slot.begin(last=True)
            self._wait()
        finally:
            for slot in self._slots:
                if slot.pid:
                    os.kill(slot.pid, signal.SIGKILL)
                    os.waitpid(slot.pid, 0)
            if self._db is not None:
                self._db.close()
            self._server.close()

    def _warm_up(self) -> None:
        server, folder = Server(), self._folder / "warm"
        folder.mkdir()
        try:
            asyncio.run(warm_up(server.address, folder))
        finally:
            server.close()
        while threading.active_count() > 1:  # only a process without threads can be forked, and these are ending
            time.sleep(0.001)
        gc.collect()
        gc.freeze()  # what is there by now is there for good, and no worker need look at it

    def _wait(self) -> None:
        """Until the last lives are over."""
        deadline = time.monotonic() + LAST_S
        for slot in self._slots:
            while True:
                ended, status = os.waitpid(slot.pid, os.WNOHANG)
                if ended:
                    slot.pid = 0
                    if status:
                        raise RuntimeError(f"a last life ended with {status}; see `errors.txt`")
                    break
                if time.monotonic() > deadline:
                    raise RuntimeError(f"a last life isn't over after {LAST_S:.0f} s; its sessions: {slot.sessions()}")
                time.sleep(0.01)

    def _note(self, number: int, slot: Slot, active: list[str]) -> None:
        """Write down where the kill fell and what the database holds of the worker's sessions."""
        where = slot.aim if slot.aim in active else min(active, key=lambda name: self.hits[name], default=ELSEWHERE)
        if number:
            self.hits[where] += 1
        fields = {"kill": number, "slot": slot.sessions(), "killed": slot.pid, "died": slot.died_at, "aimed": slot.aim}
        self._kills.write(**fields, phase=where, active=active, **self._found(slot.sessions()))

    def _found(self, sessions: list[str]) -> dict[str, Any]:
        if self._db is None:
            self._db = sqlite3.connect(self._folder / "chaos.db", isolation_level=None, timeout=60)
            self._db.execute("PRAGMA query_only = ON")
        marks = ", ".join("?" * len(sessions))
        open_items = self._db.execute(
            "SELECT session_id, inbox.no, source_key, turn_id, state FROM inbox JOIN sessions "
            f"ON sessions.no = session_no WHERE settled_at_ms IS NULL AND session_id IN ({marks})",
            sessions,
        ).fetchall()
        rows = self._db.execute(
            "SELECT key, session_id, inbox.turn_id, journal.kind, label, body FROM journal JOIN inbox "
            "ON inbox.no = (key >> 32) JOIN sessions ON sessions.no = session_no "
            f"WHERE status = 'done' AND session_id IN ({marks})",
            sessions,
        ).fetchall()
        new = [row for row in rows if row[0] not in self._seen]
        self._seen |= {row[0] for row in new}
        receipts = self._db.execute(
            "SELECT session_id, op_key, hex(intent_hash), head_revision FROM receipts JOIN sessions "
            "ON receipts.key BETWEEN sessions.no << 32 AND (sessions.no << 32 | 4294967295) "
            f"WHERE session_id IN ({marks})",
            sessions,
        ).fetchall()
        return {
            "open": open_items,
            "rows": [[*row, body.decode()] for *row, body in new],
            "there": [row[0] for row in rows],
            "committed": [each[:3] for each in receipts],
        }


def check(folder: Path) -> dict[str, Any]:
    """What the checker, in a process of its own, says."""
    command = [sys.executable, str(HERE / "chaos_check.py"), str(folder)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = orjson.loads(ran.stdout)
    return found


def told(result: dict[str, Any]) -> Iterator[str]:
    """What the README shows of a result."""
    kills, where = result["kills"], f"{result['python']}, {result['system']}, {result['cpus']} shared cores"
    seconds = result["seconds"]
    time_taken = f"{seconds / 60:,.0f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"
    took = f"{kills:,} kills of {result['workers']} workers in {time_taken}"
    yield f"{where}: {took}, seed {result['seed']}."
    if "note" in result:
        yield result["note"]
    yield ""
    yield "| the kills fell into | | |"
    yield "| --- | --- | --- |"
    for name in (*PHASES, ELSEWHERE):
        hits = result["hits"].get(name, 0)
        yield f"| {name} | {hits:,} | {hits / max(kills, 1):.0%} |"
    yield ""
    yield "| found by the checker | |"
    yield "| --- | --- |"
    for name, number in result["found"].items():
        yield f"| {name} | {number:,} |"
    yield f"| **violations** | **{len(result['violations'])}** |"


def write_readme() -> None:
    """Put the committed result into the README."""
    shown = "\n".join(told(orjson.loads(RESULTS.read_bytes())))
    page, places = BETWEEN.subn(lambda _: f"{shown}\n", README.read_text(encoding="utf-8"))
    assert places == 1, "the README has lost its marks"
    README.write_text(page, encoding="utf-8")


def main() -> int:
    """Run, check, tell. Ends with 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="of scripts and moments (default: a new one, which is printed)")
    parser.add_argument("--workers", type=int, default=3, help="how many processes (default: %(default)s)")
    parser.add_argument("--dir", type=Path, help="keep database and logs there")
    parser.add_argument("--json", type=Path, help="write the result here too")
    parser.add_argument("--write", action="store_true", help="only put the committed result into the README")
    options = parser.parse_args()
    if options.write:
        write_readme()
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    print(f"seed {seed}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.dir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "chaos.db").exists():
            parser.error(f"`{folder}` holds a run; name an empty folder")
        started = time.monotonic()
        run = Run(folder, seed, options.workers)
        signal.signal(signal.SIGINT, lambda *_: setattr(run, "stopped", True))
        problem = None
        try:
            run.kill(options.kills)
        except RuntimeError as error:
            errors = folder / "errors.txt"
            problem = f"seed {seed}: {error}\n{errors.read_text() if errors.exists() else ''}"
        result = {
            "kills": run.done,
            "seed": seed,
            "workers": options.workers,
            "seconds": round(time.monotonic() - started, 1),
            "hits": dict(run.hits),
            "python": f"Python {platform.python_version()}",
            "system": platform.system(),
            "cpus": os.cpu_count(),
            **check(folder),
        }
    if problem is not None:
        result["violations"].insert(0, problem)
    if options.json:
        options.json.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    print("\n".join(told(result)))
    for each in result["violations"]:
        print(f"\nVIOLATION (seed {seed}): {each}")
    least = min(PHASES, key=lambda name: run.hits[name])
    if run.hits[least] < run.done / 10:
        print(f"\nonly {run.hits[least]} of {run.done} kills fell into `{least}`: a tenth is asked for")
        return 1
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
