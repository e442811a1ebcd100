"""httpx's connections and aiohttp's do the same: the bytes of a request, and what becomes of one that nobody reads.

A process goes over from the first ones to the others after a few calls, and nobody must be able to tell.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio
import anyio.to_thread
import pytest

from lash_hookspecs.llm import ProviderFailureKind
from lash_provider_kit import growing
from lash_provider_kit.failures import AttemptFailed
from lash_provider_kit.transport import HttpTransport, Timeouts, chunks_of, close_response


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@contextmanager
def recording(further: bytes = b"", status: bytes = b"200 OK") -> Iterator[tuple[str, list[bytes]]]:
    """An address, and the requests that come there, byte by byte as they come; one connection each.

    Each is answered with a status and nothing but headers, `further` ones among them.
    """
    head = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n%b\r\n" % (status, further)
    seen: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return  # the test is over
            with connection:
                request = b""
                while not request.endswith(b"\r\n\r\n{}"):
                    request += connection.recv(65_536) or b"cut off\r\n\r\n{}"
                seen.append(request)
                connection.sendall(head)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}", seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


PATHS = [
    "/v1/chat/completions",
    "/model/anthropic.claude-v2%3A1/invoke",
    "/%40team/a%2Cb/%7Euser/%2F/%2e%2e/x",
    "/v1?version=2024%3A01&at=%40&tilde=%7E&plus=a+b&space=%20&empty=",
    "/ü/a b?q=ü&c=a:b@c,d~e",
    "",
]


@pytest.mark.parametrize("headers", [{}, {"Accept": "a/b", "User-Agent": "lash", "X-Two": "b"}], ids=["none", "some"])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("user", ["", "name:secret@"], ids=["", "user"])
async def test_both_write_the_same_request(
    user: str, path: str, headers: dict[str, str], anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the fifth call on `/model/a%3A1` was `/model/a:1`, and `User-Agent: Python/3.11 aiohttp/3.14` came along."""
    backends = []
    with recording() as (address, seen):
        for few in (growing.FEW, 0):
            monkeypatch.setattr(growing, "FEW", few)
            url = f"http://{user}{address}{path}"
            transport = HttpTransport(provider="prov", url=url, headers=headers, timeouts=Timeouts())
            response = await transport.post([b"{", b"}"])
            await close_response(response, chunks_of(response), transport.errors)
            backends.append(transport.backend)
            await transport.aclose()
    assert backends == ["httpx", "aiohttp" if anyio_backend_name == "asyncio" else "httpx"]
    first, second = [request.split(b"\r\n") for request in seen]
    assert second[0] == first[0]
    assert sorted(second) == sorted(first)  # the order of headers means nothing
    assert len(first) == 1 + len(headers) + 2 + 2  # request line; host, content-length; empty line, body


NAMED = {
    "plain": (b"X-Request-Id: req_1\r\n", "req_1"),
    "of another service's case": (b"x-REQUEST-id: req_1\r\n", "req_1"),
    "twice": (b"x-request-id: a\r\nx-request-id: b\r\n", "a, b"),
    "in UTF-8": ("x-request-id: Zürich\r\n".encode(), "Zürich"),
    "in Latin-1": ("x-request-id: Zürich\r\n".encode("latin-1"), "Zürich"),
    "empty": (b"x-request-id:\r\n", ""),
    "none": (b"", None),
    "long": (b"x-policy: %b\r\nx-request-id: req_1\r\n" % (b"a" * 60_000), "req_1"),
    "as long as it may be": (b"x-request-id: %b\r\n" % (b"a" * 100_000), "a" * 100_000),
    "among many": (b"".join(b"x-%d: a\r\n" % number for number in range(500)) + b"x-request-id: req_1\r\n", "req_1"),
}


@pytest.mark.parametrize("few", [growing.FEW, 0], ids=["few", "many"])
@pytest.mark.parametrize(("header", "read"), NAMED.values(), ids=NAMED)
async def test_both_read_the_same_headers(
    header: bytes, read: str | None, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp has what is no UTF-8 as halves of surrogate pairs, with which a turn could not be stored.

    Left to itself it refuses a header of 8 KiB, and more than 128: such a gateway worked for the first four calls.
    """
    monkeypatch.setattr(growing, "FEW", few)
    with recording(header) as (address, _):
        transport = HttpTransport(provider="prov", url=f"http://{address}/v1", headers={}, timeouts=Timeouts())
        response = await transport.post([b"{", b"}"])
        assert response.headers.get("x-request-id") == read
        assert response.headers.get("x-request-id", "-") == ("-" if read is None else read)
        assert (response.status_code, response.is_success, response.reason_phrase) == (200, True, "OK")
        await close_response(response, chunks_of(response), transport.errors)
        await transport.aclose()


CHUNKS = b"a\r\ndata: hi\n\n\r\n0\r\n\r\n"
FRAMED = {
    "a length beside chunks": b"content-length: 10\r\ntransfer-encoding: chunked\r\n\r\n" + CHUNKS,
    "a wrong length beside chunks": b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + CHUNKS,
    "a length twice": b"content-length: 10\r\nx-a: b\r\ncontent-length: 10\r\n\r\ndata: hi\n\n",
    "a list of lengths": b"content-length: 10, 10\r\n\r\ndata: hi\n\n",
    "one length": b"content-length: 10\r\n\r\ndata: hi\n\n",
}


@pytest.mark.parametrize("few", [growing.FEW, 0], ids=["few", "many"])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"], ids=["", "hints"])
@pytest.mark.parametrize("framed", FRAMED.values(), ids=FRAMED)
async def test_both_read_what_says_its_length_too_often(
    framed: bytes, before: bytes, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was no HTTP from the fifth call on: a service that worked."""
    monkeypatch.setattr(growing, "FEW", few)
    said = before + b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + framed
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_byte_by_byte, args=(listener, said, 2))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        transport = HttpTransport(provider="prov", url=url, headers={}, timeouts=Timeouts())
        for _ in range(2):  # on one connection
            response = await transport.post([b"{", b"}"])
            chunks = chunks_of(response)
            assert b"".join([piece async for piece in chunks]) == b"data: hi\n\n"
            await close_response(response, chunks, transport.errors)
        await transport.aclose()
        await anyio.to_thread.run_sync(thread.join)


