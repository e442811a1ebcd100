"""The kit as a third party uses it: one line for a store in a folder, one for a store in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.stores import Capability, StoreContext
from lash_hookspecs.testing.store import StoreCase, conformance, store_cases
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.store import SqlStore, open_store

pytestmark = pytest.mark.costly  # the cases run in `test_store_sql_conformance.py`, too

QUICK = SqlSettings(synchronous="normal")


async def in_memory(folder: Path) -> SqlStore:
    return await open_store(StoreContext(url="sqlite://"))


test_in_memory = conformance(in_memory, reopen=False)
# The same line with a folder; its cases are those of `test_store_sql_conformance.py` again.
test_in_a_file = pytest.mark.soak(
    conformance(lambda folder: open_store(StoreContext(url=f"sqlite:///{folder}/x.db", settings=QUICK)))
)


@pytest.mark.parametrize("capabilities", [(), {Capability.BLOBS}, "sessions", {"session"}])
def test_nothing_to_test_is_an_error_rather_than_no_case(capabilities: object) -> None:
    with pytest.raises(ConfigurationError):
        store_cases(capabilities)  # type: ignore[arg-type]  # some are what a user may get wrong
    with pytest.raises(ConfigurationError):
        conformance(in_memory, capabilities=capabilities)  # type: ignore[arg-type]  # the same


class Half:
    """A store of which a few methods are there."""

    capabilities = frozenset(Capability)

    async def create_session(self, meta: object) -> bool:
        return True

    async def put_blob(self, data: bytes, media_type: str) -> None: ...


class HalfHarness:
    async def open(self) -> Half:
        return Half()


@pytest.mark.parametrize("case", store_cases(frozenset(Capability))[:3], ids=lambda case: case.id)
async def test_what_a_store_lacks_is_named_at_once(case: StoreCase) -> None:
    """Instead of an AttributeError for each case, about whatever that case happens to call first."""
    with pytest.raises(AssertionError) as caught:
        await case.run(HalfHarness())  # type: ignore[arg-type]  # more isn't reached
    text = str(caught.value)
    assert text.startswith("Half lacks `Store.persistent`, `Store.location`, `Store.aclose`, ")
    for name in ("SessionStore.commit", "Blobs.get_blob", "SessionLocks.try_lock"):
        assert f"`{name}`" in text
    assert "create_session" not in text
    assert "put_blob" not in text


async def test_a_store_that_offers_something_else_says_what_to_pass(tmp_path: Path) -> None:
    test = conformance(in_memory, capabilities={Capability.SESSIONS}, reopen=False)
    with pytest.raises(AssertionError, match="is tested for `sessions`: pass its `capabilities`"):
        await test(case=store_cases({Capability.SESSIONS})[0], tmp_path=tmp_path)


def test_the_cases_know_no_test_framework() -> None:
    code = (
        "import sys\n"
        "from lash_hookspecs.testing.store import Capability, store_cases\n"
        "assert store_cases(frozenset(Capability))\n"
        "print([name for name in ('pytest', 'hypothesis', 'trio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
