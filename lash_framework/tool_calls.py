"""Running one tool call: find the tool, check the arguments, call it in time, and make its result fit to store.

Whatever goes wrong with a call is a result for the model, never an exception of the turn.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from types import CoroutineType

import anyio
import orjson
from attrs import evolve

from lash_framework.catalog import Catalog, OwnedTool
from lash_framework.faults import failure_text, leaves, pass_on, storable_text
from lash_framework.schemas import schema_fault
from lash_framework.session_tools import Refusal
from lash_hookspecs.codec import MAX_NESTING, decode, encode
from lash_hookspecs.errors import CodecError, LashError
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.read_only_data import own_copy
from lash_hookspecs.tool_declarations import ToolRetry, ToolRetryNever, ToolRetrySafe
from lash_hookspecs.tools import (
    AttachmentPart,
    CompletedToolCall,
    ModelToolReturn,
    ModelToolReturnPart,
    OnUnknown,
    PendingToolCall,
    PreparedToolCall,
    TextPart,
    ToolCallCancelled,
    ToolCallContext,
    ToolCallFailure,
    ToolCallOutcome,
    ToolCallOutput,
    ToolCallSuccess,
    ToolEffect,
    ToolError,
    ToolFailureClass,
    ToolFailureSource,
)

__all__ = [
    "MAX_RESULT_BYTES",
    "UNKNOWN",
    "attached",
    "call_ended",
    "cancelled_call",
    "completed",
    "failure",
    "has_unknown",
    "is_unknown",
    "lost_call",
    "model_return",
    "perform",
    "prepared",
    "refused",
    "runs_in_thread",
    "too_deep_call",
    "unknown_call",
    "unseen_call",
    "waiting_call",
    "was_refused",
    "with_note",
    "without_attachment",
]

log = logging.getLogger("lash.tools")

MAX_RESULT_BYTES = 4 * 1024 * 1024
"""Of one result, as JSON. It is stored whole, and again as the model sees it, in the one commit of its turn."""

_SHORT = MAX_RESULT_BYTES // 6 - 2
"""So many characters fit, however JSON writes them."""

MAX_FAILURE_CHARS = 64 * 1024
"""Of what a failed call says."""

UNKNOWN = "unknown_after_crash"
"""The code of a call of which nobody knows whether it happened."""


def prepared(catalog: Catalog, asked: PendingToolCall) -> PreparedToolCall:
    """The call as it is recorded before it is made: whose tool it is, and what it does."""
    owned = catalog.tools.get(asked.tool_name)
    return PreparedToolCall(
        call_id=asked.call_id,
        tool_name=asked.tool_name,
        args=asked.args,
        plugin_id=owned.plugin_id if owned else "",
        effect=owned.tool.manifest.effect if owned else ToolEffect.PURE,  # what isn't there does nothing
        on_unknown=owned.tool.manifest.on_unknown if owned else OnUnknown.FAIL,
        replay=asked.replay,
    )


def failure(
    code: str, message: str, kind: ToolFailureClass, source: ToolFailureSource, retry: ToolRetry = ToolRetryNever()
) -> ToolCallOutput:
    """A failed call. What no store can hold of its text is replaced, and what is too long of it is cut off."""
    more = len(message) - MAX_FAILURE_CHARS
    text = storable_text(message if more <= 0 else f"{message[:MAX_FAILURE_CHARS]} … (and {more} more characters)")
    code = storable_text(code)
    return ToolCallOutput(ToolCallFailure(failure_class=kind, code=code, message=text, source=source, retry=retry))


def refused(refusal: Refusal) -> ToolCallOutput:
    """What a call comes to that isn't made."""
    return failure(refusal.code, refusal.text, refusal.kind, ToolFailureSource.RUNTIME)


def model_return(call_id: str, tool_name: str, outcome: ToolCallOutcome) -> ModelToolReturn:
    """What the model sees: text as it is, other values as JSON, failures as text before their attachments."""
    match outcome:
        case ToolCallSuccess(value=value):
            text = value if isinstance(value, str) else orjson.dumps(value).decode()
        case ToolCallFailure(message=message):
            text = f"Error: {message}"
        case ToolCallCancelled(message=message):
            text = f"Cancelled: {message}"
    attachments = () if isinstance(outcome, ToolCallCancelled) else outcome.attachments
    parts: list[ModelToolReturnPart] = [TextPart(text)]
    parts += [AttachmentPart(each) for each in attachments]
    return ModelToolReturn(call_id, tool_name, tuple(parts))


def completed(call: PendingToolCall, output: ToolCallOutput, duration_ms: int = 0) -> CompletedToolCall:
    """A call with its result."""
    return CompletedToolCall(
        call_id=call.call_id,
        tool_name=call.tool_name,
        args=call.args,
        output=output,
        model_return=model_return(call.call_id, call.tool_name, output.outcome),
        duration_ms=duration_ms,
        replay=call.replay,
    )


def cancelled_call(call: PendingToolCall) -> CompletedToolCall:
    """A call that was stopped."""
    return completed(call, ToolCallOutput(ToolCallCancelled(message="the turn was cancelled")))


