"""Law 3: what a turn costs doesn't grow with the history before it, counted through all layers."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from agents import agent, inline_agent
from hook_kit import opened
from meter_kit import Meter, metered_store

from lash_framework import lease_keeper
from lash_framework.machine import projection
from lash_framework.session import Session
from lash_framework.settings import load_settings
from lash_hookspecs import LlmRequest, Message, TextBlock, tool
from lash_plugin_memory import plugin as memory
from lash_plugin_provider_scripted.script import Call, Reply

HISTORIES = (10, 100, 1_000)


@tool
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


def answer(request: LlmRequest) -> Reply:
    """One tool call, then an answer of always the same length."""
    last = request.messages[-1].blocks[0]
    if getattr(last, "call_id", None) is None:
        return Reply(tool_calls=[Call("shout", {"text": "hey"}, "call")])
    return Reply(text="HEY, it said.")


async def a_turn(session: Session, number: int) -> None:
    turn = await session.run("same question", turn_id=f"turn-{number:06d}")
    assert turn.text == "HEY, it said."


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # counts are the same on every event loop
async def test_law_3_a_turn_costs_the_same_statements_rows_and_renderings_at_any_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rendered: list[Message] = []
    render = projection.render_message

    def counted(message: Message, *rest: Any) -> Any:
        rendered.append(message)
        return render(message, *rest)

    monkeypatch.setattr(projection, "render_message", counted)  # a counter around our own function, not a stand-in
    meter = Meter()
    readings = []
    # No look after the lease falls into a turn that is metered.
    settings = load_settings(env={}, sets=["durability.lease_ttl_s=1000000"])
    monkeypatch.setattr(lease_keeper, "LOOK_S", 1000.0)
    async with agent(
        answer, store="metered://", plugins=[metered_store(meter)], tools=[shout], settings=settings
    ) as lash:
        session = await lash.session("s")
        done = 0
        for history in HISTORIES:
            while done < history:
                await a_turn(session, done)
                done += 1
            meter.reading()
            rendered.clear()
            await a_turn(session, done)
            done += 1
            statements, size = meter.reading()
            readings.append((statements, size, len(rendered)))
    first, *others = readings
    for statements, size, renderings in others:
        assert statements == first[0]
        assert renderings == first[2] == 4
        # What is written holds counters (revision, turn index, usage, generation, inbox number) whose digits grow.
        assert abs(size - first[1]) <= 10 * len(str(HISTORIES[-1]))


NOTED = """
[modes.noted]
extends = "standard"
plugins = ["memory"]
[plugin.memory]
observe_tokens = 50
activate_tokens = 150
reflect_tokens = 200
"""
CYCLE = 12
"""Turns in which notes were made, shown and condensed, so many times each."""


def notes(request: LlmRequest) -> Reply:
    """The same length always: a subject's answer, the observer's line, and its reflection."""
    said = "".join(block.text for each in request.messages for block in each.blocks if isinstance(block, TextBlock))
    if "They have become long" in said:
        return Reply(text="- All of it.")
    return Reply(text="- A line of some length. " * 4 if "You keep the notes" in said else "I see. " * 10)


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_law_3_with_memory_turns_cost_the_same_statements_rows_bytes_and_calls_at_any_history(
    tmp_path: Path,
) -> None:
    """Once each turn went through all messages, twice, to find out which notes count."""
    meter = Meter()
    readings = []
    calls = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        calls += event == "call"

    given: dict[str, Any] = {"says": notes, "toml": NOTED, "folder": tmp_path, "mode": "noted", "store": "metered://"}
    async with opened(memory, metered_store(meter), **given) as lash:
        session = await lash.session("s")
        done = 0
        for history in HISTORIES:
            while done < history:
                await session.run("say " * 60, turn_id=f"turn-{done:06d}")
                done += 1
            meter.reading()
            calls = 0
            sys.setprofile(profile)
            try:
                for done in range(done, done + CYCLE):  # noqa: B020  # goes on where it was
                    await session.run("say " * 60, turn_id=f"turn-{done:06d}")
            finally:
                sys.setprofile(None)
            done += 1
            statements, size = meter.reading()
            rows = sum(each * count for (_, each), count in statements.items())
            readings.append((statements.total(), rows, size, calls))
    # Notes are condensed at other turns of each twelve, and the lease is looked after now and then.
    for reading in readings[1:]:
        assert reading == pytest.approx(readings[0], rel=0.05)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_turn_takes_few_passes_of_the_event_loop() -> None:
    """Each costs two system calls and more; what is left is the commit's way to its thread and back."""
    selector: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]  # where each pass looks
    passes = 0
    select = selector.select

    def counted(timeout: float | None = None) -> Any:
        nonlocal passes
        passes += 1
        return select(timeout)

    async with inline_agent(lambda request: "a") as lash:
        session = await lash.session("s")
        await session.run("first")
        selector.select = counted
        try:
            for _ in range(20):
                await session.run("again")
        finally:
            del selector.select
    assert passes / 20 < 4.5


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_turn_looks_at_the_head_once_and_enters_few_scopes() -> None:
    """A scope is some twenty calls: one is where something can be waited for, and none in front of a free line."""
    meter = Meter()
    called: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called[frame.f_code.co_qualname] += 1

    async with inline_agent(lambda request: "a", store="metered://", plugins=[metered_store(meter)]) as lash:
        session = await lash.session("s")
        await session.run("first")
        meter.reading()
        sys.setprofile(profile)
        try:
            await session.run("again")
        finally:
            sys.setprofile(None)
        statements, _ = meter.reading()
    assert [count for (sql, _), count in statements.items() if sql.startswith("SELECT head_revision")] == [1]
    assert called["CancelScope.__enter__"] == 2  # the turn, and the commit
