"""How a plugin offers a place where effects are executed and recorded, such as an engine for durable execution."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.contexts import HostContext
from lash_hookspecs.effects import EffectHost
from lash_hookspecs.values import frozen

__all__ = ["EffectHostSpec"]


@frozen(kw_only=True)
class EffectHostSpec:
    """An effect host that a plugin offers under `host_id`, which a user names in `durability.effects`.

    `open` is entered when a host with that setting starts, and left when it closes; nothing is opened before. `durable`
    says that an effect's outcome outlives the process, so that a turn which is run again under its id is answered from
    there. One that isn't is refused by `Lash.open(require_durable=True)`.
    """

    host_id: str = field(validator=checks.text)
    open: Callable[[HostContext], AbstractAsyncContextManager[EffectHost]]
    durable: bool = field(default=False, validator=checks.flag)
    summary: str = ""
