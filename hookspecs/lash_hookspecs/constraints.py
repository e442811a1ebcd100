"""What `Annotated` may say of a tool's parameter or a class's field: `Annotated[int, Ge(1), "how many"]`.

Text is a description. What else has one of these attributes, such as the classes of `annotated-types`, works as well.
"""

from __future__ import annotations

from lash_hookspecs.values import frozen

__all__ = ["Ge", "Gt", "Le", "Lt", "MaxLen", "MinLen", "MultipleOf", "Pattern"]


@frozen
class Ge:
    """A number of at least `ge`."""

    ge: float


@frozen
class Gt:
    """A number above `gt`."""

    gt: float


@frozen
class Le:
    """A number of at most `le`."""

    le: float


@frozen
class Lt:
    """A number below `lt`."""

    lt: float


@frozen
class MultipleOf:
    """A number that is a multiple of `multiple_of`."""

    multiple_of: float


@frozen
class MinLen:
    """Text of at least so many characters, a list or an object of at least so many entries."""

    min_length: int


@frozen
class MaxLen:
    """Text of at most so many characters, a list or an object of at most so many entries."""

    max_length: int


@frozen
class Pattern:
    """Text in which the regular expression is found; anchor it with `^` and `$` if the whole text must match."""

    pattern: str
