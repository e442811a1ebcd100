"""Trace records on their way to the sinks: made where something happens, and only if there is a sink.

What is told is what is executed: the effects of a turn are traced where they run, so that what is answered from a
record costs no word. A sink can't fail a turn, nor make it wait twice: it is named once, and then left out.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import anyio
from attrs import evolve

from lash_framework.faults import failure_text, pass_on
from lash_framework.hooks import SLOW_S, Owned
from lash_framework.stream import ActivityStream, Sink
from lash_framework.world import REAL, World
from lash_hookspecs.activity import TurnEnd
from lash_hookspecs.effect_commands import DirectCommand, LlmCallCommand, RuntimeEffectCommand, ToolCallCommand
from lash_hookspecs.effect_outcomes import DirectOutcome, LlmCallOutcome, RuntimeEffectOutcome, ToolCallEffectOutcome
from lash_hookspecs.effects import EffectController, EffectRunner, RuntimeEffectEnvelope, RuntimeScope
from lash_hookspecs.llm import LlmCallError, TokenUsage
from lash_hookspecs.messages import Message
from lash_hookspecs.prefix import PrefixChange
from lash_hookspecs.tools import ToolCallFailure
from lash_hookspecs.trace import (
    TraceContext,
    TraceEffectCompleted,
    TraceEffectFailed,
    TraceEffectStarted,
    TraceEvent,
    TraceLoadReport,
    TracePrefixChange,
    TraceRecord,
    TraceSink,
    TraceToolCall,
    TraceTurnEnded,
    TraceTurnStarted,
)
from lash_hookspecs.turn_events import SessionEvent, ToolCallEvent
from lash_hookspecs.values import mutable

if TYPE_CHECKING:
    from lash_framework.observing import Feed
    from lash_framework.plugins import LoadReport
    from lash_framework.turn_plan import TurnPlan
    from lash_hookspecs.sessions import AssembledTurn

__all__ = ["FAULTS", "FLUSH_LIMIT_S", "TracedStream", "Tracer", "TurnTrace"]

Moment = Callable[[], tuple[int, Sequence[Message]]]

FAULTS = 3
"""After how many faults in a row a sink is switched off: it raised, or kept everybody waiting."""

FLUSH_LIMIT_S = 5.0
"""How long a sink may take to let go of what it holds, when a host closes."""

_log = logging.getLogger("lash.trace")


@mutable(eq=False)
class _Place:
    """One sink, whose it is, and how it does."""

    plugin_id: str
    sink: TraceSink
    in_a_row: int = 0
    named: bool = False
    off: bool = False


class Tracer:
    """Gives each record to every sink of a host. `clock` is in seconds."""

    def __init__(
        self, sinks: Iterable[Owned[TraceSink]], world: World = REAL, clock: Callable[[], float] = perf_counter
    ) -> None:
        self._places = [_Place(plugin_id, sink) for plugin_id, sink in sinks]
        self._clock = clock
        self._name = world.token_hex(8)
        self._count = 0
        self.now_ms = world.now_ms

    def tell(self, context: TraceContext, event: TraceEvent) -> None:
        """Make a record of it, and hand it to the sinks."""
        self._count += 1
        record = TraceRecord(id=f"{self._name}-{self._count}", at_ms=self.now_ms(), context=context, event=event)
        for place in self._places:
            if place.off:
                continue
            began = self._clock()
            try:
                place.sink.append(record)
            except BaseException as error:
                pass_on(error)
                self._fault(place, f"raised {failure_text(error)}", error)
                continue
            took_s = self._clock() - began
            if took_s > SLOW_S:
                self._fault(place, f"kept everybody waiting for {took_s:.2f} s")
            else:
                place.in_a_row = 0

    def _fault(self, place: _Place, what: str, error: BaseException | None = None) -> None:
        place.in_a_row += 1
        if place.in_a_row >= FAULTS:
            place.off = True
            text = "plugin `%s`: its trace sink is switched off, after %d faults in a row; the last: it %s"
            _log.warning(text, place.plugin_id, FAULTS, what, exc_info=error)
        elif not place.named:
            place.named = True
            _log.warning(
                "plugin `%s`: its trace sink %s; the record is lost to it", place.plugin_id, what, exc_info=error
            )

    def report(self, report: LoadReport) -> None:
        """Tell that the host has started."""
        event = TraceLoadReport(
            loaded=tuple(each.plugin_id for each in report.loaded),
            failed=tuple(f"{each.plugin_id} ({each.stage})" for each in report.failed),
            blocked=tuple(each.plugin_id for each in report.blocked),
        )
        self.tell(TraceContext(), event)

    async def flush(self) -> None:
        """Let the sinks write what they hold back, all at once; who fails or takes too long is named."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for place in self._places:
                    if hasattr(place.sink, "flush"):
                        tasks.start_soon(self._flush, place)

    async def _flush(self, place: _Place) -> None:
        with anyio.move_on_after(FLUSH_LIMIT_S) as limit:
            try:
                await place.sink.flush()  # type: ignore[attr-defined]  # that it has one is what was asked
            except BaseException as error:
                pass_on(error)
                text = "plugin `%s`: its trace sink failed when the host closed: %s"
                _log.warning(text, place.plugin_id, failure_text(error), exc_info=error)
        if limit.cancelled_caught:
            text = "plugin `%s`: its trace sink wasn't done %g s after the host closed, and may have lost records"
            _log.warning(text, place.plugin_id, FLUSH_LIMIT_S)

    # ---- effects ----------------------------------------------------------------------------------------------------

    async def around(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        """Execute an effect, and tell of it. What is answered from a record doesn't come here."""
        command = envelope.command
        name, plugin_id = _named(command)
        context = _context(envelope.invocation.scope, envelope)
        self.tell(context, TraceEffectStarted(kind=command.kind, name=name, plugin_id=plugin_id))
        began = self.now_ms()
        try:
            outcome = await run(envelope)
        except BaseException as error:
            took = max(self.now_ms() - began, 0)
            text = "cancelled" if isinstance(error, anyio.get_cancelled_exc_class()) else failure_text(error)
            failed = TraceEffectFailed(kind=command.kind, duration_ms=took, error=text, name=name, plugin_id=plugin_id)
            self.tell(context, failed)
            raise
        usage, code = _came_of(outcome)
        completed = TraceEffectCompleted(
            kind=command.kind,
            duration_ms=max(self.now_ms() - began, 0),
            name=name,
            plugin_id=plugin_id,
            usage=usage,
            code=code,
        )
        self.tell(context, completed)
        return outcome

    def traced(self, inner: Callable[[RuntimeEffectEnvelope, EffectRunner], Awaitable[RuntimeEffectOutcome]]) -> Any:
        """The same around what stands around executing already."""

        async def around(envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
            return await self.around(envelope, lambda asked: inner(asked, run))

        return around


class TurnTrace:
    """Tells of one run of a turn, which is `attach`ed when it begins."""

    def __init__(self, tracer: Tracer, controller: EffectController) -> None:
        self._tracer = tracer
        self._controller = controller
        self._plan: TurnPlan | None = None
        self._moment: Moment | None = None
        self._began = tracer.now_ms()

    def attach(self, plan: TurnPlan, moment: Moment) -> None:
        """The turn's plan, and where it stands."""
        self._plan, self._moment = plan, moment

    @property
    def plan(self) -> TurnPlan:
        """What the turn depends on."""
        assert self._plan is not None  # nothing is told before the turn is made
        return self._plan

    def tell(self, event: TraceEvent) -> None:
        """Tell of something in the turn, as it stands."""
        assert self._moment is not None
        self._tracer.tell(_context(evolve(self.plan.scope, protocol_iteration=self._moment()[0])), event)

    def started(self) -> None:
        """The run begins."""
        plan, composition = self.plan, self.plan.composition
        model = f"{plan.provider_id}:{plan.model}"
        self.tell(TraceTurnStarted(mode_id=composition.mode.mode_id, model=model, composition=composition.key))

    def ended(self, end: TurnEnd, turn: AssembledTurn | None = None, error: BaseException | None = None) -> None:
        """The run is over; of one that didn't begin nothing is told."""
        if self._plan is None:
            return
        event = TraceTurnEnded(
            end=end,
            duration_ms=max(self._tracer.now_ms() - self._began, 0),
            outcome=turn.outcome.tag if turn is not None else None,
            usage=turn.usage if turn is not None else None,
            durable=turn.durable if turn is not None else False,
            error=failure_text(error) if error is not None else None,
            difference=getattr(error, "difference", ()),
        )
        self.tell(event)

    def prefix(self, changes: Sequence[PrefixChange]) -> None:
        """A request doesn't begin as the one before it did."""
        for each in changes:
            self.tell(TracePrefixChange(each))

    def called(self, event: ToolCallEvent) -> None:
        """The turn has a call's result; a turn that replays had it before, and told it then."""
        if not getattr(self._controller, "ran", True):
            return  # nothing was executed yet
        outcome = event.output.outcome
        traced = TraceToolCall(
            tool_name=event.name,
            outcome=outcome.tag,
            duration_ms=event.duration_ms,
            call_id=event.call_id,
            plugin_id=self.plan.tools.catalog.owners.get(event.name),
            code=outcome.code if isinstance(outcome, ToolCallFailure) else None,
            parent_call_id=event.parent_call_id,
        )
        self.tell(traced)


class TracedStream(ActivityStream):
    """A turn's stream that tells of its calls, too."""

    def __init__(self, trace: TurnTrace, turn_id: str, sink: Sink | None, feed: Feed) -> None:
        super().__init__(turn_id, sink, feed)
        self._trace = trace

    def show(self, event: SessionEvent) -> None:
        """As without a trace, and told."""
        super().show(event)
        if isinstance(event, ToolCallEvent):
            self._trace.called(event)


def _context(scope: RuntimeScope, envelope: RuntimeEffectEnvelope | None = None) -> TraceContext:
    return TraceContext(
        session_id=scope.session_id,
        turn_id=scope.turn_id,
        turn_index=scope.turn_index,
        iteration=scope.protocol_iteration,
        effect_id=envelope.invocation.subject.effect_id if envelope is not None else None,
        effect_key=envelope.key if envelope is not None else None,
    )


def _named(command: RuntimeEffectCommand) -> tuple[str | None, str | None]:
    """Whom an effect is about: a model or a tool, and the plugin."""
    match command:
        case LlmCallCommand() | DirectCommand():
            return f"{command.provider_id}:{command.request.model}", None
        case ToolCallCommand():
            return command.call.tool_name, command.call.plugin_id
    return None, None


def _came_of(outcome: RuntimeEffectOutcome) -> tuple[TokenUsage | None, str | None]:
    match outcome:
        case LlmCallOutcome(result=result) | DirectOutcome(result=result):
            return result.usage, (result.code or "failed") if isinstance(result, LlmCallError) else None
        case ToolCallEffectOutcome(launch=launch):
            came = launch.result.output.outcome
            return None, came.code if isinstance(came, ToolCallFailure) else None
    return None, None