def lost_call(call: PendingToolCall) -> CompletedToolCall:
    """A call that ended without a result, though nobody cancelled the turn."""
    text = f"`{call.tool_name}` ended without a result"
    return completed(call, failure("no_result", text, ToolFailureClass.INTERNAL, ToolFailureSource.RUNTIME))


def unknown_call(call: PendingToolCall) -> CompletedToolCall:
    """A call that a process began and died in, so that nobody knows whether it happened. It isn't made again."""
    text = (
        f"`{call.tool_name}` was interrupted by a crash: it may or may not have happened, and nobody knows. "
        "Find out before you do it again."
    )
    return completed(call, failure(UNKNOWN, text, ToolFailureClass.INTERNAL, ToolFailureSource.RUNTIME))


def was_refused(outcome: ToolCallOutcome) -> bool:
    """Whether there was no such tool for the caller, so that nothing was called."""
    is_failure = isinstance(outcome, ToolCallFailure) and outcome.source is ToolFailureSource.RUNTIME
    return is_failure and getattr(outcome, "code", "") in ("unknown_tool", "tool_unavailable")


def is_unknown(call: CompletedToolCall) -> bool:
    """Whether it is such a one."""
    outcome = call.output.outcome
    return isinstance(outcome, ToolCallFailure) and outcome.code == UNKNOWN


def has_unknown(call: CompletedToolCall | None) -> bool:
    """Whether it is such a one, or one within it is."""
    return call is not None and (is_unknown(call) or any(map(has_unknown, call.children)))


def waiting_call(call: PendingToolCall) -> CompletedToolCall:
    """What a tool is told of a child that a person must decide on. Nobody else reads it: the turn is suspended."""
    text = f"`{call.tool_name}` waits for a person to decide"
    return completed(call, failure("suspended", text, ToolFailureClass.UNAVAILABLE, ToolFailureSource.RUNTIME))


def attached(call: CompletedToolCall) -> Sequence[AttachmentRef]:
    """What is attached to a call's result."""
    outcome = call.output.outcome
    return () if isinstance(outcome, ToolCallCancelled) else outcome.attachments


def without_attachment(call: PendingToolCall, reference: AttachmentRef, duration_ms: int) -> CompletedToolCall:
    """A call whose result names bytes that the store doesn't have: nobody could ever look at it."""
    text = f"`{call.tool_name}` returned the attachment `{reference.id}`, which is not in the store"
    output = failure("unknown_attachment", text, ToolFailureClass.INTERNAL, ToolFailureSource.TOOL)
    return completed(call, output, duration_ms)


def unseen_call(done: CompletedToolCall) -> CompletedToolCall:
    """A call that ended, but not before its turn: plugins that might change its result have not seen it."""
    text = f"`{done.tool_name}` ran, but the turn ended before the plugins that look at its result had seen it"
    output = ToolCallOutput(ToolCallCancelled(message=text))
    view = model_return(done.call_id, done.tool_name, output.outcome)
    return evolve(done, output=output, model_return=view)


def too_deep_call(call: PendingToolCall, callers: Sequence[str]) -> CompletedToolCall:
    """A call that isn't made, because tools have called tools too deep by now."""
    first, *_, last = callers
    text = (
        f"`{call.tool_name}` was not called: tools called one another {len(callers)} deep, from `{first}` down to "
        f"`{last}`; a tool that calls itself must come to an end"
    )
    return completed(call, failure("call_too_deep", text, ToolFailureClass.INTERNAL, ToolFailureSource.RUNTIME))


async def perform(
    catalog: Catalog,
    call: PendingToolCall,
    ctx: Callable[[str], Awaitable[ToolCallContext]],
    refusal: Refusal | None = None,
) -> CompletedToolCall:
    """Run a call to its end, unless it is refused. `ctx` makes the tool's context from its plugin's id."""
    if refusal is not None:
        return completed(call, refused(refusal))
    owned = catalog.tools[call.tool_name]
    manifest = owned.tool.manifest
    try:
        check = catalog.validators.get(call.tool_name)
        if check is None:
            check = catalog.validators[call.tool_name] = schema_fault(manifest.input_schema)
    except Exception as error:
        text = f"the input schema of tool `{call.tool_name}` (plugin `{owned.plugin_id}`) is broken: {error}"
        output = failure("broken_schema", text, ToolFailureClass.INTERNAL, ToolFailureSource.PLUGIN)
        return completed(call, output)
    args = own_copy(call.args)  # the tool may change them: the next attempt, and whoever asks, has what was given
    fault = check(args)
    if fault is not None:
        text = f"the arguments of `{call.tool_name}` don't fit its schema: {fault}"
        output = failure("invalid_arguments", text, ToolFailureClass.INVALID_REQUEST, ToolFailureSource.RUNTIME)
        return completed(call, output)
    started = anyio.current_time()
    result: object = None
    try:
        if manifest.timeout_s is None:
            output = _output(await owned.tool.call(await ctx(owned.plugin_id), args))
        else:
            with anyio.move_on_after(manifest.timeout_s) as scope:
                result = await owned.tool.call(await ctx(owned.plugin_id), args)
            output = _timeout(owned) if scope.cancelled_caught else _output(result)
    except BaseException as error:
        pass_on(error)
        output = _raised(owned, error)
    return completed(call, output, int((anyio.current_time() - started) * 1000))


