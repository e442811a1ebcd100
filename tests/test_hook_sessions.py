"""Hooks of sessions: their policy, its changes, and their opening."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve
from hook_kit import Plugin, Told, file_store, opened

from lash_hookspecs import SessionPolicy, SessionStateSpec, hookimpl

# ---- lash_session_config --------------------------------------------------------------------------------------------


class Limit(Plugin):
    """Sets the limit of iterations, and notes the policies that it got."""

    limit: int | None = 7

    @hookimpl
    async def lash_session_config(self, ctx: Any, policy: SessionPolicy) -> SessionPolicy | None:
        self.calls.append((ctx.session_id, policy.max_turns))
        return None if self.limit is None else evolve(policy, max_turns=self.limit)


async def test_hook_lash_session_config_changes_the_policy_at_opening_and_at_every_change() -> None:
    plugin = Limit()
    async with opened(plugin) as lash:
        session = await lash.session("one", max_turns=3)
        assert session.policy.max_turns == 7
        assert (await session.configure(max_turns=4)).max_turns == 7
        assert session.policy.max_turns == 7
    assert plugin.calls == [("one", 3), ("one", 4)]


async def test_hook_lash_session_config_is_a_chain_in_the_order_of_the_plugins() -> None:
    class Keep(Limit):
        limit = None

    first, second, third = Limit("a"), Keep("b"), Limit("c")
    third.limit = 9
    async with opened(first, second, third) as lash:
        session = await lash.session("one", max_turns=1)
    assert [plugin.calls for plugin in (first, second, third)] == [[("one", 1)], [("one", 7)], [("one", 7)]]
    assert session.policy.max_turns == 9


async def test_hook_lash_session_config_shapes_the_turns_that_follow() -> None:
    class Other(Plugin):
        @hookimpl
        def lash_session_config(self, policy: SessionPolicy) -> SessionPolicy:
            return evolve(policy, model="told:other").with_instructions("Rhyme.")

    model = Told(["Done."])
    async with opened(Other(), says=model) as lash:
        await (await lash.session("one")).run("Hello")
    (request,) = model.requests
    assert request.model == "other"
    assert "Rhyme." in request.messages[0].blocks[0].text


@pytest.mark.parametrize("fault", ["raises", "returns something else"])
async def test_hook_lash_session_config_that_raises_is_warned_of_and_passed_over(
    fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Bad(Plugin):
        @hookimpl
        async def lash_session_config(self) -> Any:
            if fault == "raises":
                raise RuntimeError("it is broken")
            return "gpt-5"

    with caplog.at_level(logging.WARNING):
        async with opened(Limit("a"), Bad("b")) as lash:
            session = await lash.session("one")
            assert session.policy.max_turns == 7
            assert (await session.run("Hello")).is_success
    assert "plugin `b`, hook `lash_session_config`" in caplog.text


# ---- lash_session_config_changed ------------------------------------------------------------------------------------


class Watch(Plugin):
    @hookimpl
    async def lash_session_config_changed(self, ctx: Any, previous: SessionPolicy, current: SessionPolicy) -> None:
        self.calls.append((previous.max_turns, current.max_turns, ctx.policy.max_turns))


@pytest.mark.statement(28, page="plugin-system")
async def test_hook_lash_session_config_changed_is_told_once_per_change() -> None:
    """One event for each change, and none where nothing changed."""
    plugin = Watch()
    async with opened(plugin) as lash:
        session = await lash.session("one", max_turns=3)
        assert plugin.calls == []
        await session.configure(max_turns=5)
        await session.configure(max_turns=5)
        await session.configure(max_turns=6)
    assert plugin.calls == [(3, 5, 5), (5, 6, 6)]


async def test_hook_lash_session_config_changed_sees_what_plugins_made_of_it() -> None:
    plugin = Watch("watch")
    async with opened(plugin, Limit("limit")) as lash:
        session = await lash.session("one", max_turns=3)
        await session.configure(max_turns=5)
    assert plugin.calls == [(3, 7, 7)]  # at opening; after that the limit makes no change of it


async def test_hook_lash_session_config_changed_comes_also_when_a_known_session_is_asked_for_differently() -> None:
    plugin = Watch()
    async with opened(plugin) as lash:
        session = await lash.session("one", max_turns=3)
        assert await lash.session("one", max_turns=4) is session
    assert plugin.calls == [(3, 4, 4)]


async def test_hook_lash_session_config_changed_that_raises_is_an_issue_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Bad(Plugin):
        @hookimpl
        async def lash_session_config_changed(self) -> None:
            raise RuntimeError("it is broken")

    watch = Watch("z")
    with caplog.at_level(logging.WARNING):
        async with opened(Bad("a"), watch) as lash:
            session = await lash.session("one", max_turns=3)
            await session.configure(max_turns=5)
            assert session.policy.max_turns == 5
    assert watch.calls == [(3, 5, 5)]
    assert "plugin `a`, hook `lash_session_config_changed`" in caplog.text
    assert "it is broken" in caplog.text


# ---- lash_session_opened --------------------------------------------------------------------------------------------


class Door(Plugin):
    @hookimpl
    async def lash_session_opened(self, ctx: Any) -> None:
        self.calls.append((ctx.session_id, ctx.reason, ctx.turn_index, ctx.mode_id, ctx.plugin_id))


async def test_hook_lash_session_opened_says_created_and_then_opened(tmp_path: Path) -> None:
    store, first, second = file_store(tmp_path), Door(), Door()
    async with opened(first, store=store) as lash:
        session = await lash.session("one")
        assert await lash.session("one") is session
        await session.run("Hello")
    async with opened(second, store=store) as lash:
        await lash.session("one")
    assert first.calls == [("one", "created", 0, "standard", "mine")]
    assert second.calls == [("one", "opened", 1, "standard", "mine")]


async def test_hook_lash_session_opened_finds_the_state_restored(tmp_path: Path) -> None:
    from attrs import frozen

    @frozen
    class Count:
        turns: int = 0

    class Remembering(Door):
        @hookimpl
        def lash_session_state(self) -> SessionStateSpec:
            return SessionStateSpec(state=Count)

        @hookimpl
        async def lash_session_opened(self, ctx: Any) -> None:
            self.calls.append(ctx.state)

        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> None:
            ctx.set_state(Count(ctx.state.turns + 1))

    store, plugins = file_store(tmp_path), [Remembering(), Remembering()]
    for plugin in plugins:
        async with opened(plugin, store=store) as lash:
            await (await lash.session("one")).run("Hello")
    assert [plugin.calls for plugin in plugins] == [[Count(0)], [Count(1)]]


async def test_hook_lash_session_opened_that_raises_is_an_issue_and_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Bad(Plugin):
        @hookimpl
        async def lash_session_opened(self) -> None:
            raise RuntimeError("it is broken")

    door = Door("z")
    with caplog.at_level(logging.WARNING):
        async with opened(Bad("a"), door) as lash:
            assert (await (await lash.session("one")).run("Hello")).is_success
    assert [call[0] for call in door.calls] == ["one"]
    assert "plugin `a`, hook `lash_session_opened`" in caplog.text


async def test_hook_lash_session_opened_observers_run_at_the_same_time() -> None:
    """Each waits for the other: one after the other they would never end."""
    here, there = anyio.Event(), anyio.Event()

    class Meeting(Plugin):
        @hookimpl
        async def lash_session_opened(self) -> None:
            mine, other = (here, there) if self.info.id == "a" else (there, here)
            mine.set()
            await other.wait()
            self.calls.append("met")

    first, second = Meeting("a"), Meeting("b")
    with anyio.fail_after(10):
        async with opened(first, second) as lash:
            await lash.session("one")
    assert (first.calls, second.calls) == (["met"], ["met"])
