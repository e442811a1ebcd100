"""Arguments that a caller gives: their names and types, checked before anything else happens. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lash_framework.settings import Settings
from lash_hookspecs.costs import Budget
from lash_hookspecs.errors import ConfigurationError, nearest
from lash_hookspecs.inbox import Ingress
from lash_hookspecs.llm import GenerationOptions
from lash_hookspecs.values import frozen

__all__ = [
    "ENQUEUED_WITH",
    "KEY",
    "OPENED_WITH",
    "SESSION_ID",
    "SESSION_WITH",
    "TURN_ID",
    "TURN_WITH",
    "Said",
    "budget_of",
    "check_arguments",
    "check_given",
    "shown",
]

Expected = tuple[type | tuple[type, ...], str]
"""The class of an argument, and how to say it."""

_SAID: Mapping[str, Expected] = {
    "model": (str, "text, `provider:name`"),
    "mode": (str, "a mode's name"),
    "instructions": (str, "text"),
    "max_turns": (int, "a whole number"),
}
_SPENT: Mapping[str, Expected] = {
    "max_cost": ((int, float), "a number of US dollars"),
    "max_tokens": (int, "a whole number"),
}
_LEAST = {"max_turns": 1, "max_tokens": 0}
OPENED_WITH: Mapping[str, Expected] = {
    **_SAID,
    **_SPENT,
    "store": (str, "a URL, such as `sqlite:///agent.db`"),
    "tools": (Iterable, "a list of tools and functions"),
    "plugins": (Iterable, "a list of objects with hooks"),
    "settings": (Settings, "a `Settings`, as from `load_settings()`"),
    "config": ((str, Path), "the path of a settings file"),
    "effects": (str, "`journal`, `inline`, or the id of a plugin's effect host"),
    "require_durable": (bool, "True or False"),
}
SESSION_WITH: Mapping[str, Expected] = {
    **_SAID,
    "session_id": (str, "text"),
    "generation": (GenerationOptions, "a `GenerationOptions(…)`"),
    "budget": (Budget, "a `Budget(…)`"),
    "recover": (bool, "True or False"),
}
TURN_WITH: Mapping[str, Expected] = {
    "turn_id": (str, "text"),
    "output": (type, "an attrs class"),
    "generation": (GenerationOptions, "a `GenerationOptions(…)`"),
    **_SPENT,
    "deadline_s": ((int, float), "a number of seconds"),
    "wait": (bool, "True or False"),
}
ENQUEUED_WITH: Mapping[str, Expected] = {
    "ingress": (Ingress, "an `Ingress`, such as `Ingress.NEXT_TURN`"),
    "source_key": (str, "text"),
}
TURN_ID: Expected = (str, "text, such as `turn.turn_id`")
SESSION_ID: Expected = (str, "text, such as `session.id`")
KEY: Expected = (str, "text, such as `pending_call.key`")


@frozen(kw_only=True)
class Said:
    """What a caller of `Lash.session` gave; None is nothing."""

    fields: Mapping[str, Any]
    instructions: str | None
    generation: GenerationOptions | None
    budget: Budget | None
    extension: object

    @property
    def names(self) -> frozenset[str]:
        """The policy's fields that it is about."""
        told = {**self.fields, "generation": self.generation, "prompt": self.instructions, "extension": self.extension}
        told["budget"] = self.budget
        return frozenset(name for name, value in told.items() if value is not None)


def check_arguments(given: Mapping[str, Any], expected: Mapping[str, Expected], *, where: str) -> None:
    """Raise `ConfigurationError` for a name that isn't expected, or a value that can't be; None is no value."""
    for name, value in given.items():
        if name not in expected:
            raise ConfigurationError(f"`{where}` has no option `{name}`: {nearest(name, expected)}")
        classes, words = expected[name]
        fits = isinstance(value, classes) and (not isinstance(value, bool) or classes is bool)  # True is an int, too
        if value is not None and not fits:
            raise ConfigurationError(f"`{where}`: `{name}` is {shown(value)}; expected is {words}")
        if (fault := _unstorable(value, classes)) is not None:
            raise ConfigurationError(f"`{where}`: `{name}` is {shown(value)}, which nothing can store: {fault}")
        if (least := _LEAST.get(name)) is not None and value is not None and value < least:
            raise ConfigurationError(f"`{where}`: `{name}` is `{value}`; expected is at least {least}")


def check_given(what: str, value: object, expected: Expected) -> None:
    """Raise `ConfigurationError` for what must be given and isn't, or can't be."""
    if not isinstance(value, expected[0]):
        raise ConfigurationError(f"{what} is {shown(value)}; expected is {expected[1]}")


def _unstorable(value: object, classes: type | tuple[type, ...]) -> str | None:
    """Why no store takes it; None if one does."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return f"half of a surrogate pair at character {error.start}"
    if classes is int and isinstance(value, int) and not -(2**63) <= value < 2**64:
        return "it has more than 64 bits"
    return None


def budget_of(where: str, max_cost: float | None, max_tokens: int | None) -> Budget | None:
    """A turn's limits as a caller gave them; None: none. Raises `ConfigurationError`."""
    if max_cost is None and max_tokens is None:
        return None
    try:
        return Budget(max_cost=max_cost, max_tokens=max_tokens)
    except ValueError as error:
        raise ConfigurationError(f"`{where}`: {error}") from None


def shown(value: object) -> str:
    """A value and its class, for people."""
    text = repr(value)
    return f"`{text if len(text) <= 80 else text[:79] + '…'}`, a `{type(value).__name__}`"
