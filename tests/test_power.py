"""A loss of power at any moment of a turn: what is on the disk is gone on with, and no unsafe tool runs twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from agents import agent

from lash_framework.settings import load_settings
from lash_hookspecs import LlmRequest, OperationId, ToolCallFailure, tool
from lash_plugin_provider_scripted import Call, Reply
from lash_plugin_store_sql import lease_row, near

PLUGIN = Path(__file__).resolve().parent.parent / "plugins" / "lash-plugin-store-sql" / "tests"

pytestmark = [
    pytest.mark.costly,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # what is tested lies below the event loop
]

ROUNDS: tuple[tuple[str, ...], ...] = (("look", "look"), ("pay",), ("look", "pay", "send"), ("look",), ("pay", "pay"))
"""The tools of each reply; pure, unsafe and idempotent ones."""


def say(request: LlmRequest) -> Reply | str:
    at = sum(message.role == "assistant" for message in request.messages)
    if at == len(ROUNDS):
        return "Done."
    return Reply(tool_calls=[Call(name, {"item": f"{at}-{place}"}) for place, name in enumerate(ROUNDS[at])])


def tools(told: Callable[[str, str], None]) -> list[Any]:
    """Tools that tell of each start: what they do then, the world remembers, whatever becomes of the power."""

    @tool(effect="pure")
    async def look(item: str) -> str:
        """Look."""
        told("look", item)
        return item

    @tool(effect="idempotent")
    async def send(item: str) -> str:
        """Send."""
        told("send", item)
        return item

    @tool
    async def pay(item: str) -> str:
        """Pay."""
        told("pay", item)
        return item

    return [look, send, pay]


async def test_after_a_loss_of_power_the_turn_goes_on_and_nothing_unsafe_runs_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is pure runs again more often than what the outside remembers: nothing waits for its record."""
    again = await run_again("full", tmp_path, monkeypatch)
    assert again["look"] > again["send"] > 0 == again["pay"]


async def test_with_every_record_synced_only_what_was_under_way_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The three tools of a reply at most, since their records are one write."""
    again = await run_again("extra", tmp_path, monkeypatch, at_most=3)
    assert again["look"] > 0 == again["pay"]


async def run_again(
    synchronous: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, at_most: int = 99
) -> Counter[str]:
    """How often each tool ran again, at every moment together: at each sync, each start of a tool, and between.

    Of what wasn't synced, the disk has anything or nothing.
    """
    monkeypatch.syspath_prepend(str(PLUGIN))
    from store_sql_power import Event, LateSyncer, disk_at, recorded

    live = tmp_path / "live"
    live.mkdir()
    committed = 0
    try:
        with recorded(live) as events, monkeypatch.context() as patched:
            patched.setattr(near.Near, "_is_alone", lambda self, owner: owner is not None)
            patched.setattr(near, "Syncer", lambda path: LateSyncer(events, path))
            notes = tools(lambda name, item: events.append(Event("told", f"{name} {item}")))
            settings = load_settings(env={}, sets=[f"store_options.synchronous={synchronous}"])
            async with agent(say, store=f"sqlite:///{live}/lash.db", tools=notes, settings=settings) as lash:
                turn = await (await lash.session("s")).run("q", turn_id="t")
                assert turn.text == "Done."
                committed = len(events)
    except (OSError, AttributeError) as error:
        pytest.skip(f"SQLite's library can't be reached from here: {error}")
    monkeypatch.setattr(lease_row, "is_gone", lambda stamp: True)  # whoever held it did so before the power went
    begun = next(at for at, each in enumerate(events) if each.kind == "told")
    moments = {at + 1 for at, each in enumerate(events) if each.kind in ("sync", "told")} | set(range(0, committed, 5))
    again: Counter[str] = Counter()
    for number, at in enumerate(sorted(moments)):
        seed = number if number % 2 else None
        place = tmp_path / str(at)
        place.mkdir()
        for name, content in disk_at(events[:at], None if seed is None else Random(seed)).items():
            if not name.endswith("-shm"):
                (place / name).write_bytes(content)
        before = Counter(each.file for each in events[:at] if each.kind == "told")
        after: Counter[str] = Counter()
        notes = tools(lambda name, item, after=after: after.update([f"{name} {item}"]))  # type: ignore[misc]
        async with agent(say, store=f"sqlite:///{place}/lash.db", tools=notes) as lash:
            session = await lash.session("s", recover=False)
            stored = await lash.store.load_receipt("s", OperationId("turn", "t"))
            assert stored is not None or at < committed  # it was told as committed
            accepted = [item.source_key for item in await session.inbox()]
            assert begun >= at or stored or accepted == ["t"]  # nothing ran of what isn't there
            turn = await session.run("q", turn_id="t")
            assert turn.text == "Done."
            ran = before + after
            assert sum(ran.values()) - len(ran) <= at_most
            for name, times in ran.items():
                assert times == 1 or not name.startswith("pay"), (at, seed, name)
                again[name.split()[0]] += times - 1
            for call in turn.tool_calls:
                name = f"{call.tool_name} {call.args['item']}"
                failure = call.output.outcome if isinstance(call.output.outcome, ToolCallFailure) else None
                assert (failure is None) or (failure.code, call.tool_name) == ("unknown_after_crash", "pay")
                assert ran[name] or failure is not None
            assert [each.text for each in await session.messages() if each.text][-1:] == ["Done."]
    return again
