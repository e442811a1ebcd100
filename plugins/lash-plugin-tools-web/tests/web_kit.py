"""Real servers for the tests: raw HTTP over sockets of this machine, and name lookup by a script."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSListener
from attrs import define, field

from lash_plugin_tools_web.options import WebOptions


@define
class Request:
    """What a server was asked."""

    line: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.line.split()[1]


Answer = bytes | Callable[[Any, Request], Awaitable[None]]
"""The bytes of an answer, or a function that sends what it likes."""


@define
class Server:
    """Answers every request with what `says` returns for it, and closes the connection."""

    says: Callable[[Request], Answer]
    port: int = 0
    connections: int = 0
    requests: list[Request] = field(factory=list)
    names: list[str | None] = field(factory=list)  # of TLS: what the client asked for

    async def serve(self, stream: Any) -> None:
        self.connections += 1
        async with stream:
            received = BufferedByteReceiveStream(stream)
            try:
                head = (await received.receive_until(b"\r\n\r\n", 100_000)).decode("latin-1")
                line, *lines = head.split("\r\n")
                headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
                body = await received.receive_exactly(int(headers.get("content-length", 0)))
                self.requests.append(request := Request(line, headers, body))
                answer = self.says(request)
                if isinstance(answer, bytes):
                    await stream.send(answer)
                else:
                    await answer(stream, request)
            except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.IncompleteRead, ssl.SSLError):
                pass  # the client has gone, which is what some of the tests are about


@asynccontextmanager
async def serving(
    says: Callable[[Request], Answer], *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    server = Server(says)
    listener: Any = await anyio.create_tcp_listener(local_host=host, local_port=port)
    server.port = listener.extra(anyio.abc.SocketAttribute.local_port)
    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: server.names.append(name)

        async def quiet(_: BaseException, stream: Any) -> None:
            await anyio.aclose_forcefully(stream)  # the client broke the handshake off

        listener = TLSListener(listener, tls, standard_compatible=False)
        listener.handle_handshake_error = quiet
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, server.serve)
        yield server
        tasks.cancel_scope.cancel()


def http(
    body: bytes | str = b"", *, status: int = 200, type: str | None = "text/plain; charset=utf-8", **headers: str
) -> bytes:
    """An answer. `content_length=""` and the like leave a header out."""
    sent = body.encode() if isinstance(body, str) else body
    told = {"content-type": type or "", "content-length": str(len(sent))}
    told |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"HTTP/1.1 {status} Said", *(f"{name}: {value}" for name, value in told.items() if value)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + sent


def redirect(location: str, status: int = 302) -> bytes:
    return http(status=status, type=None, location=location.encode().decode("latin-1"))


@define
class Names:
    """Name lookup by a script: each name has answers, one lookup after the other, the last one for good."""

    answers: Mapping[str, Sequence[Sequence[str]]]
    asked: list[str] = field(factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        await anyio.lowlevel.checkpoint()
        before = self.asked.count(host)
        self.asked.append(host)
        if host not in self.answers:
            raise OSError("no such name")
        answers = self.answers[host]
        return answers[min(before, len(answers) - 1)]


def local(**more: Any) -> WebOptions:
    """Options that let a test reach 127.0.0.1, at any port; no other address of this machine."""
    return WebOptions(**{"allow_networks": ("127.0.0.1/32",), "ports": (), **more})
