"""A pytest plugin that counts the passed tests by what they are for, and can insist that no count is zero.

A run can be green because a whole kind of test silently stopped being collected: trio not installed, a parametrised
table that became empty, a renamed folder. `pytest -p groups --require-groups` makes that red. Skipped tests count for
nothing. `--loop asyncio` (or `trio`) leaves out what runs on the other one, and doesn't ask for it, but for what is
costly, which no other environment runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

PROPERTY = "lash groups"
LOOPS = ("asyncio", "trio")
GROUPS = ("statements", "store cases", "providers", "CLI", *LOOPS)

# The id of a store conformance case (`A1.01`, `C.03`) as one part of a parametrised test's id.
CASE = re.compile(r"(?:^|-)[A-Z]\d*\.\d{2,}(?![\w.])")
CLI = re.compile(r"(?:^|/)tests/test_cli(?:_[^/]*)?\.py$")
PROVIDERS = re.compile(r"(?:^|/)plugins/lash-(?:plugin-provider-[^/]+|provider-kit)/")


def groups_of(nodeid: str, statements: frozenset[object], backend: str | None) -> Iterator[tuple[str, object]]:
    """Each group that a test belongs to, with what is counted there: statements by number, all else by test."""
    path, _, rest = nodeid.partition("::")
    _, _, parameters = rest.partition("[")
    for statement in statements:
        yield "statements", statement
    if CASE.search(parameters):
        yield "store cases", nodeid
    if PROVIDERS.search(path):
        yield "providers", nodeid
    if CLI.search(path):
        yield "CLI", nodeid
    if backend in LOOPS:
        yield backend, nodeid


def statements_of(item: pytest.Item) -> frozenset[object]:
    """The numbers in a test's `statement` markers; `page="…"` tells apart pages that each count from 1."""
    return frozenset(
        (mark.kwargs.get("page", ""), number) for mark in item.iter_markers("statement") for number in mark.args
    )


def backend_of(item: pytest.Item) -> str | None:
    """Which event loop `item` runs on: anyio's fixture holds its name, or a pair of the name and options."""
    callspec = getattr(item, "callspec", None)
    backend = callspec.params.get("anyio_backend") if callspec is not None else None
    return backend[0] if isinstance(backend, tuple) else backend


class GroupCounter:
    """Each item carries its groups along in its report, which is what crosses from a worker process to the main one."""

    def __init__(self, required: bool, loop: str | None = None) -> None:
        self.required = required
        self.left_out = set(LOOPS) - {loop} if loop else set()
        self.passed: dict[str, set[object]] = {group: set() for group in GROUPS}

    @property
    def empty(self) -> list[str]:
        return [group for group in GROUPS if not self.passed[group] and group not in self.left_out]

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        if self.left_out:
            left = {item for item in items if self._is_left_out(item)}
            config.hook.pytest_deselected(items=list(left))
            items[:] = [item for item in items if item not in left]
        for item in items:
            found = list(groups_of(item.nodeid, statements_of(item), backend_of(item)))
            item.user_properties.append((PROPERTY, found))

    def _is_left_out(self, item: pytest.Item) -> bool:
        return backend_of(item) in self.left_out and item.get_closest_marker("costly") is None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            for group, counted in dict(report.user_properties).get(PROPERTY, ()):
                self.passed[group].add(counted)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.required and self.empty and exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        counts = ", ".join(f"{group} {len(self.passed[group])}" for group in GROUPS)
        terminalreporter.write_line(f"test groups: {counts}")
        if self.required and self.empty:
            terminalreporter.write_line(f"ERROR: no test passed in: {', '.join(self.empty)}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-groups", action="store_true", help="fail a run in which some group of tests has none that passed"
    )
    parser.addoption(
        "--loop", choices=LOOPS, help="run the tests of this event loop only, all that need none, and what is costly"
    )


def pytest_configure(config: pytest.Config) -> None:
    # A worker of pytest-xdist sees only its share: what is missing is for the main process to say.
    required = config.getoption("--require-groups") and not hasattr(config, "workerinput")
    config.pluginmanager.register(GroupCounter(required, config.getoption("--loop")), "lash-groups")
