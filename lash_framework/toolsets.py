"""Toolsets that connect to something: held for a host, asked as turns start, and known to a catalog by their record.

What a turn goes by is the record (`ToolSetRecord`), so a replay connects to nothing. Only a call that really runs
needs the connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lash_framework.faults import failure_text, leaves
from lash_framework.lifespans import Lifespans
from lash_hookspecs.connected_tools import ConnectedToolSet, ListTools, ToolSetRecord, ToolsNotReady
from lash_hookspecs.errors import LashError
from lash_hookspecs.tools import Tool, ToolCallContext, ToolError, ToolFailureClass, ToolManifest
from lash_hookspecs.values import frozen

__all__ = ["TOOL_NAME", "ConnectedTool", "OwnedToolSet", "Toolsets"]

log = logging.getLogger("lash.hooks")

# What all model services take; one name of another shape fails every request of the session.
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_NOT_YET = "not connected yet: a turn does it as it starts"


@frozen(eq=False)
class OwnedToolSet:
    """A toolset and the plugin that it is from."""

    toolset: ConnectedToolSet
    plugin_id: str

    @property
    def key(self) -> str:
        """Its name in a host."""
        return f"{self.plugin_id}/{self.toolset.name}"

    def __str__(self) -> str:
        return f"toolset `{self.toolset.name}` of plugin `{self.plugin_id}`"


class Toolsets:
    """The toolsets of one host, and what each offered last."""

    def __init__(self, lifespans: Lifespans) -> None:
        self._lifespans = lifespans
        self._live: dict[str, Mapping[str, Tool]] = {}
        self._records: dict[str, ToolSetRecord] = {}

    async def connect(self, wanted: Sequence[OwnedToolSet]) -> tuple[ToolSetRecord, ...]:
        """What they offer now, all asked at once; whoever isn't connected gets connected. Never raises for one."""
        import anyio

        known = {each.key: self._lifespans.is_open(each.key) for each in wanted}
        for each in wanted:
            self._lifespans.begin(each.key, each.toolset.connect, each.toolset.limit_s)
        async with anyio.create_task_group() as tasks:
            for each in wanted:
                tasks.start_soon(self._record, each, known[each.key])
        return self.known(wanted)

    def known(self, wanted: Iterable[OwnedToolSet]) -> tuple[ToolSetRecord, ...]:
        """What they offered when they were asked last."""
        return tuple(self._records.get(each.key) or _record(each, reason=_NOT_YET) for each in wanted)

    def peek(self, owned: OwnedToolSet, name: str) -> Tool | None:
        """A tool of a connection, if there is one."""
        return self._live.get(owned.key, {}).get(name)

    async def tool(self, owned: OwnedToolSet, name: str) -> Tool:
        """The tool that a call runs; connects where this host hasn't yet. Raises `ToolError`."""
        if owned.key not in self._live:
            await self._record(owned, self._lifespans.is_open(owned.key))
        found = self.peek(owned, name)
        if found is None:
            record = self._records[owned.key]
            why = f"is not connected: {record.reason}" if record.reason else f"doesn't offer `{name}` any more"
            raise ToolError(f"{owned} {why}", code="tool_unavailable", failure_class=ToolFailureClass.UNAVAILABLE)
        return found

    async def _record(self, owned: OwnedToolSet, was_open: bool) -> None:
        """Ask, and keep the answer, or the reason why there is none. `was_open`: the connection isn't new."""
        import anyio

        from lash_hookspecs.codec import encode  # which is heavy, and nothing to whoever only lists plugins

        limit_s, reason = owned.toolset.limit_s, f"it took longer than {owned.toolset.limit_s:g} s (`limit_s`)"
        tools: Mapping[str, Tool] | None = None
        try:
            with anyio.move_on_after(limit_s):
                tools = _named(owned, await self._listed(owned, was_open))
                record = _record(owned, tools=tuple(each.manifest for each in tools.values()))
                encode(record)
        except Exception as error:
            tools, reason = None, _reason(error)
        if tools is None:
            log.warning("%s is not connected: %s", owned, reason)
            self._live.pop(owned.key, None)
            self._records[owned.key] = _record(owned, reason=reason)
        else:
            self._live[owned.key], self._records[owned.key] = tools, record

    async def _listed(self, owned: OwnedToolSet, was_open: bool) -> Iterable[Any]:
        """The tools that the connection names. One that was there before, and is broken, is made anew."""
        try:
            return await self._asked(owned)
        except ToolsNotReady:
            raise
        except Exception as error:
            if not was_open:
                raise
            log.info("%s is connected again: %s", owned, failure_text(error))
        return await self._asked(owned)

    async def _asked(self, owned: OwnedToolSet) -> Iterable[Any]:
        toolset = owned.toolset
        list_tools: ListTools = await self._lifespans.connect(owned.key, toolset.connect, toolset.limit_s)
        answered = False
        try:
            tools = list(await list_tools())
            answered = True
        except ToolsNotReady:
            answered = True
            raise
        finally:
            if not answered:  # it failed, or it hangs: whoever needs it next must not find it
                self._lifespans.drop(owned.key, list_tools)
        return tools


class ConnectedTool:
    """A tool as a record knows it; a call goes to the connection."""

    def __init__(self, toolsets: Toolsets, owned: OwnedToolSet, manifest: ToolManifest) -> None:
        self.manifest = manifest
        self._toolsets = toolsets
        self._owned = owned

    def __repr__(self) -> str:
        return f"<tool {self.manifest.name} of {self._owned}>"

    @property
    def is_async(self) -> bool:
        """Whether a cancel stops it."""
        return getattr(self._toolsets.peek(self._owned, self.manifest.name), "is_async", True)

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Run it. What it raises names the plugin: the connection may have died."""
        tool = await self._toolsets.tool(self._owned, self.manifest.name)
        try:
            return await tool.call(ctx, args)
        except Exception as error:
            alone, *others = leaves(error)
            if isinstance(alone, ToolError | LashError) and not others:
                raise
            text = f"{self._owned}: {failure_text(error)}"
            raise ToolError(text, code="tool_raised", failure_class=ToolFailureClass.INTERNAL) from error


def _record(owned: OwnedToolSet, tools: tuple[ToolManifest, ...] = (), reason: str = "") -> ToolSetRecord:
    return ToolSetRecord(plugin_id=owned.plugin_id, name=owned.toolset.name, tools=tools, reason=reason)


def _reason(error: Exception) -> str:
    told = isinstance(error, ToolError | LashError | TimeoutError)  # by who knows how to tell it
    return (told and str(error)) or failure_text(error)


def _named(owned: OwnedToolSet, found: Iterable[Any]) -> dict[str, Tool]:
    """The tools by the names that the model knows them by. Raises `ToolError` for what is none."""
    from lash_hookspecs.toolsets import ToolSet

    named: dict[str, Tool] = {}
    for tool in ToolSet(found, prefix=owned.toolset.prefix):
        manifest = tool.manifest
        if not isinstance(manifest, ToolManifest) or not callable(getattr(tool, "call", None)):
            raise ToolError(f"it lists {type(tool).__name__}, which is no tool: give it `manifest` and `call`")
        if not TOOL_NAME.fullmatch(manifest.name):
            raise ToolError(f"no model service takes the tool name {manifest.name!r}: use 1 to 64 of A-Z a-z 0-9 _ -")
        if manifest.name in named:
            raise ToolError(f"it lists two tools `{manifest.name}`")
        named[manifest.name] = tool
    return named
