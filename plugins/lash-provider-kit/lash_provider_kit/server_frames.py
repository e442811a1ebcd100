"""What a server says over HTTP/2 of the connection itself, put so that the calls on it go on.

A server that wants a connection to end says up to which call it answers, and goes on answering those (GOAWAY); h2 takes
nothing more after that, and httpcore fails them all. One that wants fewer calls at once makes httpcore wait for the end
of some of them, while nobody may read. Both are left out of what is read, and the connection is left: it takes no new
call, those on it are answered. And who says nothing of how many calls may run at once means any number, not one.

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

__all__ = ["REFUSED", "NoFrame", "ServerFrames"]

REFUSED = 7
"""The code of a reset which says that nothing was done of a call, so that it may be made again."""

_RESET, _SETTINGS, _GOAWAY = 3, 4, 7
_ACK = 1
_HEAD = 9
_LARGEST = 16_384
"""What a frame may hold, since httpcore asks for no larger ones."""
_CALLS = 3
"""The setting of how many calls may run at once."""
_MOST_CALLS = 100
"""Of which httpcore takes no more than these."""


class NoFrame(ValueError):
    """What was read is no HTTP/2."""


class ServerFrames:
    """One connection's. `is_leaving`: it takes no new calls."""

    def __init__(self) -> None:
        self.is_leaving = False
        self._calls: int | None = None
        self._held = b""
        self._passing = 0

    def feed(self, data: bytes, running: Collection[int]) -> bytes:
        """What httpcore is to read instead; `running` are the calls, by the numbers of their streams.

        Raises `NoFrame`.
        """
        data, self._held = self._held + data, b""
        put: list[bytes] = []
        begin, at = 0, min(self._passing, len(data))
        self._passing -= at
        while len(data) - at >= _HEAD:
            length, kind = int.from_bytes(data[at : at + 3]), data[at + 3]
            if length > _LARGEST:
                raise NoFrame(f"it is no HTTP/2, or has frames of {length} bytes, which weren't asked for")
            end = at + _HEAD + length
            if kind not in (_SETTINGS, _GOAWAY):
                self._passing = max(0, end - len(data))
                at = min(end, len(data))
            elif end <= len(data):
                put.append(data[begin:at])
                head, payload = data[at : at + _HEAD], data[at + _HEAD : end]
                put.append(self._parting(head, payload, running) if kind == _GOAWAY else self._settings(head, payload))
                begin = at = end
            else:
                break
        put.append(data[begin:at])
        self._held = data[at:]
        return b"".join(put)

    def _parting(self, head: bytes, payload: bytes, running: Collection[int]) -> bytes:
        """Nothing but the resets of calls that aren't answered; as it is, if it tells of a failure, or of no call."""
        if len(payload) < 8 or int.from_bytes(payload[4:8]) != 0 or not running:
            return head + payload
        self.is_leaving = True
        last = int.from_bytes(payload[:4]) & 0x7FFF_FFFF
        refused = (number for number in running if number > last)
        return b"".join(struct.pack(">IBII", 4 << 8 | _RESET, 0, number, REFUSED) for number in refused)

    def _settings(self, head: bytes, payload: bytes) -> bytes:
        """Without fewer calls than before; the first ones with a number of calls."""
        if head[4] & _ACK or len(payload) % 6:
            return head + payload
        settings = [struct.unpack_from(">HI", payload, at) for at in range(0, len(payload), 6)]
        kept: list[tuple[int, int]] = []
        for name, value in settings:
            if name == _CALLS and self._calls is not None and min(value, _MOST_CALLS) < self._calls:
                self.is_leaving = True
                continue
            if name == _CALLS:
                self._calls = min(value, _MOST_CALLS)
            kept.append((name, value))
        if self._calls is None:
            self._calls = _MOST_CALLS
            kept.append((_CALLS, _MOST_CALLS))
        body = b"".join(struct.pack(">HI", *each) for each in kept)
        return len(body).to_bytes(3) + head[3:] + body
