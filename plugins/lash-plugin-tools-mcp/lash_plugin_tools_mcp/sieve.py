"""Between a transport and the SDK, which takes a list of tools whole or not at all: one bad tool costs only itself."""

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
    """A transport that leaves out tools which aren't what the protocol says, once it is told its `version`."""

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
        """The message, as it is or with fewer tools."""
        message = item.message if isinstance(item, SessionMessage) else None
        if self.version and isinstance(message, JSONRPCResponse) and isinstance(message.result.get("tools"), list):
            message.result["tools"] = [each for each in message.result["tools"] if self._is_tool(each)]
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
