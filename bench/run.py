"""The benchmarks: lash against the same work by hand.

Run: `python bench/run.py [--only NAME …] [--quick] [--json FILE]`.

Each contender runs in a process of its own; the contenders take turns, sample by sample, so that a busy moment of a
shared machine hits all of them. `--table` prints what `bench/README.md` shows of `bench/results.json`, and with
`--write` puts it there. Databases are made in a temporary directory, below `--dir` if that is given.
"""

from __future__ import annotations

import argparse
import http.client
import os
import platform
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from contenders import ONLY_STANDARD
from figures import FIGURES, HTTPX, LASH, report

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
README = HERE / "README.md"
SAMPLES, QUICK = 15, 1
GROUPS = {"reload": "cold", "files": "idle", "open": "idle", "registered": "idle"}  # measured together
OTHERS = ("bench_host.py", "bench_startup.py", "hooks.py")
BETWEEN = re.compile(r"(?<=<!-- table -->\n).*(?=<!-- end -->)", re.DOTALL)

Samples = dict[str, dict[str, list[float]]]

# A process that may not write bytecode would compile all of its imports at every start.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


# ---- processes ------------------------------------------------------------------------------------------------------


def script(name: str, *arguments: str) -> list[str]:
    """The command that runs a script of this folder."""
    return [sys.executable, str(HERE / name), *arguments]


class Child:
    """A process that is asked in lines."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
        )

    def read(self) -> str:
        """Its next line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{self._process.args} ended: {self._process.wait()}")
        return line

    def ask(self) -> str:
        """Its answer to an empty line."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.read()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Server(Child):
    """The service that all contenders ask."""

    def __init__(self) -> None:
        super().__init__(script("server.py"))
        self.port = int(self.read())

    def url(self, path: str) -> str:
        """The base URL of a kind of answer."""
        return f"http://127.0.0.1:{self.port}/{path}/v1"

    def get(self, path: str) -> Any:
        """What the server knows."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", path)
        body = connection.getresponse().read()
        connection.close()
        return orjson.loads(body)


def add(samples: Samples, contender: str, **measured: float) -> None:
    """Note a sample."""
    for name, value in measured.items():
        samples.setdefault(contender, {}).setdefault(name, []).append(value)


# ---- the figures ----------------------------------------------------------------------------------------------------


