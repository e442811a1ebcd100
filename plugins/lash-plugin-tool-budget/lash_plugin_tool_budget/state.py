"""What the plugin is told, and what it remembers. Imported whenever plugins are looked for: light."""

from __future__ import annotations

from typing import Any

from attrs import Attribute, field

from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.values import frozen

__all__ = ["BudgetOptions", "Output", "Outputs"]

BYTES_PER_TOKEN = 4
"""About; a tokenizer would know better, and every model has another one."""


def _not_negative(instance: object, attribute: Attribute[Any], value: int | None) -> None:
    if value is not None and value < 0:
        raise ValueError(f"`{attribute.name}` must be at least 0, and is {value}")


@frozen(kw_only=True)
class BudgetOptions:
    """What is shown of a result: so many `bytes` and `lines`, whichever are fewer; `tokens` stand for bytes.

    `remember`: how many cut outputs of a session can be read, the latest ones.
    """

    bytes: int = field(default=16 * 1024, validator=_not_negative)
    lines: int = field(default=400, validator=_not_negative)
    tokens: int | None = field(default=None, validator=_not_negative)
    remember: int = field(default=100, validator=_not_negative)

    @property
    def size(self) -> int:
        """In bytes."""
        return self.bytes if self.tokens is None else self.tokens * BYTES_PER_TOKEN


@frozen
class Output:
    """A text that was cut: its name, and where all of it is."""

    name: str
    text: AttachmentRef


@frozen(kw_only=True)
class Outputs:
    """The latest ones, and how many there were."""

    count: int = 0
    latest: tuple[Output, ...] = ()
