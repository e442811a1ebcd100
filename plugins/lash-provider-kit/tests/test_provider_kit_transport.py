"""The transport on real sockets: aiohttp's and httpx's own connections behave alike, on asyncio and on trio.

Each test runs twice: as in a process of few calls, which httpx's connections serve, and as after many, when asyncio has
changed to aiohttp's.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from hypothesis import given, strategies as st

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    LlmCallError,
    LlmResponse,
    LlmStreamEvent,
    ProviderFailureKind,
    RetryStatus,
    StreamDelta,
    TokenUsage,
)
from lash_hookspecs.testing.plugins import imported_by
from lash_provider_kit import growing
from lash_provider_kit.carriers import few_pieces
from lash_provider_kit.failures import AttemptFailed, Seen
from lash_provider_kit.reader import MALFORMED_EVENT
from lash_provider_kit.retry import RetryPolicy
from lash_provider_kit.service import StreamingService
from lash_provider_kit.testing import (
    Answer,
    ChatServer,
    cut,
    document,
    garbage,
    hang,
    raw,
    refused_url,
    reset,
    sse,
    status,
)
from lash_provider_kit.transport import Timeouts

SECRET = "sk-test-0123456789abcdefghij"


class Words:
    """A decoder of the simplest wire: each event is a word, `end` is the proof of completion."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.output_seen = self.complete = self.done = False
        self.usage: TokenUsage | None = None

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        self.complete = self.complete or data == b"end"
        self.done = self.complete
        if data == b"junk":
            error = LlmCallError(message="junk came", code=MALFORMED_EVENT, retryable=True)
            raise AttemptFailed(error, Seen.RESPONSE)
        if data == b"usage":
            self.usage = TokenUsage(input=3)
        elif not self.complete:
            self.output_seen = True
            self.words.append(data.decode())
            out.append(StreamDelta(data.decode()))

    def whole(self, body: bytes, out: list[LlmStreamEvent]) -> None:
        self.feed(body, out)
        self.complete = True

    def finish(self) -> LlmResponse:
        return LlmResponse(full_text=" ".join(self.words))


