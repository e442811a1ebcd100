"""`lash_around_effect`: what stands around the live execution of a model call, a tool call or code, and nothing else.

It is a part of executing, so a record is answered without it. A wrapper that fails is a failure of the effect, as such
an effect fails; what the effect has cost by then, and which calls it made, stays known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve

from lash_framework.faults import IN_RESULT
from lash_framework.hooks import Bind
from lash_framework.model_calls import call_failed, of_a_piece, storable
from lash_framework.turn_plan import TurnPlan
from lash_framework.wrapping import wrap
from lash_hookspecs.codec import encode
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.effect_outcomes import (
    DirectOutcome,
    ExecCodeOutcome,
    HookRecord,
    LlmCallOutcome,
    RuntimeEffectOutcome,
    ToolCallDone,
    ToolCallEffectOutcome,
    ToolCallPending,
)
from lash_hookspecs.effects import EffectRunner, RuntimeEffectEnvelope
from lash_hookspecs.errors import CodecError, PluginError
from lash_hookspecs.llm import LlmCallError, LlmResponse, TokenUsage
from lash_hookspecs.tool_interventions import ToolIntervention, ToolInterventionKind
from lash_hookspecs.tools import CompletedToolCall, ToolFailureClass, ToolFailureSource
from lash_hookspecs.turn_interventions import TurnIntervention, TurnInterventionKind

__all__ = ["CODE", "WRAPPED", "AroundEffects"]

log = logging.getLogger("lash.turn")

CODE = "plugin_around_effect"
"""The code of an effect that a wrapper failed."""

_K = RuntimeEffectKind


class AroundEffects:
    """Puts a composition's wrappers around the executors of its turn's effects. `bind` makes contexts that only read.

    Wrappers of effects that run at once run at once too, so none may write its plugin's state.
    """

    def __init__(self, plan: TurnPlan, bind: Callable[[], Bind]) -> None:
        self._plan = plan
        self._bind = bind
        self._impls = plan.composition.hooks["lash_around_effect"]

    def __call__(self, run: EffectRunner) -> EffectRunner:
        """The executor with all of them around it; the very same where there is none."""
        return self._around(run) if self._impls else run

    def _around(self, run: EffectRunner) -> EffectRunner:
        async def wrapped(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            expects = WRAPPED.get(asked.command.kind)
            if expects is None:
                return await run(asked)

            def failed(error: PluginError, inner: Any) -> RuntimeEffectOutcome:
                log.warning("%s", error, exc_info=error, extra=IN_RESULT)
                return _FAILED[asked.command.kind](asked, error, inner)

            async def adopt(given: Any, inner: Any, plugin_id: str) -> Any:
                return await self._adopted(asked, given, inner, plugin_id)

            try:
                await self._plan.enter()
            except PluginError as error:
                return failed(error, None)
            outcome: RuntimeEffectOutcome = await wrap(
                self._impls,
                self._bind(),
                lambda: run(asked),
                expects=expects,
                failed=failed,
                adopt=adopt,
                envelope=asked,
            )
            return outcome

        return wrapped

    async def _adopted(self, asked: RuntimeEffectEnvelope, given: Any, inner: Any, plugin_id: str) -> Any:
        """An outcome that a wrapper made, as one of this effect: what is known of the execution is no wrapper's to say.
        Where it isn't what it was, it says whose doing that is.

        Raises `ValueError` for one that can't be recorded.
        """
        if isinstance(given, LlmCallOutcome | DirectOutcome):
            known = inner or type(given)(given.result)
            if isinstance(given.result, LlmResponse) and isinstance(known.result, LlmResponse):
                given = evolve(given, result=of_a_piece(known.result, given.result))
            is_direct = isinstance(given, DirectOutcome)
            result = _paid(given.result if is_direct else storable(given.result), inner)
            if inner is None or result != inner.result:
                by = TurnIntervention(plugin_id=plugin_id, kind=TurnInterventionKind.CALL_CHANGED)
                known = evolve(known, did=(*known.did, by))
            given = evolve(known, result=result)
        elif isinstance(given, ToolCallEffectOutcome) and inner is not None and _is_as_it_was(given, inner):
            given = inner  # one that waits goes on to do so
        elif isinstance(given, ToolCallEffectOutcome):
            _require_storable(given.launch.result.output)  # before it is shown to anybody
            own = await self._own(asked, given.launch.result, inner)
            if inner is None or own != inner.launch.result:
                known = () if inner is None else inner.launch.result.interventions
                own = evolve(own, interventions=(*known, _around_it(plugin_id)))
            given = ToolCallEffectOutcome(ToolCallDone(own), _within(inner))
        _require_storable(given)
        return given

    async def _own(
        self, asked: RuntimeEffectEnvelope, result: CompletedToolCall, inner: ToolCallEffectOutcome | None
    ) -> CompletedToolCall:
        """The result as one of this call, whichever call it was of; with the calls that its tool made."""
        from lash_framework.call_rows import pending
        from lash_framework.tool_calls import attached, completed, without_attachment

        call = pending(asked.command)  # type: ignore[arg-type]  # by the kind of its outcome
        if result.call_id != call.call_id:
            result = completed(call, result.output)
        elif inner is not None and result.model_return == inner.launch.result.model_return:
            # Who changes what came of it means the model, too.
            result = completed(call, result.output, result.duration_ms)
        for each in attached(result):
            if await self._plan.get_blob(each.id) is None:
                result = without_attachment(call, each, result.duration_ms)
                break
        return evolve(result, children=_children(inner))


def _paid(result: LlmResponse | LlmCallError, inner: LlmCallOutcome | DirectOutcome | None) -> Any:
    """What a wrapper answers, with what the call has cost that it answers for."""
    if inner is None:
        return result
    usage = inner.result.usage
    return (
        evolve(result, usage=usage or TokenUsage()) if isinstance(result, LlmResponse) else evolve(result, usage=usage)
    )


def _around_it(plugin_id: str) -> ToolIntervention:
    return ToolIntervention(plugin_id=plugin_id, kind=ToolInterventionKind.RESULT_REPLACED, detail="around the call")


def _require_storable(value: object) -> None:
    try:
        encode(value)
    except CodecError as error:
        raise ValueError(f"can't be recorded: {error}") from error


def _is_as_it_was(given: ToolCallEffectOutcome, inner: ToolCallEffectOutcome) -> bool:
    both_wait = isinstance(given.launch, ToolCallPending) and isinstance(inner.launch, ToolCallPending)
    return both_wait or given.launch == inner.launch


def _children(inner: ToolCallEffectOutcome | None) -> tuple[CompletedToolCall, ...]:
    return inner.launch.result.children if inner is not None else ()


def _within(inner: ToolCallEffectOutcome | None) -> HookRecord:
    """What hooks did around the calls within it was done, whatever a wrapper makes of the call itself."""
    return inner.within if inner is not None else HookRecord()


# ---- how each kind fails --------------------------------------------------------------------------------------------


def _failed_call(error: PluginError, inner: LlmCallOutcome | DirectOutcome | None) -> Mapping[str, Any]:
    """What a model call comes to."""
    usage, did = (None, ()) if inner is None else (inner.result.usage, inner.did)
    return {
        "result": LlmCallError(message=str(error), code=CODE, usage=usage),
        "did": (*did, call_failed(error)),
    }


def _failed_llm_call(asked: RuntimeEffectEnvelope, error: PluginError, inner: LlmCallOutcome | None) -> LlmCallOutcome:
    changed = _failed_call(error, inner)
    return LlmCallOutcome(**changed) if inner is None else evolve(inner, **changed)


def _failed_direct(asked: RuntimeEffectEnvelope, error: PluginError, inner: DirectOutcome | None) -> DirectOutcome:
    changed = _failed_call(error, inner)
    return DirectOutcome(**changed) if inner is None else evolve(inner, **changed)


def _failed_tool_call(
    asked: RuntimeEffectEnvelope, error: PluginError, inner: ToolCallEffectOutcome | None
) -> ToolCallEffectOutcome:
    from lash_framework.call_rows import pending
    from lash_framework.tool_calls import completed, failure
    from lash_framework.tool_directives import failed_part

    output = failure(CODE, str(error), ToolFailureClass.INTERNAL, ToolFailureSource.PLUGIN)
    duration_ms = inner.launch.result.duration_ms if inner is not None else 0
    done = completed(pending(asked.command), output, duration_ms)  # type: ignore[arg-type]  # by its kind
    known = () if inner is None else inner.launch.result.interventions
    done = evolve(done, children=_children(inner), interventions=(*known, failed_part(error)))
    return ToolCallEffectOutcome(ToolCallDone(done), _within(inner))


def _failed_code(asked: RuntimeEffectEnvelope, error: PluginError, inner: ExecCodeOutcome | None) -> ExecCodeOutcome:
    return ExecCodeOutcome(str(error))


WRAPPED: Mapping[RuntimeEffectKind, type[Any]] = {
    _K.LLM_CALL: LlmCallOutcome,
    _K.DIRECT: DirectOutcome,
    _K.TOOL_CALL: ToolCallEffectOutcome,
    _K.EXEC_CODE: ExecCodeOutcome,
}
"""What may be wrapped, and what comes of it."""

_FAILED: Mapping[RuntimeEffectKind, Callable[[RuntimeEffectEnvelope, PluginError, Any], RuntimeEffectOutcome]] = {
    _K.LLM_CALL: _failed_llm_call,
    _K.DIRECT: _failed_direct,
    _K.TOOL_CALL: _failed_tool_call,
    _K.EXEC_CODE: _failed_code,
}
