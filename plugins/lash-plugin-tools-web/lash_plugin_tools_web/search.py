"""Who searches. A backend is a function from a query and a number to results; two services have theirs here.

The port for others is a tool: the option `search = "tool:NAME"` has the tool `NAME` of another plugin asked. So it is
recorded, guarded and named like any call, and nobody has to import this package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypedDict
from urllib.parse import urlencode, urlsplit

import anyio
import orjson
from attrs import frozen

from lash_hookspecs.tools import ToolCallContext, ToolCallSuccess
from lash_plugin_tools_web.errors import FetchFailed, within
from lash_plugin_tools_web.options import WebOptions
from lash_plugin_tools_web.targets import read_target

__all__ = ["SearchBackend", "SearchResult", "ServiceSearch", "ToolSearch"]

_LONGEST = 2 * 1024 * 1024


class SearchResult(TypedDict):
    """One of what was found."""

    title: str
    url: str
    snippet: str


class SearchBackend(Protocol):
    """Searches the web."""

    async def __call__(self, query: str, limit: int) -> Sequence[SearchResult]:
        """At most `limit` results, the best first. Raises `FetchFailed`."""
        ...


@frozen(kw_only=True)
class _Service:
    """How a service is asked, and where the results are in its answer."""

    name: str
    base: Callable[[WebOptions], str]
    key: Callable[[WebOptions], str]
    path: Callable[[str, int], str]
    body: Callable[[str, int], Mapping[str, Any] | None]
    headers: Callable[[str], Mapping[str, str]]
    results: Callable[[Any], Any]
    snippet: str


_SERVICES = {
    "tavily": _Service(
        name="Tavily",
        base=lambda options: options.tavily_url,
        key=lambda options: options.tavily_api_key,
        path=lambda query, limit: "/search",
        body=lambda query, limit: {"query": query, "max_results": limit},
        headers=lambda key: {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        results=lambda answer: answer["results"],
        snippet="content",
    ),
    "brave": _Service(
        name="Brave",
        base=lambda options: options.brave_url,
        key=lambda options: options.brave_api_key,
        path=lambda query, limit: f"/res/v1/web/search?{urlencode({'q': query, 'count': limit})}",
        body=lambda query, limit: None,
        headers=lambda key: {"X-Subscription-Token": key},
        results=lambda answer: answer["web"]["results"] if "web" in answer else [],
        snippet="description",
    ),
}


class ServiceSearch:
    """A service over HTTP. Its key goes nowhere but there: redirects aren't followed, and no error has it."""

    def __init__(self, name: str, options: WebOptions) -> None:
        self._service = _SERVICES[name]
        self._options = options

    async def __call__(self, query: str, limit: int) -> list[SearchResult]:
        """Ask it. Raises `FetchFailed`."""
        name = self._service.name
        with within(self._options.total_s, name):
            answer = await self._ask(query, limit)
        try:
            return _results(self._service.results(orjson.loads(answer)), self._service.snippet, limit)
        except (ValueError, KeyError, TypeError):
            raise FetchFailed("bad_answer", f"{name} answered what are no results") from None

    async def _ask(self, query: str, limit: int) -> bytes:
        import httpcore

        from lash_plugin_tools_web.connecting import tls_context
        from lash_plugin_tools_web.exchange import exchange

        service, options = self._service, self._options
        base = service.base(options).rstrip("/")
        host = urlsplit(base).hostname or ""
        # Whoever runs lash chose this place: it may be in their own network.
        target = read_target(base + service.path(query, limit), allowed_hosts=(host,))
        sent = service.body(query, limit)
        tls = await anyio.to_thread.run_sync(tls_context) if target.scheme == "https" else None
        times = {"connect": options.connect_s, "read": options.idle_s, "write": options.idle_s, "pool": 1.0}
        async with httpcore.AsyncConnectionPool(ssl_context=tls, network_backend=httpcore.AnyIOBackend()) as pool:
            answer = await exchange(
                pool,
                target,
                headers={
                    "Accept": "application/json",
                    "User-Agent": options.user_agent,
                    **service.headers(service.key(options)),
                },
                body=None if sent is None else orjson.dumps(sent),
                max_bytes=_LONGEST,
                times=times,
                read_redirects=False,
            )
        if answer.status != 200:
            again = answer.status == 429 or answer.status >= 500
            why = {401: ": is the key right?", 403: ": is the key right?", 429: ": too many requests"}.get(
                answer.status, ""
            )
            raise FetchFailed(f"http_{answer.status}", f"{service.name} answered {answer.status}{why}", again=again)
        return answer.body


class ToolSearch:
    """Another plugin's tool: it takes `query` and `limit`, and returns a list of what `SearchResult` says."""

    def __init__(self, tool: str, ctx: ToolCallContext) -> None:
        self._tool = tool
        self._ctx = ctx

    async def __call__(self, query: str, limit: int) -> list[SearchResult]:
        """Call it as a child of this call. Raises `FetchFailed` where it fails."""
        assert self._ctx.call_tool is not None  # a runtime has it
        call = await self._ctx.call_tool(0, self._tool, {"query": query, "limit": limit})
        outcome = call.output.outcome
        if not isinstance(outcome, ToolCallSuccess):
            raise FetchFailed("search_failed", f"the tool `{self._tool}` failed: {outcome.message}")
        try:
            return _results(outcome.value, "snippet", limit)
        except (ValueError, KeyError, TypeError):
            text = f"the tool `{self._tool}` must return a list of objects with `title`, `url` and `snippet`"
            raise FetchFailed("bad_answer", text) from None


def _results(found: Any, snippet: str, limit: int) -> list[SearchResult]:
    made = [
        SearchResult(title=str(each.get("title") or ""), url=each["url"], snippet=str(each.get(snippet) or ""))
        for each in found
        if isinstance(each["url"], str)
    ]
    return made[:limit]
