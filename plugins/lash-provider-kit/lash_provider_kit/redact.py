"""Keeping secrets out of everything that is shown, stored or logged."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, unquote_plus, urlsplit

from lash_hookspecs.errors import ConfigurationError

__all__ = [
    "Redactor",
    "checked_header",
    "checked_url",
    "is_loopback",
    "query_values",
    "with_path",
    "without_query",
]

# A service may quote another secret than ours (a gateway's upstream key), so shapes are hidden as well as values.
_SHAPES = re.compile(
    r"(?i)(bearer\s+)[\w.~+/=-]{8,}|\b(?:sk|gsk|xai)-[\w-]{16,}|\bAIza[\w-]{30,}|\bya29\.[\w.-]{8,}|(?<=://)[^/\s@\"']+@"
)
# A header's value may be a secret behind the name of its kind, and a service quotes the secret alone.
_SCHEME = re.compile(r"(?i)(?:bearer|basic|token|(?:api-?)?key)\s+(\S+)")
_HIDDEN = "[redacted]"
_UNSAFE_IN_PAGES = ("<>&", "<>&='", "<>&'+")
"""What Go, Gson and .NET escape in JSON, so that it can stand in a page."""
_SHORTEST = 8


class Redactor:
    """Replaces known secrets, and what looks like one, in text."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        # What is shorter is no secret but a word such as `ollama`, and replacing it would garble ordinary text.
        self._secrets: list[str] = []
        self._lasting: dict[str, str] = {}
        self.add(secrets)

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._secrets)} secrets>"

    def add(self, secrets: Iterable[str]) -> None:
        """Know these too."""
        given = {each.strip() for each in secrets}
        given |= {found[1] for each in given if (found := _SCHEME.fullmatch(each))}
        known = {each for each in given if len(each) >= _SHORTEST}
        known |= {form for each in known for form in _forms(each)}
        if not known.issubset(self._secrets):
            self._lasting = {}
        self._secrets = sorted(known.union(self._secrets), key=len, reverse=True)

    def lasting(self, text: str) -> str:
        """The same for one of a few texts that come again with each call: looked through once."""
        found = self._lasting.get(text)
        if found is None:
            found = self._lasting[text] = self(text)
        return found

    def __call__(self, text: str, limit: int | None = None) -> str:
        """`text` without secrets, cut to `limit` characters; cutting comes last, so no half of a secret is left."""
        for secret in self._secrets:
            text = text.replace(secret, _HIDDEN)
        text = _SHAPES.sub(lambda match: f"{match[1] or ''}{_HIDDEN}", text)
        if limit is not None and len(text) > limit:
            return f"{text[:limit]}… ({len(text)} characters)"
        return text


def _forms(secret: str) -> Iterator[str]:
    """How it looks in URLs, and in JSON of several writers; an ordinary key looks the same in all."""
    for safe in ("", "/"):
        quoted = quote(secret, safe=safe)
        yield quoted
        yield re.sub("%..", lambda found: found[0].lower(), quoted)
    for ascii_only in (True, False):
        written = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield written
        yield written.replace("/", "\\/")
        for characters in _UNSAFE_IN_PAGES:
            for form in ("04x", "04X"):
                yield written.translate({ord(each): f"\\u{ord(each):{form}}" for each in characters})


def checked_url(url: str, setting: str) -> str:
    """`url` without a trailing slash. Raises ConfigurationError unless it is http(s), has a host and no userinfo."""
    url = url.strip()
    if not url.isprintable():
        raise ConfigurationError(f"`{setting}` has a line break or another character that no URL may have")
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigurationError(f"`{setting}` is no valid URL") from None
    if parts.username is not None or parts.password is not None:
        # Not quoted: what stands before the @ may be a password.
        raise ConfigurationError(f"`{setting}` must not hold a user name or password; set the api key instead")
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        # Redacted because people paste the key into the wrong variable.
        raise ConfigurationError(
            f"`{setting}` must be a URL like `https://api.example.com/v1`, not `{Redactor()(without_query(url))}`"
        )
    if parts.fragment:
        raise ConfigurationError(f"`{setting}` must not hold a fragment (`#…`)")
    return url.rstrip("/")


def checked_header(name: str, value: str, setting: str) -> str:
    """`value`, fit for an HTTP header. Raises ConfigurationError that doesn't quote it: it may be a secret.

    Checked here because HTTP libraries put the offending value into their own error.
    """
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise ConfigurationError(f"`{setting}`: `{name}` is no valid header name")
    value = value.strip()
    if not value.isascii() or not value.isprintable():
        raise ConfigurationError(
            f"`{setting}`: the value has a line break or another character that no header may have"
        )
    return value


def with_path(url: str, path: str) -> str:
    """`url` with `path` appended to its path; a query stays at the end, where some gateways want a version."""
    base, mark, query = url.partition("?")
    return f"{base.rstrip('/')}{path}{mark}{query}"


def without_query(url: str) -> str:
    """`url` as it may be shown."""
    return url.partition("?")[0]


def query_values(url: str) -> list[str]:
    """The values in a URL's query, as they stand there and as they are meant."""
    values = [each.partition("=")[2] for each in url.partition("?")[2].split("&")]
    return [*values, *map(unquote_plus, values)]


def is_loopback(url: str) -> bool:
    """Whether a URL's host is this machine, judged by its name alone."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost") or host == "::1":
        return True
    octets = host.split(".")
    return len(octets) == 4 and octets[0] == "127" and all(each.isdigit() and int(each) < 256 for each in octets)
