"""All that is said to the MCP SDK. It is heavy to import: only who connects does."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import mcp_types as types
from mcp.client import Client, ClientRequestContext
from mcp.client.subscriptions import ListenNotSupportedError, SubscriptionLost
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

from lash_hookspecs.tools import ToolCallContext, ToolError, ToolFailureClass
from lash_plugin_tools_mcp.asking import question_key
from lash_plugin_tools_mcp.connection import Live
from lash_plugin_tools_mcp.ends import TOO_LARGE, UNREADABLE
from lash_plugin_tools_mcp.http import http
from lash_plugin_tools_mcp.options import expanded
from lash_plugin_tools_mcp.sampling import sampled
from lash_plugin_tools_mcp.sieve import Sieve
from lash_plugin_tools_mcp.stdio import stdio

if TYPE_CHECKING:
    from mcp.client import Transport

    from lash_plugin_tools_mcp.connection import Connection
    from lash_plugin_tools_mcp.ends import End

__all__ = [
    "SessionGone",
    "call_tool",
    "connected",
    "get_prompt",
    "list_prompts",
    "list_resources",
    "listed",
    "listen",
    "read_resource",
]

log = logging.getLogger("lash.mcp")

MOST_PAGES = 50
_EXTERNAL = ToolFailureClass.EXTERNAL
KEY = "lash/idempotency_key"
"""Where a server finds the call's key, for one that knows what to do with it."""


