"""`.ci/run` against tox reports that are made up: which of them it lets pass."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).resolve().parent.parent / ".ci" / "run"
GOOD = dict.fromkeys(("lint", "type", "py311", "py312", "py313", "alone", "wheel", "vendors"), "OK")


def ci_run(folder: Path, outcomes: dict[str, str]) -> tuple[int, str]:
    """Its exit status and output where tox reports these outcomes, and each environment that is OK passed a test."""
    lines = []
    for env, outcome in outcomes.items():
        lines.append(f"{env}: commands[0]> python")
        if outcome == "OK" and env not in ("lint", "type"):
            lines.append("1 passed in 0.01s")
    lines += [f"  {env}: {outcome} (1.00 seconds)" for env, outcome in outcomes.items()]
    (folder / ".ci").mkdir()
    shutil.copy(RUN, folder / ".ci" / "run")
    (folder / "report").write_text("\n".join(lines) + "\n")
    (folder / "README.md").write_text("<!-- command: test -->\n```sh\ncat report\n```\n")
    environment = {**os.environ, "PYENV_ROOT": str(folder)}
    done = subprocess.run(
        ["bash", str(folder / ".ci" / "run")], env=environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None, reason="`.ci/run` is a bash script"
)


def test_a_whole_report_is_green(tmp_path: Path) -> None:
    status, output = ci_run(tmp_path, GOOD)
    assert (status, "total: 6 passed, 0 failed" in output) == (0, True), output


@pytest.mark.parametrize("env", ["lint", "type", "alone", "wheel", "vendors"])
@pytest.mark.parametrize("outcome", ["SKIP", "FAIL", None])
def test_an_environment_that_is_not_ok_is_red(tmp_path: Path, env: str, outcome: str | None) -> None:
    """tox itself ends with 0 when an environment was skipped, so nobody saw that lint hadn't run."""
    outcomes = {each: said for each, said in GOOD.items() if each != env} | ({env: outcome} if outcome else {})
    status, output = ci_run(tmp_path, outcomes)
    assert status != 0
    assert f"ci: {env} is not OK: {outcome or 'no report'}" in output
