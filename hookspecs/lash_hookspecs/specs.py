"""Every hook: when it is called, with what, what a return means, and what an exception does.

`@hook` names the runner that combines the implementations, and what happens when one raises. The kernel reads both from
`HOOKS`; documentation and tests do too. Hooks of kind `register` are plain functions; all others may be coroutines.
An implementation names only the arguments that it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from lash_hookspecs.markers import hookspec
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_hookspecs.actions import Action
    from lash_hookspecs.commands import CommandSpec
    from lash_hookspecs.compaction import FrameSeed
    from lash_hookspecs.connected_tools import ConnectedToolSet
    from lash_hookspecs.context_hooks import CompactHookContext, ContextHookContext
    from lash_hookspecs.context_views import PreparedContext
    from lash_hookspecs.contexts import (
        CheckpointHookContext,
        CompositionContext,
        HostContext,
        SessionHookContext,
        StreamHookContext,
        TurnHookContext,
    )
    from lash_hookspecs.directives import (
        AfterToolDirective,
        AnsweredDirective,
        BeforeToolDirective,
        CheckpointDirective,
        LlmCallDirective,
        TurnDirective,
    )
    from lash_hookspecs.effect_hosts import EffectHostSpec
    from lash_hookspecs.effect_outcomes import RuntimeEffectOutcome
    from lash_hookspecs.effects import RuntimeEffectEnvelope
    from lash_hookspecs.llm import LlmRequest, LlmResponse, ProviderSpec
    from lash_hookspecs.model_hooks import AssistantChunk, AssistantReply, CallNext
    from lash_hookspecs.modes import Mode, ModeExtension
    from lash_hookspecs.plugins import PluginInfo, SessionStateSpec
    from lash_hookspecs.prompts import PromptContribution
    from lash_hookspecs.questions import PersonAnswer
    from lash_hookspecs.sessions import AssembledTurn, SessionPolicy
    from lash_hookspecs.stores import StoreSpec
    from lash_hookspecs.tool_catalog import CatalogEdit
    from lash_hookspecs.tool_contexts import (
        AfterToolCallContext,
        AnsweredContext,
        BeforeToolCallContext,
        ToolResultViewContext,
    )
    from lash_hookspecs.tools import (
        CompletedToolCall,
        ModelToolReturn,
        PendingToolCall,
        Tool,
        ToolCallOutput,
        ToolManifest,
    )
    from lash_hookspecs.trace import TraceSink

__all__ = ["HOOKS", "HookPolicy", "HookRunnerKind"]


class HookRunnerKind(StrEnum):
    """How a hook's implementations are combined.

    `REGISTER`: called once, at host start or composition, without awaiting. `LIFESPAN`: an async context manager per
    host. `COLLECT`: all in order, results concatenated. `CHAIN`: each gets the previous one's value; None passes it on.
    `FIRST`: the first that isn't None. `FOLD`: all are asked, and a pure function joins what they say. `OBSERVE`: all
    at once, isolated, with a time limit; results ignored. `WRAP`: nested, the first one outermost; each calls the next,
    at most once.
    """

    REGISTER = "register"
    LIFESPAN = "lifespan"
    COLLECT = "collect"
    CHAIN = "chain"
    FIRST = "first"
    FOLD = "fold"
    OBSERVE = "observe"
    WRAP = "wrap"


@frozen
class HookPolicy:
    """A hook's rules: who combines its implementations, and what happens when one raises."""

    name: str
    runner: HookRunnerKind
    on_error: str
    sync: bool


HOOKS: dict[str, HookPolicy] = {}

F = TypeVar("F", bound=Callable[..., Any])


def hook(runner: HookRunnerKind, *, on_error: str, sync: bool = False) -> Callable[[F], F]:
    """Declare a hook with its rules."""

    def declare(spec: F) -> F:
        is_sync = sync or runner is HookRunnerKind.REGISTER
        HOOKS[spec.__name__] = HookPolicy(spec.__name__, runner, on_error, is_sync)
        return hookspec(spec)

    return declare


