"""Which event loop a test runs on, where not on each."""

from __future__ import annotations

import pytest

__all__ = ["on_asyncio"]

on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""For what dies at every place. What a turn leaves is the same on both loops: `test_crash_matrix`, `test_crash_kit`."""
