"""Decompression in bounded steps."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from lash_provider_kit.inflate import UnknownEncoding, inflated


class Reads:
    """What a network gives, read by read."""

    def __init__(self, *reads: bytes) -> None:
        self._reads = list(reads)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._reads:
            return self._reads.pop(0)
        raise StopAsyncIteration


async def steps_of(encoding: str, *reads: bytes) -> list[bytes]:
    return [step async for step in inflated(encoding, Reads(*reads))]


DATA = bytes(range(256)) * 5000


# With ids of their own, since gzip's bytes hold the time, by which processes would collect different tests.
@pytest.mark.parametrize(
    ("encoding", "packed"),
    [("gzip", gzip.compress(DATA)), ("deflate", zlib.compress(DATA))],
    ids=["gzip", "deflate"],
)
@pytest.mark.parametrize("size", [1 << 20, 1000, 7])
async def test_what_was_packed_comes_out(encoding: str, packed: bytes, size: int) -> None:
    reads = [packed[at : at + size] for at in range(0, len(packed), size)]
    assert b"".join(await steps_of(encoding, *reads)) == DATA


async def test_members_that_were_joined_come_out() -> None:
    assert b"".join(await steps_of("gzip", gzip.compress(b"one") + gzip.compress(b"two"))) == b"onetwo"


async def test_each_step_is_bounded() -> None:
    """Of a bomb only a step is ever in memory, whatever one read holds."""
    steps = await steps_of("gzip", gzip.compress(bytes(10_000_000)))
    assert sum(map(len, steps)) == 10_000_000
    assert max(map(len, steps)) <= 256 * 1024


async def test_what_isnt_packed_stays_as_it_is() -> None:
    assert await steps_of("identity", b"x") == [b"x"]
    assert await steps_of("", b"x") == [b"x"]


async def test_what_cant_be_unpacked_is_an_error() -> None:
    with pytest.raises(zlib.error):
        await steps_of("gzip", b"data: nonsense")
    with pytest.raises(UnknownEncoding, match="`br`"):
        await steps_of("br", b"")
