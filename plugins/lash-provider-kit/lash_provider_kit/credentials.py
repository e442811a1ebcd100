"""Credentials that expire: refreshed in time, by one caller for all, and kept before anybody uses them.

How one is refreshed, what it looks like in a header, and where it is kept is the provider's business.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import anyio
from attrs import field

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmCallError, ProviderFailureKind
from lash_hookspecs.values import frozen

__all__ = ["Credential", "CredentialManager", "CredentialRevoked"]

EARLY_S = 300.0
"""So long before it ends a credential is replaced: longer than a call may take to begin."""
_REFRESH_S = 60.0


@frozen(kw_only=True)
class Credential:
    """A secret, and when it ends (seconds since the epoch). No text made of it holds the secrets."""

    secret: str = field(repr=False)
    refresh_secret: str = field(default="", repr=False)
    expires_at: float | None = None

    def __str__(self) -> str:
        return repr(self)


class CredentialRevoked(Exception):
    """The refresh was refused for good (`invalid_grant`): somebody has to log in again. Hold no secret in it."""


async def _kept_by_nobody(credential: Credential) -> None:
    """A credential that lives as long as this process."""


class CredentialManager:
    """One credential, for all callers.

    `refresh` gets the old one and returns its successor; it raises `CredentialRevoked` where that can't ever succeed,
    anything else where it may later. `persist` keeps the new one; until it returns, nobody is given it, since a
    rotated refresh secret that is lost locks its owner out. `wall_clock` in seconds since the epoch.
    """

    def __init__(
        self,
        credential: Credential,
        refresh: Callable[[Credential], Awaitable[Credential]],
        *,
        provider: str,
        persist: Callable[[Credential], Awaitable[None]] = _kept_by_nobody,
        login_hint: str = "log in again",
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._credential = credential
        self._refresh = refresh
        self._provider = provider
        self._persist = persist
        self._login_hint = login_hint
        self._wall_clock = wall_clock
        self._lock = anyio.Lock()
        self._revoked: LlmCallError | None = None

    async def current(self) -> Credential:
        """One that is good for some minutes. Raises `LlmCallFailed` of kind auth where there is none."""
        credential = self._credential
        if not self._ends_within(EARLY_S):
            return credential
        try:
            return await self._successor(credential)
        except LlmCallFailed as failed:
            if failed.error is self._revoked or self._ends_within(0):
                raise
            return credential  # still good, and the next call tries again

    async def refused(self, credential: Credential) -> bool:
        """The service refused this one (401): whether there is another now. Refreshes once, whoever else asks."""
        try:
            return await self._successor(credential) != credential
        except LlmCallFailed as failed:
            if failed.error is self._revoked:
                raise
            return False

    def _ends_within(self, seconds: float) -> bool:
        ends = self._credential.expires_at
        return ends is not None and ends - seconds <= self._wall_clock()

    async def _successor(self, old: Credential) -> Credential:
        async with self._lock:
            if self._credential is not old:  # somebody was quicker
                return self._credential
            if self._revoked is not None:
                raise LlmCallFailed(self._revoked)
            # Not to be cancelled halfway: the service may have replaced the refresh secret already.
            with anyio.CancelScope(shield=True):
                failure = await self._renew(old)
            if failure is not None:
                raise LlmCallFailed(failure)
            return self._credential

    async def _renew(self, old: Credential) -> LlmCallError | None:
        """Refresh, keep and publish; what is wrong otherwise, in words that quote nobody: they might hold a secret."""
        try:
            with anyio.fail_after(_REFRESH_S):
                new = await self._refresh(old)
                await self._persist(new)
        except CredentialRevoked:
            self._revoked = self._failure(f"the credential was revoked: {self._login_hint}", "credential_revoked")
            return self._revoked
        except Exception as exc:
            what = f"the credential couldn't be refreshed ({type(exc).__name__})"
            return self._failure(what, "credential_refresh_failed", retryable=True)
        self._credential = new
        return None

    def _failure(self, message: str, code: str, *, retryable: bool = False) -> LlmCallError:
        text = f"{self._provider}: {message}"
        return LlmCallError(message=text, kind=ProviderFailureKind.AUTH, code=code, retryable=retryable)
