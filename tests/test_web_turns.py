"""Whole turns with `tools-web`: what a model is told and shown, a crash at every effect, a search by another plugin."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest
from loops import on_asyncio

from lash_framework.testing import call
from lash_hookspecs import PluginInfo, ToolCallContext, ToolError, hookimpl, tool


class _Handler(BaseHTTPRequestHandler):
    # Each path has answers, the last one for good.
    def do_GET(self) -> None:
        asked: list[str] = self.server.asked  # type: ignore[attr-defined]
        asked.append(self.path)
        answers = self.server.pages[self.path]  # type: ignore[attr-defined]
        status, body = answers[min(asked.count(self.path), len(answers)) - 1]
        self.send_response(status)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.asked, server.pages = [], {}  # type: ignore[attr-defined]
        server.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


MODE = '[modes.web]\nextends = "standard"\nplugins = ["tools-web"]\n[plugin.tools-web]\n'
LOCAL = f'{MODE}allow_networks = ["127.0.0.1/32"]\nports = []\n'


async def test_a_model_reads_a_page(lash_host: Any, site: Any) -> None:
    site.pages["/bees"] = [(200, b"<title>Bees</title><h1>Bees</h1><p>They hum.")]
    says = [call("fetch_url", url=f"{site.url}/bees"), "They hum."]
    async with lash_host("tools-web", toml=LOCAL, mode="web", says=says) as host:
        turn = await host.run("What do bees do?")
        assert "# Bees" in host.model.conversation()
    (made,) = turn.tool_calls
    assert (made.plugin_id, made.output.outcome.value["text"]) == ("tools-web", "# Bees\n\nThey hum.")
    assert site.asked == ["/bees"]


async def test_a_guarded_address_is_a_failure_that_a_model_can_read(lash_host: Any, site: Any) -> None:
    says = [call("fetch_url", url=f"{site.url}/secret"), "I may not."]
    async with lash_host("tools-web", toml=f"{MODE}ports = []\n", mode="web", says=says) as host:
        turn = await host.run("Read it.")
        assert "isn't on the public web: its address is loopback" in host.model.conversation()
    outcome = turn.tool_calls[0].output.outcome
    assert (outcome.code, outcome.failure_class.value) == ("refused_address", "permission_denied")
    assert site.asked == []


async def test_a_page_that_is_away_for_a_moment_is_asked_again(lash_host: Any, site: Any) -> None:
    site.pages["/"] = [(503, b""), (200, b"<p>Back.")]
    says = [call("fetch_url", url=f"{site.url}/"), "It is back."]
    async with lash_host("tools-web", toml=LOCAL, mode="web", says=says) as host:
        turn = await host.run("Read it.")
    assert turn.tool_calls[0].output.outcome.value["text"] == "Back."
    assert site.asked == ["/", "/"]


@on_asyncio
@pytest.mark.costly
async def test_a_crash_loses_no_page_and_reads_none_twice_that_is_recorded(lash_crashes: Any, site: Any) -> None:
    site.pages["/"] = [(200, b"<p>Hum.")]
    report = await lash_crashes(
        "tools-web", toml=LOCAL, mode="web", says=[call("fetch_url", url=f"{site.url}/"), "Hum."]
    )
    assert not report.unreached
    assert report.golden.turn.text == "Hum."


async def test_a_mode_has_to_name_it(lash_host: Any) -> None:
    async with lash_host("tools-web", says=["Hello."]) as host:
        session = await host.lash.session("s")
        assert not {"fetch_url", "search_web"} & (await session.tools()).tools.keys()


async def test_a_bad_option_names_plugin_option_value_and_next_step(lash_host: Any) -> None:
    with pytest.raises(Exception, match="allow_networks") as refused:
        async with lash_host("tools-web", toml=f'{MODE}allow_networks = ["all"]', mode="web", says=["x"]) as host:
            await host.run("Hello.")
    assert "plugin.tools-web.allow_networks" in str(refused.value)
    assert "'all'" in str(refused.value)
    assert "10.1.0.0/16" in str(refused.value)


# ---- searching ------------------------------------------------------------------------------------------------------


@pytest.mark.statement(81, page="plugin-system")
async def test_without_a_key_the_model_isnt_told_of_searching(lash_host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searching the web takes a key; reading pages doesn't, which is an amendment."""
    for name in ("TAVILY_API_KEY", "BRAVE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    async with lash_host("tools-web", toml=MODE, mode="web", says=["Hello."]) as host:
        await host.run("Hello.")
        assert {each.name for each in host.model.requests[0].tools} - {"batch"} == {"fetch_url"}
        tools = (await (await host.lash.session("s")).tools()).tools
        assert "TAVILY_API_KEY" in tools["search_web"].reason


async def test_a_key_of_the_environment_is_shown_nowhere(lash_host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRAVE_API_KEY", "the-secret-key")
    toml = f'{MODE}brave_url = "http://127.0.0.1:9"\n'
    says = [call("search_web", query="bees"), "Nobody answers."]
    async with lash_host("tools-web", toml=toml, mode="web", says=says) as host:
        turn = await host.run("Look for bees.")
        assert "the-secret-key" not in repr((turn, host.activities, host.model.requests, host.lash))
    assert turn.tool_calls[0].output.outcome.code == "unreachable"


def searching(effect: str = "pure") -> Any:
    """A third party's plugin that searches: it imports nothing of `tools-web`."""

    @tool(name="search_library", activation="internal", effect=effect)
    async def search_library(ctx: ToolCallContext, query: str, limit: int) -> list[dict[str, str]]:
        """Searches a library."""
        if query == "nothing":
            raise ToolError("the library is closed")
        return [{"title": query, "url": f"https://books.example/{n}", "snippet": "…"} for n in range(limit + 3)]

    @hookimpl
    def lash_plugin_info() -> PluginInfo:
        return PluginInfo(id="library")

    @hookimpl
    def lash_tools() -> list[Any]:
        return [search_library]

    return SimpleNamespace(lash_plugin_info=lash_plugin_info, lash_tools=lash_tools)


LIBRARY = f'{MODE}search = "tool:search_library"\n'


async def test_another_plugin_searches(lash_host: Any) -> None:
    says = [call("search_web", query="bees", limit=2), "Found."]
    async with lash_host("tools-web", searching(), toml=LIBRARY, mode="web", says=says) as host:
        turn = await host.run("Look for bees.")
        assert {each.name for each in host.model.requests[0].tools} - {"batch"} == {"fetch_url", "search_web"}
    outer, inner = turn.tool_calls
    assert [each["url"] for each in outer.output.outcome.value] == [
        "https://books.example/0",
        "https://books.example/1",
    ]
    assert (inner.tool_name, inner.plugin_id, inner.parent_call_id) == ("search_library", "library", outer.call_id)


@on_asyncio
@pytest.mark.costly
async def test_a_crash_asks_a_search_that_is_recorded_no_second_time(lash_crashes: Any) -> None:
    report = await lash_crashes(
        "tools-web", searching("unsafe"), toml=LIBRARY, mode="web", says=[call("search_web", query="bees"), "Found."]
    )
    assert not report.unreached


@pytest.mark.parametrize(
    ("search", "query", "says"),
    [("search_library", "nothing", "the library is closed"), ("no_such_tool", "bees", "no_such_tool")],
)
async def test_a_search_of_another_plugin_that_fails_says_so(
    lash_host: Any, search: str, query: str, says: str
) -> None:
    script = [call("search_web", query=query), "Nothing."]
    toml = f'{MODE}search = "tool:{search}"\n'
    async with lash_host("tools-web", searching(), toml=toml, mode="web", says=script) as host:
        turn = await host.run("Look.")
    outcome = turn.tool_calls[0].output.outcome
    assert outcome.code == "search_failed"
    assert says in outcome.message


# ---- what it costs --------------------------------------------------------------------------------------------------


async def test_an_idle_turn_has_no_further_effect(lash_host: Any) -> None:
    kinds = []
    for mode in ("web", "standard"):
        async with lash_host("tools-web", toml=MODE, mode=mode, says=["Hello."]) as host:
            await host.run("Hello.")
            kinds.append([type(each).__name__ for each in host.activities])
    assert kinds[0] == kinds[1]
