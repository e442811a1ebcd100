"""Typed operations that a host may call on a plugin: queries, commands and tasks, each made of a typed function.

The schemas follow from the hints, as those of tools do: `Action.query`, `Action.command` and `Action.task` say what it
is, the function's parameter besides `ctx` what it takes, and its return what it gives.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, get_type_hints

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.contexts import HookContext, SessionCall
from lash_hookspecs.errors import CapabilityMissing, ConfigurationError
from lash_hookspecs.hook_services import Provide
from lash_hookspecs.values import frozen, mutable

__all__ = [
    "ACTION_SERVICES",
    "Action",
    "ActionCall",
    "ActionContext",
    "ActionKind",
    "ActionProgress",
    "ActionSession",
]


class ActionKind(StrEnum):
    """What an action may do. `QUERY`: it reads. `COMMAND`: it changes something. `TASK`: it does so, and takes long."""

    QUERY = "query"
    COMMAND = "command"
    TASK = "task"


class ActionSession(StrEnum):
    """Whether an action is called on a session."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    FORBIDDEN = "forbidden"


_WRITES = ("sessions", "lifecycle", "graph")
ACTION_SERVICES: Mapping[ActionKind, tuple[str, ...]] = {
    ActionKind.QUERY: ("sessions",),
    ActionKind.COMMAND: _WRITES,
    ActionKind.TASK: _WRITES,
}
"""The services of each kind, by the names that they have at its `ctx`."""


@frozen
class ActionProgress:
    """How far a task has come, in words, and as a part of the whole (from 0 to 1) where that is known."""

    text: str
    done: float | None = None


# ---- what a plugin declares -----------------------------------------------------------------------------------------


@frozen(kw_only=True)
class Action:
    """An operation, made by one of the three constructors, which are decorators too.

    `input` is None for one that takes nothing. Raises `ConfigurationError` for a function whose hints have no schema.
    """

    name: str = field(validator=checks.text)
    kind: ActionKind
    run: Callable[..., Any]
    session: ActionSession
    description: str
    argument: str | None
    input: Any
    output: Any
    input_schema: Mapping[str, Any] = field(repr=False)
    output_schema: Mapping[str, Any] = field(repr=False)
    wants_context: bool = field(repr=False)

    @classmethod
    def query(cls, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """An action that reads. `name` wins over the function's, `session` says whether it needs one (`optional`)."""
        return _made(ActionKind.QUERY, function, options)

    @classmethod
    def command(cls, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """An action that may change the plugin's state, append, and run turns. Options as for `query`."""
        return _made(ActionKind.COMMAND, function, options)

    @classmethod
    def task(cls, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """A command that takes long: it tells its progress, and may be cancelled. Options as for `query`."""
        return _made(ActionKind.TASK, function, options)


def _made(kind: ActionKind, function: Callable[..., Any] | None, options: Mapping[str, Any]) -> Any:
    if unknown := options.keys() - {"name", "session"}:
        raise ConfigurationError(f"`Action.{kind}` has no option `{min(unknown)}`; there are `name` and `session`")
    if function is None:
        return lambda given: _of_function(kind, given, **options)
    return _of_function(kind, function, **options)


def _of_function(
    kind: ActionKind, function: Callable[..., Any], name: str | None = None, session: ActionSession | str = "optional"
) -> Action:
    from lash_hookspecs.toolkit import json_schema  # it is only needed where there are actions

    name = name or function.__name__
    try:
        hints = get_type_hints(function)
    except NameError as error:
        text = f"action `{name}`: an annotation can't be resolved: {error}; define it at the top of the module"
        raise ConfigurationError(text) from error
    arguments = [each for each in inspect.signature(function).parameters if each != "ctx"]
    if len(arguments) > 1:
        raise ConfigurationError(f"action `{name}` takes {', '.join(arguments)}: put them into one attrs class")
    argument = arguments[0] if arguments else None
    if argument is not None and argument not in hints:
        raise ConfigurationError(f"action `{name}`: parameter `{argument}` has no type")
    tp, output = hints.get(argument, type(None)) if argument else None, hints.get("return", type(None))
    try:
        schemas = json_schema(type(None) if argument is None else tp), json_schema(output)
        session = ActionSession(session)
    except (ConfigurationError, ValueError) as error:
        raise ConfigurationError(f"action `{name}`: {error}") from error
    return Action(
        name=name,
        kind=kind,
        run=function,
        session=session,
        description=inspect.cleandoc(function.__doc__ or "").partition("\n\n")[0],
        argument=argument,
        input=tp,
        output=output,
        input_schema=schemas[0],
        output_schema=schemas[1],
        wants_context="ctx" in inspect.signature(function).parameters,
    )


# ---- what it is told ------------------------------------------------------------------------------------------------


@mutable(kw_only=True, eq=False)
class ActionCall(SessionCall):
    """One call of an action. `session_id` is empty where it is called on none."""

    kind: ActionKind
    name: str
    tell: Callable[[ActionProgress], None]
    provide: Provide


class ActionContext(HookContext):
    """For the functions of actions. `set_state` is for commands and tasks, and counts when the action returns."""

    __slots__ = ()
    _call: ActionCall

    @property
    def session_id(self) -> str | None:
        """The session that it is called on, if it is."""
        return self._call.session_id or None

    @property
    def turn_index(self) -> int:
        """How many turns were committed on that session before."""
        return self._call.turn_index

    def progress(self, text: str, done: float | None = None) -> None:
        """Tell the caller how far a task has come. Nothing happens where nobody listens."""
        self._call.tell(ActionProgress(text, done))

    def _service(self, name: str) -> Any:
        kind = self._call.kind
        if name not in ACTION_SERVICES[kind]:
            there = ", ".join(f"`ctx.{each}`" for each in ACTION_SERVICES[kind])
            raise CapabilityMissing(f"`ctx.{name}` is unavailable in a {kind}; it has {there}")
        return self._call.provide(name, self._call.hook, self.plugin_id)
