"""From the text of a URL to what is connected to: strict, and read once.

What two parsers may read in two ways is how guards are passed by, so such a text is refused rather than mended, and
what was read here is what the connection gets, part by part: nobody reads the text again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote, urljoin, urlsplit

from attrs import frozen

from lash_plugin_tools_web.addresses import Address
from lash_plugin_tools_web.errors import BadUrl, Refused

__all__ = ["Target", "joined", "read_target"]

_PORTS = {"http": 80, "https": 443}
_PORT = re.compile(r"[0-9]{0,5}")
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_ODD = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029\ud800-\udfff]")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_LOCAL = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "home.arpa", "localdomain", "onion")
_LONGEST = 8192
_SAFE = "!$%&'()*+,/:;=?@[]~"  # what stays as it is in a path or query


@frozen(kw_only=True)
class Target:
    """Where to connect, and what to ask for there. `address` is set where the host is one."""

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None = None

    @property
    def authority(self) -> str:
        """Host and port as in a URL, and in the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The same with the scheme."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        """All of it, normal."""
        return f"{self.origin}{self.path}"


def read_target(text: str, *, allowed_hosts: Collection[str] = (), https_only: bool = False) -> Target:
    """Read a URL. Raises `BadUrl` where it is none, and `Refused` where it tries to be more than one."""
    with _url_errors():
        parts = urlsplit(_checked(text))
    if parts.scheme not in _PORTS:
        raise Refused(
            "scheme", f"only http and https are fetched, not {parts.scheme[:20] or 'a text without a scheme'!r}"
        )
    if https_only and parts.scheme != "https":
        raise Refused("scheme", "only https is fetched here")
    if "@" in parts.netloc:
        raise Refused(
            "userinfo", "a URL with a name or password before the host isn't fetched: leave out all up to the @"
        )
    bare, port = _host_and_port(parts.netloc)
    host, address = _host(bare, allowed_hosts)
    path = quote(parts.path or "/", safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    return Target(scheme=parts.scheme, host=host, port=port or _PORTS[parts.scheme], path=path, address=address)


def joined(base: Target, location: str) -> str:
    """Where a redirect leads, as the text of a URL, which is yet to be read. Raises `BadUrl`."""
    with _url_errors():
        return urljoin(base.url, _checked(location))


@contextmanager
def _url_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise BadUrl(f"this is no URL: {error}") from None


def _checked(text: str) -> str:
    # The standard library takes some of these out of a URL, others are slashes to browsers.
    url = text.strip(" ")
    if len(url) > _LONGEST:
        raise BadUrl(f"the URL has {len(url)} characters; at most {_LONGEST} are taken")
    if _ODD.search(url):
        raise BadUrl("the URL has a blank, a backslash or a control character in it: write them as %20 and the like")
    return url


def _host_and_port(netloc: str) -> tuple[str, int]:
    """Both as they are written; a host in brackets keeps the first one. A port of 0 is the scheme's own."""
    if netloc.startswith("["):
        host, closing, rest = netloc.partition("]")
        colon, port = rest[:1], rest[1:]
        if not closing or colon not in ("", ":"):
            raise BadUrl("the host's brackets are followed by something else than a port")
    else:
        host, colon, port = netloc.partition(":")
    if _PORT.fullmatch(port) is None or int(port or 1) not in range(1, 65536):
        raise BadUrl(f"{port[:20]!r} is no port")
    return host, int(port or 0)


def _host(text: str, allowed: Collection[str]) -> tuple[str, Address | None]:
    if "%" in text:
        raise Refused("host", "a host is written without percent signs, and an address without a zone")
    if text.startswith("["):
        try:
            six = IPv6Address(text[1:])
        except AddressValueError:
            raise BadUrl(f"{text[1:60]!r} is no IPv6 address") from None
        return str(six), six
    if not text:
        raise BadUrl("the URL has no host")
    name = _ascii(text).lower().removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise BadUrl(f"{text[:60]!r} is no name of a host")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            four = IPv4Address(name)
        except AddressValueError:
            four = None
        if four is None or str(four) != text:
            raise Refused(
                "address", f"{text[:60]!r} is an address in an odd notation: write it as four decimal numbers"
            )
        return name, four
    if name in allowed:
        return name, None
    if len(labels) == 1 or any(name == each or name.endswith(f".{each}") for each in _LOCAL):
        raise Refused("host", f"{name!r} is a name within some network, not one of the public web")
    return name, None


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    import idna

    try:
        return idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        raise BadUrl(f"{text[:60]!r} is no name of a host") from None
