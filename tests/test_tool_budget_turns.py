"""The plugin `tool-budget` in turns: what the model sees of a result, and reads of what was cut."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin
from attrs import evolve
from loops import on_asyncio

from lash_framework.settings import load_settings
from lash_framework.testing import Crash, CrashPoint, crash_at_every_effect
from lash_hookspecs import ConfigurationError, LlmRequest, TextPart, ToolCallContext, ToolError, tool
from lash_plugin_provider_scripted import Call, Reply

TOML = "[modes.careful]\nextends = 'standard'\nplugins = ['tool-budget']\n[plugin.tool-budget]\n"
LONG = "".join(f"line {at} é\n" for at in range(5000))


class World:
    """An agent whose tools say much; `seen` is what the model was shown of each result."""

    def __init__(self, folder: Path, options: str = "bytes = 1000") -> None:
        self.folder, self.options = folder, options
        self.seen: list[str] = []

    def open(self, *rounds: Sequence[Any], plugins: Sequence[object] = (), store: str = "sqlite://") -> Any:
        @tool(effect="pure")
        async def page() -> str:
            "A long page."
            return LONG

        @tool(effect="pure", keeps="tail")
        async def log() -> str:
            "A long log."
            return f"log\n{LONG}"

        @tool(effect="pure", keeps="both")
        async def short(text: str = "short") -> str:
            "A short text."
            return text

        @tool(effect="pure")
        async def rows() -> list[dict[str, Any]]:
            "Many rows."
            return [{"row": at, "what": "x"} for at in range(2000)]

        @tool(effect="pure")
        async def texts() -> list[str]:
            "Many texts, each a bit longer than what one of them keeps."
            return [f"{at:>600}" for at in range(500)]

        @tool(effect="pure")
        async def fails() -> str:
            "Fail at length."
            raise ToolError("x" * 5000)

        @tool(effect="pure")
        async def through(ctx: ToolCallContext) -> int:
            "How long the page is for another tool."
            done = await ctx.call_tool(0, "page", {})  # type: ignore[misc]
            return len(done.output.outcome.value)  # type: ignore[union-attr]

        def script(request: LlmRequest) -> Reply:
            results = [b for m in request.messages for b in m.blocks if b.tag == "tool_result"]
            self.seen = ["".join(_texts(each)) for each in results]
            said = [m.role == "user" and m.blocks[0].tag == "text" for m in request.messages]
            since = request.messages[len(said) - said[::-1].index(True) :]
            asked = sum(m.role == "assistant" for m in since)
            return Reply(text="", tool_calls=list(rounds[asked])) if asked < len(rounds) else Reply(text="Done.")

        (self.folder / "lash.toml").write_text(TOML + self.options)
        settings = load_settings(self.folder / "lash.toml", env={}, sets=["store_options.synchronous=normal"])
        tools = [page, log, short, rows, texts, fails, through]
        return agent(script, store=store, mode="careful", tools=tools, plugins=plugins, settings=settings)


def _texts(block: Any) -> list[str]:
    found = [
        getattr(block, name) for name in ("text", "content", "output") if isinstance(getattr(block, name, None), str)
    ]
    return found or [repr(block)]


async def ran(lash: Any, turn_id: str = "t") -> Any:
    return await (await lash.session("s", recover=False)).run("go", turn_id=turn_id)


def call(tool: str, id: str = "c0", /, **args: Any) -> Call:
    return Call(tool, args, id)


@pytest.mark.statement(71, page="plugin-system")
async def test_the_model_sees_a_part_and_whoever_asks_has_all(tmp_path: Path) -> None:
    """The end that the tool says; in its place stands what is cut, and how to read it."""
    world = World(tmp_path)
    async with world.open([call("page"), call("log", "c1"), call("short", "c2")]) as lash:
        turn = await ran(lash)
    page, log, short = world.seen
    assert page.startswith("line 0 é\nline 1 é\n")
    start = len(page.encode()) - len(page.partition("\n[… ")[2].encode()) - len("\n[… ".encode())
    assert f'`read_output(output="out-1", start={start + 1})` goes on with them …]' in page
    assert log.endswith("line 4998 é\nline 4999 é\n")
    assert log.startswith("[… ")
    assert short == "short"
    assert all(len(each.encode()) < 1300 for each in world.seen)
    assert [each.output.outcome.value for each in turn.tool_calls] == [LONG, f"log\n{LONG}", "short"]
    assert [each.plugin_id for each in turn.tool_calls[0].interventions] == ["tool-budget"]
    assert turn.tool_calls[2].interventions == ()


async def test_what_was_cut_can_be_read_in_ranges_and_searched_also_after_a_restart(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/lash.db"
    world = World(tmp_path)
    async with world.open([call("page")], store=store) as lash:
        await ran(lash)
    reads = [
        call("read_output", output="out-1", start=0, length=20),
        call("read_output", "c1", output="out-1", start=8, length=3),
        call("read_output", "c2", output="out-1", find="4321"),
        call("read_output", "c3", output="out-1", start=len(LONG.encode()) - 5),
        call("read_output", "c4", output="out-1", start=10**9),
        call("read_output", "c5", output="out-2"),
        call("read_output", "c6", output="out-1", find="nowhere"),
        call("read_output", "c7", output="out-1", find="line"),
    ]
    async with world.open(reads, store=store) as lash:
        await ran(lash, "u")
    first, inside, found, last, far, other, none, many = world.seen[1:]
    assert first.startswith("[bytes 0 to 20 of ")
    assert first.endswith(" goes on]\nline 0 é\nline 1 é\n")
    assert inside.split("\n", 1)[1].startswith("\n")  # from the middle of `é` it goes on behind it
    assert "line 4321 é\n[these are all]" in found
    assert ", the end]" in last
    assert "`start` is from 0 to" in far
    assert "there is no output `out-2`" in other
    assert "out-1" in other
    assert none == "[no line has it]"
    assert len(many.encode()) < 1100  # the budget is that of a search, too: it showed fifty long lines
    assert re.search(r"\[more from `start=\d+` on\]$", many)


async def test_all_of_it_can_be_read_piece_by_piece(tmp_path: Path) -> None:
    """As a model would: each piece says where the next one begins, and together they are the text."""
    world = World(tmp_path, "bytes = 20000")
    pieces, start = [], 0
    async with world.open([call("page")]) as lash:
        await ran(lash)
        stored = (await (await lash.session("s")).messages())[-1]
        assert stored
    store = f"sqlite:///{tmp_path}/lash.db"
    async with world.open([call("page")], store=store) as lash:
        await ran(lash)
    for turn in range(10):
        async with world.open([call("read_output", output="out-1", start=start, length=16000)], store=store) as lash:
            await ran(lash, f"read {turn}")
        head, _, text = world.seen[-1].partition("\n")
        pieces.append(text)
        if "the end" in head:
            break
        start = int(re.search(r"`start=(\d+)`", head)[1])  # type: ignore[index]
    assert "".join(pieces) == LONG


async def test_failures_and_what_tools_give_each_other_are_left_alone(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open([call("fails"), call("through", "c1")]) as lash:
        turn = await ran(lash)
    assert world.seen[0] == "Error: " + "x" * 5000
    assert world.seen[1] == str(len(LONG))
    assert all(each.interventions == () for each in turn.tool_calls)


async def test_in_a_batch_each_result_is_cut_as_its_own_tool_says(tmp_path: Path) -> None:
    """And what is around them is still the JSON that it was."""
    from orjson import loads

    inner = [{"tool": name, "parameters": {}} for name in ("page", "log", "short", "fails")]
    world = World(tmp_path, "bytes = 4000")
    async with world.open(
        [call("batch", calls=inner)], [call("read_output", "c1", output="out-2", find="4321")]
    ) as lash:
        await ran(lash)
    results = loads(world.seen[0])["results"]
    assert results[0]["result"].startswith("line 0 é\n")
    assert results[1]["result"].endswith("line 4999 é\n")
    assert results[2]["result"] == "short"
    assert len(world.seen[0]) < 8000
    assert "line 4321" in world.seen[1]


async def test_long_data_is_cut_as_its_text(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open([call("rows")]) as lash:
        await ran(lash)
    assert world.seen[0].startswith('[{"row":0,"what":"x"}')
    assert 'read_output(output="out-1"' in world.seen[0]


async def test_many_texts_are_no_way_around_the_budget(tmp_path: Path) -> None:
    """Each text kept its least, however many there were: so 300 KB were shown of a result, and kept in 500 pieces."""
    world = World(tmp_path)
    async with world.open([call("texts")], [call("read_output", "c1", output="out-2")]) as lash:
        await ran(lash)
    assert len(world.seen[0]) < 1300
    assert "there is no output `out-2`" in world.seen[1]


@pytest.mark.parametrize("options", ["bytes = 0", "lines = 0", "tokens = 0"])
async def test_a_budget_of_nothing_shows_that_something_is_there(options: str, tmp_path: Path) -> None:
    world = World(tmp_path, options)
    async with world.open([call("page")]) as lash:
        await ran(lash)
    assert world.seen[0].startswith("[… ")
    assert world.seen[0].endswith(" …]")


async def test_what_another_plugin_redacts_is_in_nothing_that_is_kept(tmp_path: Path) -> None:
    async def lash_tool_result_view(ctx: Any, call: Any, view: Any) -> Any:
        hidden = [
            TextPart(each.text.replace("4321", "----")) if isinstance(each, TextPart) else each for each in view.parts
        ]
        return evolve(view, parts=tuple(hidden))

    world = World(tmp_path)
    redacts = plugin("z-redacts", lash_tool_result_view)
    rounds = [call("page")], [call("read_output", "c1", output="out-1", find="4321")]
    async with world.open(*rounds, plugins=[redacts]) as lash:
        await ran(lash)
    assert world.seen[1] == "[no line has it]"


async def test_only_the_latest_outputs_are_remembered_and_one_session_reads_none_of_another(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/lash.db"
    world = World(tmp_path, "bytes = 100\nremember = 2")
    async with world.open([call("page")], [call("page", "c1")], [call("page", "c2")], store=store) as lash:
        await ran(lash)
    async with world.open([call("read_output", output="out-1")], store=store) as lash:
        await ran(lash, "u")
        assert "the latest are: out-2, out-3" in world.seen[-1]
        await (await lash.session("other")).run("go")
        assert "the latest are: none" in world.seen[-1]


async def test_an_option_that_doesnt_fit_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least 0"):
        async with World(tmp_path, "bytes = -1").open([]):
            pass


@on_asyncio
@pytest.mark.costly
async def test_a_crash_anywhere_loses_no_output(tmp_path: Path) -> None:
    def few(point: CrashPoint) -> bool:
        return "sql" not in str(point) and "store" not in str(point)

    def check(crash: Crash) -> None:
        assert "line 4321" in str(crash.turn.tool_calls[1].output.outcome.value)  # type: ignore[union-attr]

    def open_host(url: str) -> Any:
        return World(tmp_path).open([call("page")], [call("read_output", "c1", output="out-1", find="4321")], store=url)

    await crash_at_every_effect(open_host, "go", points=few, checks=[check])
