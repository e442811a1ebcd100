"""MCP servers over turns: connected late and once, made anew when they break, and asked for nothing by a replay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from loops import on_asyncio
from mcp_kit import started
from mcp_rogue_http import serving
from test_mcp_http import toml as http_toml
from test_mcp_rogues import first_tool, toml
from test_replay import Records

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_framework.testing import call, crash_at_every_effect, crash_host, open_host
from lash_hookspecs import ConfigurationError, LlmRequest, ToolCallFailure
from lash_plugin_tools_mcp import backoff, connection

MORTAL = Path(__file__).with_name("mcp_mortal.py")


def mortal(log: Path, **options: Any) -> str:
    return started("m", MORTAL, str(log), **{"wait_s": 30.0, **options})


def outcomes(turn: Any) -> list[Any]:
    said = [each.output.outcome for each in turn.tool_calls]
    return [each.code if isinstance(each, ToolCallFailure) else each.value for each in said]


@pytest.mark.statement(86, page="plugin-system")
async def test_a_server_that_is_out_of_reach_fails_no_start_and_is_not_tried_again_at_once(tmp_path: Path) -> None:
    """An MCP server that is out of reach does not fail the start of a host or of a turn."""
    text = "[plugin.tools-mcp.servers.r]\ncommand = 'no-such-program-here'\n"
    async with open_host("tools-mcp", says=["one", "two"], toml=text, folder=tmp_path) as host:
        assert (await host.run("go")).is_success
        session = await host.lash.session("test")
        first = (await session.tools()).absent["toolset r"]
        said = "`no-such-program-here` was not found: install it, or give its whole path as "
        assert first == f"{said}`plugin.tools-mcp.servers.r.command`"
        assert (await host.run("go")).is_success
        second = (await session.tools()).absent["toolset r"]
        assert second in (first, *(f"{first}; it is tried again in {tenth / 10:.1f} s" for tenth in range(11)))


async def test_turns_wait_in_vain_for_a_server_that_hangs_but_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn used to wait the whole time again, for as long as the server was broken."""
    monkeypatch.setattr(connection, "SHORT_WAIT_S", 0.1)
    text, reasons = toml("silent-from-the-start", wait_s=0.2), []
    async with open_host("tools-mcp", says=lambda _: "ok", toml=text, folder=tmp_path) as host:
        for _ in range(4):
            await host.run("go")
            absent = (await (await host.lash.session("test")).tools()).absent
            reasons.append(absent["toolset r"])
    assert reasons == [f"it is still starting after {each} s" for each in (0.2, 0.2, 0.1, 0.1)]


@pytest.mark.statement(87, page="plugin-system")
async def test_the_limit_of_a_whole_call_fires_though_there_is_progress(tmp_path: Path) -> None:
    """The limit of a whole call fires despite progress, which only puts off the limit of silence."""
    text = toml("progress-forever", idle_timeout_s=5.0, total_timeout_s=1.0)
    async with open_host("tools-mcp", says=first_tool, toml=text, folder=tmp_path) as host:
        turn = await host.run("go")
        assert {each.text for each in host.events("tool_call_progress")} == {"on"}
    assert outcomes(turn) == ["mcp_timeout"]


async def test_progress_keeps_a_call_alive_beyond_the_idle_limit(tmp_path: Path) -> None:
    text = mortal(tmp_path / "log", idle_timeout_s=2.0)
    async with open_host("tools-mcp", says=[call("mcp__m__slow"), "done"], toml=text, folder=tmp_path) as host:
        turn = await host.run("go")
    assert outcomes(turn) == ["slow at last"]


