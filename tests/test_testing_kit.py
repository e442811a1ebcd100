"""`lash_framework.testing` for plugins: a host, a scripted model, a clock, crashes; it costs others nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hook_kit import Plugin, installed

from lash_framework.testing import VirtualClock, call, open_host, simulate
from lash_hookspecs import ConfigurationError, LlmCallError, PromptContribution, Stopped, hookimpl, tool

Open = Callable[..., Any]


class Counting(Plugin):
    """A plugin under test, once as an object and once installed."""

    @hookimpl
    def lash_tools(self) -> list[Any]:
        @tool(effect="pure")
        def count_words(text: str) -> int:
            """How many words a text has."""
            return len(text.split())

        return [count_words]

    @hookimpl
    def lash_prompt_contributions(self, ctx: Any) -> PromptContribution:
        return PromptContribution(content=ctx.options.get("advice", "Count, don't guess."))


SAYS = (call("count_words", text="to be or not"), "Four.")


# ---- a host ---------------------------------------------------------------------------------------------------------


async def test_a_plugin_as_an_object(lash_host: Open) -> None:
    async with lash_host(Counting(), says=SAYS) as host:
        turn = await host.run("How many?")
    assert turn.text == "Four."
    assert turn.tool_calls[0].output.outcome.value == 4
    assert "Count, don't guess." in host.model.system_prompt()
    assert host.model.conversation() == "How many?\n4"


async def test_a_plugin_that_is_installed_is_found_by_its_id(lash_host: Open) -> None:
    with installed({"mine": Counting()}):
        async with lash_host("mine", says=SAYS) as host:
            loaded = [(each.plugin_id, each.source) for each in host.lash.host.report.loaded]
    assert ("mine", "entry point") in loaded


async def test_nothing_else_that_is_installed_is_loaded(lash_host: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_MODE", "no-such-mode")
    with installed({"other": Counting()}):
        async with lash_host() as host:
            turn = await host.run("Hello")
            ids = {each.plugin_id for each in host.lash.host.report.loaded}
    assert turn.text == "Done."
    assert ids == {"mode-standard", "store-sql", "test-model"}


async def test_settings_are_those_of_the_test(lash_host: Open) -> None:
    async with lash_host(Counting(), toml='[plugin.mine]\nadvice = "Use an abacus."') as host:
        await host.run("Hello")
    assert "Use an abacus." in host.model.system_prompt()


async def test_a_plugin_that_cant_be_loaded_shows_its_traceback(lash_host: Open) -> None:
    class Broken(Plugin):
        @hookimpl
        def lash_modes(self) -> list[Any]:
            raise RuntimeError("not today")

    with installed({"mine": Broken()}), pytest.raises(ConfigurationError, match=r"(?s)`mine`.*Traceback.*not today"):
        async with lash_host("mine"):
            pass
    with pytest.raises(ConfigurationError, match=r"`no-such` .*not installed"):
        async with lash_host("no-such"):
            pass


async def test_what_happened_is_recorded_over_all_turns(lash_host: Open) -> None:
    async with lash_host(Counting(), says=[*SAYS, "Five."]) as host:
        await host.run("One?")
        await host.run("Two?", session="another")
    assert [each.name for each in host.events("tool_call_completed")] == ["count_words"]
    assert "".join(each.text for each in host.events("assistant_prose_delta")) == "Four.Five."
    assert len(host.activities) == len(host.events())


# ---- the model ------------------------------------------------------------------------------------------------------


async def test_several_calls_at_once_failures_and_functions(lash_host: Open) -> None:
    several = [call("count_words", text="a"), call("count_words", text="a b")]
    async with lash_host(Counting(), says=[several, LlmCallError(message="the service is down")]) as host:
        turn = await host.run("Count.")
    assert isinstance(turn.outcome, Stopped)
    assert turn.errors[0].message == "the service is down"
    assert [each.output.outcome.value for each in turn.tool_calls] == [1, 2]
    async with lash_host(says=lambda request: f"{len(request.messages)} messages") as host:
        assert (await host.run("Hello")).text == "2 messages"


async def test_a_script_that_is_used_up_says_so(lash_host: Open) -> None:
    async with lash_host(says=["One."]) as host:
        await host.run("First")
        turn = await host.run("Second")
    assert turn.errors[0].message == "the test's model is asked for reply 2, and `says` has 1: add one"


# ---- time and crashes -----------------------------------------------------------------------------------------------


async def test_time_passes_when_told(lash_host: Open, lash_clock: VirtualClock) -> None:
    async with lash_host(says=["One.", "Two."]) as host:
        await host.run("First")
        lash_clock.advance(3_600)
        await host.run("Second")
        (summary,) = await host.lash.list_sessions()
    assert summary.updated_at_ms - summary.created_at_ms == 3_600_000


async def test_the_real_time_is_back_afterwards(lash_host: Open) -> None:
    from lash_framework.world import REAL, this_world

    async with lash_host():
        assert this_world() is not REAL
    assert this_world() is REAL


def test_a_simulation_keeps_its_own_time() -> None:
    async def scenario(simulation: Any) -> float:
        async with open_host(says=["One."]) as host:
            before = simulation.now_ms()
            await anyio.sleep(1_800)
            await host.run("Hello")
            (summary,) = await host.lash.list_sessions()
            return summary.updated_at_ms - before

    assert simulate(scenario).value >= 1_800_000


async def test_no_crash_loses_anything_of_a_plugin(lash_crashes: Open) -> None:
    report = await lash_crashes(Counting(), says=SAYS, prompt="How many?")
    assert report.golden.turn.text == "Four."
    assert len(report.crashes) > 6
    assert not report.unreached


async def test_a_tool_that_lies_about_its_effect_is_found(lash_crashes: Open) -> None:
    rolled = iter(range(1000))

    class Lying(Plugin):
        @hookimpl
        def lash_tools(self) -> list[Any]:
            @tool(effect="pure")
            def roll() -> int:
                """Not the same twice."""
                return next(rolled)

            return [roll]

    with pytest.raises(AssertionError, match="killed"):
        await lash_crashes(Lying(), says=[call("roll"), "So."])


# ---- what it costs others -------------------------------------------------------------------------------------------


def test_a_test_run_without_plugins_of_lash_loads_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    loaded = {name for name in sys.modules if name.startswith('lash_')}\n"
        "    expected = {'lash_framework', 'lash_framework.testing', 'lash_framework.testing.pytest_plugin'}\n"
        "    assert loaded == expected, loaded\n"
    )
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_nothing.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_name_of_the_package_is_there() -> None:
    from lash_framework import testing

    assert sorted(testing._OWNERS) == sorted(testing.__all__)
    assert all(getattr(testing, name) is not None for name in testing.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        testing.no_such_name  # noqa: B018
