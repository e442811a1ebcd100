"""The view: long texts of a result are cut, as the tool says which end matters, and kept whole beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import orjson
from attrs import evolve

from lash_hookspecs.tool_declarations import OutputEnd
from lash_hookspecs.tools import TextPart
from lash_plugin_tool_budget.cutting import Cut, cut
from lash_plugin_tool_budget.state import Output, Outputs

if TYPE_CHECKING:
    from lash_hookspecs.tool_contexts import ToolResultViewContext
    from lash_hookspecs.tools import CompletedToolCall, ModelToolReturn

__all__ = ["within_budget"]

LEAST = 512
"""What a text within a result keeps at least; of more texts than there is room for, the result is cut as one."""


async def within_budget(
    ctx: ToolResultViewContext, call: CompletedToolCall, view: ModelToolReturn
) -> ModelToolReturn | None:
    """The view with its texts cut; None if all of it is within the budget. Attachments stay."""
    size, lines = ctx.options.size, ctx.options.lines
    parts = list(view.parts)
    for at, part in enumerate(parts):
        if isinstance(part, TextPart):
            parts[at] = TextPart(await _cut(ctx, call, part.text, size, lines))
    return None if tuple(parts) == view.parts else evolve(view, parts=tuple(parts))


async def _cut(ctx: ToolResultViewContext, call: CompletedToolCall, text: str, size: int, lines: int) -> str:
    if cut(text, OutputEnd.HEAD, size, lines) is None:
        return text
    found = _data(text) if not isinstance(getattr(call.output.outcome, "value", None), str) else None
    long = [each for each in _texts(found) if len(each) > LEAST or each.count("\n") >= lines]
    room = max(size, LEAST)
    if not long or LEAST * len(long) > room:
        return await _shortened(ctx, text, ctx.manifest.keeps, size, lines)
    # A result of several texts, such as that of a batch: each of them is cut, and what is around them stays.
    ends = dict(_ends(ctx, call))
    share = room // len(long)
    said = {
        each: await _shortened(ctx, each, ends.get(each, ctx.manifest.keeps), share, lines // len(long))
        for each in dict.fromkeys(long)
    }
    made = orjson.dumps(_replaced(found, said)).decode()
    if len(made.encode()) <= 2 * room:
        return made
    return await _shortened(ctx, text, ctx.manifest.keeps, size, lines)


def _data(text: str) -> Any:
    try:
        found = orjson.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, (dict, list)) and any(len(each) > LEAST for each in _texts(found)) else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _replaced(value: Any, said: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return said.get(value, value)
    if isinstance(value, Mapping):
        return {key: _replaced(each, said) for key, each in value.items()}
    return [_replaced(each, said) for each in value] if isinstance(value, list) else value


def _ends(ctx: ToolResultViewContext, call: CompletedToolCall) -> Iterator[tuple[str, OutputEnd]]:
    """Which end matters of a text that a call within this one returned: as its own tool says."""
    keeps = {each.name: each.keeps for each in ctx.tools}
    for child in call.children:
        value = getattr(child.output.outcome, "value", None)
        if isinstance(value, str) and child.tool_name in keeps:
            yield value, keeps[child.tool_name]
        yield from _ends(ctx, child)


async def _shortened(ctx: ToolResultViewContext, text: str, keeps: OutputEnd, size: int, lines: int) -> str:
    """The text, cut if it is too long, and all of it kept under a name that the cut tells."""
    found = cut(text, keeps, size, lines)
    if found is None:
        return text
    state: Outputs = ctx.state
    name = f"out-{state.count + 1}"
    reference = await ctx.blobs.put(found.data, "text/plain; charset=utf-8")
    latest = (*state.latest, Output(name, reference))
    ctx.set_state(Outputs(count=state.count + 1, latest=latest[max(0, len(latest) - ctx.options.remember) :]))
    pieces = (found.head.removesuffix("\n"), _marker(name, found), found.tail)
    return "\n".join(each for each in pieces if each)


def _marker(name: str, found: Cut) -> str:
    count = found.end - found.start
    return (
        f"[… {count:,} of {len(found.data):,} bytes, in {found.lines:,} lines, are cut out here: "
        f'`read_output(output="{name}", start={found.start})` goes on with them …]'
    )
