"""What `test_docs.py` runs on: pages, their code blocks, and how a block of each kind is tried.

- `python`: a page's blocks run in order in one namespace, each either as it stands or, with a top-level `await`, in an
  event loop of its own.
- A `python` or `toml` block whose first line is `# NAME.py` or `# NAME.toml` is a file: it is written to the page's
  folder, and a command further down must use it.
- `console`: lines that start with `$ ` are commands, what follows is their output. `...` stands for anything. An
  `<!-- exit: N -->` right above says with which status the last command ends. In `sh`, every line is a command.
- `toml` and `json` must parse; TOML must also load as what it is: a script, or settings.
- `text`, `mermaid`: nothing to run.

A block stays unrun only below an `<!-- not run: REASON -->`, or below the README's `<!-- command: NAME -->`, which
`.ci/run` and `test_layout.py` look after.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import warm
from attrs import define, field, frozen

ROOT = Path(__file__).resolve().parent.parent

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,})(?P<language>[\w+-]*)[^`]*$")
_NOT_RUN = re.compile(r"^<!-- not run: (?P<reason>.+) -->$")
_COMMAND = re.compile(r"^<!-- command: \w+ -->$")
_EXIT = re.compile(r"^<!-- exit: (?P<status>\d+) -->$")
_FILE = re.compile(r"^# (?P<name>[\w/.-]+\.(?:py|toml))$")

# What a page may run on the machine of whoever runs the tests: nothing that installs, fetches or removes.
PROGRAMS = frozenset({"cat", "cd", "echo", "false", "lash", "mkdir", "printf", "pytest", "python", "true"})

WARNINGS = "error"

PLAIN = frozenset({"text", "mermaid"})
RUN = frozenset({"python", "console", "sh", "toml", "json"})


def pages() -> list[Path]:
    """All documents that a reader may meet, the README first."""
    top = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    return top + sorted(ROOT.glob("docs/**/*.md"))


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@frozen
class Snippet:
    """A fenced block. `line` is that of its first line of text, from 1; `above` what stands on the line before it."""

    page: Path
    line: int
    language: str
    text: str
    above: str = ""

    def __str__(self) -> str:
        return f"{page_id(self.page)}:{self.line}"

    @property
    def not_run(self) -> str | None:
        """Why it isn't run; None if it is."""
        if _COMMAND.match(self.above):
            return "a command of the README's first screen, which .ci/run runs"
        found = _NOT_RUN.match(self.above)
        return found["reason"] if found else None

    @property
    def file_name(self) -> str | None:
        """The file that it is, if it says so."""
        found = _FILE.match(self.text.partition("\n")[0]) if self.language in ("python", "toml") else None
        return found["name"] if found else None

    @property
    def exit_status(self) -> int:
        found = _EXIT.match(self.above)
        return int(found["status"]) if found else 0


def snippets(page: Path) -> list[Snippet]:
    """The fenced blocks of a page. Raises `ValueError` for one that is never closed."""
    return list(_snippets(page, page.read_text(encoding="utf-8").splitlines()))


def _snippets(page: Path, lines: list[str]) -> Iterator[Snippet]:
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        number += 1
        if opening is None:
            continue
        first, indent, text = number, len(opening["indent"]), []
        while number < len(lines) and lines[number].strip() != opening["fence"]:
            text.append(lines[number][indent:])
            number += 1
        if number == len(lines):
            raise ValueError(f"{page}:{first}: this block is never closed")
        above = lines[first - 2].strip() if first >= 2 else ""
        yield Snippet(page, first + 1, opening["language"], "\n".join(text) + "\n", above)
        number += 1


def headings(page: Path) -> list[str]:
    """The headings of a page, without their `#`s; what is in a block is none."""
    found, fence = [], None
    for line in page.read_text(encoding="utf-8").splitlines():
        mark = _FENCE.match(line)
        if fence is None and mark:
            fence = mark["fence"]
        elif fence is not None and line.strip() == fence:
            fence = None
        elif fence is None and (heading := re.match(r"#{1,6} +(.+?) *$", line)):
            found.append(heading[1])
    return found


