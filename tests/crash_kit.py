"""The turn that the crash matrix kills: parallel tools, a failure that is retried, guidance, a queued input.

It is the same agent for tests in this process and for processes that are really killed (`crash_children.py`).
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from agents import agent, plugin
from attrs import evolve, frozen

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_framework.testing.crash_matrix import Subject
from lash_framework.testing.crash_points import Watch
from lash_framework.testing.crash_verdicts import Ending
from lash_hookspecs import (
    CheckpointKind,
    DenyToolCall,
    EnqueueMessages,
    JournalStatus,
    LlmRequest,
    ReplaceToolArgs,
    ReplaceToolResult,
    SessionStateSpec,
    ToolError,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

SESSION, TURN = "crash", "turn-1"


DEEDS = ("model 1", "look", "note", "charge", "guidance", "model 2", "fetch 1", "model 3", "fetch 2", "model 4")
"""What the turn does to the outside, each once."""


@frozen
class Row:
    """What became of one crash. `found` is what the survivor found: nothing, or the turn accepted, or committed.

    `twice` and `never` are the deeds that were done so; all others were done once. `unknown` are the calls of which the
    model was told that nobody knows. `usage` is exact, or at least.
    """

    found: str
    twice: str = "-"
    never: str = "-"
    unknown: str = "-"
    usage: str = "exact"


def row_of(ending: Ending, world: World, known: Sequence[str] = DEEDS) -> Row:
    """What became of a crash, by what a survivor and the outside say."""
    deeds = world.deeds
    odd = {each: count for each, count in deeds.items() if count > 2 or each not in known}
    assert not odd, odd
    return Row(
        found="committed" if ending.was_committed else "accepted" if ending.was_accepted else "nothing",
        twice=_list(each for each in known if deeds[each] == 2),
        never=_list(each for each in known if not deeds[each]),
        unknown=_list(each.tool_name for each in ending.turn.tool_calls if "nobody knows" in str(each.output)),
        usage="at least" if ending.turn.usage.at_least else "exact",
    )


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "-"


class World:
    """What the outside remembers, in a file beside the database: a line for each deed, whoever did it."""

    def __init__(self, url: str) -> None:
        self.path = Path(url.removeprefix("sqlite:///")).with_name("world")

    def note(self, deed: str) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, f"{deed}\n".encode())  # in one go, and kept whatever becomes of the process
        finally:
            os.close(file)

    @property
    def deeds(self) -> Counter[str]:
        return Counter(self.path.read_text().splitlines() if self.path.exists() else ())


@frozen
class Guidance:
    """What the plugin `guide` remembers."""

    given: int = 0


def guide(world: World, more: Callable[[], Awaitable[object]]) -> object:
    """Gives its guidance once in a session, after the first tools, and remembers that it did."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Guidance)

    async def lash_checkpoint(ctx: Any) -> list[Any]:
        if ctx.kind is not CheckpointKind.AFTER_WORK or ctx.state.given:
            return []
        world.note("guidance")
        await more()
        ctx.set_state(evolve(ctx.state, given=ctx.state.given + 1))
        return [EnqueueMessages.note("Be brief.")]

    return plugin("guide", lash_session_state, lash_checkpoint)


class Turnstile:
    """Lets tools that run at once end one by one, each when the outcome of the one before it is durable.

    So the journal is written in the same steps each time, and a golden trace is the same trace twice. None ends before
    those have begun whose intents are written, so that a kill finds as much done each time.
    """

    def __init__(self, lash: Lash) -> None:
        self._begun: list[str] = []
        self._durable: dict[str, anyio.Event] = {}
        self._intended: dict[str, anyio.Event] = {}
        append = lash.store.append_journal

        async def append_journal(lease: Any, no: int, rows: Any, **options: Any) -> None:
            await append(lease, no, rows, **options)
            for row in rows:
                if row.status is JournalStatus.INTENT and row.kind == "tool_call":
                    self._intended[row.label] = anyio.Event()
                for name in self._begun:
                    if row.status is JournalStatus.DONE and f"`{name}`" in row.label:
                        self._durable[name].set()

        lash.store.append_journal = append_journal

    async def wait(self, name: str) -> None:
        """End once those are durable that began before, in this process."""
        before = self._begun[-1:]
        self._begun.append(name)
        self._durable[name] = anyio.Event()
        for label, begun in self._intended.items():
            if f"`{name}`" in label:
                begun.set()
            await begun.wait()
        for each in before:
            await self._durable[each].wait()


