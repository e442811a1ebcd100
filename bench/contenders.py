"""The contenders behind one face: open on a database and a URL, give a session, run turns."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from raw import CLIENTS, Database, RawAgent, Shown, lookup

__all__ = ["LASH", "ONLY_STANDARD", "Agent", "Session", "imported", "loaded", "modules", "opened"]

LASH = "lash"
STANDARD = ("mode-standard", "provider-anthropic", "provider-openai", "provider-scripted", "store-sql")
ONLY_STANDARD = f"plugins.only={','.join(STANDARD)}"
"""What `lash-framework[standard]` installs: a checkout has all plugins, and the documentation's example."""


class Session(Protocol):
    """One conversation."""

    async def run(self, text: str) -> str:
        """A turn's answer, once it is committed."""
        ...

    async def stream(self, text: str, show: Shown) -> str:
        """The same, each delta shown as it comes."""
        ...


class Agent(Protocol):
    """An opened contender."""

    async def session(self, name: str) -> Session:
        """The session of this name, loaded if it is in the database."""
        ...


class _LashSession:
    def __init__(self, session: Any) -> None:
        self.session = session

    async def run(self, text: str) -> str:
        turn = await self.session.run(text)
        assert turn.is_success, turn.errors
        return str(turn.text)

    async def stream(self, text: str, show: Shown) -> str:
        from lash_hookspecs.activity import AssistantProseDelta

        async with self.session.turn(text) as running:
            async for activity in running:
                if isinstance(activity.event, AssistantProseDelta):
                    show(activity.event.text)
            return str((await running.result()).text)


class LashAgent:
    """lash, as its documentation shows it."""

    def __init__(self, lash: Any) -> None:
        self.lash = lash

    async def session(self, name: str) -> _LashSession:
        return _LashSession(await self.lash.session(name))


class _RawAgent:
    def __init__(self, agent: RawAgent) -> None:
        self.agent = agent

    async def session(self, name: str) -> Any:
        return self.agent.session(name, load=True)


def loaded(path: str | None = None) -> dict[str, Any] | None:
    """The request that `run.py` left for the raw contenders."""
    return json.loads(Path(path).read_bytes()) if path else None


def modules() -> list[str]:
    """What a contender has imported by now, for a later process of it to import at its start."""
    return [name for name, module in sys.modules.items() if getattr(module, "__spec__", None) is not None]


def imported(contender: str, names: list[str]) -> None:
    """Import all of these: whatever a contender puts off until its first request it has then, too."""
    if contender == LASH:
        from lash_provider_kit.lean_httpx import import_httpx

        import_httpx()
    for name in names:
        import_module(name)


@asynccontextmanager
async def opened(
    contender: str, url: str, database: Path, request: dict[str, Any] | None = None, *, threaded: bool = False
) -> AsyncIterator[Any]:
    """An open contender. `request` is what lash sends for an empty history; the others send the same."""
    if contender == LASH:
        from lash_framework import Lash
        from lash_framework.settings import load_settings

        # The others keep no journal either; `durable.py` measures what one costs.
        sets = [f"provider.openai-chat.base_url={url}", "durability.effects=inline", ONLY_STANDARD]
        settings = load_settings(env={}, sets=sets)
        async with Lash.open(
            f"sqlite:///{database}",
            model="openai-chat:bench",
            tools=[lookup],
            instructions="Answer briefly.",
            settings=settings,
        ) as lash:
            yield LashAgent(lash)
        return
    assert request is not None  # the raw contenders are told what to send
    base = {name: value for name, value in request.items() if name != "messages"}
    system = [each for each in request["messages"] if each["role"] == "system"]
    client = CLIENTS[contender](f"{url}/chat/completions")
    store = Database(database, client.json, threaded=threaded)
    try:
        yield _RawAgent(RawAgent(client, store, base, system))
    finally:
        await client.aclose()
        store.close()
