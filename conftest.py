"""How many processes run the tests, and what hypothesis must not judge, whichever of the packages is tested."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A clock on a shared machine proves nothing.
settings.register_profile("lash", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lash")


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: about a sixth of the time is waiting, for children, disks and sockets."""
    return (os.cpu_count() or 1) + 1
