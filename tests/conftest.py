"""How many processes run the tests."""

from __future__ import annotations

import os


def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: about a sixth of the time is waiting, for children, disks and sockets."""
    return (os.cpu_count() or 1) + 1