class Bench:
    """One run: a server, a folder for databases, and what lash asks for, which the others then ask for too."""

    def __init__(self, server: Server, folder: Path, count: int, *, orjson_httpx: bool = False) -> None:
        self._server = server
        self._orjson_httpx = orjson_httpx
        self._folder = folder
        self._count = count
        self._request = folder / "request.json"
        self._filled: dict[str, Path] = {}

    def _name(self, contender: str) -> str:
        """What a contender's process is told to be."""
        return f"{HTTPX} with orjson" if contender == HTTPX and self._orjson_httpx else contender

    def run(self, name: str) -> dict[str, Samples]:
        """The samples of a figure, and of those that come with it."""
        print(f"{name} …", file=sys.stderr, flush=True)
        match name:
            case "cold":
                return self.cold()
            case "idle":
                return self.sessions()
            case "request" | "request_bare":
                return {name: self.request(with_trio=name == "request")}
            case _:
                return {name: self.alternate(name)}

    def alternate(self, name: str) -> Samples:
        """Workers that take turns."""
        figure = FIGURES[name]
        samples: Samples = {}
        workers: dict[str, Child] = {}
        asked: dict[str, Any] = {}
        with ExitStack() as stack:
            for contender in figure.contenders:
                database = self._database(contender, name)
                arguments = [self._name(contender), name, self._server.url(figure.path), str(database)]
                if contender != LASH:
                    arguments.append(str(self._request))
                workers[contender] = Child(script("worker.py", *arguments))
                stack.callback(workers[contender].close)
                workers[contender].read()
                asked[contender] = self._server.get("/last")["body"]
                if contender == LASH:
                    self._request.write_bytes(orjson.dumps(asked[LASH]))
            check_same(name, asked)
            for _ in range(self._count):
                for contender, worker in workers.items():
                    add(samples, contender, **orjson.loads(worker.ask()))
        return samples

    def _database(self, contender: str, name: str) -> Path:
        path = self._folder / f"{name}-{contender.replace(' ', '-')}.db"
        if name in ("history", "cold"):
            shutil.copy(self.filled(contender), path)
        return path

    def filled(self, contender: str) -> Path:
        """A database with the session of 5,000 turns."""
        path = self._folder / f"filled-{contender.replace(' ', '-')}.db"
        if not path.exists():
            arguments = [self._name(contender), self._server.url("text"), str(path)]
            if contender != LASH:
                self.filled(LASH)
                arguments.append(str(self._request))
            subprocess.run(script("history.py", *arguments), check=True, env=ENVIRONMENT)
            if contender == LASH:
                self._request.write_bytes(orjson.dumps(self._server.get("/last")["body"]))
        return path

    def cold(self) -> dict[str, Samples]:
        """New processes that take turns: whole ones, and such as import everything before the clock starts.

        The first of each writes bytecode, lists its imports, and isn't counted.
        """
        whole: Samples = {}
        inner: Samples = {}
        contenders = FIGURES["cold"].contenders
        databases = {contender: self._database(contender, "cold") for contender in contenders}
        asked: dict[str, Any] = {}
        for number in range(self._count + 1):
            for contender in contenders:
                listed = self._folder / f"modules-{contender.replace(' ', '-')}.json"
                unlisted = listed.with_suffix(".new")
                arguments = [self._name(contender), self._server.url("text"), str(databases[contender])]
                request = [] if contender == LASH else [str(self._request)]
                unlisted.unlink(missing_ok=True)
                before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                subprocess.run(
                    script("cold.py", *arguments, str(unlisted), *request),
                    check=True,
                    env=ENVIRONMENT,
                    stdout=subprocess.DEVNULL,
                )
                wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                asked[contender] = self._server.get("/last")["body"]
                if not number:
                    unlisted.rename(listed)
                    continue
                add(whole, contender, wall=wall, cpu=cpu)
                again = script("cold.py", *arguments, str(listed), *request)
                ran = subprocess.run(again, check=True, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
                add(inner, contender, **orjson.loads(ran.stdout))
            check_same("cold", asked)
        return {"cold": whole, "reload": inner}

    def others(self) -> dict[str, str]:
        """What the scripts beside this one print."""
        printed = {}
        for name in OTHERS:
            print(f"{name} …", file=sys.stderr, flush=True)
            ran = subprocess.run(script(name), check=True, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
            printed[name] = ran.stdout.strip()
        return printed

    def sessions(self) -> dict[str, Samples]:
        """What open sessions cost."""
        found: dict[str, Samples] = {"idle": {}, "files": {}, "open": {}, "registered": {}}
        for number in range(min(self._count, 3)):
            command = script("sessions.py", str(self._folder / f"sessions-{number}.db"))
            ran = subprocess.run(command, check=True, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
            measured = orjson.loads(ran.stdout)
            add(found["idle"], LASH, wall=measured["bytes"], rss=measured["rss"], used=measured["used_bytes"])
            add(found["files"], LASH, wall=measured["files"])
            add(found["open"], LASH, wall=measured["open_us"])
            add(found["registered"], LASH, wall=measured["registered"])
        return found

    def request(self, *, with_trio: bool) -> Samples:
        """From the start of the process to its first connection, against a client that is merely made.

        The address is https, so that both build a TLS context, and the server never answers. httpx imports trio where
        it is installed, which `lash run` doesn't: so the other way is to have httpx find none.
        """
        samples: Samples = {}
        address = f"https://127.0.0.1:{self._server.port}/v1"
        options = [
            f"--set=provider.openai-chat.{each}"
            for each in (f"base_url={address}", "retry=off", "connect_timeout_s=0.3")
        ]
        store = f"--store=sqlite:///{self._folder / f'request-{with_trio}.db'}"
        options += [store, f"--set={ONLY_STANDARD}"]
        lash = [sys.executable, "-m", "lash_framework", "run", "hi", "--model=openai-chat:bench", *options]
        found = "" if with_trio else "sys.modules['trio'] = None; "
        made = f"import sys, time; {found}import httpx; httpx.AsyncClient(); print(time.monotonic())"
        env = {**ENVIRONMENT, "OPENAI_API_KEY": "none"}
        for number in range(self._count + 1):
            started = time.monotonic()
            subprocess.run(lash, env=env, cwd=self._folder, capture_output=True, check=False)
            ours = self._server.get("/accepted") - started
            started = time.monotonic()
            ran = subprocess.run([sys.executable, "-c", made], env=env, check=True, stdout=subprocess.PIPE, text=True)
            theirs = float(ran.stdout) - started
            if ours < 0:
                raise RuntimeError("`lash run` made no connection")
            if number:
                add(samples, LASH, wall=ours)
                add(samples, HTTPX, wall=theirs)
        return samples


def check_same(name: str, asked: Mapping[str, Any]) -> None:
    """That all contenders asked for the same; at many sessions at once, for the same but for the conversation."""
    bodies = list(asked.values())
    if name == "concurrent":
        bodies = [{**each, "messages": each["messages"][:1]} for each in bodies]
    for contender, body in zip(asked, bodies, strict=True):
        if body != bodies[0]:
            for mine, theirs in zip(bodies[0]["messages"], body["messages"], strict=False):
                if mine != theirs:
                    raise RuntimeError(f"`{name}`: {next(iter(asked))} sent {mine}, {contender} {theirs}")
            raise RuntimeError(f"{contender} asked for something else than {next(iter(asked))} in `{name}`")


# ---- about the run --------------------------------------------------------------------------------------------------


def commit_ms(folder: Path) -> list[float]:
    """What one row in one FULL commit costs here."""
    db = sqlite3.connect(folder / "commit.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE rows (body TEXT)")
    times = []
    for _ in range(100):
        started = time.perf_counter()
        db.execute("INSERT INTO rows VALUES (?)", ("x" * 500,))
        times.append((time.perf_counter() - started) * 1e3)
    db.close()
    return times


def server_us(server: Server) -> float:
    """What one short answer takes with a client that does nothing but wait for its end."""
    import socket

    times = []
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        for _ in range(200):
            started = time.perf_counter()
            client.sendall(b"POST /text/v1 HTTP/1.1\r\ncontent-length: 2\r\n\r\n{}")
            received = b""
            while not received.endswith(b"\r\n0\r\n\r\n"):
                received += client.recv(1 << 18)
            times.append((time.perf_counter() - started) * 1e6)
    return median(times)


def machine(folder: Path, server: Server, count: int) -> dict[str, Any]:
    """What a reader needs to judge the figures; nothing that names the machine."""
    from importlib.metadata import version

    commits = commit_ms(folder)
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "samples": count,
        "commit_ms": [round(each, 2) for each in (median(commits), min(commits), max(commits))],
        "server_us": round(server_us(server)),
        "versions": {name: version(name) for name in ("httpx", "aiohttp", "orjson", "anyio")},
    }


def rounded(value: Any) -> Any:
    """Numbers of four digits: more would only be noise."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def save(results: dict[str, Any], path: Path | None) -> None:
    """Write the results, if they are wanted."""
    if path is not None:
        path.write_bytes(orjson.dumps(results, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n")


def write_readme() -> None:
    """Put the table of the results into the README."""
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
    parser.add_argument("--others", action="store_true", help=f"also run {', '.join(OTHERS)}")
    parser.add_argument("--orjson-httpx", action="store_true", help="raw httpx with orjson; printed only")
    parser.add_argument("--table", action="store_true", help="only print the table of the committed results")
    parser.add_argument("--write", action="store_true", help="with --table: into the README")
    options = parser.parse_args()
    if options.table:
        if options.write:
            write_readme()
        else:
            print(report(orjson.loads(RESULTS.read_bytes())))
        return
    if options.orjson_httpx and options.json:
        parser.error("the committed results are those of plain httpx")
    count = QUICK if options.quick else options.samples
    results: dict[str, Any] = {"figures": {}}
    if options.json and options.json.exists():
        results = orjson.loads(options.json.read_bytes())
    server = Server()
    with closing(server), tempfile.TemporaryDirectory(dir=options.dir) as folder:
        results["machine"] = machine(Path(folder), server, count)
        bench = Bench(server, Path(folder), count, orjson_httpx=options.orjson_httpx)
        for name in dict.fromkeys(GROUPS.get(each, each) for each in options.only or FIGURES):
            results["figures"] |= rounded(bench.run(name))
            save(results, options.json)  # what comes later may fail
        if options.others:
            results["others"] = bench.others()
            save(results, options.json)
    print(report(results))


if __name__ == "__main__":
    main()
