"""A server's tools, as lash calls them: in time, with progress, and with whatever goes wrong told to the model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio

from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.tools import (
    Tool,
    ToolActivation,
    ToolCallContext,
    ToolCallOutput,
    ToolCallSuccess,
    ToolEffect,
    ToolError,
    ToolFailureClass,
    ToolManifest,
)
from lash_plugin_tools_mcp.asking import Leg, converse
from lash_plugin_tools_mcp.listing import Offer
from lash_plugin_tools_mcp.parking import Parked, Timer
from lash_plugin_tools_mcp.results import output_of

if TYPE_CHECKING:
    import mcp_types as types
    from mcp.client import Client

    from lash_plugin_tools_mcp.connection import Connection, Live

__all__ = ["McpTool", "StepTool", "asked", "tools_of"]

TELL_EVERY_S = 0.1
"""Progress is told so often at most: a server may send thousands a second."""


def tools_of(connection: Connection, offers: Iterable[Offer], client: Client) -> list[Tool]:
    """What a model may be told of, and what only these tools call."""
    found: list[Tool] = [McpTool(connection, each) for each in offers]
    if connection.options.resources or connection.options.prompts:
        from lash_plugin_tools_mcp.beside_tools import tools_beside

        taken = {each.manifest.name for each in found}
        found += [each for each in tools_beside(connection, client) if each.manifest.name not in taken]
    if connection.options.asks:
        effects = {connection.options.effect_of(each.name) for each in offers}
        found += [StepTool(connection, each) for each in sorted(effects)]
    return found


class McpTool:
    """A tool of a server."""

    def __init__(self, connection: Connection, offer: Offer) -> None:
        self.manifest = offer.manifest
        self._connection = connection
        self._name = offer.name

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Call it at the server, in steps if it may ask a person in between."""
        options = self._connection.options
        if options.asks:
            step = step_name(self._connection.name, options.effect_of(self._name))
            return await converse(ctx, self._connection.name, self._name, step, args)
        output = await called(self._connection, ctx, self._name, args, Leg.of(ctx, {}))
        assert output is not None  # it isn't kept
        return output


class StepTool:
    """One call at a server, as a step that is recorded: it ends with a result, or with what the server asks."""

    def __init__(self, connection: Connection, effect: ToolEffect) -> None:
        self.manifest = ToolManifest(
            name=step_name(connection.name, effect),
            description=f"One step of a call at the MCP server `{connection.name}`.",
            activation=ToolActivation.INTERNAL,
            effect=effect,
            attaches=connection.options.images,
        )
        self._connection = connection

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Call the server with the answers that are known."""
        leg = Leg.of(ctx, args["answers"], args["samples"])
        try:
            output = await called(self._connection, ctx, args["tool"], args["arguments"], leg, parks=True)
        except ToolError:
            if not leg.questions:
                raise
        if leg.questions:  # whatever it said then: it had no answer
            return {"questions": leg.questions, "samples": leg.samples.plain()}
        assert output is not None  # it has ended, then
        if not isinstance(output.outcome, ToolCallSuccess):
            return output
        return ToolCallOutput(ToolCallSuccess({"result": output.outcome.value}, output.outcome.attachments))


def step_name(server: str, effect: ToolEffect) -> str:
    """Without a tool's name in it, so that no tool has it."""
    return f"mcp__{server}" if effect is ToolEffect.UNSAFE else f"mcp_{effect}__{server}"


async def called(
    connection: Connection, ctx: ToolCallContext, tool: str, args: Mapping[str, Any], leg: Leg, *, parks: bool = False
) -> ToolCallOutput | None:
    """Call a tool at its server. Raises `ToolError` for all that isn't the tool's own result.

    With `parks` a call that asks a person may be kept, to go on with the answer: None is returned then.
    """
    desk = connection.desk
    if not desk.is_open:
        result: types.CallToolResult | None = await _called(connection, ctx, tool, args, leg, _timer(connection))
    else:
        async with desk.lock:
            result = await _at_desk(connection, ctx, tool, args, leg, parks)
    if result is None:
        return None
    # One image that the model can't be shown would fail every request from now on.
    takes_images = connection.options.images and (ctx.model is None or ctx.model.images is not False)
    put = ctx.blobs.put if takes_images and ctx.services is not None else None
    return await output_of(result, put, connection.redactor)


