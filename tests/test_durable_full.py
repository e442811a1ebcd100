"""A store that fails for a while, as a full disk does: what a turn leaves then, and what is known of it afterwards."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from agents import CutModel, agent

import lash_framework.begun_turn
from lash_framework import Lash
from lash_hookspecs import (
    CommitRefused,
    ConfigurationError,
    LlmRequest,
    StoreUnavailable,
    ToolCallContext,
    TurnBlocked,
    TurnSuspended,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

WRITES = ("append_journal", "begin_turn", "commit", "park_turn", "release_lease", "renew_lease")


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'lash.db'}"


class Disk:
    """The disk of a host's store: while it `is_full`, no write succeeds. `let_go` says that a lease was released."""

    def __init__(self, lash: Lash) -> None:
        self.store: Any = lash.require_journal("this test").store
        self.is_full = False
        self.let_go = anyio.Event()
        for name in WRITES:
            setattr(self.store, name, self._refusing(name, getattr(self.store, name)))

    def _refusing(self, name: str, write: Any) -> Any:
        async def refusing(*args: Any, **options: Any) -> Any:
            if self.is_full:
                raise StoreUnavailable("the disk is full")
            done = await write(*args, **options)
            if name == "release_lease":
                self.let_go.set()
            return done

        return refusing


class Model:
    """Calls a tool, and says that it did; `full_after` so many replies, the disk is full once."""

    def __init__(self, full_after: int) -> None:
        self.asked = 0
        self.disk: Disk | None = None
        self._full_after = full_after

    def say(self, request: LlmRequest) -> Reply | str:
        self.asked += 1
        if self.asked == self._full_after and self.disk is not None:
            self.disk.is_full = True
        said = any(message.role == "assistant" for message in request.messages)
        return "Done." if said else Reply(tool_calls=[Call("look", {}, "c")])


@tool(effect="pure")
async def look() -> str:
    "Look."
    return "seen"


@pytest.mark.parametrize("full_after", [1, 2])
@pytest.mark.parametrize("who", ["the same host", "another host"])
async def test_a_reply_that_a_full_disk_lost_makes_the_usage_at_least(
    who: str, full_after: int, tmp_path: Path
) -> None:
    """It was paid, and is paid again; but nobody had died, so the total was told as if it were all.

    The lease is let go of as soon as there is room, without anybody's doing: it had stayed for its whole time.
    """
    model, url = Model(full_after), url_in(tmp_path)
    async with agent(model.say, store=url, tools=[look]) as lash, agent(model.say, store=url, tools=[look]) as other:
        model.disk = disk = Disk(lash)
        session = await lash.session("s")
        with pytest.raises(StoreUnavailable):
            await session.run("q", turn_id="t")
        assert await disk.store.load_lease("s") is not None
        disk.is_full = False
        if who == "another host":
            with anyio.fail_after(20):  # a bound: it takes a quarter of a second
                await disk.let_go.wait()
            session = await other.session("s", recover=False)
        (recovered,) = await session.recover()
        assert (recovered.turn.text, model.asked) == ("Done.", 3)
        assert recovered.turn.usage.at_least
        assert recovered.turn.usage.total == 2 * 15
        assert await disk.store.load_lease("s") is None


async def test_whose_lease_is_still_to_be_released_can_do_anything_with_the_session(tmp_path: Path) -> None:
    model = Model(1)
    async with agent(model.say, store=url_in(tmp_path), tools=[look]) as lash:
        model.disk = disk = Disk(lash)
        with pytest.raises(StoreUnavailable):
            await (await lash.session("s")).run("q", turn_id="t")
        disk.is_full = False
        assert await lash.delete_session("s")


async def test_what_is_owed_of_a_session_that_somebody_else_took_is_nothing(tmp_path: Path) -> None:
    """Its lease had lapsed meanwhile, and who followed was told of that."""
    model, url = Model(1), url_in(tmp_path)
    async with agent(model.say, store=url, tools=[look]) as lash, agent(model.say, store=url, tools=[look]) as other:
        model.disk = disk = Disk(lash)
        session = await lash.session("s")
        successor: Any = other.require_journal("this test").store
        with pytest.raises(StoreUnavailable):
            await session.run("q", turn_id="t")
        now_ms = successor._now_ms
        successor._now_ms = lambda: now_ms() + 3_600_000
        (recovered,) = await (await other.session("s", recover=False)).recover()
        assert recovered.turn.usage.at_least
        disk.is_full = False
        assert (await session.run("And?")).text == "Done."


async def test_a_disk_that_fails_when_a_turn_is_begun_leaves_no_lease(tmp_path: Path) -> None:
    """The turn's beginning is written, and then the disk is set to it: who failed there held the session."""
    url = url_in(tmp_path)
    async with agent(["Done."], store=url) as lash, agent(["Done."], store=url) as other:
        store: Any = lash.require_journal("this test").store
        sync = store.sync

        async def fails(**options: Any) -> None:
            store.sync = sync
            raise StoreUnavailable("the disk failed")

        store.sync = fails
        with pytest.raises(StoreUnavailable):
            await (await lash.session("s")).run("q", turn_id="t")
        assert await store.load_lease("s") is None
        (recovered,) = await (await other.session("s", recover=False)).recover()
        assert (recovered.turn.text, recovered.turn.usage.at_least) == ("Done.", False)


