"""What a host keeps for the tools: who fetches and who searches. Nothing is imported before it is used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

from lash_plugin_tools_web.errors import within
from lash_plugin_tools_web.options import WebOptions

if TYPE_CHECKING:
    from anyio import CapacityLimiter

    from lash_plugin_tools_web.fetching import Fetcher, Page
    from lash_plugin_tools_web.reading import Reading
    from lash_plugin_tools_web.search import ServiceSearch

__all__ = ["Web", "open_web", "search_backend"]

_READERS = 4


def search_backend(options: WebOptions) -> str:
    """Who searches: what the options name, or the first service that has a key. Empty: nobody."""
    if options.search.startswith("tool:"):
        return options.search
    keys = {"tavily": options.tavily_api_key, "brave": options.brave_api_key}
    wanted = [options.search] if options.search else list(keys)
    return next((each for each in wanted if keys[each]), "")


class Web:
    """One for a host. It holds no connection open."""

    def __init__(self, options: WebOptions) -> None:
        self._options = options
        self._fetcher: Fetcher | None = None
        self._search: ServiceSearch | None = None
        self._readers: CapacityLimiter | None = None

    @property
    def fetcher(self) -> Fetcher:
        """Fetches pages."""
        if self._fetcher is None:
            from lash_plugin_tools_web.fetching import Fetcher

            self._fetcher = Fetcher(self._options)
        return self._fetcher

    async def read(self, page: Page, *, as_source: bool = False) -> Reading:
        """The text of a page, made in a thread. Raises `FetchFailed`."""
        from anyio import CapacityLimiter, to_thread

        from lash_plugin_tools_web.reading import read

        if self._readers is None:
            # A thread can't be stopped, only what it waits for: it may hold these, and nobody else's.
            self._readers = CapacityLimiter(_READERS)
        told = page.answer.headers.get("content-type", "")
        limit_s = self._options.total_s
        make = partial(read, page.answer.body, told, page.url, as_source=as_source, limit_s=limit_s)
        with within(limit_s, f"making text of {page.url[:200]}"):
            return await to_thread.run_sync(make, abandon_on_cancel=True, limiter=self._readers)

    @property
    def search(self) -> ServiceSearch:
        """The service that `search_backend` says."""
        if self._search is None:
            from lash_plugin_tools_web.search import ServiceSearch

            self._search = ServiceSearch(search_backend(self._options), self._options)
        return self._search


@asynccontextmanager
async def open_web(options: WebOptions) -> AsyncIterator[Web]:
    """For the lifespan of a host."""
    yield Web(options)
