"""Forks of sessions: what they share, what they don't, and that they cost nothing."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from agents import agent
from attrs import frozen
from hook_kit import Plugin, Told, asked, opened

from lash_framework import Lash
from lash_framework.session import Session
from lash_framework.settings import load_settings
from lash_hookspecs import (
    Capability,
    CapabilityMissing,
    ConfigurationError,
    FrameSeed,
    SessionDeleted,
    SessionStateSpec,
    TokenUsage,
    TurnConflict,
    UnknownName,
    hookimpl,
)
from lash_plugin_provider_scripted import Reply


@frozen
class Count:
    turns: int = 0


class Counts(Plugin):
    """Counts a session's turns in its state, and notes how sessions were opened."""

    @hookimpl
    def lash_session_state(self) -> SessionStateSpec:
        return SessionStateSpec(state=Count)

    @hookimpl
    async def lash_before_turn(self, ctx: Any) -> None:
        ctx.set_state(Count(ctx.state.turns + 1))
        self.calls.append((ctx.session_id, ctx.state.turns))

    @hookimpl
    async def lash_session_opened(self, ctx: Any) -> None:
        self.calls.append((ctx.reason, ctx.session_id, ctx.state.turns))


async def said(session: Session) -> list[str]:
    return [each.text for each in await session.messages()]


async def test_a_fork_has_what_was_said_and_goes_on_by_itself() -> None:
    model = Told(["One.", "Mine.", "Theirs."])
    async with opened(says=model) as lash:
        session = await lash.session("one")
        await session.run("a", turn_id="t")
        fork = await session.fork("two")
        await session.run("b")
        assert await said(fork) == ["a", "One."]
        turn = await fork.run("c")
        assert "a\nOne.\nc" in asked(model)
        assert "b" not in asked(model).split()
        assert turn.state.turn_index == 2
        assert await said(session) == ["a", "One.", "b", "Mine."]
        assert await said(fork) == ["a", "One.", "c", "Theirs."]
        assert (await fork.usage()).total == turn.usage
        assert (await lash.store.load_meta("two")).parent_session_id == "one"  # type: ignore[union-attr]  # it is there
        assert {each.session_id for each in await lash.list_sessions()} == {"one", "two"}


@pytest.mark.statement(18, page="plugin-system")
async def test_what_a_plugin_changes_in_a_fork_is_not_seen_in_the_other() -> None:
    """A fork has an id and plugin states of its own, which begin as those of its session were."""
    plugin = Counts()
    async with opened(plugin, says=["Done."] * 5) as lash:
        session = await lash.session("one")
        await session.run("a")
        fork = await session.fork("two")
        await fork.run("b")
        await fork.run("c")
        await session.run("d")
    assert plugin.calls == [
        ("created", "one", 0),
        ("one", 1),
        ("forked", "two", 1),
        ("two", 2),
        ("two", 3),
        ("one", 2),
    ]


async def test_a_fork_of_an_earlier_turn_is_refused_where_plugins_remember_things(tmp_path: Any) -> None:
    """What they remembered then isn't kept; without it, what was said is all there is."""
    for plugins, kept in (((), True), ((Counts(),), False)):
        async with opened(*plugins, says=["Done."] * 3, store=f"sqlite:///{tmp_path}/{kept}.db") as lash:
            session = await lash.session("one")
            for number in range(3):
                await session.run(f"turn {number}", turn_id=f"t{number}")
            assert await said(await session.fork(at="t2")) == await said(session)
            if kept:
                fork = await session.fork("two", at="t0")
                assert await said(fork) == ["turn 0", "Done."]
                assert (await fork.run("again")).state.turn_index == 2
            else:
                with pytest.raises(ConfigurationError, match=r"what `plugin/mine` was then isn't kept: fork it where"):
                    await session.fork("two", at="t0")


async def test_a_fork_has_what_was_said_to_its_source_and_is_not_stored_yet() -> None:
    async with opened(says=["Done."]) as lash:
        session = await lash.session("one")
        await session.run("a")
        await session.configure(max_turns=3)
        fork = await session.fork()
        assert (fork.policy.max_turns, fork.id != "one") == (3, True)
        await fork.configure(max_turns=4)
        assert session.policy.max_turns == 3


