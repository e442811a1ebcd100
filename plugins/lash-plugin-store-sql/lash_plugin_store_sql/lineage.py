"""Where a session's nodes lie: a fork's path begins among those of another session, which may be a fork itself.

A path is a list of segments, from its root on: whose number the nodes have, and from which generation to which. That of
a session that is no fork is one segment. The nodes' own parents stay the authority: `path` holds each against the one
before, also where a segment begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lash_hookspecs.values import frozen
from lash_plugin_store_sql.driver import Row, Tx
from lash_plugin_store_sql.plan import HeadFacts
from lash_plugin_store_sql.schema import corrupt, key, span

__all__ = ["Base", "Segment", "base_of", "drop_nodes", "owner_at", "segments"]


@frozen
class Base:
    """What a fork's path begins with: the nodes with the number `no`, up to `generation`, as of `revision`."""

    no: int
    generation: int
    revision: int


class Segment(NamedTuple):
    """Nodes of a path that lie side by side."""

    no: int
    first: int
    last: int


def base_of(whose: str, no: int, columns: Sequence[object]) -> Base:
    """A base from its columns. A base is always older than what was forked from it, so a path comes to its root."""
    base_no, generation, revision = columns
    if not (type(base_no) is type(generation) is type(revision) is int and base_no < no and generation >= 0):
        raise corrupt("forks", f"`{whose}`", f"it begins at {generation!r:.80} of {base_no!r:.80}, which can't be")
    return Base(base_no, generation, revision)


def _base(tx: Tx, no: int) -> Base | None:
    row: Row | None = tx.row("SELECT base_no, base_generation, base_revision FROM forks WHERE no = ?", (no,))
    return None if row is None else base_of(f"number {no}", no, row)


def segments(tx: Tx, no: int, base: Base | None, first: int, head: HeadFacts) -> list[Segment]:
    """The segments of a path, from the generation `first` to the leaf. Asks only as far down as that."""
    found, last = [], head.leaf_generation
    while base is not None and first <= base.generation:
        if last > base.generation:
            found.append(Segment(no, base.generation + 1, last))
        no, last = base.no, min(last, base.generation)
        base = _base(tx, no)
    found.append(Segment(no, first, last))
    return found[::-1]


def owner_at(tx: Tx, no: int, base: Base | None, generation: int) -> tuple[int, Base | None]:
    """Whose number the node at this place of a path has, and what that one's nodes begin with."""
    while base is not None and generation <= base.generation:
        no, base = base.no, _base(tx, base.no)
    return no, base


def drop_nodes(tx: Tx, no: int) -> list[bytes]:
    """Drop the nodes and blobs of a number whose session is gone, as far as no fork needs them.

    What a base was kept for goes with the last of its forks. Returns hashes that may have lost their last user.
    """
    released: list[bytes] = []
    gone: int | None = no
    while gone is not None and tx.row("SELECT 1 FROM sessions WHERE no = ?", (gone,)) is None:
        row = tx.row("SELECT max(base_generation), max(base_revision) FROM forks WHERE base_no = ?", (gone,))
        assert row is not None  # an aggregate always says something
        kept, since = (-1, -1) if row[0] is None else row
        tx.write("DELETE FROM nodes WHERE key BETWEEN ? AND ?", (key(gone, kept + 1), span(gone)[1]))
        unused = "session_no = ? AND (kind != 'blob' OR since > ?)"
        released += [each for (each,) in tx.rows(f"SELECT hash FROM refs WHERE {unused}", (gone, since))]
        tx.write(f"DELETE FROM refs WHERE {unused}", (gone, since))
        if kept >= 0:
            break
        base = tx.row("DELETE FROM forks WHERE no = ? RETURNING base_no", (gone,))
        gone = None if base is None else base[0]
    return released
