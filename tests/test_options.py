"""Options of plugins and of modes: where there is a class for them, a slip is named and nothing is guessed."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from agents import agent, plugin
from attrs import frozen
from hook_kit import installed

from lash_framework.settings import load_settings
from lash_hookspecs import (
    ConfigurationError,
    HostContext,
    Mode,
    ModeDriver,
    ModeTurnOptions,
    PluginInfo,
    TextItem,
    TurnInput,
    hookimpl,
)
from lash_plugin_mode_standard.driver import StandardDriver


@frozen
class Counting:
    """Options of the plugin `counts`."""

    limit: int = 20
    loud: bool = False


def counts(seen: list[Any]) -> object:
    async def lash_before_turn(ctx: Any) -> None:
        seen.append(ctx.options)

    return plugin("counts", lash_before_turn, options=Counting)


def toml(folder: Path, text: str) -> Any:
    file = folder / "lash.toml"
    file.write_text(text, encoding="utf-8")
    return load_settings(file, env={})


@pytest.mark.parametrize(
    ("text", "expected"), [("", Counting()), ("[plugin.counts]\nlimit = 3\n", Counting(limit=3))], ids=["none", "some"]
)
async def test_a_plugin_with_a_class_for_its_options_gets_an_instance(
    tmp_path: Path, text: str, expected: Counting
) -> None:
    seen: list[Any] = []
    async with agent(["hi"], plugins=[counts(seen)], settings=toml(tmp_path, text)) as lash:
        await (await lash.session()).run("q")
    assert seen == [expected]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("limt = 3", r"lash.toml:2: unknown setting `plugin.counts.limt`: did you mean `limit`\?"),
        ('limit = "many"', r"lash.toml:2: `plugin.counts.limit` must be a whole number"),
    ],
)
async def test_a_slip_in_a_plugins_options_is_named_with_its_line_when_the_host_opens(
    tmp_path: Path, text: str, said: str
) -> None:
    """It used to go unnoticed: the plugin ran with its default."""
    with pytest.raises(ConfigurationError, match=said):
        async with agent([], plugins=[counts([])], settings=toml(tmp_path, f"[plugin.counts]\n{text}\n")):
            raise AssertionError("unreachable")


async def test_a_plugin_without_a_class_for_its_options_gets_the_table_in_its_lifespan_too(tmp_path: Path) -> None:
    seen: list[Any] = []

    @asynccontextmanager
    async def lash_lifespan(host: HostContext) -> Any:
        seen.append(host.options)
        yield

    settings = toml(tmp_path, "[plugin.free]\nanything = 1\n")
    async with agent(["hi"], plugins=[plugin("free", lash_lifespan)], settings=settings) as lash:
        await (await lash.session()).run("q")
    assert seen == [{"anything": 1}]


@frozen
class Wanting:
    """No class for options: somebody must say something."""

    limit: int


@pytest.mark.parametrize(
    ("options", "said"),
    [(Wanting, "`Wanting`, whose `limit` has no default"), (dict, "<class 'dict'>")],
)
async def test_a_class_that_can_not_be_made_of_nothing_is_a_row_of_the_report(options: type, said: str) -> None:
    @hookimpl
    def lash_plugin_info() -> PluginInfo:
        return PluginInfo(id="wanting", options=options)

    with installed({"wanting": SimpleNamespace(lash_plugin_info=lash_plugin_info)}):
        async with agent(["hi"]) as lash:
            (row,) = [each for each in lash.host.report.failed if "PluginInfo.options" in each.message]
            assert said in row.message
            assert (await (await lash.session()).run("q")).is_success


# ---- modes ----------------------------------------------------------------------------------------------------------


@frozen
class Tone:
    """Options of a driver."""

    tone: str = "plain"
    times: int = 1


class Listening(StandardDriver):
    """The standard driver, which notes what options it has."""

    seen: list[Any]

    def prepare_protocol_iteration(self, ctx: Any) -> Any:
        self.seen.append(ctx.options)
        return super().prepare_protocol_iteration(ctx)


def mode(seen: list[Any]) -> Mode:
    def make() -> Listening:
        driver = Listening()
        driver.seen = seen
        return driver

    return Mode(mode_id="toned", driver=ModeDriver(make=make, options=Tone), options={"tone": "soft"})


def turn_with(**values: Any) -> TurnInput:
    return TurnInput(items=(TextItem("q"),), mode_turn_options=ModeTurnOptions(values))


async def test_a_driver_with_a_class_for_its_options_gets_an_instance_of_all_layers() -> None:
    seen: list[Any] = []

    def lash_modes() -> list[Mode]:
        return [mode(seen)]

    async with agent(lambda request: "hi", plugins=[plugin("tones", lash_modes)], mode="toned") as lash:
        session = await lash.session()
        await session.run("q")
        await session.configure(options={"times": 2})
        await session.run(turn_with(tone="loud"))
        with pytest.raises(ConfigurationError, match=r"mode `toned` has no option `tune`: did you mean `tone`\?"):
            await session.run(turn_with(tune="loud"))
        with pytest.raises(ConfigurationError, match=r"an option of mode `toned` doesn't fit: .*expected int, got str"):
            await session.configure(options={"times": "two"})
        assert (await session.run("still here")).is_success
    assert seen == [Tone("soft"), Tone("loud", 2), Tone("soft", 2)]


async def test_the_standard_mode_has_no_options_and_says_so(tmp_path: Path) -> None:
    """Any option of it is a slip; it used to be passed to a driver that reads none."""
    with pytest.raises(ConfigurationError, match="mode `standard` has no option `tone`"):
        async with agent([], settings=toml(tmp_path, '[modes.standard]\nextends = "standard"\noptions = { tone = 1 }')):
            raise AssertionError("unreachable")
