"""A Chat Completions service that costs next to nothing: answers are bytes made at the start, picked by path.

`python bench/server.py` prints its port and serves until its stdin closes. Paths:

- `/text/v1/chat/completions`: 20 text deltas; `/long/…`: 2,000 of them
- `/tools/…`: a tool call, until the last user message has been followed by four results; then text
- `GET /last`: when the last request was complete (by `time.monotonic()`, which Linux's processes share), and its body
- `GET /accepted`: when the last connection before this one was accepted

Each event is an HTTP chunk of its own, as real services send them; all of an answer goes out in one write, so that the
server is never what the clients wait for (`run.py` measures that).
"""

from __future__ import annotations

import asyncio
import sys
import time

import orjson

DELTA = "token "
SHORT, LONG, ROUNDS = 20, 2000, 4
USAGE = {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}


def _event(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(delta: dict[str, object] | None = None, finish: str | None = None, **fields: object) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": choices}
    return _event(orjson.dumps({**chunk, **fields}))


def _answer(*events: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join((*events, _chunk(usage=USAGE), _event(b"[DONE]"), b"0\r\n\r\n"))


def text(deltas: int) -> bytes:
    """An answer of so many text deltas."""
    first = _chunk({"role": "assistant", "content": ""})
    return _answer(first, *([_chunk({"content": DELTA})] * deltas), _chunk({}, "stop"))


def tool_call(number: int) -> bytes:
    """An answer that calls `lookup`, its arguments in three pieces."""
    named = {"index": 0, "id": f"call_{number}", "type": "function", "function": {"name": "lookup", "arguments": ""}}
    pieces = ('{"na', 'me":"', f'item {number}"' + "}")
    parts = [_chunk({"tool_calls": [{"index": 0, "function": {"arguments": each}}]}) for each in pieces]
    first = _chunk({"role": "assistant", "content": None, "tool_calls": [named]})
    return _answer(first, *parts, _chunk({}, "tool_calls"))


TEXT, LONG_TEXT = text(SHORT), text(LONG)
CALLS = [tool_call(number) for number in range(ROUNDS)]


def choose(path: bytes, request: list[bytes]) -> bytes:
    """The answer to a request that came in these pieces."""
    if path.startswith(b"/text"):
        return TEXT
    if path.startswith(b"/long"):
        return LONG_TEXT
    body = b"".join(request)
    done = body.count(b'"role":"tool"', body.rfind(b'"role":"user"'))
    return CALLS[done] if done < ROUNDS else TEXT


class Connection(asyncio.Protocol):
    """One client. Large requests are neither joined nor looked into."""

    last: tuple[float, list[bytes]] = (0.0, [])
    accepted: tuple[float, float] = (0.0, 0.0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Connection.accepted = (Connection.accepted[1], time.monotonic())
        self.transport = transport
        self.pieces: list[bytes] = []
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        if self.missing:
            self.missing -= len(data)
        else:
            received = b"".join(self.pieces)
            self.pieces = [received]
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = received[:end].lower()
            at = head.find(b"\r\ncontent-length:")
            size = int(head[at + 17 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            self.missing = end + 4 + size - len(received)
        if self.missing <= 0:
            self.missing = 0
            request, self.pieces = self.pieces, []
            self.answer(request)

    def answer(self, request: list[bytes]) -> None:
        """Send what was asked for."""
        method, path, _ = request[0].split(b" ", 2)
        if method == b"POST":
            Connection.last = (time.monotonic(), request)
            self.transport.write(choose(path, request))
            return
        if path == b"/last":
            seen, pieces = Connection.last
            said = b'{"at":%r,"body":%b}' % (seen, b"".join(pieces).partition(b"\r\n\r\n")[2] or b"null")
        else:
            said = b"%r" % Connection.accepted[0]
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))


async def main() -> None:
    """Serve until stdin closes."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
