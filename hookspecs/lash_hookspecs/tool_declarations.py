"""What a tool declares of its calls besides their effect: may they be made again, and what of an output matters."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Union

from lash_hookspecs.values import frozen

__all__ = [
    "OutputEnd",
    "RetryIdempotent",
    "RetryNever",
    "RetrySafe",
    "ToolRetry",
    "ToolRetryExhausted",
    "ToolRetryNever",
    "ToolRetryPolicy",
    "ToolRetrySafe",
]


class OutputEnd(StrEnum):
    """Which end of a long output says the most: `HEAD` of a page or a listing, `TAIL` of what a command printed.

    `BOTH`: where it begins and how it ends.
    """

    HEAD = "head"
    TAIL = "tail"
    BOTH = "both"


@frozen
class RetryNever:
    """A call that failed is not made again by itself."""

    tag: ClassVar[str] = "never"


@frozen(kw_only=True)
class RetrySafe:
    """A call is made again where its own failure says that this is safe (`ToolRetrySafe`).

    `max_attempts` counts the first one; the delays grow from `base_delay_ms` to `max_delay_ms`.
    """

    tag: ClassVar[str] = "safe"
    max_attempts: int = 3
    base_delay_ms: int = 500
    max_delay_ms: int = 30_000


@frozen(kw_only=True)
class RetryIdempotent:
    """A call is made again after any failure of the world (not of its arguments), since repeating it does no harm.

    For `pure` and `idempotent` tools only. The numbers are those of `RetrySafe`.
    """

    tag: ClassVar[str] = "idempotent"
    max_attempts: int = 3
    base_delay_ms: int = 500
    max_delay_ms: int = 30_000


ToolRetryPolicy = Union[RetryNever, RetrySafe, RetryIdempotent]


# ---- what a failure says --------------------------------------------------------------------------------------------


@frozen
class ToolRetryNever:
    """The same call must not be made again by itself."""

    tag: ClassVar[str] = "never"


@frozen
class ToolRetrySafe:
    """The same call may be made again, after `after_ms` milliseconds where given."""

    tag: ClassVar[str] = "safe"
    after_ms: int | None = None


@frozen
class ToolRetryExhausted:
    """It was tried `attempts` times."""

    tag: ClassVar[str] = "exhausted"
    attempts: int


ToolRetry = Union[ToolRetryNever, ToolRetrySafe, ToolRetryExhausted]
