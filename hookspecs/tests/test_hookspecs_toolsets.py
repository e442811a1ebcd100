"""Sets of tools: a sequence of tools, with a prefix, and out of reach together."""

from __future__ import annotations

from lash_hookspecs import ToolCallContext, ToolEffect, ToolSet, tool

CTX = ToolCallContext(session_id="s", turn_id="t", call_id="c", tool_name="x", plugin_id="p", idempotency_key="k")


@tool(effect="pure")
async def log(n: int = 1) -> list[int]:
    """The log."""
    return [n]


def diff() -> str:
    """The difference."""
    return "+1"


async def test_a_set_is_its_tools_each_as_it_was() -> None:
    plain = ToolSet([log, diff])
    assert plain[0] is log
    assert [each.manifest.name for each in plain] == ["log", "diff"]
    assert repr(plain) == "<ToolSet of log, diff>"
    assert repr(ToolSet([])) == "<ToolSet of nothing>"


async def test_a_prefix_is_part_of_the_name_and_changes_nothing_else() -> None:
    git = ToolSet([log, diff], prefix="git_")
    assert [repr(each) for each in git[:]] == ["<tool git_log>", "<tool git_diff>"]
    manifest = git[0].manifest
    assert (manifest.description, manifest.effect) == ("The log.", ToolEffect.PURE)
    assert manifest.input_schema == log.manifest.input_schema
    assert await git[0].call(CTX, {"n": 3}) == [3]
    assert await git[1].call(CTX, {}) == "+1"
    assert log.manifest.name == "log"


def test_a_set_is_out_of_reach_as_a_whole_and_a_set_within_it_too() -> None:
    reasons: list[str | None] = [None, None]
    inner = ToolSet([log], prefix="a_", unavailable=lambda: reasons[0])
    outer = ToolSet([*inner, diff], prefix="b_", unavailable=lambda: reasons[1])

    def seen() -> list[str | None]:
        return [each.unavailable for each in outer]  # type: ignore[attr-defined]  # a tool may have it

    assert [each.manifest.name for each in outer] == ["b_a_log", "b_diff"]
    assert seen() == [None, None]
    reasons[0] = "inner"
    assert seen() == ["inner", None]
    reasons[1] = "outer"
    assert seen() == ["outer", "outer"]