class Client:
    """A service, what it streamed, and the waits it asked for."""

    def __init__(self, url: str, *, retry: RetryPolicy | None = None, **timeouts: float) -> None:
        self.batches: list[list[LlmStreamEvent]] = []
        self.waits: list[float] = []
        self.service = StreamingService(
            provider="prov",
            url=url,
            headers={"authorization": f"Bearer {SECRET}"},
            secrets=[SECRET],
            timeouts=Timeouts(**timeouts),
            retry=retry or RetryPolicy(),
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def _send(self, events: Sequence[LlmStreamEvent]) -> None:
        self.batches.append(list(events))

    async def call(self) -> LlmResponse:
        return await self.service.call(b"{}", Words, self._send)

    async def failure(self) -> Any:
        with pytest.raises(LlmCallFailed) as caught:
            await self.call()
        assert SECRET not in repr(caught.value.error)
        # aiohttp's exceptions show the request's headers, so none may hang on behind.
        assert caught.value.__cause__ is None
        assert caught.value.__context__ is None
        return caught.value.error

    @property
    def events(self) -> list[LlmStreamEvent]:
        return [event for batch in self.batches for event in batch]


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """The libraries' import takes a part of a second, which must not fall into the short time limits tested here."""
    for name in ("aiohttp", "httpcore"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


@pytest.fixture(params=["few", "many"], autouse=True)
def calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How many calls there were before those of the test."""
    if request.param == "many":
        monkeypatch.setattr(growing, "FEW", 0)
    return str(request.param)


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Client]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return Client


def words(*each: str, **options: Any) -> Answer:
    return raw(*(sse(word) for word in each), **options)


Connect = Callable[..., Client]


async def test_an_answer_arrives_and_the_connection_is_used_again(
    connect: Connect, calls: str, anyio_backend_name: str
) -> None:
    with ChatServer(words("a", "b", "end"), words("c", "end")) as server:
        client = connect(server.url)
        assert (await client.call()).full_text == "a b"
        assert (await client.call()).full_text == "c"
        expected = "aiohttp" if (anyio_backend_name, calls) == ("asyncio", "many") else "httpx"
        assert client.service.transport.backend == expected
        assert server.connections == 1
        await client.service.aclose()


async def test_events_of_one_read_are_handed_on_together(connect: Connect) -> None:
    with ChatServer(raw(sse("a") + sse("b") + sse("end"))) as server:
        client = connect(server.url)
        await client.call()
        assert client.batches == [[StreamDelta("a"), StreamDelta("b")]]
        await client.service.aclose()


async def test_events_are_handed_on_as_they_come(connect: Connect) -> None:
    gate = threading.Event()
    with ChatServer(words("a", "b", "end", gate=gate)) as server:
        client = connect(server.url)
        arrived = anyio.Event()

        async def send(events: Sequence[LlmStreamEvent]) -> None:
            arrived.set()

        async with anyio.create_task_group() as group:
            group.start_soon(client.service.call, b"{}", Words, send)
            with anyio.fail_after(30):
                await arrived.wait()  # while the server still holds the rest back
            gate.set()
        await client.service.aclose()


async def test_a_refused_connection_fails_at_once_and_names_the_url(connect: Connect) -> None:
    url = refused_url()
    client = connect(url)
    error = await client.failure()
    assert error.code == "connection_refused"
    assert error.kind is ProviderFailureKind.TRANSPORT
    assert url in error.message
    assert (client.waits, client.events) == ([], [])
    await client.service.aclose()


async def test_a_reset_before_any_answer_is_repeated_and_told(connect: Connect) -> None:
    with ChatServer(reset(), words("a", "end")) as server:
        client = connect(server.url)
        assert (await client.call()).full_text == "a"
        assert client.waits == [2.0]
        assert isinstance(client.events[0], RetryStatus)
        assert len(server.requests) == 2
        await client.service.aclose()


async def test_a_connection_closed_before_any_answer_is_repeated(connect: Connect) -> None:
    with ChatServer(Answer(end="cut"), words("a", "end")) as server:
        client = connect(server.url)
        assert (await client.call()).full_text == "a"
        assert client.waits == [2.0]
        await client.service.aclose()


async def test_an_empty_stream_that_is_cut_is_repeated(connect: Connect) -> None:
    with ChatServer(raw(b": ping\n\n", end="cut"), words("a", "end")) as server:
        client = connect(server.url)
        assert (await client.call()).full_text == "a"
        assert client.waits == [2.0]
        await client.service.aclose()


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_a_stream_cut_after_output_is_not_repeated(connect: Connect, end: Any) -> None:
    with ChatServer(words("a", end=end)) as server:
        client = connect(server.url)
        error = await client.failure()
        assert error.code == "unsafe_retry_after_output_started"
        assert error.kind is ProviderFailureKind.TRANSPORT
        assert not error.retryable
        # A reset may overtake the data that was sent before it, so what was streamed depends on the network.
        assert len(server.requests) == 1 or end == "reset"
        await client.service.aclose()


async def test_a_cut_after_the_proof_of_completion_loses_nothing(connect: Connect) -> None:
    with ChatServer(words("a", "end", end="cut")) as server:
        client = connect(server.url)
        assert (await client.call()).full_text == "a"
        await client.service.aclose()


async def test_garbage_is_named_and_not_repeated(connect: Connect) -> None:
    with ChatServer(garbage()) as server:
        client = connect(server.url)
        error = await client.failure()
        assert error.code == "not_http"
        assert client.waits == []
        await client.service.aclose()


async def test_silence_before_the_answer_times_out_and_is_repeated(connect: Connect) -> None:
    with ChatServer(hang(), words("a", "end")) as server:
        client = connect(server.url, chunk_s=1.0)
        assert (await client.call()).full_text == "a"
        assert client.waits[0] == 2.0
        await client.service.aclose()


async def test_silence_within_the_answer_times_out(connect: Connect) -> None:
    with ChatServer(words("a", end="hang")) as server:
        client = connect(server.url, chunk_s=1.0)
        error = await client.failure()
        assert error.kind is ProviderFailureKind.TIMEOUT
        assert error.code == "unsafe_retry_after_output_started"
        await client.service.aclose()


async def test_keep_alives_cannot_extend_the_deadline(connect: Connect) -> None:
    with ChatServer(raw(*[b": ping\n\n"] * 1000, gap_s=0.01)) as server:
        client = connect(server.url, deadline_s=0.4, retry=RetryPolicy(mode="off"))
        with anyio.fail_after(5):
            error = await client.failure()
        assert error.kind is ProviderFailureKind.TIMEOUT
        assert error.code == "deadline_exceeded"
        assert error.retryable
        assert await anyio.to_thread.run_sync(server.client_left.wait, 30)
        await client.service.aclose()


@given(st.lists(st.sampled_from([0, 1, 49_152, 49_153, 100_000, 1_048_577]), max_size=8))
def test_a_body_is_written_in_few_pieces_and_large_ones_are_not_copied(sizes: list[int]) -> None:
    """Each write is a call into the operating system; copying a long conversation takes longer.

    No write is so large that a slow network can't do it in the time that is allowed for silence.
    """
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    few = list(few_pieces(pieces))
    large = [piece for piece in pieces if 49_152 < len(piece) <= 1_048_576]
    cut = [piece for piece in pieces if len(piece) > 1_048_576]
    assert b"".join(few) == b"".join(pieces)
    assert all(any(piece is each for each in few) for piece in large)
    assert len(few) <= 2 * len(large) + 3 * len(cut) + 1
    assert all(len(piece) <= 1_048_576 for piece in few)


async def test_a_slow_listener_is_neither_cut_off_nor_counted(connect: Connect) -> None:
    with ChatServer(words("a", "b", "end")) as server:
        client = connect(server.url, deadline_s=1.0)

        async def send(events: Sequence[LlmStreamEvent]) -> None:
            await anyio.sleep(1.1)  # it's about time that passes, so it has to

        assert (await client.service.call(b"{}", Words, send)).full_text == "a b"
        await client.service.aclose()


async def test_the_deadline_holds_before_the_answer_too(connect: Connect) -> None:
    with ChatServer(hang()) as server:
        client = connect(server.url, deadline_s=0.1, retry=RetryPolicy(mode="off"))
        assert (await client.failure()).code == "deadline_exceeded"
        await client.service.aclose()


@pytest.mark.parametrize("answer", [hang(), words("a", end="hang")], ids=["before", "within"])
async def test_cancelling_closes_the_connection(connect: Connect, answer: Answer) -> None:
    with ChatServer(answer, words("b", "end")) as server:
        client = connect(server.url)
        async with anyio.create_task_group() as group:
            group.start_soon(client.call)
            assert await anyio.to_thread.run_sync(server.asked.wait, 30)
            with anyio.fail_after(30):
                while answer.pieces and not client.batches:
                    await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(server.client_left.wait, 30)
        assert (await client.call()).full_text == "b"  # the client is still good
        await client.service.aclose()


async def test_an_error_of_the_listener_comes_through_and_closes_the_connection(connect: Connect) -> None:
    """An OSError of whoever listens is not the network's, and mustn't be repeated or renamed."""
    with ChatServer(words("a", end="hang")) as server:
        client = connect(server.url)

        async def send(events: Sequence[LlmStreamEvent]) -> None:
            raise OSError("the listener's own")

        with pytest.raises(OSError, match="the listener's own"):
            await client.service.call(b"{}", Words, send)
        assert await anyio.to_thread.run_sync(server.client_left.wait, 30)
        await client.service.aclose()


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (status(401), ProviderFailureKind.AUTH, "test_error"),
        (status(422), ProviderFailureKind.VALIDATION, "test_error"),
        (status(429), ProviderFailureKind.QUOTA, "unsafe_retry_response_observed"),
        (status(503, b"<html>down</html>"), ProviderFailureKind.HTTP, "unsafe_retry_response_observed"),
        (status(503, headers={"retry-after": "1"}), ProviderFailureKind.HTTP, "unsafe_retry_response_observed"),
        (status(404, b""), ProviderFailureKind.HTTP, "http_404"),
        (status(307, headers={"location": "http://127.0.0.1:1/"}), ProviderFailureKind.HTTP, "test_error"),
        (document(b"<html>portal</html>", content_type="text/html"), ProviderFailureKind.HTTP, "unexpected_content"),
        (raw(b"hello", content_type="text/plain"), ProviderFailureKind.HTTP, "unexpected_content"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_refusals(connect: Connect, answer: Answer, kind: ProviderFailureKind, code: str) -> None:
    with ChatServer(answer) as server:
        client = connect(server.url)
        error = await client.failure()
        assert (error.kind, error.code) == (kind, code)
        assert server.url in error.message
        assert len(server.requests) == 1
        assert client.waits == []
        await client.service.aclose()


UNKNOWN = TokenUsage(at_least=True)


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        *[(status(number), None) for number in (307, 400, 401, 403, 404, 422, 429)],
        (status(408), UNKNOWN),
        (status(500), UNKNOWN),
        (status(503, b"down"), UNKNOWN),
        (garbage(), UNKNOWN),
        (reset(), UNKNOWN),
        (Answer(end="cut"), UNKNOWN),
        (hang(), UNKNOWN),
        (words("a", end="cut"), UNKNOWN),
        (words("a", end="hang"), UNKNOWN),
        (document(b"<html>portal</html>", content_type="text/html"), UNKNOWN),
        (words("usage", "a", end="cut"), TokenUsage(input=3, at_least=True)),
    ],
)
async def test_what_a_failure_cost_is_unknown_unless_nothing_was_spent(
    connect: Connect, answer: Answer, usage: TokenUsage | None
) -> None:
    with ChatServer(answer) as server:
        client = connect(server.url, retry=RetryPolicy(mode="off"), chunk_s=1.0)
        assert (await client.failure()).usage == usage
        await client.service.aclose()


@pytest.mark.parametrize("url", [refused_url(), "http://nowhere.invalid/v1"], ids=["refused", "unknown"])
async def test_what_never_connected_cost_nothing(connect: Connect, url: str) -> None:
    client = connect(url)
    assert (await client.failure()).usage is None
    await client.service.aclose()


async def test_a_repeated_attempt_s_unknown_cost_stays_in_the_sum(connect: Connect) -> None:
    throttled = status(429, headers={"retry-after": "3"})
    with ChatServer(throttled, words("a", "end"), reset(), words("b", "end"), reset(), status(400)) as server:
        client = connect(server.url)
        assert not (await client.call()).usage.at_least
        assert (await client.call()).usage.at_least
        assert (await client.failure()).usage == UNKNOWN
        await client.service.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        garbage(),
        Answer(head=b"HTTP/1.1 abc\r\n\r\n", end="cut"),
        Answer(head=b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n", end="cut"),
        Answer(
            head=b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
            chunked=False,
            end="cut",
        ),
        Answer(
            head=b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 77\r\n\r\nda",
            chunked=False,
            end="cut",
        ),
    ],
    ids=["garbage", "status line", "header", "chunk", "length"],
)
async def test_no_status_is_told_that_the_server_did_not_send(connect: Connect, answer: Answer) -> None:
    """aiohttp's own texts begin with `400, message:`, which reads as if the service had refused the request."""
    with ChatServer(answer) as server:
        client = connect(server.url, retry=RetryPolicy(mode="off"))
        error = await client.failure()
        assert server.url in error.message
        assert "400" not in error.message.replace(server.url, "")
        assert "message:" not in error.message
        assert "message=" not in error.message
        assert error.code != "http_400"
        await client.service.aclose()


async def test_an_event_that_cannot_be_read_is_an_answer_that_was_observed(connect: Connect) -> None:
    with ChatServer(words("junk", "end")) as server:
        client = connect(server.url)
        error = await client.failure()
        assert error.code == "unsafe_retry_response_observed"
        assert error.usage == UNKNOWN
        assert f"junk came ({server.url})" in error.message
        assert client.waits == []
        await client.service.aclose()


async def test_a_throttle_that_names_its_wait_is_obeyed(connect: Connect) -> None:
    throttled = status(429, headers={"retry-after": "3"})
    with ChatServer(throttled, throttled, words("a", "end")) as server:
        client = connect(server.url)
        assert (await client.call()).full_text == "a"
        assert client.waits == [3.0, 3.0]
        await client.service.aclose()


async def test_lenient_repeats_what_may_have_been_charged(connect: Connect) -> None:
    with ChatServer(status(503), cut("x"), words("a", "end")) as server:
        client = connect(server.url, retry=RetryPolicy(mode="lenient"))
        assert (await client.call()).full_text == "a"
        assert client.waits == [2.0, 4.0]
        await client.service.aclose()


async def test_a_key_that_the_service_quotes_is_hidden(connect: Connect) -> None:
    body = {"error": {"message": f"bad key {SECRET}", "code": "invalid_api_key", "key": SECRET}}
    with ChatServer(status(401, body)) as server:
        client = connect(server.url)
        error = await client.failure()  # asserts that it's hidden
        assert "[redacted]" in error.message
        assert "[redacted]" in error.raw
        assert server.requests[0].headers["authorization"] == f"Bearer {SECRET}"
        await client.service.aclose()


async def test_nothing_logs_the_key(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ChatServer(words("a", "end"), status(500)) as server:
        client = connect(server.url)
        await client.call()
        await client.failure()
        await client.service.aclose()
    assert SECRET not in caplog.text
    assert SECRET not in repr(client.service.transport)


async def test_a_compressed_answer_is_read_although_none_was_asked_for(connect: Connect) -> None:
    import gzip

    packed = gzip.compress(sse("a") + sse("end"))
    with ChatServer(raw(packed[:9], packed[9:], headers={"content-encoding": "gzip"})) as server:
        client = connect(server.url)
        assert (await client.call()).full_text == "a"
        assert server.requests[0].headers["accept-encoding"] == "identity"
        await client.service.aclose()


async def test_an_answer_larger_than_the_limit_is_refused(connect: Connect) -> None:
    piece = b": " + b"x" * 1_000_000 + b"\n\n"
    with ChatServer(raw(*[piece] * 70)) as server:
        client = connect(server.url)
        error = await client.failure()
        assert error.code == "stream_too_large"
        assert not error.retryable
        await client.service.aclose()


async def test_proxies_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain-http proxy is sent the whole URL, so our own server can play it."""
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with ChatServer(words("a", "end"), words("b", "end")) as proxy, ChatServer(words("direct", "end")) as direct:
        monkeypatch.setenv("http_proxy", proxy.origin)
        client = Client("http://model.example/v1")
        assert (await client.call()).full_text == "a"
        assert client.service.transport.backend == "proxy"
        assert proxy.requests[0].target == "http://model.example/v1"
        assert (await client.call()).full_text == "b"
        await client.service.aclose()
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        spared = Client(direct.url)
        assert (await spared.call()).full_text == "direct"
        assert direct.requests[0].target == "/v1"
        await spared.service.aclose()


async def test_a_proxy_that_is_down_is_an_error_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("http_proxy", refused_url())
    client = Client("http://model.example/v1")
    assert (await client.failure()).kind is ProviderFailureKind.TRANSPORT
    assert client.waits == []
    await client.service.aclose()


async def test_certificates_are_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """An unknown authority is refused without a second attempt; one that the environment trusts is accepted."""
    trustme = pytest.importorskip("trustme", reason="trustme isn't installed: no certificates to test with")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    with ChatServer(words("a", "end"), tls=context) as server:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        stranger = Client(server.url)
        error = await stranger.failure()
        assert error.code == "certificate_rejected"
        assert stranger.waits == []
        assert server.requests == []
        await stranger.service.aclose()
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        friend = Client(server.url)
        assert (await friend.call()).full_text == "a"
        await friend.service.aclose()


class Tunnel(socketserver.ThreadingTCPServer):
    """A proxy for https: told to connect somewhere, it connects to `inner`, and then passes bytes on both ways."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, inner: int) -> None:
        super().__init__(("127.0.0.1", 0), Through)
        self.inner = inner
        self.asked: list[bytes] = []
        self.seen = b""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator[Tunnel]:
        thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class Through(socketserver.StreamRequestHandler):
    server: Tunnel

    def handle(self) -> None:
        self.server.asked.append(self.rfile.readline().strip())
        while self.rfile.readline().strip():
            pass
        with socket.create_connection(("127.0.0.1", self.server.inner)) as inner:
            self.wfile.write(b"HTTP/1.1 200 connected\r\n\r\n")
            back = threading.Thread(target=self.pump, args=(inner, self.connection))
            back.start()
            self.pump(self.connection, inner)
            back.join()

    def pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self.server.seen += data
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)


async def test_https_goes_through_a_proxy_as_a_tunnel_that_can_read_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """The proxy is told the host's name and port; the certificate is the host's, and the key stays inside."""
    trustme = pytest.importorskip("trustme", reason="trustme isn't installed: no certificates to test with")
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("model.example").configure_cert(context)
    trusted = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(trusted))
    for name in ("no_proxy", "NO_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    with (
        ChatServer(words("a", "end"), words("b", "end"), tls=context) as server,
        Tunnel(int(server.origin.rpartition(":")[2])).running() as proxy,
    ):
        monkeypatch.setenv("https_proxy", proxy.url)
        stranger = Client("https://model.example/v1")
        assert (await stranger.failure()).code == "certificate_rejected"
        await stranger.service.aclose()
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        client = Client("https://model.example/v1")
        assert (await client.call()).full_text == "a"
        assert (await client.call()).full_text == "b"
        assert client.service.transport.backend == "proxy"
        await client.service.aclose()
    assert set(proxy.asked) == {b"CONNECT model.example:443 HTTP/1.1"}
    assert server.requests[0].target == "/v1"
    assert SECRET.encode() not in proxy.seen


def test_importing_the_kit_imports_no_http_library() -> None:
    """Discovery and `--help` must not pay for what only a call needs."""
    assert not {"httpx", "aiohttp", "httpcore"} & imported_by("import lash_provider_kit.opening")
