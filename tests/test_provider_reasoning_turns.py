"""Reasoning that a service wants back as it was, over turns against a real server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import tool
from lash_provider_kit.testing import Answer, ChatServer, chunk, stream, text


@tool
def now() -> str:
    """The time."""
    return "noon"


def thinking(field: str, delta: Mapping[str, Any], finish: str) -> Answer:
    return stream(chunk({field: "Let me "}), chunk({field: "think."}), chunk(delta), chunk({}, finish))


CALL = {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "now", "arguments": "{}"}}]}


async def asked(folder: Path, field: str, later: str, **settings: Any) -> list[list[dict[str, Any]]]:
    """What the service is told of assistants in each request: a turn of `m` with a call, and one of a `later` model."""
    answers = [thinking(field, CALL, "tool_calls"), thinking(field, {"content": "Noon."}, "stop"), text("Yes.")]
    store = f"sqlite:///{folder}/s.db"
    with ChatServer(*answers) as server:
        provider = {"openai-chat": {"base_url": server.url, "max_attempts": 1, **settings}}
        made = evolve(load_settings(env={}), provider=provider)
        async with Lash.open(store, model="openai-chat:m", settings=made, tools=[now]) as lash:
            assert (await (await lash.session("s")).run("What time is it?")).text == "Noon."
        async with Lash.open(store, model=f"openai-chat:{later}", settings=made, tools=[now]) as lash:
            assert (await (await lash.session("s")).run("Sure?")).text == "Yes."
        return [[each for each in one.json["messages"] if each["role"] == "assistant"] for one in server.requests]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
async def test_reasoning_goes_back_amid_calls_and_in_later_turns(field: str, tmp_path: Path) -> None:
    """DeepSeek and Moonshot refuse a call that comes back without the reasoning that led to it."""
    first, second, third = await asked(tmp_path, field, "m", reasoning_replay=field)
    assert first == []
    assert [(each[field], "tool_calls" in each) for each in second] == [("Let me think.", True)]
    assert [(each.get(field), each.get("content")) for each in third] == [
        ("Let me think.", None),
        ("Let me think.", "Noon."),
    ]


async def test_reasoning_stays_here_unless_it_is_wanted(tmp_path: Path) -> None:
    *_, last = await asked(tmp_path, "reasoning_content", "m")
    assert len(last) == 2
    assert not any("reasoning_content" in each for each in last)


async def test_reasoning_goes_to_no_other_model_than_that_which_had_it(tmp_path: Path) -> None:
    *_, last = await asked(tmp_path, "reasoning_content", "other", reasoning_replay="reasoning_content")
    assert len(last) == 2
    assert not any("reasoning_content" in each for each in last)
