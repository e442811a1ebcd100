"""What durability costs: lash with a journal, against lash inline and against httpx with sqlite3 by hand, in one run.

Run: `python bench/durable.py [--only NAME …] [--quick] [--json FILE]`; `--table [--write]` as in `run.py`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import orjson
from run import ENVIRONMENT, Child, Server, machine, rounded, save, script

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "durable.json"
README = HERE / "README.md"
BETWEEN = re.compile(r"(?<=<!-- durable -->\n).*(?=<!-- end of durable -->)", re.DOTALL)
SAMPLES, QUICK = 15, 1

JOURNAL, PURE, INLINE, RAW = "journal", "pure", "inline", "raw"


class Figure(NamedTuple):
    """One line of the table. `reached` makes the number that is held against `bound` out of what was measured.

    `rate` is how many that is in a second, where it is shown.
    """

    title: str
    bound: float
    unit: str
    reached: Callable[[Mapping[str, Any]], float]
    path: str = ""
    contenders: tuple[str, ...] = ()
    rate: Callable[[Mapping[str, Any]], float] | None = None

    def told(self, value: float) -> str:
        """A value with its unit."""
        return f"{value:.3g} {self.unit}".strip()


def quotient(other: str, mine: str = JOURNAL) -> Callable[[Mapping[str, Any]], float]:
    """The median of the quotients of neighbouring samples."""
    return lambda found: median(
        ours / theirs for ours, theirs in zip(found[mine]["wall"], found[other]["wall"], strict=True)
    )


EXTERNAL = 9  # effects of a turn of four rounds: five model calls and four tools


def per_effect(found: Mapping[str, Any]) -> float:
    """What an effect costs more than inline, in ms; acceptance and settlement are shared among them."""
    pairs = zip(found[JOURNAL]["wall"], found[INLINE]["wall"], strict=True)
    return median(mine - theirs for mine, theirs in pairs) * 1e3 / EXTERNAL


def growth(found: Mapping[str, Any]) -> float:
    """How much longer a turn takes with a long history, by CPU."""
    return float(median(found["long"]["cpu"]) / median(found["short"]["cpu"]) * 100 - 100)


FIGURES: Mapping[str, Figure] = {
    "effect": Figure("a journalled effect, over inline", 0.7, "ms", per_effect, "tools", (JOURNAL, INLINE)),
    "rounds": Figure("four tool rounds, pure, to raw", 1.0, "×", quotient(RAW, PURE), "tools", (PURE, RAW)),
    "rounds_unsafe": Figure("four tool rounds, unsafe, to raw", 1.0, "×", quotient(RAW), "tools", (JOURNAL, RAW)),
    "parallel": Figure("a round of eight pure tools, to raw", 1.0, "×", quotient(RAW, PURE), "parallel", (PURE, RAW)),
    "parallel_unsafe": Figure(
        "a round of eight unsafe tools, to raw", 1.0, "×", quotient(RAW), "parallel", (JOURNAL, RAW)
    ),
    "concurrent": Figure(
        "200 sessions at once, time to inline", 1 / 0.6, "×", quotient(INLINE), "one", (JOURNAL, INLINE)
    ),
    "flat": Figure("turn 10,000, longer than turn 10", 10, "%", growth),
    "size": Figure("file after 10,000 turns, to its payload", 2, "×", lambda found: found["file"] / found["payload"]),
    "opening": Figure(
        "opening 10,000 turns, to the first effect", 100, "ms", lambda found: median(found["first"]) * 1e3
    ),
    "never_idle": Figure("commit while the loop is never idle, p99", 250, "ms", lambda found: found["p99"] * 1e3),
    "recovery": Figure("recovery after 1,000 effects", 200, "ms", lambda found: median(found["wall"]) * 1e3),
    "simulated": Figure(
        "a simulated turn with a tool, CPU",
        1000 / 300,
        "ms",
        lambda found: 1e3 / max(found["per_cpu_second"]),
        rate=lambda found: max(found["per_cpu_second"]),
    ),
}
TOGETHER = {"size": "flat", "opening": "flat"}  # they need the database that it makes


# ---- measuring ------------------------------------------------------------------------------------------------------


def printed(*arguments: str) -> dict[str, Any]:
    """What a worker prints that measures alone."""
    ran = subprocess.run(
        script("durable_worker.py", *arguments), check=True, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = orjson.loads(ran.stdout)
    return found


def gathered(found: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """Values of many runs, by name."""
    return {name: [each[name] for each in found] for name in found[0]}


class Bench:
    """One run."""

    def __init__(self, server: Server, folder: Path, count: int) -> None:
        self._server = server
        self._folder = folder
        self._count = count

    def run(self, name: str) -> dict[str, Any]:
        """The samples of a figure, and of those that come with it."""
        print(f"{name} …", file=sys.stderr, flush=True)
        if FIGURES[name].contenders:
            return {name: self.alternate(name)}
        match name:
            case "flat":
                return self.flat()
            case "recovery":
                return {name: gathered([self.recovery(number) for number in range(min(self._count, 5))])}
            case "simulated":
                return {name: gathered([printed(name) for _ in range(min(self._count, 5))])}
            case _:
                return {name: printed(name)}

    def alternate(self, name: str) -> dict[str, Any]:
        """Workers that take turns. What lash asks for, the others ask for too."""
        figure = FIGURES[name]
        found: dict[str, Any] = {}
        workers: dict[str, Child] = {}
        request = self._folder / f"request-{name}.json"
        with ExitStack() as stack:
            for contender in figure.contenders:
                database = self._folder / f"{name}-{contender}.db"
                arguments = [contender, name, self._server.url(figure.path), str(database), str(request)]
                workers[contender] = Child(script("durable_worker.py", *arguments))
                stack.callback(workers[contender].close)
                workers[contender].read()
                if contender == figure.contenders[0]:
                    request.write_bytes(orjson.dumps(self._server.get("/last")["body"]))
                found[contender] = {"wall": [], "cpu": []}
            for _ in range(self._count):
                for contender, worker in workers.items():
                    for key, value in orjson.loads(worker.ask()).items():
                        found[contender][key].append(value)
        return found

    def flat(self) -> dict[str, Any]:
        """A session of 10,000 turns: its turns, its file, and its opening in new processes."""
        database = str(self._folder / "flat.db")
        found = printed("flat", database)
        size = {name: found.pop(name) for name in ("file", "payload")}
        opened = [printed("opening", database, "long") for _ in range(min(self._count, 7))]
        return {"flat": found, "size": size, "opening": gathered(opened)}

    def recovery(self, number: int) -> dict[str, Any]:
        """A turn of which 1,000 effects are recorded, gone on with in a new process."""
        database = str(self._folder / f"recovery-{number}.db")
        printed("recording", database)
        return printed("recovering", database)


# ---- telling --------------------------------------------------------------------------------------------------------


def report(results: Mapping[str, Any]) -> str:
    """All that the README shows of the results."""
    facts = results["machine"]
    middle, least, most = facts["commit_ms"]
    about = (
        f"Python {facts['python']}, {facts['system']}, {facts['cpus']} shared cores (load {facts['load']}). "
        f"{facts['samples']} samples per contender. One row in one FULL commit took {middle} ms here ({least}–{most})."
    )
    lines = ["| figure | journal | against | reached | target | met |", "| --- | --- | --- | --- | --- | --- |"]
    for name, figure in FIGURES.items():
        found = results["figures"].get(name)
        if found is None:
            continue
        cells = [figure.title, *("" for _ in range(2))]
        if figure.contenders:
            spans = [_span(found[each]["wall"]) for each in figure.contenders]
            cells[1:] = [spans[0], f"{figure.contenders[1]} {spans[1]}"]
        if figure.rate is not None:
            cells[1] = f"{figure.rate(found):.0f} per second of CPU"
        reached = figure.reached(found)
        verdict = "yes" if reached <= figure.bound else f"no, by {reached / figure.bound - 1:.0%}"
        cells += [figure.told(reached), f"≤ {figure.told(figure.bound)}", verdict]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([about, "", *lines])


def _span(times: list[float]) -> str:
    values = [each * 1e3 for each in times]
    return f"{median(values):.3g} ms ({min(values):.3g}–{max(values):.3g})"


def write_readme() -> None:
    """Put the table of the committed results into the README."""
    shown = report(orjson.loads(RESULTS.read_bytes()))
    page, places = BETWEEN.subn(lambda _: f"{shown}\n", README.read_text(encoding="utf-8"))
    assert places == 1, "the README has lost its marks"
    README.write_text(page, encoding="utf-8")


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", choices=sorted(FIGURES), help="one figure; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one sample each, to see that it runs")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--json", type=Path, help="write the results here; figures that aren't run are kept")
    parser.add_argument("--dir", type=Path, help="where databases are made")
    parser.add_argument("--table", action="store_true", help="only print the table of the committed results")
    parser.add_argument("--write", action="store_true", help="with --table: into the README")
    options = parser.parse_args()
    if options.table:
        if options.write:
            write_readme()
        else:
            print(report(orjson.loads(RESULTS.read_bytes())))
        return
    count = QUICK if options.quick else options.samples
    results: dict[str, Any] = {"figures": {}}
    if options.json and options.json.exists():
        results = orjson.loads(options.json.read_bytes())
    server = Server()
    with closing(server), tempfile.TemporaryDirectory(dir=options.dir) as folder:
        os.environ["BENCH_DIR"] = folder
        results["machine"] = machine(Path(folder), server, count)
        bench = Bench(server, Path(folder), count)
        for name in dict.fromkeys(TOGETHER.get(each, each) for each in options.only or FIGURES):
            results["figures"] |= rounded(bench.run(name))
            save(results, options.json)
    print(report(results))


if __name__ == "__main__":
    main()
