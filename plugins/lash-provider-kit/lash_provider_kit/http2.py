"""Calls over HTTP/2, which share a connection: what one of them, or the server, does mustn't cost the others.

On a connection of its own, closing it says that nobody waits for an answer any more. Here httpcore lets go of a stream
without a word: the service would go on, and be paid for it, and what it sent would use the connection's window up. What
breaks, or a cancel amid what httpcore sets up once for all calls, would be left to the calls that come next. httpcore
has no public way to mend that, nor httpx one to say what a connection is made of, so their insides are looked into.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any
from weakref import WeakSet

import anyio
import httpcore
import httpx
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, StreamReset
from h2.exceptions import H2Error

from lash_provider_kit.server_frames import REFUSED, ServerFrames
from lash_provider_kit.whole_writes import GRACE_S, WholeWrites

__all__ = ["Http2Transport", "reset_given_up"]

log = logging.getLogger("lash.provider")

_CANCEL = 8
"""The code of a reset by which a client says that it doesn't need the stream any more."""

_FAULTS = (httpx.NetworkError, httpx.ProtocolError, httpcore.ConnectionNotAvailable, H2Error)
"""What comes of a connection that ends or is misused; of the last two httpx knows nothing."""

_CLOSED_HERE = "it was closed on this side, since another call on it had left it broken"


class _Refused(Exception):
    """Nothing was done of the call, or nothing sent, since its connection came to an end."""


class Http2Transport(httpx.AsyncBaseTransport):
    """httpx's own transport, whose given up streams are reset, and on whose connections all is written whole.

    What ends a connection is `httpx.ReadError`. Wrap it before its first request.
    """

    def __init__(self, inner: httpx.AsyncHTTPTransport) -> None:
        self._inner = inner
        self._pool: Any = inner._pool
        self._pool._network_backend = WholeWrites(self._pool._network_backend, self)
        self._made: WeakSet[Any] = WeakSet()
        create = self._pool.create_connection

        def create_connection(origin: Any) -> Any:
            made = create(origin)
            self._made.add(made)
            return made

        self._pool.create_connection = create_connection  # type: ignore[method-assign]  # each pool has its own

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it."""
        try:
            return await self._sent(request)
        except _Refused:
            pass  # once: what is refused on a new connection, too, is so by the service
        try:
            return await self._sent(request)
        except _Refused as exc:
            refused = httpx.ReadError(str(exc))
        raise refused

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def _sent(self, request: httpx.Request) -> httpx.Response:
        meant: Exception
        try:
            response = await self._inner.handle_async_request(request)
        except H2Error:  # httpcore makes its own of it, but where it begins a connection: nothing is sent there yet
            meant = _Refused("the connection was closed before anything was sent")
        except _FAULTS as exc:
            meant = await self._meaning(exc)
        except BaseException:
            for connection in self._connections():
                _complete(connection)
            # While another call's body is stalled, nothing can be written: the next one who writes sends this, too.
            with anyio.move_on_after(GRACE_S, shield=True):
                await self._reset(request)
            raise
        else:
            self._keep()
            response.stream = _Reset(response.stream, self, request)
            return response
        raise meant

    # ---- a connection that takes no more calls ----------------------------------------------------------------------

    def begins(self, stream: Any) -> tuple[Any, ServerFrames]:
        """Take note of httpcore's connection, and have it read in turns."""
        connection = next(each for each in self._connections() if each._network_stream is stream)
        _Turns(connection)
        return connection, ServerFrames()

    def heard(self, known: tuple[Any, ServerFrames], data: bytes) -> bytes:
        """What httpcore gets to read."""
        connection, frames = known
        heard = frames.feed(data, connection._events)
        if frames.is_leaving:
            _leave(connection)
        return heard

    def cut(self, known: tuple[Any, ServerFrames]) -> None:
        """Nobody gets the connection any more. Of a cancel httpcore takes no note."""
        known[0]._connection_error = True

    async def _meaning(self, exc: Exception) -> Exception:
        """What a fault means for a call. After one that isn't this call's, all on the connection are told."""
        cause: Any = exc.__cause__
        if isinstance(exc, httpx.NetworkError):
            return httpx.ReadError(_CLOSED_HERE) if _is_closed_here(exc) else exc
        event = cause.args[0] if isinstance(cause, httpcore.ProtocolError) and cause.args else None
        if isinstance(event, StreamReset):
            if event.error_code == REFUSED:
                return _Refused("the service refused the call, and had done nothing of it yet (REFUSED_STREAM)")
            return httpx.ReadError(f"the service gave up this call ({_name(event.error_code)})")
        if isinstance(event, ConnectionTerminated):
            words = (event.additional_data or b"").decode("utf-8", "replace")
            return httpx.ReadError(
                f"the service ended the connection ({_name(event.error_code)}{f': {words}' if words else ''})"
            )
        if isinstance(exc, httpcore.ConnectionNotAvailable):
            return httpx.ReadError("the service ended the connection")
        error = exc if isinstance(exc, H2Error) else event
        if not isinstance(error, H2Error):
            return exc
        closed = await self._close_broken()
        if "ConnectionState.CLOSED" in str(error):
            return httpx.ReadError(_CLOSED_HERE)
        if closed:
            return httpx.RemoteProtocolError(f"it breaks the rules of HTTP/2: {type(error).__name__}: {error}")
        return exc

    async def _close_broken(self) -> bool:
        """Close the connections that h2 has given up, of which httpcore's other calls would never hear."""
        broken = [each for each in self._connections() if each._h2_state.state_machine.state.name == "CLOSED"]
        for connection in broken:
            with anyio.move_on_after(GRACE_S, shield=True):
                await connection.aclose()
        return bool(broken)

    def _connections(self) -> Iterator[Any]:
        """Those of httpcore's that speak HTTP/2; what stands around one, a tunnel say, has it as its `_connection`."""
        for outer in list(self._made):
            found: Any = outer
            while found is not None and not hasattr(found, "_h2_state"):
                found = getattr(found, "_connection", None)
            if found is not None and not found.is_closed():
                yield found

    def _keep(self) -> None:
        """See to it that the pool has all connections.

        A cancel amid connecting takes one out, with which those who have waited for it go on.
        """
        for outer in self._made:
            if outer not in self._pool._connections and not outer.is_closed():
                self._pool._connections.append(outer)

    # ---- a call that is given up ------------------------------------------------------------------------------------

    async def _reset(self, request: httpx.Request) -> None:
        """Reset the streams to which nobody listens.

        It is a courtesy: what fails of it, as on a connection that is broken, must not replace why the call ended.
        """
        for connection in self._connections():
            try:
                if _reset_streams(connection):
                    await connection._write_outgoing_data(request)
            except Exception as exc:
                log.debug("a stream that nobody reads couldn't be reset: %r", exc)


