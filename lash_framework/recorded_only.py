"""A journal of which nothing is run: for turns that are ended, or looked at, with what is recorded and no more.

What such a turn says of its open calls is what its records say: an unsafe call with an intent and no outcome may have
happened, and so may an idempotent one, which has no intent. Nobody guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from attrs import evolve

from lash_framework.call_rows import call_of, hooks_key, pending
from lash_framework.envelope_hash import Asked
from lash_framework.journal import JournalController
from lash_framework.journal_decisions import Corrupt, Fate, decide, repeatability
from lash_framework.journal_errors import EffectUnrecorded, effect_label
from lash_framework.silences import readable
from lash_framework.tool_calls import cancelled_call, is_unknown, unknown_call, unseen_call
from lash_framework.tool_deferrals import answered
from lash_framework.tool_directives import with_after
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.effect_commands import RuntimeEffectKind, ToolCallCommand, ToolSeam, TurnEndCommand
from lash_hookspecs.effect_outcomes import (
    AwaitEventOutcome,
    RuntimeEffectOutcome,
    ToolCallEffectOutcome,
    ToolCallPending,
    ToolHooksOutcome,
    TurnEndOutcome,
    TurnStop,
)
from lash_hookspecs.effects import EffectRunner, RuntimeEffectEnvelope
from lash_hookspecs.errors import CodecError
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.tools import CompletedToolCall, PendingToolCall, ToolEffect

__all__ = ["RecordedOnly", "recorded_stop"]


def recorded_stop(rows: Iterable[JournalRow]) -> TurnStop | None:
    """Where the turn was stopped from outside, if its journal says that it was."""
    for row in rows:
        if row.kind == RuntimeEffectKind.TURN_END and row.status is JournalStatus.DONE:
            try:
                return decode(TurnEndOutcome, row.body).stop
            except CodecError:
                return None  # which is told where it is asked for
    return None


class RecordedOnly(JournalController):
    """A journal that runs nothing and writes nothing: `EffectUnrecorded` is raised where the rows end.

    A turn that is stopped there says so with `end`: its end, which asks nobody then, is held for the commit.
    `ending`: the turn is ended, not looked at, so that calls keep their records though their tools are gone. `looks`:
    there are plugins that look at results, so that one which none of them has seen is shown to nobody. `spent` is what
    the turn has cost besides these rows.
    """

    def __init__(
        self,
        rows: Iterable[JournalRow],
        *,
        died: bool = False,
        tool_owners: Mapping[str, str] | None = None,
        persistent: bool = True,
        ending: bool = False,
        looks: bool = False,
        spent: TokenUsage = TokenUsage(),
    ) -> None:
        rows = readable(rows) if ending else rows
        super().__init__(rows, _refuse, died=died, tool_owners=tool_owners, persistent=persistent)
        self._looks = looks
        self._spent = spent
        self._ending = ending
        self._ended = False

    @property
    def ends(self) -> bool:
        """Whether the turn is ended, not looked at."""
        return self._ending

    def end(self) -> None:
        """The turn is stopped: from now on its end may be made."""
        self._ended = True

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        """Answer from the row."""
        if self._ending and isinstance(envelope.command, ToolCallCommand):
            self._adopt(envelope, envelope.command)
        return await super().execute(envelope, run)

    async def prepare(self, envelopes: Sequence[RuntimeEffectEnvelope]) -> None:
        """Nothing is written."""

    async def save(self) -> bool:
        """Nothing is written, and nothing is lost."""
        return True

    async def _live(
        self,
        envelope: RuntimeEffectEnvelope,
        label: str,
        asked: Callable[[], Asked],
        run: EffectRunner,
        *,
        again: bool = False,
    ) -> RuntimeEffectOutcome:
        self.recorded.asked.discard(envelope.key)
        if self._ended and isinstance(envelope.command, TurnEndCommand):
            outcome = await run(envelope)
            self._records.add(partial(self._row, envelope, asked(), JournalStatus.DONE, encode(outcome)))
            return outcome
        # Of an idempotent call no intent is written, so that it may have begun; and so may one of a tool that is gone.
        is_gone = isinstance(envelope.command, ToolCallCommand) and not envelope.command.call.plugin_id
        raise self._unrecorded(envelope, is_gone or repeatability(envelope.command) is ToolEffect.IDEMPOTENT)

    async def _uncertain(self, what: Fate, envelope: RuntimeEffectEnvelope, asked: Asked) -> RuntimeEffectOutcome:
        raise self._unrecorded(envelope, True)

    def _adopt(self, envelope: RuntimeEffectEnvelope, command: ToolCallCommand) -> None:
        """Take the call's record for what it is, whatever its tool is by now: the model made the same call.

        One that can't be read says that the call was made, so that it may have happened.
        """
        row = self.recorded.unasked.get(envelope.key)
        if row is None:
            return
        asked = self._ask(envelope)
        known = evolve(row, envelope_hash=asked.hash)
        is_cut = row.status is JournalStatus.INTENT and row.envelope_hash != asked.hash
        if is_cut or row.kind != RuntimeEffectKind.TOOL_CALL or isinstance(decide(known, asked.hash), Corrupt):
            del self.recorded.unasked[envelope.key]
            raise self._unrecorded(envelope, True)
        self.recorded.unasked[envelope.key] = known

    def _unrecorded(self, envelope: RuntimeEffectEnvelope, uncertain: bool) -> EffectUnrecorded:
        command, label = envelope.command, effect_label(envelope)
        if isinstance(command, ToolCallCommand):
            within = self._within_call(command.call.call_id)
            return EffectUnrecorded(label, left=_left(pending(command), uncertain, within))
        # Records that nobody needed yet are lost with their process: it may have been further than they are.
        return EffectUnrecorded(label, spent=self._spent + TokenUsage(at_least=self._usage_unknown))

    def _within_call(self, call_id: str) -> list[CompletedToolCall]:
        """What is known of the calls that a call without a record has made: each below the nearest with one."""
        rows = {id: row for row in self.recorded.unasked.values() if (id := call_of(row)) is not None}
        below = sorted(id for id in rows if id.startswith(f"{call_id}:"))
        nearest = [id for id in below if not any(id.startswith(f"{other}:") for other in below)]
        return [done for id in nearest if (done := self._known(rows[id])) is not None]

    def _known(self, row: JournalRow) -> CompletedToolCall | None:
        if row.status is JournalStatus.DONE:
            launch = decode(ToolCallEffectOutcome, row.body).launch
            done = launch.result
            if isinstance(launch, ToolCallPending):  # what its tool returned is not what came of it
                return self._deferred(launch)
            key = hooks_key(row.key, ToolSeam.AFTER)
            if not self.recorded.has(key):
                return unseen_call(done) if self._looks else done
            seen = self.recorded.unasked.get(key)  # without one they said nothing
            return done if seen is None else with_after(done, decode(ToolHooksOutcome, seen.body))
        if row.status is not JournalStatus.INTENT:
            return None
        call = pending(decode(ToolCallCommand, row.body))
        return _left(call, True, self._within_call(call.call_id))

    def _deferred(self, launch: ToolCallPending) -> CompletedToolCall:
        """A call whose end its tool put off: as somebody answered it, if somebody did."""
        put_off, answer = launch.result, self.recorded.unasked.get(launch.key)
        call = PendingToolCall(
            call_id=put_off.call_id, tool_name=put_off.tool_name, args=put_off.args, replay=put_off.replay
        )
        if answer is None or answer.status is not JournalStatus.DONE:
            return evolve(cancelled_call(call), children=put_off.children)
        return answered(call, launch, decode(AwaitEventOutcome, answer.body).resolution)


def _left(call: PendingToolCall, uncertain: bool, within: Sequence[CompletedToolCall]) -> CompletedToolCall:
    """A call without a record: as unknown as it is itself, or as any that it made."""
    unknown = uncertain or any(map(is_unknown, within))
    return evolve(unknown_call(call) if unknown else cancelled_call(call), children=tuple(within))


async def _refuse(rows: Sequence[JournalRow], claims: Sequence[int]) -> None:
    raise AssertionError("unreachable: nothing is recorded here")
