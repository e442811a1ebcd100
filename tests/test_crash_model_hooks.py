"""The crash matrix of a turn whose plugins have the hooks at the model seam: a decision, a rewritten reply, a wrapper.

As in `test_crash_matrix`, the rows are the review. What is new is the record behind each reply: killed before it, the
reply is kept and only its hook runs again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin
from attrs import evolve
from crash_kit import SESSION, TURN, Guidance, World, url_in
from test_crash_matrix import Tables, drift, ends_as_reviewed

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_framework.testing.crash_matrix import Subject, golden_run
from lash_hookspecs import LlmRequest, LlmResponse, SessionStateSpec, TextOutput, ToolCallOutputPart, tool
from lash_plugin_provider_scripted import Call, Reply

pytestmark = [pytest.mark.costly, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

SETTINGS = load_settings(env={}, sets=["plugins.only=mode-standard,store-sql", "store_options.synchronous=normal"])

DEEDS = ("before 1", "around 1", "model 1", "rewrite 1", "fetch", "before 2", "around 2", "model 2", "rewrite 2")


def seam(world: World) -> object:
    """A plugin with these hooks. What it remembers is how often it rewrote."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Guidance)

    async def lash_before_llm_call(ctx: Any) -> None:
        world.note(f"before {ctx.iteration + 1}")

    async def lash_around_effect(ctx: Any, envelope: Any, call_next: Any) -> Any:
        if envelope.command.kind == "llm_call":
            world.note(f"around {envelope.invocation.scope.protocol_iteration + 1}")
        return await call_next()

    async def lash_assistant_response(ctx: Any, response: LlmResponse) -> LlmResponse:
        world.note(f"rewrite {ctx.iteration + 1}")
        ctx.set_state(evolve(ctx.state, given=ctx.state.given + 1))
        said = TextOutput(text=f"{response.full_text} (rewritten)")
        calls = [each for each in response.parts if isinstance(each, ToolCallOutputPart)]
        return evolve(response, full_text=said.text, parts=(said, *calls))

    return plugin("seam", lash_session_state, lash_before_llm_call, lash_around_effect, lash_assistant_response)


@asynccontextmanager
async def seam_agent(url: str) -> AsyncIterator[Lash]:
    world = World(url)

    @tool(effect="idempotent")
    async def fetch() -> str:
        "Fetch."
        world.note("fetch")
        return "fetched"

    def say(request: LlmRequest) -> Reply:
        said = sum(message.role == "assistant" for message in request.messages)
        world.note(f"model {said + 1}")
        if said == 0:
            return Reply(text="I fetch.", deltas=["I fetch."], tool_calls=[Call("fetch", {}, "fetch-1")])
        return Reply(text="Fetched.", deltas=["Fetched."])

    async with agent(say, store=url, tools=[fetch], plugins=[seam(world)], settings=SETTINGS) as lash:
        yield lash


SUBJECT = Subject(open_host=seam_agent, prompt="Fetch.", session_id=SESSION, turn_id=TURN)

TABLE = """
place                                                      | found     | twice             | never  | unknown| usage
before store load_session                                  | nothing   | -                 | -      | -      | exact
before store begin_turn                                    | "         | "                 | "      | "      | "
after store begin_turn                                     | accepted  | -                 | -      | -      | at least
before effect turn_start                                   | "         | "                 | "      | "      | "
after effect turn_start                                    | "         | "                 | "      | "      | "
before effect llm_call 2 of iteration 0                    | "         | "                 | "      | "      | "
# paid, and lost with its record: what was decided before the call is a part of that
after reply 1                                              | accepted  | before 1, around 1, model 1 | - | -  | at least
after reply 1 (2)                                          | "         | "                 | "      | "      | "
after effect llm_call 2 of iteration 0                     | "         | "                 | "      | "      | "
before effect assistant_response 2 of iteration 0          | "         | "                 | "      | "      | "
before store append_journal                                | "         | "                 | "      | "      | "
# the reply is durable before its hook is called
after store append_journal                                 | accepted  | -                 | -      | -      | exact
# only the hook runs again
after effect assistant_response 2 of iteration 0           | accepted  | rewrite 1         | -      | -      | exact
before store append_journal (2)                            | "         | "                 | "      | "      | "
after store append_journal (2)                             | accepted  | -                 | -      | -      | exact
before effect tool_call `fetch` (fetch-1)                  | "         | "                 | "      | "      | "
after effect tool_call `fetch` (fetch-1)                   | accepted  | fetch             | -      | -      | exact
before store append_journal (3)                            | "         | "                 | "      | "      | "
after store append_journal (3)                             | accepted  | -                 | -      | -      | at least
before effect checkpoint 4 of iteration 1                  | "         | "                 | "      | "      | "
before store has_pending                                   | "         | "                 | "      | "      | "
after effect checkpoint 4 of iteration 1                   | "         | "                 | "      | "      | "
before effect sync_execution_environment 5 of iteration 1  | "         | "                 | "      | "      | "
after effect sync_execution_environment 5 of iteration 1   | "         | "                 | "      | "      | "
before effect llm_call 6 of iteration 1                    | "         | "                 | "      | "      | "
after reply 2                                              | accepted  | before 2, around 2, model 2 | - | -  | at least
after reply 2 (2)                                          | "         | "                 | "      | "      | "
after effect llm_call 6 of iteration 1                     | "         | "                 | "      | "      | "
before effect assistant_response 6 of iteration 1          | "         | "                 | "      | "      | "
before store append_journal (4)                            | "         | "                 | "      | "      | "
after store append_journal (4)                             | accepted  | -                 | -      | -      | exact
# nothing external follows: the last rewriting is recorded with the commit
after effect assistant_response 6 of iteration 1           | accepted  | rewrite 2         | -      | -      | exact
before effect checkpoint 7 of iteration 1                  | "         | "                 | "      | "      | "
before store has_pending (2)                               | "         | "                 | "      | "      | "
after effect checkpoint 7 of iteration 1                   | "         | "                 | "      | "      | "
before effect turn_end                                     | "         | "                 | "      | "      | "
after effect turn_end                                      | "         | "                 | "      | "      | "
before store commit                                        | "         | "                 | "      | "      | "
after store commit                                         | committed | -                 | -      | -      | exact
"""

STATEMENTS = """
begin_turn 1       | =first
append_journal 1-4 | =append
commit 1           | =commit, INSERT INTO blobs x3, INSERT INTO refs x3, INSERT INTO usage, DELETE FROM inbox,
                   | DELETE FROM journal, COMMIT
"""


@pytest.mark.chaos
async def test_a_turn_with_hooks_at_the_model_seam_that_is_killed_anywhere_ends_as_reviewed(tmp_path: Path) -> None:
    tables = Tables(TABLE, STATEMENTS)
    golden, trace = await golden_run(SUBJECT, url_in(tmp_path / "golden"))
    assert drift(trace, tables) == []
    assert golden.turn.text == "Fetched. (rewritten)"
    for number, point in enumerate(trace):
        await ends_as_reviewed(SUBJECT, url_in(tmp_path / str(number)), point, golden, tables, DEEDS)