async def test_a_server_is_started_once_by_the_first_turn_that_needs_it_and_asked_for_its_list_once(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    async with open_host("tools-mcp", says=["one", "two", "three"], toml=mortal(log), folder=tmp_path) as host:
        assert not log.exists()
        for session in ("a", "b", "a"):
            await host.run("go", session=session)
        assert log.read_text().split() == ["started", "tools/list"]


async def test_tools_that_change_are_news_in_the_next_turn_and_other_turns_ask_for_none(tmp_path: Path) -> None:
    log = tmp_path / "log"
    says = [call("mcp__m__grow"), "grown", "more", call("mcp__m__extra"), "done"]
    async with open_host("tools-mcp", says=says, toml=mortal(log), folder=tmp_path) as host:
        await host.run("go")
        told = [[each.name for each in request.tools if "extra" in each.name] for request in host.model.requests]
        assert told == [[], []]
        await host.run("go")
        turn = await host.run("go")
    assert outcomes(turn) == ["called extra"]
    assert log.read_text().split().count("tools/list") == 2


async def test_a_server_that_died_is_started_anew_in_the_same_turn(tmp_path: Path) -> None:
    """Its next call waits until it may be tried again."""
    log = tmp_path / "log"
    says = [call("mcp__m__die"), call("mcp__m__grow"), "done"]
    async with open_host("tools-mcp", says=says, toml=mortal(log), folder=tmp_path) as host:
        turn = await host.run("go")
    assert outcomes(turn) == ["mcp_lost", "called grow"]
    assert log.read_text().split().count("started") == 2


async def test_a_server_that_died_after_a_while_is_started_anew_by_the_next_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(backoff, "STEADY_S", 0.0)
    caplog.set_level("INFO", logger="lash.mcp")
    log = tmp_path / "log"
    says = [call("mcp__m__leave"), "left", call("mcp__m__grow"), "done"]
    async with open_host("tools-mcp", says=says, toml=mortal(log), folder=tmp_path) as host:
        assert outcomes(await host.run("go")) == ["called leave"]
        with anyio.fail_after(20):
            while "is not connected: it exited with code 0" not in caplog.text:  # noqa: ASYNC110  # a process's end
                await anyio.sleep(0.01)
        assert outcomes(await host.run("go")) == ["called grow"]
    assert log.read_text().split().count("started") == 2


async def test_a_server_that_hangs_is_looked_after_before_its_next_call_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "PROBE_S", 0.2)
    log = tmp_path / "log"
    says = [call("mcp__m__hang"), call("mcp__m__grow"), "done"]
    text = mortal(log, idle_timeout_s=0.2)
    async with open_host("tools-mcp", says=says, toml=text, folder=tmp_path) as host:
        turn = await host.run("go")
    assert outcomes(turn)[0] == "mcp_timeout"  # and the second call has the same short limit
    assert log.read_text().split().count("started") == 2


async def test_calls_of_one_batch_share_the_connection(tmp_path: Path) -> None:
    log = tmp_path / "log"
    says = [[call("mcp__m__grow") for _ in range(20)], "done"]
    async with open_host("tools-mcp", says=says, toml=mortal(log), folder=tmp_path) as host:
        turn = await host.run("go")
    assert outcomes(turn) == ["called grow"] * 20
    assert log.read_text().split().count("started") == 1


async def test_a_cancel_ends_a_call_that_hangs_and_the_host_closes_in_time(tmp_path: Path) -> None:
    options: dict[str, Any] = {"toml": mortal(tmp_path / "log"), "folder": tmp_path}
    async with open_host("tools-mcp", says=[call("mcp__m__hang"), "done"], **options) as host:
        session = await host.lash.session("test")
        async with session.turn("go") as running:
            async for activity in running:
                if activity.event.tag == "tool_call_started":
                    running.cancel()
            turn = await running.result()
        began = anyio.current_time()
    assert anyio.current_time() - began < 9
    assert [each.output.outcome.tag for each in turn.tool_calls] == ["cancelled"]


async def test_a_service_that_came_back_knows_no_session_and_is_asked_again(tmp_path: Path) -> None:
    with serving() as service:
        async with open_host(
            "tools-mcp", says=first_tool, toml=http_toml(service.url, "forgets"), folder=tmp_path
        ) as host:
            turn = await host.run("go")
        assert outcomes(turn) == ["called add"]
        assert service.seen["/forgets tools/call"] == 2
        assert service.seen["/forgets initialize"] == 2


