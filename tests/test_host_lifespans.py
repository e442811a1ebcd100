"""What plugins hold for a host: entered once, at first use, whoever asks; left in reverse order, whatever happens."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from host_kit import MODE, host, plugin

from lash_framework.host import PluginHost
from lash_framework.lifespans import Held, Lifespans
from lash_hookspecs import ConfigurationError, HostContext, Mode, PluginError

Log = list[str]


def lifespan(log: Log, *, gate: anyio.Event | None = None) -> Callable[[HostContext], Any]:
    """A lifespan that notes its start and its end; it waits for `gate` in between."""

    @asynccontextmanager
    async def lash_lifespan(host: HostContext) -> AsyncIterator[str]:
        log.append(f"enter {host.plugin_id}")
        if gate is not None:
            await gate.wait()
        try:
            yield f"held by {host.plugin_id}"
        finally:
            await anyio.lowlevel.checkpoint()
            log.append(f"leave {host.plugin_id}")

    return lash_lifespan


def holding(log: Log, *plugin_ids: str, **options: Any) -> PluginHost:
    return host(*(plugin(each, lifespan=lifespan(log)) for each in plugin_ids), **options)


async def test_a_lifespan_is_entered_at_first_use_and_left_in_reverse_order() -> None:
    log: Log = []
    mine = holding(log, "a", "b")
    async with mine.run():
        composition = mine.composition("base")
        assert log == []
        assert await mine.enter(composition) == {"a": "held by a", "b": "held by b"}
        assert await mine.enter(composition) == {"a": "held by a", "b": "held by b"}
        assert log == ["enter a", "enter b"]
    assert log == ["enter a", "enter b", "leave b", "leave a"]


async def test_a_composition_enters_only_its_own_plugins() -> None:
    log: Log = []
    mine = holding(log, "a", "b", modes=[MODE, Mode(mode_id="small", extends="base", without=("a",))])
    async with mine.run():
        assert list(await mine.enter(mine.composition("small"))) == ["b"]
        assert list(await mine.enter(mine.composition("base"))) == ["a", "b"]
    assert log == ["enter b", "enter a", "leave a", "leave b"]


async def test_many_first_users_at_once_enter_once() -> None:
    log: Log = []
    gate = anyio.Event()
    mine = host(plugin("a", lifespan=lifespan(log, gate=gate)))
    values: list[object] = []

    async def use() -> None:
        values.append((await mine.enter(mine.composition("base")))["a"])

    async with mine.run():
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(use)
            await anyio.wait_all_tasks_blocked()
            gate.set()
        assert values == ["held by a"] * 5
    assert log == ["enter a", "leave a"]


async def test_a_first_user_that_gives_up_does_not_take_it_away_from_the_next() -> None:
    log: Log = []
    gate = anyio.Event()
    mine = host(plugin("a", lifespan=lifespan(log, gate=gate)))
    async with mine.run():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mine.enter, mine.composition("base"))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        gate.set()
        assert await mine.enter(mine.composition("base")) == {"a": "held by a"}
    assert log == ["enter a", "leave a"]


async def test_a_lifespan_may_hold_task_groups_and_cancel_scopes() -> None:
    """They must be left in the task that entered them, which is neither the first user's nor the closer's."""
    beats = anyio.Event()

    @asynccontextmanager
    async def lash_lifespan(host: HostContext) -> AsyncIterator[anyio.abc.TaskGroup]:
        async def beat() -> None:
            beats.set()
            await anyio.sleep_forever()

        with anyio.CancelScope():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(beat)
                yield tasks
                tasks.cancel_scope.cancel()

    mine = host(*(plugin(each, lifespan=lash_lifespan) for each in "abc"))
    async with mine.run():
        async with anyio.create_task_group() as users:
            for _ in range(3):
                users.start_soon(mine.enter, mine.composition("base"))
        with anyio.fail_after(10):
            await beats.wait()
        async with anyio.create_task_group() as closer:
            closer.start_soon(mine.aclose)


async def test_what_fails_to_start_fails_its_users_and_is_tried_again() -> None:
    attempts: list[int] = []

    @asynccontextmanager
    async def lash_lifespan() -> AsyncIterator[int]:
        attempts.append(1)
        await anyio.lowlevel.checkpoint()
        if len(attempts) == 1:
            raise OSError("database is down")
        yield len(attempts)

    log: Log = []
    mine = host(plugin("a", lifespan=lifespan(log)), plugin("b", lifespan=lash_lifespan))
    async with mine.run():
        errors: list[PluginError] = []

        async def use() -> None:
            try:
                await mine.enter(mine.composition("base"))
            except PluginError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(use)
            tasks.start_soon(use)
        assert [str(each) for each in errors] == [
            "plugin `b`, hook `lash_lifespan`: it failed to start: OSError: database is down"
        ] * 2
        assert isinstance(errors[0].__cause__, OSError)
        assert await mine.enter(mine.composition("base")) == {"a": "held by a", "b": 2}
    assert log == ["enter a", "leave a"]


@pytest.mark.parametrize("when", ["starts", "closes"])
async def test_a_plugin_that_ends_the_program_has_failed(when: str) -> None:
    """`sys.exit()` in a lifespan ended the event loop, with the host and all its turns."""

    @asynccontextmanager
    async def lash_lifespan() -> AsyncIterator[None]:
        if when == "starts":
            raise SystemExit("no license")
        yield
        raise SystemExit("no license")

    log: Log = []
    mine = host(plugin("a", lifespan=lifespan(log)), plugin("b", lifespan=lash_lifespan))
    if when == "starts":
        async with mine.run():
            with pytest.raises(PluginError, match=r"plugin `b`.*: it failed to start: SystemExit: no license"):
                await mine.enter(mine.composition("base"))
    else:
        with pytest.raises(ExceptionGroup) as caught:
            async with mine.run():
                await mine.enter(mine.composition("base"))
        assert "plugin `b`, hook `lash_lifespan`: closing it failed: SystemExit" in str(caught.value.exceptions)
    assert log == ["enter a", "leave a"]


@pytest.mark.parametrize("wrong", [lambda host: 1 / 0, lambda host: "no manager"], ids=["raises", "no manager"])
async def test_what_is_no_lifespan_fails_its_users(wrong: Callable[..., Any]) -> None:
    mine = host(plugin("a", lifespan=wrong))
    async with mine.run():
        with pytest.raises(PluginError, match="plugin `a`, hook `lash_lifespan`: it failed to start"):
            await mine.enter(mine.composition("base"))


def failing_to_close(text: str) -> Callable[[], Any]:
    @asynccontextmanager
    async def lash_lifespan() -> AsyncIterator[None]:
        yield
        raise OSError(text)

    return lash_lifespan


@pytest.mark.statement(23, page="plugin-system")
async def test_errors_of_closing_are_grouped_and_stop_nobody_from_closing() -> None:
    """23: every lifespan is left, in reverse order, whatever another one raises."""
    log: Log = []
    mine = host(
        plugin("a", lifespan=failing_to_close("one")),
        plugin("b", lifespan=lifespan(log)),
        plugin("c", lifespan=failing_to_close("two")),
    )
    with pytest.raises(ExceptionGroup) as caught:
        async with mine.run():
            await mine.enter(mine.composition("base"))
    assert [str(each) for each in caught.value.exceptions] == [
        "plugin `c`, hook `lash_lifespan`: closing it failed: OSError: two",
        "plugin `a`, hook `lash_lifespan`: closing it failed: OSError: one",
    ]
    assert log == ["enter b", "leave b"]


async def test_what_the_body_raises_comes_out_as_it_is() -> None:
    """Without the group that task groups wrap it in, and in spite of errors of closing."""
    cause = KeyError("cause")
    error = ValueError("body")
    mine = host(plugin("a", lifespan=failing_to_close("hidden")))

    async def fail() -> None:
        async with mine.run():
            await mine.enter(mine.composition("base"))
            raise error from cause

    with pytest.raises(ValueError, match="body") as caught:
        await fail()
    assert caught.value is error
    assert caught.value.__cause__ is cause


async def test_a_group_that_the_body_raises_stays_that_group() -> None:
    group = ExceptionGroup("mine", [ValueError(), KeyError()])

    async def fail() -> None:
        async with host().run():
            raise group

    with pytest.raises(ExceptionGroup) as caught:
        await fail()
    assert caught.value is group


async def test_a_cancelled_host_still_closes_in_order_and_completely() -> None:
    """The cleanup suspends; if the cancellation reached it, it would not get past its first `await`."""
    log: Log = []
    mine = holding(log, "a", "b")

    async def run() -> None:
        async with mine.run():
            await mine.enter(mine.composition("base"))
            await anyio.sleep_forever()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert log == ["enter a", "enter b", "leave b", "leave a"]


async def test_closing_while_somebody_still_waits_for_the_start_ends_both() -> None:
    gate = anyio.Event()
    mine = host(plugin("a", lifespan=lifespan([], gate=gate)))
    errors: list[PluginError] = []

    async def use() -> None:
        try:
            await mine.enter(mine.composition("base"))
        except PluginError as error:
            errors.append(error)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks, mine.run():
            tasks.start_soon(use)
            await anyio.wait_all_tasks_blocked()
    assert [str(each).rpartition(": ")[2] for each in errors] == ["the host was closed before it was ready"]


async def test_what_takes_too_long_to_close_is_cancelled_and_named() -> None:
    log: Log = []

    @asynccontextmanager
    async def lash_lifespan() -> AsyncIterator[None]:
        yield
        await anyio.sleep_forever()

    mine = host(plugin("a", lifespan=lifespan(log)), plugin("b", lifespan=lash_lifespan), close_limit_s=0.01)
    with pytest.raises(ExceptionGroup) as caught:
        async with mine.run():
            await mine.enter(mine.composition("base"))
    (error,) = caught.value.exceptions
    assert "plugin `b`" in str(error)
    assert "0.01 s" in str(error)
    assert log == ["enter a", "leave a"]


async def test_one_that_breaks_in_use_is_reported_and_started_anew_without_the_others() -> None:
    log: Log = []
    breaking, broken = anyio.Event(), anyio.Event()

    @asynccontextmanager
    async def lash_lifespan() -> AsyncIterator[str]:
        async def fail() -> None:
            await breaking.wait()
            raise OSError("connection lost")

        log.append("enter b")
        try:
            async with anyio.create_task_group() as tasks:
                if not breaking.is_set():
                    tasks.start_soon(fail)
                yield "b"
        finally:
            broken.set()

    mine = host(
        plugin("a", lifespan=lifespan(log)), plugin("b", lifespan=lash_lifespan), plugin("c", lifespan=lifespan(log))
    )

    async def use() -> None:
        async with mine.run():
            composition = mine.composition("base")
            await mine.enter(composition)
            breaking.set()
            await broken.wait()
            assert log == ["enter a", "enter b", "enter c"]
            assert list(await mine.enter(composition)) == ["a", "b", "c"]

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    assert log == ["enter a", "enter b", "enter c", "enter b", "leave c", "leave a"]
    assert "it ended while it was in use" in str(caught.value.exceptions[0])


async def test_closing_twice_or_from_two_tasks_is_closing_once() -> None:
    log: Log = []
    mine = holding(log, "a", "b")
    async with mine.run():
        await mine.enter(mine.composition("base"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mine.aclose)
            tasks.start_soon(mine.aclose)
        await mine.aclose()
    assert log == ["enter a", "enter b", "leave b", "leave a"]


async def test_a_close_that_is_interrupted_goes_on_when_called_again() -> None:
    log: Log = []
    gate = anyio.Event()

    @asynccontextmanager
    async def lash_lifespan() -> AsyncIterator[None]:
        yield
        await gate.wait()
        log.append("leave b")

    mine = host(plugin("a", lifespan=lifespan(log)), plugin("b", lifespan=lash_lifespan))
    async with mine.run():
        await mine.enter(mine.composition("base"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(mine.aclose)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        gate.set()
    assert log == ["enter a", "leave b", "leave a"]


async def test_a_host_without_lifespans_needs_no_run() -> None:
    mine = host(plugin("a"))
    assert await mine.enter(mine.composition("base")) == {}
    await mine.aclose()


async def test_entering_outside_of_run_says_what_to_do() -> None:
    mine = holding([], "a")
    with pytest.raises(ConfigurationError, match=r"async with host\.run\(\)"):
        await mine.enter(mine.composition("base"))
    async with mine.run():
        pass
    with pytest.raises(ConfigurationError, match="closed"):
        await mine.enter(mine.composition("base"))


async def test_two_hosts_with_the_same_plugin_hold_two() -> None:
    log: Log = []
    same = plugin("a", lifespan=lifespan(log))
    one, other = host(same), host(same)
    async with one.run(), other.run():
        await one.enter(one.composition("base"))
        await other.enter(other.composition("base"))
    assert log == ["enter a", "enter a", "leave a", "leave a"]


async def test_a_lifespan_gets_its_plugins_options() -> None:
    seen: list[HostContext] = []

    @asynccontextmanager
    async def lash_lifespan(host: HostContext) -> AsyncIterator[None]:
        seen.append(host)
        yield

    mine = host(plugin("a", lifespan=lash_lifespan), options={"a": {"url": "x"}})
    async with mine.run():
        await mine.enter(mine.composition("base"))
    assert seen == [HostContext(plugin_id="a", options={"url": "x"})]


async def test_a_connection_is_named_by_its_plugin_and_toolset() -> None:
    """It was told as a plugin `maps#2/radar` that nobody has."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[str]:
        yield "connected"
        raise OSError("the line is cut")

    lifespans, key = Lifespans(), Held("maps", "#2", "radar")
    with pytest.raises(ConfigurationError, match=r"^toolset `radar` of plugin `maps` holds resources for its host"):
        await lifespans.connect(key, connect, 1.0)
    with pytest.raises(ExceptionGroup) as caught:
        async with lifespans.run():
            assert await lifespans.connect(key, connect, 1.0) == "connected"
    told = "plugin `maps`, hook `lash_tools`: toolset `radar`: closing it failed: OSError: the line is cut"
    assert [str(each) for each in caught.value.exceptions] == [told]
