"""One life of a worker of the chaos run: it goes on with what the life before left, and then with its script.

It is forked from a parent that has imported everything, and is killed at any moment. One of its sessions is for all:
there it waits for the others' turns, or comes back, and goes on with what is left of those who were killed. In a few
bytes of shared memory it says how many model replies are coming in, how many tools run, and how many writes of the
journal and commits are on their way; and, for the next life, which turn each of its sessions has come to.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from mmap import mmap
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import orjson

from lash_framework import Lash, plugins
from lash_framework.settings import load_settings
from lash_hookspecs import tool
from lash_hookspecs.errors import SessionBusy, TurnBlocked, TurnSuspended, UnknownName
from lash_hookspecs.inbox import Ingress
from lash_hookspecs.tools import ToolCallContext
from lash_plugin_provider_openai.provider import OpenAiChatProvider
from lash_plugin_store_sql.store import SqlStore

PHASES = ("stream", "tool", "journal", "commit")
LINES, TURNS = 3, 25
"""How many sessions a worker runs at once, and how many turns each has before the next one is begun."""
CONTENDED = LINES - 1
"""The line whose session is everybody's: all workers want to run their turns on it."""
BUSY_S = 0.03
"""How long a worker that doesn't wait for the session leaves it alone."""

SLOT = 64  # bytes of shared memory for each worker
_READY, _AT = 8, 16


class Shared:
    """A worker's bytes: a counter for each phase, whether it is ready, and the turn that each line has come to."""

    def __init__(self, memory: mmap, slot: int) -> None:
        self._memory = memory
        self._start = slot * SLOT

    def reborn(self) -> None:
        """Forget what the last life was doing."""
        self._memory[self._start : self._start + _AT] = bytes(_AT)

    def active(self) -> list[str]:
        """The phases that it is in."""
        return [name for at, name in enumerate(PHASES) if self._memory[self._start + at]]

    @property
    def ready(self) -> bool:
        """Whether it has left its start behind."""
        return bool(self._memory[self._start + _READY])

    def is_ready(self) -> None:
        """It has."""
        self._memory[self._start + _READY] = 1

    @contextmanager
    def within(self, phase: str) -> Iterator[None]:
        """Say so while the block runs."""
        at = self._start + PHASES.index(phase)
        self._memory[at] += 1
        try:
            yield
        finally:
            self._memory[at] -= 1

    def turn(self, line: int) -> int:
        """The turn that a line has come to."""
        found: int = struct.unpack_from("<I", self._memory, self._start + _AT + 4 * line)[0]
        return found

    def move_on(self, line: int, turn: int) -> int:
        """It has come to this one, or, where the session is everybody's, to the furthest that anybody has come to."""
        if line == CONTENDED:
            others = range(0, len(self._memory), SLOT)
            turn = max(turn, *(struct.unpack_from("<I", self._memory, at + _AT + 4 * line)[0] for at in others))
        struct.pack_into("<I", self._memory, self._start + _AT + 4 * line, turn)
        return turn


class Life(NamedTuple):
    """All that a worker is told. `last`: run nothing new, only end what was begun or accepted."""

    seed: int
    slot: int
    folder: Path
    server: str
    shared: Shared
    last: bool = False