@pytest.mark.parametrize(
    ("tool", "args", "method"),
    [
        ("list_resources", {}, "resources/list"),
        ("read_resource", {"uri": "r:it"}, "resources/read"),
        ("list_prompts", {}, "prompts/list"),
        ("get_prompt", {"name": "greet"}, "prompts/get"),
    ],
)
async def test_what_it_offers_beside_tools_is_asked_for_again_too(
    tool: str, args: Any, method: str, tmp_path: Path
) -> None:
    """These once failed where a tool of the same service was called again."""
    with serving() as service:
        text = http_toml(service.url, "forgets", resources=True, prompts=True)
        says = [call(f"mcp__r__{tool}", **args), "done"]
        async with open_host("tools-mcp", says=says, toml=text, folder=tmp_path) as host:
            turn = await host.run("go")
        assert [each.output.is_success for each in turn.tool_calls] == [True]
        assert service.seen[f"/forgets {method}"] == 2
        assert service.seen["/forgets initialize"] == 2


async def test_resources_of_a_server_that_died_are_read_from_one_that_is_started_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    read = [call("mcp__m__read_resource", uri=uri) for uri in ("mortal:die", "mortal:it")]
    text = mortal(log, resources=True, prompts=True)
    says = [*read, call("mcp__m__die"), read[1], call("mcp__m__list_prompts"), "done"]
    async with open_host("tools-mcp", says=says, toml=text, folder=tmp_path) as host:
        lost, again, _, after, prompts = outcomes(await host.run("go"))
    assert (lost, again, after) == ("mcp_lost", "read", "read")
    assert [each["name"] for each in prompts] == ["greet"]
    assert log.read_text().split().count("started") == 3


async def test_who_calls_a_tool_of_a_server_that_is_out_of_reach_is_told_of_that(tmp_path: Path) -> None:
    """It was told that there is no such tool, and took it for a wrong name."""
    text = "[plugin.tools-mcp.servers.r]\ncommand = 'no-such-program-here'\n"
    says = [call("mcp__r__add"), "done"]
    async with open_host("tools-mcp", says=says, toml=text, folder=tmp_path) as host:
        turn = await host.run("go")
    (outcome,) = [each.output.outcome for each in turn.tool_calls]
    assert isinstance(outcome, ToolCallFailure)
    assert outcome.message.startswith("there is no tool `mcp__r__add`; ")
    assert "; toolset r is absent: `no-such-program-here` was not found: install it" in outcome.message


@pytest.mark.parametrize(
    ("tool", "command", "said"),
    [
        ("type", "pending answer key allow", "a model's command may not answer a question"),
        ("type_anew", "pending answer key allow", "a model's command may not answer a question"),
        ("type", "pending resolve key --result 1", "a model's command may not say what became of a call"),
    ],
    ids=["answer", "answer in another environment and session", "resolve"],
)
async def test_what_a_server_starts_answers_no_question(tool: str, command: str, said: str, tmp_path: Path) -> None:
    """It may do what the model wants: a server with a shell would allow the model's own calls."""
    args = [sys.executable, "-m", "lash_framework.cli", *command.split(), "--store", f"sqlite:///{tmp_path}/l.db"]
    text = started("t", MORTAL.with_name("mcp_typist.py"), *args, wait_s=30.0)
    says = [call(f"mcp__t__{tool}"), "done"]
    async with open_host("tools-mcp", says=says, toml=text, folder=tmp_path) as host:
        (outcome,) = outcomes(await host.run("go"))
    assert said in outcome
    assert "below a process that a tool started for one (`LASH_COMMAND`)" in outcome
    assert not outcome.startswith("exit 0")
    assert "is no setting" not in outcome


async def test_a_replay_and_a_turn_that_goes_on_connect_to_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log"
    records = Records()
    options: dict[str, Any] = {"toml": mortal(log), "folder": tmp_path}
    options["says"] = lambda request: "done" if len(request.messages) > 2 else call("mcp__m__grow")
    async with open_host("tools-mcp", effects="inline", **options) as host:
        host.lash.effects = records
        first = await host.run("go", turn_id="t")
    started = log.read_text()
    async with open_host("tools-mcp", effects="inline", **options) as host:
        host.lash.effects = records.up_to(len(records.ran))
        again = await host.run("go", turn_id="t")
    assert outcomes(again) == outcomes(first) == ["called grow"]
    assert log.read_text() == started


