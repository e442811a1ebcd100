"""Validators for plugins' options: a bad value is refused with the option, the value, and what to use instead.

Whoever reads options adds the plugin, and where it was said. None passes: an option that may be left out has no limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ["OptionCheck", "above", "at_least", "between"]

OptionCheck = Callable[[Any, "Attribute[Any]", Any], None]


def above(limit: float) -> OptionCheck:
    """A number above the limit."""
    return _checked(lambda value: value > limit, f"a number above {limit}")


def at_least(limit: float) -> OptionCheck:
    """A number of at least the limit."""
    return _checked(lambda value: value >= limit, f"a number of at least {limit}")


def between(least: float, most: float) -> OptionCheck:
    """A number from one to the other, both of them among it."""
    return _checked(lambda value: least <= value <= most, f"a number from {least} to {most}")


def _checked(fits: Callable[[float], bool], wanted: str) -> OptionCheck:
    def check(_: object, attribute: Attribute[Any], value: float | None) -> None:
        if value is not None and not fits(value):  # NaN fits nowhere
            raise ValueError(f"`{attribute.name}` is {value}: use {wanted}")

    return check
