"""Calls that share a connection over HTTP/2: what ends one of them, or the connection, mustn't cost the others."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmStreamEvent
from lash_provider_kit import transport, whole_writes

pytest.importorskip("h2", reason="h2 isn't installed: nobody to speak HTTP/2 with")
import httpcore._async.http2 as httpcore_http2
from http2_kit import Caller, Http2Server, Line, calling, until

PIECES = [b"data: hi\n\n", b"data: more\n\n", b"data: end\n\n"]
RESET, SETTINGS, PROMISE, GOAWAY = 3, 4, 5, 7
MOST_CALLS = 3
INTERNAL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM = 2, 7, 11
ANY = 2**31 - 1


def frame(kind: int, payload: bytes, stream: int = 0, flags: int = 0) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def goaway(last: int, code: int = 0, words: bytes = b"") -> bytes:
    return frame(GOAWAY, struct.pack(">II", last, code) + words)


def reset(stream: int, code: int) -> bytes:
    return frame(RESET, struct.pack(">I", code), stream)


def of_httpcore(caller: Caller) -> Any:
    """The connection, of which there is one, or None as long as there is none."""
    carrier: Any = caller.service.transport._carrier
    return next(iter(carrier._owner._connections()), None)


def waiting(lock: Any) -> int:
    """How many wait for one of httpcore's."""
    inner = next((value for name, value in vars(lock).items() if name != "_backend" and name != "_bound"), None)
    return 0 if inner is None else int(inner.statistics().tasks_waiting)


class Calls:
    """So many calls at once: what came of them."""

    def __init__(self, server: Http2Server, caller: Caller) -> None:
        self.server, self.caller = server, caller
        self.texts: list[str | None] = []
        self.failed: list[str] = []

    async def one(self) -> None:
        try:
            self.texts.append((await self.caller.call()).full_text)
        except LlmCallFailed as exc:
            self.failed.append(f"{exc.error.code}: {exc.error.message.partition('/v1 ')[2]}")

    @asynccontextmanager
    async def running(self, held: int, number: int = 3) -> AsyncIterator[None]:
        """They run, and the server has begun them; they end after this."""
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for _ in range(number):
                    group.start_soon(self.one)
                await until(lambda: len(self.server.asked) == number and self.caller.came >= number * held)
                yield