def tools(world: World, opened: list[Turnstile]) -> list[Any]:
    """Three that run at once, and one that fails at first."""

    async def together(name: str) -> str:
        world.note(name)
        await opened[0].wait(name)
        return f"{name} is done"

    @tool(effect="pure")
    async def look() -> str:
        "Look."
        return await together("look")

    @tool(effect="idempotent")
    async def note() -> str:
        "Note."
        return await together("note")

    @tool(effect="unsafe")
    async def charge() -> str:
        "Charge."
        return await together("charge")

    @tool(effect="idempotent")
    async def fetch(attempt: int) -> str:
        "Fetch; the first attempt fails."
        world.note(f"fetch {attempt}")
        if attempt == 1:
            raise ToolError("the line is busy")
        return "fetched"

    return [look, note, charge, fetch]


async def _nothing(lash: Lash) -> None:
    """What the hook does besides, where nobody asks for more."""


@asynccontextmanager
async def crash_agent(url: str, after_guidance: Callable[[Lash], Awaitable[object]] = _nothing) -> AsyncIterator[Lash]:
    """A host for the turn. The model's answer says what it was told: guidance and the queued input, each how often."""
    world = World(url)
    opened: list[Lash] = []
    turnstiles: list[Turnstile] = []

    async def say(request: LlmRequest) -> Reply:
        said = sum(message.role == "assistant" for message in request.messages)
        world.note(f"model {said + 1}")
        match said:
            case 0:
                calls = [Call("look", {}, "look"), Call("note", {}, "note"), Call("charge", {}, "charge")]
                return Reply(text="At once.", tool_calls=calls)
            case 1:
                session = await opened[0].session(SESSION)
                await session.enqueue("And hurry.", source_key="hurry")
                return Reply(text="Now fetch.", tool_calls=[Call("fetch", {"attempt": 1}, "fetch-1")])
            case 2:
                return Reply(text="Once more.", tool_calls=[Call("fetch", {"attempt": 2}, "fetch-2")])
        texts = [block.text for message in request.messages for block in message.blocks if hasattr(block, "text")]
        told = {each: sum(each in text for text in texts) for each in ("Be brief.", "And hurry.")}
        return Reply(text=f"All is done: {told}", deltas=["All is ", f"done: {told}"])

    plugins = [guide(world, lambda: after_guidance(opened[0]))]
    options: Any = {"tools": tools(world, turnstiles), "plugins": plugins, "settings": _settings()}
    async with agent(say, store=url, **options) as lash:
        opened.append(lash)
        turnstiles.append(Turnstile(lash))
        yield lash


def _settings() -> Any:
    """Few plugins, and no waiting for the disk: what a process wrote outlives it in either way."""
    settings = load_settings(env={})
    few = evolve(settings.plugins, only=("mode-standard", "store-sql"))
    return evolve(settings, plugins=few, store_options={"synchronous": "normal"})


@asynccontextmanager
async def paused_agent(url: str, who: str, where: str = "", ttl_s: float = 30) -> AsyncIterator[Lash]:
    """A host whose process stops itself once: in the model, or before a call of the store."""
    stops = [where]

    def stop(here: str) -> None:
        if here in stops:
            stops.clear()
            os.kill(os.getpid(), signal.SIGSTOP)

    @tool(effect="idempotent")
    async def step() -> str:
        "Take a step."
        World(url).note(f"step of {who}")
        return "done"

    def say(request: LlmRequest) -> Reply:
        stop("in the model")
        if any(message.role == "assistant" for message in request.messages):
            return Reply(text=f"I am {who}.")
        return Reply(text="One step.", tool_calls=[Call("step", {}, "step")])

    settings = _settings()
    settings = evolve(settings, durability=evolve(settings.durability, lease_ttl_s=ttl_s))
    async with agent(say, store=url, tools=[step], settings=settings) as lash:
        for name in ("append_journal", "commit"):
            method = getattr(lash.store, name)

            async def call(*args: Any, _name: str = name, _method: Any = method, **options: Any) -> Any:
                stop(_name)
                return await _method(*args, **options)

            setattr(lash.store, name, call)
        yield lash


def url_in(folder: Path) -> str:
    """A database in a new folder."""
    folder.mkdir()
    return f"sqlite:///{folder}/lash.db"


SUBJECT = Subject(open_host=crash_agent, prompt="Do it all.", session_id=SESSION, turn_id=TURN)


# ---- a session's second turn ----------------------------------------------------------------------------------------