# What the SDK logs is told by reasons and failures; without a handler Python would write it to the terminal.
for _name in ("mcp", "client"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class SessionGone(ToolError):
    """An HTTP server refused a request since it doesn't know the session."""


def _transport(connection: Connection, end: End) -> Transport:
    options, limit = connection.options, connection.options.max_message_bytes
    if options.command:
        command = [expanded(each) for each in (options.command, *options.args)]
        env = {name: expanded(value) for name, value in options.env.items()}
        cwd = str(Path(expanded(options.cwd)).expanduser()) if options.cwd else None
        return stdio(command, env, cwd, limit, end)
    headers = {name: expanded(value) for name, value in options.headers.items()}
    return http(expanded(options.url), headers, options.auth, limit, options.total_timeout_s, end)


@asynccontextmanager
async def connected(connection: Connection, end: End, *, legacy: bool) -> AsyncIterator[Live]:
    """Connect, and agree on a protocol. Raises whatever goes wrong with that."""
    connection.prepare()
    options = connection.options
    found: list[Live] = []

    async def heard(message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification) and found:
            found[0].has_changed = True

    sieve = Sieve(_transport(connection, end))
    client = Client(
        sieve,
        mode="legacy" if legacy else "auto",
        message_handler=heard,
        elicitation_callback=_elicitation(connection) if options.elicitation == "ask" else None,
        sampling_callback=_sampling(connection) if options.sampling != "off" else None,
        list_roots_callback=_roots(options.roots) if options.roots else None,
        client_info=types.Implementation(name="lash", version=version("lash-plugin-tools-mcp")),
        cache=None,
    )
    async with client:
        found.append(Live(client, end, sieve))
        yield found[0]


async def listen(live: Live) -> None:
    """Hear of changed tools from servers of the new protocol, which tell only those who listen."""
    offered = live.client.server_capabilities.tools
    if not _is_modern(live.client) or offered is None or not offered.list_changed:
        return
    try:
        while True:
            try:
                async with live.client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        live.has_changed = True
            except SubscriptionLost:
                pass
            live.has_changed = True  # nobody knows what was missed
            await anyio.sleep(1)
    except (ListenNotSupportedError, MCPError, TimeoutError) as error:
        log.info("an MCP server can't be listened to: %s", type(error).__name__)


async def listed(live: Live, most: int) -> list[types.Tool]:
    """The tools of all pages, and no more pages than could be true."""
    try:
        return await _listed(live.client, most)
    except ValidationError:
        live.sieve.version = live.client.protocol_version  # and so without those that are no tools of MCP
        return await _listed(live.client, most)


async def _listed(client: Client, most: int) -> list[types.Tool]:
    if client.server_capabilities.tools is None:
        return []
    found: list[types.Tool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if not cursor or len(found) > 4 * most:
            break
    return found


async def call_tool(
    connection: Connection, live: Live, tool: str, args: Mapping[str, Any], ctx: ToolCallContext, progress: Any
) -> types.CallToolResult:
    """Call a tool. Raises `ToolError` with what the model should know, and `SessionGone`."""
    with _refusals(connection, live):
        meta: Any = {KEY: ctx.idempotency_key}
        return await live.client.call_tool(tool, dict(args), progress_callback=progress, meta=meta)


@contextmanager
def _refusals(connection: Connection, live: Live) -> Iterator[None]:
    """What the SDK raises at a server's answer, as a `ToolError`."""
    where = f"server `{connection.name}`"
    try:
        yield
    except MCPError as error:
        raise _failure(connection, live, error) from None
    except ValidationError as error:
        text = f"{where} answered with what is no result of MCP ({error.error_count()} faults)"
        raise ToolError(text, code="mcp_bad_result", failure_class=_EXTERNAL) from None


def _failure(connection: Connection, live: Live, error: MCPError) -> Exception:
    where, said = f"server `{connection.name}`", connection.redacted(error.message)
    match error.code:
        case types.CONNECTION_CLOSED:
            live.is_suspect = True
            why = connection.redacted(live.end.reason) or said
            text = f"{where} went away in the middle of the call ({why}); whether it did anything is unknown"
            return ToolError(text, code="mcp_lost", failure_class=ToolFailureClass.UNAVAILABLE)
        case types.INVALID_REQUEST if error.message == "Session terminated":
            return SessionGone(f"{where} forgets its sessions", code="mcp_error", failure_class=_EXTERNAL)
        case types.INVALID_PARAMS:
            return ToolError(f"{where}: {said}", code="mcp_error", failure_class=ToolFailureClass.INVALID_REQUEST)
        case code if code == TOO_LARGE:
            return ToolError(f"{where}: {said}", code="result_too_large")
        case code if code == UNREADABLE:
            return ToolError(f"{where}: {said}", code="mcp_bad_result", failure_class=_EXTERNAL)
    return ToolError(f"{where}: {said}", code="mcp_error", failure_class=_EXTERNAL)


def _is_modern(client: Client) -> bool:
    return client.protocol_version in MODERN_PROTOCOL_VERSIONS


# ---- what the server asks -------------------------------------------------------------------------------------------


def _refused(text: str) -> types.ErrorData:
    return types.ErrorData(code=types.INVALID_REQUEST, message=text)


def _elicitation(connection: Connection) -> Any:
    async def elicit(
        context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        leg = connection.desk.leg
        if leg is None:
            return _refused("nothing is called that could ask")
        asked = params.model_dump(mode="json", by_alias=True, exclude_none=True)
        is_modern = context.session.protocol_version in MODERN_PROTOCOL_VERSIONS
        said = await leg.answer({"kind": "elicitation", **connection.redactor.value(asked)}, may_hold=not is_modern)
        if said is not None:
            return types.ElicitResult.model_validate(said)
        if is_modern:
            return _refused("a person is asked")  # which ends the call; it is made again with the answer
        return types.ElicitResult(action="cancel")

    return elicit


def _sampling(connection: Connection) -> Any:
    async def sample(
        context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult | types.ErrorData:
        leg = connection.desk.leg
        if leg is None or leg.completions is None:
            return _refused("nothing is called that could ask a model")
        asked = params.model_dump(mode="json", by_alias=True, exclude_none=True)
        question = {"kind": "sampling", **connection.redactor.value(asked)}
        if connection.options.sampling == "ask":
            may_hold = context.session.protocol_version not in MODERN_PROTOCOL_VERSIONS
            said = await leg.answer(question, may_hold=may_hold)
            if said is None or said.get("action") != "accept":
                return _refused("a person is asked" if said is None else "a person has declined")
        if leg.completions is None:
            return _refused("nothing is called that could ask a model")
        return await sampled(connection, leg, params, question_key(question))

    return sample


def _roots(folders: tuple[str, ...]) -> Any:
    paths = [Path(expanded(each)).expanduser().absolute() for each in folders]

    async def roots(context: ClientRequestContext) -> types.ListRootsResult:
        found = [{"uri": each.as_uri(), "name": each.name or None} for each in paths]
        return types.ListRootsResult.model_validate({"roots": found})

    return roots


# ---- resources and prompts ------------------------------------------------------------------------------------------


async def list_resources(connection: Connection, live: Live) -> list[tuple[str, str, str | None]]:
    """URI, name and description of the first page's, and of the templates. Raises `ToolError`."""
    with _refusals(connection, live):
        found = [(each.uri, each.name, each.description) for each in (await live.client.list_resources()).resources]
        templates = (await live.client.list_resource_templates()).resource_templates
    return [*found, *((each.uri_template, each.name, each.description) for each in templates)]


async def read_resource(connection: Connection, live: Live, uri: str) -> list[Any]:
    """The contents of one. Raises `ToolError`."""
    with _refusals(connection, live):
        return list((await live.client.read_resource(uri)).contents)


async def list_prompts(connection: Connection, live: Live) -> list[types.Prompt]:
    """Those of the first page. Raises `ToolError`."""
    with _refusals(connection, live):
        return list((await live.client.list_prompts()).prompts)


async def get_prompt(
    connection: Connection, live: Live, name: str, arguments: Mapping[str, str]
) -> types.GetPromptResult:
    """One, filled in. Raises `ToolError`."""
    with _refusals(connection, live):
        return await live.client.get_prompt(name, dict(arguments))
