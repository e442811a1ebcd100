"""What a plugin says of itself, and what it keeps per session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ["HOOK_API", "Examined", "PluginCapability", "PluginInfo", "SessionStateSpec"]

HOOK_API = (0, 3)
"""Version of the hook contract: the second number grows with additions, the first with changes that break plugins."""


class PluginCapability(StrEnum):
    """What a plugin reaches for outside of lash, as its author says it. Nothing here is enforced: it is no sandbox.

    `NETWORK`: it opens connections. `FILESYSTEM`: it reads or writes files. `SUBPROCESS`: it starts programs.
    `SECRETS`: it is given keys or tokens, or reads them.
    """

    NETWORK = "network"
    FILESYSTEM = "filesystem"
    SUBPROCESS = "subprocess"
    SECRETS = "secrets"


def _capabilities(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A set of names that are known."""
    checks.names(instance, attribute, value)
    known = [each.value for each in PluginCapability]
    for name in sorted(value):  # type: ignore[call-overload]  # a set of texts by now
        if name not in known:
            from lash_hookspecs.errors import nearest

            raise ValueError(f"`PluginInfo.capabilities`: `{name}` is none: {nearest(name, known)}")


def _limit(instance: object, attribute: Attribute[Any], value: object) -> None:
    """None, or a number of seconds that is more than nothing."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value is not None and not (is_number and value > 0):  # type: ignore[operator]  # a number by now
        raise ValueError(f"`PluginInfo.hook_limit_s`: {value!r} is no number of seconds; None: without a limit")


@frozen
class Examined:
    """What a plugin found of the machine that it is on; with a remedy if that is less than one could wish."""

    text: str
    remedy: str = ""


@frozen(kw_only=True)
class PluginInfo:
    """A plugin's identity and its relations to others.

    `api` is a PEP 440 specifier that `HOOK_API` must satisfy. `requires` are plugin ids without which it can't work,
    `after` ids (present or not) whose hooks run before its own, `conflicts` ids that can't be on with it, `replaces`
    ids whose claims it takes over. `enabled_by_default`: whether every mode has it, or only modes that name it.
    `options` is a frozen attrs class whose every field has a default: `ctx.options` is an instance of it then, and a
    key in `[plugin.<id>]` that it doesn't have, or a value of another type, is an error that names it. The metadata
    `adds` of a field: it is a list that holds what modes and `lash.toml` say, all of it. `turn_input` is
    the attrs class of what a caller may say to it with a turn (`TurnContext.plugin_inputs`, `ctx.plugin_input`): it is
    stored with the turn's input, under the plugin's id. `capabilities` are `PluginCapability`s, or their names: what
    it reaches for outside of lash, for `lash plugins lock`; its hooks and tools need no declaration. `hook_limit_s`:
    for how many seconds a hook of its may keep a turn or session waiting before it is cancelled, and fails as one that
    raises; None for one that waits for a person, say. It stops no function that doesn't suspend. `examine` is called by
    `lash doctor` with the plugin's options in the mode, and says what it found of this machine.
    """

    id: str
    version: str = "0"
    api: str = ">=0.1,<1"
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    enabled_by_default: bool = True
    summary: str = ""
    options: type | None = field(default=None, validator=checks.optional_class_of_defaults)
    turn_input: type | None = field(default=None, validator=checks.optional_attrs_class)
    capabilities: frozenset[str] = field(default=frozenset(), converter=checks.as_frozenset, validator=_capabilities)
    hook_limit_s: float | None = field(default=600.0, validator=_limit)
    examine: Callable[[Any], Sequence[Examined]] | None = None


@frozen(kw_only=True)
class SessionStateSpec:
    """What a plugin remembers per session: a frozen attrs class whose every field has a default, and its version.

    `migrate(old_version, data)` gets plain data that an older version stored and returns an instance; without it, a
    version mismatch is an error that names the plugin.
    """

    state: type
    version: int = 1
    migrate: Callable[[int, Any], Any] | None = None
