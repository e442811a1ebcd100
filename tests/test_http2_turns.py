"""Turns over HTTP/2, against a real server that speaks nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from attrs import evolve

from lash_framework import Lash, RunningTurn
from lash_framework.settings import load_settings
from lash_hookspecs import AssistantProseDelta, Stopped, StopReason
from lash_provider_kit.testing import chunk, sse

pytest.importorskip("h2", reason="h2 isn't installed: nobody to speak HTTP/2 with")
from http2_kit import Http2Server, tunnel


def piece(content: str) -> bytes:
    return sse(chunk({"content": content}))


END = (sse(chunk({}, "stop")), sse("[DONE]"))
PIECES = [piece("Grüße, "), piece("over "), piece("HTTP/2"), *END]


@asynccontextmanager
async def opened(server: Http2Server, monkeypatch: pytest.MonkeyPatch, http2: bool = True) -> AsyncIterator[Lash]:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.trusted))
    said = {"base_url": server.url, "api_key": "sk-of-a-test", "http2": http2, "max_attempts": 1}
    settings = evolve(load_settings(env={}), provider={"openai-chat": said})
    async with Lash.open("sqlite://", model="openai-chat:m", settings=settings) as lash:
        yield lash


async def test_a_turn_is_streamed_over_http2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What the server has said is there before it says more, and the next call has the same connection."""
    with Http2Server(PIECES, tmp_path, held=2) as server:
        async with opened(server, monkeypatch) as lash:
            session = await lash.session("s")
            seen: list[str] = []
            async with session.turn("q") as running:
                async for each in running:
                    if isinstance(each.event, AssistantProseDelta):
                        seen.append(each.event.text)
                        if "".join(seen) == "Grüße, over ":
                            server.go.set()
                turn = await running.result()
            assert (await session.run("again")).text == turn.text
    assert server.go.is_set()
    assert turn.text == "".join(seen) == "Grüße, over HTTP/2"
    assert server.connections == 1
    first, second = server.asked
    assert first.headers[":method"] == "POST"
    assert first.headers[":path"] == "/v1/chat/completions"
    assert first.headers["authorization"] == "Bearer sk-of-a-test"
    assert [each["role"] for each in second.json["messages"]][-1] == "user"


async def test_calls_at_once_share_a_connection(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each is a stream of its own: none waits for another one's end."""
    with Http2Server(PIECES, tmp_path, held=1) as server:
        async with opened(server, monkeypatch) as lash:
            texts: list[str] = []

            async def run(name: str) -> None:
                texts.append((await (await lash.session(name)).run("q")).text)

            async with anyio.create_task_group() as group:
                for number in range(8):
                    group.start_soon(run, f"s{number}")
                while len(server.asked) < 8:
                    await anyio.lowlevel.checkpoint()
                server.go.set()
    assert texts == ["Grüße, over HTTP/2"] * 8
    assert server.connections == 1


async def _is_reset_by_a_cancel(running: RunningTurn, server: Http2Server) -> None:
    """Cancel at the first text, unless somebody did before; the server hears of it, and goes on with others."""
    async for each in running:
        if isinstance(each.event, AssistantProseDelta):
            running.cancel("enough")
    assert (await running.result()).outcome == Stopped(StopReason.CANCELLED)
    assert await anyio.to_thread.run_sync(server.reset.wait, 10)
    server.go.set()


@pytest.mark.parametrize("held", [0, 2], ids=["before the answer", "within the answer"])
async def test_a_cancel_resets_the_stream_and_keeps_the_connection(
    held: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It went on, and was paid. The server hears at once that nobody listens; the next turn needs no new handshake."""
    with Http2Server(PIECES, tmp_path, held=held) as server:
        async with opened(server, monkeypatch) as lash:
            session = await lash.session("s")
            async with session.turn("q") as running, anyio.create_task_group() as group:

                async def cancel_early() -> None:
                    while not server.asked:
                        await anyio.lowlevel.checkpoint()
                    running.cancel("enough")

                if not held:
                    group.start_soon(cancel_early)
                await _is_reset_by_a_cancel(running, server)
            assert (await session.run("again")).text == "Grüße, over HTTP/2"
    assert server.connections == 1


async def test_a_cancel_resets_the_stream_behind_a_proxy_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Http2Server(PIECES, tmp_path, held=2) as server, tunnel() as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        async with opened(server, monkeypatch) as lash:
            session = await lash.session("s")
            async with session.turn("q") as running:
                await _is_reset_by_a_cancel(running, server)
            assert (await session.run("again")).text == "Grüße, over HTTP/2"
    assert server.connections == 1


async def test_a_reply_larger_than_the_window_comes_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever reads gives the server room for more."""
    long = "x" * 5_000
    with Http2Server([*[piece(long)] * 60, *END], tmp_path) as server:
        async with opened(server, monkeypatch) as lash:
            turn = await (await lash.session("s")).run("q")
    assert len(turn.text) == 60 * len(long)


async def test_who_does_not_ask_for_http2_is_refused_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server speaks nothing else, so that the tests above are about HTTP/2."""
    with Http2Server(PIECES, tmp_path) as server:
        async with opened(server, monkeypatch, http2=False) as lash:
            turn = await (await lash.session("s")).run("q")
    assert turn.outcome == Stopped(StopReason.PROVIDER_ERROR)
    assert server.asked == []
