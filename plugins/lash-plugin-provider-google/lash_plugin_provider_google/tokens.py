"""Bearer tokens that a command prints: asked for at the first call, and again when the service refuses one."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import NoReturn

import anyio

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import ProviderFailureKind
from lash_plugin_provider_google.wire import CHECKS
from lash_provider_kit.credentials import Credential, CredentialManager

__all__ = ["tokens_of"]

_COMMAND_S = 30.0


def tokens_of(command: str, provider_id: str, wall_clock: Callable[[], float]) -> CredentialManager | None:
    """What a command prints, if there is one; raises `ConfigurationError` for one that can't be read."""
    setting = f"provider.{provider_id}.token_command"
    try:
        words = shlex.split(command)
    except ValueError as exc:
        raise ConfigurationError(f"`{setting}` can't be read: {exc}") from None
    if not words:
        return None

    async def renewed(_: Credential) -> Credential:
        return Credential(secret=await _printed(words, setting))

    # The first one is over before anybody could use it.
    return CredentialManager(
        Credential(secret="", expires_at=0.0), renewed, provider=provider_id, wall_clock=wall_clock
    )


async def _printed(command: list[str], setting: str) -> str:
    def fail(why: str) -> NoReturn:
        CHECKS.refuse(f"the command in `{setting}` {why}", "token_command_failed", ProviderFailureKind.AUTH)

    done: CompletedProcess[bytes] | None = None
    try:
        with anyio.move_on_after(_COMMAND_S):
            done = await anyio.run_process(command, check=False)
    except OSError as exc:
        fail(f"can't be run: {exc.strerror or exc}")
    if done is None:
        fail(f"didn't end within {_COMMAND_S:g} s")
    if done.returncode:
        # What it said isn't quoted: it may have said a secret. Nor is what it printed.
        fail(f"ended with {done.returncode}: run it by hand to see why")
    token = done.stdout.decode("utf-8", "replace").strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        fail("printed no token")
    return token
