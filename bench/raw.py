"""What a competent engineer writes by hand: one agent over plain httpx, and one over aiohttp; sqlite3 below both.

The history is a list of the wire's own messages; a turn's new ones are rows, written in one FULL commit with the
session's totals. Both keep connections open. The one is plain: httpx's own `json=`, `json.loads` for what comes back,
`json` for what is stored, lines read in the usual way (`aiter_lines`). The other is the floor that we know: aiohttp,
orjson, whole reads that are split at blank lines. `raw httpx with orjson` is the plain one with orjson for json, to see
what that makes of the quotients.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import orjson

Shown = Callable[[str], None]


async def lookup(name: str) -> str:
    """Look an item up."""
    return f"{name} is in stock"


class Json(Protocol):
    """One library for JSON."""

    def dumps(self, value: Any, /) -> str | bytes:
        """A value as JSON."""
        ...

    def loads(self, text: str | bytes, /) -> Any:
        """A value from JSON."""
        ...


class Client(Protocol):
    """One HTTP library, and what goes with it for JSON."""

    json: Json

    def events(self, request: Any) -> AsyncIterator[bytes | str]:
        """POST `request`; the data of each event."""
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


class HttpxClient:
    """Plain httpx."""

    json: Json = json

    def __init__(self, url: str) -> None:
        # httpx imports rich and click where they are installed. They are here because of lash's command line; whoever
        # writes this by hand hasn't got them.
        sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type] # this is how an import is blocked
        import httpx

        # Its default of 100 connections would make 200 sessions wait for each other; of the values tried, none is
        # faster than no limit.
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(limits=limits, timeout=120.0)
        self._url = url
        self._headers = {"accept": "text/event-stream"}

    def _body(self, request: Any) -> dict[str, Any]:
        return {"json": request}

    async def events(self, request: Any) -> AsyncIterator[bytes | str]:
        body = self._body(request)
        async with self._client.stream("POST", self._url, headers=self._headers, **body) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    yield line[6:]

    async def aclose(self) -> None:
        await self._client.aclose()


class OrjsonHttpxClient(HttpxClient):
    """httpx with orjson."""

    json: Json = orjson

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._headers["content-type"] = "application/json"

    def _body(self, request: Any) -> dict[str, Any]:
        return {"content": orjson.dumps(request)}


class AiohttpClient:
    """aiohttp."""

    json: Json = orjson

    def __init__(self, url: str) -> None:
        import aiohttp

        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        self._url = url
        self._headers = {"content-type": "application/json", "accept": "text/event-stream"}

    async def events(self, request: Any) -> AsyncIterator[bytes | str]:
        body = orjson.dumps(request)
        async with self._session.post(self._url, data=body, headers=self._headers) as response:
            response.raise_for_status()
            rest = b""
            async for read in response.content.iter_any():
                *events, rest = (rest + read).split(b"\n\n")
                for event in events:
                    if event.startswith(b"data: "):
                        yield event[6:]

    async def aclose(self) -> None:
        await self._session.close()


CLIENTS: dict[str, Callable[[str], Client]] = {
    "raw httpx": HttpxClient,
    "raw httpx with orjson": OrjsonHttpxClient,
    "raw aiohttp": AiohttpClient,
}

DDL = """
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, turns INTEGER, input INTEGER, output INTEGER);
CREATE TABLE IF NOT EXISTS messages (
    session TEXT, turn INTEGER, at INTEGER, body BLOB, PRIMARY KEY (session, turn, at)
) WITHOUT ROWID;
"""


class Database:
    """Sessions in SQLite: WAL, FULL. `threaded` moves commits off the event loop, for many sessions at once."""

    def __init__(self, path: Path, json: Json, *, threaded: bool) -> None:
        self._json = json
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(DDL)
        self._thread = ThreadPoolExecutor(1) if threaded else None

    async def commit(self, session: str, turn: int, messages: list[Any], usage: dict[str, int]) -> None:
        """Write a turn."""
        if self._thread is None:
            self._commit(session, turn, messages, usage)
        else:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._thread, self._commit, session, turn, messages, usage)

    def _commit(self, session: str, turn: int, messages: list[Any], usage: dict[str, int]) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute(
                "INSERT INTO sessions VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET turns = excluded.turns, "
                "input = input + excluded.input, output = output + excluded.output",
                (session, turn + 1, usage["prompt_tokens"], usage["completion_tokens"]),
            )
            rows = [(session, turn, at, self._json.dumps(each)) for at, each in enumerate(messages)]
            db.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    def load(self, session: str) -> tuple[int, list[Any]]:
        """How many turns there were, and their messages."""
        rows = self._db.execute("SELECT body FROM messages WHERE session = ? ORDER BY turn, at", (session,)).fetchall()
        found = self._db.execute("SELECT turns FROM sessions WHERE id = ?", (session,)).fetchone()
        return (found[0] if found else 0), [self._json.loads(body) for (body,) in rows]

    def close(self) -> None:
        """Close it."""
        if self._thread is not None:
            self._thread.shutdown()
        self._db.close()


class RawAgent:
    """The loop: ask, run tools, ask again, commit. `base` is the request without its messages."""

    def __init__(self, client: Client, database: Database, base: dict[str, Any], system: list[Any]) -> None:
        self._client = client
        self._database = database
        self._base = base
        self._system = system

    def session(self, name: str, *, load: bool = False) -> RawSession:
        """A session, empty or from the database."""
        turns, messages = self._database.load(name) if load else (0, [])
        return RawSession(self, name, turns, [*self._system, *messages])

    async def ask(self, messages: list[Any], show: Shown | None) -> tuple[dict[str, Any], dict[str, int]]:
        """One model call: the answer as a message, and its usage."""
        texts: list[str] = []
        calls: dict[int, Any] = {}
        usage: dict[str, int] = {}
        finish = None
        loads = self._client.json.loads
        async for data in self._client.events({**self._base, "messages": messages}):
            if data in ("[DONE]", b"[DONE]"):
                continue
            chunk = loads(data)
            if chunk.get("usage"):
                usage = chunk["usage"]
            if not chunk["choices"]:
                continue
            choice = chunk["choices"][0]
            finish = choice["finish_reason"] or finish
            delta = choice["delta"]
            text = delta.get("content")
            if text:
                texts.append(text)
                if show is not None:
                    show(text)
            for piece in delta.get("tool_calls") or ():
                function = piece["function"]
                call = calls.setdefault(piece["index"], {"id": piece.get("id"), "name": "", "arguments": ""})
                call["name"] += function.get("name") or ""
                call["arguments"] += function.get("arguments") or ""
        if finish is None:
            raise RuntimeError("the answer was cut off")
        message: dict[str, Any] = {"role": "assistant"}
        if texts:
            message["content"] = "".join(texts)
        if calls:
            message["tool_calls"] = [
                {
                    "id": each["id"],
                    "type": "function",
                    "function": {"name": each["name"], "arguments": each["arguments"]},
                }
                for _, each in sorted(calls.items())
            ]
        return message, usage

    async def turn(self, session: RawSession, text: str, show: Shown | None) -> str:
        """One turn, committed."""
        new: list[Any] = [{"role": "user", "content": text}]
        total = {"prompt_tokens": 0, "completion_tokens": 0}
        while True:
            message, usage = await self.ask([*session.messages, *new], show)
            new.append(message)
            for name in total:
                total[name] += usage.get(name, 0)
            if not message.get("tool_calls"):
                break
            for call in message["tool_calls"]:
                function = call["function"]
                try:
                    result = await lookup(**self._client.json.loads(function["arguments"]))
                except Exception as error:
                    result = f"Error: {error}"
                new.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        await self._database.commit(session.name, session.turns, new, total)
        session.messages += new
        session.turns += 1
        return str(message.get("content", ""))


class RawSession:
    """One conversation."""

    def __init__(self, agent: RawAgent, name: str, turns: int, messages: list[Any]) -> None:
        self._agent = agent
        self.name = name
        self.turns = turns
        self.messages = messages

    async def run(self, text: str) -> str:
        """A turn's answer."""
        return await self._agent.turn(self, text, None)

    async def stream(self, text: str, show: Shown) -> str:
        """The same, each delta shown as it comes."""
        return await self._agent.turn(self, text, show)
