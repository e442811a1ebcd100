"""What a journal holds, and what a turn's commit does with it."""

from __future__ import annotations

from enum import StrEnum

from lash_hookspecs.leases import Lease
from lash_hookspecs.values import frozen

__all__ = ["JournalRow", "JournalStatus", "Settlement"]


class JournalStatus(StrEnum):
    """How far an effect came."""

    INTENT = "intent"
    """It was about to start; whether it did, nobody knows."""
    DONE = "done"
    """`body` is its outcome, whatever that says."""
    FAILED = "failed"
    """The boundary itself failed; `body` is the error."""


@frozen(kw_only=True)
class JournalRow:
    """One effect of a turn. `key` is its replay key, `envelope_hash` what was asked: SHA-256 in lower-case hex.

    `body` is the encoded outcome or error; an intent has the encoded command, for people. `digests` is an object in
    JSON: a short digest for each piece of what was asked, by its path, so that a mismatch can be explained although the
    history isn't kept. `label` names the effect for people.
    """

    key: str
    kind: str
    status: JournalStatus
    envelope_hash: str
    body: bytes = b""
    digests: bytes = b""
    label: str = ""


@frozen(kw_only=True)
class Settlement:
    """What a turn's commit settles besides: its inbox item, those it took at checkpoints, its journal, its lease.

    The commit is refused with `ClaimLost` if a successor claimed one of the items meanwhile, or one wasn't the turn's
    at all, and with `SessionMismatch` if the lease is another session's. Otherwise a lease that lapsed doesn't stand in
    its way: the head's revision alone publishes. Afterwards the items are `completed`, what the turn took and isn't in
    `applied` waits again, the lease is released if it is still ours, and the journal is gone; with `keep_journal` it
    stays, `rows` at its end, until `drop_journals`. A receipt that is replayed settles what nobody else has meanwhile.
    """

    lease: Lease
    item: int
    applied: tuple[int, ...] = ()
    keep_journal: bool = False
    rows: tuple[JournalRow, ...] = ()
