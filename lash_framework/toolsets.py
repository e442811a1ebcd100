"""Toolsets that connect to something: held for a host, asked as turns start, and known to a catalog by their record.

What a turn goes by is the record (`ToolSetRecord`), so a replay connects to nothing. Only a call that really runs
needs the connection.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lash_framework.faults import failure_text, leaves
from lash_framework.lifespans import Held, Lifespans
from lash_hookspecs.connected_tools import ConnectedToolSet, ListTools, ToolSetRecord, ToolsNotReady
from lash_hookspecs.errors import LashError
from lash_hookspecs.tools import Tool, ToolCallContext, ToolError, ToolFailureClass, ToolManifest
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.lifespans import Begun

__all__ = ["MAX_OFFER_BYTES", "TOOL_NAME", "ConnectedTool", "OwnedToolSet", "Toolsets"]

log = logging.getLogger("lash.hooks")

# What all model services take; one name of another shape fails every request of the session.
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

MAX_OFFER_BYTES = 4 * 1024 * 1024
"""Of what one toolset offers, as JSON. It is in the record of every turn, and in every request of a model."""

_NOT_YET = "not connected yet: a turn does it as it starts"


@frozen(eq=False)
class OwnedToolSet:
    """A toolset and the plugin that it is from; `variant`: which of the plugin's options in this host it is made of."""

    toolset: ConnectedToolSet
    plugin_id: str
    variant: str = ""

    @property
    def name(self) -> str:
        """Its name in a composition."""
        return f"{self.plugin_id}/{self.toolset.name}"

    @property
    def key(self) -> Held:
        """Its name in a host."""
        return Held(self.plugin_id, self.variant, self.toolset.name)

    def __str__(self) -> str:
        return str(self.key)


class _Connection:
    """What a connection offered last, and how many calls run on it. It is sound until a call says otherwise.

    `minds_itself`: it said `ToolsNotReady` last, so its calls are made all the same; it knows when they can be.
    """

    def __init__(self, list_tools: ListTools) -> None:
        self.list_tools = list_tools
        self.tools: Mapping[str, Tool] = {}
        self.calls = 0
        self.is_sound = True
        self.minds_itself = False