async def _at_desk(
    connection: Connection, ctx: ToolCallContext, tool: str, args: Mapping[str, Any], leg: Leg, parks: bool
) -> types.CallToolResult | None:
    desk = connection.desk
    who = (ctx.session_id, ctx.turn_id, ctx.call_id.rpartition(":")[0], tool, stable_hash("lash.mcp-call", args))
    parked = await desk.unpark(who, leg.answers)
    if not parks:
        desk.leg = leg
        try:
            return await _called(connection, ctx, tool, args, leg, _timer(connection))
        finally:
            desk.leg = None
    if parked is not None:
        parked.answer(leg)
    else:
        timer = _timer(connection)
        desk.leg, parked = leg, Parked(who, leg, timer)
        leg.hold = parked.hold
        connection.run(parked.run, partial(_called, connection, ctx, tool, args, leg, timer))
    result = None
    try:
        result = await parked.settled()
    finally:
        if parked.waits:
            desk.parked = parked
        else:
            desk.leg = None
    return result


def _timer(connection: Connection) -> Timer:
    return Timer(connection.options.idle_timeout_s, connection.options.total_timeout_s)


async def _called(
    connection: Connection, ctx: ToolCallContext, tool: str, args: Mapping[str, Any], leg: Leg, timer: Timer
) -> types.CallToolResult:
    from lash_plugin_tools_mcp.sdk import call_tool

    leg.timer = timer
    return await asked(connection, leg, lambda live, told: call_tool(connection, live, tool, args, ctx, told), timer)


T = TypeVar("T")


async def asked(
    connection: Connection, row: Row, request: Callable[[Live, Progress], Awaitable[T]], timer: Timer | None = None
) -> T:
    """What the server answers, in time; asked again if it knows no session any more. Raises `ToolError`."""
    from lash_plugin_tools_mcp.sdk import SessionGone

    live = await connection.ready(connection.options.wait_s, patient=True)
    try:
        return await in_time(connection, row, partial(request, live), timer)
    except SessionGone:  # it refused the request, since it is another process by now: nothing was done
        live.end.tell("the server forgot the session")
        live = await connection.ready(connection.options.wait_s, patient=True)
        return await in_time(connection, row, partial(request, live), timer)


Progress = Callable[[float, float | None, str | None], Awaitable[None]]


class Row(Protocol):
    """Where progress is told, if anywhere."""

    @property
    def progress(self) -> Callable[..., Awaitable[None]] | None: ...


async def in_time(
    connection: Connection, row: Row, call: Callable[[Progress], Awaitable[T]], timer: Timer | None = None
) -> T:
    """What a call returns, unless the server is silent for too long, or it takes too long in all, progress or not."""
    options, timer = connection.options, timer or _timer(connection)
    told = anyio.current_time()
    with timer.begun():

        async def progress(done: float, total: float | None, message: str | None) -> None:
            nonlocal told
            now = anyio.current_time()
            timer.heard()
            if row.progress is not None and now - told >= TELL_EVERY_S:
                told = now
                part = min(1.0, max(0.0, done / total)) if total else None
                await row.progress(connection.redacted(message or ""), part)

        return await call(progress)
    live = connection.live
    if live is not None:
        live.is_suspect = True
    limit, name = (options.total_timeout_s, "total") if timer.is_over else (options.idle_timeout_s, "idle")
    text = f"server `{connection.name}` {'took longer than' if timer.is_over else 'said nothing for'} {limit:g} s"
    raise ToolError(
        f"{text} (`{name}_timeout_s`); whether it did anything is unknown",
        code="mcp_timeout",
        failure_class=ToolFailureClass.TIMEOUT,
    )
