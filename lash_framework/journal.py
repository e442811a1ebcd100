"""The effect boundary's journal host, for one turn: answers from its rows, runs what has none, and records that.

No store is in here: `append` writes rows at the journal's end. Records are one queue, so that a durable record implies
all before it; whoever needs one durable waits for the write that it is in, and one write is on its way at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial

import anyio
import anyio.lowlevel

from lash_framework.call_rows import pending, withdrawn
from lash_framework.cut_calls import EXTERNAL, asks_somebody, at_least, begun, cut_row, may_be_cut
from lash_framework.envelope_hash import Asked, EnvelopeHasher, Parts
from lash_framework.journal_decisions import (
    WRITTEN_AT_ONCE,
    Corrupt,
    Failed,
    Fate,
    Intended,
    Mismatch,
    Recorded,
    decide,
    encode_error,
    encode_outcome,
    fate,
    repeatability,
    require_match,
)
from lash_framework.journal_errors import EffectSuspended, JournalRefusal, effect_label, mismatch, of_plugin
from lash_framework.journal_queue import Append, JournalQueue, Later, Record
from lash_framework.recorded_rows import RecordedRows
from lash_framework.silences import MOSTLY_SILENT, is_silent, silent_outcome
from lash_hookspecs.codec import encode
from lash_hookspecs.effect_commands import DirectCommand, RuntimeEffectKind, ToolCallCommand
from lash_hookspecs.effect_outcomes import (
    CheckpointOutcome,
    DirectOutcome,
    ExecCodeOutcome,
    LlmCallOutcome,
    RuntimeEffectOutcome,
    SyncEnvironmentOutcome,
    ToolCallDone,
    ToolCallEffectOutcome,
    TurnStartOutcome,
)
from lash_hookspecs.effects import EffectController, EffectRunner, RuntimeEffectEnvelope
from lash_hookspecs.errors import ClaimLost, CodecError, EffectControllerError
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.tools import ToolEffect

__all__ = ["Around", "JournalController", "straight"]

log = logging.getLogger("lash.turn")

_K = RuntimeEffectKind

Around = Callable[[RuntimeEffectEnvelope, EffectRunner], Awaitable[RuntimeEffectOutcome]]
"""Stands where an effect is executed: what must be durable before it is, and its outcome isn't recorded yet."""

BREATH = 32
"""After how many recorded outcomes others get their turn on the event loop: nothing waits in a replay."""


