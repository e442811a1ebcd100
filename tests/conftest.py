"""How many processes run the tests, what hypothesis must not judge, and what is nobody's own."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

# A clock on a shared machine proves nothing.
settings.register_profile("lash", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lash")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: about a sixth of the time is waiting, for children, disks and sockets."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's own approvals and trust are read or written."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
