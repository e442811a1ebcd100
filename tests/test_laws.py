"""The ten laws of the design: each has a test whose name says it. Here are those that no other file is about."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin
from attrs import evolve
from hook_kit import Told, asked, file_store, opened

import lash_hookspecs
from lash_hookspecs import (
    Capability,
    CatalogEdit,
    CheckpointKind,
    EnqueueMessages,
    MessageRole,
    ModelToolReturn,
    PluginOrigin,
    PromptContribution,
    StoreCorrupt,
    TextPart,
    UnknownName,
    tool,
)
from lash_hookspecs.testing.store import store_cases
from lash_plugin_provider_scripted import Call, Reply

ROOT = Path(__file__).resolve().parent.parent


def test_each_of_the_ten_laws_has_a_test_whose_name_says_it() -> None:
    files = [*ROOT.glob("tests/test_*.py"), *ROOT.glob("*/tests/test_*.py"), *ROOT.glob("plugins/*/tests/test_*.py")]
    texts = [path.read_text(encoding="utf-8") for path in files]
    assert {int(law) for text in texts for law in re.findall(r"def test_law_(\d+)_", text)} == set(range(1, 11))


# ---- law 4 ----------------------------------------------------------------------------------------------------------


@tool(effect="pure")
def look() -> str:
    """Look (WORD-offers)."""
    return "nothing"


def lash_tools(ctx: Any) -> list[Any]:
    return [look]


def lash_tool_catalog(catalog: Any) -> CatalogEdit:
    return CatalogEdit(annotate={"look": "WORD-annotates"})


def lash_prompt_contributions(ctx: Any) -> PromptContribution:
    return PromptContribution(content="WORD-prompts")


def lash_before_turn(ctx: Any) -> EnqueueMessages:
    return EnqueueMessages.note("WORD-begins")


def lash_checkpoint(ctx: Any) -> EnqueueMessages | None:
    return EnqueueMessages.note("WORD-checks") if ctx.kind is CheckpointKind.AFTER_WORK else None


def lash_prepare_context(ctx: Any, prepared: Any) -> Any:
    return prepared.with_prompt(PromptContribution(content="WORD-prepares"))


def lash_after_tool_call(ctx: Any, call: Any, result: Any) -> EnqueueMessages:
    return EnqueueMessages.note("WORD-follows")


def lash_tool_result_view(ctx: Any, call: Any, view: ModelToolReturn) -> ModelToolReturn:
    return evolve(view, parts=(TextPart("WORD-views"),))


DOORS: dict[str, Callable[..., Any]] = {
    "offers": lash_tools,
    "annotates": lash_tool_catalog,
    "prompts": lash_prompt_contributions,
    "begins": lash_before_turn,
    "checks": lash_checkpoint,
    "prepares": lash_prepare_context,
    "follows": lash_after_tool_call,
    "views": lash_tool_result_view,
}


async def test_law_4_nothing_reaches_a_model_without_the_name_of_the_plugin_that_put_it_there() -> None:
    """One plugin at each door says one word; the model was shown all of them, and each is known by its plugin."""
    model = Told([Reply(tool_calls=[Call("look")]), "Done."])
    plugins = [plugin(name, hook) for name, hook in DOORS.items()]
    async with opened(*plugins, says=model) as lash:
        session = await lash.session("s")
        await session.run("Look", turn_id="t")
        explained = await lash.explain("t")
        messages = await session.messages()
    tools = model.requests[-1].tools
    shown = asked(model) + "\n".join(each.description for each in tools)
    assert set(re.findall(r"WORD-([a-z]+)", shown)) == set(DOORS)
    lines = {each.text: each.plugin_ids for each in explained.lines}
    assert (lines["WORD-prompts"], lines["WORD-prepares"]) == (("prompts",), ("prepares",))
    assert all(each.plugin_ids for each in explained.lines)
    assert {each.name for each in explained.tools} == {each.name for each in tools}
    (looks,) = [each for each in explained.tools if each.name == "look"]
    assert (looks.plugin_id, looks.detail) == ("offers", "annotate by annotates")
    spoken = {each.text: each.origin.plugin_id for each in messages if isinstance(each.origin, PluginOrigin)}
    assert spoken == {f"WORD-{name}": name for name in ("begins", "checks", "follows")}
    assert all(each.origin for each in messages if each.role is MessageRole.SYSTEM)
    assert [(each.plugin_id, each.what) for each in explained.calls] == [("views", "view changed")]


# ---- law 8 ----------------------------------------------------------------------------------------------------------


async def test_law_8_empty_and_unknown_are_different_answers_and_absent_and_unreadable_different_errors(
    tmp_path: Path,
) -> None:
    async with agent(["Hello."], store=file_store(tmp_path)) as lash:
        session = await lash.session("s")
        assert await session.messages() == ()
        assert (await session.usage()).total.total == 0
        assert await lash.store.load_session("nobody") is None
        await session.run("q", turn_id="t")
        assert await lash.store.load_journal("s", "t") == ()
        assert await lash.store.get_blob("nothing") is None
    database = sqlite3.connect(tmp_path / "sessions.db", isolation_level=None)
    database.execute("DELETE FROM nodes")
    database.close()
    async with agent([], store=file_store(tmp_path)) as lash:
        with pytest.raises(StoreCorrupt, match="`s`"):
            await (await lash.session("s")).run("q")
        with pytest.raises(UnknownName, match="`nobody`"):
            await lash.load_history("nobody")


# ---- law 10 ---------------------------------------------------------------------------------------------------------

KITS = {
    "Provider": "provider",
    "EffectController": "effects",
    "EffectHost": "effects",
    "Store": "store",
    "SessionStore": "store",
    "SessionLocks": "store",
    "Blobs": "store",
    "Leases": "store",
    "Inbox": "store",
    "Journal": "store",
    "Forks": "store",
}
NO_PORTS = {
    "CallNext": "the kernel's, and given to hooks",
    "DriverContextView": "the kernel's, and given to drivers",
    "FlushingTraceSink": "nothing depends on what it does",
    "ModeSessionExtension": "a value",
    "ModeTurnExtension": "a value",
    "ProtocolDriver": "an author's: `crash_at_every_effect` runs a turn with it",
    "Tool": "an author's: `crash_at_every_effect` runs a turn with it",
    "TraceSink": "nothing depends on what it does",
}


def test_law_10_every_port_has_a_conformance_kit_that_a_third_party_can_run_in_one_line() -> None:
    """Docs show each of these lines, and run it; the kit of stores had no case for locks once."""
    offered = {name: getattr(lash_hookspecs, name) for name in lash_hookspecs.__all__}
    protocols = {name for name, offer in offered.items() if getattr(offer, "_is_protocol", False)}
    assert protocols == KITS.keys() | NO_PORTS.keys()
    for kit in sorted(set(KITS.values())):
        assert callable(import_module(f"lash_hookspecs.testing.{kit}").conformance)
    assert {need for case in store_cases(tuple(Capability)) for need in case.needs} >= set(Capability)
