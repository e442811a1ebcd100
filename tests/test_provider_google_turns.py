"""Whole turns over a real socket: signatures are stored with the turn, and go back where they came from, only there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_framework import Lash
from lash_hookspecs import tool
from lash_plugin_provider_google.encode import SKIP_SIGNATURE
from lash_plugin_provider_google.testing import event, parts, stream, text, tools
from lash_provider_kit.testing import ChatServer

FLASH, OTHER = "google:gemini-3.8-flash", "google:gemini-3.1-pro-preview"


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChatServer]:
    """A service that is found as Google's own tools would find it."""
    with ChatServer() as running:
        for name in ("GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("GEMINI_API_KEY", "key-of-a-test")
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", running.origin)
        yield running


def opened(store: Path, model: str) -> Any:
    return Lash.open(f"sqlite:///{store}", model=model, tools=[add])


def signed(request: Any) -> list[str | None]:
    """The signatures of a request's calls and texts of the model, in order."""
    said = [content for content in request.json["contents"] if content["role"] == "model"]
    return [part.get("thoughtSignature") for content in said for part in content["parts"]]


async def test_a_turn_with_a_tool_then_another_process_and_another_model(server: ChatServer, tmp_path: Path) -> None:
    store = tmp_path / "lash.db"
    server.answer(
        tools((None, "add", {"a": 1, "b": 2}), (None, "add", {"a": 3, "b": 4}), signature="S1"),
        stream(
            event({"text": "3 "}),
            event({"text": "and 7."}),
            event({"text": "", "thoughtSignature": "S2"}, finish="STOP"),
        ),
    )
    async with opened(store, FLASH) as lash:
        session = await lash.session("s", mode="standard")
        turn = await session.run("1 + 2, 3 + 4?", turn_id="t1")
        assert turn.text == "3 and 7."
        assert turn.usage.total == 2 * 19
    first, second = server.requests
    (declared,) = [each for each in first.json["tools"][0]["functionDeclarations"] if each["name"] == "add"]
    assert declared["parametersJsonSchema"]["required"] == ["a", "b"]
    assert signed(second) == ["S1", None]
    results = second.json["contents"][-1]
    assert results["role"] == "user"
    calls = [part["functionCall"] for part in second.json["contents"][-2]["parts"]]
    answers = [part["functionResponse"] for part in results["parts"]]
    assert [each["id"] for each in answers] == [each["id"] for each in calls]
    assert [each["response"] for each in answers] == [{"output": "3"}, {"output": "7"}]

    server.answer(text("Yes."))
    async with opened(store, FLASH) as lash:
        await (await lash.session("s")).run("Sure?", turn_id="t2")
    # The text came in two pieces, and the signature behind them in a third.
    assert signed(server.requests[-1]) == ["S1", None, None, "S2"]

    server.answer(text("Yes, says another."))
    async with opened(store, OTHER) as lash:
        await (await lash.session("s")).run("Really?", turn_id="t3")
    assert signed(server.requests[-1]) == [SKIP_SIGNATURE, None, None, None]


async def test_a_filtered_answer_ends_the_turn_and_says_why(server: ChatServer, tmp_path: Path) -> None:
    server.answer(parts({"text": "Well"}, {"text": ""}, finish="SAFETY"))
    async with opened(tmp_path / "lash.db", FLASH) as lash:
        turn = await (await lash.session()).run("Hm?", turn_id="t1")
        assert "SAFETY" in repr(turn.outcome) + repr(turn.errors)
