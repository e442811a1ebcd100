"""Processes that are really killed, stopped and woken up: what is promised of them, sentence by sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from crash_kit import Row
from test_crash_matrix import drift, row_for

from lash_framework.testing import CrashPoint, When

CHILDREN = Path(__file__).with_name("crash_children.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}


@pytest.mark.chaos
@pytest.mark.crash_level_2
@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) and not os.environ.get("LASH_TEST_CRASH_LEVEL_2"),
    reason="a process is killed the same way on every Python: set LASH_TEST_CRASH_LEVEL_2 to see it here",
)
def test_every_place_is_survived_by_kill_minus_nine(tmp_path: Path) -> None:
    """Law 2, at every place, by SIGKILL; the tables are those of `test_crash_matrix`."""
    ran = subprocess.run([sys.executable, CHILDREN, tmp_path], env=ENVIRONMENT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    points = [CrashPoint(each["name"], When(each["when"]), each["nth"]) for each in (line["point"] for line in told)]
    assert drift(points) == []
    for point, line in zip(points, told, strict=True):
        assert not line["fault"]
        assert Row(**line["row"]) == row_for(point), str(point)
        assert line["text"] == "All is done: {'Be brief.': 1, 'And hurry.': 1}", str(point)
