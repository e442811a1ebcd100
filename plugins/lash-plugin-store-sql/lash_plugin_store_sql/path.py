"""A session's nodes from a frame to its leaf, held against the rules of the graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lash_hookspecs.errors import StoreCorrupt
from lash_hookspecs.stores import NodeBodies, NodeKind, NodePath
from lash_plugin_store_sql.driver import Row, Tx
from lash_plugin_store_sql.lineage import Segment
from lash_plugin_store_sql.plan import HeadFacts
from lash_plugin_store_sql.schema import INT_MAX, corrupt, key

__all__ = ["load_bodies", "load_path"]

_KINDS = {kind.value: kind for kind in NodeKind}
_COLUMNS = "node_id, parent, kind, timestamp_ms, frame_key, body, frame_generation"
_TOP = {False: type(None), True: bytes}  # the parent of a path's first node: only the session's first has none
_RULES = "a gap, or a row with a wrong parent, frame, kind, time stamp or body"


def load_path(tx: Tx, session_id: str, segments: Sequence[Segment], head: HeadFacts) -> NodePath:
    """The nodes of a range that ends at the leaf: one scan for each segment, each row held against the one before.

    By columns, in C: a loop over ten thousand rows would take as long as fetching them. And page by page, so that what
    is checked and not kept makes room for the next: memory that is touched for the first time is what costs most.
    """
    if head.leaf is None:
        return NodePath(None, (), (), (), (), ())
    above = top = None
    frame: int | None = None
    opens = NodeKind.FRAME_OPEN  # an enum's member is found slowly
    ids: list[str] = []
    kinds: list[NodeKind] = []
    timestamps: list[int] = []
    frame_keys: list[str | None] = []
    bodies: list[bytes] = []
    first = segments[0].first
    for rows in _pages(tx, segments):
        raw_ids, parents, names, times, keys, contents, frames = zip(*rows, strict=True)
        known = [_KINDS[name] for name in names if name in _KINDS]
        opened = [at for at, kind in enumerate(known) if kind is opens]
        expected: list[int | None] = []
        for at in opened:
            expected += [frame] * (at - len(expected))
            frame = first + len(ids) + at
        expected += [frame] * (len(rows) - len(expected))
        if not ids:
            above = top = parents[0]
        sound = (
            len(known) == len(rows)
            and _all_are(bytes, raw_ids)
            and _all_are(bytes, contents)
            and _all_are(int, times)
            and parents == (above, *raw_ids[:-1])
            and frames == tuple(expected)
            and opened == [at for at, frame_key in enumerate(keys) if frame_key is not None]
        )
        if not sound:
            raise _fault(tx, session_id, segments, head)
        above = raw_ids[-1]
        ids += map(bytes.hex, raw_ids)
        kinds += known
        timestamps += times
        frame_keys += keys
        bodies += contents
    # Keys differ, so where there are as many rows as places, none is missing.
    whole = len(ids) == head.leaf_generation - first + 1 and ids[-1] == head.leaf
    if not whole or (first == head.frame_generation and ids[0] != head.frame) or type(top) is not _TOP[first > 0]:
        raise _fault(tx, session_id, segments, head)
    return NodePath(top and top.hex(), ids, kinds, timestamps, frame_keys, bodies)


def load_bodies(tx: Tx, session_id: str, segments: Sequence[Segment], head: HeadFacts) -> NodeBodies:
    """The kinds and bodies of a frame's nodes. The other columns are held against the rules where they are."""
    if head.leaf is None:
        return NodeBodies((), ())
    no, first, _ = segments[0]
    top = tx.row(f"SELECT {_COLUMNS} FROM nodes WHERE key = ?", (key(no, first),))
    whole = top is not None and top[0].hex() == head.frame and head.frame_generation == first
    kinds: list[NodeKind] = []
    bodies: list[bytes] = []
    above = None
    if top is not None:
        above, parent, name, _, frame_key, body, frame = top
        kinds, bodies = [NodeKind.FRAME_OPEN], [body]
        opens = name == NodeKind.FRAME_OPEN.value and frame_key is not None
        whole = whole and opens and frame == first and type(parent) is _TOP[first > 0]
    for no, first, last in segments:
        span = (low, high) = (max(key(no, first), key(no, head.frame_generation + 1)), key(no, last))
        seen = tx.row(_HELD, (above, head.frame_generation, low, *span))
        assert seen is not None  # an aggregate always says something
        whole = whole and seen[0] == seen[1] == high - low + 1
        if not whole:
            break
        if seen[2] == seen[0]:
            for rows in tx.pages("SELECT body FROM nodes WHERE key BETWEEN ? AND ? ORDER BY key", span):
                bodies += [body for (body,) in rows]
            kinds += [NodeKind.MESSAGE] * seen[0]
        else:
            for rows in tx.pages("SELECT kind, body FROM nodes WHERE key BETWEEN ? AND ? ORDER BY key", span):
                kinds += [_KINDS[kind] for kind, _ in rows]
                bodies += [body for _, body in rows]
        ends = tx.row("SELECT node_id FROM nodes WHERE key = ?", (high,))
        above = ends and ends[0]
    if not (whole and above is not None and above.hex() == head.leaf and _all_are(bytes, bodies)):
        path = load_path(tx, session_id, segments, head)  # it says what is wrong, and where
        return NodeBodies(path.kinds, path.bodies)
    return NodeBodies(kinds, bodies)


_HELD = (
    "SELECT count(*), count(CASE WHEN node.parent = coalesce(above.node_id, ?) AND node.frame_generation = ? "
    "AND node.frame_key IS NULL AND node.kind IN ('message', 'event', 'plugin') "
    f"AND node.timestamp_ms <= {INT_MAX} THEN 1 END), "  # text, which it mustn't be, is greater than any number
    "count(CASE WHEN node.kind = 'message' THEN 1 END) "
    "FROM nodes AS node LEFT JOIN nodes AS above ON above.key = node.key - 1 AND above.key >= ? "
    "WHERE node.key BETWEEN ? AND ?"
)
"""How many nodes there are behind a frame's first, how many are as the rules want them, how many are messages."""


def _pages(tx: Tx, segments: Sequence[Segment]) -> Iterator[list[Row]]:
    for no, first, last in segments:
        sql = f"SELECT {_COLUMNS} FROM nodes WHERE key BETWEEN ? AND ? ORDER BY key"
        yield from tx.pages(sql, (key(no, first), key(no, last)))


def _all_are(cls: type, values: Sequence[object]) -> bool:
    return list(map(type, values)).count(cls) == len(values)


def _fault(tx: Tx, session_id: str, segments: Sequence[Segment], head: HeadFacts) -> StoreCorrupt:
    """What is wrong with a range of nodes, and where: the same rules, row by row."""
    first = segments[0].first
    sql = f"SELECT {_COLUMNS}, key & 0xFFFFFFFF FROM nodes WHERE key BETWEEN ? AND ? ORDER BY key"
    rows = [row for no, low, high in segments for row in tx.rows(sql, (key(no, low), key(no, high)))]
    wanted, frame = first, first
    previous = rows[0][1] if rows and first else None
    for raw_id, parent, name, timestamp_ms, frame_key, body, frame_generation, generation in rows:
        kind = _KINDS.get(name)
        opens = kind is NodeKind.FRAME_OPEN
        if opens:
            frame = wanted
        if (
            generation != wanted
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
