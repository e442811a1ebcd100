"""Which acceptance statements of the turn machine's reference are tested, read from the tests themselves.

The numbers are those of `pytest.mark.statement(…)` without a `page`. This is a table and a few functions, no test.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

__all__ = ["EXPECTED", "NOT_APPLICABLE", "asserted", "docstring_faults"]

TESTS = Path(__file__).resolve().parent
FOLDERS = (
    TESTS,
    TESTS.parent / "hookspecs" / "tests",
    TESTS.parent / "plugins" / "lash-plugin-mode-standard" / "tests",
)

EXPECTED = frozenset(range(1, 87))

NOT_APPLICABLE = {
    12: "Python's integers don't overflow, so no sum of usage can; negative counts are for the codec to refuse",
    39: "what counts is every iteration, not those without progress; that the default is bounded (100) has its test",
    85: "there are no frame switches and no handoffs yet: they come with child sessions",
}
"""Statements about what can't exist here, with the reason. Parts of others, and amendments, are told by their tests."""


def _files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in folder.glob("test_*.py"))


def _marked() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef, int]]:
    for path in _files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.statement":
                    if any(keyword.arg == "page" for keyword in mark.keywords):
                        continue
                    for number in mark.args:
                        yield path, node, ast.literal_eval(number)


def asserted() -> dict[int, list[str]]:
    """The tests of each statement, by name."""
    found: dict[int, list[str]] = {}
    for path, node, number in _marked():
        found.setdefault(number, []).append(f"{path.name}::{node.name}")
    return found


def docstring_faults() -> list[str]:
    """Tests of statements that don't say in words what they assert."""
    return sorted({f"{path.name}::{node.name}" for path, node, _ in _marked() if not ast.get_docstring(node)})
