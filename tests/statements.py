"""Which acceptance statements of the reference are tested, read from the tests themselves.

The numbers are those of `pytest.mark.statement(…)`; its `page` says whose they are, without one the turn machine's.
This is tables and a few functions, no test.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from attrs import field, frozen

__all__ = ["PAGES", "Page", "as_page", "marked_pages"]

TESTS = Path(__file__).resolve().parent
FOLDERS = (
    TESTS,
    TESTS.parent / "hookspecs" / "tests",
    TESTS.parent / "plugins" / "lash-plugin-mode-standard" / "tests",
    TESTS.parent / "plugins" / "lash-plugin-plan" / "tests",
    TESTS.parent / "plugins" / "lash-plugin-store-sql" / "tests",
    TESTS.parent / "plugins" / "lash-plugin-tool-budget" / "tests",
    TESTS.parent / "plugins" / "lash-plugin-tools-files" / "tests",
    TESTS.parent / "plugins" / "lash-plugin-tools-shell" / "tests",
)


@frozen
class Page:
    """One page's statements: `not_applicable` can't exist here, `open` are yet to come; each with the reason."""

    page: str | None
    expected: frozenset[int]
    not_applicable: Mapping[int, str]
    open: Mapping[int, str] = field(factory=dict)

    def asserted(self) -> dict[int, list[str]]:
        """The tests of each statement, by name."""
        found: dict[int, list[str]] = {}
        for path, node, page, number in _marked():
            if page == self.page:
                found.setdefault(number, []).append(f"{path.name}::{node.name}")
        return found

    def docstring_faults(self) -> list[str]:
        """Tests of statements that don't say in words what they assert."""
        return sorted(
            {
                f"{path.name}::{node.name}"
                for path, node, page, _ in _marked()
                if page == self.page and not ast.get_docstring(node)
            }
        )


def marked_pages() -> set[str | None]:
    """All pages that some test names."""
    return {page for _, _, page, _ in _marked()}


def _files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in folder.glob("test_*.py"))


def _marked() -> Iterator[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef, str | None, int]]:
    for path in _files():
        text = path.read_text(encoding="utf-8")
        if "mark.statement(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.statement":
                    named = {each.arg: ast.literal_eval(each.value) for each in mark.keywords}
                    for number in mark.args:
                        yield path, node, named.get("page"), ast.literal_eval(number)


_PROCESSES = "no host runs processes yet: the values are there, and the journal keeps what is asked of one"
_TRIGGERS = "there are no triggers yet: they come with processes"
_TASKS = "there are no background tasks yet: they are to be a view over processes"
_INTENTS = "a tool declares no intents: what must follow a call is a call of its own, which has its record"

PAGES = {
    "turn-machine": Page(
        None,
        frozenset(range(1, 87)),
        {
            12: "Python's integers don't overflow, so no sum of usage can; negative counts are for the codec to refuse",
            39: "what counts is every iteration, not those without progress; the default is bounded (100), and tested",
            85: "a turn has no frame switches: handoffs are turns of other sessions, and who follows says how many",
        },
    ),
    "plugin-system": Page(
        "plugin-system",
        frozenset(range(1, 90)),
        {
            3: "there is no stack with positions: the order is that of `after` and ids, and `replaces` changes claims",
            6: "what the model sees of a result is a chain of all plugins, so that two of them are no conflict",
            48: "no call is granted from outside: a deferred tool is found, and then a member like all others",
            59: _INTENTS,
            60: _INTENTS,
            69: "nothing optimistic is told of a command: an input is accepted durably, or it is refused",
        },
        {
            15: "no hook declares triggers yet, so that no two can be of one source: they come with processes",
            88: "there are no subagents yet, so that nothing can spawn one",
        },
    ),
    "effects": Page(
        "effects",
        frozenset(range(1, 72)),
        {
            34: "a key is a hash of what it is of, made by a function that has no store to write to",
            38: "who runs a turn gives its id and no scope: that is made of session and turn, so that none disagrees",
        },
        {
            **dict.fromkeys((39, 40, 41, 46, 48, 49, 50, 51, 54), _PROCESSES),
            **dict.fromkeys((52, 55, 56, 57), _TRIGGERS),
            **dict.fromkeys((65, 66, 67), _TASKS),
            69: "there is no host over Restate yet; that a recorded commit is replayed is the stores' case B.04",
        },
    ),
}
"""Parts of statements that can't exist here, and amendments, are told by their tests."""


# ---- the page of the documentation ----------------------------------------------------------------------------------

SHOWN_ON = TESTS.parent / "docs" / "reference" / "statements.md"

_HEAD = """# Statements and their tests

What the turn machine, the plugin system and effects are held to: numbered statements, each with the tests that carry
its number (`@pytest.mark.statement(12)`), in the words of the first. `pytest -m statement` runs them; a number without
one is red.
Made from the tests by `python tests/statements.py`.
"""

_TITLES = {"turn-machine": "The turn machine", "plugin-system": "Plugins, tools and prompts", "effects": "Effects"}
_NUMBERS = re.compile(r"(?:^|(?<=[.;] ))(\d+(?:, \d+)*): ")


def as_page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for name, page in PAGES.items():
        found: dict[int, list[tuple[Path, str, str]]] = {}
        for path, node, of_page, number in _marked():
            if of_page == page.page:
                found.setdefault(number, []).append((path, node.name, ast.get_docstring(node) or ""))
        reasons = {**page.not_applicable, **page.open}
        rows = [f"## {_TITLES[name]}\n", "| | what holds | tests |", "| --- | --- | --- |"]
        said: dict[str, list[str]] = {}
        for number in sorted(page.expected):
            tests = found.get(number, [])
            links = ", ".join(f"[{at}]({_relative(path)}#{test})" for at, (path, test, _) in enumerate(tests, 1))
            words = _in_words(number, *tests[0][1:]) if tests else f"*not here:* {reasons.get(number, '')}"
            said.setdefault(f"{words} | {links}", []).append(str(number))
        rows += [f"| {', '.join(numbers)} | {each} |" for each, numbers in said.items()]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _in_words(number: int, name: str, docstring: str) -> str:
    """What a test says of this statement: the part behind its number, if it has several, else its first paragraph."""
    first, whole = (re.sub(r"\s+", " ", each).replace("|", "\\|") for each in (docstring.split("\n\n")[0], docstring))
    pieces = _NUMBERS.split(whole)  # text, numbers, text, …
    told = zip(pieces[1::2], pieces[2::2], strict=True)
    behind = {each: text for numbers, text in told for each in numbers.split(", ")}
    found = behind.get(str(number), first).strip().rstrip(".;")
    return found or name.removeprefix("test_").replace("_", " ")


def _relative(path: Path) -> str:
    return f"../../{path.relative_to(TESTS.parent).as_posix()}"


if __name__ == "__main__":
    SHOWN_ON.write_text(as_page(), encoding="utf-8")
