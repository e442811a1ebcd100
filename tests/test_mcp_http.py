"""Servers of streamable HTTP, on real sockets: what works, and what becomes of those that don't."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp_kit import server
from mcp_rogue_http import Service, serving
from test_mcp_rogues import ADD, QUICK, Row, fails, first_tool, gone, works

from lash_framework.testing import open_host
from lash_hookspecs import ToolCallFailure

# On trio, httpx2 leaves its own generators behind wherever a body isn't read to its end; the response is closed anyway.
pytestmark = pytest.mark.filterwarnings(r"ignore:Async generator 'http(x|core)2\.:ResourceWarning")

TOKEN = "tk-0123456789"
SMALL = {"max_message_bytes": 1_000_000}

ROWS = [
    works("well"),
    works("sse"),
    works("sse-wrong-id"),
    works("redirect-within"),
    works("forgets"),
    gone("status-500", r"^Server returned an error response \(HTTP 500 Internal Server Error\)$"),
    gone("status-401", r"\(HTTP 401 Unauthorized\)$"),
    gone("status-403", r"\(HTTP 403 Forbidden\)$"),
    gone("html", r"^Unexpected content type: text/html$"),
    gone("redirect-away", r"^Redirect to http://127.0.0.1:1/elsewhere not followed"),
    gone("silent", r"^it is still starting after 0.5 s$", wait_s=0.5),
    gone("hangs-up", r"."),
    fails("sse-cut", "mcp_lost", r"SSE stream ended without a response"),
    fails("sse-garbage", "mcp_error", r"Failed to parse SSE message"),
    fails("sse-huge", "mcp_lost", r"SSE stream failed", **SMALL),
    fails("sse-comments", "mcp_timeout", r"said nothing for 0.3 s", **QUICK),
    fails("call-500", "mcp_error", r"Server returned an error response"),
    fails("call-html", "mcp_error", r"Unexpected content type: text/html"),
    fails("call-202", "mcp_error", r"answered a request with 202"),
    fails("call-nothing", "mcp_error", r"Failed to parse JSON response"),
    fails("call-garbage", "mcp_error", r"Failed to parse JSON response"),
    fails("call-3-mb", "mcp_error", r"more than 1,000,000 bytes", **SMALL),
    fails("call-bomb", "mcp_error", r"the answer is compressed"),
    fails("sse-bomb", "mcp_lost", r"."),
    fails("call-half", "mcp_lost", r"."),
    fails("silent-in-the-call", "mcp_timeout", r"said nothing for 0.3 s", **QUICK),
]


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving() as service:
        yield service


def toml(url: str, manner: str, **options: Any) -> str:
    return server("r", url=f"{url}/{manner}", **options)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.manner)
async def test_a_turn_goes_on_whatever_a_service_does(row: Row, tmp_path: Path, service: Service) -> None:
    service.seen.clear()
    text = toml(service.url, row.manner, **row.options)
    async with open_host("tools-mcp", says=first_tool, toml=text, folder=tmp_path) as host:
        turn = await host.run("go")
        state = await (await host.lash.session("test")).tools()
        began = anyio.current_time()
    assert anyio.current_time() - began < 5
    assert turn.is_success
    assert [name for name in state.tools if name != "batch"] == row.tools
    assert re.search(row.absent or "^$", state.absent.get("toolset r", "")), state.absent
    assert "abcdef" not in f"{turn}{state}"
    for done in turn.tool_calls:
        outcome = done.output.outcome
        code, said = (outcome.code, outcome.message) if isinstance(outcome, ToolCallFailure) else ("", outcome.value)
        assert (code, bool(re.search(row.said, said))) == (row.code, True), (code, said[:300])


async def test_a_service_that_nobody_runs_costs_a_reason(tmp_path: Path) -> None:
    async with open_host("tools-mcp", says=first_tool, toml=toml("http://127.0.0.1:9", "x"), folder=tmp_path) as host:
        assert (await host.run("go")).is_success
        absent = (await (await host.lash.session("test")).tools()).absent
    assert "ConnectError" in absent["toolset r"]


async def test_headers_and_a_token_of_the_environment_are_sent_and_shown_nowhere(
    tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("THE_TOKEN", TOKEN)
    text = toml(service.url, "well", headers={"X-Key": f"{TOKEN}-2"}, auth={"bearer": "${THE_TOKEN}"})
    caplog.set_level(0)
    async with open_host("tools-mcp", says=first_tool, toml=text, folder=tmp_path) as host:
        turn = await host.run("go", turn_id="t")
        explained = await host.lash.explain("t")
        settings = repr(host.lash.settings)
    assert turn.tool_calls[0].tool_name == ADD
    assert service.headers["Authorization"] == f"Bearer {TOKEN}"
    assert service.headers["X-Key"] == f"{TOKEN}-2"
    assert service.seen["/well DELETE"] >= 1  # it let go of its session
    assert TOKEN not in f"{turn}{explained}{settings}{caplog.text}"


@pytest.mark.parametrize(("secret", "called"), [("client-secret", ["called add"]), ("wrong-secret", [])])
async def test_a_service_that_wants_a_token_of_a_client_gets_one(
    secret: str, called: list[str], tmp_path: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.seen.clear()
    monkeypatch.setenv("CLIENT_SECRET", secret)
    auth = {"client_id": "me", "client_secret": "${CLIENT_SECRET}", "issuer": service.url}
    text = toml(service.url, "guarded", auth=auth)
    async with open_host("tools-mcp", says=first_tool, toml=text, folder=tmp_path) as host:
        turn = await host.run("go")
        absent = (await (await host.lash.session("test")).tools()).absent
    assert turn.is_success
    assert [each.output.outcome.value for each in turn.tool_calls] == called  # type: ignore[union-attr]
    assert bool(absent) == (not called)
    assert service.seen["token"] >= 1
    assert secret not in f"{turn}{absent}"