async def test_a_reply_that_the_store_refuses_makes_the_usage_at_least(tmp_path: Path) -> None:
    """It was paid, and the turn is left to another attempt, which pays it again."""
    model = Model(0)
    async with agent(model.say, store=url_in(tmp_path), tools=[look]) as lash:
        store: Any = lash.require_journal("this test").store
        append, refused = store.append_journal, False

        async def refuses(*args: Any, **options: Any) -> None:
            nonlocal refused
            if model.asked and not refused:
                refused = True
                raise CommitRefused("integer_range", "too large a number")
            await append(*args, **options)

        store.append_journal = refuses
        session = await lash.session("s")
        with pytest.raises(CommitRefused):
            await session.run("q", turn_id="t")
        (recovered,) = await session.recover(force=True)
        assert (recovered.turn.text, model.asked) == ("Done.", 3)
        assert recovered.turn.usage.at_least


@pytest.mark.parametrize("fault", ["the disk isn't set to its beginning", "it can't be read"])
async def test_a_death_is_known_also_behind_an_attempt_that_came_to_nothing(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is told of a death, and ends before a record can be written, passes it on."""
    model, copy = CutModel("Next.", waits_after="Half an "), tmp_path / "killed"
    copy.mkdir()
    async with agent(model, store=url_in(tmp_path)) as lash, anyio.create_task_group() as group:
        session = await lash.session("s")
        group.start_soon(lambda: session.run("q", turn_id="t"))
        await model.reached.wait()
        for each in tmp_path.glob("lash.db*"):
            shutil.copy(each, copy)
        group.cancel_scope.cancel()
    async with agent(["Done."], store=url_in(copy)) as lash:
        store: Any = lash.require_journal("this test").store
        now_ms, sync = store._now_ms, store.sync
        store._now_ms = lambda: now_ms() + 3_600_000  # the lease of who died has lapsed
        session = await lash.session("s", recover=False)
        with monkeypatch.context() as patched:
            if fault == "it can't be read":

                def fails(*_: Any) -> None:
                    raise ConfigurationError("a tool is missing")

                patched.setattr(lash_framework.begun_turn, "what_was_accepted", fails)
            else:

                async def fails_once(**options: Any) -> None:
                    store.sync = sync
                    raise StoreUnavailable("the disk failed")

                store.sync = fails_once
            with pytest.raises((TurnBlocked, StoreUnavailable)):
                await session.recover()
        (recovered,) = await session.recover()
        assert (recovered.turn.text, recovered.turn.usage.at_least) == ("Done.", True)


async def test_a_host_that_closes_releases_what_it_owes(tmp_path: Path) -> None:
    """The disk has room again, but nobody is left to look."""
    url = url_in(tmp_path)
    async with agent(["Done."], store=url) as other:
        async with agent(["Done."], store=url) as lash:
            await (await lash.session("s")).run("q")
            disk = Disk(lash)
            async with lash.require_journal("this test").lease("s"):
                disk.is_full = True
            disk.is_full = False
        store: Any = other.require_journal("this test").store
        assert await store.load_lease("s") is None


# ---- cancelled meanwhile --------------------------------------------------------------------------------------------

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""trio has no cancel that isn't a scope's."""


@on_asyncio
async def test_a_task_that_is_cancelled_while_a_lease_is_released_stays_cancelled(tmp_path: Path) -> None:
    """The store failed then, which was told, and the cancel with it: what came behind the lease was done."""
    async with agent(["Done."], store=url_in(tmp_path)) as lash:
        await (await lash.session("s")).run("q")
        journalling = lash.require_journal("this test")
        store: Any = journalling.store
        release, went_on = store.release_lease, False

        async def fails(lease: Any) -> None:
            if not task.cancelling():
                task.cancel()
                await anyio.lowlevel.checkpoint()
            raise StoreUnavailable("the disk is full")

        async def work() -> None:
            nonlocal went_on
            async with journalling.lease("s"):
                store.release_lease = fails
            went_on = True

        task = asyncio.ensure_future(work())
        with pytest.raises(asyncio.CancelledError):
            await task
        store.release_lease = release
        assert not went_on


@on_asyncio
async def test_a_task_that_is_cancelled_while_its_turn_is_parked_holds_no_session(tmp_path: Path) -> None:
    """The cancel came out in place of the failure, for which the lease would have been let go of."""

    @tool(may_defer=True)
    async def ask(ctx: ToolCallContext) -> str:
        "Ask somebody."
        return ctx.defer()

    async with agent([Reply(tool_calls=[Call("ask", {}, "c")])], store=url_in(tmp_path), tools=[ask]) as lash:
        store: Any = lash.require_journal("this test").store
        park = store.park_turn

        async def cancelled(*args: Any, **options: Any) -> None:
            store.park_turn = park
            task.cancel()
            await anyio.lowlevel.checkpoint()

        store.park_turn = cancelled
        task = asyncio.ensure_future((await lash.session("s")).run("q", turn_id="t"))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await store.load_lease("s") is None


# ---- can't be parked ------------------------------------------------------------------------------------------------


async def test_a_turn_that_waits_and_can_not_be_parked_holds_no_session(tmp_path: Path) -> None:
    """Whoever goes on finds the same: it waits."""

    @tool(may_defer=True)
    async def ask(ctx: ToolCallContext) -> str:
        "Ask somebody."
        return ctx.defer()

    def say(request: LlmRequest) -> Reply:
        return Reply(tool_calls=[Call("ask", {}, "c")])

    url = url_in(tmp_path)
    async with agent(say, store=url, tools=[ask]) as lash, agent(say, store=url, tools=[ask]) as other:
        store: Any = lash.require_journal("this test").store
        park = store.park_turn

        async def fails(*args: Any, **options: Any) -> None:
            store.park_turn = park
            raise StoreUnavailable("the disk is full")

        store.park_turn = fails
        with pytest.raises(TurnSuspended):
            await (await lash.session("s")).run("q", turn_id="t")
        assert await store.load_lease("s") is None
        with pytest.raises(TurnSuspended):
            await (await other.session("s", recover=False)).recover()