# ---- a server that ends a connection --------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [5, ANY], ids=["up to the last call", "up to any call"])
@pytest.mark.parametrize("held", [0, 1], ids=["before the answers", "within the answers"])
async def test_a_server_that_takes_its_leave_answers_what_runs(
    held: int, last: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """nginx does so after a thousand requests. All calls failed, paid and not repeated: it "doesn't speak HTTP"."""
    with Http2Server(PIECES, tmp_path, held=held) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with calls.running(held):
                server.say(goaway(last))
                await until(lambda: of_httpcore(caller)._used_all_stream_ids)
                server.go.set()
                assert (await caller.call()).full_text == "hi"
            assert (calls.texts, calls.failed) == (["hi"] * 3, [])
            await until(lambda: len(server._open) == 1)  # the one that was left is closed
        assert server.connections == 2


@pytest.mark.parametrize("last", [0, 1, 3])
async def test_calls_that_a_server_has_not_begun_when_it_takes_its_leave_are_made_elsewhere(
    last: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Http2Server(PIECES, tmp_path, held=0) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with calls.running(0):
                server.say(goaway(last))
                await until(lambda: len(server.asked) == 6 - (last + 1) // 2)  # each of those once more
                server.go.set()
            assert (calls.texts, calls.failed) == (["hi"] * 3, [])
        assert server.connections == 2


async def test_calls_that_wait_for_a_place_on_a_connection_that_is_left_are_made_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with Http2Server(PIECES, tmp_path, held=1, most=1) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with calls.running(1, number=1), anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(calls.one)
                left = of_httpcore(caller)
                await until(lambda: waiting(left._max_streams_semaphore) == 3)
                server.say(goaway(1))
                await until(lambda: len(server.asked) == 2)
                server.go.set()
            assert (calls.texts, calls.failed) == (["hi"] * 4, [])
        assert server.connections == 2


async def test_a_server_that_wants_fewer_calls_at_once_answers_those_that_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """httpcore waited for the end of two of them, while nobody could read: until the deadline of all."""
    with Http2Server(PIECES, tmp_path, held=1) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with calls.running(1):
                server.say(frame(SETTINGS, struct.pack(">HI", MOST_CALLS, 1)))
                await until(lambda: of_httpcore(caller)._used_all_stream_ids)
                server.go.set()
            assert (calls.texts, calls.failed) == (["hi"] * 3, [])


async def test_a_server_that_names_no_number_of_calls_gets_all_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each call waited for the end of the one before."""
    with Http2Server(PIECES, tmp_path, held=1, most=None) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with calls.running(1):
                server.go.set()
            assert calls.texts == ["hi"] * 3
        assert server.connections == 1


FAULTS = {
    "resets a call": (reset(3, INTERNAL_ERROR), 1, "the service gave up this call (INTERNAL_ERROR)"),
    "ends the connection": (
        goaway(5, ENHANCE_YOUR_CALM, b"too_many_pings"),
        3,
        "the service ended the connection (ENHANCE_YOUR_CALM: too_many_pings)",
    ),
}


@pytest.mark.parametrize(("said", "number", "why"), FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("held", [0, 1], ids=["before the answers", "within the answers"])
async def test_a_call_that_the_server_gives_up_says_so(
    held: int, said: bytes, number: int, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It "doesn't speak HTTP", which isn't true, and wasn't repeated."""
    with Http2Server(PIECES, tmp_path, held=held) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with calls.running(held):
                server.say(said)
                await until(lambda: len(calls.failed) == number)
                server.go.set()
            code = "unsafe_retry_after_output_started" if held else "connection_broken"
            assert {each.partition(" (not repeated")[0] for each in calls.failed} == {f"{code}: broke: {why}"}
            assert calls.texts == ["hi"] * (3 - number)


async def test_a_refused_call_is_made_again_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The server has done nothing of it. Who refuses it again has said what it thinks of it."""
    with Http2Server(PIECES, tmp_path, held=0) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with calls.running(0, number=1):
                server.say(reset(1, REFUSED_STREAM))
                await until(lambda: len(server.asked) == 2)
                server.say(reset(3, REFUSED_STREAM))
            (why,) = calls.failed
            assert why.startswith("connection_broken: broke: the service refused the call, and had done nothing of it")


GARBAGE = {
    "another protocol": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "frames of 4740180 bytes"),
    "a promise": (frame(PROMISE, struct.pack(">I", 2), 1, flags=4), "Received pushed stream"),
    "broken compression": (frame(1, b"\xff" * 5, 3, flags=4), "Error decoding header block"),
}


@pytest.mark.parametrize(("said", "why"), GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("held", [0, 1], ids=["before the answers", "within the answers"])
async def test_what_is_no_http2_fails_all_calls_at_once_and_typed(
    held: int, said: bytes, why: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Calls failed with h2's own errors, or were told that they couldn't be made, or waited until nothing had come."""
    with Http2Server(PIECES, tmp_path, held=held) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with calls.running(held):
                server.say(said)
            codes = {each.partition(":")[0] for each in calls.failed}
            assert len(calls.failed) == 3
            assert "not_http" in codes
            assert codes <= {"not_http", "unsafe_retry_after_output_started" if held else "connection_broken"}
            assert any(why in each for each in calls.failed)
            server.go.set()
            assert (await caller.call()).full_text == "hi"
        assert server.connections == 2


async def test_an_answer_that_has_come_waits_for_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Calls queued up to read, and the last one got what was there for it when those in front of it got something."""
    with Http2Server(PIECES, tmp_path, held=1) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)

            async def have_begun(number: int) -> None:
                await until(lambda: caller.came == number)

            async with calls.running(1, number=2), anyio.create_task_group() as group:
                for number in range(3, 9):
                    group.start_soon(calls.one)
                    await have_begun(number)
                server.go.set()
            assert (calls.texts, calls.failed) == (["hi"] * 8, [])
        assert server.connections == 1


# ---- a call that is cancelled ---------------------------------------------------------------------------------------


async def test_who_waits_for_a_connection_whose_beginning_is_cancelled_gets_another_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """h2's own error, which nobody types: the state of the connection that was closed for the cancelled one."""
    write = whole_writes._Stream.write
    with Http2Server(PIECES, tmp_path) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as scope:

                    async def cancel_first(self: Any, *args: Any) -> None:
                        monkeypatch.setattr(whole_writes._Stream, "write", write)
                        for _ in range(3):
                            group.start_soon(calls.one)
                        await until(lambda: waiting(of_httpcore(caller)._init_lock) == 3)
                        scope.cancel()
                        await write(self, *args)

                    monkeypatch.setattr(whole_writes._Stream, "write", cancel_first)
                    await caller.call()
                assert scope.cancelled_caught
            assert (calls.texts, calls.failed) == (["hi"] * 3, [])
        assert server.connections == 2


@pytest.mark.parametrize("number", [1, 50, 99, 100])
async def test_a_cancel_amid_what_httpcore_counts_leaves_the_connection_as_it_was(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It takes all places but one as a connection begins, and gave back more than it had taken: a ValueError."""
    acquire = httpcore_http2.AsyncSemaphore.acquire
    left = number
    with Http2Server(PIECES, tmp_path) as server:
        async with calling(server, monkeypatch) as caller:
            with anyio.CancelScope() as scope:

                async def cancel_one(self: Any) -> None:
                    nonlocal left
                    left -= 1
                    if left == 0:
                        scope.cancel()
                    await acquire(self)

                monkeypatch.setattr(httpcore_http2.AsyncSemaphore, "acquire", cancel_one)
                await caller.call()
            assert scope.cancelled_caught
            calls = Calls(server, caller)
            async with calls.running(0):
                pass
            assert (calls.texts, calls.failed) == (["hi"] * 3, [])
        assert server.connections == 1


async def test_who_waits_for_a_connection_whose_making_is_cancelled_has_it_as_any_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """httpcore's pool had forgotten it: its calls, given up, went on and were paid, and nobody closed it."""
    start_tls = whole_writes._Stream.start_tls
    with Http2Server(PIECES, tmp_path, held=1) as server:
        async with calling(server, monkeypatch) as caller:
            calls = Calls(server, caller)
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as scope:

                    async def cancel_first(self: Any, *args: Any, **named: Any) -> Any:
                        monkeypatch.setattr(whole_writes._Stream, "start_tls", start_tls)
                        for _ in range(2):
                            group.start_soon(calls.one)
                        carrier: Any = caller.service.transport._carrier
                        (made,) = carrier._owner._made
                        await until(lambda: waiting(made._request_lock) == 2)
                        scope.cancel()
                        return await start_tls(self, *args, **named)

                    monkeypatch.setattr(whole_writes._Stream, "start_tls", cancel_first)
                    await caller.call()
                assert scope.cancelled_caught
                await until(lambda: caller.came == 2)
                with anyio.CancelScope() as other:

                    async def send(events: Sequence[LlmStreamEvent]) -> None:
                        other.cancel()
                        await anyio.lowlevel.checkpoint()

                    await caller.service.call(b"{}", Line, send)
                assert await anyio.to_thread.run_sync(server.reset.wait, 10)
                server.go.set()
            assert (calls.texts, calls.failed) == (["hi"] * 2, [])
        assert server.connections == 1


async def test_a_cancel_that_meets_the_listener_takes_no_longer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nobody read from the stream just then, and httpcore was asked to: two seconds for each such cancel."""
    monkeypatch.setattr(transport, "_CLOSE_S", 3600.0)
    with Http2Server(PIECES, tmp_path, held=1) as server:
        async with calling(server, monkeypatch) as caller:
            with anyio.fail_after(30), anyio.CancelScope() as scope:

                async def send(events: Sequence[LlmStreamEvent]) -> None:
                    scope.cancel()
                    await anyio.lowlevel.checkpoint()

                await caller.service.call(b"{}", Line, send)
            assert scope.cancelled_caught
            assert await anyio.to_thread.run_sync(server.reset.wait, 10)
            server.go.set()
            assert (await caller.call()).full_text == "hi"
        assert server.connections == 1
