"""What every store must do, as cases that its own tests run.

With pytest, one line is enough (see `conformance`)::

    test_store = conformance(lambda folder: open_my_store(StoreContext(url=f"my:///{folder}/data")))

With anything else, or with a harness of your own::

    CASES = store_cases(SqlStore.capabilities)

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
    async def test_the_store_keeps_its_word(case, harness):
        await case.run(harness)

The cases know no test framework: one that fails raises `AssertionError`. What a case needs beside the port (opening
the same data again, damaging it) it asks of a `StoreHarness`. Ids are stable; `NOT_APPLICABLE` names those that mean
nothing for this port, and why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store import checkpoints, graph, inbox, journal, leases, lifecycle, receipts, sessions
from lash_hookspecs.testing.store.conformance import Corrupt, Open, pytest_of
from lash_hookspecs.testing.store.kit import Corruption, Need, Scribe, StoreCase, StoreHarness

__all__ = ["NOT_APPLICABLE", "Corruption", "Scribe", "StoreCase", "StoreHarness", "conformance", "store_cases"]

NOT_APPLICABLE = {
    "A1.01": "there are no unbound handles: every call of the port names its session",
    "A1.10": "nothing is ever retired: nodes stay until their session is deleted",
    "A2.08": "a session's nodes never leave its active path: there are no forks or rewinds yet",
    "A2.10": "there are no receipts of an older kind: this is the first format",
    "A2.11": "the receipt's encoding has one version; a newer database is refused as a whole when it is opened",
    "D.06": "the service over appends is the kernel's, and so is its test",
    "D.08": "the service over appends is the kernel's, and so is its test",
}
"""Catalogue ids that have no meaning for this port, with the reason."""


def store_cases(
    capabilities: Collection[Capability],
    *,
    reopen: bool = True,
    clock: bool = False,
    corruptions: Collection[Corruption] = tuple(Corruption),
) -> list[StoreCase]:
    """The cases for a store with these capabilities, in the order of their ids.

    `reopen` is False for a store whose data ends with its last handle; `clock` says that the harness can `advance`;
    `corruptions` are those that it can do.
    Raises `ConfigurationError` for a store without `sessions`: all cases are about them.
    """
    named = frozenset(capabilities)
    if unknown := named - frozenset(Capability):
        raise ConfigurationError(f"no capability of a store: {', '.join(sorted(map(repr, unknown)))}")
    if Capability.SESSIONS not in named:
        raise ConfigurationError("a store without the capability `sessions` can't be tested: every case needs it")
    offered = {*named, *corruptions, *([Need.REOPEN] if reopen else []), *([Need.CLOCK] if clock else [])}
    parts = (sessions, receipts, checkpoints, lifecycle, graph, leases, inbox, journal)
    every = [case for part in parts for case in part.CASES.all]
    return sorted((case for case in every if case.needs <= offered), key=lambda case: case.id)


def conformance(
    open_store: Open,
    *,
    capabilities: Collection[Capability] = frozenset(Capability),
    reopen: bool = True,
    corrupt: Corrupt | None = None,
    corruptions: Collection[Corruption] = tuple(Corruption),
) -> Callable[..., Awaitable[None]]:
    """A pytest test of every case, to be bound to a name that begins with `test_`.

    `open_store` gets a folder, empty at the first time and another one for each case, and opens a store whose data
    lies there (or under a name made from the folder's). `reopen=False` says that nothing is kept: the data ends with
    the store. `corrupt` damages a session in such a folder, in the ways of `corruptions`; without it, the cases about
    damage are left out. Each case runs on asyncio and on trio. The extra `testing` brings pytest and trio.
    """
    cases = store_cases(capabilities, reopen=reopen, corruptions=corruptions if corrupt is not None else ())
    return pytest_of(cases, open_store, corrupt, frozenset(capabilities), keeps=reopen)
