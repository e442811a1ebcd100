"""Session execution leases: who may run a session's turn, and until when.

A lease serialises turns and fences what they write beside commits (journal rows, claims); the head's revision alone
publishes a commit. Its `generation` rises with every fresh acquisition, so a holder that was away too long (a paused
process, a lost network) can't write over its successor. A lease ends by release, by its time, or at once when its
holder's process is provably gone from this machine.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, Union

from lash_hookspecs.values import frozen

__all__ = ["Lease", "LeaseAcquired", "LeaseBusy", "LeaseClaim", "LeaseHolder", "Leases", "ProcessStamp"]


@frozen(kw_only=True)
class ProcessStamp:
    """One run of one process on one boot of one machine: a number that is used again has another `started`.

    `boot` names the machine's boot and its namespace of process ids; two stamps can be compared only if it is equal.
    """

    boot: str
    pid: int
    started: int


@frozen(kw_only=True)
class LeaseHolder:
    """Who holds a lease: a host (`owner`), this run of it (`incarnation`), and what runs turns in it (`executor`).

    The same holder, in all three, may take its own live lease again. `process` is where it lives, if it can say.
    """

    owner: str
    incarnation: str
    executor: str
    process: ProcessStamp | None = None


@frozen(kw_only=True)
class Lease:
    """The right to run a session's turn. Times are milliseconds since 1970, by the store's clock.

    A store accepts it as a fence if session, holder (but for its process), generation and token are the stored ones,
    and the stored one has not expired. `token` tells claims of one generation apart; a store may take the nonce for it.
    """

    session_id: str
    holder: LeaseHolder
    generation: int
    token: str
    claimed_at_ms: int
    expires_at_ms: int


@frozen
class LeaseAcquired:
    """It is ours. `displaced` is the lapsed lease of another holder that this one followed, if nobody released it."""

    tag: ClassVar[str] = "acquired"
    lease: Lease
    displaced: Lease | None = None


@frozen
class LeaseBusy:
    """It is another holder's."""

    tag: ClassVar[str] = "busy"
    held: Lease


LeaseClaim = Union[LeaseAcquired, LeaseBusy]


class Leases(Protocol):
    """One runner at a time for each session, across processes and machines.

    Every method raises `SessionDeleted` for a deleted session. A claim makes a session known that wasn't.
    """

    async def claim_lease(self, session_id: str, holder: LeaseHolder, *, nonce: str, ttl_ms: int) -> LeaseClaim:
        """Take the session, if it is free, its lease lapsed, its holder provably gone, or the holder ourselves.

        Fresh acquisition makes a new generation (from 1); taking our own live lease again changes the token and the
        expiry only. The same `nonce` again, while the lease lives, gives the same answer: for who doesn't know whether
        a claim arrived. Raises `CommitRefused` with the code `nonce` (there is none) or `integer_range` (a time that
        isn't above 0, or doesn't fit; or all generations were used, which locks the session for good).
        """
        ...

    async def renew_lease(self, lease: Lease, *, ttl_ms: int) -> Lease:
        """The lease with a later expiry; its token stays. Raises `LeaseLost` if it isn't ours any more.

        One that lapsed, and that nobody took meanwhile, is ours: its holder was held up, and may go on.
        """
        ...

    async def release_lease(self, lease: Lease) -> bool:
        """Let go of it; False if it wasn't ours any more, which is fine."""
        ...

    async def load_lease(self, session_id: str) -> Lease | None:
        """The session's lease as it is stored, lapsed or not; for people. None if nobody holds one."""
        ...