_REGISTER = HookRunnerKind.REGISTER
_REPORTED = "a row in the load report; the plugin is left out"


# ---- registration: called once when a host starts -------------------------------------------------------------------


@hook(_REGISTER, on_error=_REPORTED)
def lash_plugin_info() -> PluginInfo:
    """Say who you are: called first, right after the import.

    Without it a plugin has its entry point's name as id and no relations to others.
    """
    raise NotImplementedError


@hook(_REGISTER, on_error=_REPORTED)
def lash_providers() -> Sequence[ProviderSpec]:
    """Offer model providers. Two plugins that offer the same provider id conflict. Nothing is opened here."""
    raise NotImplementedError


@hook(_REGISTER, on_error=_REPORTED)
def lash_stores() -> Sequence[StoreSpec]:
    """Offer stores by URL scheme. Two plugins that offer the same scheme conflict. Nothing is opened here."""
    raise NotImplementedError


@hook(_REGISTER, on_error=_REPORTED)
def lash_modes() -> Sequence[Mode]:
    """Offer modes. Two plugins that offer the same mode id conflict; `lash.toml` and code may override by `extends`."""
    raise NotImplementedError


@hook(_REGISTER, on_error=_REPORTED)
def lash_mode_extensions(mode: Mode) -> ModeExtension | None:
    """Add to a mode, also to one of another plugin: plugins, prompt, options, extension classes.

    Called for every mode when a host starts; None adds nothing.
    """
    raise NotImplementedError


@hook(_REGISTER, on_error=_REPORTED)
def lash_session_state() -> SessionStateSpec:
    """Declare what the plugin remembers per session. `ctx.state` reads it, `ctx.set_state(new)` replaces it.

    It is stored with the turn that changed it, restored when the session is opened, and taken back when a turn doesn't
    commit. The state of a plugin that is absent is kept untouched.
    """
    raise NotImplementedError


@hook(_REGISTER, on_error=_REPORTED)
def lash_effect_hosts() -> Sequence[EffectHostSpec]:
    """Offer places where effects are executed and recorded. A user names one in `durability.effects`.

    Two plugins that offer the same id conflict; `inline` and `journal` are lash's own. Nothing is opened here.
    """
    raise NotImplementedError


@hook(_REGISTER, on_error=_REPORTED)
def lash_commands() -> Sequence[CommandSpec]:
    """Add commands to `lash`. Two plugins that add the same name conflict, and none may have the name of lash's own.

    A command is declared by where it is: nothing of it is imported before it is run.
    """
    raise NotImplementedError


@hook(_REGISTER, on_error=_REPORTED)
def lash_trace_sinks(host: HostContext) -> Sequence[TraceSink]:
    """Offer who writes down what the host does: each gets every `TraceRecord`. Nothing is opened here.

    A sink stops nothing: one that raises or is slow is named in the log, and switched off if it goes on.
    """
    raise NotImplementedError


@hook(_REGISTER, on_error="opening the host fails, naming the plugin")
def lash_actions() -> Sequence[Action]:
    """Offer typed operations that an application may call. Called when a `Lash` is opened.

    Two actions of one name conflict, whatever their kinds.
    """
    raise NotImplementedError


# ---- lifetimes ------------------------------------------------------------------------------------------------------


@hook(HookRunnerKind.LIFESPAN, on_error="the first use fails; closing goes on and errors are grouped")
def lash_lifespan(host: HostContext) -> AbstractAsyncContextManager[Any]:
    """Hold resources for a host: an async context manager, entered before the plugin's first use in a turn.

    What it yields is `ctx.host` in this plugin's other hooks and tools. It is left when the host closes, in reverse
    order. Two hosts in one process have two.
    """
    raise NotImplementedError


# ---- sessions -------------------------------------------------------------------------------------------------------


