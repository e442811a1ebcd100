"""Hooks of a composition: its tools, and the edits of its catalog. And what a plugin holds for its host."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from hook_kit import Plugin, Told, failure, opened

from lash_hookspecs import (
    CatalogEdit,
    HostContext,
    PluginConflictError,
    PluginError,
    Tool,
    ToolCallContext,
    ToolManifest,
    hookimpl,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

SHOUT = Reply(tool_calls=[Call("shout", {"text": "hi"}, "c1")])


@tool
async def shout(text: str) -> str:
    "The text in capital letters."
    return text.upper()


class Shouting(Plugin):
    @hookimpl
    def lash_tools(self, ctx: Any) -> list[Tool]:
        self.calls.append((ctx.plugin_id, ctx.mode_id, dict(ctx.options)))
        return [shout]


# ---- lash_tools -----------------------------------------------------------------------------------------------------


async def test_hook_lash_tools_is_called_once_per_composition_and_offers_tools(tmp_path: Path) -> None:
    plugin, model = Shouting(), Told([SHOUT, "One.", SHOUT, "Two."])
    toml = '[plugin.mine]\nloud = true\n[modes.other]\nextends = "standard"\nwithout = ["mine"]\n'
    async with opened(plugin, says=model, toml=toml, folder=tmp_path) as lash:
        turns = [await (await lash.session(id)).run("Hello") for id in ("one", "two")]
    assert plugin.calls == [("mine", "standard", {"loud": True})]
    for turn in turns:
        (call,) = turn.tool_calls
        assert (call.plugin_id, call.output.outcome.value) == ("mine", "HI")
    assert "shout" in [each.name for each in model.requests[0].tools]


async def test_hook_lash_tools_is_for_modes_that_have_the_plugin(tmp_path: Path) -> None:
    model = Told(["Done."])
    toml = '[modes.quiet]\nextends = "standard"\nwithout = ["mine"]\n'
    async with opened(Shouting(), says=model, toml=toml, folder=tmp_path, mode="quiet") as lash:
        await (await lash.session("one")).run("Hello")
    assert "shout" not in [each.name for each in model.requests[0].tools]


async def test_hook_lash_tools_of_one_name_conflict_and_both_plugins_are_named() -> None:
    with pytest.raises(PluginConflictError, match=r"tool `shout`.*`a`.*`b`"):
        async with opened(Shouting("a"), Shouting("b")):
            pass


async def test_hook_lash_tools_of_a_plugin_that_replaces_the_other_win() -> None:
    @tool(name="shout")
    async def better(text: str) -> str:
        "The text in capital letters, and with a bang."
        return f"{text.upper()}!"

    class Better(Plugin):
        @hookimpl
        def lash_tools(self) -> list[Tool]:
            return [better]

    async with opened(Shouting("a"), Better("b", replaces=("a",)), says=[SHOUT, "Done."]) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert turn.tool_calls[0].output.outcome.value == "HI!"


@pytest.mark.parametrize("fault", ["raises", "returns something else"])
async def test_hook_lash_tools_that_raises_fails_the_composition_and_names_the_plugin(fault: str) -> None:
    class Bad(Plugin):
        @hookimpl
        def lash_tools(self) -> Any:
            if fault == "raises":
                raise RuntimeError("it is broken")
            return [len]

    with pytest.raises(PluginError, match="plugin `mine`, hook `lash_tools`"):
        async with opened(Bad()):
            pass


# ---- lash_tool_catalog ----------------------------------------------------------------------------------------------


class Editing(Plugin):
    edit = CatalogEdit()

    @hookimpl
    def lash_tool_catalog(self, ctx: Any, catalog: tuple[ToolManifest, ...]) -> CatalogEdit:
        self.calls.append((ctx.plugin_id, ctx.mode_id, [each.name for each in catalog]))
        return self.edit


async def test_hook_lash_tool_catalog_adds_hides_and_annotates_and_all_edits_are_united() -> None:
    @tool
    async def whisper(text: str) -> str:
        "The text in small letters."
        return text.lower()

    hiding, adding, annotating = Editing("a"), Editing("b"), Editing("c")
    hiding.edit = CatalogEdit(hide=frozenset({"shout", "absent"}))
    adding.edit = CatalogEdit(add=(whisper,))
    annotating.edit = CatalogEdit(annotate={"whisper": "Only at night.", "shout": "Never."})
    model = Told([SHOUT, "Done."])
    async with opened(Shouting(), hiding, adding, annotating, says=model) as lash:
        turn = await (await lash.session("one")).run("Hello")
        explained = await lash.explain(turn.turn_id)
    offered = {each.name: each.description for each in model.requests[0].tools}
    assert "shout" not in offered
    assert offered["whisper"] == "The text in small letters.\n\nOnly at night."
    (call,) = turn.tool_calls
    assert call.output.outcome.code == "unknown_tool"
    (row,) = [each for each in explained.tools if each.name == "whisper"]
    assert (row.plugin_id, row.detail) == ("b", "annotate by c")
    # Every editor saw the tools as they were offered, whatever the others did.
    for plugin in (hiding, adding, annotating):
        ((plugin_id, mode_id, catalog),) = plugin.calls
        assert (plugin_id, mode_id) == (plugin.info.id, "standard")
        assert "shout" in catalog
        assert "whisper" not in catalog


@pytest.mark.parametrize("fault", ["raises", "returns something else"])
async def test_hook_lash_tool_catalog_that_raises_fails_the_composition_and_names_the_plugin(fault: str) -> None:
    class Bad(Plugin):
        @hookimpl
        def lash_tool_catalog(self) -> Any:
            if fault == "raises":
                raise RuntimeError("it is broken")
            return {"hide": "shout"}

    with pytest.raises(PluginError, match="plugin `mine`, hook `lash_tool_catalog`"):
        async with opened(Bad()):
            pass


# ---- lash_lifespan --------------------------------------------------------------------------------------------------


class Held(Plugin):
    """Holds its own id for the host; `calls` says when."""

    journal: list[str]

    def __init__(self, id: str, journal: list[str], **info: Any) -> None:
        super().__init__(id, **info)
        self.journal = journal

    @hookimpl
    @asynccontextmanager
    async def lash_lifespan(self, host: HostContext) -> AsyncIterator[str]:
        self.journal.append(f"enter {host.plugin_id} {host.options.get('size', '')}".strip())
        async with anyio.create_task_group():  # must be left in the task that entered it
            yield f"held by {host.plugin_id}"
        self.journal.append(f"leave {host.plugin_id}")

    @hookimpl
    async def lash_before_turn(self, ctx: Any) -> None:
        self.calls.append(ctx.host)


async def test_hook_lash_lifespan_is_entered_at_first_use_and_left_in_reverse_order(tmp_path: Path) -> None:
    journal: list[str] = []
    first, second = Held("a", journal), Held("b", journal)
    toml = "[plugin.b]\nsize = 3\n"
    async with opened(first, second, says=["One.", "Two."], toml=toml, folder=tmp_path) as lash:
        session = await lash.session("one")
        assert journal == []
        await session.run("Hello")
        await session.run("Hello")
        assert journal == ["enter a", "enter b 3"]
    assert journal == ["enter a", "enter b 3", "leave b", "leave a"]
    assert first.calls == ["held by a"] * 2


async def test_hook_lash_lifespan_reaches_the_plugins_tools() -> None:
    class WithTool(Held):
        @hookimpl
        def lash_tools(self) -> list[Tool]:
            @tool(name="shout")
            async def told(text: str, ctx: ToolCallContext) -> str:
                "What is held."
                return str(ctx.host)

            return [told]

    async with opened(WithTool("a", []), says=[SHOUT, "Done."]) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert turn.tool_calls[0].output.outcome.value == "held by a"


async def test_hook_lash_lifespan_is_one_per_host() -> None:
    journal: list[str] = []
    plugin = Held("a", journal)
    async with opened(plugin) as one, opened(plugin) as other:
        for lash in (one, other):
            await (await lash.session("one")).run("Hello")
    assert journal == ["enter a", "enter a", "leave a", "leave a"]


async def test_hook_lash_lifespan_that_fails_to_start_stops_the_turn_and_is_tried_again() -> None:
    class Slow(Held):
        @hookimpl
        @asynccontextmanager
        async def lash_lifespan(self) -> AsyncIterator[str]:
            self.journal.append("try")
            if len(self.journal) == 1:
                raise ConnectionError("nobody is there")
            yield "ready"

    plugin = Slow("a", [])
    async with opened(plugin, says=["One."]) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello")
        assert failure(turn) == ("runtime_error", "lash_lifespan")
        assert "plugin `a`" in turn.errors[0].message
        assert "nobody is there" in turn.errors[0].message
        assert (await session.run("Hello")).is_success
    assert plugin.calls == ["ready"]


async def test_hook_lash_lifespan_that_fails_to_close_lets_the_others_close_and_errors_are_grouped() -> None:
    class Stuck(Held):
        @hookimpl
        @asynccontextmanager
        async def lash_lifespan(self) -> AsyncIterator[str]:
            yield "held"
            self.journal.append(f"fail {self.info.id}")
            raise ConnectionError("it would not close")

    journal: list[str] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with opened(Held("a", journal), Stuck("b", journal), Stuck("c", journal)) as lash:
            await (await lash.session("one")).run("Hello")
    assert journal == ["enter a", "fail c", "fail b", "leave a"]
    errors = [error for error in leaves(caught.value) if isinstance(error, PluginError)]
    assert [error.plugin_id for error in errors] == ["c", "b"]


def leaves(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in leaves(each)]
    return [error]