class Lines:
    """A file that many processes append lines to; what was written outlives them."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **fields: object) -> None:
        """A line."""
        os.write(self._file, orjson.dumps({**fields, "pid": os.getpid(), "at": time.monotonic()}) + b"\n")


def session_name(slot: int, line: int, turn: int) -> str:
    """The session that a turn belongs to."""
    return f"x.{turn // TURNS}" if line == CONTENDED else f"s{slot}.{line}.{turn // TURNS}"


class Script(NamedTuple):
    """One turn: what the user says, what they say while it runs, if anything, and whether they wait for the session."""

    turn_id: str
    text: str
    note: str | None
    note_after_s: float
    waits: bool


def script(seed: int, slot: int, line: int, turn: int) -> Script:
    """The turn with this number; always the same."""
    turn_id = f"{session_name(slot, line, turn)}-{slot}.{turn}"
    chance = Random(f"{seed}/{turn_id}")
    sizes = [chance.choice((1, 1, 2, 4)) for _ in range(chance.choice((0, 1, 1, 2, 4)))]
    rounds = ["".join(chance.choices("piuw", [4, 3, 4, 1], k=size)) for size in sizes]
    note = f"note {turn_id}" if chance.random() < 0.2 else None
    text = f"do {turn_id} {','.join(rounds) or '-'}"
    return Script(turn_id, text, note, chance.uniform(0, 0.08), waits=chance.random() < 0.5)


# ---- tools ----------------------------------------------------------------------------------------------------------


def tools(log: Lines, shared: Shared, seed: int) -> list[Any]:
    """What the model may call. Each says in the log when it begins and what it has done."""

    async def work(name: str, x: str, ctx: ToolCallContext) -> str:
        with shared.within("tool"):
            told = {"tool": name, "x": x, "call": ctx.call_id, "key": ctx.idempotency_key}
            log.write(event="began", **told)
            await asyncio.sleep(Random(f"{seed}/{x}").uniform(0, 0.008))
            log.write(event="done", **told)
        return f"{name} did {x}"

    @tool(effect="pure")
    async def pure(x: str, ctx: ToolCallContext) -> str:
        """Look something up."""
        return await work("pure", x, ctx)

    @tool(effect="idempotent")
    async def idempotent(x: str, ctx: ToolCallContext) -> str:
        """Do something under a key."""
        return await work("idempotent", x, ctx)

    @tool(effect="unsafe")
    async def unsafe(x: str, ctx: ToolCallContext) -> str:
        """Do something once."""
        return await work("unsafe", x, ctx)

    @tool(effect="unsafe", on_unknown="wait")
    async def waiting(x: str, ctx: ToolCallContext) -> str:
        """Do something once, and ask somebody if nobody knows."""
        return await work("waiting", x, ctx)

    return [pure, idempotent, unsafe, waiting]


# ---- phases ---------------------------------------------------------------------------------------------------------


def marked(method: Callable[..., Awaitable[Any]], phase: str, shared: Shared) -> Callable[..., Awaitable[Any]]:
    """The method, with its phase told while it runs."""

    async def call(*args: Any, **options: Any) -> Any:
        with shared.within(phase):
            return await method(*args, **options)

    return call


def mark(shared: Shared) -> None:
    """Have store and provider tell their phases: this process does nothing else."""
    SqlStore.append_journal = marked(SqlStore.append_journal, "journal", shared)  # type: ignore[method-assign]  # on purpose
    SqlStore.begin_turn = marked(SqlStore.begin_turn, "journal", shared)  # type: ignore[method-assign]  # on purpose
    SqlStore.commit = marked(SqlStore.commit, "commit", shared)  # type: ignore[method-assign]  # on purpose
    OpenAiChatProvider.complete = marked(OpenAiChatProvider.complete, "stream", shared)  # type: ignore[method-assign]  # on purpose


# ---- the life -------------------------------------------------------------------------------------------------------


class Worker:
    """Runs the lines of one slot."""

    def __init__(self, life: Life, lash: Lash, acks: Lines) -> None:
        self._life = life
        self._lash = lash
        self._acks = acks

    async def line(self, line: int) -> None:
        """Go on where the last life of this line was."""
        life = self._life
        turn = life.shared.turn(line)
        session = await self._recovered(session_name(life.slot, line, turn))
        while not life.last:
            if session.id != session_name(life.slot, line, turn):
                session = await self._recovered(session_name(life.slot, line, turn))
            await self._turn(session, script(life.seed, life.slot, line, turn))
            turn = life.shared.move_on(line, turn + 1)

    async def clear(self, *prefixes: str) -> None:
        """End whatever is left in sessions whose name begins so."""
        for name in {each.session_id for each in await self._lash.store.list_inbox()}:  # type: ignore[attr-defined]  # it has one
            if name.startswith(prefixes):
                await self._recovered(name)

    async def _turn(self, session: Any, asked: Script) -> None:
        note = asyncio.create_task(self._say(session, asked)) if asked.note else None
        turn = await self._through(session, lambda: session.run(asked.text, turn_id=asked.turn_id, wait=asked.waits))
        self._acks.write(event="answered", session=session.id, turn=asked.turn_id, text=turn.text)
        if note is not None:
            await note

    async def _say(self, session: Any, asked: Script) -> None:
        await asyncio.sleep(asked.note_after_s)
        await session.enqueue(asked.note, ingress=Ingress.CHECKPOINT, source_key=asked.note)
        self._acks.write(event="accepted", session=session.id, note=asked.note)

    async def _recovered(self, name: str) -> Any:
        session = await self._lash.session(name, recover=False)
        for each in await self._through(session, session.recover) or ():
            self._acks.write(event="recovered", session=name, turn=each.turn.turn_id, replayed=each.replayed)
        return session

    async def _through(self, session: Any, run: Callable[[], Awaitable[Any]]) -> Any:
        """Run it, and be the person who decides what is left open."""
        blocked = False
        while True:
            try:
                if blocked:
                    await session.recover(force=True)
                return await run()
            except SessionBusy:
                if not session.id.startswith("x."):  # nobody else has business there
                    raise
                self._acks.write(event="busy", session=session.id)
                await asyncio.sleep(BUSY_S)
            except TurnSuspended as waits:
                await self._decide(waits.session_id)
            except TurnBlocked as error:
                self._acks.write(event="blocked", session=error.session_id, turn=error.turn_id, why=error.reason)
                blocked = True

    async def _decide(self, session_id: str) -> None:
        """Look into the tools' log, as a person would look into an account."""
        done = {each["x"] for each in read(self._life.folder / "tools.jsonl") if each["event"] == "done"}
        for call in await self._lash.pending():
            if call.session_id != session_id:
                continue
            x = call.args["x"]
            try:
                if x in done:
                    await self._lash.resolve(call.key, result=f"{call.tool_name} did {x}")
                else:
                    await self._lash.resolve(call.key, error="it did not happen")
            except (SessionBusy, UnknownName):
                if not session_id.startswith("x."):
                    raise
                continue  # somebody else has decided
            self._acks.write(event="resolved", session=session_id, x=x, happened=x in done)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a log, but for one that is being written."""
    if path.exists():
        for line in path.read_bytes().split(b"\n")[:-1]:
            yield orjson.loads(line)


async def warm_up(server: str, folder: Path) -> None:
    """Import, compile and remember all that a life needs, so that each forked one has it.

    A small life, with a server and a database of its own: turns at once, with every tool, and one that is interrupted
    and gone on with. From then on nobody looks again for what is installed.
    """
    plugins.installed = cache(plugins.installed)  # type: ignore[attr-defined]  # it imports it
    life = Life(0, 0, folder, server, Shared(mmap(-1, SLOT), 0))
    turns = [(f"warm.{line}", f"do warm.{line} piuw,u,pi,p") for line in range(LINES)]
    async with host(life) as lash:
        sessions = [await lash.session(name) for name, _ in turns]
        both = zip(sessions, turns, strict=True)
        await asyncio.gather(*(session.run(text, turn_id="first") for session, (_, text) in both))
        interrupted = asyncio.create_task(sessions[0].run("do warm pu,pppp", turn_id="second"))
        await asyncio.wait([interrupted], timeout=0.03)
        interrupted.cancel()
        await asyncio.wait([interrupted])
    async with host(life) as lash:
        await Worker(life, lash, Lines(folder / "acks.jsonl")).clear("warm.")
        for name, text in turns:
            await (await lash.session(name)).run(text, turn_id="first")


@asynccontextmanager
async def host(life: Life) -> AsyncIterator[Lash]:
    """What a life runs its turns with."""
    log = Lines(life.folder / "tools.jsonl")
    url = f"{life.server}/scripted/{os.getpid()}/v1"  # the server notes who asks
    settings = load_settings(env={}, sets=[f"provider.openai-chat.base_url={url}"])
    async with Lash.open(
        f"sqlite:///{life.folder / 'chaos.db'}",
        model="openai-chat:bench",
        tools=tools(log, life.shared, life.seed),
        settings=settings,
        require_durable=True,
    ) as lash:
        yield lash


async def live(life: Life) -> None:
    """Until it is killed, or has nothing to do any more."""
    mark(life.shared)
    async with host(life) as lash:
        worker = Worker(life, lash, Lines(life.folder / "acks.jsonl"))
        life.shared.is_ready()
        await asyncio.gather(*(worker.line(line) for line in range(LINES)))
        if life.last:
            await worker.clear(f"s{life.slot}.", "x.")
