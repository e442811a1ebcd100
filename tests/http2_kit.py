"""A server that speaks HTTP/2 and nothing else, over TLS, with h2's own state machine; and who calls it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest
import trustme
from attrs import frozen
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, WindowUpdated
from h2.settings import SettingCodes, Settings

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmCallError, LlmResponse, LlmStreamEvent, StreamDelta, TokenUsage
from lash_provider_kit.retry import RetryPolicy
from lash_provider_kit.service import StreamingService
from lash_provider_kit.transport import Timeouts

__all__ = ["Asked", "Caller", "Http2Server", "Line", "calling", "tunnel", "until"]


@frozen
class Asked:
    """A request: its headers, and its body decoded."""

    headers: Mapping[str, str]
    json: Any


class Http2Server:
    """Answers each request with the same pieces of a stream, the first `held` of which it sends before `go` is set.

    With 0 it says nothing at all before that. It says that it takes `most` calls at a time, or nothing of that.

    `asked` are the requests, `connections` counts those who came, `reset` is set when a client gives a stream up.
    """

    def __init__(self, pieces: Sequence[bytes], folder: Path, held: int | None = None, most: int | None = 100) -> None:
        self.pieces, self.held, self.most = tuple(pieces), held, most
        self.asked: list[Asked] = []
        self.connections = 0
        self.go, self.reset = threading.Event(), threading.Event()
        authority = trustme.CA()
        self.trusted = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.trusted))
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.set_alpn_protocols(["h2"])
        authority.issue_cert("localhost").configure_cert(self.tls)
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._open: set[Any] = set()
        self._thread = threading.Thread(target=self._run, name="http2-server", daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://localhost:{self.port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.go.set()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def drop(self, *, reset: bool) -> None:
        """Close all connections without a word, or `reset` them."""
        self._loop.call_soon_threadsafe(self._abort, reset)

    def say(self, frame: bytes) -> None:
        """Send this on all connections, whatever h2 would say to it."""
        self._loop.call_soon_threadsafe(lambda: [each.write(frame) for each in self._open])

    def _abort(self, reset: bool) -> None:
        for each in list(self._open):
            if reset:
                linger = struct.pack("ii", 1, 0)
                each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            each.abort()

    def _run(self) -> None:
        listening = self._loop.create_server(lambda: _Client(self), "127.0.0.1", 0, ssl=self.tls)
        server = self._loop.run_until_complete(listening)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            self._loop.run_until_complete(self._end())
            self._loop.close()

    async def _end(self) -> None:
        self._abort(reset=False)
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets the closed transports say goodbye


class _Client(asyncio.Protocol):
    """One connection, with any number of streams on it."""

    def __init__(self, server: Http2Server) -> None:
        self._server = server
        self._http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self._headers: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._room = asyncio.Event()
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._server.connections += 1
        self._server._open.add(transport)
        said = {} if self._server.most is None else {SettingCodes.MAX_CONCURRENT_STREAMS: self._server.most}
        self._http.local_settings = Settings(client=False, initial_values=said)
        self._http.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._open.discard(self._transport)
        for task in self._tasks.values():
            task.cancel()

    def data_received(self, data: bytes) -> None:
        for event in self._http.receive_data(data):
            match event:
                case RequestReceived(stream_id=int(no), headers=headers):
                    self._headers[no] = {str(name): str(value) for name, value in headers or ()}
                    self._bodies[no] = bytearray()
                case DataReceived(stream_id=int(no), data=bytes(piece), flow_controlled_length=int(length)):
                    self._bodies[no] += piece
                    self._http.acknowledge_received_data(length, no)
                case StreamEnded(stream_id=int(no)):
                    self._server.asked.append(Asked(self._headers[no], json.loads(self._bodies[no])))
                    self._tasks[no] = asyncio.get_running_loop().create_task(self._answer(no))
                case WindowUpdated():
                    self._room.set()
                case StreamReset(stream_id=int(no)):
                    self._server.reset.set()
                    if no in self._tasks:
                        self._tasks[no].cancel()
        self._flush()

    async def _answer(self, no: int) -> None:
        if self._server.held == 0:
            await self._let_go()
        self._http.send_headers(no, [(":status", "200"), ("content-type", "text/event-stream")])
        for number, piece in enumerate(self._server.pieces):
            if number == self._server.held:
                await self._let_go()
            while piece:
                size = min(self._http.local_flow_control_window(no), self._http.max_outbound_frame_size, len(piece))
                if size <= 0:
                    self._room.clear()
                    await self._room.wait()
                    continue
                self._http.send_data(no, piece[:size])
                piece = piece[size:]
                self._flush()
        self._http.end_stream(no)
        self._flush()

    async def _let_go(self) -> None:
        # A thread's event, since the test may run on trio; a thread that waited for it might never end.
        while not self._server.go.is_set():  # noqa: ASYNC110 - for the reason above
            await asyncio.sleep(0.002)

    def _flush(self) -> None:
        if data := self._http.data_to_send():
            self._transport.write(data)


# ---- a proxy --------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def tunnel() -> Iterator[str]:
    """The URL of a proxy that connects where it is told to, and passes bytes on both ways."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Through) as proxy:
        proxy.daemon_threads = True
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
            thread.join()


class _Through(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        _, target, _ = self.rfile.readline().decode().split(" ", 2)
        while self.rfile.readline().strip():
            pass
        port = int(target.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as inner:
            self.wfile.write(b"HTTP/1.1 200 connected\r\n\r\n")
            back = threading.Thread(target=_pump, args=(inner, self.connection))
            back.start()
            _pump(self.connection, inner)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


# ---- who calls ------------------------------------------------------------------------------------------------------


class Line:
    """The least of decoders: each event is a delta, `end` the last one."""

    def __init__(self) -> None:
        self.output_seen = self.complete = self.done = False
        self.usage: TokenUsage | None = None

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        self.output_seen = True
        self.complete = self.done = data == b"end"
        out.append(StreamDelta(data.decode()))

    def whole(self, body: bytes, out: list[LlmStreamEvent]) -> None:
        raise AssertionError("the server streams")

    def finish(self) -> LlmResponse:
        return LlmResponse(full_text="hi")


class Caller:
    """A service over HTTP/2, which repeats nothing; what came, and what failed."""

    def __init__(self, server: Http2Server, **times: float) -> None:
        self.service = StreamingService(
            provider="prov",
            url=server.url,
            headers={},
            timeouts=Timeouts(**times),
            retry=RetryPolicy(mode="off"),
            http2=True,
        )
        self.came = 0
        self.failed: list[LlmCallError] = []

    async def _send(self, events: Sequence[LlmStreamEvent]) -> None:
        self.came += len(events)

    async def call(self, body: bytes = b"{}") -> LlmResponse:
        return await self.service.call(body, Line, self._send)

    async def fail(self, body: bytes = b"{}") -> None:
        with pytest.raises(LlmCallFailed) as caught:
            await self.call(body)
        self.failed.append(caught.value.error)


@asynccontextmanager
async def calling(server: Http2Server, monkeypatch: pytest.MonkeyPatch, **times: float) -> AsyncIterator[Caller]:
    """Who calls this server, and trusts it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(server.trusted))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    caller = Caller(server, **times)
    try:
        yield caller
    finally:
        await caller.service.aclose()


async def until(true: Callable[[], bool]) -> None:
    """Wait for it."""
    with anyio.fail_after(10):
        while not true():
            await anyio.lowlevel.checkpoint()
