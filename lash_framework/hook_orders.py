"""What hooks change of the plugins' states where their records may be read in another order than they were made.

Tools that run at once may call tools, around which there are hooks. These run one at a time, and each change is
numbered; but when the turn goes on after a crash, some calls are answered from records and some are run again, in an
order that nobody knows. Of what is recorded of a plugin the greatest number counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from attrs import evolve, field

from lash_framework.state import PluginStates
from lash_hookspecs.codec import decode
from lash_hookspecs.directives import EnqueueMessages, OwnedDirective
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.effect_outcomes import HookRecord, ToolCallEffectOutcome, ToolHooksOutcome
from lash_hookspecs.errors import CodecError
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.values import mutable

__all__ = ["HookOrders", "joined", "messages", "recorded_changes"]

_NONE = HookRecord()


@mutable(eq=False)
class HookOrders:
    """The numbers of one turn."""

    states: PluginStates
    _last: dict[str, int] = field(factory=dict)
    _count: int = 0

    def take(self, record: HookRecord) -> None:
        """Take over the states of a record, but for those of which a later change is known. Raises `PluginError`."""
        fresh = {
            plugin_id: state
            for plugin_id, state in record.states.items()
            if plugin_id not in record.orders or record.orders[plugin_id] > self._last.get(plugin_id, 0)
        }
        self.states.replay(fresh)
        for plugin_id, number in record.orders.items():
            self._last[plugin_id] = max(number, self._last.get(plugin_id, 0))
            self._count = max(number, self._count)

    def numbered(self, record: HookRecord) -> HookRecord:
        """The record of changes that were just made, with their number."""
        if not record.states:
            return record
        self._count += 1
        self._last |= dict.fromkeys(record.states, self._count)
        return evolve(record, orders=dict.fromkeys(record.states, self._count))


def joined(records: Iterable[HookRecord]) -> HookRecord:
    """Several records as one: what was said in their order, and the last change of each state."""
    records = [each for each in records if each.directives or each.states]
    if len(records) < 2:
        return records[0] if records else _NONE
    states, orders = {}, dict[str, int]()
    for each in records:
        for plugin_id, number in each.orders.items():
            if number > orders.get(plugin_id, 0):
                orders[plugin_id], states[plugin_id] = number, each.states[plugin_id]
    directives = tuple(one for each in records for one in each.directives)
    return HookRecord(directives=directives, states=states, orders=orders)


def messages(records: Iterable[HookRecord]) -> tuple[OwnedDirective, ...]:
    """What is to be said at the turn's next checkpoint."""
    said = [each for record in records for each in record.directives]
    return tuple(each for each in said if isinstance(each.directive, EnqueueMessages))


def recorded_changes(rows: Iterable[JournalRow]) -> Iterator[HookRecord]:
    """The records with numbered changes that these rows hold. What can't be read is told where it is asked for."""
    for row in rows:
        if row.status is not JournalStatus.DONE:
            continue
        try:
            if row.kind == RuntimeEffectKind.TOOL_HOOKS:
                record = decode(ToolHooksOutcome, row.body).hooks
            elif row.kind == RuntimeEffectKind.TOOL_CALL:
                record = decode(ToolCallEffectOutcome, row.body).within
            else:
                continue
        except CodecError:
            continue
        if record.orders:
            yield record