@hook(HookRunnerKind.CHAIN, on_error="warned, the previous policy is kept")
async def lash_session_config(ctx: SessionHookContext, policy: SessionPolicy) -> SessionPolicy | None:
    """Change a session's policy before it takes effect: at opening, and when the application changes it.

    Each implementation gets what the one before returned; None leaves it as it is.
    """
    raise NotImplementedError


@hook(HookRunnerKind.OBSERVE, on_error="an issue")
async def lash_session_config_changed(ctx: SessionHookContext, previous: SessionPolicy, current: SessionPolicy) -> None:
    """Learn that a session's policy changed; called once per change, after it took effect."""
    raise NotImplementedError


@hook(HookRunnerKind.OBSERVE, on_error="an issue")
async def lash_session_opened(ctx: SessionHookContext) -> None:
    """Learn that a session was created or opened (`ctx.reason`); its state is restored by then."""
    raise NotImplementedError


# ---- compositions ---------------------------------------------------------------------------------------------------


@hook(_REGISTER, on_error="the composition fails, naming the plugin")
def lash_tools(ctx: CompositionContext) -> Sequence[Tool | ConnectedToolSet]:
    """Offer tools to the modes that have this plugin. Called once per composition; no session is known here.

    Two tools of one name conflict. A `ConnectedToolSet` stands for tools that are known only once it is connected.
    """
    raise NotImplementedError


@hook(HookRunnerKind.COLLECT, on_error="resolving the catalog fails, naming the plugin", sync=True)
def lash_tool_catalog(ctx: CompositionContext, catalog: tuple[ToolManifest, ...]) -> CatalogEdit | None:
    """Add, hide or annotate tools. Pure: the edits of all plugins are united; what any of them hides is hidden."""
    raise NotImplementedError


# ---- turns ----------------------------------------------------------------------------------------------------------


@hook(HookRunnerKind.COLLECT, on_error="the sync of the environment fails, and with it the turn")
async def lash_prompt_contributions(ctx: TurnHookContext) -> Sequence[PromptContribution]:
    """Add to the system prompt: called before a turn's first model call, and again before each further iteration.

    Every contribution carries the plugin's id into `lash explain`.
    """
    raise NotImplementedError


@hook(HookRunnerKind.CHAIN, on_error="the turn fails")
async def lash_prepare_context(ctx: ContextHookContext, prepared: PreparedContext) -> PreparedContext | None:
    """Show the model something else than the whole conversation, in this turn only: what is stored stays.

    Called once, when the turn begins; each implementation gets what the one before returned, None leaves it as it is.
    """
    raise NotImplementedError


@hook(HookRunnerKind.FIRST, on_error="the compaction fails, and with it the turn")
async def lash_compact(ctx: CompactHookContext) -> FrameSeed | None:
    """Make the conversation shorter for good: the session goes on in a new frame that begins with what is returned.

    Called when somebody asks for it, when the model's window is nearly full, and when a call didn't fit it. The first
    plugin that returns a seed decides.
    """
    raise NotImplementedError


@hook(HookRunnerKind.COLLECT, on_error="the turn fails")
async def lash_before_turn(ctx: TurnHookContext) -> Sequence[TurnDirective]:
    """Act before the first model call: add messages, show events, or abort the turn.

    After an abort the model isn't called; what was enqueued is kept.
    """
    raise NotImplementedError


@hook(HookRunnerKind.FIRST, on_error="the turn fails; the model isn't asked")
async def lash_before_llm_call(ctx: TurnHookContext, request: LlmRequest) -> LlmCallDirective | None:
    """Decide whether the model is asked: None lets the call happen, `FailLlmCall` and `AbortTurn` don't.

    The first that decides has decided. It is recorded with the call: a replay asks nobody.
    """
    raise NotImplementedError


@hook(HookRunnerKind.CHAIN, on_error="the call fails with the code `plugin_assistant_stream`, and isn't retried")
async def lash_assistant_stream(ctx: StreamHookContext, chunk: AssistantChunk) -> AssistantChunk | None:
    """Change what is shown of a reply while it comes, piece by piece, show events beside it, or end it.

    The answer itself stays what it is, unless it is ended here: `lash_assistant_response` rewrites it.
    """
    raise NotImplementedError


