"""One request and its answer, in bounded time and size; and what its failures mean.

httpcore is used as it is: no cookies, no credentials of a `.netrc`, no proxies of the environment, no redirects.
"""

from __future__ import annotations

import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any

import anyio
import httpcore
from attrs import frozen

from lash_hookspecs.tools import ToolFailureClass
from lash_plugin_tools_web.errors import FetchFailed
from lash_plugin_tools_web.targets import Target

__all__ = ["Answer", "exchange"]

_CLOSE_S = 2.0
_STEP = 256 * 1024
_MEMBERS, _MEMBER = 16, 1024
"""So many members of a packed file may be empty or small; of more, each has at least so many bytes."""

_CHUNKS, _CHUNK = 4096, 64
"""The same for chunks of HTTP: a megabyte of single bytes takes a minute to take apart."""


@frozen(kw_only=True)
class Answer:
    """What came back. `is_cut`: there was more than was read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""
    is_cut: bool = False


async def exchange(
    pool: httpcore.AsyncConnectionPool,
    target: Target,
    *,
    headers: Mapping[str, str],
    max_bytes: int,
    times: Mapping[str, float],
    body: bytes | None = None,
    read_redirects: bool = True,
) -> Answer:
    """Send it and read the answer. Raises `FetchFailed`, and what the pool's backend refuses with."""
    sent = {"Host": target.authority, **headers, "Accept-Encoding": "gzip", "Connection": "close"}
    if body is not None:
        sent["Content-Length"] = str(len(body))
    request = httpcore.Request(
        "GET" if body is None else "POST",
        httpcore.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.path.encode()
        ),
        headers=[(name.encode(), value.encode()) for name, value in sent.items()],
        content=body,
        extensions={"timeout": dict(times)},
    )
    try:
        response = await pool.handle_async_request(request)
        chunks = aiter(response.stream)  # type: ignore[arg-type]  # an async one, of an async pool
        try:
            told: dict[str, str] = {}
            for name, value in response.headers:
                told.setdefault(name.decode("latin-1").lower(), value.decode("latin-1"))
            if 300 <= response.status < 400 and not read_redirects:
                return Answer(status=response.status, headers=told)
            text, is_cut = await _read(chunks, told.get("content-encoding", ""), max_bytes, target)
            return Answer(status=response.status, headers=told, body=text, is_cut=is_cut)
        finally:
            await _close(response, chunks)
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise _failure(error, target) from None


async def _close(response: httpcore.Response, chunks: AsyncIterator[bytes]) -> None:
    with anyio.move_on_after(_CLOSE_S, shield=True):
        await response.aclose()
        # Reading on from what is closed ends each of httpcore's nested generators, which would else be left to the
        # garbage collector: trio complains of that.
        with suppress(Exception):
            async for _ in chunks:
                pass


async def _read(chunks: AsyncIterator[bytes], encoding: str, limit: int, target: Target) -> tuple[bytes, bool]:
    """At most so many bytes, of what was sent and of what that unpacks to, and whether there were more."""
    encoding = encoding.strip().lower()
    unpack: Any = None
    if encoding in ("gzip", "x-gzip"):
        unpack = zlib.decompressobj(31)
    elif encoding not in ("", "identity"):
        raise FetchFailed(
            "bad_answer", f"{target.url} answered in the encoding {encoding[:40]!r}, which wasn't asked for"
        )
    read, members, count, kept = 0, 1, 0, bytearray()
    async for chunk in chunks:
        read += len(chunk)
        count += 1
        if count > _CHUNKS + read // _CHUNK:
            raise FetchFailed("bad_answer", f"{target.url} sends its answer in too many pieces")
        while chunk and len(kept) <= limit:
            if unpack is None:
                kept += chunk
                break
            try:
                kept += unpack.decompress(chunk, min(_STEP, limit + 1 - len(kept)))
            except zlib.error:
                raise FetchFailed("bad_answer", f"{target.url} sent what can't be unpacked") from None
            chunk = unpack.unconsumed_tail
            if unpack.eof:  # another member may follow, as of files that were joined
                chunk = unpack.unused_data
                unpack = zlib.decompressobj(31) if chunk else unpack
                members += 1
                if members > _MEMBERS + len(kept) // _MEMBER:  # each takes far longer than its bytes
                    raise FetchFailed("bad_answer", f"{target.url} sent what is packed in too many pieces")
        if len(kept) > limit or read > limit:
            return bytes(kept[:limit]), True
    return bytes(kept), False


def _failure(error: Exception, target: Target) -> FetchFailed:
    cause = error.args[0] if error.args else None
    if isinstance(cause, ssl.SSLError):
        return FetchFailed(
            "tls_failed",
            f"{target.origin}: no secure connection: {getattr(cause, 'verify_message', '') or cause.reason}",
        )
    if isinstance(error, httpcore.TimeoutException):
        text = f"{target.origin} takes too long"
        return FetchFailed("timeout", text, kind=ToolFailureClass.TIMEOUT, again=True)
    if isinstance(error, httpcore.ProtocolError):
        return FetchFailed("bad_answer", f"{target.origin} answered what is no HTTP, or broke off", again=True)
    return FetchFailed(
        "unreachable", f"{target.origin} can't be reached", kind=ToolFailureClass.UNAVAILABLE, again=True
    )