def counter() -> object:
    """A plugin that counts the turns which did some work: what it remembers is another thing after each."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Guidance)

    async def lash_checkpoint(ctx: Any) -> list[Any]:
        if ctx.kind is CheckpointKind.AFTER_WORK:
            ctx.set_state(evolve(ctx.state, given=ctx.state.given + 1))
        return []

    return plugin("counter", lash_session_state, lash_checkpoint)


@asynccontextmanager
async def second_agent(url: str) -> AsyncIterator[Lash]:
    """A host for two turns of one round each. The outside remembers the second one."""
    world = World(url)

    @tool(effect="idempotent")
    async def fetch(turn: int) -> str:
        "Fetch."
        if turn == 2:
            world.note("fetch")
        return "fetched"

    def say(request: LlmRequest) -> Reply:
        roles = [message.role for message in request.messages if message.role in ("user", "assistant")]
        turn = sum(message.role == "user" and not _results(message) for message in request.messages)
        said = roles.count("assistant") - 2 * (turn - 1)
        if turn == 2:
            world.note(f"model {said + 1}")
        if said == 0:
            return Reply(text="I fetch.", tool_calls=[Call("fetch", {"turn": turn}, f"fetch-{turn}")])
        return Reply(text=f"Fetched {turn}.")

    async with agent(say, store=url, tools=[fetch], plugins=[counter()], settings=_settings()) as lash:
        yield lash


def _results(message: Any) -> bool:
    return any(not hasattr(block, "text") for block in message.blocks)


FIRST_OF_TWO = Subject(open_host=second_agent, prompt="First.", session_id=SESSION, turn_id=TURN)
SECOND = Subject(open_host=second_agent, prompt="Second.", session_id=SESSION, turn_id="turn-2")
SECOND_DEEDS = ("model 1", "fetch", "model 2")


async def after_the_first(folder: Path) -> Callable[[str], str]:
    """Makes databases in new folders, by name, in which the first of the two turns is committed."""
    await FIRST_OF_TWO.live(url_in(folder / "first"), Watch())
    content = (folder / "first" / "lash.db").read_bytes()  # it is closed: nothing is left in the log

    def made(name: str) -> str:
        url = url_in(folder / name)
        (folder / name / "lash.db").write_bytes(content)
        return url

    return made


# ---- a turn with hooks around its calls -----------------------------------------------------------------------------


def guard(world: World) -> object:
    """A plugin with a hook at each seam of a call, which counts in its state how often it was asked."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Guidance)

    def asked(ctx: Any, deed: str | None = None) -> None:
        if deed is not None:
            world.note(deed)
        ctx.set_state(evolve(ctx.state, given=ctx.state.given + 1))

    async def lash_before_tool_call(ctx: Any, call: Any) -> Any:
        asked(ctx, f"guard {ctx.call_id}")
        return DenyToolCall("not this") if call.args["attempt"] == 2 else ReplaceToolArgs({"attempt": 3})

    async def lash_after_tool_call(ctx: Any, call: Any, result: Any) -> Any:
        asked(ctx, "see")
        return [ReplaceToolResult("seen"), EnqueueMessages.note("Seen.")]

    async def lash_tool_result_view(ctx: Any, call: Any, view: Any) -> Any:
        asked(ctx)
        return None

    return plugin("guard", lash_session_state, lash_before_tool_call, lash_after_tool_call, lash_tool_result_view)


@asynccontextmanager
async def guarded_agent(url: str) -> AsyncIterator[Lash]:
    """A host for a turn of one round: one call that is changed and made, one that is denied."""
    world = World(url)

    def say(request: LlmRequest) -> Reply:
        said = sum(message.role == "assistant" for message in request.messages)
        world.note(f"model {said + 1}")
        if said == 0:
            return Reply(text="I fetch.", tool_calls=[Call("fetch", {"attempt": at}, f"{at}") for at in (1, 2)])
        texts = [block.text for message in request.messages for block in message.blocks if hasattr(block, "text")]
        return Reply(text=f"Told {sum('Seen.' in text for text in texts)} time.")

    async with agent(
        say, store=url, tools=[tools(world, [])[-1]], plugins=[guard(world)], settings=_settings()
    ) as lash:
        yield lash


GUARDED = Subject(open_host=guarded_agent, prompt="Fetch.", session_id=SESSION, turn_id=TURN)
GUARDED_DEEDS = ("model 1", "guard 1", "guard 2", "fetch 3", "see", "model 2")
