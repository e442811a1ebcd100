"""Answers that come as one document: what they may take of the memory, whatever is in them."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmResponse, LlmStreamEvent, TokenUsage
from lash_hookspecs.testing.provider import unheard
from lash_provider_kit.answer_faults import AnswerFaults
from lash_provider_kit.reader import Limits
from lash_provider_kit.service import StreamingService
from lash_provider_kit.wire_json import load

MIB = 1024 * 1024
PIECE = 16384
LIMITS = Limits(stream_bytes=6 * MIB)


class OneText:
    """A decoder of `{"text": …}`."""

    def __init__(self) -> None:
        self.output_seen = self.complete = self.done = False
        self.usage: TokenUsage | None = None
        self._text = ""

    def feed(self, data: bytes, out: list[LlmStreamEvent]) -> None:
        raise AssertionError("no stream was sent")

    def whole(self, body: bytes | bytearray, out: list[LlmStreamEvent]) -> None:
        try:
            self._text = load(body)["text"]
        except ValueError as exc:
            raise AnswerFaults("p").no_json("an answer", exc, body) from None
        self.complete = self.done = True

    def finish(self) -> LlmResponse:
        return LlmResponse(full_text=self._text)


class Pieces(httpx.AsyncByteStream):
    """So many bytes between a beginning and an end; `read` is how many were asked for."""

    def __init__(self, start: bytes, size: int, end: bytes) -> None:
        self._pieces = iter([start, *[b"x" * PIECE] * (size // PIECE), end])
        self.read = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if (piece := next(self._pieces, None)) is None:
            raise StopAsyncIteration
        self.read += len(piece)
        return piece

    async def aclose(self) -> None:
        self._pieces = iter(())


async def asked(stream: Pieces, content_type: str = "application/json") -> Any:
    """What comes of this body, and by how much the memory grew at most."""
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-type": content_type}, stream=stream)
    )
    service = StreamingService(provider="p", url="http://p/x", headers={}, limits=LIMITS, transport=transport)
    tracemalloc.start()
    try:
        outcome: object = await service.call(b"{}", OneText, unheard)
    except LlmCallFailed as failed:
        outcome = failed.error
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return outcome, peak


@pytest.mark.parametrize(
    ("content_type", "code", "most"),
    [("application/json", "stream_too_large", 2.5 * MIB), ("text/html", "unexpected_content", 0.5 * MIB)],
)
async def test_of_what_is_no_answer_no_more_is_kept_than_an_answer_may_have(
    content_type: str, code: str, most: float
) -> None:
    """A document of 64 MiB took 190 MiB: its pieces, joined, and cut to what was one byte too much."""
    await asked(Pieces(b"x", 0, b""))  # so that nothing is imported below
    stream = Pieces(b'{"text": "', 20 * MIB, b'"}')
    error, peak = await asked(stream, content_type)
    assert error.code == code
    if code == "stream_too_large":
        for told in (f"{LIMITS.document_bytes} bytes", "lash's own limit", "fewer or smaller images", "http://p"):
            assert told in error.message
    assert stream.read < LIMITS.document_bytes + 2 * PIECE
    assert peak < most


async def test_the_largest_answer_is_read() -> None:
    pieces = LIMITS.document_bytes // PIECE - 1
    answer, _ = await asked(Pieces(b'{"text": "', pieces * PIECE, b'"}'))
    assert len(answer.full_text) == pieces * PIECE


def test_of_what_can_t_be_read_only_the_beginning_is_looked_at() -> None:
    """A broken document of 62 MiB took 370 MiB: it was decoded, split into words and searched for keys, whole."""
    body = bytearray(b"nonsense " * MIB)
    tracemalloc.start()
    failure = AnswerFaults("p").no_json("an answer", ValueError("no"), body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB
    assert len(failure.error.raw or "") == 64 * 1024
