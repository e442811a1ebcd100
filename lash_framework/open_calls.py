"""The calls of a batch while it runs: what is known of each, and why some have no result."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from attrs import evolve, field

from lash_framework.call_limits import Slot
from lash_framework.journal_errors import EffectsSuspended
from lash_framework.tool_calls import unseen_call, with_note
from lash_framework.tool_hooks import CallPlace
from lash_hookspecs.effect_outcomes import HookRecord
from lash_hookspecs.effects import child_key
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.questions import PersonQuestion
from lash_hookspecs.tool_interventions import ToolIntervention
from lash_hookspecs.tools import CompletedToolCall, PendingToolCall, ToolCallOutput
from lash_hookspecs.values import mutable

__all__ = ["Ends", "OpenCall"]


@mutable(eq=False)
class OpenCall:
    """A call that runs, or ran: `callers` are the tools above it, `children` the calls that its tool made, by index.
    `may_be_internal`: a tool makes it, of its own.

    `asked` has its arguments as they stand. `raw` is its result before hooks saw it, which `result` follows; `ran` says
    that its tool made it, and `is_live` that it did so now. `found` is what hooks before it did to it, and `hooks` are
    the records of all hooks around it, and around the calls within it. `slot` is its place, if its tool has a limit.
    `attempt` counts from 1; `earlier` are the calls that the tool made in those before. `is_shown`: its beginning is.
    `has_begun`: the attempt's tool has, and `note` is what a cancel leaves of it then. `answer` is what somebody
    completed it with, until that is taken. `questions` are those that a person has to answer before it is made, or is
    what a hook says, `unasked`.
    """

    asked: PendingToolCall
    place: CallPlace
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
    attempt: int = 1
    earlier: tuple[CompletedToolCall, ...] = ()
    is_shown: bool = False
    has_begun: bool = False
    note: str = ""
    answer: CompletedToolCall | None = None
    questions: tuple[PersonQuestion, ...] = ()
    unasked: ToolCallOutput | None = None

    @property
    def key(self) -> str:
        """The replay key of the attempt; the first one's is the call's."""
        key = self.place.key
        return key if self.attempt == 1 else child_key(key, "", f"attempt:{self.attempt}")

    @property
    def prefix(self) -> str:
        """What the ids of its children begin with: those of another attempt are others."""
        call_id = self.asked.call_id
        return call_id if self.attempt == 1 else f"{call_id}:r{self.attempt}"

    def put_off(self, launched: CompletedToolCall) -> None:
        """Its tool has left the end to somebody else, so it has no result; the calls that it made are known."""
        self.earlier, self.children = launched.children, {}
        self.raw = self.result = None

    def begin_again(self, failed: CompletedToolCall) -> None:
        """The attempt failed, and another one begins: of it nothing is known."""
        self.attempt += 1
        self.earlier = failed.children
        self.children = {}
        self.raw = self.result = None
        self.is_live = self.has_begun = False

    def unbegun(self) -> Iterator[OpenCall]:
        """This, and the calls below it, of which no tool has begun."""
        if not self.has_begun:
            yield self
        for each in self.children.values():
            yield from each.unbegun()

    def settled(self, otherwise: Callable[[PendingToolCall], CompletedToolCall]) -> CompletedToolCall:
        """Its result, with its children's; `otherwise` makes one for each call without."""
        if self.result is None and self.raw is not None:
            return unseen_call(self.raw) if self.ran else self.raw
        if self.result is not None:
            return self.result
        return with_note(self.with_children(otherwise(self.asked), otherwise), self.note)

    def with_children(
        self, done: CompletedToolCall, otherwise: Callable[[PendingToolCall], CompletedToolCall]
    ) -> CompletedToolCall:
        """The result, and what its children came to."""
        if not self.children and not self.earlier:
            return done
        children = [each.settled(otherwise) for _, each in sorted(self.children.items())]
        return evolve(done, children=(*self.earlier, *children))


@mutable(eq=False)
class Ends:
    """Why calls have no result: the boundary broke, refused something, or waits for a person. In this order."""

    broken: list[Exception] = field(factory=list)
    faults: list[EffectControllerError] = field(factory=list)
    waiting: dict[str, str] = field(factory=dict)
    deferred: set[str] = field(factory=set)
    questions: set[str] = field(factory=set)

    def add(self, error: EffectControllerError | EffectsSuspended) -> None:
        """One more."""
        if isinstance(error, EffectsSuspended):
            self.waiting |= error.waiting
            self.deferred |= error.deferred
            self.questions |= error.questions
        else:
            self.faults.append(error)

    def pass_on(self) -> None:
        """Raise the first of them, or all that wait."""
        for error in (*self.broken, *self.faults):
            raise error
        if self.waiting:
            raise EffectsSuspended(self.waiting, self.deferred, questions=self.questions)
