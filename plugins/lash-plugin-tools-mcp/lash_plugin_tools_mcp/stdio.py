"""A server as a child process: its lines as messages, and all that it started ended with it.

The SDK has such a transport, which trusts its server: a line may have any length, what is written to stderr goes to the
terminal, and children of a server that exits in time stay behind. Here nothing of that is so.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, jsonrpc_message_adapter

from lash_hookspecs.leftovers import STARTED_FOR_A_MODEL, end_leftovers, processes_below
from lash_plugin_tools_mcp.ends import TOO_LARGE, UNREADABLE, End

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client._transport import TransportStreams

__all__ = ["Lines", "stdio"]

log = logging.getLogger("lash.mcp")

COOKIE = "LASH_MCP_SERVER"
"""Says of which server a process is, to find it by if it has left the server's group."""

GRACE_S = 1.0
"""How long a server may take to end after its input was closed, and again after SIGTERM, before it is killed."""

MOST_GARBAGE = 1000
"""Lines in a row that are no messages, after which nobody expects one any more."""

TAIL_BYTES = 2000
_POLL_S = 0.01
_GONE = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)
_ID = re.compile(rb'"id"\s*:\s*(\d+|"[^"]{1,64}")')


class Lines:
    """Bytes in, lines out, none longer than `limit`. Of one that is, `too_long` is told its beginning and its end."""

    def __init__(self, limit: int, too_long: Callable[[bytes, bytes], None]) -> None:
        self._limit = limit
        self._too_long = too_long
        self._parts: list[bytes] = []
        self._size = 0
        self._head: bytes | None = None  # of a line that is too long
        self._tail = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that end in this."""
        *whole, rest = data.split(b"\n")
        for piece in whole:
            self._add(piece)
            line, head = b"".join(self._parts), self._head
            self._parts, self._size, self._head = [], 0, None
            if head is not None:
                self._too_long(head, self._tail)
            elif line.strip():
                yield line
        self._add(rest)

    def _add(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._head is not None:
            self._tail = (self._tail + piece)[-256:]
        elif self._size > self._limit:
            line = b"".join([*self._parts, piece])
            self._parts, self._head, self._tail = [], line[:256], line[-256:]
        elif piece:
            self._parts.append(piece)


def refusal(head: bytes, tail: bytes, code: int, text: str) -> SessionMessage | None:
    """The answer that stands for one that isn't read, if its id can be seen at one of its ends."""
    for end in (head, tail):
        if found := _ID.search(end):
            said = found[1].decode()
            number = int(said) if said.isdigit() else said.strip('"')
            error = {"code": code, "message": text}
            return SessionMessage(JSONRPCError.model_validate({"jsonrpc": "2.0", "id": number, "error": error}))
    return None


@asynccontextmanager
async def stdio(
    command: Sequence[str], env: Mapping[str, str], cwd: str | None, limit: int, end: End
) -> AsyncIterator[TransportStreams]:
    """Start a server, and yield the streams that the SDK talks to it with. `end` is told when it is over, and why.

    Raises `OSError` if it can't be started. Leaving takes at most some seconds, and leaves nothing of it running.
    """
    cookie = os.urandom(12).hex()
    process = await anyio.open_process(
        list(command),
        env={**get_default_environment(), **env, COOKIE: cookie, STARTED_FOR_A_MODEL: "server"},
        cwd=cwd,
        start_new_session=True,
    )
    child = _Child(process, cookie, limit, end)
    heard, read_stream = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write_stream, said = anyio.create_memory_object_stream[SessionMessage](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child.read, heard)
        tasks.start_soon(child.write, said)
        tasks.start_soon(child.read_errors)
        try:
            yield read_stream, write_stream
        finally:
            end.tell("it was left")
            with anyio.CancelScope(shield=True):
                read_stream.close()
                write_stream.close()
                await child.stop()
                for each in (heard, said):
                    each.close()
            tasks.cancel_scope.cancel()


