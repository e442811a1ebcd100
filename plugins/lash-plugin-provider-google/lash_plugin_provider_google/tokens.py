"""Bearer tokens: one that was given, or what a command prints, asked again when the service refuses it."""

from __future__ import annotations

import shlex
from subprocess import CompletedProcess
from typing import NoReturn

import anyio

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import ProviderFailureKind
from lash_plugin_provider_google.wire import refuse
from lash_provider_kit.redact import checked_header

__all__ = ["BearerTokens"]

_COMMAND_S = 30.0
_SHOWN = 300


class BearerTokens:
    """The token of the moment. However many calls find it refused, the command runs once."""

    def __init__(self, token: str, command: str, prefix: str) -> None:
        self._token = checked_header("authorization", token, f"{prefix}.access_token")
        try:
            self._command = shlex.split(command)
        except ValueError as exc:
            raise ConfigurationError(f"`{prefix}.token_command` can't be read: {exc}") from None
        self._setting = f"{prefix}.token_command"
        self._lock: anyio.Lock | None = None

    def __bool__(self) -> bool:
        return bool(self._token or self._command)

    async def current(self) -> str:
        """The token to send; raises `LlmCallFailed` where the command fails."""
        return self._token or await self.after("")

    async def after(self, refused: str) -> str:
        """A token other than the refused one, or the same where there is no other."""
        if not self._command:
            return self._token
        self._lock = self._lock or anyio.Lock()
        async with self._lock:
            if self._token == refused:
                self._token = await self._ask()
            return self._token

    async def _ask(self) -> str:
        done: CompletedProcess[bytes] | None = None
        try:
            with anyio.move_on_after(_COMMAND_S):
                done = await anyio.run_process(self._command, check=False)
        except OSError as exc:
            self._fail(f"can't be run: {exc.strerror or exc}")
        if done is None:
            self._fail(f"didn't end within {_COMMAND_S:g} s")
        if done.returncode:
            said = " ".join(done.stderr.decode("utf-8", "replace").split())[:_SHOWN]
            self._fail(f"ended with {done.returncode}: {said}")
        token = done.stdout.decode("utf-8", "replace").strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            self._fail("printed no token")  # not quoted: it may be one, and something else besides
        return token

    def _fail(self, why: str) -> NoReturn:
        refuse(f"the command in `{self._setting}` {why}", "token_command_failed", ProviderFailureKind.AUTH)
