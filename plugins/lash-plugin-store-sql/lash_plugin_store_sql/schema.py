"""The tables, and the fence that keeps us off databases which aren't ours or are newer than this code.

Three keys are packed: a node's is `session number << 32 | generation`, a receipt's `session number << 32 | revision`, a
journal row's `inbox number << 32 | ordinal`. So a session's nodes lie side by side in the table itself, in order, and
the range from its frame to its leaf is one scan without a second index; a turn's journal is one range too, to be read
and to be dropped. `generation` is a node's depth: the first node has 0, and a path has no gaps.
"""

from __future__ import annotations

from lash_hookspecs.errors import StoreCorrupt, StoreVersionError

__all__ = ["APPLICATION_ID", "DDL", "INT_MAX", "MAX_GENERATION", "VERSION", "corrupt", "is_fresh", "key", "span"]

APPLICATION_ID = 0x6C617368
"""The letters `lash`, in the place that SQLite's file header keeps for the application."""

VERSION = 3

INT_MAX = (1 << 63) - 1

MAX_GENERATION = (1 << 32) - 1


def key(session_no: int, place: int) -> int:
    """The packed key of a session's node (by generation) or receipt (by revision), or of an item's journal row."""
    return session_no << 32 | place


def span(session_no: int) -> tuple[int, int]:
    """The first and the last key that a session (or an inbox item) can have."""
    return key(session_no, 0), key(session_no, MAX_GENERATION)


def corrupt(table: str, place: object, what: str) -> StoreCorrupt:
    """The error for a row that breaks a rule."""
    return StoreCorrupt(f"table `{table}`, {place}: {what}; nothing was changed")


