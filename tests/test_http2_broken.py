"""Calls over HTTP/2 whose connection breaks: telling the service that nobody listens mustn't hide why one failed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmCallError, LlmResponse, LlmStreamEvent, ProviderFailureKind, StreamDelta, TokenUsage
from lash_provider_kit import http2, whole_writes
from lash_provider_kit.retry import RetryPolicy
from lash_provider_kit.service import StreamingService
from lash_provider_kit.transport import Timeouts

pytest.importorskip("h2", reason="h2 isn't installed: nobody to speak HTTP/2 with")
from http2_kit import Http2Server

PIECES = [b"data: hi\n\n", b"data: end\n\n"]
LARGE = b'"' + b"x" * 30_000_000 + b'"'
"""More than the systems of both sides keep for a connection."""
BROKEN = ("connection_broken", "unsafe_retry_after_output_started")
"""What a call fails with whose connection breaks: before its answer, and within."""


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
    monkeypatch.setenv("SSL_CERT_FILE", str(server.trusted))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    caller = Caller(server, **times)
    try:
        yield caller
    finally:
        await caller.service.aclose()


async def until(true: Any) -> None:
    with anyio.fail_after(30):
        while not true():
            await anyio.lowlevel.checkpoint()


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of what was begun to be written."""
    lengths: list[int] = []
    write = whole_writes._Stream.write

    async def told(self: Any, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        lengths.append(len(buffer))
        await write(self, buffer, timeout)

    monkeypatch.setattr(whole_writes._Stream, "write", told)
    return lengths


async def until_stalled(server: Http2Server, written: list[int]) -> None:
    """Until nothing more of a body goes into the systems' buffers, for which there is no event."""
    await until(server.choked.is_set)
    before, unchanged = 0, 0
    while unchanged < 100:
        before, unchanged = len(written), unchanged + 1 if len(written) == before else 0
        await anyio.sleep(0.002)


@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
@pytest.mark.parametrize("held", [0, 1], ids=["before the answers", "within the answers"])
async def test_each_call_on_a_connection_that_breaks_fails_typed(
    held: int, reset: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All but one raised httpcore's or anyio's own error, that of the reset which couldn't be sent any more."""
    with Http2Server(PIECES, tmp_path, held=held) as server:
        async with calling(server, monkeypatch) as caller:
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(caller.fail)
                await until(lambda: len(server.asked) == 3 and caller.came == 3 * held)
                server.drop(reset=reset)
            assert [each.code for each in caller.failed] == [BROKEN[held]] * 3
            assert {each.kind for each in caller.failed} == {ProviderFailureKind.TRANSPORT}
            server.go.set()
            assert (await caller.call()).full_text == "hi"  # on a new connection
        assert server.connections == 2


async def test_a_deadline_amid_an_upload_stays_a_deadline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was the error of the reset: httpcore's WriteError, which nobody types."""
    monkeypatch.setattr(whole_writes, "GRACE_S", 0.05)
    with Http2Server(PIECES, tmp_path, chokes=100_000) as server:
        async with calling(server, monkeypatch, deadline_s=2.0) as caller:
            await caller.fail(LARGE)
        assert server.choked.is_set()
    assert [each.code for each in caller.failed] == ["deadline_exceeded"]


async def test_a_cancel_amid_a_stalled_upload_stays_a_cancel_and_its_siblings_fail_typed(
    written: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A record that was cut off can't be followed by another one: the connection is closed for all who share it."""
    monkeypatch.setattr(whole_writes, "GRACE_S", 0.05)
    with Http2Server(PIECES, tmp_path, held=1, chokes=100_000) as server:
        async with calling(server, monkeypatch) as caller:
            async with anyio.create_task_group() as group:
                group.start_soon(caller.fail)
                await until(lambda: caller.came == 1)
                with anyio.CancelScope() as scope:

                    async def cancel() -> None:
                        await until_stalled(server, written)
                        scope.cancel()

                    group.start_soon(cancel)
                    await caller.call(LARGE)
                assert scope.cancelled_caught
            server.go.set()
            assert (await caller.call()).full_text == "hi"  # on a new connection
        assert server.connections == 2
    assert [each.code for each in caller.failed] == [BROKEN[1]]


@asynccontextmanager
async def cancelled_at_a_write(number: int, monkeypatch: pytest.MonkeyPatch, bare: bool = False) -> AsyncIterator[None]:
    """Cancel what runs herein when it is about to write something for the `number`th time; that it was, is asserted.

    `bare` cancels the task, as asyncio itself does, which no scope holds off.
    """
    write = whole_writes._Stream.write
    written = itertools.count()

    async def cancel_first(self: Any, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        if buffer and next(written) == number:
            if bare:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            else:
                scope.cancel()
        await write(self, buffer, timeout)

    monkeypatch.setattr(whole_writes._Stream, "write", cancel_first)
    if bare:
        with pytest.raises(asyncio.CancelledError):
            yield
    else:
        with anyio.CancelScope() as scope:
            yield
        assert scope.cancelled_caught
    monkeypatch.setattr(whole_writes._Stream, "write", write)


WRITES = ["the beginning", "the headers", "the body", "the body's end", "the answer to the settings"]


@pytest.mark.parametrize("number", range(len(WRITES)), ids=WRITES)
async def test_a_cancel_amid_any_write_leaves_a_whole_connection(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The record was lost, of which nobody knew; the server couldn't read the reset, nor anything else, and hung up.

    What begins a connection is httpcore's to care for: it closes it.
    """
    with Http2Server(PIECES, tmp_path, held=0) as server:
        async with calling(server, monkeypatch) as caller:
            async with cancelled_at_a_write(number, monkeypatch):
                await caller.call()
            assert number == 0 or await anyio.to_thread.run_sync(server.reset.wait, 10)
            server.go.set()
            assert (await caller.call()).full_text == "hi"
        assert server.connections == (2 if number == 0 else 1)


@pytest.mark.parametrize("bare", [False, True], ids=["a scope's", "a task's"])
@pytest.mark.parametrize("number", range(3), ids=WRITES[1:4])
async def test_a_cancel_amid_any_write_leaves_the_others_on_the_connection_alone(
    number: int, bare: bool, anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if bare and anyio_backend_name != "asyncio":
        pytest.skip("trio has no cancel that isn't a scope's")
    with Http2Server(PIECES, tmp_path, held=1) as server:
        async with calling(server, monkeypatch) as caller:
            texts: list[str | None] = []

            async def other() -> None:
                texts.append((await caller.call()).full_text)

            async with anyio.create_task_group() as group:
                group.start_soon(other)
                await until(lambda: caller.came == 1)
                async with cancelled_at_a_write(number, monkeypatch, bare):
                    await caller.call()
                assert await anyio.to_thread.run_sync(server.reset.wait, 10)
                server.go.set()
            assert (await caller.call()).full_text == "hi"
        assert server.connections == 1
    assert texts == ["hi"]


async def test_a_cancel_does_not_wait_for_a_sibling_whose_upload_is_stalled(
    written: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing else can be written meanwhile, and the reset waited for that, shielded: two minutes, usually."""
    for module in (http2, whole_writes):
        monkeypatch.setattr(module, "GRACE_S", 0.05)
    with Http2Server(PIECES, tmp_path, held=0, chokes=100_000) as server:
        async with calling(server, monkeypatch, chunk_s=30.0) as caller, anyio.create_task_group() as group:
            began = 0.0

            async def upload() -> None:
                await until(lambda: len(server.asked) == 1)
                await caller.fail(LARGE)

            async def cancel() -> None:
                nonlocal began
                await until_stalled(server, written)
                began = anyio.current_time()
                small.cancel()

            with anyio.CancelScope() as small:
                group.start_soon(upload)
                group.start_soon(cancel)
                await caller.call()
            assert small.cancelled_caught
            assert anyio.current_time() - began < 15  # the upload waits for twice as long
            group.cancel_scope.cancel()
