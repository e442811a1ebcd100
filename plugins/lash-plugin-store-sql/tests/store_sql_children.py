"""Programs that tests run as processes of their own: `python store_sql_children.py <name> <path> …`."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
from attrs import evolve

from lash_hookspecs.errors import LashError
from lash_hookspecs.journal_rows import JournalStatus
from lash_hookspecs.liveness import process_stamp
from lash_hookspecs.stores import StoreContext
from lash_hookspecs.testing.store import Scribe
from lash_hookspecs.testing.store.runner import Runner, effect, new_item
from lash_plugin_store_sql.locks import OfdLocks, PosixLocks
from lash_plugin_store_sql.store import SqlStore, open_store


def say(*words: object) -> None:
    """A line on stdout, in one write, so that lines of concurrent tasks and processes don't mix."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def _opened(path: str) -> SqlStore:
    return await open_store(StoreContext(url=f"sqlite:///{path}"))


def crowd(path: str, count: str) -> None:
    """`count` processes open one new database at once; each commits to its own session and says `ok` or what failed."""
    anyio.run(anyio.sleep, 0)  # imports the rest
    gate_read, gate_write = os.pipe()
    children = []
    for number in range(int(count)):
        # Nothing but this thread runs here yet, so a fork is as good as a new process, and 64 imports are saved.
        child = os.fork()
        if child == 0:
            os.close(gate_write)
            os.read(gate_read, 1)  # returns once nobody holds the other end
            anyio.run(_one_of_a_crowd, path, number)
            os._exit(0)
        children.append(child)
    os.close(gate_write)
    for child in children:
        os.waitpid(child, 0)


async def _one_of_a_crowd(path: str, number: int) -> None:
    try:
        store, scribe = await _opened(path), Scribe(f"s{number}")
        for _ in range(2):
            await scribe.write(store, scribe.turn("hello"))
        await store.aclose()
        say("ok")
    except Exception as error:
        say(type(error).__name__, error)


def stream(path: str, start: str) -> None:
    """Commit to eight sessions for ever; each acknowledged commit is a line `session revision`."""

    async def one(store: SqlStore, scribe: Scribe) -> None:
        head = await store.load_head(scribe.session_id)
        if head is not None:
            scribe.revision, scribe.leaf, scribe.turns = head.head_revision, head.leaf_node_id, head.turn_index
        while True:
            await scribe.write(store, scribe.turn("first", "second"))
            say(scribe.session_id, scribe.revision)

    async def main() -> None:
        store = await _opened(path)
        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(one, store, Scribe(f"s{number}"))

    anyio.run(main)


def hold(path: str, kind: str) -> None:
    """Hold the locks of sessions `a` and `b`, and let go of `b` when a line comes in; say so each time."""
    locks = {"ofd": OfdLocks, "posix": PosixLocks}[kind](path)
    held = [locks.try_lock(id) for id in "ab"]
    say("held", None not in held)
    sys.stdin.readline()
    if held[1] is not None:
        held[1].__exit__(None, None, None)
    say("let go")
    sys.stdin.readline()


def full_disk(path: str) -> None:
    """Run against a limit on the file's size, then without; say what became of each commit."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    anyio.run(_full_disk, path)


@contextmanager
def _limited(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def _full_disk(path: str) -> None:
    store, scribe = await _opened(path), Scribe("s")
    await scribe.write(store, scribe.turn("before"))
    head = await store.load_head("s")
    # The log has room for some commits, but not for the large ones.
    with _limited(Path(f"{path}-wal").stat().st_size + 400_000):

        async def attempt(scribe: Scribe, text: str) -> None:
            try:
                await scribe.write(store, scribe.turn(text))
                say(scribe.session_id, "ok")
            except LashError as error:
                say(scribe.session_id, type(error).__name__, error)

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(attempt, Scribe(f"small{number}"), "small")
                group.start_soon(attempt, Scribe(f"large{number}"), "large" * 200_000)
        await attempt(Scribe("s", revision=1, leaf=scribe.leaf, turns=5), "large" * 200_000)
        say("same head", await store.load_head("s") == head)
    await scribe.write(store, scribe.turn("after"))
    say("after", (await store.load_head("s")).head_revision)
    await store.aclose()


def turn(path: str, ttl_ms: str) -> None:
    """Begin a turn and record two effects; then, once a line comes, try to go on, and say what happens."""

    async def main() -> None:
        store, runner = await _opened(path), Runner("child")
        runner.holder = evolve(runner.holder, process=process_stamp())
        lease, item = await runner.begin(store, new_item("a"), ttl_ms=int(ttl_ms))
        await store.append_journal(lease, item.no, [effect("done"), effect("unsure", JournalStatus.INTENT)])
        say("begun", lease.generation)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        commit = runner.commit(Scribe(), lease, item, "by the child")
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: store.append_journal(lease, item.no, [effect("unsure")]),
            lambda: store.renew_lease(lease, ttl_ms=1_000),
            lambda: store.commit(commit),
        ]
        for call in calls:
            try:
                await call()
                say("done")
            except LashError as error:
                say(type(error).__name__)
        await store.aclose()

    anyio.run(main)


def nobody(path: str) -> None:
    """Give up root's right to write everywhere, then open and commit; say what happens."""

    async def warm_up() -> None:
        store = await open_store(StoreContext(url="sqlite://"))
        await store.aclose()

    anyio.run(warm_up)  # imports the rest, which may lie where nobody else can read
    if os.getuid() == 0:
        os.setgid(65534)
        os.setuid(65534)

    async def main() -> None:
        try:
            store = await _opened(path)
            await store.aclose()
            say("opened")
        except LashError as error:
            say(type(error).__name__, error)

    anyio.run(main)


def fork(folder: str) -> None:
    """Write what is synced later, let go of everything, and have a fork do the same on a file of its own."""

    async def main(name: str) -> None:
        store, runner = await _opened(f"{folder}/{name}.db"), Runner(name)
        lease, item = await runner.begin(store, new_item("a"))
        for number in range(8):
            await store.append_journal(lease, item.no, [effect(f"{number}")], synced=False)
            await store.sync()
        await store.aclose()
        say(name)

    anyio.run(main, "parent")
    child = os.fork()
    if child == 0:
        anyio.run(main, "child")
        os._exit(0)
    say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


PROGRAMS: dict[str, Callable[..., None]] = {
    each.__name__: each for each in (crowd, stream, hold, full_disk, turn, nobody, fork)
}

if __name__ == "__main__":
    partial(PROGRAMS[sys.argv[1]], *sys.argv[2:])()