async def straight(envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
    """Nothing stands there."""
    return await run(envelope)


class JournalController:
    """One turn's way through the effect boundary, with a journal.

    `rows` are what earlier attempts recorded; `died`: the last of them was killed; `tool_owners` names each tool's
    plugin, for the message of a mismatch; `parts` is what requests may have in common with those of other turns;
    `persistent` is whether the journal outlives the process; `later` writes what need be durable only before the next
    external effect; `around` is called in the place of each effect that is executed, and executes it. Afterwards
    `replayed`, `ran` and `unknown` are the labels of what was answered, what was run, and what a crash left unknown, in
    order; `progressed` says that anything was recorded. `when_live` is told once, before the first effect that has no
    record.

    Raises what `append` raised, from then on for everything; `JournalRefusal` if a row isn't what is asked
    (`runtime_effect_mismatch`) or can't be read (`runtime_effect_corrupt`); `EffectSuspended`.
    """

    def __init__(
        self,
        rows: Iterable[JournalRow],
        append: Append,
        *,
        later: Later | None = None,
        died: bool = False,
        tool_owners: Mapping[str, str] | None = None,
        parts: Parts | None = None,
        persistent: bool = True,
        around: Around = straight,
        when_live: Callable[[], None] | None = None,
    ) -> None:
        self._when_live = when_live
        self._persistent = persistent
        self._around = around
        self.replayed: list[str] = []
        self.ran: list[str] = []
        self.unknown: list[str] = []
        self.progressed = False
        rows = tuple(rows)
        self.recorded = RecordedRows(rows)
        self._places = len(rows)
        self._breath = BREATH
        self._records = JournalQueue(append, later)
        self._hasher = EnvelopeHasher(tool_owners or {}, parts or Parts())
        self._prepared: dict[str, Asked] = {}
        self._intents: set[str] = set()
        self._withdrawn: list[Record] = []
        self._directs = {row.key for row in rows if row.kind == _K.DIRECT}
        self._under_way = 0
        self._is_asking = False
        self._usage_unknown = may_be_cut(rows, died=died)
        if self._usage_unknown and not may_be_cut(rows, died=False):
            self._note_cut()  # whoever follows us must know, too

    @property
    def durable(self) -> bool:
        """Whether each effect so far is in a journal that outlives us, or held for the next write or the commit."""
        return self._persistent and self._records.failure is None

    @property
    def held(self) -> tuple[JournalRow, ...]:
        """The records that aren't written: the turn's commit makes them needless, or takes them along."""
        return self._records.held

    @property
    def acted(self) -> bool:
        """Whether anything happened outside, or may have, since we began."""
        return bool(self._intents) or self._records.has_external

    def began(self, key: str) -> bool:
        """Whether the direct call with this key has been begun, here or before."""
        return key in self._directs

    def intends(self, key: str) -> bool:
        """Whether the intent of the effect with this key was written since we began."""
        return key in self._intents

    # ---- the port ---------------------------------------------------------------------------------------------------

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        """Answer from the row, or run it and record what came of it."""
        if self._records.failure is not None:
            raise self._records.failure
        if envelope.command.kind is _K.LLM_CALL and len(self.replayed) >= self._breath:
            # Here a cancel may come in, and nowhere else: what tools and hooks have done must not be lost to it.
            self._breath = len(self.replayed) + BREATH
            await anyio.lowlevel.checkpoint()
        key, label = envelope.key, effect_label(envelope)
        recorded = self.recorded
        if key in recorded.asked:
            raise EffectControllerError("runtime_effect_key_reused", f"{label} was asked for twice under one key")
        recorded.asked.add(key)
        row = recorded.unasked.pop(key, None)
        if row is None and recorded.is_silent(key):
            self.replayed.append(label)
            return silent_outcome(envelope.command)
        if row is None and envelope.command.kind in MOSTLY_SILENT:
            return await self._live(envelope, label, partial(self._ask, envelope), run)
        asked = self._prepared.get(key) or self._ask(envelope)
        decision = decide(row, asked.hash)
        match fate(decision, envelope.command), decision:
            case Fate.REPLAY, Recorded(outcome=outcome):
                self.replayed.append(label)
                self._note(outcome)
                return outcome
            case Fate.REPLAY, Failed(error=error):
                self.replayed.append(label)
                raise error
            case Fate.REFUSE, Corrupt(reason=reason):
                text = f"the record of {label} is broken: {reason}"
                raise JournalRefusal("runtime_effect_corrupt", text, label=label)
            case Fate.REFUSE, Mismatch():
                assert row is not None  # there is nothing else that could differ
                raise mismatch(row, asked, label)
            case (Fate.SUSPEND | Fate.UNKNOWN) as what, _:
                return await self._uncertain(what, envelope, asked)
        again = isinstance(decision, Intended) and asks_somebody(envelope.command)
        return await self._live(envelope, label, lambda: asked, run, again=again)

    async def prepare(self, envelopes: Sequence[RuntimeEffectEnvelope]) -> None:
        """Write what must be durable before these start, the intents of the unsafe ones included, at once."""
        recorded = self.recorded
        fresh = [each for each in envelopes if each.key not in recorded.unasked and each.key not in recorded.asked]
        self._prepared |= {each.key: self._ask(each) for each in fresh}
        if fresh:
            require_match(recorded.unasked, envelopes, self._ask)
            await self._go_live()
            await self._before([(each, self._prepared[each.key]) for each in fresh])

    def withdraw(self, envelopes: Iterable[RuntimeEffectEnvelope]) -> None:
        """Take back the intents of calls that were never begun: who goes on with the turn may make them."""
        for each in envelopes:
            if self.intends(each.key) and each.key not in self.recorded.asked:  # else it has a record
                self._intents.discard(each.key)
                self._withdrawn.append(partial(self._take_back, each, self._ask(each)))

    async def flush(self) -> None:
        """Have the outcomes of external effects durable, and with them all before them."""
        if self._records.owes:
            await self._records.write_external()

    async def save(self) -> bool:
        """Write what is held, whatever is being cancelled: the turn is interrupted, and what was paid for is known.

        False: some of it couldn't be written.
        """
        if self._is_asking:
            self._note_cut()
        try:
            await self._records.write_last(self._withdrawn)
        except Exception as error:  # also what no store should raise: the turn ends by something else
            log.debug("records of an interrupted turn weren't written: %s", error)
            return False
        return True

    # ---- live -------------------------------------------------------------------------------------------------------

    async def _before(self, effects: Sequence[tuple[RuntimeEffectEnvelope, Asked]]) -> None:
        """Have durable what these may not start without."""
        repeats = set()
        for each, asked in effects:
            if each.command.kind not in EXTERNAL:
                continue
            if isinstance(each.command, DirectCommand):  # it may be paid within an effect of which nobody asks again
                if each.key not in self._directs:
                    self._directs.add(each.key)
                    body = encode(begun(each.command))
                    self._records.add(partial(self._row, each, asked, JournalStatus.INTENT, body))
                repeats.add(ToolEffect.IDEMPOTENT)
                continue
            repeats.add(again := repeatability(each.command))
            if again is ToolEffect.UNSAFE and each.key not in self._intents:
                self._intents.add(each.key)
                self._records.add(partial(self._row, each, asked, JournalStatus.INTENT, encode(each.command)))
        if repeats - {ToolEffect.PURE}:
            await self._records.write()
        elif repeats:
            await self._records.post_external(sync=effects[0][0].command.kind is not _K.TOOL_CALL)

    async def _go_live(self) -> None:
        """From here on it costs: a cancel that waited for that gets its chance."""
        if self._when_live is not None:
            tell, self._when_live = self._when_live, None
            tell()
            await anyio.lowlevel.checkpoint_if_cancelled()

    async def _live(
        self,
        envelope: RuntimeEffectEnvelope,
        label: str,
        asked: Callable[[], Asked],
        run: EffectRunner,
        *,
        again: bool = False,
    ) -> RuntimeEffectOutcome:
        command = envelope.command
        await self._go_live()
        if self._prepared.pop(envelope.key, None) is None and command.kind in EXTERNAL:
            await self._before([(envelope, asked())])
        # Else all before its batch is durable, and what its siblings do isn't before it.
        unknown_usage = self._takes_unknown_usage(command.kind) or again
        self.ran.append(label)
        self._under_way += 1
        was_asking = self._is_asking
        try:
            try:
                self._is_asking = command.kind is RuntimeEffectKind.LLM_CALL
                outcome = await self._around(envelope, run)
            except anyio.get_cancelled_exc_class():
                self.recorded.asked.discard(envelope.key)  # it has no record: the turn's end is asked for once more
                raise
            except Exception:
                self._is_asking = was_asking
                raise
            finally:
                self._under_way -= 1
            self._is_asking = was_asking
            if outcome.kind is not command.kind:
                raise EffectControllerError(
                    "runtime_effect_wrong_outcome",
                    f"the executor of `{command.kind}` returned an outcome of `{outcome.kind}`",
                )
            if is_silent(outcome):
                self.progressed = True
                self._records.add_silence(envelope.key)
                return outcome
            if unknown_usage and isinstance(outcome, (LlmCallOutcome, DirectOutcome)):
                outcome = at_least(outcome)
            body = encode_outcome(outcome, f"{label}{of_plugin(command)}")
        except JournalRefusal:
            raise  # of an effect within this one: it isn't the outcome of this
        except EffectControllerError as error:
            await self._record(envelope, asked(), JournalStatus.FAILED, encode_error(error))
            raise
        claims = outcome.taken if isinstance(outcome, CheckpointOutcome) else ()
        await self._record(envelope, asked(), JournalStatus.DONE, body, claims)
        self._note(outcome)
        return outcome

    async def _record(
        self,
        envelope: RuntimeEffectEnvelope,
        asked: Asked,
        status: JournalStatus,
        body: bytes,
        claims: Sequence[int] = (),
    ) -> None:
        kind, record = envelope.command.kind, partial(self._row, envelope, asked, status, body)
        self.progressed = True
        if claims:
            try:
                await self._records.claim(record, claims)
            except ClaimLost:
                self.recorded.asked.discard(envelope.key)  # it may be asked again, and answer otherwise
                raise
            return
        self._records.add(record, external=kind in EXTERNAL)
        if kind in WRITTEN_AT_ONCE:
            if self._under_way or self._prepared:  # what ends in this moment, too, goes into the same write
                await anyio.lowlevel.cancel_shielded_checkpoint()
            own = kind is _K.TOOL_CALL and not self._under_way  # only the turn gets the answer, no code outside
            await (self._records.post() if own else self._records.write())

    async def _uncertain(self, what: Fate, envelope: RuntimeEffectEnvelope, asked: Asked) -> RuntimeEffectOutcome:
        """Wait for a person, or answer, for good, that nobody knows whether it happened."""
        if what is Fate.SUSPEND:
            raise EffectSuspended(envelope.key, effect_label(envelope))
        if isinstance(envelope.command, ToolCallCommand):
            from lash_framework.tool_calls import unknown_call  # few need it

            outcome: RuntimeEffectOutcome = ToolCallEffectOutcome(ToolCallDone(unknown_call(pending(envelope.command))))
        else:
            text = "unknown_after_crash: the code was interrupted by a crash; what it did, nobody knows"
            outcome = ExecCodeOutcome(text)
        self._takes_unknown_usage(envelope.command.kind)
        self.unknown.append(effect_label(envelope))
        await self._record(envelope, asked, JournalStatus.DONE, encode(outcome))
        return outcome

    def _takes_unknown_usage(self, kind: RuntimeEffectKind) -> bool:
        """Whether this is a model call that a killed process may have paid for: the first external one unrecorded.

        Once an external effect started, every model call before it was durable.
        """
        if kind not in EXTERNAL or kind is _K.DIRECT:
            return False
        unknown, self._usage_unknown = self._usage_unknown, False
        return unknown and kind is RuntimeEffectKind.LLM_CALL

    def _note_cut(self) -> None:
        self._records.add(partial(cut_row, self._places))
        self._places += 1

    # ---- rows -------------------------------------------------------------------------------------------------------

    def _ask(self, envelope: RuntimeEffectEnvelope) -> Asked:
        try:
            return self._hasher.ask(envelope.command)
        except CodecError as error:
            text = f"{effect_label(envelope)}{of_plugin(envelope.command)} can't be written down: {error}"
            raise EffectControllerError("runtime_effect_unencodable", text) from error

    def _note(self, outcome: RuntimeEffectOutcome) -> None:
        match outcome:
            case TurnStartOutcome() | SyncEnvironmentOutcome(unchanged=False):
                self._hasher.note(outcome)
            case ToolCallEffectOutcome(launch=launch):
                self.recorded.hold(launch.result)

    def _take_back(self, envelope: RuntimeEffectEnvelope, asked: Asked) -> JournalRow:
        return withdrawn(self._row(envelope, asked, JournalStatus.INTENT, b""))

    def _row(self, envelope: RuntimeEffectEnvelope, asked: Asked, status: JournalStatus, body: bytes) -> JournalRow:
        return JournalRow(
            key=envelope.key,
            kind=envelope.command.kind.value,
            status=status,
            envelope_hash=asked.hash,
            body=body,
            digests=asked.written,
            label=effect_label(envelope),
        )


def _conforms(controller: JournalController) -> EffectController:
    return controller  # a type checker holds the class against the port here