class Toolsets:
    """The toolsets of one host, and what each offered last."""

    def __init__(self, lifespans: Lifespans) -> None:
        self._lifespans = lifespans
        self._live: dict[Held, _Connection] = {}
        self._records: dict[Held, ToolSetRecord] = {}

    async def connect(self, wanted: Sequence[OwnedToolSet]) -> tuple[ToolSetRecord, ...]:
        """What they offer now, all asked at once; whoever isn't connected gets connected. Never raises for one."""
        import anyio

        found: dict[Held, ToolSetRecord] = {}

        async def ask(owned: OwnedToolSet, begun: Begun | None) -> None:
            found[owned.key] = await self._record(owned, begun)

        begun = {each.key: self._begin(each) for each in wanted}
        async with anyio.create_task_group() as tasks:
            for each in wanted:
                tasks.start_soon(ask, each, begun[each.key])
        return tuple(found[each.key] for each in wanted)

    def known(self, wanted: Iterable[OwnedToolSet]) -> tuple[ToolSetRecord, ...]:
        """What they offered when they were asked last."""
        return tuple(self._records.get(each.key) or _record(each, reason=_NOT_YET) for each in wanted)

    def peek(self, owned: OwnedToolSet, name: str) -> Tool | None:
        """A tool of a connection, if there is one."""
        live = self._live.get(owned.key)
        return None if live is None else live.tools.get(name)

    async def connection(self, owned: OwnedToolSet, name: str) -> _Connection:
        """What a call of this tool runs on: asked, or made anew, if it isn't sound. Raises `ToolError`."""
        live = self._live.get(owned.key)
        if live is None or not live.is_sound or not self._lifespans.is_open(owned.key):
            record = await self._record(owned, self._begin(owned))
            live = self._live.get(owned.key)
            if live is None or (record.reason and not live.minds_itself):
                raise _unavailable(f"{owned} is not connected: {record.reason}")
        if name not in live.tools:
            raise _unavailable(f"{owned} doesn't offer `{name}` any more")
        return live

    def _begin(self, owned: OwnedToolSet) -> Begun | None:
        """Begin to connect, unless it is connected."""
        if self._lifespans.is_open(owned.key):
            return None
        return self._lifespans.begin(owned.key, owned.toolset.connect, owned.toolset.limit_s)

    async def _record(self, owned: OwnedToolSet, begun: Begun | None) -> ToolSetRecord:
        """Ask, and keep the answer, or the reason why there is none. `begun`: the connection is new."""
        import anyio

        from lash_hookspecs.codec import encode  # which is heavy, and nothing to whoever only lists plugins

        limit_s, reason = owned.toolset.limit_s, f"it took longer than {owned.toolset.limit_s:g} s (`limit_s`)"
        live: _Connection | None = None
        try:
            with anyio.move_on_after(limit_s):
                list_tools, listed = await self._listed(owned, begun)
                tools = _named(owned, listed)
                record = _record(owned, tools=tuple(each.manifest for each in tools.values()))
                if (size := len(encode(record))) > MAX_OFFER_BYTES:
                    text = f"what it offers has {size:,} bytes, and may have {MAX_OFFER_BYTES:,}: offer fewer tools"
                    raise ToolError(text)
                live = self._kept(owned, list_tools, tools)
        except Exception as error:
            reason = _reason(error)
            if (kept := self._live.get(owned.key)) is not None:
                kept.minds_itself = isinstance(error, ToolsNotReady)
        if live is None:
            if (busy := self._calls(owned)) > 0:
                reason += f", while {busy} {'calls run' if busy > 1 else 'call runs'} on its connection"
            elif (kept := self._live.get(owned.key)) is not None and not kept.minds_itself:
                del self._live[owned.key]
            log.warning("%s is not connected: %s", owned, reason)
            record = _record(owned, reason=reason)
        self._records[owned.key] = record
        return record

    def _kept(self, owned: OwnedToolSet, list_tools: ListTools, tools: Mapping[str, Tool]) -> _Connection:
        """The connection with what it offers now."""
        live = self._live.get(owned.key)
        if live is None or live.list_tools is not list_tools:
            live = self._live[owned.key] = _Connection(list_tools)
        live.tools, live.is_sound, live.minds_itself = tools, True, False
        return live

    def _calls(self, owned: OwnedToolSet, list_tools: ListTools | None = None) -> int:
        """How many calls run on its connection; 0 if that isn't this one."""
        live = self._live.get(owned.key)
        return live.calls if live is not None and list_tools in (None, live.list_tools) else 0

    async def _listed(self, owned: OwnedToolSet, begun: Begun | None) -> tuple[ListTools, Iterable[Any]]:
        """The tools that the connection names. One that was there before, and is broken, is made anew."""
        is_new = begun is not None
        while True:
            list_tools: ListTools = await self._lifespans.connect(
                owned.key, owned.toolset.connect, owned.toolset.limit_s, begun
            )
            answered = False
            try:
                tools = list(await _asked(list_tools))
                answered = True
                return list_tools, tools
            except ToolsNotReady:
                answered = True
                raise
            except Exception as error:
                if is_new or self._calls(owned, list_tools):
                    raise
                log.info("%s is connected again: %s", owned, failure_text(error))
                is_new = True
            finally:
                # It failed, or it hangs: whoever needs it next must not find it. But whoever runs on it isn't cut off:
                # a server that is busy with a long call may be too busy to list its tools.
                if not answered and not self._calls(owned, list_tools):
                    self._lifespans.drop(owned.key, list_tools)


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
        """Run it. What it raises names the plugin: the connection may have died, so the next call asks it first."""
        connection = await self._toolsets.connection(self._owned, self.manifest.name)
        connection.calls += 1
        answered = False
        try:
            result = await connection.tools[self.manifest.name].call(ctx, args)
            answered = True
            return result
        except Exception as error:
            alone, *others = leaves(error)
            if isinstance(alone, ToolError | LashError) and not others:
                answered = getattr(alone, "failure_class", None) is not ToolFailureClass.UNAVAILABLE
                raise
            text = f"{self._owned}: {failure_text(error)}"
            raise ToolError(text, code="tool_raised", failure_class=ToolFailureClass.INTERNAL) from error
        finally:
            connection.calls -= 1
            connection.is_sound &= answered


def _asked(list_tools: Any) -> Any:
    """What it gives, to be awaited. Raises `ToolError` where `connect` yields something else than it must."""
    given = list_tools() if callable(list_tools) else list_tools
    if not hasattr(given, "__await__"):
        what = "an async function that returns the tools"
        how = "yields" if given is list_tools else "yields a function that returns"
        raise ToolError(f"`connect` {how} a `{type(given).__name__}`: let it yield {what}")
    return given


def _unavailable(text: str) -> ToolError:
    return ToolError(text, code="tool_unavailable", failure_class=ToolFailureClass.UNAVAILABLE)


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
