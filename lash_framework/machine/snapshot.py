"""A running turn's variables, and their passage into and out of `MachineSnapshot`.

Every field of `Run` holds an immutable value, so a copy of a `Run` is a point to go back to. A turn makes a copy per
transition, which is what `Run` has no slots for: a dictionary is copied in one go.
"""

from __future__ import annotations

from collections.abc import Iterable

from lash_framework.machine.config import TurnMachineConfig, TurnStart
from lash_framework.machine.sequence import MessageSequence
from lash_framework.machine.table import State
from lash_hookspecs.errors import CodecError
from lash_hookspecs.llm import LlmToolSpec, TokenUsage
from lash_hookspecs.messages import Message, TurnCause
from lash_hookspecs.turn_effects import Effect, Emit, ProtocolEvent
from lash_hookspecs.turn_events import SessionEvent
from lash_hookspecs.turn_outcomes import TurnOutcome
from lash_hookspecs.turn_snapshot import MachineSnapshot, Waiting
from lash_hookspecs.values import mutable

__all__ = ["Run", "restore_run", "start_run", "take_snapshot"]


@mutable(kw_only=True, slots=False)
class Run:
    """Where a turn stands. `delivered`: the effect it waits for was handed out in this process.

    `reported_*` count what `Progress` and `Done` have told so far: of this turn's messages, of all events.
    """

    state: State
    messages: MessageSequence
    base_count: int
    turn_causes: tuple[TurnCause, ...]
    events: tuple[ProtocolEvent, ...]
    reported_events: int
    protocol_iteration: int
    protocol_run_offset: int
    system_prompt: str
    tool_specs: tuple[LlmToolSpec, ...]
    waiting: Waiting | None = None
    delivered: bool = False
    pending: tuple[Effect, ...] = ()
    next_effect_id: int = 1
    reported_messages: int = 0
    usage: TokenUsage = TokenUsage()
    turn_limit_scheduled: bool = False
    synced_iteration: int | None = None
    checkpoint_count: int = 0
    outcome: TurnOutcome | None = None

    def copy(self) -> Run:
        """One like it, to be changed."""
        made = Run.__new__(Run)
        made.__dict__.update(self.__dict__)
        return made

    @property
    def turn_messages(self) -> tuple[Message, ...]:
        """What this turn appended, its input included."""
        return self.messages[self.base_count :]

    def queue(self, *effects: Effect) -> None:
        """Hand these out next, in this order."""
        self.pending += effects

    def emit(self, events: Iterable[SessionEvent]) -> None:
        """Show these to whoever watches."""
        self.pending += tuple(map(Emit, events))

    def take_unreported(self) -> tuple[tuple[Message, ...], tuple[ProtocolEvent, ...]]:
        """Messages and events since the last report, which count as reported from now on."""
        messages = self.messages[self.base_count + self.reported_messages :]
        events = self.events[self.reported_events :]
        self.reported_messages += len(messages)
        self.reported_events += len(events)
        return messages, events


def start_run(config: TurnMachineConfig, start: TurnStart) -> Run:
    """A turn before its first step: causes are news first, the input follows."""
    causes = {cause.id: cause for cause in start.turn_causes}
    given = {message.id for message in start.messages}
    told = [
        cause.to_event_message()
        for cause in causes.values()
        if cause.id not in given and start.base.position_of(cause.id) is None
    ]
    return Run(
        state=State.START,
        messages=start.base.extended((*told, *start.messages)),
        base_count=len(start.base),
        turn_causes=tuple(causes.values()),
        events=start.events,
        reported_events=len(start.events),
        protocol_iteration=start.protocol_run_offset,
        protocol_run_offset=start.protocol_run_offset,
        system_prompt=config.system_prompt,
        tool_specs=config.tool_specs,
    )


def take_snapshot(run: Run) -> MachineSnapshot:
    """The turn as plain data."""
    return MachineSnapshot(
        state=run.state.value,
        waiting=run.waiting,
        pending=run.pending,
        next_effect_id=run.next_effect_id,
        messages_added=run.turn_messages,
        base_message_count=run.base_count,
        events=run.events,
        turn_causes=run.turn_causes,
        reported_messages=run.reported_messages,
        reported_events=run.reported_events,
        protocol_iteration=run.protocol_iteration,
        protocol_run_offset=run.protocol_run_offset,
        usage=run.usage,
        turn_limit_scheduled=run.turn_limit_scheduled,
        synced_iteration=run.synced_iteration,
        checkpoint_count=run.checkpoint_count,
        system_prompt=run.system_prompt,
        tool_specs=run.tool_specs,
        outcome=run.outcome,
    )


def restore_run(config: TurnMachineConfig, base: MessageSequence, snapshot: MachineSnapshot) -> Run:
    """The turn that a snapshot describes. Raises `CodecError` if it doesn't belong to this history."""
    if len(base) != snapshot.base_message_count:
        raise CodecError(
            f"the snapshot was taken over a history of {snapshot.base_message_count} messages, this one has {len(base)}"
        )
    try:
        state = State(snapshot.state)
    except ValueError:
        raise CodecError(f"no state of the turn machine is called `{snapshot.state}`") from None
    if (state is State.WAITING) != (snapshot.waiting is not None):
        raise CodecError(f"a snapshot in state `{state}` can't have {snapshot.waiting!r} to wait for")
    return Run(
        state=state,
        messages=base.extended(snapshot.messages_added),
        base_count=len(base),
        turn_causes=snapshot.turn_causes,
        events=snapshot.events,
        reported_events=snapshot.reported_events,
        protocol_iteration=snapshot.protocol_iteration,
        protocol_run_offset=snapshot.protocol_run_offset,
        # What the turn had wins over what the host rebuilt: a restored turn must go on as the unbroken one would.
        system_prompt=config.system_prompt if snapshot.system_prompt is None else snapshot.system_prompt,
        tool_specs=config.tool_specs if snapshot.tool_specs is None else snapshot.tool_specs,
        waiting=snapshot.waiting,
        pending=snapshot.pending,
        next_effect_id=snapshot.next_effect_id,
        reported_messages=snapshot.reported_messages,
        usage=snapshot.usage,
        turn_limit_scheduled=snapshot.turn_limit_scheduled,
        synced_iteration=snapshot.synced_iteration,
        checkpoint_count=snapshot.checkpoint_count,
        outcome=snapshot.outcome,
    )
