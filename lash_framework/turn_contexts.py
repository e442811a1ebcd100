"""What a turn's hooks are told of it: contexts that follow the turn, made once for all calls of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lash_framework.hooks import Bind
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.contexts import TurnCall, TurnHookContext, binding
from lash_hookspecs.messages import Message
from lash_hookspecs.tool_contexts import ToolMoment

__all__ = ["TurnContexts"]


class TurnContexts:
    """Makes the contexts of one turn's hooks; `moment` is its iteration, and its messages so far."""

    def __init__(self, plan: TurnPlan, moment: Callable[[], tuple[int, Sequence[Message]]]) -> None:
        self._plan = plan
        self._moment = moment
        self._bound: dict[type[TurnHookContext], tuple[TurnCall, Bind]] = {}

    def bind(
        self, context: type[TurnHookContext], kind: CheckpointKind | None = None, tool: ToolMoment | None = None
    ) -> Bind:
        """Contexts for the hooks of one call, made only where there are some: a turn's are made once."""
        if context not in self._bound:
            call = self._call()
            self._bound[context] = call, binding(context, self._plan.states.scopes, call)
        call, bind = self._bound[context]
        call.iteration, call.messages, call.kind, call.tool = *self._moment(), kind, tool
        call.tools = self._plan.tools.manifests
        return bind

    def observers(self) -> Bind:
        """Contexts for hooks that only watch."""
        scopes = {key: each.reading() for key, each in self._plan.states.scopes.items()}
        return binding(TurnHookContext, scopes, self._call())

    def reading(self) -> Bind:
        """The same for hooks that only read, and may run at the same time: each of them gets a context of its own."""
        call, scopes = self._call(), self._plan.states.scopes

        def bind(plugin_id: str) -> TurnHookContext:
            corner = {plugin_id: scopes[plugin_id].reading()}
            return binding(TurnHookContext, corner, call)(plugin_id)

        return bind

    def _call(self) -> TurnCall:
        plan = self._plan
        iteration, messages = self._moment()
        return TurnCall(
            session_id=plan.session_id,
            mode_id=plan.composition.mode.mode_id,
            policy=plan.policy,
            turn_index=plan.conversation.head.turn_index,
            turn_id=plan.turn_id,
            turn_input=plan.turn_input,
            iteration=iteration,
            messages=messages,
            tools=plan.tools.manifests,
            edit_tools=plan.tools.edit,
        )
