"""The one place where connections are made: it looks a name up once, judges the answer, and connects to just that.

Between a check and a connection that looks the name up again, the name's owner may change the answer (DNS rebinding).
Here nobody looks it up again. TLS and the header `Host` keep the name.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

import anyio
import httpcore

from lash_hookspecs.tools import ToolFailureClass
from lash_plugin_tools_web.addresses import Address, why_not
from lash_plugin_tools_web.errors import FetchFailed, Refused
from lash_plugin_tools_web.options import WebOptions

__all__ = ["GuardedBackend", "Resolve", "resolve", "tls_context"]

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""From a host's name and a port to the addresses that it has, as texts. Raises `OSError`."""

_MOST = 8  # addresses of a name that are tried
_STEP = 16 * 1024
"""So much is read at once: all of it is taken apart without a pause, and 64 KiB may be ten thousand pieces."""

_BESIDE = 1024 * 1024  # headers and the like


async def resolve(host: str, port: int) -> Sequence[str]:
    """As the machine does."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def tls_context() -> ssl.SSLContext:
    """Trusts what certifi does, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` say, as OpenSSL reads them."""
    from os import environ

    if environ.get("SSL_CERT_FILE") or environ.get("SSL_CERT_DIR"):
        return ssl.create_default_context()
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Connects to public addresses, and to those that the options allow. Proxies of the environment aren't used."""

    def __init__(self, options: WebOptions, resolve: Resolve = resolve) -> None:
        self._ports = frozenset(options.ports)
        self._hosts = frozenset(options.allow_hosts)
        self._networks = [ip_network(each) for each in options.allow_networks]
        self._resolve = resolve
        self._inner = httpcore.AnyIOBackend()
        self._most = 2 * options.max_bytes + _BESIDE

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Look up, judge, connect, and see that it is where it was to go. Raises `Refused`, `FetchFailed`."""
        if self._ports and port not in self._ports:
            listed = ", ".join(map(str, sorted(self._ports)))
            raise Refused("port", f"port {port} isn't asked here; allowed: {listed}")
        addresses = await self._addresses(host, port)
        share = None if timeout is None else timeout / len(addresses)
        failure: Exception | None = None
        for address in addresses:
            try:
                stream = await self._inner.connect_tcp(str(address), port, timeout=share)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
                continue
            peer = stream.get_extra_info("server_addr")
            if peer is None or ip_address(peer[0]) != address:
                await stream.aclose()
                raise Refused("address", f"the connection to {host} went elsewhere")
            return _Bounded(stream, self._most)
        assert failure is not None  # there is at least one address
        raise failure

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's interface
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never: no URL names one."""
        raise Refused("address", "sockets of this machine aren't asked")

    async def sleep(self, seconds: float) -> None:
        """As anyio does."""
        await anyio.sleep(seconds)

    async def _addresses(self, host: str, port: int) -> list[Address]:
        """All addresses of a host, or none: one that is no public one spoils the rest."""
        try:
            found = [ip_address(host)]
        except ValueError:
            try:
                found = [ip_address(each) for each in await self._resolve(host, port)]
            except (OSError, UnicodeError) as error:
                again = getattr(error, "errno", None) == socket.EAI_AGAIN
                text = f"no address was found for {host}"
                raise FetchFailed("unknown_host", text, kind=ToolFailureClass.UNAVAILABLE, again=again) from None
            except ValueError:
                raise Refused("address", f"the address of {host} can't be read") from None
        if not found:
            raise FetchFailed("unknown_host", f"no address was found for {host}", kind=ToolFailureClass.UNAVAILABLE)
        for each in found:
            reason = why_not(each, self._networks, is_allowed_host=host in self._hosts)
            if reason is not None:
                raise Refused("address", f"{host} isn't on the public web: its address is {reason}")
        return found[:_MOST]


class _Bounded(httpcore.AsyncNetworkStream):
    """A connection of which only so many bytes are read, a few at a time, whatever they turn out to be."""

    def __init__(self, inner: httpcore.AsyncNetworkStream, most: int) -> None:
        self._inner = inner
        self._left = most

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - as above
        """The next ones. Raises `RemoteProtocolError` beyond the limit."""
        data = await self._inner.read(min(max_bytes, _STEP), timeout)
        self._left -= len(data)
        if self._left < 0:
            raise httpcore.RemoteProtocolError("more was sent than any answer has")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        """As it is."""
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close it."""
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
    ) -> httpcore.AsyncNetworkStream:
        """The same with TLS."""
        return _Bounded(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._left)

    def get_extra_info(self, info: str) -> Any:
        """As it is."""
        return self._inner.get_extra_info(info)
