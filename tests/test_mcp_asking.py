"""Servers that ask a person or a model in the middle of a call: the wait outlives the process, no deed comes twice."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from loops import on_asyncio
from mcp_kit import started

from lash_framework.testing import call, crash_at_every_effect, crash_host, open_host
from lash_hookspecs import LlmRequest, ToolCallFailure, ToolCallSuccess, TurnSuspended, processes_below
from lash_plugin_tools_mcp.parking import Parked

ASKING = Path(__file__).with_name("mcp_asking.py")

both_protocols = pytest.mark.parametrize("protocol", ["legacy", "modern"])


def toml(protocol: str, log: Path, **options: Any) -> str:
    return started("shop", ASKING, protocol, str(log), wait_s=30.0, **options)


def wants(tool: str, **args: Any) -> Any:
    def says(request: LlmRequest) -> Any:
        if request.messages[0].role == "system" and request.messages[0].blocks[0].text == "Be brief.":  # type: ignore[union-attr]  # it is one
            return "Ada"
        if any(block.tag == "tool_result" for block in request.messages[-1].blocks):
            return "done"
        return call(f"mcp__shop__{tool}", **args) if request.tools else "Ada"

    return says


@both_protocols
async def test_a_person_answers_in_another_process_and_the_server_is_called_with_it(
    protocol: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    options: dict[str, Any] = {"store": f"sqlite:///{tmp_path}/lash.db", "folder": tmp_path, "says": wants("order")}
    options["toml"] = toml(protocol, log, elicitation="ask")
    async with open_host("tools-mcp", **options) as host:
        with pytest.raises(TurnSuspended):
            await host.run("go", turn_id="t")
    assert log.read_text().split("\n") == ["called order", ""]
    async with open_host("tools-mcp", **options) as host:
        (waiting,) = await host.lash.pending()
        question: Any = waiting.said
        assert (question["server"], question["message"]) == ("shop", "Which size?")
        await host.lash.resolve(waiting.key, result={"size": "XL"})
    async with open_host("tools-mcp", **options) as host:
        (recovered,) = await (await host.lash.session("test", recover=False)).recover()
        turn = recovered.turn
    outcomes = {each.call_id: each.output.outcome for each in turn.tool_calls if each.parent_call_id is None}
    assert [each.value for each in outcomes.values()] == ["ordered in XL"]
    # The call before the answer was told `cancel` (or its questions were its answer): only the second one did anything.
    assert log.read_text().splitlines().count("done order") == 1
    assert [each.tool_name for each in turn.tool_calls if each.parent_call_id] == ["mcp__shop", "mcp_ask", "mcp__shop"]


@both_protocols
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"action": "accept", "content": {"size": "S"}}, "ordered in S"),
        ("M", "ordered in M"),
        ({"action": "decline"}, "not done: decline"),
        (None, "not done: decline"),
    ],
    ids=["result", "field", "declined", "nothing"],
)
async def test_an_answer_may_be_an_mcp_result_or_plain(protocol: str, answer: Any, said: str, tmp_path: Path) -> None:
    settings = toml(protocol, tmp_path / "log", elicitation="ask")
    async with open_host("tools-mcp", says=wants("order"), toml=settings, folder=tmp_path) as host:
        with pytest.raises(TurnSuspended) as suspended:
            await host.run("go")
        await host.lash.resolve(suspended.value.keys[0], result=answer)
        (recovered,) = await (await host.lash.session("test", recover=False)).recover()
    (outcome, *_) = [each.output.outcome for each in recovered.turn.tool_calls if each.parent_call_id is None]
    assert isinstance(outcome, ToolCallSuccess), outcome
    assert outcome.value == said
    # The old protocol's call was kept open, and went on; the new one's is made again, as it says.
    assert (tmp_path / "log").read_text().splitlines().count("called order") == (1 if protocol == "legacy" else 3)


async def test_a_call_that_waits_gives_way_to_another_ones_and_is_made_again(tmp_path: Path) -> None:
    """Nobody can tell which of two calls an old server asks for. Each deed is done once."""
    settings = toml("legacy", tmp_path / "log", elicitation="ask")
    async with open_host("tools-mcp", says=wants("order"), toml=settings, folder=tmp_path) as host:
        for session in ("a", "b"):
            with pytest.raises(TurnSuspended):
                await host.run("go", session=session)
        for session in ("a", "b"):
            waiting = {each.session_id: each.key for each in await host.lash.pending()}
            await host.lash.resolve(waiting[session], result={"size": session.upper()})
            (recovered,) = await (await host.lash.session(session, recover=False)).recover()
            said = [each.output.outcome.value for each in recovered.turn.tool_calls if each.parent_call_id is None]
            assert said == [f"ordered in {session.upper()}"]
    log = (tmp_path / "log").read_text().splitlines()
    assert (log.count("called order"), log.count("done order")) == (4, 2)


async def test_a_server_that_died_while_somebody_thought_about_it_is_called_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Parked] = []

    class Known(Parked):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            kept.append(self)

    monkeypatch.setattr("lash_plugin_tools_mcp.tools.Parked", Known)
    settings = toml("legacy", tmp_path / "log", elicitation="ask")
    async with open_host("tools-mcp", says=wants("order"), toml=settings, folder=tmp_path) as host:
        with pytest.raises(TurnSuspended) as suspended:
            await host.run("go")
        for each in processes_below(os.getpid()):
            if str(ASKING).encode() in Path(f"/proc/{each.pid}/cmdline").read_bytes():
                os.kill(each.pid, signal.SIGKILL)
        with anyio.fail_after(20):
            await kept[0]._done.wait()  # it was heard of
        await host.lash.resolve(suspended.value.keys[0], result="L")
        (recovered,) = await (await host.lash.session("test", recover=False)).recover()
    (outcome, *_) = [each.output.outcome for each in recovered.turn.tool_calls if each.parent_call_id is None]
    assert isinstance(outcome, ToolCallSuccess), outcome
    assert outcome.value == "ordered in L"
    assert (tmp_path / "log").read_text().splitlines() == ["called order", "called order", "done order"]


@both_protocols
async def test_a_server_that_may_not_ask_is_told_so(protocol: str, tmp_path: Path) -> None:
    settings = toml(protocol, tmp_path / "log")
    async with open_host("tools-mcp", says=wants("order"), toml=settings, folder=tmp_path) as host:
        turn = await host.run("go")
    (outcome,) = [each.output.outcome for each in turn.tool_calls]
    said = outcome.message if isinstance(outcome, ToolCallFailure) else outcome.value
    assert "Elicitation not supported" in said


@both_protocols
async def test_the_turns_model_writes_for_a_server_that_may_ask_it(protocol: str, tmp_path: Path) -> None:
    settings = toml(protocol, tmp_path / "log", sampling="allow")
    async with open_host("tools-mcp", says=wants("baptize"), toml=settings, folder=tmp_path) as host:
        turn = await host.run("go")
        asked = host.model.requests[1]
    (outcome,) = [each.output.outcome for each in turn.tool_calls]
    assert isinstance(outcome, ToolCallSuccess), outcome
    assert outcome.value == "baptized Ada"
    assert asked.generation.output_token_cap == 20
    assert "mcp:shop" in {each.source for each in turn.children_usage}


@pytest.mark.parametrize(
    ("limit", "asked", "said"),
    [
        ({"max_samples": 2}, 2, "a call may ask the model 2 times"),
        ({"max_sample_tokens": 12}, 1, "a call may take 12 tokens"),
        ({"max_sample_tokens": 2}, 0, "a call may take 2 tokens"),
        ({}, 3, ""),
    ],
    ids=["times", "tokens", "none", "enough"],
)
async def test_a_call_may_use_the_model_only_so_much(limit: Any, asked: int, said: str, tmp_path: Path) -> None:
    """What is refused is told to the server, and to whoever watches."""
    settings = toml("legacy", tmp_path / "log", sampling="allow", **limit)
    async with open_host("tools-mcp", says=wants("baptize", times=3), toml=settings, folder=tmp_path) as host:
        turn = await host.run("go")
        (outcome,) = [each.output.outcome for each in turn.tool_calls]
        assert len(host.model.requests) == 2 + asked
        shown = [each.payload for each in host.events("plugin_surface") if each.name == "sampling_refused"]
    assert isinstance(outcome, ToolCallSuccess), outcome
    assert outcome.value == "baptized Ada" if not said else said in outcome.value
    assert len(shown) == (3 - asked if said else 0)
    assert all(said in each["reason"] for each in shown)


@both_protocols
async def test_a_person_is_asked_before_the_model_is(protocol: str, tmp_path: Path) -> None:
    settings = toml(protocol, tmp_path / "log", sampling="ask")
    async with open_host("tools-mcp", says=wants("baptize"), toml=settings, folder=tmp_path) as host:
        with pytest.raises(TurnSuspended) as suspended:
            await host.run("go")
        assert len(host.model.requests) == 1
        (waiting,) = await host.lash.pending()
        assert waiting.said["kind"] == "sampling"
        await host.lash.resolve(suspended.value.keys[0], result="yes")
        (recovered,) = await (await host.lash.session("test", recover=False)).recover()
    (outcome, *_) = [each.output.outcome for each in recovered.turn.tool_calls if each.parent_call_id is None]
    assert outcome.value == "baptized Ada"


def names_children(asked: list[str]) -> Any:
    """The n-th question is answered by the n-th name; `asked` is what was paid for."""

    def says(request: LlmRequest) -> Any:
        if request.messages[0].role == "system" and request.messages[0].blocks[0].text == "Be brief.":  # type: ignore[union-attr]  # it is one
            asked.append(request.messages[1].blocks[0].text)  # type: ignore[union-attr]  # it is one
            return ["Ada", "Bea", "Cleo", "Dora", "Eve"][len(asked) - 1]
        return wants("christen")(request)

    return says


@both_protocols
@pytest.mark.parametrize("sampling", ["allow", "ask"])
@pytest.mark.parametrize("reopened", [False, True], ids=["same process", "another process"])
async def test_what_a_model_wrote_is_paid_once_however_often_the_server_is_called(
    reopened: bool, sampling: str, protocol: str, tmp_path: Path
) -> None:
    """A call that waits for a person is made again, from its beginning: it asked the model for the same once more.

    And each time it was allowed the whole of `max_samples` anew.
    """
    asked: list[str] = []
    options: dict[str, Any] = {
        "store": f"sqlite:///{tmp_path}/lash.db",
        "folder": tmp_path,
        "says": names_children(asked),
    }
    limit = {"elicitation": "ask", "sampling": sampling, "max_samples": 3}
    options["toml"] = toml(protocol, tmp_path / "log", **limit)
    answers: dict[str, Any] = {"elicitation": {"size": "XL"}, "sampling": "yes"}
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(open_host("tools-mcp", **options))
        with pytest.raises(TurnSuspended):
            await host.run("go", turn_id="t")
        recovered: Any = None
        while recovered is None:
            if reopened:
                await stack.aclose()
                host = await stack.enter_async_context(open_host("tools-mcp", **options))
            for each in await host.lash.pending():
                await host.lash.resolve(each.key, result=answers[each.said["kind"]])
            with suppress(TurnSuspended):  # it asks for more
                (recovered,) = await (await host.lash.session("test", recover=False)).recover()
    (outcome, *_) = [each.output.outcome for each in recovered.turn.tool_calls if each.parent_call_id is None]
    assert isinstance(outcome, ToolCallSuccess), outcome
    names = outcome.value.removeprefix("christened ").split(", ")
    assert sorted([names[0], names[1], names[3]]) == ["Ada", "Bea", "Cleo"]
    assert names[2] == "XL"
    assert sorted(asked) == ["A name?", "A name?", "Another?"]
    (paid,) = [each.usage for each in recovered.turn.children_usage if each.source == "mcp:shop"]
    assert not paid.at_least


@both_protocols
async def test_the_limit_of_samples_holds_over_all_calls_of_the_server(protocol: str, tmp_path: Path) -> None:
    asked: list[str] = []
    settings = toml(protocol, tmp_path / "log", elicitation="ask", sampling="allow", max_samples=2)
    async with open_host("tools-mcp", says=names_children(asked), toml=settings, folder=tmp_path) as host:
        try:
            await host.run("go", turn_id="t")
        except TurnSuspended as suspended:
            await host.lash.resolve(suspended.keys[0], result={"size": "XL"})
            await (await host.lash.session("test", recover=False)).recover()
        assert len(asked) == 2
        shown = [each.payload for each in host.events("plugin_surface") if each.name == "sampling_refused"]
        assert all("a call may ask the model 2 times" in each["reason"] for each in shown)


@on_asyncio
@pytest.mark.costly
async def test_a_call_of_a_server_that_may_ask_survives_a_crash_anywhere(tmp_path: Path) -> None:
    settings = toml("legacy", tmp_path / "log", elicitation="ask", sampling="allow")
    opened = crash_host("tools-mcp", says=wants("baptize"), toml=settings, folder=tmp_path)
    report = await crash_at_every_effect(opened, "go", points=lambda point: "mcp_" in str(point))
    assert len(report.crashes) > 3
