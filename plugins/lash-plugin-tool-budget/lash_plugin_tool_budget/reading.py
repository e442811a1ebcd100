"""The tool that reads what was cut out: a range of bytes, or the lines with a text in them."""

from __future__ import annotations

from lash_hookspecs.toolkit import tool
from lash_hookspecs.tools import ToolCallContext, ToolError, ToolFailureClass
from lash_plugin_tool_budget.cutting import fitting_end, fitting_start

__all__ = ["read_output"]

FOUND = 50
"""How many lines a search shows at most; fewer where they are more than the budget."""

LONGEST = 300
"""How many bytes of a line it shows."""

LEAST = 1024
"""What can be read at once, however small the budget is."""


@tool(effect="pure")
async def read_output(ctx: ToolCallContext, output: str, start: int = 0, length: int = 16_384, find: str = "") -> str:
    """Read more of a tool's output that was cut: `output` is its name, as `out-1`.

    It gives `length` bytes from `start` on; with `find`, the lines that have that text in them, with where they start.
    """
    room, latest = max(ctx.options.size, LEAST), {each.name: each.text for each in ctx.state.latest}
    reference = latest.get(output)
    if reference is None:
        known = ", ".join(list(latest)[-5:]) or "none"
        raise _refused(f"there is no output `{output}` to be read in this session; the latest are: {known}")
    data = await ctx.blobs.get(reference)
    if data is None:
        raise _refused(f"`{output}` isn't kept any more; call its tool again")
    if find:
        return _found(data, find.encode(), max(0, start), room)
    if not 0 <= start < max(1, len(data)) or length < 1:
        last = max(0, len(data) - 1)
        raise _refused(f"`{output}` has {len(data):,} bytes: `start` is from 0 to {last}, `length` at least 1")
    begin = fitting_start(data, start)
    end = fitting_end(data, begin + min(length, room))
    end = end if end > begin else fitting_start(data, begin + 1)
    more = f"; `start={end}` goes on" if end < len(data) else ", the end"
    return f"[bytes {begin} to {end} of {len(data)}{more}]\n{data[begin:end].decode()}"


def _found(data: bytes, wanted: bytes, start: int, room: int) -> str:
    lines, at = list[str](), start
    while len(lines) < FOUND and room > 0 and (hit := data.find(wanted, at)) >= 0:
        begin = data.rfind(b"\n", 0, hit) + 1
        end = data.find(b"\n", hit)
        end = len(data) if end < 0 else end
        first = fitting_start(data, max(begin, hit - LONGEST // 2))
        text = data[first : fitting_end(data, min(end, hit + LONGEST))].decode()
        lines.append(f"{first}: {text}")
        room -= len(lines[-1].encode()) + 1
        at = end + 1
    if not lines:
        return "[no line has it]"
    more = f"[more from `start={at}` on]" if data.find(wanted, at) >= 0 else "[these are all]"
    return "\n".join([*lines, more])


def _refused(text: str) -> ToolError:
    return ToolError(text, code="unreadable_output", failure_class=ToolFailureClass.INVALID_REQUEST)
