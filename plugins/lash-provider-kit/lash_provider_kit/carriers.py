"""What carries a request and brings its answer, whichever library does it: the face that they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Protocol

__all__ = ["JOINED", "Answer", "Carrier", "Headers", "few_pieces"]

# Joining less than this costs less than writing it piece by piece. It also fits, with the headers, into the 64 KiB that
# asyncio takes without waiting: so that aiohttp, which times no writing, times the silence from there on.
JOINED = 48 * 1024
# What has to be taken within `chunk_s`: little enough for a slow network.
_STEP = 1024 * 1024


class Headers(Protocol):
    """An answer's headers, by name in any case."""

    def get(self, key: str, default: Any = None, /) -> Any:
        """The value, several joined by a comma."""
        ...


class Answer(Protocol):
    """An answer whose status and headers are there; `httpx.Response` is one. `stream` is its content, by reads."""

    status_code: int
    stream: Any

    @property
    def headers(self) -> Headers:
        """Its headers."""
        ...

    @property
    def reason_phrase(self) -> str:
        """The words beside its status."""
        ...

    @property
    def is_success(self) -> bool:
        """Whether its status is one of 200 to 299."""
        ...

    async def aclose(self) -> None:
        """Let go of the connection."""
        ...


class Carrier(Protocol):
    """One library's connections to one service."""

    async def post(self, body: Sequence[bytes], headers: Mapping[str, str], url: str | None) -> Answer:
        """Send the pieces of `body`, to another `url` on the same host if one is given; `headers` are its own."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


def few_pieces(pieces: Sequence[bytes]) -> Iterator[bytes]:
    """The same bytes in as few writes as pay: what is small is joined with small neighbours, large ones stay alone.

    Very large ones are cut: a write is timed, and one that goes on isn't stalled.
    """
    for is_large, group in groupby(pieces, lambda piece: len(piece) > JOINED):
        for piece in group if is_large else [b"".join(group)]:
            for start in range(0, len(piece), _STEP):
                yield piece[start : start + _STEP]  # the piece itself, where that is all of it
