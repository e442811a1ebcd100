"""What a turn's hooks are told of it: contexts that follow the turn, made once for all calls of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lash_framework.around_effects import AroundEffects
from lash_framework.budget import TurnBudget
from lash_framework.direct_calls import DirectCalls
from lash_framework.hooks import Bind
from lash_framework.stream import ActivityStream
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.contexts import PluginScope, TurnCall, TurnHookContext, binding
from lash_hookspecs.messages import Message
from lash_hookspecs.tool_contexts import ToolMoment

__all__ = ["TurnContexts"]


class TurnContexts:
    """Makes the contexts of one turn's hooks; `moment` is its iteration, and its messages so far.

    `around` are the turn's wrappers of effects, `directs` what its hooks and tools ask models on their own.
    """

    def __init__(
        self, plan: TurnPlan, stream: ActivityStream, moment: Callable[[], tuple[int, Sequence[Message]]]
    ) -> None:
        self._plan = plan
        self._moment = moment
        self.around = AroundEffects(plan, self.reading)
        self.directs = DirectCalls(plan, self.around, stream.show)
        self.budget = self.directs.budget = TurnBudget(plan, self.directs.count)
        plan.services.attach(plan, self.directs, moment)
        if plan.trace is not None:
            plan.trace.attach(plan, moment)
        self._scopes: dict[str, PluginScope] | None = None
        self._bound: dict[type[TurnHookContext], tuple[TurnCall, Bind]] = {}

    def bind(
        self,
        context: type[TurnHookContext],
        hook: str,
        kind: CheckpointKind | None = None,
        tool: ToolMoment | None = None,
    ) -> Bind:
        """Contexts for the implementations of a hook, made only where there are some: a turn's are made once."""
        bound = self._bound.get(context)
        if bound is None:
            call = self._call(hook)
            if self._scopes is None:
                self._scopes = self._hooked()
            bound = self._bound[context] = call, binding(context, self._scopes, call)
        call, bind = bound
        call.hook, call.kind, call.tool, call.known = hook, kind, tool, None
        return bind

    def observers(self) -> Bind:
        """Contexts for hooks that only watch."""
        scopes = {key: each.reading() for key, each in self._hooked().items()}
        return binding(TurnHookContext, scopes, self._call("lash_turn_committed"))

    def reading(self) -> Bind:
        """The same for hooks that only read, and may run at the same time: each of them gets a context of its own."""
        call, scopes = self._call("lash_around_effect"), self._plan.states.scopes

        def bind(plugin_id: str) -> TurnHookContext:
            corner = {plugin_id: scopes[plugin_id].reading()}
            return binding(TurnHookContext, corner, call)(plugin_id)

        return bind

    def _hooked(self) -> dict[str, PluginScope]:
        """The corners of those that are called."""
        scopes = self._plan.states.scopes
        return {plugin_id: scopes[plugin_id] for plugin_id in self._plan.composition.hooked}

    def _call(self, hook: str) -> TurnCall:
        plan = self._plan
        return TurnCall(
            session_id=plan.session_id,
            mode_id=plan.composition.mode.mode_id,
            policy=plan.policy,
            turn_index=plan.conversation.head.turn_index,
            turn_id=plan.turn_id,
            turn_input=plan.turn_input,
            moment=self._moment,
            tools=lambda: plan.tools.manifests,
            owners=lambda: plan.tools.catalog.owners,
            edit_tools=plan.tools.edit,
            hook=hook,
            services=plan.services,
        )