class _Child:
    """The process, and what goes in and out of it."""

    def __init__(self, process: Process, cookie: str, limit: int, end: End) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._process = process
        self._cookie = cookie
        self._stdin: ByteSendStream = process.stdin
        self._stdout: ByteReceiveStream = process.stdout
        self._stderr: ByteReceiveStream = process.stderr
        self._limit = limit
        self._end = end
        self._errors = b""
        self._cut: list[SessionMessage] = []

    async def read(self, to: MemoryObjectSendStream[SessionMessage | Exception]) -> None:
        """Hand on its messages until its output ends, then whatever it still writes goes nowhere."""
        lines, garbage = Lines(self._limit, self._too_long), 0
        async with to:
            with suppress(*_GONE):
                while garbage < MOST_GARBAGE:
                    for line in lines.feed(await self._stdout.receive()):
                        message = _message(line)
                        garbage = 0 if message is not None else garbage + 1
                        if message is not None:
                            await to.send(message)
                    for message in self._cut:
                        await to.send(message)
                    self._cut.clear()
            if garbage:
                self._end.tell(f"what it writes is not MCP ({garbage} lines in a row)", hopeless=True)
            else:
                self._end.tell(await self._obituary())
        with suppress(*_GONE):
            while True:
                await self._stdout.receive()

    async def write(self, said: MemoryObjectReceiveStream[SessionMessage]) -> None:
        """Hand it the client's messages."""
        try:
            async with said:
                async for each in said:
                    await self._stdin.send(_line(each))
        except _GONE:
            self._end.tell(await self._obituary())

    async def read_errors(self) -> None:
        """Let it write to stderr as much as it wants, and keep the end, which often says why it failed."""
        with suppress(*_GONE):
            while True:
                self._errors = (self._errors + await self._stderr.receive())[-TAIL_BYTES:]

    def _too_long(self, head: bytes, tail: bytes) -> None:
        text = f"the answer has more than {self._limit:,} bytes (`max_message_bytes`)"
        answer = refusal(head, tail, TOO_LARGE, text)
        if answer is None:
            log.warning("an MCP server wrote a line of more than %d bytes, which is no answer to anything", self._limit)
        else:
            self._cut.append(answer)

    async def _obituary(self) -> str:
        await self._exited(0.2)
        await anyio.lowlevel.checkpoint()  # what it said last may have come by now
        code, said = self._process.returncode, self._errors.decode(errors="replace").strip()
        how = "its output ended" if code is None else _ending(code)
        return f"{how}; it said last: {said}" if said else how

    async def _exited(self, seconds: float) -> bool:
        # Not `wait()`, which on asyncio also waits for the ends of pipes that a child of the process may hold.
        deadline = anyio.current_time() + seconds
        while self._process.returncode is None:
            if anyio.current_time() >= deadline:
                return False
            await anyio.sleep(_POLL_S)
        return True

    async def stop(self) -> None:
        """End it and whatever it started: politely, then by SIGTERM, then for sure."""
        # Those of another session, with another environment, are known only as long as their parents live.
        known = await anyio.to_thread.run_sync(processes_below, self._process.pid)
        await _closed(self._stdin)
        if not self._end.is_hopeless and not await self._exited(GRACE_S):
            self._signal(signal.SIGTERM)
            await self._exited(GRACE_S)
        if sys.platform != "win32":  # also of one that has ended: what it started may not have
            end = partial(end_leftovers, COOKIE, self._cookie, session=self._process.pid, known=known)
            await anyio.to_thread.run_sync(end)
        elif self._process.returncode is None:
            self._process.kill()
        if not await self._exited(GRACE_S):
            log.warning("process %d of an MCP server is still there after SIGKILL", self._process.pid)
        await _closed(self._stdout)
        await _closed(self._stderr)
        # A daemon of the server may hold its pipes; asyncio's transport must not wait for that.
        transport: Any = getattr(getattr(self._process, "_process", None), "_transport", None)
        if transport is not None:
            with suppress(PermissionError):
                transport.close()

    def _signal(self, number: int) -> None:
        if sys.platform == "win32":
            self._process.terminate()
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)  # its own group, since its session is new


def _line(message: SessionMessage) -> bytes:
    try:
        text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
    except ValueError:  # a model may write half of a surrogate pair, which only escaped JSON can hold
        text = json.dumps(message.message.model_dump(by_alias=True, exclude_unset=True))
    return text.encode() + b"\n"


def _message(line: bytes) -> SessionMessage | None:
    """A line as a message; as a refusal, if it is an answer that can't be read; None if it is none of MCP's."""
    with suppress(ValueError):
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    with suppress(ValueError, RecursionError):  # halves of surrogate pairs are JSON, though no text
        plain = json.loads(line.decode(errors="replace"))
        text = json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")
        return SessionMessage(jsonrpc_message_adapter.validate_json(text, by_name=False))
    if line.startswith(b"{") and b'"jsonrpc"' in line and b'"method"' not in line[:256]:
        return refusal(line[:256], line[-256:], UNREADABLE, "the answer is no JSON-RPC")
    log.debug("an MCP server wrote a line of %d bytes that is no message", len(line))
    return None


def _ending(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"it was killed by {signal.Signals(-code).name}"
    return f"it exited with code {code}"


async def _closed(stream: ByteSendStream | ByteReceiveStream) -> None:
    with suppress(*_GONE), anyio.move_on_after(GRACE_S):
        await stream.aclose()
