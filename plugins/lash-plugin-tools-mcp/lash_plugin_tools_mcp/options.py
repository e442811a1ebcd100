"""What `[plugin.tools-mcp]` in `lash.toml` may say, and what of it is secret."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from attrs import field, fields

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.option_checks import above
from lash_hookspecs.tools import ToolEffect
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ["Auth", "McpOptions", "ServerOptions", "expanded", "secrets_of"]

Asking = Literal["off", "ask"]

# Without `__`, and without `_` at its ends: so `mcp__NAME__tool` says of which server it is, whatever the tool's name.
_SERVER_NAME = re.compile(r"[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*")
LONGEST_NAME = 24

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SECRET_WORDS = ("key", "token", "secret", "password", "passwd", "auth", "credential")
SHORTEST_SECRET = 6
"""What is shorter could be any word: replacing it would spoil texts and hide nothing."""


def _effects(instance: object, attribute: Attribute[Any], value: Mapping[str, str]) -> None:
    known = [each.value for each in ToolEffect]
    for pattern, effect in value.items():
        if effect not in known:
            raise ValueError(f"`effects` says `{effect}` of `{pattern}`: it must be one of {', '.join(known)}")


@frozen(kw_only=True)
class Auth:
    """How to be let in by an HTTP server: a bearer token, or OAuth's client credentials at an `issuer`."""

    bearer: str = field(default="", repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    scopes: tuple[str, ...] = ()
    issuer: str = ""

    def __attrs_post_init__(self) -> None:
        if self.bearer and self.client_id:
            raise ValueError("`auth` has a `bearer` and a `client_id`: give one of them")
        if len({bool(self.client_id), bool(self.client_secret), bool(self.issuer)}) > 1:
            raise ValueError("`auth` needs `client_id`, `client_secret` and `issuer` together")


@frozen(kw_only=True)
class ServerOptions:
    """One server: `command` for one on stdio, or `url` for one of streamable HTTP. All times in seconds.

    In `args`, `env`, `cwd`, `url`, `headers` and `auth`, `${NAME}` stands for a variable of the environment.
    """

    command: str = ""
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(factory=dict, repr=False)
    cwd: str = ""
    url: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(factory=dict, repr=False)
    auth: Auth = Auth()
    enabled: bool = True
    tools: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    effect: Literal["pure", "idempotent", "unsafe"] = "unsafe"
    effects: Mapping[str, str] = field(factory=dict, validator=_effects)
    deferred: bool = False
    images: bool = True
    resources: bool = False
    prompts: bool = False
    roots: tuple[str, ...] = ()
    elicitation: Asking = "off"
    sampling: Literal["off", "ask", "allow"] = "off"
    max_samples: int = field(default=8, validator=above(0))
    max_sample_tokens: int = field(default=32_000, validator=above(0))
    protocol: Literal["auto", "legacy"] = "auto"
    wait_s: float = field(default=10.0, validator=above(0))
    start_timeout_s: float = field(default=60.0, validator=above(0))
    idle_timeout_s: float = field(default=60.0, validator=above(0))
    total_timeout_s: float = field(default=600.0, validator=above(0))
    max_message_bytes: int = field(default=16 * 1024 * 1024, validator=above(0))
    max_tools: int = field(default=128, validator=above(0))
    max_description_chars: int = field(default=2000, validator=above(0))

    def __attrs_post_init__(self) -> None:
        if self.command and self.url:
            raise ValueError("it has a `command` and a `url`: give `command` for a server to start, or `url`")
        foreign = (self.headers or self.auth != Auth()) if self.command else (self.args or self.env or self.cwd)
        if self.command and foreign:
            raise ValueError("`headers` and `auth` are for a `url`, and it has a `command`")
        if self.url and foreign:
            raise ValueError("`args`, `env` and `cwd` are for a `command`, and it has a `url`")
        if self.url and not self.url.startswith(("http://", "https://", "${")):
            raise ValueError("its `url` must begin with http:// or https://")

    def offers(self, tool: str) -> bool:
        """Whether a tool of this name is wanted."""
        return any(fnmatchcase(tool, each) for each in self.tools) and not any(
            fnmatchcase(tool, each) for each in self.exclude
        )

    def effect_of(self, tool: str) -> ToolEffect:
        """What repeating a call of it does; the first pattern that fits says it."""
        return ToolEffect(next((said for name, said in self.effects.items() if fnmatchcase(tool, name)), self.effect))

    @property
    def asks(self) -> bool:
        """Whether a person may have to answer in the middle of a call."""
        return self.elicitation == "ask" or self.sampling == "ask"


def _servers(instance: object, attribute: Attribute[Any], value: Mapping[str, ServerOptions]) -> None:
    for name, server in value.items():
        if not _SERVER_NAME.fullmatch(name) or len(name) > LONGEST_NAME:
            text = f"letters and digits, in groups with one `_` or `-` between, and at most {LONGEST_NAME} of all"
            raise ValueError(f"a server can't be named `{name}`: use {text}")
        if not server.command and not server.url:
            raise ValueError(f"server `{name}` has neither `command` nor `url`: give one of them")


@frozen(kw_only=True)
class McpOptions:
    """The servers, by names that go into the names of their tools."""

    servers: Mapping[str, ServerOptions] = field(factory=dict, validator=_servers)


# ---- the environment ------------------------------------------------------------------------------------------------


def expanded(text: str, environ: Mapping[str, str] | None = None) -> str:
    """The text with its `${NAME}`s replaced. Raises `ConfigurationError`, without a value, for one that isn't set."""
    env = os.environ if environ is None else environ

    def value(match: re.Match[str]) -> str:
        if match[1] not in env:
            raise ConfigurationError(f"the environment has no `{match[1]}`: set it, or take `${{{match[1]}}}` out")
        return env[match[1]]

    return _VARIABLE.sub(value, text)


def secrets_of(server: ServerOptions, environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """What must be shown nowhere, the longest first: whatever came from the environment, headers, and keys in `env`."""
    env = os.environ if environ is None else environ
    found = {env[name] for text in _texts(server) for name in _VARIABLE.findall(text) if name in env}
    hidden = [*server.headers.values(), server.auth.bearer, server.auth.client_secret]
    hidden += [value for name, value in server.env.items() if any(word in name.lower() for word in _SECRET_WORDS)]
    for text in hidden:
        whole = _VARIABLE.sub(lambda match: env.get(match[1], ""), text)
        found |= {whole, whole.rpartition(" ")[2]}  # `Bearer abc`: the second word is the secret
    return tuple(sorted((each for each in found if len(each) >= SHORTEST_SECRET), key=len, reverse=True))


def _texts(server: ServerOptions) -> Iterator[str]:
    for each in fields(ServerOptions):
        value = getattr(server, each.name)
        if each.name == "auth":
            yield from (server.auth.bearer, server.auth.client_id, server.auth.client_secret)
        elif isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from value.values()
        elif isinstance(value, tuple):
            yield from value
