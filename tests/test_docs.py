"""The documents tell the truth: every block of code in them runs, every hook has an entry and a test, links lead on.

`docs_kit.py` says how a block of each kind is tried. A page's blocks are run in an empty folder, offline: the model is
a script, or a service on this machine that speaks Chat Completions.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import get_args

import attrs
import pytest
import statements
from docs_kit import (
    ROOT,
    PageRun,
    Snippet,
    anchors,
    environment,
    hooks_with_tests,
    links,
    matches,
    page_id,
    pages,
    parameters,
    parse_commands,
    section,
    signature,
    snippets,
)

from lash_framework import Lash, Session
from lash_framework.turn_job import TurnOptions
from lash_hookspecs import AssembledTurn, LashError, Mode, PluginInfo, PromptContribution, StopReason, TurnEvent, specs
from lash_hookspecs.specs import HOOKS, HookRunnerKind
from lash_plugin_provider_scripted import Reply
from lash_provider_kit.testing import ChatServer

HOOKS_PAGE = ROOT / "docs" / "reference" / "hooks.md"
PYTHON_PAGE = ROOT / "docs" / "reference" / "python.md"

ALL_SNIPPETS = [snippet for page in pages() for snippet in snippets(page)]

every_page = pytest.mark.parametrize("page", pages(), ids=page_id)
every_hook = pytest.mark.parametrize("hook", sorted(HOOKS))


@pytest.fixture(scope="module")
def service() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: ChatServer) -> dict[str, str]:
    """The environment of a reader, also for the code that runs in this process; the folder is empty."""
    env = environment(tmp_path, service.url)
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name not in env]:
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return env


def run_all(found: list[Snippet], folder: Path, env: dict[str, str]) -> None:
    run = PageRun(folder, env)
    for snippet in found:
        run.run(snippet)
    run.finish()


# ---- blocks ---------------------------------------------------------------------------------------------------------


@pytest.mark.costly
@pytest.mark.parametrize(
    "page", [page for page in pages() if any(each.not_run is None for each in snippets(page))], ids=page_id
)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path, home: dict[str, str]) -> None:
    run_all(snippets(page), tmp_path, home)


@pytest.mark.parametrize("snippet", [each for each in ALL_SNIPPETS if each.not_run is not None], ids=str)
def test_a_block_that_is_not_run_says_why(snippet: Snippet) -> None:
    reason = snippet.not_run
    assert reason is not None
    assert len(reason.split()) >= 3, f"{snippet}: that is no reason"
    pytest.skip(f"{snippet} is not run: {reason}")


def test_there_are_blocks_to_run() -> None:
    """Should the search for blocks find nothing, all of the above would pass."""
    languages = {each.language for each in ALL_SNIPPETS if each.not_run is None}
    assert languages >= {"python", "console", "toml"}


# ---- links ----------------------------------------------------------------------------------------------------------


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    lost = []
    for target, anchor in links(page):
        path = (page.parent / target).resolve() if target else page
        if not path.exists():
            lost.append(f"{target} (no such file)")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path):
            lost.append(f"{target}#{anchor} (no such heading)")
    assert lost == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached and page.suffix == ".md" and page.is_file():
            reached.add(page)
            waiting += [(page.parent / target).resolve() for target, _ in links(page) if target]
            waiting += [
                index for target, _ in links(page) if (index := (page.parent / target).resolve() / "index.md").is_file()
            ]
    assert [page_id(page) for page in pages() if page not in reached] == []


DURABILITY_PAGE = ROOT / "docs" / "explanation" / "durability.md"


def test_whatever_is_promised_about_crashes_links_to_a_test_that_is_there() -> None:
    """A link to a Python file names one of its functions: a test, or a case of the kit for stores."""
    promised = [(target, name) for target, name in links(DURABILITY_PAGE) if target.endswith(".py")]
    assert len(promised) > 20
    lost = []
    for target, name in promised:
        path = (DURABILITY_PAGE.parent / target).resolve()
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if not re.search(rf"^(async )?def {name}\(", text, re.MULTILINE):
            lost.append(f"{target}#{name}")
    assert lost == []


def test_the_page_of_statements_is_what_the_tests_say() -> None:
    assert statements.SHOWN_ON.read_text(encoding="utf-8") == statements.as_page(), "run `python tests/statements.py`"


# ---- hooks ----------------------------------------------------------------------------------------------------------


@every_hook
def test_every_hook_is_documented_as_it_is(hook: str) -> None:
    policy, spec = HOOKS[hook], getattr(specs, hook)
    text = section(HOOKS_PAGE, f"`{hook}{parameters(spec)}`")
    assert f"`{signature(hook, spec)}`" in text
    assert f"**Runner:** {policy.runner.value}" in text
    assert f"**If it raises:** {policy.on_error}." in text


def test_nothing_else_is_documented_as_a_hook() -> None:
    found = [name for name in anchors(HOOKS_PAGE) if name.startswith("lash_")]
    assert len(found) == len(HOOKS)


@every_hook
async def test_every_hooks_example_is_a_plugin_that_works(
    hook: str, home: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """The example alone is a plugin: it loads, implements the hook, and a turn with it ends well."""
    (example,) = [each for each in snippets(HOOKS_PAGE) if each.language == "python" and f"def {hook}(" in each.text]
    assert len(list(filter(None, example.text.splitlines()))) <= 10
    assert example.text in section(HOOKS_PAGE, f"`{hook}{parameters(getattr(specs, hook))}`")
    plugin = ModuleType("example")
    exec(compile(example.text, str(example), "exec"), vars(plugin))
    assert hasattr(getattr(plugin, hook), "lash_impl")
    with caplog.at_level(logging.WARNING):
        async with Lash.open("sqlite:///:memory:", plugins=[plugin]) as lash:
            session = await lash.session("demo")
            turn = await session.run("What time is it?")
    assert turn.is_success
    assert turn.errors == ()
    assert [record.getMessage() for record in caplog.records if record.name.startswith("lash")] == []


@every_hook
def test_every_hook_has_a_test(hook: str) -> None:
    assert any(name.startswith(hook) for name in hooks_with_tests()), f"no function `test_hook_{hook}…` under tests/"


def test_the_page_explains_every_runner() -> None:
    text = HOOKS_PAGE.read_text(encoding="utf-8")
    used = {policy.runner for policy in HOOKS.values()}
    assert [kind.value for kind in HookRunnerKind if kind in used and f"| {kind.value} |" not in text] == []


FIELD_TABLES = {
    PluginInfo: HOOKS_PAGE,
    Mode: HOOKS_PAGE,
    PromptContribution: HOOKS_PAGE,
    Reply: ROOT / "docs" / "how-to" / "test-an-agent.md",
}


@pytest.mark.parametrize("cls", FIELD_TABLES, ids=lambda cls: cls.__name__)
def test_the_fields_of_what_a_reader_makes_are_listed(cls: type[attrs.AttrsInstance]) -> None:
    _, _, table = FIELD_TABLES[cls].read_text(encoding="utf-8").partition(f"| field of `{cls.__name__}` |")
    listed = "".join(line.split("|")[1] for line in table.partition("\n\n")[0].splitlines()[2:])
    assert sorted(re.findall(r"`(\w+)`", listed)) == sorted(each.name for each in attrs.fields(cls))


# ---- the page of the Python interface -------------------------------------------------------------------------------


def errors_of(base: type[Exception]) -> Iterator[str]:
    for each in base.__subclasses__():
        if each.__module__ == base.__module__:
            yield each.__name__
            yield from errors_of(each)


def public_members(cls: type) -> set[str]:
    return {name for name, value in vars(cls).items() if not name.startswith("_") and getattr(value, "__doc__", None)}


LISTED = {
    "`Lash.open`": set(inspect.signature(Lash.open).parameters),
    "Activities": {each.__name__ for each in get_args(TurnEvent)},
    "The turn": {each.name for each in attrs.fields(AssembledTurn)} | {each.value for each in StopReason},
    "Errors": set(errors_of(LashError)),
}


@pytest.mark.parametrize("heading", LISTED)
def test_a_list_of_the_python_page_is_complete(heading: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \|", section(PYTHON_PAGE, heading), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert set(rows) == LISTED[heading]


@pytest.mark.parametrize(("heading", "cls"), [("`Session`", Session), ("`Lash`", Lash)], ids=["Session", "Lash"])
def test_what_the_python_page_names_is_there(heading: str, cls: type) -> None:
    first_cells = re.findall(r"^\| (`.+?`) \|", section(PYTHON_PAGE, heading), re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)", cell)}
    members = public_members(cls) | {"id"}
    options = set(TurnOptions.__annotations__) if cls is Session else set()
    assert named - members - options == set()
    assert options <= named


# ---- this file's own tools ------------------------------------------------------------------------------------------


def write(folder: Path, text: str) -> list[Snippet]:
    page = folder / "page.md"
    page.write_text(text, encoding="utf-8")
    return [Snippet(ROOT / "README.md", each.line, each.language, each.text, each.above) for each in snippets(page)]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("```python\nassert 1 == 2\n```", AssertionError),
        ("```python\nimport anyio\nawait anyio.lowlevel.checkpoint()\nundefined\n```", NameError),
        ("```python\nx = 1\n```\n\n```python\nassert x == 2\n```", AssertionError),
        ("```console\n$ echo one\ntwo\n```", AssertionError),
        ("```console\n$ false\n```", AssertionError),
        ("<!-- exit: 2 -->\n```console\n$ true\n```", AssertionError),
        ("```sh\nfalse\n```", AssertionError),
        ("```sh\ntrue && rm -rf .\n```", AssertionError),
        ("```toml\nmodle = 'x:y'\n```", Exception),
        ("```toml\n[[reply]]\ntext = 3\n```", Exception),
        ("```json\n{]\n```", ValueError),
        ("```ruby\nputs 1\n```", AssertionError),
        ("```python\n# tool.py\nx = 1\n```", AssertionError),
        ("```python\n# tool.py\nraise SystemExit(3)\n```\n```console\n$ python tool.py\n```", AssertionError),
    ],
)
def test_what_is_wrong_is_found(text: str, fault: type[Exception], tmp_path: Path, home: dict[str, str]) -> None:
    found = write(tmp_path, text)
    with pytest.raises(fault):
        run_all(found, tmp_path, home)


def test_what_is_right_passes(tmp_path: Path, home: dict[str, str]) -> None:
    text = """
        ```python
        import anyio
        await anyio.lowlevel.checkpoint()
        ```

        ```python
        # tool.py
        print("it is", 3)
        ```

        ```console
        $ python tool.py
        it is ...
        $ echo done
        ```

        <!-- not run: it would need a network -->
        ```sh
        exit 1
        ```
        """
    run_all(write(tmp_path, text), tmp_path, home)


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        ("a b", "a  b\n", True),
        ("a ... d", "a b c d", True),
        ("a\n...\nd", "a\nb\nc\nd", True),
        ("a", "a b", False),
        ("a ...", "b a", False),
    ],
)
def test_outputs_are_compared_loosely(expected: str, actual: str, same: bool) -> None:
    assert matches(expected, actual) is same


def test_commands_are_read_with_their_output() -> None:
    text = "$ echo \\\n  a\na\n\n$ true\n"
    found = list(parse_commands(Snippet(ROOT / "README.md", 1, "console", text)))
    assert found == [("echo   a", "a\n"), ("true", "")]
