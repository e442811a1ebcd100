"""A Chat Completions service that costs next to nothing: answers are bytes made at the start, picked by path.

`python bench/server.py [LOG]` prints its port and serves until its stdin closes. Paths:

- `/text/v1/chat/completions`: 20 text deltas; `/long/…`: 2,000 of them
- `/tools/…`: a tool call, until the last user message has been followed by four results; then text
- `/one/…`: the same with one result; `/parallel/…`: eight tool calls in one answer, then text
- `/scripted/PID/…`: what `scripted.py` says, with a pause before every piece; the log names who asked
- `GET /last`: when the last request was complete (by `time.monotonic()`, which Linux's processes share), and its body
- `GET /accepted`: when the last connection before this one was accepted

Each event is an HTTP chunk of its own, as real services send them; all of an answer goes out in one write, so that the
server is never what the clients wait for (`run.py` measures that).

With a LOG, each call is a line in it when it was asked and, with its usage, when all of its answer is about to be out:
written before the client can know, by one `write` to the end of the file, which outlives every process.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from itertools import count

import orjson
import scripted

DELTA = "token "
SHORT, LONG, ROUNDS, PARALLEL = 20, 2000, 4, 8
USAGE = {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}
PAUSE_S = 0.004
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _event(data: bytes) -> bytes:
    event = b"data: " + data + b"\n\n"
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(delta: dict[str, object] | None = None, finish: str | None = None, **fields: object) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bench", "choices": choices}
    return _event(orjson.dumps({**chunk, **fields}))


def _answer(*events: bytes) -> bytes:
    return HEAD + b"".join((*events, _chunk(usage=USAGE), _event(b"[DONE]"), b"0\r\n\r\n"))


def text(deltas: int) -> bytes:
    """An answer of so many text deltas."""
    first = _chunk({"role": "assistant", "content": ""})
    return _answer(first, *([_chunk({"content": DELTA})] * deltas), _chunk({}, "stop"))


def tool_calls(numbers: Sequence[int]) -> bytes:
    """An answer that calls `lookup`, the arguments of each call in three pieces."""
    parts = [_chunk({"role": "assistant", "content": None})]
    for index, number in enumerate(numbers):
        named = {"id": f"call_{number}", "type": "function", "function": {"name": "lookup", "arguments": ""}}
        parts.append(_chunk({"tool_calls": [{"index": index, **named}]}))
        pieces = ('{"na', 'me":"', f'item {number}"' + "}")
        parts += [_chunk({"tool_calls": [{"index": index, "function": {"arguments": each}}]}) for each in pieces]
    return _answer(*parts, _chunk({}, "tool_calls"))


TEXT, LONG_TEXT = text(SHORT), text(LONG)
CALLS = [tool_calls([number]) for number in range(ROUNDS)]
MANY_CALLS = tool_calls(range(PARALLEL))


def choose(path: bytes, request: list[bytes]) -> bytes:
    """The answer to a request that came in these pieces."""
    if path.startswith(b"/text"):
        return TEXT
    if path.startswith(b"/long"):
        return LONG_TEXT
    body = b"".join(request)
    done = body.count(b'"role":"tool"', body.rfind(b'"role":"user"'))
    if path.startswith(b"/parallel"):
        return TEXT if done else MANY_CALLS
    if path.startswith(b"/one"):
        return TEXT if done else CALLS[0]
    return CALLS[done] if done < ROUNDS else TEXT


class Log:
    """What was asked and answered, for whoever counts."""

    def __init__(self, path: str | None) -> None:
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write(self, **fields: object) -> None:
        """A line."""
        if self._file is not None:
            os.write(self._file, orjson.dumps({**fields, "at": time.monotonic()}) + b"\n")


class Connection(asyncio.Protocol):
    """One client. Large requests are neither joined nor looked into."""

    log = Log(None)
    numbers = count(1)
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
            number = next(self.numbers)
            if path.startswith(b"/scripted"):
                asker = int(path.split(b"/")[2])
                self.perform(number, asker, scripted.position(b"".join(request).partition(b"\r\n\r\n")[2]))
                return
            self.log.write(event="asked", call=number, path=path.decode())
            self.log.write(event="answered", call=number, usage=USAGE)
            self.transport.write(choose(path, request))
            return
        if path == b"/last":
            seen, pieces = Connection.last
            said = b'{"at":%r,"body":%b}' % (seen, b"".join(pieces).partition(b"\r\n\r\n")[2] or b"null")
        else:
            said = b"%r" % Connection.accepted[0]
        self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(said), said))

    def perform(self, number: int, asker: int, at: scripted.Position) -> None:
        """Send a scripted reply, piece by piece, as long as somebody listens."""
        self.log.write(event="asked", call=number, turn=at.turn, step=at.step, asker=asker)
        pieces = [_chunk(each) for each in scripted.deltas(at, number)]
        finish = "tool_calls" if at.step < len(at.plan) else "stop"
        usage = scripted.usage(number)
        last = b"".join((_chunk({}, finish), _chunk(usage=usage), _event(b"[DONE]"), b"0\r\n\r\n"))
        loop = asyncio.get_running_loop()

        def send(index: int) -> None:
            if self.transport.is_closing():
                return
            if index == len(pieces):
                self.log.write(event="answered", call=number, usage=usage)
                self.transport.write(last)
                return
            self.transport.write((b"" if index else HEAD) + pieces[index])
            loop.call_later(PAUSE_S, send, index + 1)

        send(0)


async def main(log: str | None = None) -> None:
    """Serve until stdin closes."""
    Connection.log = Log(log)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
