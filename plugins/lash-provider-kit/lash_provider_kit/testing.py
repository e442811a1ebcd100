"""A Chat Completions server for tests and benchmarks: real sockets, programmable answers, a thread of its own.

::

    with ChatServer() as server:
        server.answer(text("Hello"), status(429, headers={"retry-after": "2"}), text("Again"))
        ...                               # point base_url at server.url
        server.requests[0].json["model"]

Answers are used up in order; then, or when none were given, `server.default` answers. It runs in a thread with its own
event loop, so it serves asyncio tests, trio tests and subprocesses alike. `python -m lash_provider_kit.testing` serves
one answer for ever, for benchmarks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import ssl
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import evolve

from lash_hookspecs.testing.provider.server import (
    Answer,
    End,
    RecordedRequest,
    WireServer,
    document,
    garbage,
    hanging,
    raw,
    refused_origin,
    reset,
    status,
)

__all__ = [
    "Answer",
    "ChatServer",
    "RecordedRequest",
    "chunk",
    "cut",
    "document",
    "error_event",
    "garbage",
    "hang",
    "raw",
    "refused_url",
    "reset",
    "sse",
    "status",
    "stream",
    "text",
    "tools",
]

# ---- answers --------------------------------------------------------------------------------------------------------


def sse(data: Any) -> bytes:
    """One event whose data is `data`, as JSON unless it is text already."""
    body = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return f"data: {body}\n\n".encode()


def chunk(delta: Mapping[str, Any] | None = None, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """One chunk of a streamed completion; `fields` are added at its top, or replace what is there."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    base = {"id": "chatcmpl-test", "object": "chat.completion.chunk", "created": 1, "model": "test-model"}
    return {**base, "choices": choices, **fields}


def stream(*events: Any, joined: bool = False, done: bool = True, **options: Any) -> Answer:
    """A stream of `events` and `[DONE]`; `joined` writes it all at once. Options are those of `raw`."""
    pieces = [sse(event) for event in events] + ([sse("[DONE]")] if done else [])
    return raw(*([b"".join(pieces)] if joined else pieces), **options)


_USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}


def text(*deltas: str, finish: str = "stop", usage: Mapping[str, Any] | None = _USAGE, **options: Any) -> Answer:
    """An answer of text, one chunk per delta. Options are those of `stream`."""
    events = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": each}) for each in deltas)]
    events.append(chunk({}, finish))
    if usage is not None:
        events.append(chunk(usage=usage))
    return stream(*events, **options)


def tools(*calls: tuple[str, str, str], content: str = "", **options: Any) -> Answer:
    """An answer of tool calls, each `(call_id, name, arguments)`, the arguments cut in two."""
    events = [chunk({"role": "assistant", "content": content or None})]
    for index, (call_id, name, arguments) in enumerate(calls):
        half = len(arguments) // 2
        first = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        events.append(chunk({"tool_calls": [first]}))
        pieces = (arguments[:half], arguments[half:])
        events += [chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in pieces]
    events += [chunk({}, "tool_calls"), chunk(usage=_USAGE)]
    return stream(*events, **options)


def error_event(error: Any, *before: Any) -> Answer:
    """A stream in which an error object comes after the events `before`."""
    return stream(*before, {"error": error})


def refused_url() -> str:
    """A base URL on this machine at which nothing listens."""
    return f"{refused_origin()}/v1"


def cut(*deltas: str, end: End = "cut") -> Answer:
    """A stream of text that breaks off after `deltas`, without an end of any kind."""
    return stream(*(chunk({"content": each}) for each in deltas), done=False, end=end)


def hang(*deltas: str) -> Answer:
    """Text, and then silence on an open connection; without deltas, silence from the start."""
    return evolve(cut(*deltas), end="hang") if deltas else hanging()


class ChatServer(WireServer):
    """A server that speaks Chat Completions, unless told otherwise."""

    def __init__(self, *answers: Answer, port: int = 0, tls: ssl.SSLContext | None = None, record: bool = True) -> None:
        super().__init__(*answers, port=port, tls=tls, record=record)
        self.default = text("Hello", " from", " the", " test", " server.")

    @property
    def url(self) -> str:
        """The base URL, with `/v1`."""
        return f"{self.origin}/v1"


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve one answer for ever; prints the base URL as its first line."""
    parser = argparse.ArgumentParser(prog="python -m lash_provider_kit.testing", description=main.__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--deltas", type=int, default=20, help="text deltas per answer")
    parser.add_argument("--delta-text", default="token ")
    parser.add_argument("--gap-ms", type=float, default=0.0, help="time before each delta")
    parser.add_argument("--joined", action="store_true", help="write each answer at once instead of event by event")
    options = parser.parse_args(arguments)
    with ChatServer(port=options.port, record=False) as server:
        deltas: Iterable[str] = [options.delta_text] * options.deltas
        server.default = text(*deltas, joined=options.joined, gap_s=options.gap_ms / 1000)
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
