"""What is written to a connection that calls share is written whole, also where the call that writes is cancelled.

A frame or a TLS record of which the other side has a part, or none, makes what follows it unreadable: the compression
of headers and the numbers of records go on from it. A cancel would leave such a connection behind with the calls of
others on it, and httpcore gives it to the next one.
"""

from __future__ import annotations

from typing import Any, Protocol

import anyio
import httpcore

from lash_provider_kit.server_frames import NoFrame

__all__ = ["GRACE_S", "Watcher", "WholeWrites"]

GRACE_S = 2.0
"""For how long a call that is given up waits for the sake of those with whom it shares its connection."""


class Watcher(Protocol):
    """Whoever knows what the bytes of a connection that speaks HTTP/2 mean."""

    def begins(self, stream: httpcore.AsyncNetworkStream) -> Any:
        """The first bytes are about to be written. What this returns is what is handed to the other two."""
        ...

    def heard(self, known: Any, data: bytes) -> bytes:
        """What httpcore gets of what was read. Raises `NoFrame`."""
        ...

    def cut(self, known: Any) -> None:
        """A write was cut off, after all, and the connection is closed."""
        ...


class WholeWrites(httpcore.AsyncNetworkBackend):
    """Connections over another backend, none of whose writes is cut off by a cancel."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend, watcher: Watcher) -> None:
        self._inner = inner
        self._watcher = watcher

    async def connect_tcp(self, *args: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        """Connect."""
        return _Stream(await self._inner.connect_tcp(*args, **named), self._watcher)

    async def connect_unix_socket(self, *args: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        """Connect."""
        return _Stream(await self._inner.connect_unix_socket(*args, **named), self._watcher)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream, watcher: Watcher) -> None:
        self._inner = inner
        self._watcher = watcher
        tls: Any = inner.get_extra_info("ssl_object")
        self._is_http2 = tls is not None and tls.selected_alpn_protocol() == "h2"
        self._known: Any = None  # here, since it holds on to this stream itself

    async def read(self, *args: Any, **named: Any) -> bytes:
        while True:
            data = await self._inner.read(*args, **named)
            if not data or not self._is_http2:
                return data
            try:
                if heard := self._watcher.heard(self._known, data):
                    return heard
            except NoFrame as exc:
                raise httpcore.RemoteProtocolError(exc) from exc

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        """Write it in a task of its own, which no cancel reaches; who is cancelled waits for it `GRACE_S` longer.

        If it isn't through by then, or at a second cancel that no scope holds off, the connection is closed: whoever
        shares it hears of it, and nobody else gets it.
        """
        if not buffer:
            return
        if self._is_http2 and self._known is None:
            self._known = self._watcher.begins(self)
        failed: list[Exception] = []
        ended = anyio.Event()
        whole = anyio.CancelScope(shield=True)
        is_written = False

        async def write() -> None:
            nonlocal is_written
            try:
                with whole:
                    await self._inner.write(buffer, timeout)
                    is_written = True
            except Exception as exc:
                failed.append(exc)
            finally:
                ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            try:
                await ended.wait()
            except BaseException:
                with anyio.move_on_after(GRACE_S, shield=True):
                    await ended.wait()
                raise
            finally:
                if not (is_written or failed):
                    whole.cancel()
                    if self._known is not None:
                        self._watcher.cut(self._known)
                    with anyio.CancelScope(shield=True):
                        await self._inner.aclose()
        if failed:
            raise failed[0]
        if not is_written:
            raise httpcore.WriteError("what was written was cut off")

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(self, *args: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        try:
            return _Stream(await self._inner.start_tls(*args, **named), self._watcher)
        except BaseException:  # of a cancel httpcore would leave it to the garbage collector
            with anyio.CancelScope(shield=True):
                await self._inner.aclose()
            raise

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