# Hashes are kept as 32 raw bytes. `refs` says which blobs a session uses and as what: a checkpoint `component` by its
# key, the `config`, a `blob` (attachment) by its id. A blob without refs is reclaimed at once, unless somebody put it
# there a short while ago and may still be on the way to adopt it: `put_at_ms` is then set.
#
# `since` is the revision at which the session came to use it.
#
# A session's lease lies in its row, which every turn reads and writes anyway. `lease_token` is NULL while nobody holds
# it; it is the nonce of the claim that made it. An inbox item is open until `settled_at_ms` is set; `taken_by` is the
# item whose turn took it at a checkpoint.
#
# A fork's path begins among the nodes of `base_no`, up to `base_generation`, and goes on among its own. The base may be
# a fork itself, and the session whose number it was may be gone: its nodes stay as far as forks need them, with the
# blobs that it used by `base_revision`. `revision` is where the session that was forked stood.
DDL = (
    """
    CREATE TABLE sessions (
        no INTEGER PRIMARY KEY,
        session_id TEXT NOT NULL UNIQUE,
        parent_session_id TEXT,
        labels TEXT NOT NULL,
        created_at_ms INTEGER NOT NULL,
        updated_at_ms INTEGER NOT NULL,
        head_revision INTEGER NOT NULL,
        turn_index INTEGER NOT NULL,
        leaf BLOB,
        leaf_generation INTEGER NOT NULL,
        frame BLOB,
        frame_generation INTEGER NOT NULL,
        lease_generation INTEGER NOT NULL DEFAULT 0,
        lease_token TEXT,
        lease_holder TEXT,
        lease_claimed_at_ms INTEGER,
        lease_expires_at_ms INTEGER,
        lease_displaced TEXT
    )
    """,
    "CREATE INDEX sessions_by_use ON sessions (updated_at_ms)",
    "CREATE TABLE tombstones (session_id TEXT PRIMARY KEY, deleted_at_ms INTEGER NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE nodes (
        key INTEGER PRIMARY KEY,
        node_id BLOB NOT NULL,
        parent BLOB,
        frame_generation INTEGER NOT NULL,
        kind TEXT NOT NULL,
        timestamp_ms INTEGER NOT NULL,
        frame_key TEXT,
        body BLOB NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX nodes_by_id ON nodes ((key >> 32), node_id)",
    """
    CREATE TABLE receipts (
        key INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        op_key TEXT NOT NULL,
        intent_hash BLOB NOT NULL,
        input_hash TEXT NOT NULL,
        leaf BLOB,
        first_generation INTEGER NOT NULL,
        node_count INTEGER NOT NULL,
        committed_at_ms INTEGER NOT NULL,
        result BLOB NOT NULL
    )
    """,
    # The session comes last, so that it finds a turn of any session too.
    "CREATE UNIQUE INDEX receipts_by_operation ON receipts (op_key, scope, (key >> 32))",
    "CREATE TABLE blobs (no INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, put_at_ms INTEGER, data BLOB NOT NULL)",
    "CREATE INDEX blobs_on_the_way ON blobs (put_at_ms) WHERE put_at_ms IS NOT NULL",
    """
    CREATE TABLE refs (
        session_no INTEGER NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        hash BLOB NOT NULL,
        version INTEGER NOT NULL,
        since INTEGER NOT NULL,
        PRIMARY KEY (session_no, kind, name)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX refs_by_hash ON refs (hash)",
    """
    CREATE TABLE forks (
        no INTEGER PRIMARY KEY,
        base_no INTEGER NOT NULL,
        base_generation INTEGER NOT NULL,
        base_revision INTEGER NOT NULL,
        revision INTEGER NOT NULL
    )
    """,
    "CREATE INDEX forks_by_base ON forks (base_no)",
    """
    CREATE TABLE usage (
        session_no INTEGER NOT NULL,
        source TEXT NOT NULL,
        model TEXT NOT NULL,
        input INTEGER NOT NULL,
        output INTEGER NOT NULL,
        cache_read_input INTEGER NOT NULL,
        cache_write_input INTEGER NOT NULL,
        reasoning_output INTEGER NOT NULL,
        at_least INTEGER NOT NULL,
        picodollars INTEGER NOT NULL,
        unpriced INTEGER NOT NULL,
        unpriced_at_most INTEGER NOT NULL,
        PRIMARY KEY (session_no, source, model)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE inbox (
        no INTEGER PRIMARY KEY AUTOINCREMENT,
        session_no INTEGER NOT NULL,
        source_key TEXT NOT NULL,
        ingress TEXT NOT NULL,
        state TEXT NOT NULL,
        content_hash TEXT NOT NULL,
        payload BLOB NOT NULL,
        accepted_at_ms INTEGER NOT NULL,
        available_at_ms INTEGER NOT NULL,
        turn_id TEXT,
        claim_generation INTEGER NOT NULL DEFAULT 0,
        attempts INTEGER NOT NULL DEFAULT 0,
        fruitless INTEGER NOT NULL DEFAULT 0,
        reason TEXT,
        cancel_reason TEXT,
        taken_by INTEGER,
        settled_at_ms INTEGER,
        UNIQUE (session_no, source_key)
    )
    """,
    # What is open is a handful, however long the history: this index stays a page or two.
    "CREATE INDEX inbox_open ON inbox (session_no, state, ingress) WHERE settled_at_ms IS NULL",
    # What is settled, and whose turn's receipt doesn't tell of it, is dropped by its age.
    "CREATE INDEX inbox_settled ON inbox (settled_at_ms) WHERE settled_at_ms IS NOT NULL",
    """
    CREATE TABLE journal (
        key INTEGER PRIMARY KEY,
        replay_key BLOB NOT NULL,
        generation INTEGER NOT NULL,
        kind TEXT NOT NULL,
        status TEXT NOT NULL,
        envelope_hash BLOB NOT NULL,
        label TEXT NOT NULL,
        digests BLOB NOT NULL,
        body BLOB NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX journal_by_key ON journal ((key >> 32), replay_key)",
)


def is_fresh(application_id: int, version: int, tables: int, location: str) -> bool:
    """Whether the database is empty and may become ours (True), or is ours already (False).

    Raises `StoreVersionError` for what is neither; the caller has changed nothing by then.
    """
    if application_id == APPLICATION_ID:
        if version > VERSION:
            raise StoreVersionError(
                f"`{location}` was written by a newer lash-plugin-store-sql: its format is version {version}, this one "
                f"knows version {VERSION}. Nothing was touched. Upgrade lash-plugin-store-sql, or choose another path"
            )
        if 1 <= version < VERSION:
            raise StoreVersionError(
                f"`{location}` was written by an older lash-plugin-store-sql, in format {version}; this one knows "
                f"version {VERSION} only, since none before it was released. Nothing was touched. Choose another path"
            )
        if version < 1:
            raise StoreVersionError(f"`{location}` says format version {version}, which never existed; nothing touched")
        return False
    if application_id == 0 and version == 0 and tables == 0:
        return True
    raise StoreVersionError(
        f"`{location}` is an SQLite database of another application (application id {application_id}, user version "
        f"{version}, {tables} tables). Nothing was touched. Choose another path"
    )
