"""An agent for simulations, what the outside remembers of it, and what must be so at the end, whatever happened.

Each user's text is unique, and so is what a tool is asked for. The model answers `re: …` with all texts that nobody
answered yet, after a round or two of tools.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
from agents import MODEL, model_plugin, plugin
from attrs import define, evolve, field, frozen

from lash_framework import Lash
from lash_framework.settings import Settings, load_settings
from lash_framework.testing import Simulation
from lash_framework.testing.crash_points import Started, Watch
from lash_framework.testing.crash_seams import watch_host
from lash_hookspecs import (
    AssembledTurn,
    CheckpointKind,
    EnqueueMessages,
    JournalStatus,
    LeaseLost,
    LlmRequest,
    Message,
    PartKind,
    SessionStateSpec,
    Stopped,
    StopReason,
    ToolCallBlock,
    ToolEffect,
    ToolResultBlock,
    tool,
)
from lash_hookspecs.codec import decode
from lash_plugin_provider_scripted import Call, Reply, ScriptedProvider

NOTE = "Be brief."
TTL_S = 5.0


@frozen
class Guidance:
    """What the plugin `guide` remembers."""

    given: int = 0
    turns: int = 0


@define(eq=False)
class Outside:
    """What the outside remembers: deeds of tools, effects that began, and records that became durable.

    `lateness` is how often a host is late with renewing a lease, perhaps too late.
    """

    simulation: Simulation
    lateness: float = 0.0
    deeds: Counter[str] = field(factory=Counter)
    began: Counter[str] = field(factory=Counter)
    recorded: set[str] = field(factory=set)
    faults: list[str] = field(factory=list)
    crashes: int = 0
    late: int = 0

    def started(self, started: Started) -> None:
        """An effect begins: it mustn't be recorded yet."""
        self.began[started.key] += 1
        if started.key in self.recorded:
            self.faults.append(f"{started.label} ran again, though its outcome was recorded")
        if started.effect is ToolEffect.UNSAFE and self.began[started.key] > 1:
            self.faults.append(f"{started.label} ran twice, and is unsafe")

    def see(self, lash: Lash) -> None:
        """Hear of what becomes durable, and let the host be late."""
        store: Any = lash.store
        append, renew = store.append_journal, store.renew_lease

        async def append_journal(lease: Any, no: int, rows: Any, **options: Any) -> None:
            await append(lease, no, rows, **options)
            self.recorded |= {row.key for row in rows if row.status is not JournalStatus.INTENT}

        async def renew_lease(lease: Any, **options: Any) -> Any:
            if self.simulation.random.random() < self.lateness:
                self.late += 1
                await anyio.sleep(self.simulation.random.uniform(0, 2 * TTL_S))
            return await renew(lease, **options)

        store.append_journal, store.renew_lease = append_journal, renew_lease


# ---- the agent ------------------------------------------------------------------------------------------------------


def texts_of(message: Any) -> list[str]:
    return [block.text for block in message.blocks if hasattr(block, "text")]


def unanswered(request: LlmRequest) -> tuple[list[str], int]:
    """What users said that no `re:` names, in order, and how many rounds of tools followed the last of it."""
    said, rounds = [], 0
    for message in request.messages:
        texts = [text for text in texts_of(message) if text.startswith("do ")]
        if message.role == "user" and texts:
            said += texts
            rounds = 0
        elif message.role == "assistant":
            rounds += 1
            answered = {each for text in texts_of(message) if text.startswith("re: ") for each in text[4:].split(" + ")}
            said = [each for each in said if each not in answered]
    return said, rounds


def well_formed(request: LlmRequest) -> None:
    """Each call has its result right behind it, and nothing else has."""
    open_calls: set[str] = set()
    for message in request.messages:
        results = {block.call_id for block in message.blocks if isinstance(block, ToolResultBlock)}
        assert results <= open_calls, (results, open_calls)
        open_calls -= results
        calls = {block.call_id for block in message.blocks if isinstance(block, ToolCallBlock)}
        assert not (calls and open_calls), open_calls
        open_calls |= calls
    assert not open_calls, open_calls


def tools(outside: Outside) -> list[Any]:
    """One of each kind; they take their time, and one works in a thread."""
    chance = outside.simulation.random

    async def do(what: str) -> str:
        outside.deeds[what] += 1
        await anyio.sleep(chance.choice((0.0, 0.01, 1.0, 3 * TTL_S)))
        return f"did {what}"

    @tool(effect="pure")
    async def look(what: str) -> str:
        "Look."
        return await do(what)

    @tool(effect="idempotent")
    def note(what: str) -> str:
        "Note."
        outside.deeds[what] += 1
        return f"noted {what}"

    @tool(effect="unsafe")
    async def charge(what: str) -> str:
        "Charge."
        return await do(what)

    return [look, note, charge]


