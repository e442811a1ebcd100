"""Decompression in steps of bounded size: a read of a few KiB may hold the zeros of many MiB."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

__all__ = ["Inflated", "UnknownEncoding", "inflated"]

_STEP = 256 * 1024
# How zlib is told the format. `deflate` is meant to have zlib's header.
_FORMATS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class UnknownEncoding(zlib.error):
    """An encoding that nobody asked for, and that can't be read."""


def inflated(encoding: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """What `chunks` hold once decompressed. Raises `zlib.error` where that can't be."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return chunks
    if encoding not in _FORMATS:
        raise UnknownEncoding(f"the encoding is `{encoding[:40]}`, which wasn't asked for")
    return Inflated(chunks, _FORMATS[encoding])


class Inflated:
    """An iterator over steps. Not a generator: one that a failure leaves halfway would be the garbage collector's."""

    def __init__(self, chunks: AsyncIterator[bytes], format: int) -> None:
        self._chunks = chunks
        self._format = format
        self._zlib = zlib.decompressobj(format)
        self._tail = b""
        self._more = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if not self._tail and not self._more:
                self._tail = await anext(self._chunks)
            if self._zlib.eof:  # another member may follow, as of files that were joined
                self._zlib = zlib.decompressobj(self._format)
            step = self._zlib.decompress(self._tail, _STEP)
            self._tail = self._zlib.unused_data if self._zlib.eof else self._zlib.unconsumed_tail
            self._more = len(step) == _STEP and not self._zlib.eof  # zlib may hold back some of what it has read
            if step:
                return step