@pytest.mark.parametrize("few", [growing.FEW, 0], ids=["few", "many"])
async def test_both_refuse_lengths_that_differ(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncontent-length: 11\r\n\r\ndata: hi\n\n"
    monkeypatch.setattr(growing, "FEW", few)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer_byte_by_byte, args=(listener, said, 1))
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        transport = HttpTransport(provider="prov", url=url, headers={}, timeouts=Timeouts())
        with anyio.fail_after(30), pytest.raises(AttemptFailed) as caught:
            await transport.post([b"{", b"}"])
        assert caught.value.error.code == "not_http"
        await transport.aclose()
        await anyio.to_thread.run_sync(thread.join)


def answer_byte_by_byte(listener: socket.socket, said: bytes, times: int) -> None:
    connection, _ = listener.accept()
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(times):
            request = b""
            while not request.endswith(b"\r\n\r\n{}"):
                request += connection.recv(65_536)
            with suppress(OSError):  # what can't be read isn't read to its end
                for at in range(len(said)):
                    connection.sendall(said[at : at + 1])


PHRASES = {
    "plain": (b"500 Out of order", "Out of order"),
    "in Latin-1": ("500 Café zu".encode("latin-1"), "Café zu"),
    "in UTF-8": ("500 Café zu".encode(), "Café zu"),
    "empty": (b"500 ", ""),
    "none": (b"500", ""),
}


@pytest.mark.parametrize("few", [growing.FEW, 0], ids=["few", "many"])
@pytest.mark.parametrize(("status", "read"), PHRASES.values(), ids=PHRASES)
async def test_what_stands_beside_a_status_can_be_stored(
    status: bytes, read: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """httpx leaves out what isn't ASCII; aiohttp had halves of surrogate pairs there, too."""
    monkeypatch.setattr(growing, "FEW", few)
    with recording(status=status) as (address, _):
        transport = HttpTransport(provider="prov", url=f"http://{address}/v1", headers={}, timeouts=Timeouts())
        response = await transport.post([b"{", b"}"])
        as_read = "".join(filter(str.isascii, read)) if transport.backend == "httpx" else read
        assert (response.status_code, response.reason_phrase) == (500, as_read)
        await close_response(response, chunks_of(response), transport.errors)
        await transport.aclose()


@pytest.mark.parametrize("few", [growing.FEW, 0], ids=["few", "many"])
@pytest.mark.parametrize(
    ("pieces", "stalled"),
    [
        ([b"x" * 48_000], "it sent nothing for 0.3 s"),
        ([b"x" * 65_536], "it sent nothing for 0.3 s"),
        ([b"x" * 16_000_000], "it took nothing more of the request for 0.3 s"),
        ([b"x" * 1_000] * 16_000, "it took nothing more of the request for 0.3 s"),
    ],
    ids=["small", "medium", "large", "many small"],
)
async def test_a_service_that_does_not_read_is_given_up(
    pieces: list[bytes], stalled: str, few: int, anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp begins to count once the body is written: a large one waited for the deadline of the whole attempt."""
    monkeypatch.setattr(growing, "FEW", few)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the system accepts, and takes what fits its buffers
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        transport = HttpTransport(provider="prov", url=url, headers={}, timeouts=Timeouts(chunk_s=0.3))
        with anyio.fail_after(10), pytest.raises(AttemptFailed) as caught:
            await transport.post(pieces)
        error = caught.value.error
        assert (error.kind, error.code, error.retryable) == (ProviderFailureKind.TIMEOUT, "timeout", True)
        assert error.message == f"prov: {url} didn't answer in time: {stalled}"
        assert transport.backend == ("aiohttp" if (anyio_backend_name, few) == ("asyncio", 0) else "httpx")
        # The connection is closed although nothing was taken: reading what there is comes to its end.
        connection, _ = listener.accept()
        await anyio.to_thread.run_sync(read_to_the_end, connection)
        await transport.aclose()


def read_to_the_end(connection: socket.socket) -> None:
    connection.settimeout(5)
    with connection, suppress(ConnectionResetError):
        while connection.recv(1_000_000):
            pass