def guide() -> object:
    """Gives a note once in a session, after its first tools, and remembers that it did."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Guidance)

    async def lash_before_turn(ctx: Any) -> list[Any]:
        await anyio.lowlevel.checkpoint()
        ctx.set_state(evolve(ctx.state, turns=ctx.state.turns + 1))
        return []

    async def lash_checkpoint(ctx: Any) -> list[Any]:
        if ctx.kind is not CheckpointKind.AFTER_WORK or ctx.state.given:
            return []
        await anyio.sleep(0.01)
        ctx.set_state(evolve(ctx.state, given=ctx.state.given + 1))
        return [EnqueueMessages.note(NOTE)]

    return plugin("guide", lash_session_state, lash_before_turn, lash_checkpoint)


def settings() -> Settings:
    found = load_settings(env={})
    return evolve(
        found,
        plugins=evolve(found.plugins, only=("mode-standard", "store-sql")),
        durability=evolve(found.durability, lease_ttl_s=TTL_S),
    )


@asynccontextmanager
async def host(outside: Outside, *, dies_at: int | None = None) -> AsyncIterator[tuple[Lash, Watch]]:
    """A host, whose watch may end its world after so many places that a turn passes."""
    chance = outside.simulation.random

    async def say(request: LlmRequest) -> Reply:
        well_formed(request)
        said, rounds = unanswered(request)
        await anyio.sleep(chance.choice((0.0, 0.1, 2.0)))
        if rounds < 1 or (rounds < 2 and said[-1].endswith("2")):
            about = f"{said[-1]}/{rounds}"
            names = ("look", "note", "charge")
            return Reply(text="At once.", tool_calls=[Call(each, {"what": f"{each} {about}"}) for each in names])
        text = f"re: {' + '.join(said)}"
        return Reply(text=text, deltas=[text[:5], text[5:]])

    plugins = [model_plugin(ScriptedProvider(say)), guide()]
    async with Lash.open(
        "sqlite://", model=MODEL, tools=tools(outside), plugins=plugins, settings=settings(), require_durable=True
    ) as lash:
        outside.see(lash)
        watch = Watch(dies_at, on_started=outside.started, commits=1_000_000)
        watch_host(lash, watch)
        watch.active = True
        yield lash, watch


async def mortal(outside: Outside, work: Callable[[Lash], Awaitable[object]]) -> None:
    """Do the work on hosts that crash somewhere, one after the other, until one gets to its end."""
    chance = outside.simulation.random
    lives = chance.randrange(4)
    while True:
        lives -= 1
        dies_at = chance.randrange(400) if lives >= 0 else None
        with anyio.CancelScope() as scope:
            watch = None
            try:
                async with host(outside, dies_at=dies_at) as (lash, watch):
                    watch.scope = scope
                    await work(lash)
            except Exception:
                if watch is None or not watch.dead:  # whatever a dead process says, nobody hears
                    raise
        if watch is None or not watch.dead:
            return
        outside.crashes += 1
        await anyio.sleep(chance.uniform(0, 2 * TTL_S))


async def run(session: Any, text: str, turn_id: str) -> AssembledTurn:
    """A turn's end, also if its lease was lost on the way."""
    while True:
        try:
            turn: AssembledTurn = await session.run(text, turn_id=turn_id, wait=True)
        except LeaseLost:
            continue
        return turn


# ---- what must be so ------------------------------------------------------------------------------------------------


async def verify(outside: Outside, sent: dict[str, set[str]]) -> None:
    """Hold the database against what was accepted, by session, and wasn't cancelled before it began."""
    assert outside.faults == [], outside.faults
    twice = [what for what, count in outside.deeds.items() if what.startswith("charge") and count > 1]
    assert twice == [], twice
    outside.lateness = 0.0
    async with host(outside) as (lash, _):
        for session_id, texts in sent.items():
            session = await lash.session(session_id, recover=False)
            await session.recover()
            assert await session.inbox() == []
            messages = await session.messages()
            receipts = await lash.store.list_receipts(session_id)
            assert (await lash.store.load_head(session_id)).head_revision == len(receipts)
            assert len({receipt.operation for receipt in receipts}) == len(receipts)
            outcomes = [decode(AssembledTurn, receipt.result).outcome for receipt in receipts]
            check_history(messages, texts, any(each == Stopped(StopReason.CANCELLED) for each in outcomes))


def check_history(messages: Any, texts: set[str], has_cancelled_turns: bool) -> None:
    """Each text is there once, and answered once, by the next answer; each call has one result; the note came once."""
    waiting: list[str] = []
    seen: list[str] = []
    for part in (part for message in messages for part in message.parts):
        if part.kind is PartKind.TEXT and part.content.startswith("do "):
            waiting.append(part.content)
            seen.append(part.content)
        elif part.content.startswith("re: "):
            assert part.content[4:].split(" + ") == waiting
            waiting.clear()
    assert sorted(seen) == sorted(texts)
    assert not waiting or has_cancelled_turns, waiting
    calls = Counter(_call_ids(messages, PartKind.TOOL_CALL))
    assert calls == Counter(_call_ids(messages, PartKind.TOOL_RESULT))
    assert set(calls.values()) <= {1}
    notes = sum(NOTE in part.content for message in messages for part in message.parts)
    assert notes == 1 or (not notes and has_cancelled_turns)


def _call_ids(messages: Any, kind: PartKind) -> list[str]:
    found: list[Message] = list(messages)
    return [part.tool_call_id or "" for message in found for part in message.parts if part.kind is kind]