@pytest.mark.statement(58, page="effects")
async def test_the_same_fork_again_is_the_same_session_and_another_one_is_refused() -> None:
    """Amended: who asks for the same again finds it, as a tool that runs again must; an id of another is refused."""
    async with opened(says=["Done."] * 3) as lash:
        session = await lash.session("one")
        with pytest.raises(ConfigurationError, match="nothing was committed on session `one`"):
            await session.fork("two")
        await session.run("a")
        fork = await session.fork("two")
        assert await session.fork("two") is fork
        await fork.run("b")
        assert await session.fork("two") is fork
        await session.run("c")
        with pytest.raises(ConfigurationError, match="there is a session `two`: choose another id"):
            await session.fork("two")
        with pytest.raises(ConfigurationError, match="there is a session `one`"):
            await session.fork("one")
        with pytest.raises(UnknownName, match="`one` has committed no such turn"):
            await session.fork(at="never")
        with pytest.raises(ConfigurationError, match="blank"):
            await session.fork(" ")
        with pytest.raises(ConfigurationError, match="`at` is"):
            await session.fork(at=1)  # type: ignore[arg-type]  # what a user may get wrong
        await lash.delete_session("two")
        with pytest.raises(SessionDeleted):
            await session.fork("two")


@pytest.mark.parametrize(("first", "other"), [("one", "two"), ("two", "one")])
async def test_whichever_is_deleted_the_other_one_is_whole(first: str, other: str) -> None:
    plugin = Counts()
    async with opened(plugin, says=["Done."] * 3) as lash:
        session = await lash.session("one")
        await session.run("a")
        sessions = {"one": session, "two": await session.fork("two")}
        await lash.delete_session(first)
        left = sessions[other]
        await left.run("b")
        assert await said(left) == ["a", "Done.", "b", "Done."]
        assert plugin.calls[-1] == (other, 2)


async def test_a_turn_that_was_said_before_the_fork_is_not_said_again() -> None:
    """The fork has no receipt of it, but has its messages: another turn of that id would have the same ids."""
    async with opened(says=["Done."] * 3) as lash:
        session = await lash.session("one")
        await session.run("a", turn_id="t")
        fork = await session.fork("two")
        with pytest.raises(TurnConflict, match=r"turn `t` .* before session `two` was forked; choose another turn id"):
            await fork.run("a", turn_id="t")
        await fork.run("b", turn_id="u")
        assert await said(fork) == ["a", "Done.", "b", "Done."]


class Compacts(Plugin):
    @hookimpl
    def lash_compact(self, ctx: Any) -> FrameSeed:
        return FrameSeed(messages=ctx.messages[-1:])


@pytest.mark.parametrize("gone", ["", "one", "two"])
async def test_a_turn_of_before_the_fork_is_known_behind_a_compaction(gone: str) -> None:
    """Its messages aren't loaded any more, and it ran again; what was said on the source since is its own."""
    async with opened(Compacts(), says=["Done."] * 9) as lash:
        session = await lash.session("one")
        for turn_id in ("t1", "t2"):
            await session.run("a", turn_id=turn_id)
        await session.compact()
        await (await session.fork("two")).run("b", turn_id="t3")
        await session.run("a", turn_id="later")
        two = await lash.session("two")
        await two.compact()
        fork = await two.fork("three")
        if gone:
            await lash.delete_session(gone)
        for turn_id in ("t1", "t3") if gone != "two" else ("t3",):
            with pytest.raises(TurnConflict, match="before session `three` was forked"):
                await fork.run("a", turn_id=turn_id)
        for _ in range(2):
            assert (await fork.run("a", turn_id="later")).text == "Done."


