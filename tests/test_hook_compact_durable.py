"""Compactions that are killed, replayed, or nobody wants: done once, and for nothing where there is nothing to do."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent
from context_kit import COMPACT, Compactor, View, small, talk
from hook_kit import Told, file_store, opened
from meter_kit import Meter, metered_store
from test_replay import Records

from lash_framework import Lash, lease_keeper
from lash_framework.settings import load_settings
from lash_framework.testing import Crash, crash_at_every_effect
from lash_hookspecs import (
    AppendSessionNodesRequest,
    ConfigurationError,
    SessionAppendNode,
    TurnBlocked,
    TurnInput,
    hookimpl,
)


def _settings(*sets: str) -> Any:
    return load_settings(env={}, cwd=Path("/"), sets=[*sets])


def host(url: str, compactors: list[Compactor], limit: int = 4) -> Any:
    compactors.append(Compactor())
    plugins = [compactors[-1], Told(small(limit))]
    return Lash.open(url, settings=_settings(), plugins=plugins, model="told:model")


async def history_in(folder: Path) -> Callable[[Path], str]:
    """A database with a conversation, and copies of it."""
    async with host(file_store(folder), []) as lash:
        session = await lash.session("crash")
        nodes = tuple(SessionAppendNode.user(f"u{at}", f"said {at}") for at in range(6))
        await session.append(AppendSessionNodesRequest(operation_id="a", nodes=nodes))

    def copied(to: Path) -> str:
        for each in folder.glob("sessions.db*"):
            shutil.copy(each, to / each.name)
        return file_store(to)

    return copied


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("prompt", [COMPACT, TurnInput.text("go")], ids=["asked for", "overflow"])
async def test_killed_anywhere_a_session_is_compacted_once(prompt: TurnInput, tmp_path: Path) -> None:
    def whole(crash: Crash) -> None:
        ending = crash.ending
        assert ending.turn.compaction is not None
        assert [each.text for each in ending.messages].count("SUMMARY") == 1
        assert [each.scope for each in ending.receipts] == ["turn", "append"]
        recorded = {row.kind for row in ending.rows}
        if recorded & {"compact"} or (recorded and prompt == COMPACT):
            assert compactors[-1].calls == []  # the survivor has it from the record

    compactors: list[Compactor] = []
    database = await history_in(tmp_path)
    report = await crash_at_every_effect(
        lambda url: host(url, compactors),
        prompt,
        points=lambda point: point.kind in ("effect", "store"),  # statements are those of any other turn
        checks=[whole],
        database=database,
    )
    assert report.unreached == ()
    assert ("after effect compact 2 of iteration 0" in map(str, report.trace)) is (prompt != COMPACT)


async def test_a_recorded_compaction_is_not_asked_for_again(tmp_path: Path) -> None:
    """The second process goes on behind the record: with another compactor, which is never called."""

    async def run(compactor: Compactor, records: Records) -> tuple[Any, bytes, list[str]]:
        async with opened(compactor, says=Told(small(4))) as lash:
            lash.journalling, lash.effects = None, records
            session = await lash.session("s")
            nodes = tuple(SessionAppendNode.user(f"u{at}", "x") for at in range(5))
            await session.append(AppendSessionNodesRequest(operation_id="a", nodes=nodes))
            turn = await session.run("go", turn_id="t")
            receipt = (await lash.store.list_receipts("s", limit=1))[0]
            return turn, receipt.result, list(receipt.node_ids)

    whole = Records()
    turn, committed, nodes = await run(Compactor(), whole)
    assert turn.compaction.reason == "overflow"
    begun, asked_over = ["turn_start", "llm_call"], ["llm_call", "checkpoint", "turn_end"]
    assert whole.ran == [*begun, "compact", *asked_over]
    for length in range(len(whole.ran) + 1):
        left, other = whole.up_to(length), Compactor()
        _, again, same = await run(other, left)
        assert same == nodes
        assert len(other.calls) == (length <= whole.ran.index("compact"))
        assert left.ran == whole.ran[length:]
    assert again == committed


async def test_a_committed_turn_that_compacted_replays_to_the_same_bytes(tmp_path: Path) -> None:
    plugins = [Compactor(), Told(small(4))]
    settings = _settings("durability.keep_journal_h=1")
    async with Lash.open(file_store(tmp_path), settings=settings, plugins=plugins, model="told:model") as lash:
        session = await lash.session("s")
        nodes = tuple(SessionAppendNode.user(f"u{at}", "x") for at in range(5))
        await session.append(AppendSessionNodesRequest(operation_id="a", nodes=nodes))
        for turn_id in ("overflows", "fits"):
            assert (await session.run("go", turn_id=turn_id)).is_success
        assert await session.compact(turn_id="asked") is not None
        assert (await session.run("go", turn_id="after")).is_success
        for turn_id in ("overflows", "fits", "asked", "after"):
            replayed = await lash.replay(turn_id)
            assert replayed.differences == (), turn_id


async def test_a_compaction_whose_plugin_is_gone_waits_for_it(tmp_path: Path) -> None:
    """Done without it, it would have done nothing, and nobody would know."""
    store, began = file_store(tmp_path), anyio.Event()

    class Slow(Compactor):
        @hookimpl
        async def lash_compact(self, ctx: Any) -> Any:
            began.set()
            await anyio.sleep_forever()

    async with opened(Slow(), says=["one"], store=store) as lash:
        session = await talk(lash, "first")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.compact)
            await began.wait()
            tasks.cancel_scope.cancel()
    async with opened(store=store) as lash:
        session = await lash.session("s", recover=False)
        with pytest.raises(TurnBlocked, match="has no plugin that compacts: add one with the hook `lash_compact`"):
            await session.recover()
    async with opened(Compactor(), store=store) as lash:
        session = await lash.session("s")
        assert [each.text for each in await session.messages()] == ["SUMMARY"]


async def test_without_a_journal_a_session_is_compacted_too(tmp_path: Path) -> None:
    inline = "[durability]\neffects = 'inline'\n"
    squeeze = Compactor()
    async with opened(squeeze, says=["one"], toml=inline, folder=tmp_path) as lash:
        session = await talk(lash, "first")
        assert await session.compact() is not None
        assert [each.text for each in await session.messages()] == ["SUMMARY"]
    async with opened(says=["one"], toml=inline, folder=tmp_path) as lash:
        session = await talk(lash, "first")
        with pytest.raises(ConfigurationError, match="has no plugin that compacts"):
            await session.compact()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # counts are the same on every event loop
async def test_plugins_that_have_nothing_to_say_cost_no_statement_and_no_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does the next turn's cost grow with a frame that was left."""
    monkeypatch.setattr(lease_keeper, "LOOK_S", 1000.0)  # no look after the lease falls into a turn that is metered
    settings = _settings("durability.lease_ttl_s=1000000")

    async def second_turn(*plugins: object, before: int = 1, compacted: bool = False) -> tuple[Any, list[str]]:
        meter, records = Meter(), Records()
        options = {"store": "metered://", "plugins": [metered_store(meter), *plugins], "settings": settings}
        async with agent(lambda request: "ok", **options) as lash:
            session = await lash.session("s")
            for turn in range(before):
                await session.run(f"said {turn}")
            if compacted:
                await session.compact()
            meter.reading()
            await session.run("go")
            statements, _ = meter.reading()
            lash.journalling, lash.effects = None, records
            await session.run("go again")
        return statements, records.ran

    idle = View(lambda ctx, prepared: None), Compactor(lambda ctx: None)
    usual = await second_turn()
    assert await second_turn(*idle) == usual
    assert await second_turn(Compactor(), before=12, compacted=True) == await second_turn(Compactor(), compacted=True)
