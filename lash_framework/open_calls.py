"""The calls of a batch while it runs: what is known of each, and why some have no result."""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve, field

from lash_framework.call_limits import Slot
from lash_framework.journal_errors import EffectsSuspended
from lash_framework.tool_calls import unseen_call
from lash_framework.tool_hooks import Place
from lash_hookspecs.effect_outcomes import HookRecord
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.tool_interventions import ToolIntervention
from lash_hookspecs.tools import CompletedToolCall, PendingToolCall
from lash_hookspecs.values import mutable

__all__ = ["Ends", "OpenCall"]


@mutable(eq=False)
class OpenCall:
    """A call that runs, or ran: `callers` are the tools above it, `children` the calls that its tool made, by index.
    `may_be_internal`: a tool makes it, of its own.

    `asked` has its arguments as they stand. `raw` is its result before hooks saw it, which `result` follows; `ran` says
    that its tool made it, and `is_live` that it did so now. `found` is what hooks before it did to it, and `hooks` are
    the records of all hooks around it, and around the calls within it. `slot` is its place, if its tool has a limit.
    """

    asked: PendingToolCall
    place: Place
    callers: tuple[str, ...] = ()
    may_be_internal: bool = False
    children: dict[int, OpenCall] = field(factory=dict)
    raw: CompletedToolCall | None = None
    result: CompletedToolCall | None = None
    ran: bool = False
    is_live: bool = False
    found: tuple[ToolIntervention, ...] = ()
    hooks: list[HookRecord] = field(factory=list)
    slot: Slot | None = None

    def settled(self, otherwise: Callable[[PendingToolCall], CompletedToolCall]) -> CompletedToolCall:
        """Its result, with its children's; `otherwise` makes one for each call without."""
        if self.result is None and self.raw is not None:
            return unseen_call(self.raw) if self.ran else self.raw
        return self.result or self.with_children(otherwise(self.asked), otherwise)

    def with_children(
        self, done: CompletedToolCall, otherwise: Callable[[PendingToolCall], CompletedToolCall]
    ) -> CompletedToolCall:
        """The result, and what its children came to."""
        if not self.children:
            return done
        return evolve(done, children=tuple(each.settled(otherwise) for _, each in sorted(self.children.items())))


@mutable(eq=False)
class Ends:
    """Why calls have no result: the boundary broke, refused something, or waits for a person. In this order."""

    broken: list[Exception] = field(factory=list)
    faults: list[EffectControllerError] = field(factory=list)
    waiting: dict[str, str] = field(factory=dict)

    def add(self, error: EffectControllerError | EffectsSuspended) -> None:
        """One more."""
        if isinstance(error, EffectsSuspended):
            self.waiting |= error.waiting
        else:
            self.faults.append(error)

    def pass_on(self) -> None:
        """Raise the first of them, or all that wait."""
        for error in (*self.broken, *self.faults):
            raise error
        if self.waiting:
            raise EffectsSuspended(self.waiting)
