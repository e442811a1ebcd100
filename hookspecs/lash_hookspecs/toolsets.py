"""Many tools under one object: with a prefix to their names, and out of reach together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, overload

from attrs import evolve

from lash_hookspecs.toolkit import FunctionTool
from lash_hookspecs.tools import Tool, ToolCallContext

__all__ = ["ToolSet"]


class _Member:
    """A tool of a set, under its name there."""

    def __init__(self, tool: Tool, name: str, unavailable: Callable[[], str | None] | None) -> None:
        self.manifest = evolve(tool.manifest, name=name)
        self._tool = tool
        self._unavailable = unavailable

    def __repr__(self) -> str:
        return f"<tool {self.manifest.name}>"

    @property
    def unavailable(self) -> str | None:
        """Why it can't be called now: the set's reason, or its own."""
        of_set = None if self._unavailable is None else self._unavailable()
        return of_set or getattr(self._tool, "unavailable", None)

    @property
    def is_async(self) -> bool:
        """Whether a cancel stops it."""
        return getattr(self._tool, "is_async", True)

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Run it."""
        return await self._tool.call(ctx, args)

    async def preview(self, args: Mapping[str, Any]) -> str | None:
        """What it says of a call, if it says anything."""
        preview = getattr(self._tool, "preview", None)
        said: str | None = None if preview is None else await preview(args)
        return said


class ToolSet(Sequence[Tool]):
    """A sequence of tools, for `lash_tools` to return or to spread into its list, and for `Lash.open(tools=…)`.

    `prefix` is put before each name. `unavailable` says why none of them can be called now, or None: it is asked
    whenever the model is told of its tools, so it only looks at what somebody else keeps up to date, such as whether a
    connection is there. Tools that are known only once it is there are a `ConnectedToolSet`.
    """

    def __init__(
        self,
        tools: Iterable[Tool | Callable[..., Any]],
        *,
        prefix: str = "",
        unavailable: Callable[[], str | None] | None = None,
    ) -> None:
        made: list[Tool] = []
        for each in tools:
            tool: Any = each if hasattr(each, "manifest") else FunctionTool(each)
            plain = not prefix and unavailable is None
            made.append(tool if plain else _Member(tool, prefix + tool.manifest.name, unavailable))
        self._tools = tuple(made)

    @overload
    def __getitem__(self, index: int) -> Tool: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tool]: ...
    def __getitem__(self, index: int | slice) -> Tool | Sequence[Tool]:
        return self._tools[index]

    def __len__(self) -> int:
        return len(self._tools)

    def __repr__(self) -> str:
        return f"<ToolSet of {', '.join(each.manifest.name for each in self._tools) or 'nothing'}>"
