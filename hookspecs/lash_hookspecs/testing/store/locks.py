"""Locks: one turn of a session at a time, whoever opened the store (group S, which the catalogue doesn't have)."""

from __future__ import annotations

from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store.kit import Cases, Need, StoreHarness

__all__ = ["CASES"]

CASES = Cases()

LOCKS = Capability.LOCKS


@CASES.case("S.01", LOCKS)
async def _one_at_a_time(harness: StoreHarness) -> None:
    """While a session is held nobody gets it, by whichever handle; when the context has ended, the next one does."""
    one, other = await harness.open(), await harness.open()
    held = one.try_lock("s1")
    assert held is not None
    with held:
        assert one.try_lock("s1") is None
        assert other.try_lock("s1") is None
    again = other.try_lock("s1")
    assert again is not None
    with again:
        assert one.try_lock("s1") is None


@CASES.case("S.02", LOCKS)
async def _each_session_alone(harness: StoreHarness) -> None:
    """A session that is held keeps nobody from another one, and need not have been created."""
    store = await harness.open()
    first = store.try_lock("s1")
    assert first is not None
    with first:
        second = store.try_lock("s2")
        assert second is not None
        with second:
            assert await store.load_head("s1") is None


@CASES.case("S.03", LOCKS, Need.REOPEN)
async def _holder_gone(harness: StoreHarness) -> None:
    """A holder that is closed without having let go holds nothing any more."""
    held = (await harness.open()).try_lock("s1")
    assert held is not None
    again = (await harness.reopen()).try_lock("s1")
    assert again is not None
    with again:
        held.__exit__(None, None, None)  # too late to take anything from the one who holds it now
        assert (await harness.open()).try_lock("s1") is None
