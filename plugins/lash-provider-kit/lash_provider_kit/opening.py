"""A provider from its settings: headers, the service that is called, and whether it may be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lash_hookspecs.errors import ConfigurationError
from lash_provider_kit.limiter import RateLimiter, RateLimits
from lash_provider_kit.redact import checked_header, is_loopback, without_query
from lash_provider_kit.retry import RetryPolicy
from lash_provider_kit.service import StreamingService
from lash_provider_kit.settings import CallSettings
from lash_provider_kit.transport import Timeouts

__all__ = ["CallGate", "headers_of", "service_of"]


def headers_of(settings: CallSettings, provider_id: str, own: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The headers of every request: a wire's `own`, each from (setting, value) if there is one, and the user's.

    What stands in `authorization` is a bearer's. Raises `ConfigurationError` for a value that no header may have.
    """
    headers = {"content-type": "application/json", "user-agent": "lash"}
    for name, (setting, value) in own.items():
        if value := checked_header(name, value, f"provider.{provider_id}.{setting}"):
            headers[name] = f"Bearer {value}" if name == "authorization" else value
    for name, value in settings.headers.items():
        headers[name.lower()] = checked_header(name, value, f"provider.{provider_id}.headers")
    return headers


def service_of(settings: CallSettings, *, secrets: Iterable[str], **options: Any) -> StreamingService:
    """The service that settings mean; the values of the user's headers are secrets as well."""
    limits = RateLimits(
        concurrent=settings.max_concurrent, requests=settings.requests_per_minute, tokens=settings.tokens_per_minute
    )
    return StreamingService(
        secrets=[*secrets, *settings.headers.values()],
        timeouts=Timeouts(
            connect_s=settings.connect_timeout_s, chunk_s=settings.chunk_timeout_s, deadline_s=settings.deadline_s
        ),
        retry=RetryPolicy(mode=settings.retry, max_attempts=settings.max_attempts),
        capture=settings.capture_requests,
        limiter=None if limits == RateLimits() else RateLimiter(limits),
        http2=settings.http2,
        **options,
    )


class CallGate:
    """Stops calls that nobody allowed, or that lack a key: `missing` says what isn't there, `hint` what to do.

    A service on this machine costs nothing, nor does a `transport` of a test.
    """

    def __init__(
        self, provider_id: str, url: str, *, live_calls_allowed: bool, transport: object, missing: str, hint: str
    ) -> None:
        where = without_query(url)  # some gateways want their key there
        self._problem = ""
        if not (live_calls_allowed or is_loopback(url) or transport is not None):
            self._problem = (
                f"{provider_id}: a call to {where} may cost money, and live calls aren't allowed here "
                "(`live_calls_allowed` is false, as in tests): set `LASH_ALLOW_LIVE_CALLS=1` if that is meant, or use "
                "a service on this machine, or `scripted:demo`"
            )
        elif missing:
            self._problem = f"{provider_id}: there is no {missing} for {where}: {hint}"

    def check(self) -> None:
        """Raise `ConfigurationError`: it is the user's to mend before anything is asked, and no failed turn."""
        if self._problem:
            raise ConfigurationError(self._problem)
