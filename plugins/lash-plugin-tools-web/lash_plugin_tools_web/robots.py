"""What sites ask of robots, kept for an hour. The standard library reads the rules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING
from urllib.robotparser import RobotFileParser

import anyio
import anyio.to_thread
from attrs import evolve

from lash_plugin_tools_web.errors import FetchFailed

if TYPE_CHECKING:
    from lash_plugin_tools_web.exchange import Answer
    from lash_plugin_tools_web.targets import Target

__all__ = ["Robots"]

_KEPT_S = 3600.0
_MOST_SITES = 256
_LONGEST = 500 * 1024

Ask = Callable[["Target", Mapping[str, str], int], Awaitable["Answer"]]


class Robots:
    """Knows the rules of the sites that were asked lately. Its own requests are guarded like all others."""

    def __init__(self, ask: Ask, user_agent: str) -> None:
        self._ask = ask
        self._name = user_agent.partition("/")[0]
        self._sites: OrderedDict[str, tuple[float, RobotFileParser]] = OrderedDict()

    async def allow(self, target: Target) -> bool:
        """Whether a site lets us have this page. Without an answer it doesn't; without such a file it does."""
        kept = self._sites.get(target.origin)
        if kept is None or kept[0] < anyio.current_time():
            kept = anyio.current_time() + _KEPT_S, await self._rules(target)
            self._sites[target.origin] = kept
            while len(self._sites) > _MOST_SITES:
                self._sites.popitem(last=False)
        return kept[1].can_fetch(self._name, target.url)

    async def _rules(self, target: Target) -> RobotFileParser:
        rules = RobotFileParser()
        answer = await self._ask(evolve(target, path="/robots.txt"), {"Accept": "text/plain"}, _LONGEST)
        if answer.status >= 500 or answer.status == 429:
            raise FetchFailed("no_robots", f"the robots.txt of {target.origin} answered {answer.status}", again=True)
        # A redirect isn't followed: such a site has no rules here, as one without the file.
        text = answer.body.decode("utf-8", "replace") if answer.status == 200 else ""
        # Half a megabyte of rules takes a quarter of a second.
        await anyio.to_thread.run_sync(rules.parse, text.splitlines())
        return rules
