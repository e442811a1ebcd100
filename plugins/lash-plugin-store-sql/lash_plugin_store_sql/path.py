"""A session's nodes from a frame to its leaf, held against the rules of the graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from lash_hookspecs.errors import StoreCorrupt
from lash_hookspecs.stores import NodeKind, NodePath
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.plan import HeadFacts
from lash_plugin_store_sql.schema import corrupt, key

__all__ = ["load_path"]

_KINDS = {kind.value: kind for kind in NodeKind}
_COLUMNS = "node_id, parent, kind, timestamp_ms, frame_key, body, frame_generation"
_RULES = "a gap, or a row with a wrong parent, frame, kind, time stamp or body"


def load_path(tx: Tx, session_id: str, session_no: int, head: HeadFacts, first: int) -> NodePath:
    """The nodes of a range that ends at the leaf: one scan, each row held against the one before.

    By columns, in C: a loop over ten thousand rows would take as long as fetching them.
    """
    if head.leaf is None:
        return NodePath(None, (), (), (), (), ())
    span = (key(session_no, first), key(session_no, head.leaf_generation))
    rows = tx.rows(f"SELECT {_COLUMNS} FROM nodes WHERE key BETWEEN ? AND ? ORDER BY key", span)
    # Keys differ, so where there are as many rows as places, none is missing.
    if len(rows) != head.leaf_generation - first + 1:
        raise _fault(tx, session_id, session_no, head, first)
    raw_ids, parents, names, timestamps, frame_keys, bodies, frames = zip(*rows, strict=True)
    kinds = [_KINDS[name] for name in names if name in _KINDS]
    opens = NodeKind.FRAME_OPEN  # an enum's member is found slowly
    opened = [at for at, kind in enumerate(kinds) if kind is opens]
    expected: list[int] = []
    for at, end in pairwise([*opened, len(rows)]):
        expected += [first + at] * (end - at)
    sound = (
        len(kinds) == len(rows)
        and _all_are(bytes, raw_ids)
        and _all_are(bytes, bodies)
        and _all_are(int, timestamps)
        and parents[1:] == raw_ids[:-1]
        and (parents[0] is None if first == 0 else type(parents[0]) is bytes)
        and frames == tuple(expected)
        and opened == [at for at, frame_key in enumerate(frame_keys) if frame_key is not None]
    )
    ids = list(map(bytes.hex, raw_ids)) if sound else []
    if not sound or ids[-1] != head.leaf or (first == head.frame_generation and ids[0] != head.frame):
        raise _fault(tx, session_id, session_no, head, first)
    return NodePath(parents[0] and parents[0].hex(), ids, kinds, timestamps, frame_keys, bodies)


def _all_are(cls: type, values: Sequence[object]) -> bool:
    return list(map(type, values)).count(cls) == len(values)


def _fault(tx: Tx, session_id: str, session_no: int, head: HeadFacts, first: int) -> StoreCorrupt:
    """What is wrong with a range of nodes, and where: the same rules, row by row."""
    rows = tx.rows(
        f"SELECT {_COLUMNS}, key FROM nodes WHERE key BETWEEN ? AND ? ORDER BY key",
        (key(session_no, first), key(session_no, head.leaf_generation)),
    )
    wanted, frame = first, first
    previous = rows[0][1] if rows and first else None
    for raw_id, parent, name, timestamp_ms, frame_key, body, frame_generation, node_key in rows:
        kind = _KINDS.get(name)
        opens = kind is NodeKind.FRAME_OPEN
        if opens:
            frame = wanted
        if (
            node_key != key(session_no, wanted)
            or parent != previous
            or frame_generation != frame
            or kind is None
            or type(body) is not bytes
            or type(raw_id) is not bytes
            or type(timestamp_ms) is not int
            or (frame_key is not None) != opens
        ):
            return corrupt("nodes", f"session `{session_id}`, generation {wanted}", _RULES)
        previous = raw_id
        wanted += 1
    if first == head.frame_generation and rows and rows[0][0].hex() != head.frame:
        return corrupt("nodes", f"session `{session_id}`, generation {first}", "it isn't the frame that the head names")
    return corrupt("nodes", f"session `{session_id}`", "the path from its frame to its leaf isn't whole")
