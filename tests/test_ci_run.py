"""`.ci/run` against tox reports that are made up: which of them it lets pass."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / ".ci" / "run"
GOOD = dict.fromkeys(("lint", "type", "py311", "py312", "py313", "alone", "wheel", "vendors", "oldest"), "OK")


def ci_run(
    folder: Path, outcomes: dict[str, str], without_tests: str = "", pyenv: str = "", command: str = "cat report"
) -> tuple[int, str]:
    """Its exit status and output where tox reports these outcomes, and each environment that is OK passed a test.

    pyenv has this one Python, and there is no other than our own.
    """
    lines = []
    for env, outcome in outcomes.items():
        lines.append(f"{env}: commands[0]> python")
        if outcome == "OK" and env not in ("lint", "type"):
            lines.append("1 passed in 0.01s" if env != without_tests else "===== no tests ran in 0.01s =====")
    lines += [f"  {env}: {outcome} (1.00 seconds)" for env, outcome in outcomes.items()]
    (folder / ".ci").mkdir()
    shutil.copy(RUN, folder / ".ci" / "run")
    (folder / "report").write_text("\n".join(lines) + "\n")
    (folder / "README.md").write_text(f"<!-- command: test -->\n```sh\n{command}\n```\n")
    path = [folder / "bin", *([folder / "versions" / pyenv / "bin"] if pyenv else [])]
    for each in path:
        each.mkdir(parents=True)
    for tool in ("bash", "awk", "grep", "sed", "tee", "cat", "mktemp", "rm", "dirname"):
        (path[0] / tool).symlink_to(str(shutil.which(tool)))
    if pyenv:
        (path[1] / f"python{pyenv}").symlink_to("/bin/true" if Path("/bin/true").exists() else "/usr/bin/true")
    environment = {**os.environ, "PYENV_ROOT": str(folder), "PATH": str(path[0])}
    done = subprocess.run(
        ["bash", str(folder / ".ci" / "run")], env=environment, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout + done.stderr


pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None, reason="`.ci/run` is a bash script"
)


def test_all_that_tox_runs_is_required_and_in_the_guide() -> None:
    (listed,) = re.findall(r"^env_list = (.+)$", (ROOT / "tox.ini").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(listed.split(", ")) == GOOD.keys()
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (others,) = re.findall(r"`tox -e py312` \(the others: (.+)\)", guide)
    assert {f"`{env}`" for env in GOOD if not env.startswith("py")} == set(others.split(", "))


def test_a_whole_report_is_green(tmp_path: Path) -> None:
    status, output = ci_run(tmp_path, GOOD)
    assert (status, "total: 7 passed, 0 failed" in output) == (0, True), output


@pytest.mark.parametrize("env", ["lint", "type", "alone", "wheel", "vendors", "oldest"])
@pytest.mark.parametrize("outcome", ["SKIP", "FAIL", None])
def test_an_environment_that_is_not_ok_is_red(tmp_path: Path, env: str, outcome: str | None) -> None:
    """tox itself ends with 0 when an environment was skipped, so nobody saw that lint hadn't run."""
    outcomes = {each: said for each, said in GOOD.items() if each != env} | ({env: outcome} if outcome else {})
    status, output = ci_run(tmp_path, outcomes)
    assert status != 0
    assert f"ci: {env} is not OK: {outcome or 'no report'}" in output


@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("outcome", ["SKIP", None])
def test_a_python_that_is_here_and_was_skipped_is_red_and_one_that_is_not_is_not(
    version: str, outcome: str | None, tmp_path: Path
) -> None:
    """pyenv's shims don't find those that are switched off, and tox skips what it doesn't find."""
    env = f"py{version.replace('.', '')}"
    outcomes = {each: said for each, said in GOOD.items() if each != env} | ({env: outcome} if outcome else {})
    for pyenv in ("", version):
        folder = tmp_path / f"with{pyenv}"
        folder.mkdir()
        status, output = ci_run(folder, outcomes, pyenv=pyenv)
        assert (status != 0) is bool(pyenv), output
        assert (f"ci: python{version} is on PATH, but tox did not run {env}" in output) is bool(pyenv), output


@pytest.mark.parametrize("env", ["py311", "py312", "py313", "alone", "wheel", "vendors", "oldest"])
def test_an_environment_in_which_no_test_passed_is_red(env: str, tmp_path: Path) -> None:
    status, output = ci_run(tmp_path, GOOD, without_tests=env)
    assert (status != 0, f"ci: {env} ran no test" in output) == (True, True), output


def test_the_status_of_the_readmes_command_is_kept(tmp_path: Path) -> None:
    status, output = ci_run(tmp_path, GOOD, command="cat report; exit 7")
    assert (status, "ci: exit status 7;" in output) == (7, True), output
