"""Heads of answers that name their length more often than they need, which aiohttp refuses, and everybody else reads.

A length beside chunks doesn't count (RFC 9112, 6.3), and one that is said twice is still one. A service that says so
would work for the first calls, which httpx's connections carry, and for none after them.
"""

from __future__ import annotations

import re
from typing import Any

from aiohttp.client_proto import ResponseHandler

__all__ = ["LenientHandler", "plain_head"]

_END = re.compile(rb"\r?\n\r?\n")
_LENGTH, _CODING = b"content-length", b"transfer-encoding"
_BEGIN = b"HTTP/"
_LARGEST = 128 * 1024
"""Beyond that it isn't held back any more: aiohttp has limits of its own, and words for them."""


def plain_head(head: bytes) -> bytes:
    """The same head with one length at most, and with none beside a coding. Lengths that differ stay as they are."""
    lines = head.split(b"\n")
    names = [line.partition(b":")[0].strip().lower() for line in lines]
    lengths = [at for at, name in enumerate(names) if name == _LENGTH]
    if not lengths:
        return head
    if _CODING in names:
        kept: tuple[int, ...] = ()
    else:
        said = {each.strip() for at in lengths for each in lines[at].partition(b":")[2].split(b",")}
        if len(said) > 1:
            return head
        lines[lengths[0]] = b"Content-Length: " + said.pop() + b"\r"
        kept = (lengths[0],)
    return b"\n".join(line for at, line in enumerate(lines) if at in kept or at not in lengths)


class LenientHandler(ResponseHandler):
    """aiohttp's protocol of one connection, to which heads are given plain."""

    _head: bytes | None = None
    """What has come of the head that is waited for; None while none is."""

    def set_response_params(self, **params: Any) -> None:
        """An answer is waited for; what has come of it already is taken in here."""
        self._head = b""
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Take it in, as soon as a head is whole."""
        while self._head is not None and data:
            data, self._head = self._head + data, None
            end = _END.search(data)
            if end is None:
                if len(data) <= _LARGEST and data[: len(_BEGIN)] == _BEGIN[: len(data)]:
                    self._head = data
                    self.start_timeout()
                    return
            elif data[len(_BEGIN) + 4 : len(_BEGIN) + 5] == b"1":  # only on its way: another head follows
                super().data_received(data[: end.end()])
                self._head, data = b"", data[end.end() :]
                if not data:
                    return
            else:
                data = plain_head(data[: end.end()]) + data[end.end() :]
        super().data_received(data)