@pytest.mark.parametrize("gone_on", [0, 3])
async def test_a_fork_knows_how_full_the_window_is(gone_on: int) -> None:
    """It was compacted one turn too late, when its model may have had no room left; also a fork of a fork."""
    full: list[tuple[str, int]] = []

    class Looks(Plugin):
        @hookimpl
        def lash_compact(self, ctx: Any) -> None:
            full.append((ctx.session_id, ctx.context_tokens))

    sizes = iter((800, 5, 5, 5, 5))
    settings = load_settings(
        env={}, sets=['models."test:model".context_window=1000', "context.compact_at=0.5", "plugins.disabled=hello"]
    )

    def says(request: Any) -> Reply:
        return Reply(text="Done.", usage=TokenUsage(input=next(sizes)))

    async with agent(says, plugins=[Looks()], settings=settings) as lash:
        session = await lash.session("one")
        await session.run("a")
        fork = await (await session.fork("two")).fork("three")
        for _ in range(gone_on):
            await session.run("b")
        full.clear()
        await fork.run("c")
    assert full == [("three", 800)]


async def test_a_fork_does_not_take_the_place_of_a_session_that_is_open() -> None:
    """Whoever asked for it got that one: empty, and without a word."""
    async with opened(says=["Done."] * 3) as lash:
        session = await lash.session("one")
        await session.run("a")
        other = await lash.session("two")
        with pytest.raises(ConfigurationError, match="session `two` is open here, and nothing was committed on it"):
            await session.fork("two")
        assert await said(other) == []


async def test_a_fork_is_not_damaged_for_the_turns_that_it_shares(tmp_path: Any) -> None:
    """They have receipts where they ran; of its own none is missing, or it is told."""
    url = f"sqlite:///{tmp_path}/s.db"
    async with opened(says=["Done."] * 5, store=url) as lash:
        session = await lash.session("one")
        await session.run("a")
        fork = await session.fork("two")
        assert (await lash.load_history("two")).unreadable == ()
        for text in "bcd":
            await fork.run(text)
        history = await lash.load_history("two")
        assert (history.unreadable, len(history.turns), len(history.messages)) == ((), 3, 8)
    database = sqlite3.connect(tmp_path / "s.db")
    with database:
        database.execute("DELETE FROM receipts WHERE op_key = ?", (history.turns[1].turn_id,))
    database.close()
    async with opened(store=url) as lash:
        assert (await lash.load_history("two")).unreadable == ("1 of 3 turns are not in the store",)


async def test_a_store_that_can_not_fork_is_refused_by_name() -> None:
    async with opened(says=["Done."]) as lash:
        session = await lash.session("one")
        await session.run("a")
        lash.store.capabilities = frozenset(Capability) - {Capability.FORKS}  # type: ignore[misc]  # of this one
        with pytest.raises(CapabilityMissing, match=r"`session.fork` needs a store with the capability `forks`"):
            await session.fork("two")


async def test_a_fork_survives_its_host(tmp_path: Any) -> None:
    plugin, url = Counts(), f"sqlite:///{tmp_path}/s.db"
    async with opened(plugin, says=["Done."], store=url) as lash:
        session = await lash.session("one")
        await session.run("a")
        await session.fork("two")
    async with opened(plugin, says=["Done."], store=url) as lash:
        fork = await lash.session("two")
        await fork.run("b")
        assert await said(fork) == ["a", "Done.", "b", "Done."]
    assert plugin.calls[-2:] == [("opened", "two", 1), ("two", 2)]


def statements_of_a_fork(lash: Lash) -> list[str]:
    seen: list[str] = []
    lash.store.on_statement(lambda sql, *_: seen.append(" ".join(sql.split())[:30]))  # type: ignore[attr-defined]  # SQL only
    return seen


async def test_a_fork_costs_the_same_at_any_length_of_history() -> None:
    counted = []
    for turns in (1, 20):
        async with opened(Counts(), says=["Done."] * 20) as lash:
            session = await lash.session("one")
            for number in range(turns):
                await session.run(f"turn {number}")
            seen = statements_of_a_fork(lash)
            await session.fork("two")
            counted.append(seen)
    assert counted[0] == counted[1]
    assert sum(each.startswith("INSERT") for each in counted[0]) == 4  # itself, its base, components, config
