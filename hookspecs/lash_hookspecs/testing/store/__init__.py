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
from lash_hookspecs.testing.store import (
    attachments,
    checkpoints,
    control,
    forks,
    graph,
    inbox,
    journal,
    laws,
    leases,
    lifecycle,
    locks,
    numbers,
    parking,
    queue,
    receipts,
    sessions,
    settlement,
)
from lash_hookspecs.testing.store.conformance import Advance, Corrupt, Open, pytest_of
from lash_hookspecs.testing.store.kit import Corruption, Need, Scribe, StoreCase, StoreHarness

__all__ = ["NOT_APPLICABLE", "Corruption", "Scribe", "StoreCase", "StoreHarness", "conformance", "store_cases"]

NOT_APPLICABLE = {
    "A1.01": "there are no unbound handles: every call of the port names its session",
    "A1.10": "nothing is ever retired: nodes stay until their session is deleted",
    "A2.08": "a session's nodes never leave its active path: who wants to go on from an earlier place makes a fork",
    "A2.10": "there are no receipts of an older kind: this is the first format",
    "A2.11": "the receipt's encoding has one version; a newer database is refused as a whole when it is opened",
    "A5.07": "there are no commands in the inbox; of the two kinds that there are, A5.08 says where each may go",
    "A5.13": "the kernel groups what it takes at a checkpoint; a turn starts from one item, so there is no merge key",
    "A5.17": "a turn that was begun is begun again before anything that waits, and meets no boundary on the way",
    "A5.18": "the store knows no policy of draining: who claims names what it claims",
    "A5.19": "the store knows no limit of a claim, and a turn is begun again with all that it took",
    "A5.21": "there are no processes that could wake a session yet",
    "A5.27": "whether a transaction is opened shows inside the store only; its own tests count them",
    "B.07": "there is no collection from roots that could be partial: bytes go with their last user, see A7.03",
    "B.09": "there are no levers beside `drop_journals`; a store without it lacks the capability",
    "D.06": "the service over appends is the kernel's, and so is its test",
    "D.08": "the service over appends is the kernel's, and so is its test",
    "E.06": "there are no triggers yet",
    "F.01": "what a machine finds is found by one: the store's own tests run it, with F.02 to F.12 for its laws",
    "G.07": "the port lists no bytes: they are found by their id, which the messages hold",
    "G.08": "the port has neither a head nor a list of bytes that could disagree",
    "G.18": "there are no processes yet, whose environment could be kept",
    "G.19": "there are no processes yet, whose environment could be kept",
    "G.20": "there are no processes yet, whose environment could be kept",
    "L.04": "there are no processes yet, whose journals could be retired",
    "L.16": "which tools run at once is the kernel's, and its crash matrix replays them; L.15 is the store's part",
    "L.21": "a turn isn't cut into segments here: its journal is one list; a host over an engine may do so",
}
"""Catalogue ids that have no meaning for this port, with the reason."""
NOT_APPLICABLE |= dict.fromkeys(
    (f"L.{number:02}" for number in (*range(8, 15), *range(22, 27))),
    "what a turn waits for is a row of its journal to the store; the waits are the kernel's, and so are their tests",
)

_PARTS = (
    sessions,
    receipts,
    checkpoints,
    attachments,
    lifecycle,
    graph,
    forks,
    locks,
    leases,
    queue,
    inbox,
    parking,
    journal,
    settlement,
    control,
    laws,
    numbers,
)


def store_cases(
    capabilities: Collection[Capability],
    *,
    reopen: bool = True,
    clock: bool = False,
    corruptions: Collection[Corruption] = tuple(Corruption),
) -> list[StoreCase]:
    """The cases for a store with these capabilities, in the order of their ids.

    `reopen` is False for a store whose data ends with its last handle; `clock` says that the harness can `advance`;
    `corruptions` are those that it can do. Raises `ConfigurationError` for a store without `sessions`: all cases are
    about them.
    """
    named = frozenset(capabilities)
    if unknown := named - frozenset(Capability):
        raise ConfigurationError(f"no capability of a store: {', '.join(sorted(map(repr, unknown)))}")
    if Capability.SESSIONS not in named:
        raise ConfigurationError("a store without the capability `sessions` can't be tested: every case needs it")
    offered = {*named, *corruptions, Need.REOPEN if reopen else Need.ENDS, *([Need.CLOCK] if clock else [])}
    every = [case for part in _PARTS for case in part.CASES.all]
    return sorted((case for case in every if case.needs <= offered), key=lambda case: case.id)


def conformance(
    open_store: Open,
    *,
    capabilities: Collection[Capability] = frozenset(Capability),
    reopen: bool = True,
    advance: Advance | None = None,
    corrupt: Corrupt | None = None,
    corruptions: Collection[Corruption] = tuple(Corruption),
) -> Callable[..., Awaitable[None]]:
    """A pytest test of every case, to be bound to a name that begins with `test_`.

    `open_store` gets a folder, empty at the first time and another one for each case, and opens a store whose data
    lies there (or under a name made from the folder's). `reopen=False` says that nothing is kept: the data ends with
    the store. `advance` lets the clock of all stores be so many milliseconds further; without it, cases about times
    that no test would wait for are left out. `corrupt` damages a session in such a folder, in the ways of
    `corruptions`; without it, the cases about damage are left out. Each case runs on asyncio and on trio. The extra
    `testing` brings pytest and trio.
    """
    cases = store_cases(
        capabilities,
        reopen=reopen,
        clock=advance is not None,
        corruptions=corruptions if corrupt is not None else (),
    )
    return pytest_of(cases, open_store, corrupt, advance, frozenset(capabilities), keeps=reopen)