def reset_given_up(client: httpx.AsyncClient) -> None:
    """The same for all transports of a client, which it has made for the proxies of the environment."""
    client._transport = _over(client._transport)
    for pattern, each in client._mounts.items():
        client._mounts[pattern] = each and _over(each)


def _over(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    return Http2Transport(inner) if isinstance(inner, httpx.AsyncHTTPTransport) else inner


class _Reset(httpx.AsyncByteStream):
    """An answer's bytes. Closed before its end, it is reset."""

    def __init__(self, stream: Any, transport: Http2Transport, request: httpx.Request) -> None:
        self._stream, self._transport, self._request = stream, transport, request
        self._pieces: AsyncIterator[bytes] | None = None
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = self._pieces or aiter(self._stream)  # who ends the reading asks once more
        return self

    async def __anext__(self) -> bytes:
        assert self._pieces is not None
        if self._is_closed:
            # Reading on ends httpcore's generators. It would wait for a stream of which nothing comes any more.
            with anyio.CancelScope() as scope:
                scope.cancel()
                await anext(self._pieces)
            raise StopAsyncIteration
        try:
            return await anext(self._pieces)
        except _FAULTS as exc:
            meant = await self._transport._meaning(exc)
        raise httpx.ReadError(str(meant)) if isinstance(meant, _Refused) else meant

    async def aclose(self) -> None:
        self._is_closed = True
        try:
            await self._stream.aclose()
        finally:
            await self._transport._reset(self._request)


# ---- inside of httpcore's connection --------------------------------------------------------------------------------


class _Turns:
    """Reading from a connection, which one call does for all: who has got something goes on at once.

    httpcore has them queue up to read, with what has come for them: the answer of the last one waited until something
    came for those in front of it.
    """

    def __init__(self, connection: Any) -> None:
        self._events = connection._events
        self._receive, self._read = connection._receive_events, connection._read_incoming_data
        self._turn: anyio.Event | None = None
        connection._receive_events, connection._read_incoming_data = self.receive, self.read

    async def receive(self, request: Any, stream_id: int | None = None) -> None:
        """Return once something may have come for the stream, or, without one, room to send."""
        while self._turn is not None:
            await self._turn.wait()
            if stream_id is None or self._events.get(stream_id):
                return
        self._turn = turn = anyio.Event()
        try:
            await self._receive(request, stream_id)
        finally:
            self._end(turn)

    async def read(self, request: Any) -> Any:
        """Read, and let the others go on: before they do, httpcore has handed out what came, and then it may write."""
        turn = self._turn
        try:
            return await self._read(request)
        finally:
            self._end(turn)

    def _end(self, turn: anyio.Event | None) -> None:
        if turn is not None and self._turn is turn:
            self._turn = None
            turn.set()


def _is_closed_here(exc: BaseException | None) -> bool:
    while exc is not None and type(exc).__name__ != "ClosedResourceError":  # anyio's, or trio's
        exc = exc.__cause__ or exc.__context__
    return exc is not None


def _name(code: Any) -> str:
    return code.name if isinstance(code, ErrorCodes) else f"code {code}"


def _slots(connection: Any) -> Any:
    """The semaphore of the calls that may run at once, once there is one."""
    slots = getattr(connection, "_max_streams_semaphore", None)
    return getattr(slots, "_anyio_semaphore", None) or getattr(slots, "_trio_semaphore", None)


def _complete(connection: Any) -> None:
    """Take the places that httpcore takes as a connection begins, where a cancel has kept it from that.

    Left as they are, they are given back more often than taken, and each answer's arrival is an error.
    """
    if (slots := _slots(connection)) is not None and connection._max_streams == 1:
        while slots.value > max(0, 1 - len(connection._events)):
            slots.acquire_nowait()


def _leave(connection: Any) -> None:
    """Have it take no new calls, also of those that wait for a place on it, and closed after its last one."""
    connection._used_all_stream_ids = True
    connection._h2_state.HIGHEST_ALLOWED_STREAM_ID = 0
    if (slots := _slots(connection)) is not None:
        for _ in range(slots.statistics().tasks_waiting):
            slots.release()


def _reset_streams(connection: Any) -> bool:
    """Whether there were any: open ones whose events httpcore doesn't keep. What they sent unread is acknowledged."""
    http, listened = connection._h2_state, connection._events
    left = [no for no, stream in http.streams.items() if no not in listened and not stream.closed]
    for no in left:
        window = http.streams[no]._inbound_window_manager
        unread = window.max_window_size - window.current_window_size - window._bytes_processed
        if unread > 0:
            http.acknowledge_received_data(unread, no)
        http.reset_stream(no, error_code=_CANCEL)
    return bool(left)
