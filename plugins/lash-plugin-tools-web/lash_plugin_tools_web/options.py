"""The options of `[plugin.tools-web]`, and what is refused of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from attrs import Attribute, field

from lash_hookspecs.option_checks import OptionCheck, between
from lash_hookspecs.values import frozen

__all__ = ["WebOptions"]

# Texts, since plugins are asked who they are at every start, and their options mostly never.
_HOST = r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:.]*:[0-9a-f:.]*"
_AGENT = r"[!-~]+( [!-~]+)*"
_URL = r"https?://[!-~]+"
_SEARCH = r"|tavily|brave|tool:[A-Za-z0-9_-]{1,64}"


def _tuple(value: Iterable[Any]) -> tuple[Any, ...]:
    # attrs looks at a converter's signature, and at that of the builtin `tuple` for several milliseconds.
    return tuple(value)


def _matches(pattern: str, wanted: str) -> OptionCheck:
    def check(_: Any, attribute: Attribute[Any], value: str) -> None:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"`{attribute.name}` is {value!r}: use {wanted}")

    return check


def _hosts(_: Any, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    for each in value:
        if re.fullmatch(_HOST, each) is None:
            text = f"`{attribute.name}`: {each!r} is no name of a host in lower case, without a port or a final dot"
            raise ValueError(text)


def _networks(_: Any, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    from ipaddress import ip_network  # takes as long as all else here

    for each in value:
        try:
            ip_network(each)
        except ValueError as error:
            raise ValueError(f"`{attribute.name}`: {error}; write it as 10.1.0.0/16 or fd00::/8") from None


def _ports(_: Any, attribute: Attribute[Any], value: tuple[int, ...]) -> None:
    for each in value:
        if not 1 <= each <= 65535:
            raise ValueError(f"`{attribute.name}`: {each} is no port: use numbers from 1 to 65535")


def _option(default: Any, help: str, check: OptionCheck | None = None, **more: Any) -> Any:
    return field(default=default, validator=check, metadata={"help": help}, **more)


def _key(variable: str) -> Any:
    return field(default="", repr=False, metadata={"help": "secret", "env": (variable,), "secret": True})


@frozen(kw_only=True)
class WebOptions:
    """What may be fetched, how much of it, and who searches. Times in seconds."""

    allow_hosts: tuple[str, ...] = _option(
        (), "names that may be at addresses that aren't public", _hosts, converter=_tuple
    )
    allow_networks: tuple[str, ...] = _option(
        (), "networks that aren't public, and may be reached", _networks, converter=_tuple
    )
    ports: tuple[int, ...] = _option((80, 443), "the ports that may be asked; none: any", _ports, converter=_tuple)
    https_only: bool = _option(False, "refuse http")
    max_redirects: int = _option(5, "how many redirects are followed", between(0, 20))
    cross_host_redirects: bool = _option(True, "follow redirects to other hosts, rather than tell the model of them")
    robots: bool = _option(False, "ask robots.txt first, and heed it")
    user_agent: str = _option(
        "lash-web/0.1 (fetches a page when a user's agent asks for it)",
        "how it introduces itself; up to the slash it is the name for robots.txt",
        _matches(_AGENT, "printable ASCII"),
    )
    max_bytes: int = _option(2 * 1024 * 1024, "how much of a page is read, also once unpacked", between(1, 2**30))
    max_chars: int = _option(40_000, "how much of its text is returned by one call", between(1, 1_000_000))
    connect_s: float = _option(10.0, "for a connection, TLS included", between(0.01, 600))
    idle_s: float = _option(15.0, "the longest silence", between(0.01, 600))
    total_s: float = _option(30.0, "for a page, redirects included", between(0.01, 600))
    search: str = _option(
        "", "`tavily`, `brave`, or `tool:NAME`; else whoever has a key", _matches(_SEARCH, "tavily, brave or tool:NAME")
    )
    tavily_api_key: str = _key("TAVILY_API_KEY")
    brave_api_key: str = _key("BRAVE_API_KEY")
    tavily_url: str = _option("https://api.tavily.com", "where Tavily is", _matches(_URL, "an http URL"))
    brave_url: str = _option("https://api.search.brave.com", "where Brave is", _matches(_URL, "an http URL"))
