"""Calls over HTTP/2 whose connection breaks: telling the service that nobody listens mustn't hide why one failed."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from httpcore._backends.anyio import AnyIOStream
from httpcore._backends.trio import TrioStream

from lash_hookspecs.llm import ProviderFailureKind
from lash_provider_kit import http2, whole_writes

pytest.importorskip("h2", reason="h2 isn't installed: nobody to speak HTTP/2 with")
from http2_kit import Http2Server, calling, until

PIECES = [b"data: hi\n\n", b"data: end\n\n"]
LARGE = b'"' + b"x" * 100_000 + b'"'
"""More than a frame."""
BROKEN = ("connection_broken", "unsafe_retry_after_output_started")
"""What a call fails with whose connection breaks: before its answer, and within."""


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


def stalled(monkeypatch: pytest.MonkeyPatch) -> anyio.Event:
    """Have the network take nothing of a large frame, as if all buffers on the way were full; set when one is begun."""
    begun = anyio.Event()
    for stream in (AnyIOStream, TrioStream):
        write = stream.write

        async def stall(
            self: Any,
            buffer: bytes,
            timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
            write: Any = write,
        ) -> None:
            if len(buffer) > 10_000:
                begun.set()
                await anyio.sleep_forever()
            await write(self, buffer, timeout)

        monkeypatch.setattr(stream, "write", stall)
    return begun


async def test_a_deadline_amid_an_upload_stays_a_deadline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It was the error of the reset: httpcore's WriteError, which nobody types."""
    monkeypatch.setattr(whole_writes, "GRACE_S", 0.05)
    begun = stalled(monkeypatch)
    with Http2Server(PIECES, tmp_path) as server:
        async with calling(server, monkeypatch, deadline_s=1.0) as caller:
            await caller.fail(LARGE)
    assert begun.is_set()
    assert [each.code for each in caller.failed] == ["deadline_exceeded"]


async def test_a_cancel_amid_a_stalled_upload_stays_a_cancel_and_its_siblings_fail_typed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A record that was cut off can't be followed by another one: the connection is closed for all who share it."""
    monkeypatch.setattr(whole_writes, "GRACE_S", 0.05)
    begun = stalled(monkeypatch)
    with Http2Server(PIECES, tmp_path, held=1) as server:
        async with calling(server, monkeypatch) as caller:
            async with anyio.create_task_group() as group:
                group.start_soon(caller.fail)
                await until(lambda: caller.came == 1)
                with anyio.CancelScope() as scope:

                    async def cancel() -> None:
                        await begun.wait()
                        scope.cancel()

                    group.start_soon(cancel)
                    await caller.call(LARGE)
                assert scope.cancelled_caught
            server.go.set()
            assert (await caller.call()).full_text == "hi"  # on a new connection
        assert server.connections == 2
    assert [each.code for each in caller.failed] == [BROKEN[1]]
    assert "closed on this side" in caller.failed[0].message


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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing else can be written meanwhile, and the reset waited for that, shielded: two minutes, usually."""
    for module in (http2, whole_writes):
        monkeypatch.setattr(module, "GRACE_S", 0.05)
    begun = stalled(monkeypatch)
    with Http2Server(PIECES, tmp_path, held=1) as server:
        async with calling(server, monkeypatch) as caller, anyio.create_task_group() as group:

            async def upload() -> None:
                await until(lambda: caller.came == 1)  # and so the small one only reads
                await caller.call(LARGE)

            with anyio.fail_after(30), anyio.CancelScope() as small:
                group.start_soon(upload)

                async def cancel() -> None:
                    await begun.wait()
                    small.cancel()

                group.start_soon(cancel)
                await caller.call()
            assert small.cancelled_caught
            group.cancel_scope.cancel()


async def test_who_is_cancelled_twice_amid_a_stalled_upload_waits_no_longer(
    anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second one left the writing task alone, which nothing reached, and waited for it."""
    if anyio_backend_name != "asyncio":
        pytest.skip("trio has no cancel that isn't a scope's")
    monkeypatch.setattr(whole_writes, "GRACE_S", 3600.0)
    begun = stalled(monkeypatch)
    with Http2Server(PIECES, tmp_path) as server:
        async with calling(server, monkeypatch) as caller:
            task = asyncio.create_task(caller.call(LARGE))
            await begun.wait()
            async with asyncio.timeout(30):
                while not task.done():
                    task.cancel()
                    await anyio.lowlevel.checkpoint()
                    await anyio.lowlevel.checkpoint()
            assert task.cancelled()
            assert (await caller.call()).full_text == "hi"
        assert server.connections == 2
