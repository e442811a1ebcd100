"""What a competent engineer writes by hand to lose nothing: plain httpx, and a FULL commit for each reply and result.

The same loop as `raw.py`, but each message is a row of its own, committed when it is there; tools of one reply run at
once, and each result is committed as it comes. What the user said is committed with the first reply, the session's
totals with the last. It uses orjson and keeps connections open.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import orjson
from raw import lookup

DDL = """
CREATE TABLE IF NOT EXISTS sessions (id TEXT PRIMARY KEY, turns INTEGER, input INTEGER, output INTEGER);
CREATE TABLE IF NOT EXISTS messages (
    session TEXT, turn INTEGER, at INTEGER, body BLOB, PRIMARY KEY (session, turn, at)
) WITHOUT ROWID;
"""


class DurableRawAgent:
    """The loop: ask, commit, run tools, commit, ask again. `request` is what lash sends for an empty history."""

    def __init__(self, url: str, database: Path, request: dict[str, Any]) -> None:
        import httpx

        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(limits=limits, timeout=120.0)
        self._url = f"{url}/chat/completions"
        self._headers = {"content-type": "application/json", "accept": "text/event-stream"}
        self._base = {name: value for name, value in request.items() if name != "messages"}
        self._system = [each for each in request["messages"] if each["role"] == "system"]
        self._db = sqlite3.connect(database, isolation_level=None, timeout=30)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(DDL)

    async def aclose(self) -> None:
        """Close all of it."""
        await self._client.aclose()
        self._db.close()

    async def session(self, name: str) -> DurableRawSession:
        """A new conversation."""
        return DurableRawSession(self, name, list(self._system))

    def write(self, session: str, turn: int, at: int, messages: list[Any], usage: dict[str, int] | None = None) -> None:
        """Messages, durable; with the usage of the turn that they end."""
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            rows = [(session, turn, place, orjson.dumps(each)) for place, each in enumerate(messages, at)]
            db.executemany("INSERT INTO messages VALUES (?, ?, ?, ?)", rows)
            if usage is not None:
                db.execute(
                    "INSERT INTO sessions VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET turns = excluded.turns, "
                    "input = input + excluded.input, output = output + excluded.output",
                    (session, turn + 1, usage["prompt_tokens"], usage["completion_tokens"]),
                )
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise

    async def ask(self, messages: list[Any]) -> tuple[dict[str, Any], dict[str, int]]:
        """One model call: the answer as a message, and its usage."""
        texts: list[str] = []
        calls: dict[int, Any] = {}
        usage: dict[str, int] = {}
        finish = None
        body = orjson.dumps({**self._base, "messages": messages})
        async with self._client.stream("POST", self._url, content=body, headers=self._headers) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                if not line.startswith("data: ") or line == "data: [DONE]":
                    continue
                chunk = orjson.loads(line[6:])
                usage = chunk.get("usage") or usage
                if not chunk["choices"]:
                    continue
                choice = chunk["choices"][0]
                finish = choice["finish_reason"] or finish
                texts.append(choice["delta"].get("content") or "")
                for piece in choice["delta"].get("tool_calls") or ():
                    function = piece["function"]
                    call = calls.setdefault(piece["index"], {"id": piece.get("id"), "name": "", "arguments": ""})
                    call["name"] += function.get("name") or ""
                    call["arguments"] += function.get("arguments") or ""
        if finish is None:
            raise RuntimeError("the answer was cut off")
        message: dict[str, Any] = {"role": "assistant"}
        if any(texts):
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


class DurableRawSession:
    """One conversation."""

    def __init__(self, agent: DurableRawAgent, name: str, messages: list[Any]) -> None:
        self._agent = agent
        self._name = name
        self._messages = messages
        self._turns = 0
        self._at = 0

    def _keep(self, *messages: dict[str, Any], usage: dict[str, int] | None = None) -> None:
        self._agent.write(self._name, self._turns, self._at, list(messages), usage)
        self._at += len(messages)

    async def _call(self, call: dict[str, Any]) -> dict[str, Any]:
        function = call["function"]
        try:
            result = await lookup(**orjson.loads(function["arguments"]))
        except Exception as error:
            result = f"Error: {error}"
        message = {"role": "tool", "tool_call_id": call["id"], "content": result}
        self._keep(message)
        return message

    async def run(self, text: str) -> str:
        """A turn's answer, once all of it is committed."""
        self._at = 0
        new: list[Any] = [{"role": "user", "content": text}]
        total = {"prompt_tokens": 0, "completion_tokens": 0}
        while True:
            message, usage = await self._agent.ask([*self._messages, *new])
            new.append(message)
            for name in total:
                total[name] += usage.get(name, 0)
            calls = message.get("tool_calls")
            if not calls:
                break
            self._keep(*new[self._at :])
            new += await asyncio.gather(*map(self._call, calls))
        self._keep(*new[self._at :], usage=total)
        self._messages += new
        self._turns += 1
        return str(message.get("content", ""))
