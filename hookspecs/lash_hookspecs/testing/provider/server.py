"""A scripted HTTP server for tests and benchmarks: real sockets, a thread of its own, answers as bytes.

::

    with WireServer(raw(b"data: 1\n\n"), status(429, headers={"retry-after": "2"})) as server:
        ...                               # point a base URL at server.origin
        server.requests[0].json["model"]

Answers are used up in order; then, or when none were given, `server.default` answers. It runs in a thread with its own
event loop, so it serves asyncio tests, trio tests and subprocesses alike. It knows no service's format.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Self

from attrs import field

from lash_hookspecs.values import frozen

__all__ = [
    "Answer",
    "End",
    "RecordedRequest",
    "WireServer",
    "document",
    "garbage",
    "hanging",
    "raw",
    "refused_origin",
    "reset",
    "status",
]

End = Literal["complete", "cut", "reset", "hang"]


@frozen(kw_only=True)
class Answer:
    """Bytes to send: `head` (status line and headers), then `pieces`, each in a write of its own.

    `gap_s` seconds lie before each piece, and `gate`, if given, is waited for before the second one. At the `end`, the
    body is completed, or the connection is closed before that (`cut`), or reset, or nothing happens at all (`hang`).
    """

    head: bytes = b""
    pieces: tuple[bytes, ...] = ()
    chunked: bool = True
    gap_s: float = 0.0
    gate: threading.Event | None = None
    end: End = "complete"


@frozen(kw_only=True)
class RecordedRequest:
    """What a client sent. Header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


# ---- answers --------------------------------------------------------------------------------------------------------


def _head(code: int, content_type: str, headers: Mapping[str, str] | None, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {code} {'OK' if code == 200 else 'Status'}", f"content-type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines.append("transfer-encoding: chunked" if length is None else f"content-length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def raw(
    *pieces: bytes,
    content_type: str = "text/event-stream",
    headers: Mapping[str, str] | None = None,
    gap_s: float = 0.0,
    gate: threading.Event | None = None,
    end: End = "complete",
) -> Answer:
    """A 200 whose body is `pieces`, each written separately."""
    return Answer(head=_head(200, content_type, headers), pieces=pieces, gap_s=gap_s, gate=gate, end=end)


def status(code: int, body: Any = None, *, headers: Mapping[str, str] | None = None) -> Answer:
    """An error status; `body` is JSON unless it is bytes, by default an error object."""
    if body is None:
        body = {"error": {"message": f"status {code}", "type": "test_error"}}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(head=_head(code, "application/json", headers, len(data)), pieces=(data,), chunked=False)


def document(body: Any, *, content_type: str = "application/json") -> Answer:
    """A 200 with one JSON document, or with the given bytes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(head=_head(200, content_type, None, len(data)), pieces=(data,), chunked=False)


def reset() -> Answer:
    """The connection is reset before any byte of an answer."""
    return Answer(end="reset")


def garbage() -> Answer:
    """Bytes that aren't HTTP."""
    return Answer(head=b"\x00\x01 this is not HTTP\r\n\r\n", chunked=False, end="cut")


def hanging() -> Answer:
    """Silence from the start, on an open connection."""
    return Answer(end="hang")


def refused_origin() -> str:
    """Scheme, host and a port of this machine at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


# ---- the server -----------------------------------------------------------------------------------------------------


class WireServer:
    """Serves on a free port of this machine between `__enter__` and `__exit__`; all members are thread-safe.

    With `tls`, a server-side context, it speaks https. `record` off keeps no requests, for benchmarks.
    """

    def __init__(self, *answers: Answer, port: int = 0, tls: ssl.SSLContext | None = None, record: bool = True) -> None:
        self.default = status(500)
        self.choose: Callable[[RecordedRequest], Answer | None] | None = None
        """Asked first for each request; None leaves it to the answers in order."""
        self.requests: list[RecordedRequest] = []
        self.connections = 0
        self.asked = threading.Event()
        """Set when a request has arrived whole."""
        self.client_left = threading.Event()
        """Set when a client closes its connection before its answer is complete."""
        self._answers = deque(answers)
        self._port = port
        self._tls = tls
        self._record = record
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._open: set[_Connection] = set()
        self._thread = threading.Thread(target=self._run, name="wire-server", daemon=True)

    def answer(self, *answers: Answer) -> None:
        """Queue answers, one per request."""
        self._answers.extend(answers)

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{'localhost' if self._tls else '127.0.0.1'}:{self._port}"

    @property
    def open_connections(self) -> int:
        """How many there are now."""
        return len(self._open)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        server = self._loop.run_until_complete(
            self._loop.create_server(lambda: _Connection(self), "127.0.0.1", self._port, ssl=self._tls, backlog=1024)
        )
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            server.close()
            for connection in list(self._open):
                connection.abort()
            # One more turn of the loop lets the closed transports say goodbye.
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    def next_answer(self, request: RecordedRequest) -> Answer:
        """The answer for `request`; called by connections, in the server's thread."""
        if self._record:
            self.requests.append(request)
            self.asked.set()
        chosen = self.choose(request) if self.choose is not None else None
        if chosen is not None:
            return chosen
        return self._answers.popleft() if self._answers else self.default


class _Connection(asyncio.Protocol):
    """One client. Requests that come while one is being answered wait in the buffer."""

    def __init__(self, server: WireServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._transport: Any = None
        self._answering = False
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._server.connections += 1
        self._server._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._open.discard(self)
        if self._answering:
            self._server.client_left.set()
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        """Drop the connection without a word."""
        self._answering = False
        self._transport.abort()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._answering:
            self._next()

    def _next(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = end + 4 + int(headers.get("content-length", 0))
        if len(self._buffer) < size:
            return
        method, target, _ = first.split(" ", 2)
        request = RecordedRequest(
            method=method, target=target, headers=headers, body=bytes(self._buffer[end + 4 : size])
        )
        del self._buffer[:size]
        self._answering = True
        answer = self._server.next_answer(request)
        if answer.gap_s or answer.gate is not None:
            self._task = asyncio.get_running_loop().create_task(self._send_slowly(answer))
        else:
            self._transport.write(answer.head)
            for piece in answer.pieces:
                if self._transport.is_closing():
                    break  # nobody is there any more, and each further write would be logged
                self._transport.write(_framed(piece) if answer.chunked else piece)
            self._finish(answer)

    async def _send_slowly(self, answer: Answer) -> None:
        self._transport.write(answer.head)
        for number, piece in enumerate(answer.pieces):
            if answer.gap_s:
                await asyncio.sleep(answer.gap_s)
            if number == 1 and answer.gate is not None:
                # A thread event, since the test may run on trio; a thread that waited for it might never end.
                while not answer.gate.is_set():  # noqa: ASYNC110 - for the reason above
                    await asyncio.sleep(0.002)
            self._transport.write(_framed(piece) if answer.chunked else piece)
        self._finish(answer)

    def _finish(self, answer: Answer) -> None:
        if answer.end == "hang":
            return
        self._answering = False
        if answer.end == "complete":
            if answer.chunked:
                self._transport.write(b"0\r\n\r\n")
            if self._buffer:
                self._next()
        elif answer.end == "cut":
            self._transport.close()
        else:
            sock = self._transport.get_extra_info("socket")
            # Zero seconds of lingering make close() send a reset instead of an orderly end.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


def _framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)