@hook(HookRunnerKind.CHAIN, on_error="the turn isn't committed; the answer is kept, and only the hooks run again")
async def lash_assistant_response(ctx: TurnHookContext, response: LlmResponse) -> LlmResponse | AssistantReply | None:
    """Rewrite a model's whole answer before anything is made of it. What it has cost stays as it is."""
    raise NotImplementedError


@hook(HookRunnerKind.WRAP, on_error="the effect fails as such an effect does, naming the plugin")
async def lash_around_effect(
    ctx: TurnHookContext, envelope: RuntimeEffectEnvelope, call_next: CallNext
) -> RuntimeEffectOutcome:
    """Stand around a model call, a tool call or code while it is executed: wait, measure, answer in its place.

    `await call_next()` executes it, at most once. Return what it gave, or another outcome of the same kind.
    """
    raise NotImplementedError


@hook(HookRunnerKind.COLLECT, on_error="the checkpoint fails, and with it the turn")
async def lash_checkpoint(ctx: CheckpointHookContext) -> Sequence[CheckpointDirective]:
    """Act between two steps of a turn: after tools ran (`AFTER_WORK`), or before the answer is final.

    Messages added before completion make the model think again, within the turn's limit.
    """
    raise NotImplementedError


@hook(HookRunnerKind.COLLECT, on_error="the turn fails")
async def lash_after_turn(ctx: TurnHookContext, turn: AssembledTurn) -> Sequence[TurnDirective]:
    """Act when the turn is assembled but not yet committed: messages enqueued here are stored with it."""
    raise NotImplementedError


@hook(HookRunnerKind.OBSERVE, on_error="an issue; the commit stands")
async def lash_turn_committed(ctx: TurnHookContext, turn: AssembledTurn) -> None:
    """Learn that a turn was committed. Nothing that happens here can undo it."""
    raise NotImplementedError


# ---- tool calls -----------------------------------------------------------------------------------------------------


@hook(HookRunnerKind.FOLD, on_error="the call fails (`before_tool_call_failed`)")
async def lash_before_tool_call(ctx: BeforeToolCallContext, call: PendingToolCall) -> Sequence[BeforeToolDirective]:
    """Act before a tool runs: change its arguments, deny the call, ask a person, or answer in the tool's place.

    All implementations are asked. Deny beats ask beats short-circuit beats pass; a tie goes to the lower plugin id.
    """
    raise NotImplementedError


@hook(HookRunnerKind.COLLECT, on_error="the call fails (`answered_tool_call_failed`)")
async def lash_person_answered(
    ctx: AnsweredContext, call: PendingToolCall, answer: PersonAnswer
) -> Sequence[AnsweredDirective]:
    """Learn what a person said to your question about a call, before it is made or denied; only who asked is called.

    It may still be denied. What a person denied stays so.
    """
    raise NotImplementedError


@hook(HookRunnerKind.FOLD, on_error="the call fails (`after_tool_call_failed`)")
async def lash_after_tool_call(
    ctx: AfterToolCallContext, call: PendingToolCall, result: ToolCallOutput
) -> Sequence[AfterToolDirective]:
    """Act when a tool has run: change its result, withhold it, or add messages at the turn's next checkpoint.

    All implementations are asked. Deny beats a failed result beats a successful one; a tie goes to whoever came first.
    """
    raise NotImplementedError


@hook(HookRunnerKind.CHAIN, on_error="the model sees the error's text; the result stays")
async def lash_tool_result_view(
    ctx: ToolResultViewContext, call: CompletedToolCall, view: ModelToolReturn
) -> ModelToolReturn | None:
    """Change what the model sees of a result; hosts see the result itself.

    Each implementation gets what the one before returned; None leaves it as it is.
    """
    raise NotImplementedError