def anchors(page: Path) -> set[str]:
    """What `page.md#…` may name: each heading as GitHub spells it."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(page)}


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Target and anchor of each link to a place in this repository."""
    text = re.sub(r"^( *)(`{3,}).*?^\1\2$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


# ---- running --------------------------------------------------------------------------------------------------------


@define
class PageRun:
    """A page while its blocks are run: the folder that they run in, their variables, the environment of commands."""

    folder: Path
    env: Mapping[str, str]
    backend: str = "asyncio"
    module: ModuleType = field(factory=lambda: ModuleType("page"))
    unused_files: dict[str, Snippet] = field(factory=dict)

    def run(self, snippet: Snippet) -> None:
        """Try one block. Raises `AssertionError`, or whatever a Python block raises."""
        assert snippet.language in RUN | PLAIN, f"{snippet}: nobody knows how to run `{snippet.language}`"
        if snippet.not_run is not None or snippet.language in PLAIN:
            return
        if snippet.file_name is not None:
            self._write(snippet.file_name, snippet)
        match snippet.language:
            case "python" if snippet.file_name is None:
                self._run_python(snippet)
            case "python":
                compile(snippet.text, str(snippet), "exec")
            case "console" | "sh":
                self._run_commands(snippet)
            case "toml":
                check_toml(snippet, self.folder)
            case "json":
                json.loads(snippet.text)

    def finish(self) -> None:
        """A file that no command uses was not tried."""
        unused = [f"{snippet}: no command below uses `{name}`" for name, snippet in self.unused_files.items()]
        assert unused == []

    def _write(self, name: str, snippet: Snippet) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(snippet.text, encoding="utf-8")
        if path.suffix == ".py" or path.name == "pyproject.toml":
            self.unused_files[name] = snippet

    def _mark_used(self, text: str) -> None:
        """Files that a command, or a file that it uses, mentions."""
        for name in [name for name in self.unused_files if _mentions(text, name)]:
            used = self.unused_files.pop(name, None)
            if used is not None:
                self._mark_used(used.text)

    def _run_python(self, snippet: Snippet) -> None:
        tree = ast.parse(snippet.text, str(snippet.page))
        ast.increment_lineno(tree, snippet.line - 1)
        code = compile(tree, str(snippet.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        if code.co_flags & inspect.CO_COROUTINE:

            async def main() -> None:
                await eval(code, vars(self.module))

            anyio.run(main, backend=self.backend)
        else:
            exec(code, vars(self.module))

    def _run_commands(self, snippet: Snippet) -> None:
        commands = list(parse_commands(snippet))
        assert commands, f"{snippet}: no command in it (they start with `$ ` in a `console` block)"
        for index, (command, expected) in enumerate(commands):
            unknown = programs(command) - PROGRAMS
            assert not unknown, (
                f"{snippet}: no test runs {', '.join(sorted(unknown))}: give a reason for not running it"
            )
            self._mark_used(command)
            settings = self.folder / "lash.toml"
            if "lash" in programs(command) and settings.exists():  # which may name what it starts
                self._mark_used(settings.read_text(encoding="utf-8"))
            done = subprocess.run(
                ["bash", "-c", command],
                cwd=self.folder,
                env=dict(self.env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=240,
                check=False,
            )
            status = snippet.exit_status if index == len(commands) - 1 else 0
            # As a shell tells it: bash hands over to its last command.
            code = done.returncode if done.returncode >= 0 else 128 - done.returncode
            report = f"{snippet}: `{command}` ended with {code} and said:\n{done.stdout}"
            assert code == status, report
            assert not expected or matches(expected, done.stdout), f"{report}\ninstead of:\n{expected}"


def _mentions(command: str, name: str) -> bool:
    """Whether a command or program uses a file: by its name, as a module, or by its folder."""
    path = Path(name)
    names = {name, path.stem, *(parent.as_posix() for parent in path.parents if parent != Path())}
    return any(re.search(rf"(?<![\w-]){re.escape(each)}(?![\w-])", command) for each in names)


def programs(command: str) -> set[str]:
    """What a line of shell starts: the first word, and each one after a pipe, `&&`, `||` or `;`; settings aside."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    words = [word for word in lexer if not re.match(r"\w+=", word)]
    starts = [0, *(index + 1 for index, word in enumerate(words) if word in ("|", "&&", "||", ";", "&"))]
    return {words[index] for index in starts if index < len(words)}


def parse_commands(snippet: Snippet) -> Iterator[tuple[str, str]]:
    """Each command with the output that is shown below it; a line that ends in a backslash goes on."""
    lines = snippet.text.replace("\\\n", "").splitlines()
    if snippet.language == "sh":
        yield from ((line, "") for line in lines if line.strip() and not line.lstrip().startswith("#"))
        return
    command, output = "", []
    for line in lines:
        if line.startswith("$ "):
            if command:
                yield command, "\n".join(output)
            command, output = line[2:], []
        else:
            output.append(line)
    if command:
        yield command, "\n".join(output)


def matches(expected: str, actual: str) -> bool:
    """Whether an output is as shown: blanks don't count, and `...` is any text."""
    pieces = re.split(r" ?\.\.\. ?", " ".join(expected.split()))
    pattern = r".*?".join(re.escape(piece) for piece in pieces)
    return re.fullmatch(pattern, " ".join(actual.split()), re.DOTALL) is not None


def check_toml(snippet: Snippet, folder: Path) -> None:
    """A TOML block is a project's metadata, a scripted model's replies, or settings; the latter two are loaded."""
    from lash_framework.settings import load_settings
    from lash_plugin_provider_scripted import load_script

    document = tomllib.loads(snippet.text)
    if {"project", "build-system", "tool"} & document.keys():
        return
    path = folder / ".snippet.toml"
    path.write_text(snippet.text, encoding="utf-8")
    try:
        if "reply" in document:
            load_script(path)
        else:
            load_settings(path, env={})
    finally:
        path.unlink()


def environment(folder: Path, base_url: str) -> dict[str, str]:
    """The environment of a reader who has just installed lash, at home in `folder`, with a model service at hand."""
    foreign = ("LASH_", "OPENAI_", "XDG_", "COV_", "PYTEST_")
    env = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {
        **env,
        "PATH": os.pathsep.join([str(warm.programs(WARNINGS)), str(Path(sys.executable).parent), env.get("PATH", "")]),
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder / ".local" / "share"),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "XDG_STATE_HOME": str(
            folder.with_name(f"{folder.name}-state")
        ),  # what is approved is kept outside of a project
        "LASH_TRUSTED": str(folder),  # the reader has answered the question about their own `lash.toml`
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": "key-of-the-reader",
        "PYTHONWARNINGS": WARNINGS,
        "NO_COLOR": "1",
        "TERM": "dumb",
        "COLUMNS": "120",
    }


# ---- the page of hooks ----------------------------------------------------------------------------------------------


def section(page: Path, heading: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^(#+) +{re.escape(heading)} *$\n", text, re.MULTILINE)
    assert found, f"{page_id(page)} has no heading `{heading}`"
    rest = text[found.end() :]
    end = re.search(rf"^#{{1,{len(found[1])}}} ", re.sub(r"(?ms)^```.*?^```$", _blanked, rest), re.MULTILINE)
    return rest[: end.start()] if end else rest


def _blanked(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", "x", match[0])


def parameters(spec: Any) -> str:
    """`(ctx, turn)`."""
    return f"({', '.join(inspect.signature(spec).parameters)})"


def signature(name: str, spec: Any) -> str:
    """`async def lash_checkpoint(ctx: CheckpointHookContext) -> Sequence[CheckpointDirective]`, as the code has it."""
    shown = str(inspect.signature(spec)).replace("'", "")
    return f"{'async ' if inspect.iscoroutinefunction(spec) else ''}def {name}{shown}"


@cache
def hooks_with_tests() -> dict[str, list[str]]:
    """The hooks that test functions under `tests/` are named after, with the files that hold them."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "tests").glob("**/test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_hook_lash_"):
                found.setdefault(node.name.removeprefix("test_hook_"), []).append(path.name)
    return found
