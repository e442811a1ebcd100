"""What is written to a connection that calls share is written whole, also where the call that writes is cancelled.

A frame or a TLS record of which the other side has a part, or none, makes what follows it unreadable: the compression
of headers and the numbers of records go on from it. A cancel would leave such a connection behind with the calls of
others on it, and httpcore gives it to the next one.
"""

from __future__ import annotations

from typing import Any

import anyio
import httpcore

__all__ = ["GRACE_S", "WholeWrites"]

GRACE_S = 2.0
"""For how long a call that is given up waits for the sake of those with whom it shares its connection."""


class WholeWrites(httpcore.AsyncNetworkBackend):
    """Connections over another backend, none of whose writes is cut off by a cancel."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(self, *args: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        """Connect."""
        return _Stream(await self._inner.connect_tcp(*args, **named))

    async def connect_unix_socket(self, *args: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        """Connect."""
        return _Stream(await self._inner.connect_unix_socket(*args, **named))

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._inner.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def read(self, *args: Any, **named: Any) -> bytes:
        return await self._inner.read(*args, **named)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        """Write it in a task of its own, which no cancel reaches; who is cancelled waits for it `GRACE_S` longer.

        If it isn't through by then, the connection is closed: whoever shares it hears of it, and nobody else gets it.
        """
        if not buffer:
            return
        failed: list[Exception] = []
        through = anyio.Event()
        whole = anyio.CancelScope(shield=True)

        async def write() -> None:
            with whole:
                try:
                    await self._inner.write(buffer, timeout)
                except Exception as exc:
                    failed.append(exc)
                through.set()

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            try:
                await through.wait()
            except BaseException:
                with anyio.move_on_after(GRACE_S, shield=True):
                    await through.wait()
                if not through.is_set():
                    whole.cancel()
                    with anyio.CancelScope(shield=True):
                        await self._inner.aclose()
                raise
        if failed:
            raise failed[0]

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(self, *args: Any, **named: Any) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(*args, **named))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
