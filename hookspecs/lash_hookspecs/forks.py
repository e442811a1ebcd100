"""Sessions that come from others: forks, and what a commit makes beside its own writes.

A fork shares what was said up to its beginning, and nothing after it: it has a head, an id, components, receipts, a
ledger, an inbox and a lease of its own. Nothing is copied but the names of what the session's components hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from attrs import field

from lash_hookspecs.inbox import NewInboxItem
from lash_hookspecs.values import frozen

__all__ = ["Forks", "NewSession", "SessionFork"]


@frozen(kw_only=True)
class SessionFork:
    """A session that begins where `source_id` stands, or where it stood after the turn `at`.

    `turn_index` is that of such a turn; it counts only where `at` isn't the source's last commit.
    """

    session_id: str
    source_id: str
    created_at_ms: int
    at: str | None = None
    turn_index: int = 0
    labels: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class NewSession:
    """A session that a commit makes in its transaction, unless it is there or was deleted: a child of the commit's.

    `config` is the policy that it begins with. With `forks` it begins where the commit leaves its parent, components
    included. `item` is what it is told first; where an item with that source key was accepted, or its turn committed,
    nothing is. A commit may name a session several times: the first makes it, and each tells it its item.
    """

    session_id: str
    config: bytes
    forks: bool = False
    item: NewInboxItem | None = None


class Forks(Protocol):
    """Making sessions out of others. With this capability, `RuntimeCommit.creates` is done too."""

    async def fork_session(self, fork: SessionFork) -> bool:
        """Make a fork, of a constant number of rows however long the history is.

        False if it was made before: from the same session, at the same place. Deleting either session leaves the other
        whole. Raises `SessionDeleted` for an id that is spent, and `CommitRefused` with one of these codes:
        `session_id` (blank), `session_exists` (and it isn't this fork), `fork_source` (no such session, or nothing was
        committed on it), `fork_point` (no such turn, or what its plugins remembered then isn't kept: a session keeps
        its components as they are, so one that has any can be forked at its last commit only).
        """
        ...
