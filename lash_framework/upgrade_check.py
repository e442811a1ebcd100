"""Whether what is installed now would go on with turns that aren't committed: nothing is executed or written.

A turn that was begun is replayed as far as its records go; of one that only waits, what it needs is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from lash_framework.accepted import changed_versions, lacking, what_was_accepted
from lash_framework.envelope_hash import owner_of
from lash_framework.journal_errors import EffectsSuspended, EffectUnrecorded
from lash_framework.pending import waiting_in
from lash_framework.recorded_only import RecordedOnly
from lash_framework.replaying import DryStore, replay_records, tool_owners
from lash_framework.resident import Resident
from lash_framework.turn_planning import check_request
from lash_framework.unfinished import all_items
from lash_hookspecs.errors import ConfigurationError, PluginError, ReplayError, StoreCorrupt
from lash_hookspecs.inbox import InboxItem, InboxState
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.stores import SessionHead
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.lash import Lash

__all__ = ["UpgradeCheck", "Verdict", "check_unfinished"]


class Verdict(StrEnum):
    """What would become of an unfinished turn here."""

    SAFE = "safe"
    MISMATCH = "mismatch"
    OLD_SET = "old_set"
    """It needs plugins, a mode or a state that isn't here: finish it with the old set."""


@frozen(kw_only=True)
class UpgradeCheck:
    """What would become of one unfinished turn. `at` is the number of the effect where its replay stopped, from 1.

    `versions` are the plugins whose version is another than when the turn was accepted: id, then, now. `waits_for` are
    the calls of which a person must say first whether they happened.
    """

    session_id: str
    turn_id: str
    verdict: Verdict
    at: int
    reason: str = ""
    versions: tuple[tuple[str, str, str], ...] = ()
    waits_for: tuple[str, ...] = ()

    @property
    def lacks(self) -> tuple[str, ...]:
        """The plugins that the turn was accepted with, and that aren't here."""
        return lacking(self.versions)


async def check_unfinished(lash: Lash, session_id: str | None = None) -> Sequence[UpgradeCheck]:
    """What would become of all turns that aren't committed, of one session or of all."""
    found = []
    async for item in all_items(lash.require_journal("`lash upgrade-check`").store, session_id):
        if item.state is InboxState.PENDING:
            found.append(_check_waiting(lash, item))
        elif item.attempts:  # else it is a part of another's turn
            found.append(await _check_begun(lash, item))
    return found


async def _check_begun(lash: Lash, item: InboxItem) -> UpgradeCheck:
    """Replay an unfinished turn as far as its records go."""
    rows: Sequence[JournalRow] = ()
    controller: RecordedOnly | None = None
    verdict, reason, versions = Verdict.SAFE, "", changed_versions(item, lash.host.composition)
    try:
        rows = await lash.require_journal("`lash upgrade-check`").store.load_journal(
            item.session_id, item.turn_id or ""
        )
        controller = RecordedOnly(rows, tool_owners=tool_owners(lash, item))
        await replay_records(lash, DryStore(lash.store), item, rows, controller)
    except EffectUnrecorded as end:
        reason = f"its records end before {end.label}"
    except EffectsSuspended as end:
        reason = str(end)
    except ReplayError as error:
        verdict, reason = Verdict.MISMATCH, str(error)
        owners = map(owner_of, getattr(error, "paths", ()))
        if error.code == "runtime_effect_states" or not {*lacking(versions)}.isdisjoint(owners):
            verdict = Verdict.OLD_SET
    except (ConfigurationError, PluginError, StoreCorrupt) as error:
        verdict, reason = Verdict.OLD_SET, str(error)
    return UpgradeCheck(
        session_id=item.session_id,
        turn_id=item.turn_id or "",
        verdict=verdict,
        at=1 if controller is None else len(controller.replayed) + 1,
        reason=reason,
        versions=versions,
        waits_for=tuple(row.label for row, _ in waiting_in(item, rows)),
    )


def _check_waiting(lash: Lash, item: InboxItem) -> UpgradeCheck:
    """What would become of a turn that is accepted and not begun: whether all that it needs is here."""
    verdict, reason, versions = Verdict.SAFE, "", changed_versions(item, lash.host.composition)
    try:
        request, policy = what_was_accepted(item, (), lash.host.composition)
        head = SessionHead(session_id=item.session_id)
        check_request(Resident(lash, head, policy, ()), request)
    except (ConfigurationError, PluginError, StoreCorrupt) as error:
        verdict, reason = Verdict.OLD_SET, str(error)
    else:
        if gone := lacking(versions):
            verdict, reason = Verdict.OLD_SET, f"it was accepted with plugins that aren't here: {', '.join(gone)}"
    return UpgradeCheck(
        session_id=item.session_id,
        turn_id=item.turn_id or item.source_key,
        verdict=verdict,
        at=1,
        reason=reason,
        versions=versions,
    )
