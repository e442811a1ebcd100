"""A turn's tool calls. What runs them is loaded with the first of them: many a turn has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lash_framework.stream import ActivityStream
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.directives import OwnedDirective
from lash_hookspecs.effect_outcomes import HookRecord
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.tools import CompletedToolCall
from lash_hookspecs.turn_effects import ToolCalls, ToolResults

if TYPE_CHECKING:
    from lash_framework.machine import TurnMachine
    from lash_framework.tool_batch import ToolBatch

__all__ = ["TurnCalls"]


class TurnCalls:
    """`ToolBatch` for a turn that may never need one. `show` is told of the records of hooks around calls."""

    def __init__(
        self, plan: TurnPlan, stream: ActivityStream, contexts: TurnContexts, show: Callable[[HookRecord], object]
    ) -> None:
        self._plan, self._stream, self._contexts, self._show = plan, stream, contexts, show
        self._made: ToolBatch | None = None

    def open(self, effect: ToolCalls, scope: RuntimeScope) -> None:
        """Begin a batch, of which nothing runs yet."""
        self._batch().open(effect, scope)

    async def run(self, effect: ToolCalls, scope: RuntimeScope) -> ToolResults:
        """Run all calls at once."""
        return await self._batch().run(effect, scope)

    def settle(self, machine: TurnMachine, results: tuple[CompletedToolCall, ...] = ()) -> None:
        """Answer an open batch, if there is one."""
        if self._made is not None:
            self._made.settle(machine, results)

    def close(self) -> None:
        """The machine has the batch's results."""
        if self._made is not None:
            self._made.close()

    @property
    def results(self) -> tuple[CompletedToolCall, ...]:
        """What an open batch would be settled with."""
        return self._made.results if self._made is not None else ()

    @property
    def said(self) -> tuple[OwnedDirective, ...]:
        """The messages of hooks around calls, until the turn's next checkpoint takes them away."""
        return self._made.said if self._made is not None else ()

    @said.setter
    def said(self, said: tuple[OwnedDirective, ...]) -> None:
        if self._made is not None:
            self._made.said = said

    def _batch(self) -> ToolBatch:
        if self._made is None:
            from lash_framework.tool_batch import ToolBatch
            from lash_framework.tool_hooks import ToolHooks

            hooks = ToolHooks(self._plan, self._contexts, self._show)
            self._made = ToolBatch(self._plan, self._stream, hooks, self._contexts)
        return self._made
