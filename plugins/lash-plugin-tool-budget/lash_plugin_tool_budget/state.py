"""What the plugin is told, and what it remembers. Imported whenever plugins are looked for: light."""

from __future__ import annotations

from attrs import field

from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.option_checks import at_least
from lash_hookspecs.values import frozen

__all__ = ["BudgetOptions", "Output", "Outputs"]

BYTES_PER_TOKEN = 4
"""About; a tokenizer would know better, and every model has another one."""


@frozen(kw_only=True)
class BudgetOptions:
    """What is shown of a result: so many `bytes` and `lines`, whichever are fewer; `tokens` stand for bytes.

    `remember`: how many cut outputs of a session can be read, the latest ones.
    """

    bytes: int = field(default=16 * 1024, validator=at_least(0))
    lines: int = field(default=400, validator=at_least(0))
    tokens: int | None = field(default=None, validator=at_least(0))
    remember: int = field(default=100, validator=at_least(0))

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
