"""One service's HTTP connections, and which library carries them.

httpx's own connections carry the first calls, and `httpx.MockTransport` those of tests. On asyncio, where aiohttp is
installed, its connections take over once there are more than a few calls (`growing`), since httpx's pool gets slow with
hundreds of connections; not with a proxy in the environment. Nothing is imported, and no TLS context built, before the
first request.

Transports are driven directly, without `httpx.AsyncClient`, except through a proxy: a model call needs no redirects, no
cookies and no auth flow, and a redirected request would carry the key to another host.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import cache, partial
from importlib.util import find_spec
from os import environ
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import anyio
from attrs import field
from attrs.validators import gt

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.values import frozen
from lash_provider_kit.carriers import Answer, Carrier
from lash_provider_kit.failures import AttemptFailed, transport_failure
from lash_provider_kit.lean_httpx import import_httpx
from lash_provider_kit.redact import Redactor, without_query

if TYPE_CHECKING:
    import ssl

    import httpx

__all__ = ["HttpTransport", "Timeouts"]

# How long an unused connection is kept for the next call: shorter than the idle limits of the usual load balancers
# (60 s and up), because a call that meets a connection just closed fails without having been seen.
_KEEPALIVE_S = 30.0
_CLOSE_S = 2.0
_PROXIES = "proxies (http_proxy, https_proxy, all_proxy)"
_CERTIFICATES = "certificates (SSL_CERT_FILE, SSL_CERT_DIR)"


_NONE: Mapping[str, str] = {}


@frozen(kw_only=True)
class Timeouts:
    """In seconds. `chunk_s` is the longest silence; `deadline_s` bounds a whole attempt, whatever keeps arriving."""

    connect_s: float = field(default=15.0, validator=gt(0))
    chunk_s: float = field(default=120.0, validator=gt(0))
    deadline_s: float = field(default=300.0, validator=gt(0))


class HttpTransport:
    """POSTs to one URL. `transport` replaces the connections, as a test does with `httpx.MockTransport`.

    With `http2`, httpx's own connections carry all: they speak it where the service does. Raises `ConfigurationError`
    where the package that they need for it isn't installed.
    """

    def __init__(
        self,
        *,
        provider: str,
        url: str,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        http2: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url
        self.shown = without_query(url)
        """The URL for people: some gateways want their key in the query."""
        self._provider = provider
        self._headers = dict(headers)
        self._timeouts = timeouts
        if http2 and find_spec("h2") is None:
            raise ConfigurationError(f"{provider}: HTTP/2 needs the package h2: `pip install h2`, or leave `http2` off")
        self._http2 = http2
        self._given = transport
        self._carrier: Carrier | None = None
        self._closing = AsyncExitStack()
        self.errors: tuple[type[BaseException], ...] = ()
        self.backend = ""
        """What carries new requests, for diagnosis: `aiohttp`, `httpx`, `proxy` or `given`; empty before the first."""

    def __repr__(self) -> str:
        return f"<HttpTransport to {self.shown}>"

    async def post(self, body: Sequence[bytes], headers: Mapping[str, str] = _NONE, url: str | None = None) -> Answer:
        """Send the pieces of `body`; the answer's status and headers are there, its content is yet to be read.

        `headers` are for this request alone, and so is a `url` on the same host.
        Raises `AttemptFailed`, or `ConfigurationError` where the environment's proxies or certificates can't be used.
        Close the response with `close_response`, also after an error.
        """
        try:
            carrier = self._carrier or self._open()
            return await carrier.post(body, headers, url)
        except self.errors as exc:
            failure = self.failure(exc)
        raise failure

    def failure(self, exc: BaseException) -> AttemptFailed:
        """What one of `errors` means.

        Raise it outside of the `except`, so that nothing chains the library's exception to it: aiohttp's errors hold
        the request's headers, and show them, key included.
        """
        where = f"{self.shown} (by way of the environment's proxy)" if self.backend == "proxy" else self.shown
        return transport_failure(exc, where, self._provider, self._timeouts)

    async def aclose(self) -> None:
        """Close all connections; the next request would open new ones."""
        self._carrier = None
        with anyio.CancelScope(shield=True):
            await self._closing.aclose()

    def _open(self) -> Carrier:
        import_httpx()
        import httpx

        # anyio's is what httpcore lets through where it writes on a connection whose end has been read.
        self.errors = (httpx.HTTPError, httpx.InvalidURL, OSError, zlib.error, anyio.EndOfStream)
        url = httpx.URL(self.url)
        try:
            carrier = self._carrier = self._connect(url)
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as exc:
            named = _PROXIES if self.backend == "proxy" else _CERTIFICATES
            problem = f"{self._provider}: the environment names {named} that can't be used: {Redactor()(str(exc))}"
        else:
            self._closing.push_async_callback(carrier.aclose)
            return carrier
        raise ConfigurationError(problem)

    def _connect(self, url: httpx.URL) -> Carrier:
        import httpx

        from lash_provider_kit.growing import GrowingCarrier
        from lash_provider_kit.over_httpx import OverHttpx

        headers = [("host", url.netloc.decode("ascii")), *self._headers.items()]
        times = self._timeouts
        # No pool timeout: without a limit on connections nobody waits for one.
        timeout = {"connect": times.connect_s, "read": times.chunk_s, "write": times.chunk_s, "pool": times.connect_s}
        over_httpx = partial(OverHttpx, url=url, headers=headers, timeout=timeout)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=_KEEPALIVE_S)
        if self._given is not None:
            self.backend = "given"
            return over_httpx(self._given.handle_async_request, self._given)
        if _has_proxy(self.url):
            # httpx itself reads the proxies, and NO_PROXY, from the environment.
            self.backend = "proxy"
            client = httpx.AsyncClient(limits=limits, follow_redirects=False, http2=self._http2)
            if self._http2:
                from lash_provider_kit.http2 import reset_given_up

                reset_given_up(client)
            # Not `client.send`, which writes the URL to the log, query and all.
            return over_httpx(client._transport_for_url(url).handle_async_request, client)
        # Plain HTTP needs no context.
        secure = url.scheme == "https"
        verify = _tls_context(environ.get("SSL_CERT_FILE"), environ.get("SSL_CERT_DIR")) if secure else False
        self.backend = "httpx"
        own = httpx.AsyncHTTPTransport(verify=verify, limits=limits, http2=self._http2)
        if self._http2:
            from lash_provider_kit.http2 import Http2Transport

            over = Http2Transport(own)
            return over_httpx(over.handle_async_request, over)
        carrier = over_httpx(own.handle_async_request, own)
        if _on_asyncio() and find_spec("aiohttp") is not None:
            return GrowingCarrier(carrier, lambda: self._over_aiohttp(verify, url, headers))
        return carrier

    def _over_aiohttp(self, verify: Any, url: httpx.URL, headers: Sequence[tuple[str, str]]) -> Carrier:
        import aiohttp

        from lash_provider_kit.over_aiohttp import UNASKED, OverAiohttp, connector, head_limits

        self.backend = "aiohttp"
        self.errors = (*self.errors, aiohttp.ClientError)
        times = self._timeouts
        # `connect` bounds everything up to the connection, name lookup and TLS included.
        timeout = aiohttp.ClientTimeout(
            total=None, connect=times.connect_s, sock_connect=times.connect_s, sock_read=times.chunk_s
        )

        def session() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=connector(limit=0, ssl=verify, keepalive_timeout=_KEEPALIVE_S),
                timeout=timeout,
                # As httpx's own transports do here: no cookies, no proxy, and what comes is handed on as it is.
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                skip_auto_headers=UNASKED,
                **head_limits(),
            )

        return OverAiohttp(session, url=url, headers=headers, write_s=times.chunk_s)


@cache
def _tls_context(file: str | None, folder: str | None) -> ssl.SSLContext:
    # It takes tens of milliseconds to build, and is the same for all as long as these two say the same: httpx reads
    # them from the environment itself.
    import httpx

    return httpx.create_ssl_context()


def chunks_of(response: Answer) -> AsyncIterator[bytes]:
    """What each network read brought, as it came."""
    stream: Any = response.stream
    return aiter(stream)  # three generators less per read than aiter_raw, which counts and re-chunks


async def close_response(
    response: Answer, chunks: AsyncIterator[bytes], errors: tuple[type[BaseException], ...]
) -> None:
    """Let go of the connection, also when cancelled: an unread answer must not go on being generated and paid for."""
    with anyio.move_on_after(_CLOSE_S, shield=True):
        await response.aclose()
        # Reading on from what is closed ends each of httpcore's nested generators. Closing the outermost one would
        # leave the inner ones to the garbage collector, about which trio rightly complains.
        with suppress(*errors):
            async for _ in chunks:
                pass


def _has_proxy(url: str) -> bool:
    proxies = getproxies()
    return bool(proxies.get(urlsplit(url).scheme) or proxies.get("all"))


def _on_asyncio() -> bool:
    import sniffio

    return sniffio.current_async_library() == "asyncio"
