"""A page by its URL: redirects, robots.txt, limits of time. Every hop is read and judged like the first."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
from attrs import field, frozen

from lash_plugin_tools_web.errors import FetchFailed, Refused, within
from lash_plugin_tools_web.options import WebOptions
from lash_plugin_tools_web.targets import Target, joined, read_target

if TYPE_CHECKING:
    from lash_plugin_tools_web.connecting import Resolve
    from lash_plugin_tools_web.exchange import Answer
    from lash_plugin_tools_web.robots import Robots

__all__ = ["Fetcher", "Page"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ACCEPT = "text/html, application/xhtml+xml, text/*;q=0.9, application/json;q=0.8, */*;q=0.1"
# Of these, another attempt may come out otherwise.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_WAIT_MS = 3_600_000


@frozen(kw_only=True)
class Page:
    """What a URL led to. `url` is that of the page itself, behind all redirects."""

    url: str
    answer: Answer
    redirects: tuple[str, ...] = field(default=())


class Fetcher:
    """Fetches pages. `resolve` and `tls` stand in for the machine's name lookup and its trust."""

    def __init__(
        self, options: WebOptions, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._options = options
        self._resolve = resolve
        self._tls = tls
        self._robots: Robots | None = None

    async def get(self, url: str) -> Page:
        """The page at `url`. Raises `BadUrl`, `Refused` and `FetchFailed`."""
        with within(self._options.total_s, url[:200]):
            return await self._follow(url)

    async def _follow(self, url: str) -> Page:
        passed: list[str] = []
        target = self._target(url)
        for _ in range(self._options.max_redirects + 1):
            if self._options.robots:
                await self._ask_robots(target)
            answer = await self.ask(target, {"Accept": _ACCEPT}, self._options.max_bytes)
            location = answer.headers.get("location") if answer.status in _REDIRECTS else None
            if location is None:
                _raise_for(answer, target)
                return Page(url=target.url, answer=answer, redirects=tuple(passed))
            passed.append(target.url)
            # Latin-1, as it was read, back to the bytes that came: they may be UTF-8.
            there = self._target(joined(target, location.encode("latin-1").decode("utf-8", "replace")))
            if there.host != target.host and not self._options.cross_host_redirects:
                raise Refused(
                    "redirect", f"{target.url} redirects to another host: if that is right, fetch {there.url}"
                )
            target = there
        text = f"{passed[0]} redirects more than {self._options.max_redirects} times"
        raise FetchFailed("too_many_redirects", text)

    async def ask(self, target: Target, headers: Mapping[str, str], max_bytes: int) -> Answer:
        """One request to one place, by a connection of its own."""
        import httpcore

        from lash_plugin_tools_web.connecting import GuardedBackend, resolve, tls_context
        from lash_plugin_tools_web.exchange import exchange

        if target.scheme == "https" and self._tls is None:
            self._tls = await anyio.to_thread.run_sync(tls_context)
        backend = GuardedBackend(self._options, self._resolve or resolve)
        connect, idle = self._options.connect_s, self._options.idle_s
        async with httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=backend) as pool:
            return await exchange(
                pool,
                target,
                headers={"User-Agent": self._options.user_agent, **headers},
                max_bytes=max_bytes,
                times={"connect": connect, "read": idle, "write": idle, "pool": connect},
                read_redirects=False,
            )

    def _target(self, url: str) -> Target:
        return read_target(url, allowed_hosts=self._options.allow_hosts, https_only=self._options.https_only)

    async def _ask_robots(self, target: Target) -> None:
        from lash_plugin_tools_web.robots import Robots

        if self._robots is None:
            self._robots = Robots(self.ask, self._options.user_agent)
        if not await self._robots.allow(target):
            raise Refused("robots", f"the robots.txt of {target.origin} asks not to fetch {target.url}")


def _raise_for(answer: Answer, target: Target) -> None:
    """Raise for what isn't a page."""
    if answer.status < 400:
        return
    try:
        said = f"{answer.status} {HTTPStatus(answer.status).phrase}"
    except ValueError:
        said = str(answer.status)
    raise FetchFailed(
        f"http_{answer.status}",
        f"{target.url} answered {said}",
        again=answer.status in _PASSING,
        after_ms=_retry_after_ms(answer.headers),
    )


def _retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """What `Retry-After` says: seconds, or a date by the clock of who sent it."""
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return min(int(said[:9]) * 1000, _LONGEST_WAIT_MS)
    try:
        wait = (parsedate_to_datetime(said) - parsedate_to_datetime(headers["date"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None
    return min(max(int(wait * 1000), 0), _LONGEST_WAIT_MS)
