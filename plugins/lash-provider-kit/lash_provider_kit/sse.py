"""Server-sent events: bytes in, the `data` of whole events out.

Owns line splitting, joining and the size limits. Knows neither sockets nor clocks nor what the data means.

Lines are split as bytes, before anything is decoded, so a codepoint that arrives in two reads is never seen in halves.
The stream formats that models speak carry everything in `data`; `event`, `id`, `retry` and comments are skipped.
"""

from __future__ import annotations

__all__ = ["MAX_EVENT_BYTES", "MAX_STREAM_BYTES", "SseLimitExceeded", "SseParser"]

# A model's longest honest event is a base64 image of a few MiB; its longest honest answer some hundred thousand tokens
# in events of 300 bytes each. What exceeds these is a broken peer, and must not become our memory.
MAX_EVENT_BYTES = 8 * 1024 * 1024
MAX_STREAM_BYTES = 64 * 1024 * 1024

_FIELD = len(b"data: ")
_BOM = b"\xef\xbb\xbf"


class SseLimitExceeded(Exception):
    """One event, or the whole response, is larger than its limit (in bytes).

    `events` were complete before that, in the same read: where reads end decides nothing.
    """

    def __init__(self, what: str, limit: int, events: list[bytes]) -> None:
        self.what = what
        self.limit = limit
        self.events = events
        super().__init__(f"{what} is larger than {limit} bytes")


class SseParser:
    """Feed it what each read returned; get the events that this read completed, in order.

    Where the stream is cut into reads never changes what comes out. After `SseLimitExceeded` it is spent.
    """

    def __init__(self, max_event: int = MAX_EVENT_BYTES, max_stream: int = MAX_STREAM_BYTES) -> None:
        self._max_event = max_event
        self._max_stream = max_stream
        self._received = 0
        self._first = True
        self._after_cr = False
        self._line: list[bytes] = []  # pieces of a line whose end hasn't come yet: joined once, never re-scanned
        self._data: list[bytes] = []  # `data` lines of an event whose blank line hasn't come yet
        self._line_size = 0
        self._room = max_event + _FIELD  # for a line whose end hasn't come: it may be data
        self._data_size = 0  # a line counts at least 1, since it takes room of ours whatever is in it

    @property
    def received(self) -> int:
        """Bytes fed so far."""
        return self._received

    @property
    def amid_event(self) -> bool:
        """Whether something of an event's data has come, and its end hasn't."""
        return bool(self._data) or b"".join(self._line).removeprefix(_BOM).startswith(b"data:")

    def feed(self, chunk: bytes) -> list[bytes]:
        """The data of every event that ends in `chunk`. Raises `SseLimitExceeded`."""
        if self._received + len(chunk) > self._max_stream:
            whole = self.feed(chunk[: self._max_stream - self._received])
            raise SseLimitExceeded("the response", self._max_stream, whole)
        if not self._received and chunk[:1] == _BOM[:1]:
            self._room += len(_BOM)  # whether it is one is known when all of it has come
        self._received += len(chunk)
        if self._after_cr and chunk:
            # The CR at the last chunk's end has already ended its line; an LF here is its second half.
            self._after_cr = False
            if chunk[0] == 10:
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk[-1] == 13
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        lines = chunk.split(b"\n")
        rest = lines.pop()
        events: list[bytes] = []
        if lines:
            if self._line:
                self._line.append(lines[0])
                lines[0] = b"".join(self._line)
                self._line.clear()
                self._line_size = 0
            if self._first:
                self._first = False
                lines[0] = lines[0].removeprefix(_BOM)
            self._take(lines, events)
        if rest:
            self._line.append(rest)
            self._line_size += len(rest)
        if self._data_size > self._max_event or self._line_size > self._room:
            raise SseLimitExceeded("an event", self._max_event, events)
        return events

    def close(self) -> list[bytes]:
        """The data of a last event that the stream's end cut off before its blank line, if there is any."""
        lines = [b"".join(self._line), b""]
        if self._first:
            lines[0] = lines[0].removeprefix(_BOM)
        self._line.clear()
        events: list[bytes] = []
        self._take(lines, events)
        return events

    def _take(self, lines: list[bytes], events: list[bytes]) -> None:
        data, size = self._data, self._data_size
        for line in lines:
            if line.startswith(b"data:"):
                value = line[6:] if line[5:6] == b" " else line[5:]
                data.append(value)
                size += len(value) or 1
            elif not line:
                if data:
                    if size > self._max_event:
                        raise SseLimitExceeded("an event", self._max_event, events)
                    events.append(data[0] if len(data) == 1 else b"\n".join(data))
                    data.clear()
                    size = 0
            elif line == b"data":
                data.append(b"")
                size += 1
            elif len(line) > self._max_event + _FIELD:
                raise SseLimitExceeded("an event", self._max_event, events)
        self._data_size = size
