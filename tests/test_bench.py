"""The benchmarks' README shows what their results say, and the script runs. Nothing here looks at a clock."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parent.parent / "bench"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((BENCH / "results.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("script", sorted(path.stem for path in BENCH.glob("*.py")))
def test_a_script_still_fits_what_it_measures(script: str) -> None:
    """As far as its definitions go: what it makes when it is read."""
    runpy.run_path(str(BENCH / f"{script}.py"), run_name=script)


def test_the_readme_shows_what_the_results_say() -> None:
    from figures import report

    readme = (BENCH / "README.md").read_text(encoding="utf-8")
    assert f"<!-- table -->\n{report(results())}\n<!-- end -->" in readme


def test_the_readme_shows_what_durability_costs() -> None:
    from durable import FIGURES, RESULTS, report

    found = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert found["figures"].keys() == FIGURES.keys()
    readme = (BENCH / "README.md").read_text(encoding="utf-8")
    assert f"<!-- durable -->\n{report(found)}\n<!-- end of durable -->" in readme


def test_the_results_cover_every_figure_and_name_no_machine() -> None:
    from figures import FIGURES

    found = results()
    assert found["figures"].keys() == FIGURES.keys()
    assert found["machine"].keys() == {
        "commit_ms", "cpus", "load", "python", "samples", "server_us", "system", "versions"
    }  # fmt: skip


def test_a_figure_that_is_missed_says_by_how_much() -> None:
    from figures import table

    samples = {"lash": {"wall": [0.003]}, "raw httpx": {"wall": [0.002]}, "raw aiohttp": {"wall": [0.001]}}
    row = table({"figures": {"turn": samples}}).splitlines()[-1]
    assert "1.50 × raw httpx; 3.00 × raw aiohttp" in row
    assert "no, by 50%; yes" in row


@pytest.mark.costly
def test_a_quick_run_compares_contenders_that_ask_for_the_same(tmp_path: Path) -> None:
    written = tmp_path / "results.json"
    command = [sys.executable, str(BENCH / "run.py"), "--quick", "--only", "rounds", "--json", str(written)]
    ran = subprocess.run([*command, "--dir", str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(written.read_text(encoding="utf-8"))["figures"]["rounds"]
    assert {name: len(each["wall"]) for name, each in found.items()} == {"lash": 1, "raw httpx": 1, "raw aiohttp": 1}


def test_the_benchmark_of_hosts_is_made_of_what_there_is() -> None:
    """Importing it makes the contexts that it measures with; it had fallen behind."""
    import bench_host

    assert len(bench_host.contributions()) == 100
