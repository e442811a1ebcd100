"""Between a transport and the SDK: of what a server lists the SDK is told what it can take.

It takes a list of tools whole or not at all, so one bad tool would cost all of them. And it holds each result against
the schema that the server has given for it, with a checker that nothing can end: a pattern such as `(a+)+$` would hold
the whole process. So it is told of no such schema; a result is read as what it is.
"""

from __future__ import annotations

import logging
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCResponse
from mcp_types.methods import validate_server_result
from pydantic import ValidationError

if TYPE_CHECKING:
    from mcp.client._transport import ReadStream, TransportStreams

__all__ = ["Sieve"]

log = logging.getLogger("lash.mcp")


class Sieve(AbstractAsyncContextManager["TransportStreams"]):
    """A transport without schemas of results, and, once it is told its `version`, without what the protocol has not."""

    def __init__(self, transport: AbstractAsyncContextManager[TransportStreams]) -> None:
        self._transport = transport
        self.version = ""

    async def __aenter__(self) -> TransportStreams:
        read, write = await self._transport.__aenter__()
        return _Sieved(self, read), write

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._transport.__aexit__(kind, error, trace)

    def sift(self, item: SessionMessage | Exception) -> SessionMessage | Exception:
        """The message, as it is or with less of its tools, or fewer."""
        message = item.message if isinstance(item, SessionMessage) else None
        if isinstance(message, JSONRPCResponse) and isinstance(tools := message.result.get("tools"), list):
            for each in tools:
                if isinstance(each, dict):
                    each.pop("outputSchema", None)
            if self.version:
                message.result["tools"] = [each for each in tools if self._is_tool(each)]
        return item

    def _is_tool(self, tool: Any) -> bool:
        try:
            validate_server_result("tools/list", self.version, {"tools": [tool], **_COMPLETE})
        except ValidationError as error:
            name = tool.get("name") if isinstance(tool, dict) else None
            log.warning("an MCP server lists what is no tool (%.80r): %d faults", name, error.error_count())
            return False
        return True


_COMPLETE = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}


class _Sieved:
    """The stream that the SDK reads."""

    def __init__(self, sieve: Sieve, stream: ReadStream[SessionMessage | Exception]) -> None:
        self._sieve = sieve
        self._stream = stream

    @property
    def last_context(self) -> Any:
        """What the SDK looks for at streams of its own."""
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """The next message."""
        return self._sieve.sift(await self._stream.receive())

    async def aclose(self) -> None:
        """Read no more."""
        await self._stream.aclose()

    def __aiter__(self) -> _Sieved:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        return self._sieve.sift(await self._stream.__anext__())

    async def __aenter__(self) -> _Sieved:
        await self._stream.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._stream.__aexit__(kind, error, trace)
