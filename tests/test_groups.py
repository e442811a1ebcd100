"""The counter of test groups, which decides whether a full run may be green."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from groups import groups_of

pytest_plugins = ["pytester"]

FULL = """
    import pytest

    @pytest.mark.statement(1, 2)
    def test_one(): pass

    @pytest.mark.statement(2)
    @pytest.mark.parametrize("anyio_backend", ["asyncio", ("trio", {})], ids=["a", "t"])
    @pytest.mark.parametrize("case", ["A1.01 a commit raises the revision", "C.03"], ids=str)
    def test_two(anyio_backend, case): pass
"""


WHOLE = "test groups: statements 2, store cases 4, providers 1, CLI 5, asyncio 2, trio 2"


@pytest.mark.parametrize(
    ("nodeid", "backend", "expected"),
    [
        ("tests/test_x.py::test_a", None, set()),
        ("tests/test_x.py::test_a[1.5-asyncio]", "asyncio", {"asyncio"}),
        ("tests/test_x.py::test_a[trio-A1.01 loads]", "trio", {"store cases", "trio"}),
        ("tests/test_x.py::test_a[D.04]", None, {"store cases"}),
        ("tests/test_x.py::test_a[gpt-A.B]", None, set()),
        ("tests/test_x.py::test_a[XA1.01]", None, set()),
        ("tests/test_cli.py::test_a", None, {"CLI"}),
        ("tests/test_cli_run.py::test_a", None, {"CLI"}),
        ("tests/test_client.py::test_a", None, set()),
        ("plugins/lash-provider-kit/tests/test_kit.py::test_a", None, {"providers"}),
        ("plugins/lash-plugin-provider-openai/tests/test_o.py::test_a", None, {"providers"}),
        ("plugins/lash-plugin-store-sql/tests/test_s.py::test_a[A2.10-x]", None, {"store cases"}),
    ],
    ids=itertools.count(),  # the ids must not look like what is counted
)
def test_a_test_belongs_to_groups_by_its_id(nodeid: str, backend: str | None, expected: set[str]) -> None:
    assert {group for group, _ in groups_of(nodeid, frozenset(), backend)} == expected


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where other processes find `groups`
    pytester.makeini("[pytest]\nmarkers =\n    statement: x")
    kit = "plugins/lash-provider-kit/tests/test_kit"
    pytester.makepyfile(**{"tests/test_cli_made_up": FULL, kit: "def test_kit(): pass"})
    return pytester


def run(suite: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return suite.runpytest_inprocess("-p", "groups", "-p", "no:cacheprovider", *arguments)


def test_a_full_run_is_green_and_counts_statements_once(suite: pytest.Pytester) -> None:
    result = run(suite, "--require-groups")
    result.stdout.fnmatch_lines(WHOLE)
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.costly
def test_the_groups_of_several_processes_are_counted_together(suite: pytest.Pytester) -> None:
    result = suite.runpytest_subprocess("-p", "groups", "-p", "no:cacheprovider", "-n", "2", "--require-groups")
    result.stdout.fnmatch_lines(WHOLE)
    assert result.ret == pytest.ExitCode.OK


@pytest.mark.parametrize("required", [True, False])
def test_an_empty_group_is_red_only_where_groups_are_required(suite: pytest.Pytester, required: bool) -> None:
    result = run(suite, "--deselect=plugins", *["--require-groups"] * required)
    result.stdout.fnmatch_lines("*providers 0*")
    assert result.ret == (pytest.ExitCode.TESTS_FAILED if required else pytest.ExitCode.OK)


def test_skipped_tests_do_not_count(suite: pytest.Pytester) -> None:
    skipped = "import pytest\n\ndef test_kit(): pytest.skip('why not')"
    suite.makepyfile(**{"plugins/lash-provider-kit/tests/test_kit": skipped})
    result = run(suite, "--require-groups")
    result.stdout.fnmatch_lines("ERROR: no test passed in: providers")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_one_event_loop_leaves_the_other_ones_tests_out_and_asks_for_none(suite: pytest.Pytester) -> None:
    result = run(suite, "--require-groups", "--loop", "trio")
    result.stdout.fnmatch_lines("test groups: statements 2, store cases 2, providers 1, CLI 3, asyncio 0, trio 2")
    result.assert_outcomes(passed=4, deselected=2)
    assert result.ret == pytest.ExitCode.OK


def test_what_is_costly_runs_on_both_event_loops_whichever_is_asked_for(suite: pytest.Pytester) -> None:
    """No other environment of tox would run it on the other one."""
    suite.makeini("[pytest]\nanyio_mode = auto\nmarkers = costly: it takes long")
    suite.makepyfile("import pytest\n\n@pytest.mark.costly\nasync def test_long(): pass")
    result = run(suite, "--loop", "trio", "-k", "test_long")
    result.stdout.fnmatch_lines("test groups: *asyncio 1, trio 1")


def test_no_clock_judges_the_properties_of_a_plugin_that_is_tested_alone() -> None:
    """A property of a plugin failed on a busy machine: only what is in `tests/` was run without a deadline."""
    root = Path(__file__).resolve().parent.parent
    command = [sys.executable, "-m", "pytest", "-v", "--collect-only", "docs/examples/lash-plugin-hello/tests"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    (header,) = re.findall(r"^hypothesis profile .*$", done.stdout, re.MULTILINE)
    assert header.startswith("hypothesis profile 'lash'")
    assert "deadline=None" in header
