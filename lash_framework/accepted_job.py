"""A turn that waits in its session's inbox, as one to run and to watch: of a handoff, say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lash_framework.recovery import RecoveryGate, recover
from lash_framework.running import RunningTurn
from lash_hookspecs.codec import decode
from lash_hookspecs.errors import TurnCancelled, UnknownName
from lash_hookspecs.sessions import AssembledTurn
from lash_hookspecs.stores import OperationId, Receipt

if TYPE_CHECKING:
    from lash_framework.resident import Resident
    from lash_framework.session import Session
    from lash_framework.stream import Sink

__all__ = ["AcceptedJob", "accepted_turn"]


def accepted_turn(session: Session, turn_id: str) -> RunningTurn:
    """A turn that is in the session's inbox, or was, to watch. What waits before it comes first, and isn't shown."""
    return RunningTurn(AcceptedJob(session._resident, turn_id), session)


class AcceptedJob:
    """Runs a turn as it was accepted, whatever the session is told to be by now, or finds it committed."""

    def __init__(self, session: Resident, turn_id: str) -> None:
        self.turn_id = turn_id
        self.committed: AssembledTurn | None = None
        self._session = session
        self._gate = RecoveryGate()

    def cancel(self, reason: str) -> bool:
        """Ask what runs to end. False: nothing ran yet, and nothing will."""
        return self._gate.cancel(reason)

    async def run(self, sink: Sink | None) -> AssembledTurn:
        """Run it. Raises what a turn raises, and `UnknownName` for one that was never there, or was withdrawn."""
        receipt = await self._receipt()
        if receipt is None:
            for each in await recover(self._session, until=self.turn_id, gate=self._gate, sink=sink):
                if each.turn.turn_id == self.turn_id:
                    self.committed = each.turn
                    return each.turn
            receipt = await self._receipt()
        if receipt is not None:
            self.committed = decode(AssembledTurn, receipt.result)
            return self.committed
        if self._gate.reason is not None:
            raise TurnCancelled(f"turn `{self.turn_id}` was cancelled before it began, and still waits")
        hint = f"session `{self._session.id}` has no such turn, nor an input for it: it was cancelled in its inbox"
        raise UnknownName("turn", self.turn_id, hint=hint)

    async def _receipt(self) -> Receipt | None:
        return await self._session.lash.store.load_receipt(self._session.id, OperationId("turn", self.turn_id))
