"""When a transport changes from httpx's connections to aiohttp's, and that nothing is lost on the way."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest

from lash_provider_kit.failures import AttemptFailed
from lash_provider_kit.growing import FEW
from lash_provider_kit.testing import Answer, ChatServer, hang, raw, refused_url, sse
from lash_provider_kit.transport import HttpTransport, Timeouts, chunks_of, close_response


def transport_to(url: str) -> HttpTransport:
    return HttpTransport(provider="prov", url=url, headers={}, timeouts=Timeouts())


@asynccontextmanager
async def answered(transport: HttpTransport) -> AsyncIterator[Any]:
    """The pieces of one answer."""
    response = await transport.post([b"{}"])
    chunks = chunks_of(response)
    try:
        yield chunks
    finally:
        await close_response(response, chunks, transport.errors)


async def call(transport: HttpTransport) -> bytes:
    async with answered(transport) as chunks:
        return b"".join([piece async for piece in chunks])


def slow(gate: threading.Event) -> Answer:
    return raw(sse("a"), sse("b"), gate=gate)


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def fast(anyio_backend_name: str) -> str:
    """What carries many calls."""
    return "aiohttp" if anyio_backend_name == "asyncio" else "httpx"


async def left(server: ChatServer, wanted: int) -> bool:
    """Whether so many connections are open, once the server, a thread of its own, has heard of what was closed."""
    for _ in range(500):
        if server.open_connections == wanted:
            return True
        await anyio.sleep(0.01)
    return False


async def test_a_few_calls_in_a_row_are_httpx_s_and_then_its_connection_is_closed(fast: str) -> None:
    with ChatServer(*[raw(sse("a"))] * (FEW + 2)) as server:
        transport = transport_to(server.url)
        for _ in range(FEW):
            await call(transport)
        assert (transport.backend, server.connections) == ("httpx", 1)
        for _ in range(2):
            assert await call(transport) == sse("a")
        assert transport.backend == fast
        assert server.connections == (2 if fast == "aiohttp" else 1)
        assert await left(server, 1)
        await transport.aclose()


async def test_calls_that_overlap_change_it_and_the_first_one_ends_undisturbed(fast: str) -> None:
    gate = threading.Event()
    with ChatServer(slow(gate), raw(sse("c")), raw(sse("d"))) as server:
        transport = transport_to(server.url)
        async with answered(transport) as chunks:
            assert await anext(chunks) == sse("a")
            assert transport.backend == "httpx"
            assert await call(transport) == sse("c")
            assert transport.backend == fast
            gate.set()
            assert b"".join([piece async for piece in chunks]) == sse("b")
        assert await call(transport) == sse("d")
        assert server.connections == 2
        assert await left(server, 1 if fast == "aiohttp" else 2)
        await transport.aclose()


async def test_many_at_once_are_served_by_the_fast_one_but_for_the_first(fast: str) -> None:
    with ChatServer() as server:
        server.default = raw(sse("a"))
        transport = transport_to(server.url)
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(call, transport)
        assert transport.backend == fast
        assert len(server.requests) == 40
        await transport.aclose()
        other = transport_to(server.url)
        await call(other)
        assert await left(server, 1)  # that one's: nothing is left of the others
        await other.aclose()


async def test_a_call_that_failed_overlaps_with_none() -> None:
    transport = transport_to(refused_url())
    for _ in range(2):
        with pytest.raises(AttemptFailed, match="nothing listens"):
            await call(transport)
    assert transport.backend == "httpx"
    await transport.aclose()


async def test_a_call_that_was_cancelled_overlaps_with_none() -> None:
    with ChatServer(hang(), raw(sse("a"))) as server:
        transport = transport_to(server.url)
        async with anyio.create_task_group() as group:
            group.start_soon(call, transport)
            await anyio.to_thread.run_sync(server.asked.wait, 30)
            group.cancel_scope.cancel()
        assert await call(transport) == sse("a")
        assert transport.backend == "httpx"
        await transport.aclose()


async def test_closing_closes_what_is_idle_on_both() -> None:
    gate = threading.Event()
    with ChatServer(slow(gate), raw(sse("c")), raw(sse("d"))) as server:
        transport = transport_to(server.url)
        async with answered(transport) as chunks:
            await anext(chunks)
            await call(transport)
            gate.set()
        await transport.aclose()
        other = transport_to(server.url)
        assert await call(other) == sse("d")
        assert await left(server, 1)
        await other.aclose()


async def test_an_aiohttp_that_cannot_be_imported_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fast: str
) -> None:
    """It is there, so it was counted on: from the fifth call on all of them failed."""
    (tmp_path / "aiohttp.py").write_text("raise ImportError('built for another Python')")
    monkeypatch.delitem(sys.modules, "aiohttp", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with ChatServer() as server:
        server.default = raw(sse("a"))
        transport = transport_to(server.url)
        for _ in range(FEW + 3):
            assert await call(transport) == sse("a")
        assert (transport.backend, server.connections) == ("httpx", 1)
        await transport.aclose()
    assert caplog.text.count("built for another Python") == (1 if fast == "aiohttp" else 0)


async def test_connections_that_cannot_be_closed_are_no_failure_of_a_new_call(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fast: str
) -> None:
    with ChatServer() as server:
        server.default = raw(sse("a"))
        transport = transport_to(server.url)
        for _ in range(FEW):
            await call(transport)

        async def broken(self: httpx.AsyncHTTPTransport) -> None:
            raise OSError("the old connection is stuck")

        with monkeypatch.context() as patch:
            patch.setattr(httpx.AsyncHTTPTransport, "aclose", broken)
            assert await call(transport) == sse("a")
        assert transport.backend == fast
        await transport.aclose()
    assert caplog.text.count("the old connection is stuck") == (1 if fast == "aiohttp" else 0)


def test_one_call_imports_no_second_library() -> None:
    """It would take longer than a handful of calls."""
    with ChatServer() as server:
        code = f"""
import anyio, sys
from lash_provider_kit.transport import HttpTransport, Timeouts, chunks_of, close_response

async def main():
    transport = HttpTransport(provider="prov", url={server.url!r}, headers={{}}, timeouts=Timeouts())
    response = await transport.post([b"x"])
    await close_response(response, chunks_of(response), transport.errors)
    await transport.aclose()

anyio.run(main)
print([name for name in ("aiohttp", "click", "rich") if name in sys.modules])
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