def runs_in_thread(owned: OwnedTool | None) -> bool:
    """Whether a tool's code goes on though nobody waits for it any more."""
    return owned is not None and not getattr(owned.tool, "is_async", True)


def left_by_cancel(owned: OwnedTool | None) -> str:
    """What a cancel leaves of a call that has begun, for its result; empty if nothing that anybody has to know."""
    if runs_in_thread(owned):
        return _GOES_ON
    return _HAD_BEGUN if owned is not None and owned.tool.manifest.effect is not ToolEffect.PURE else ""


def with_note(done: CompletedToolCall, note: str) -> CompletedToolCall:
    """A call that had begun: if it was cancelled, its result says what that means."""
    outcome = done.output.outcome
    if not note or not isinstance(outcome, ToolCallCancelled):
        return done
    outcome = evolve(outcome, message=f"{outcome.message}; {note}")
    view = model_return(done.call_id, done.tool_name, outcome)
    return evolve(done, output=evolve(done.output, outcome=outcome), model_return=view)


def call_ended(call: PendingToolCall) -> ToolError:
    """For code of a tool that goes on in a thread, and asks for something that its turn would have to wait for."""
    return ToolError(
        f"the call of `{call.tool_name}` has ended, so that it can't call tools any more", code="call_ended"
    )


_GOES_ON = "it runs in a thread, which can't be stopped, and may still do its work"
_HAD_BEGUN = "it had begun, and may have done some of its work, or all of it"


def _timeout(owned: OwnedTool) -> ToolCallOutput:
    manifest = owned.tool.manifest
    ending = f"nobody waits for it any more; {_GOES_ON}" if runs_in_thread(owned) else "was stopped"
    text = f"`{manifest.name}` took longer than {manifest.timeout_s:g} s and {ending}"
    return failure("timeout", text, ToolFailureClass.TIMEOUT, ToolFailureSource.RUNTIME)


def _without_lost_control(output: ToolCallOutput) -> ToolCallOutput:
    """A failure ends no turn, so what it wanted of it is told to the model, rather than dropped without a word."""
    if output.control is None or isinstance(output.outcome, ToolCallSuccess):
        return output
    lost = f"its `{type(output.control).__name__}` is dropped, and the turn goes on: it counts with a success only"
    return evolve(output, control=None, outcome=evolve(output.outcome, message=f"{output.outcome.message} ({lost})"))


def _raised(owned: OwnedTool, error: BaseException) -> ToolCallOutput:
    """What the tool raised. One exception in a task group of the tool's counts as raised without the group."""
    alone, *others = leaves(error)
    if isinstance(alone, ToolError) and not others:
        try:
            kind = ToolFailureClass(alone.failure_class)
        except ValueError:
            kind = ToolFailureClass.EXECUTION
        return failure(str(alone.code), str(alone), kind, ToolFailureSource.TOOL, _retry(alone.retry))
    # The result tells the model and the user; the traceback is for who looks for it.
    log.info("tool `%s` of plugin `%s` raised", owned.tool.manifest.name, owned.plugin_id, exc_info=error)
    text = str(alone) if isinstance(alone, LashError) and not others else failure_text(error)
    return failure("tool_raised", text, ToolFailureClass.INTERNAL, ToolFailureSource.TOOL)


def _retry(said: object) -> ToolRetry:
    """What a tool says of its failure, which may be anything."""
    after_ms = said.after_ms if isinstance(said, ToolRetrySafe) else None
    if isinstance(said, ToolRetrySafe):
        return ToolRetrySafe(after_ms if isinstance(after_ms, int) else None)
    return ToolRetryNever()


def _output(result: object) -> ToolCallOutput:
    """The result as storable data. Raises `ToolError` if it has no JSON form, or is too large to be stored."""
    if type(result) is str and len(result) <= _SHORT and result.isascii():
        return ToolCallOutput(ToolCallSuccess(result))  # as most are: there is nothing to check, and nothing to lose
    try:
        # Through JSON and back: what is stored is what the model sees, and nobody can change it afterwards.
        data = encode(result, levels=MAX_NESTING)
        if len(data) > MAX_RESULT_BYTES:
            text = f"the result has {len(data):,} bytes, and may have {MAX_RESULT_BYTES:,}: ask for less, or for a part"
            raise ToolError(text, code="result_too_large")
        if isinstance(result, ToolCallOutput):
            return _without_lost_control(decode(ToolCallOutput, data))
        return ToolCallOutput(ToolCallSuccess(orjson.loads(data)))
    except CodecError as error:
        why = str(error)
        if isinstance(result, CoroutineType):
            result.close()
            why = f"put `await` before the call of `{result.__name__}`"
        raise ToolError(
            f"the tool returned a `{type(result).__name__}`, which has no JSON form: {why}",
            code="unencodable_result",
            failure_class=ToolFailureClass.INTERNAL,
        ) from error
