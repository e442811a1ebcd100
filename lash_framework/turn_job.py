"""One turn of a session as its caller asked for it: in line, admitted, run, and told to those who watch commits."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    contextmanager,
    nullcontext,
)
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import anyio
import anyio.lowlevel
from attrs import evolve

from lash_framework.accepted import TurnRequest, accepted_bytes
from lash_framework.admission import BUSY_POLL_S, Journalling, busy
from lash_framework.arguments import TURN_WITH, budget_of, check_arguments
from lash_framework.assembly import with_observers_issues
from lash_framework.begun_turn import BegunTurn
from lash_framework.cancel_gate import CancelGate
from lash_framework.effect_hosts import GuardedHost, TracedController
from lash_framework.held_turn import HeldTurn
from lash_framework.hooks import HookIssue, observe
from lash_framework.inputs import input_hash, normalized, stored_images, user_message_id
from lash_framework.stream import Sink
from lash_framework.turn import TurnRun
from lash_framework.turn_planning import check_request
from lash_hookspecs.codec import decode
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.errors import (
    BudgetExceeded,
    CommitRefused,
    ConfigurationError,
    PluginError,
    TurnBlocked,
    TurnCancelled,
    TurnConflict,
    TurnSuspended,
)
from lash_hookspecs.journal import TurnCommitted
from lash_hookspecs.llm import GenerationOptions, TokenUsage
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.sessions import AssembledTurn, TurnInput
from lash_hookspecs.stores import OperationId, Receipt

if TYPE_CHECKING:
    from lash_framework.budget import Payer
    from lash_framework.resident import Resident

__all__ = ["TurnJob", "TurnOptions", "watched"]

log = logging.getLogger("lash.turn")


Paying = Callable[[str], AbstractAsyncContextManager["Payer | None"]]
"""Around a turn, by its id: who pays for it besides its own session."""


def _nobody_pays(_: str) -> AbstractAsyncContextManager[None]:
    return nullcontext()


class TurnOptions(TypedDict, total=False):
    """How one turn is run.

    `turn_id`: the same id with the same input returns the stored turn, with another input is a `TurnConflict`; without
    one, the turn gets a fresh id. `output`: an attrs class that the answer must fit; `turn.output_value` is then an
    instance of it. `generation`: over the session's. `max_cost` (US dollars), `max_tokens`: what it may spend, over the
    session's budget. `deadline_s`: seconds after which the turn is cancelled. `wait`: wait for a turn of another
    process instead of raising `SessionBusy`.
    """

    turn_id: str | None
    output: type | None
    generation: GenerationOptions | None
    max_cost: float | None
    max_tokens: int | None
    deadline_s: float | None
    wait: bool


class TurnJob:
    """One turn from its acceptance to its commit. `committed` is known before those are told who watch commits."""

    def __init__(
        self, session: Resident, given: TurnInput | str, options: TurnOptions, paying: Paying = _nobody_pays
    ) -> None:
        check_arguments(options, TURN_WITH, where="session.run")
        turn_id, output, generation = options.get("turn_id"), options.get("output"), options.get("generation")
        if turn_id is not None and not turn_id.strip():
            raise ConfigurationError("the turn id is blank; leave it out to get a fresh one")
        self.session = session
        self.turn_id = turn_id or session.lash.world.token_hex(16)
        self.gate = CancelGate()
        self.committed: AssembledTurn | None = None
        self._known = turn_id is not None
        self._paying = paying
        wish = None
        if output is not None:
            from lash_framework.structured import output_wish

            wish = output_wish(output)
        turn_input = normalized(given)
        if wish is not None:
            turn_input = evolve(turn_input, output=wish.spec)
        if generation is not None:
            context = turn_input.context
            turn_input = evolve(turn_input, context=evolve(context, generation=generation.over(context.generation)))
        budget = budget_of("session.run", options.get("max_cost"), options.get("max_tokens"))
        if budget is not None:
            context = turn_input.context
            budget = budget if context.budget is None else budget.over(context.budget)
            turn_input = evolve(turn_input, context=evolve(context, budget=budget))
        self._request = TurnRequest(
            turn_id=self.turn_id, turn_input=turn_input, input_hash=input_hash(turn_input), wish=wish
        )
        deadline_s = options.get("deadline_s")
        if deadline_s is not None and math.isnan(deadline_s):
            raise ConfigurationError("`session.run`: `deadline_s` is not a number")
        self._deadline = math.inf if deadline_s is None else anyio.current_time() + deadline_s
        self._wait = options.get("wait", False)

    def cancel(self, reason: str) -> bool:
        """Ask it to end. False: it completed first."""
        return self.gate.request(reason)

    async def run(self, sink: Sink | None) -> AssembledTurn:
        """Run and commit; tell those who watch commits when others may go on."""
        self.session.refuse_from_within()
        journalling = self.session.lash.journalling
        try:
            line = await self._stood_in_line()
            try:
                with self.session.running():
                    ended = await (
                        self._run_locked(sink) if journalling is None else self._run_begun(journalling, sink)
                    )
            finally:
                line.release()
        finally:
            self.gate.sealed = True  # whatever happened: from now on a cancel comes too late
        if isinstance(ended, Receipt):
            return self._stored(ended)
        self.committed = self._shaped(ended[1])
        return self._shaped(await watched(*ended))

    # ---- with a journal ---------------------------------------------------------------------------------------------

    async def _run_begun(self, journalling: Journalling, sink: Sink | None) -> tuple[TurnRun, AssembledTurn] | Receipt:
        session, request = self.session, self._request
        await session.fresh()
        if self._known:
            from lash_framework.forking import refuse_shared

            await refuse_shared(session, self.turn_id, user_message_id(self.turn_id))
        check_request(session, request)
        request = evolve(request, images=await self._images())
        item = journalling.item(session.id, request, session.policy, session.composition)
        accepted = self._wait  # who waits for another process is accepted before that
        try:
            while True:
                with self._before_the_turn():
                    begun = await journalling.begin(session.id, item, wait=self._wait, synced=False)
                    accepted = True
                if isinstance(begun, TurnCommitted):
                    return begun.receipt
                if begun.item is None:
                    raise TurnCancelled(f"turn `{self.turn_id}` was cancelled before it began, in the session's inbox")
                if begun.item.turn_id == self.turn_id:
                    break
                with self._before_the_turn():
                    # Whatever was begun or accepted before comes first.
                    earlier = BegunTurn(session, journalling, begun, None, CancelGate())
                    await watched(*await self._paid(begun.item.turn_id or "", earlier.run))
        except (TurnCancelled, TurnSuspended, TurnBlocked, BudgetExceeded, CommitRefused):
            if accepted:
                await journalling.take_back(session.id, self.turn_id)
            raise
        own = BegunTurn(session, journalling, begun, request, self.gate)
        return await self._paid(self.turn_id, partial(own.run, deadline=self._deadline, sink=sink))

    # ---- without one ------------------------------------------------------------------------------------------------

    async def _run_locked(self, sink: Sink | None) -> tuple[TurnRun, AssembledTurn] | Receipt:
        session = self.session
        lash = session.lash
        lock = session.lash.store.try_lock(session.id)
        if lock is None:
            with self._before_the_turn():
                lock = await self._lock()
        with lock:
            if self._known:
                receipt = await lash.store.load_receipt(session.id, OperationId("turn", self.turn_id))
                if receipt is not None:
                    return receipt
            revision = (await session.fresh()).head.head_revision
            if self._known:
                from lash_framework.forking import refuse_shared

                await refuse_shared(session, self.turn_id, user_message_id(self.turn_id))
            images = await self._images()
            scope = RuntimeScope(session_id=session.id, turn_id=self.turn_id)
            if isinstance(lash.effects, GuardedHost) and lash.effects.durable:
                # Refuses what nobody could run again.
                accepted_bytes(evolve(self._request, images=images), session.policy, session.composition)
            controller = lash.effects.scoped(scope)
            if lash.tracer is not None:
                controller = TracedController(controller, lash.tracer.around)

            async def run(*, payer: Payer | None) -> tuple[TurnRun, AssembledTurn]:
                request = evolve(self._request, images=images, payer=payer)
                if payer is not None:
                    await payer.begins(TokenUsage())
                return await HeldTurn(session, request, self.gate, self._deadline).run(
                    controller, sink, revision=revision
                )

            return await self._paid(self.turn_id, run)

    async def _lock(self) -> AbstractContextManager[None]:
        session = self.session
        while (held := session.lash.store.try_lock(session.id)) is None:
            if not self._wait:
                raise busy(session.id)
            await anyio.sleep(BUSY_POLL_S)
        return held

    # ---- around the turn --------------------------------------------------------------------------------------------

    async def _paid(
        self, turn_id: str, run: Callable[..., Awaitable[tuple[TurnRun, AssembledTurn]]]
    ) -> tuple[TurnRun, AssembledTurn]:
        async with self._paying(turn_id) as payer:
            run_and_turn = await run(payer=payer)
            if payer is not None:
                payer.ended = run_and_turn[1]
        return run_and_turn

    async def _stood_in_line(self) -> anyio.Lock:
        """The session's line, held, so that no other turn of this process runs on it until it is released."""
        line = self.session.line
        if line.locked() or self.gate.requested or self._deadline < math.inf:
            with self._before_the_turn() as waiting:
                if waiting.cancel_called:
                    await anyio.lowlevel.checkpoint()  # a line that is free is taken without asking for a cancel
                await line.acquire()
        else:
            await line.acquire()  # at once: it is free
        return line

    @contextmanager
    def _before_the_turn(self) -> Iterator[anyio.CancelScope]:
        """For what takes time before the turn: it can be cancelled, takes from the deadline, and leaves nothing."""
        with anyio.CancelScope(deadline=self._deadline) as waiting:
            self.gate.scope = waiting
            if self.gate.requested:
                waiting.cancel()
            yield waiting
        self.gate.scope = None
        if waiting.cancelled_caught:
            raise TurnCancelled(f"turn `{self.turn_id}` was cancelled before it began; nothing was asked or stored")

    async def _images(self) -> dict[str, AttachmentRef]:
        """The input's images and documents, put into the store. Only their names cross the effect boundary.

        This is before the turn, and in no record of it: a blob is named by its content, so that a turn that is run
        again stores the same once more, which changes nothing.
        """
        turn_input = self._request.turn_input
        if not (turn_input.image_blobs or turn_input.document_blobs):
            return {}
        with self._before_the_turn():
            return await stored_images(self.session.lash.store, turn_input)

    def _stored(self, receipt: Receipt) -> AssembledTurn:
        if receipt.input_hash != self._request.input_hash:
            raise TurnConflict(
                f"turn `{self.turn_id}` of session `{self.session.id}` was committed with another input; "
                "choose another turn id, or send the same input to get the stored turn"
            )
        return self._shaped(decode(AssembledTurn, receipt.result))

    def _shaped(self, turn: AssembledTurn) -> AssembledTurn:
        wish = self._request.wish
        if wish is None:
            return turn
        from lash_framework.structured import take_output

        return take_output(wish, turn)


async def watched(run: TurnRun, turn: AssembledTurn) -> AssembledTurn:
    """Tell those who watch commits; what goes wrong there is an issue, and the commit stands."""
    hooks = run.plan.composition.hooks["lash_turn_committed"]
    if not hooks:
        return turn
    issues: list[HookIssue] = []
    try:
        await run.plan.enter()
    except PluginError as error:  # it has nothing to work with; the others are told all the same
        issues.append(HookIssue(plugin_id=error.plugin_id, hook=error.hook, message=str(error)))
        hooks = tuple(each for each in hooks if each.plugin_id != error.plugin_id)
    issues += await observe(hooks, run.contexts.observers(), turn=turn)
    return with_observers_issues(turn, issues)
