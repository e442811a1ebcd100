"""The whole kit as one pytest test, for a store that can be opened in a folder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store.kit import Corruption, StoreCase

__all__ = ["pytest_of"]

Open = Callable[[Path], Awaitable[Any]]
Corrupt = Callable[[Path, Corruption, str], Awaitable[None]]
Advance = Callable[[int], None]


class FolderHarness:
    """Stores over the data in one folder; where nothing is kept, one store stands for all."""

    def __init__(
        self, folder: Path, open_store: Open, corrupt: Corrupt | None, advance: Advance | None, *, keeps: bool
    ) -> None:
        self._folder = folder
        self._open_store = open_store
        self._corrupt = corrupt
        self._advance = advance
        self._keeps = keeps
        self._stores: list[Any] = []

    async def open(self) -> Any:
        if self._keeps or not self._stores:
            self._stores.append(await self._open_store(self._folder))
        return self._stores[-1]

    async def reopen(self) -> Any:
        await self.aclose()
        return await self.open()

    async def corrupt(self, kind: Corruption, session_id: str) -> None:
        assert self._corrupt is not None, "cases that need damage are left out without `corrupt`"
        await self._corrupt(self._folder, kind, session_id)

    def advance(self, ms: int) -> None:
        assert self._advance is not None, "cases that need another time are left out without `advance`"
        self._advance(ms)

    async def aclose(self) -> None:
        while self._stores:
            store = self._stores.pop()
            if hasattr(store, "aclose"):  # without it, the case has failed already and says so
                await store.aclose()


def pytest_of(
    cases: list[StoreCase],
    open_store: Open,
    corrupt: Corrupt | None,
    advance: Advance | None,
    capabilities: frozenset[str],
    *,
    keeps: bool,
) -> Callable[..., Awaitable[None]]:
    """A test with a parameter for each case."""
    import pytest

    @pytest.mark.anyio
    @pytest.mark.parametrize("case", cases, ids=lambda case: str(case.id))
    async def test_store(case: StoreCase, tmp_path: Path) -> None:
        harness = FolderHarness(tmp_path, open_store, corrupt, advance, keeps=keeps)
        try:
            offered = frozenset(getattr(await harness.open(), "capabilities", capabilities))
            if offered != capabilities:
                raise AssertionError(
                    f"the store says that it offers {_listed(offered)}, but is tested for {_listed(capabilities)}: "
                    "pass its `capabilities` to `conformance`"
                )
            await case.run(harness)
        finally:
            await harness.aclose()

    return test_store


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"`{Capability(name).value}`" for name in sorted(names)) or "nothing"
