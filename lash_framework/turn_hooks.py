"""A turn's effects that have hooks in them: called once, recorded by owner, and from then on taken from the record.

An outcome that comes from a record (of a journal, of another process) brings the plugins' states along: the hooks that
changed them aren't called again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio

from lash_framework.conversation import Conversation, History
from lash_framework.directives import DIRECTIVES, enqueued, owned_directives
from lash_framework.effects import envelope
from lash_framework.faults import IN_RESULT
from lash_framework.hook_effects import NO_HOOKS, O, hook_effect
from lash_framework.hooks import Bind, HookImpl, collect
from lash_framework.state import PluginStates
from lash_framework.system_prompt import current_prompt
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.compaction import CompactReason
from lash_hookspecs.connected_tools import ToolSetRecord
from lash_hookspecs.context_views import ContextView
from lash_hookspecs.contexts import CheckpointHookContext, TurnHookContext
from lash_hookspecs.directives import OwnedDirective
from lash_hookspecs.effect_commands import (
    CheckpointCommand,
    CompactCommand,
    RuntimeEffectCommand,
    SyncEnvironmentCommand,
    TurnEndCommand,
    TurnStartCommand,
)
from lash_hookspecs.effect_outcomes import (
    CheckpointOutcome,
    CompactOutcome,
    HookFailure,
    HookRecord,
    SyncEnvironmentOutcome,
    TurnEndOutcome,
    TurnStartOutcome,
    TurnStop,
)
from lash_hookspecs.effects import RuntimeEffectEnvelope, RuntimeScope, effect_key
from lash_hookspecs.errors import ClaimLost, PluginError, ReplayError
from lash_hookspecs.handoffs import CreateSession, HandoffSession
from lash_hookspecs.llm import LlmToolSpec
from lash_hookspecs.prefix import PrefixChange
from lash_hookspecs.prompts import PromptContribution, RenderedPrompt
from lash_hookspecs.sessions import AssembledTurn

__all__ = ["NO_HOOKS", "Recording", "TurnHooks"]

log = logging.getLogger("lash.turn")

_AT_START = (
    "lash_before_turn",
    "lash_prompt_contributions",
    "lash_prepare_context",
    "lash_compact",
    "lash_lifespan",
)
"""Who has a say in what a turn begins with, or must be there for those who have."""
_SYNC = SyncEnvironmentCommand(True)
_CHECKPOINTS = {kind: CheckpointCommand(kind) for kind in CheckpointKind}


class Recording:
    """A record while it is made: hooks are called within `with`; `record` is then what they did.

    A `PluginError` ends it, and is recorded too.
    """

    __slots__ = ("_before", "_states", "directives", "record")

    def __init__(self, states: PluginStates) -> None:
        self._states = states
        self._before = states.mark()
        self.directives: tuple[OwnedDirective, ...] = ()
        self.record = NO_HOOKS

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> bool:
        changed, failure = dict[str, Any](), None
        try:
            if error is None:
                changed = self._states.recorded(self._before)
        except PluginError as unstorable:
            error = unstorable
        if error is not None:
            if not isinstance(error, PluginError):
                return False
            log.warning("%s", error, exc_info=error, extra=IN_RESULT)
            failure = HookFailure(plugin_id=error.plugin_id, hook=error.hook, message=str(error))
        if failure is not None:  # what was said before it isn't done, so nobody is told that it was
            self.record = HookRecord(failure=failure)
        elif self.directives or changed:
            self.record = HookRecord(directives=self.directives, states=changed)
        return True


class TurnHooks:
    """The effects of one turn that run hooks. `contexts` makes the hooks' contexts, from the turn as it stands.

    Every method raises `EffectControllerError` if the boundary failed; a hook's own failure is in the outcome.
    `history` is the conversation before the turn, as it stands from the turn's start on, `context` the view of it, and
    `changes` are those of prompt and tools between the turn's model calls.
    """

    def __init__(self, plan: TurnPlan, contexts: TurnContexts) -> None:
        self._plan = plan
        self._contexts = contexts
        self._bind = contexts.bind
        self.history: Conversation | History = plan.conversation
        self.context: ContextView | None = None
        self.changes: list[PrefixChange] = []
        self._shown: tuple[RenderedPrompt, tuple[LlmToolSpec, ...]] | None = None

    async def start(self) -> TurnStartOutcome:
        """What the turn runs with: decided here, whole, before the first model call."""
        plan = self._plan

        async def live() -> TurnStartOutcome:
            started_at_ms = plan.now_ms()
            hooks = plan.composition.hooks
            before = hooks["lash_before_turn"]
            prompt, record, compaction, context = RenderedPrompt(), NO_HOOKS, None, None
            toolsets: tuple[ToolSetRecord, ...] = ()
            if plan.composition.catalog.toolsets and not plan.only_compacts:
                await plan.controller.flush()
                toolsets = await plan.connect()
                plan.tools.use(toolsets)
            if plan.only_compacts or plan.tool_edits or any(hooks[name] for name in _AT_START):
                with self.recording() as made:
                    plan.tools.take(plan.tool_edits)
                    from lash_framework.compacting import compact_at_start
                    from lash_framework.prepare_context import prepare_context

                    await self.enter()
                    compaction = await compact_at_start(plan)
                    if compaction is not None:
                        from lash_framework.compacting import opened

                        self.history = opened(plan.conversation, compaction)
                    if not plan.only_compacts:
                        context = self.context = await prepare_context(plan, self.history)
                        if before:
                            bind = self._bind(TurnHookContext, "lash_before_turn")
                            made.directives = await self._collect(before, bind)
                        prompt = current_prompt(plan, await self._contributions())
                record = made.record
            else:
                prompt = current_prompt(plan)
            return TurnStartOutcome(
                started_at_ms=started_at_ms,
                policy=plan.policy,
                prompt=prompt,
                tool_specs=plan.tools.specs,
                hooks=record,
                compaction=compaction,
                context=context,
                toolsets=toolsets,
            )

        begun = await self._ask(plan.scope, TurnStartCommand(plan.input_hash), "turn_start", TurnStartOutcome, live)
        if begun.policy is not plan.policy and begun.policy != plan.policy:
            text = f"turn `{plan.turn_id}` was begun with another policy, and goes on only with that one"
            raise ReplayError("runtime_effect_policy", text)
        if begun.toolsets:
            plan.tools.use(begun.toolsets)
        self._shown = (begun.prompt, begun.tool_specs)
        self.history, self.context = plan.conversation, None
        if begun.hooks.failure is None:
            await self._open(begun)
        plan.tools.told = begun.tool_specs
        return begun

    async def _open(self, begun: TurnStartOutcome | CompactOutcome) -> None:
        """Go on with what the record says of the conversation."""
        if isinstance(begun, TurnStartOutcome):
            self.context = begun.context
        if begun.compaction is not None:
            from lash_framework.compacting import opened

            with anyio.CancelScope(shield=True):  # the record holds, whatever is cancelled meanwhile
                await self._plan.conversation.load()
            self.history = opened(self._plan.conversation, begun.compaction)

    async def compact(self, scope: RuntimeScope, effect_id: str) -> CompactOutcome:
        """What `lash_compact` makes of a conversation that didn't fit the model's window."""
        plan = self._plan

        async def live() -> CompactOutcome:
            compaction = None
            with self.recording() as made:
                await self.enter()
                from lash_framework.compacting import compact

                compaction = await compact(plan, CompactReason.OVERFLOW)
            return CompactOutcome(compaction=compaction, hooks=made.record)

        made = await self._ask(scope, CompactCommand(), effect_id, CompactOutcome, live)
        if made.hooks.failure is None:
            await self._open(made)
        return made

    async def sync(self, scope: RuntimeScope, effect_id: str) -> SyncEnvironmentOutcome:
        """Prompt and tools, as they are now."""
        plan, shown, is_live = self._plan, self._shown, False

        async def live() -> SyncEnvironmentOutcome:
            nonlocal is_live
            is_live = True
            record, prompt = NO_HOOKS, RenderedPrompt()
            if plan.composition.hooks["lash_prompt_contributions"] or self.context is not None:
                with self.recording() as made:
                    await self.enter()
                    prompt = current_prompt(plan, await self._contributions())
                record = made.record
            else:
                prompt = current_prompt(plan)
            specs = plan.tools.specs
            if (prompt, specs) == shown:
                return SyncEnvironmentOutcome(unchanged=True, hooks=record)
            return SyncEnvironmentOutcome(prompt=prompt, tool_specs=specs, hooks=record)

        synced = await self._ask(scope, _SYNC, effect_id, SyncEnvironmentOutcome, live)
        if synced.unchanged and shown is not None:
            return SyncEnvironmentOutcome(prompt=shown[0], tool_specs=shown[1], hooks=synced.hooks)
        if synced.hooks.failure is None:
            if shown is not None:
                from lash_framework.prefix_changes import prompt_changes, tool_changes

                found = [
                    *prompt_changes(shown[0], synced.prompt),
                    *tool_changes(shown[1], synced.tool_specs, plan.tools.catalog.owners),
                ]
                self.changes += found
                if plan.trace is not None and is_live:
                    plan.trace.prefix(found)
            self._shown = (synced.prompt, synced.tool_specs)
            plan.tools.told = synced.tool_specs
        return synced

    async def checkpoint(self, scope: RuntimeScope, effect_id: str, kind: CheckpointKind) -> CheckpointOutcome:
        """What `lash_checkpoint` has to say."""
        plan = self._plan

        async def live() -> CheckpointOutcome:
            hooks, record = plan.composition.hooks["lash_checkpoint"], NO_HOOKS
            queued = await plan.queued()
            if hooks:
                with self.recording() as made:
                    await self.enter()
                    bind = self._bind(CheckpointHookContext, "lash_checkpoint", kind=kind)
                    made.directives = await self._collect(hooks, bind)
                record = made.record
            if record.failure is not None:
                queued = ()  # the turn ends here: what was said meanwhile waits for its own
            taken, inputs = tuple(no for no, _ in queued), tuple(message for _, message in queued)
            return CheckpointOutcome(hooks=record, taken=taken, inputs=inputs)

        command = _CHECKPOINTS.get(kind) or CheckpointCommand(kind)
        # Mostly nobody has anything to say, and then the key is all that is recorded: it says which checkpoint it was.
        key = effect_key(scope, command.kind, f"{effect_id} {kind._value_}")
        while True:
            try:
                return await self.recorded(envelope(scope, command, effect_id, key=key), CheckpointOutcome, live)
            except ClaimLost as error:
                # Cancelled between the look and the claim: look again.
                log.info("%s", error)

    async def end(
        self,
        hooks: tuple[HookImpl, ...],
        assembled: Callable[[], AssembledTurn],
        started_at_ms: int,
        stop: TurnStop | None = None,
    ) -> TurnEndOutcome:
        """What `lash_after_turn` makes of the turn, and when it was over: never before it began.

        A turn that was stopped has no hooks at its end, but the record of where.
        """
        plan = self._plan

        async def live() -> TurnEndOutcome:
            record = NO_HOOKS
            if hooks:
                with self.recording() as made:
                    await self.enter()
                    bind = self._bind(TurnHookContext, "lash_after_turn")
                    made.directives = await self._collect(hooks, bind, turn=assembled())
                record = made.record
            return TurnEndOutcome(finished_at_ms=max(plan.now_ms(), started_at_ms), hooks=record, stop=stop)

        return await self._ask(plan.scope, TurnEndCommand(), "turn_end", TurnEndOutcome, live)

    # ---- what all of them do ----------------------------------------------------------------------------------------

    async def enter(self) -> None:
        """Before code of plugins runs: a reply that was paid for must not hang on a slow hook."""
        await self._plan.controller.flush()
        await self._plan.enter()

    def owned(self, found: Sequence[tuple[str, Any]], hook: str) -> tuple[OwnedDirective, ...]:
        """What a hook returned, as a record holds it. Raises `PluginError` for what can't be done."""
        owned = owned_directives(found, hook)
        for each in owned:
            if isinstance(each.directive, CreateSession | HandoffSession):
                self._plan.services.refuse_unfit(each.plugin_id, each.directive)
        return owned

    async def _collect(self, hooks: tuple[HookImpl, ...], bind: Bind, **given: Any) -> tuple[OwnedDirective, ...]:
        from lash_framework.emitted_traces import check_traces, tell_traces

        said = await collect(hooks, bind, item=DIRECTIVES, **given)
        if not said:
            return ()
        check_traces(said, hooks[0].hook)
        found = self.owned(said, hooks[0].hook)
        for plugin_id, message in enqueued(found):
            for each in message.images:
                if await self._plan.get_blob(each.id) is None:
                    raise PluginError(plugin_id, hooks[0].hook, f"image `{each.id}` is not in the store")
        tell_traces(said, self._plan.trace)
        return found

    async def _contributions(self) -> list[tuple[str, Any]]:
        name = "lash_prompt_contributions"
        hooks = self._plan.composition.hooks[name]
        found = await collect(hooks, self._bind(TurnHookContext, name), item=PromptContribution) if hooks else []
        prepared = () if self.context is None else self.context.prompt
        return [*found, *((each.plugin_id, each.contribution) for each in prepared)]

    def recording(self) -> Recording:
        """Where hooks are called."""
        return Recording(self._plan.states)

    async def _ask(
        self,
        scope: RuntimeScope,
        command: RuntimeEffectCommand,
        effect_id: str,
        wanted: type[O],
        live: Callable[[], Awaitable[O]],
    ) -> O:
        """Send the command across the effect boundary; a recorded outcome brings its states along."""
        return await self.recorded(envelope(scope, command, effect_id), wanted, live)

    async def recorded(self, asked: RuntimeEffectEnvelope, wanted: type[O], live: Callable[[], Awaitable[O]]) -> O:
        """The same for an envelope that is made."""
        plan = self._plan
        return await hook_effect(
            plan, self._contexts.directs, asked, wanted, live, lambda record: plan.states.replay(record.states)
        )
