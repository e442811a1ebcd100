"""The two tools, called as a runtime does, against real servers; and the options."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import orjson
import pytest
from web_kit import Request, http, local, redirect, serving

from lash_hookspecs.tools import ToolCallContext, ToolEffect, ToolError
from lash_plugin_tools_web.info import INFO
from lash_plugin_tools_web.options import WebOptions
from lash_plugin_tools_web.tools import fetch_url, search_web, tools
from lash_plugin_tools_web.web import Web

SECRET = "tvly-this-is-the-key"


def context(options: WebOptions, tool: str) -> ToolCallContext:
    return ToolCallContext(
        session_id="s", turn_id="t", call_id="c", tool_name=tool, plugin_id="tools-web", idempotency_key="k",
        host=Web(options), options=options,
    )  # fmt: skip


async def fetch(options: WebOptions, **args: Any) -> Any:
    return await fetch_url.call(context(options, "fetch_url"), args)


async def search(options: WebOptions, **args: Any) -> Any:
    return await search_web.call(context(options, "search_web"), args)


# ---- fetch_url ------------------------------------------------------------------------------------------------------


async def test_a_page_is_read_part_by_part() -> None:
    text = "".join(f"{n:04}" for n in range(100))
    async with serving(lambda _: http(text)) as server:
        options, url = local(max_chars=150), f"http://127.0.0.1:{server.port}/"
        first = await fetch(options, url=url)
        assert first == {"url": url, "type": "text/plain", "characters": 400, "text": text[:150], "next": 150}
        second = await fetch(options, url=url, start=150)
        third = await fetch(options, url=url, start=300)
        assert second["text"] + third["text"] == text[150:]
        assert "next" not in third
        assert (await fetch(options, url=url, start=4000))["text"] == ""


async def test_a_page_has_a_title_and_its_own_url() -> None:
    page = http("<title>Bees</title><p>Hum.", type="text/html")
    async with serving(lambda request: page if request.path == "/b" else redirect("/b")) as server:
        made = await fetch(local(), url=f"http://127.0.0.1:{server.port}/a")
    assert made == {"url": f"http://127.0.0.1:{server.port}/b", "type": "text/html", "title": "Bees",
                    "characters": 4, "text": "Hum."}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "note"),
    [("x" * 200, "the page is longer: only its first 100 bytes were read"), ("<p></p>", "the page has no text: ")],
    ids=["long", "empty"],
)
async def test_what_is_missing_is_noted(body: str, note: str) -> None:
    async with serving(lambda _: http(body, type="text/html")) as server:
        made = await fetch(local(max_bytes=100), url=f"http://127.0.0.1:{server.port}/")
    assert made["note"].startswith(note)


async def test_a_page_with_its_source() -> None:
    async with serving(lambda _: http("<p>Hum.</p>", type="text/html")) as server:
        made = await fetch(local(), url=f"http://127.0.0.1:{server.port}/", raw=True)
    assert made["text"] == "<p>Hum.</p>"


async def test_a_page_that_takes_for_ever_to_read_ends() -> None:
    """`<meta` within `<meta` takes the library the square of their number; the event loop goes on meanwhile."""
    async with serving(lambda _: http("<meta " * 30_000, type="text/html")) as server:
        with pytest.raises(ToolError, match="making text of") as failed:
            await fetch(local(total_s=0.05, idle_s=1), url=f"http://127.0.0.1:{server.port}/")
    assert failed.value.code == "timeout"


def test_both_say_that_reading_twice_does_no_harm() -> None:
    for each in (fetch_url, search_web):
        assert (each.manifest.effect, each.manifest.retry.tag) == (ToolEffect.IDEMPOTENT, "safe")


# ---- search_web -----------------------------------------------------------------------------------------------------

FOUND = [{"title": f"T{n}", "url": f"https://example.com/{n}", "content": "c", "description": "d"} for n in range(9)]


async def test_tavily_is_asked_as_it_wants() -> None:
    async with serving(lambda _: http(orjson.dumps({"results": FOUND}), type="application/json")) as server:
        options = WebOptions(tavily_api_key=SECRET, tavily_url=f"http://127.0.0.1:{server.port}/")
        made = await search(options, query="bees & trees", limit=2)
    assert made == [{"title": f"T{n}", "url": f"https://example.com/{n}", "snippet": "c"} for n in range(2)]
    (asked,) = server.requests
    assert asked.line == "POST /search HTTP/1.1"
    assert asked.headers["authorization"] == f"Bearer {SECRET}"
    assert orjson.loads(asked.body) == {"query": "bees & trees", "max_results": 2}


async def test_brave_is_asked_as_it_wants() -> None:
    async with serving(lambda _: http(orjson.dumps({"web": {"results": FOUND}}))) as server:
        options = WebOptions(brave_api_key=SECRET, brave_url=f"http://127.0.0.1:{server.port}")
        made = await search(options, query="bees & trees")
    assert [each["snippet"] for each in made] == ["d"] * 5
    (asked,) = server.requests
    assert asked.line == "GET /res/v1/web/search?q=bees+%26+trees&count=5 HTTP/1.1"
    assert asked.headers["x-subscription-token"] == SECRET


async def test_brave_may_find_nothing() -> None:
    async with serving(lambda _: http("{}")) as server:
        options = WebOptions(brave_api_key=SECRET, brave_url=f"http://127.0.0.1:{server.port}")
        assert await search(options, query="x") == []


@pytest.mark.parametrize(
    ("answer", "code", "again"),
    [
        (http(f"the key {SECRET} is wrong", status=401), "http_401", False),
        (http(SECRET, status=429), "http_429", True),
        (http(SECRET, status=500), "http_500", True),
        (redirect("http://127.0.0.2/"), "http_302", False),
        (http(SECRET), "bad_answer", False),
        (http('{"results": [1]}'), "bad_answer", False),
        (http('{"results": [{}]}'), "bad_answer", False),
        (http("[]"), "bad_answer", False),
        (b"nonsense", "bad_answer", True),
    ],
    ids=["401", "429", "500", "redirect", "no-json", "no-objects", "no-url", "list", "no-http"],
)
async def test_a_service_that_fails_says_so_without_the_key(answer: bytes, code: str, again: bool) -> None:
    async with serving(lambda _: answer) as server:
        options = WebOptions(tavily_api_key=SECRET, tavily_url=f"http://127.0.0.1:{server.port}")
        with pytest.raises(ToolError) as failed:
            await search(options, query="x")
    assert (failed.value.code, failed.value.retry.tag) == (code, "safe" if again else "never")
    shown: BaseException | None = failed.value
    while shown is not None:
        assert SECRET not in str(shown)
        shown = shown.__cause__
    assert len(server.requests) == 1


async def test_a_silent_service_ends() -> None:
    async def silent(stream: Any, request: Request) -> None:
        await stream.receive()

    async with serving(lambda _: silent) as server:
        options = WebOptions(tavily_api_key=SECRET, tavily_url=f"http://127.0.0.1:{server.port}", total_s=0.05)
        with pytest.raises(ToolError, match="Tavily took longer"):
            await search(options, query="x")


@pytest.mark.parametrize(
    ("options", "lacks"),
    [
        ({}, "set `plugin.tools-web.tavily_api_key` or TAVILY_API_KEY"),
        ({"search": "brave", "tavily_api_key": "x"}, "set `plugin.tools-web.brave_api_key` or BRAVE_API_KEY"),
        ({"tavily_api_key": "x"}, None),
        ({"brave_api_key": "x"}, None),
        ({"search": "brave", "brave_api_key": "x"}, None),
        ({"search": "tool:search_kagi"}, None),
    ],
)
def test_without_a_key_nobody_searches(options: dict[str, str], lacks: str | None) -> None:
    fetching, searching = tools(WebOptions(**options))
    assert getattr(fetching, "unavailable", None) is None
    said = searching.unavailable  # type: ignore[attr-defined]  # a member of a set has it
    assert said is None if lacks is None else lacks in said


# ---- options --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("allow_hosts", ["http://x"], "no name of a host"),
        ("allow_hosts", ["Wiki.corp"], "lower case"),
        ("allow_hosts", ["wiki:80"], "without a port"),
        ("allow_networks", ["10.0.0.1/8"], "host bits"),
        ("allow_networks", ["everything"], "write it as"),
        ("ports", [0], "0 is no port"),
        ("ports", [65536], "no port"),
        ("max_redirects", 21, "from 0 to 20"),
        ("max_bytes", 0, "from 1"),
        ("max_chars", 0, "from 1"),
        ("total_s", 0, "from 0.01"),
        ("idle_s", float("nan"), "from 0.01"),
        ("user_agent", "a\r\nX: y", "printable ASCII"),
        ("user_agent", "", "printable ASCII"),
        ("search", "google", "tavily, brave or tool:NAME"),
        ("tavily_url", "api.tavily.com", "an http URL"),
    ],
)
def test_bad_options_are_refused_with_the_next_step(option: str, value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=option) as refused:
        WebOptions(**{option: value})
    assert says in str(refused.value)


def test_no_key_is_shown() -> None:
    assert SECRET not in repr(WebOptions(tavily_api_key=SECRET, brave_api_key=SECRET))


def test_what_it_reaches_for_is_declared() -> None:
    assert INFO.capabilities == {"network", "secrets", "subprocess"}
    assert not INFO.enabled_by_default


def test_nothing_heavy_is_imported_before_the_first_call() -> None:
    code = (
        "import sys; from lash_plugin_tools_web import plugin; plugin.lash_plugin_info(); "
        "from lash_plugin_tools_web.tools import tools; from lash_plugin_tools_web.web import Web; "
        "options = plugin.lash_plugin_info().options(); tools(options); Web(options); "
        "heavy = {'httpcore', 'html_to_markdown', 'certifi', 'idna', 'ssl', 'h11', 'anyio'}; "
        "print(*sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