@on_asyncio
@pytest.mark.costly
async def test_a_turn_with_a_call_survives_a_crash_anywhere(tmp_path: Path) -> None:
    log = tmp_path / "log"

    def says(request: LlmRequest) -> Any:
        return (
            "done" if any(block.tag == "tool_result" for block in request.messages[-1].blocks) else call("mcp__m__grow")
        )

    opened = crash_host("tools-mcp", says=says, toml=mortal(log), folder=tmp_path)
    report = await crash_at_every_effect(opened, "go", points=lambda point: "tool" in str(point))
    assert report.crashes


# ---- what it costs who doesn't use it -------------------------------------------------------------------------------


async def test_without_servers_the_plugin_costs_no_effect_no_record_and_no_import(tmp_path: Path) -> None:
    ran = {}
    for plugins in ((), ("tools-mcp",)):
        records = Records()
        async with open_host(*plugins, says=["hi"], effects="inline") as host:
            host.lash.effects = records
            await host.run("go", turn_id="t")
        ran[plugins] = (list(records.ran), sum(map(len, records.outcomes.values())))
    assert ran[()] == ran["tools-mcp",]
    code = "import sys, lash_plugin_tools_mcp.toolsets; print(*{'mcp', 'pydantic', 'httpx2'} & sys.modules.keys())"
    done = await anyio.run_process([sys.executable, "-c", code])
    assert done.stdout.strip() == b""


# ---- slips ----------------------------------------------------------------------------------------------------------

HEAD = "[plugin.tools-mcp.servers"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEAD}.r]\n", "server `r` has neither `command` nor `url`"),
        (f"{HEAD}.r]\ncommand = 'x'\nurl = 'http://y'\n", "it has a `command` and a `url`"),
        (f"{HEAD}.r]\ncommand = 'x'\nheaders = {{A = 'b'}}\n", "`headers` and `auth` are for a `url`"),
        (f"{HEAD}.r]\nurl = 'http://x'\nargs = ['b']\n", "`args`, `env` and `cwd` are for a `command`"),
        (f"{HEAD}.r]\nurl = 'ftp://x'\n", "must begin with http:// or https://"),
        (f"{HEAD}.a__b]\ncommand = 'x'\n", "a server can't be named `a__b`"),
        (f"{HEAD}._a]\ncommand = 'x'\n", "a server can't be named `_a`"),
        (f"{HEAD}.{'a' * 30}]\ncommand = 'x'\n", "a server can't be named"),
        (f"{HEAD}.r]\ncommand = 'x'\nwait_s = 0\n", "`wait_s` is 0"),
        (f"{HEAD}.r]\ncommand = 'x'\neffects = {{a = 'sure'}}\n", "`effects` says `sure` of `a`"),
        (f"{HEAD}.r]\ncommand = 'x'\nsampling = 'yes'\n", "must be `off`, `ask` or `allow`, not `yes`"),
        (f"{HEAD}.r]\ncomand = 'x'\n", "did you mean `command`"),
        (f"{HEAD}.r]\nurl = 'http://x'\nauth = {{bearer = 'hush-hush', client_id = 'b'}}\n", "give one of them"),
        (f"{HEAD}.r]\nurl = 'http://x'\nauth = {{client_id = 'b'}}\n", "and `issuer` together"),
    ],
)
async def test_a_slip_in_the_settings_is_told_when_the_host_opens(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "lash.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError) as refused:
        async with Lash.open("sqlite://", settings=load_settings(file, env={}), model="scripted:demo"):
            raise AssertionError("unreachable")
    assert said in str(refused.value)
    assert "plugin.tools-mcp" in str(refused.value)
    assert "hush-hush" not in str(refused.value)


async def test_a_variable_that_the_environment_lacks_is_named_and_costs_only_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    text = mortal(tmp_path / "log", env={"TOKEN": "${NO_SUCH_TOKEN}"})
    async with open_host("tools-mcp", says=["hi"], toml=text, folder=tmp_path) as host:
        assert (await host.run("go")).is_success
        absent = (await (await host.lash.session("test")).tools()).absent
    assert absent["toolset m"].startswith("the environment has no `NO_SUCH_TOKEN`: set it")
