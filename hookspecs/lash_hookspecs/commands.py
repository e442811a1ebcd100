"""Commands that plugins add to the command line, declared so that nothing of them is imported until one is run."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ["CommandContext", "CommandSpec"]

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def _name(_: object, attribute: Attribute[str], value: str) -> None:
    if not isinstance(value, str) or _NAME.fullmatch(value) is None:
        raise ValueError(f"`{attribute.name}` must be lower case letters, digits and single hyphens, not `{value}`")


def _target(_: object, attribute: Attribute[str], value: str) -> None:
    if not isinstance(value, str) or _TARGET.fullmatch(value) is None:
        raise ValueError(f"`{attribute.name}` must be `package.module:object`, not `{value}`")


@frozen(kw_only=True)
class CommandSpec:
    """`lash NAME …`. `target` says where its click command (or group) is: `package.module:object`.

    `help` is its line in `lash --help`, for which `target` isn't imported. The command gets a `CommandContext` as its
    object: `@click.pass_obj`.
    """

    name: str = field(validator=_name)
    target: str = field(validator=_target)
    help: str = field(validator=checks.text)


@frozen(kw_only=True)
class CommandContext:
    """What a plugin's command may use: its plugin's options, and an open host if it wants one.

    `async with ctx.open() as lash` opens a `Lash` with the settings of `lash.toml` and the environment, under those
    that are given: `store`, `model`, `mode` and what else `Lash.open` takes.
    """

    plugin_id: str
    options: Any
    open: Callable[..., AbstractAsyncContextManager[Any]]
