"""What earlier attempts at a turn recorded, and nobody asked for yet. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from lash_framework.call_rows import descendants, is_withdrawn, keys_within
from lash_framework.cut_calls import is_cut
from lash_framework.silences import is_silence, short, silent_keys
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.tools import CompletedToolCall

__all__ = ["RecordedRows"]


class RecordedRows:
    """The rows of effects in a journal, by key: `unasked`. `asked` are the keys of what was asked for."""

    def __init__(self, rows: Iterable[JournalRow]) -> None:
        rows = tuple(rows)
        self.unasked = {row.key: row for row in rows if not (is_cut(row) or is_silence(row) or is_withdrawn(row))}
        self.asked: set[str] = set()
        self._silent = silent_keys(rows)
        self._within: set[str] = set()

    def is_silent(self, key: str) -> bool:
        """Whether a row says that what has this key came to nothing."""
        return short(key) in self._silent

    def has(self, key: str) -> bool:
        """Whether there is a row under this key, or one that tells of it, and nobody asked for it yet."""
        return key in self.unasked or (self.is_silent(key) and key not in self.asked)

    def has_kind(self, *kinds: RuntimeEffectKind) -> bool:
        """Whether there is a row of one of these kinds that nobody asked for yet."""
        return any(row.kind in kinds for row in self.unasked.values())

    def hold(self, call: CompletedToolCall) -> None:
        """Note that a call was asked for, which holds the results of the calls within it."""
        self._within.update(descendants(call))

    @property
    def left(self) -> tuple[JournalRow, ...]:
        """The rows that nobody asked for.

        Without the calls within a replayed call, which holds their results, and what these waited for; and without
        direct calls: what they were made for holds what became of them.
        """
        within = set(keys_within(self.unasked, self._within)) if self._within else ()
        return tuple(
            row for row in self.unasked.values() if row.kind != RuntimeEffectKind.DIRECT and row.key not in within
        )

    @property
    def directs(self) -> tuple[JournalRow, ...]:
        """The rows of direct calls that nobody asked for: paid all the same, or maybe."""
        return tuple(row for row in self.unasked.values() if row.kind == RuntimeEffectKind.DIRECT)
