"""What every distribution of this repository has in common, and what the repository's own lists must agree on."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import tomllib
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

LONGEST_PLUGIN_MODULE = 40
LONGEST_MODULE = 400

# Modules that may be longer, each with the reason why splitting it would make it harder to read.
LONG_MODULES: dict[str, str] = {
    "hookspecs/lash_hookspecs/__init__.py": "only names: once for type checkers, once for loading at first use",
    "hookspecs/lash_hookspecs/llm.py": "request, response, stream and failure of one call refer to each other",
    "hookspecs/lash_hookspecs/stores.py": "the commit and the ports that take it are read as one page",
    "lash_framework/machine/machine.py": "every change of the machine's state, to be read beside its table",
}

# Put together from parts, so that this file passes its own test.
HOMES = re.compile("/" + r"(?:home|Users)/[A-Za-z0-9_.-]+/|(?<![\w.])/" + r"root\b|[A-Z]:\\" + r"Users\\")
REGISTRIES = re.compile(
    "|".join(
        re.escape(name) + r"\." + domain
        for name, domain in [
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "(?:org|com)"),
            ("crates", "io"),
            ("deb.debian", "org"),
            ("proxy.golang", "org"),
        ]
    )
)


# The first version of a library with which the code works, and what is otherwise with those before it.
SINCE = {
    "anyio": ((4, 12, 1), "there is no `NoEventLoopError`, so `Lash.run_sync` fails"),
    "click": ((8, 2), "there is no `NoArgsIsHelpError`, so each message is a traceback"),
    "httpx": ((0, 28), "a file of certificates that isn't there is passed over in silence"),
    "jsonschema-rs": ((0, 49), "deep data is an error, and before 0.33 so is what fits no alternative"),
    "orjson": ((3, 12), "what is nested deep aborts the process, and up to 3.11.6 large numbers have another hash"),
    "pyyaml": ((6, 0, 2), "there is no wheel for Python 3.13, and what is built fails"),
    "trio": ((0, 32), "a cancel can't have the reason that anyio gives it, so each is a `TypeError`"),
}
# Where versions are promised: by each distribution, by one that `lash plugins new` writes, and by the tests' own list.
PROMISES = ("pyproject.toml", "lash_framework/templates/common/pyproject.toml.tmpl", "tests/requirements.txt")
PROMISE = re.compile(r"""(?m)(?:^|")([A-Za-z][A-Za-z0-9_-]*)(?:\[[a-z,]+\])?>=([0-9.]+)""")


def distributions() -> list[Path]:
    folders = [ROOT, ROOT / "hookspecs", *ROOT.glob("plugins/*/"), *ROOT.glob("docs/examples/lash-*/")]
    return sorted(folder for folder in folders if folder == ROOT or not folder.name.startswith((".", "__")))


def settings(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def packages(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("lash_*") if path.is_dir())


def folders_of_tests() -> list[Path]:
    return [folder / "tests" for folder in distributions() if (folder / "tests").is_dir()]


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def committed_files() -> list[Path]:
    """What git has or would add; without git, a checkout's files outside its hidden folders."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        return [p for p in ROOT.rglob("*") if p.is_file() and not any(part[0] == "." for part in p.parts[:-1])]
    return [path for name in listed if name and (path := ROOT / name).is_file()]


each = pytest.mark.parametrize("folder", distributions(), ids=relative)
each_plugin = pytest.mark.parametrize(
    "folder",
    [folder for folder in distributions() if folder.name.startswith("lash-plugin-")],
    ids=lambda folder: folder.name,
)


# ---- each distribution ----------------------------------------------------------------------------------------------


@each
def test_it_has_a_readme_and_one_typed_package(folder: Path) -> None:
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("# ")
    (package,) = packages(folder)
    assert (package / "py.typed").exists()
    assert (package / "__init__.py").exists()


@each
def test_its_name_its_folder_and_its_package_agree(folder: Path) -> None:
    (package,) = packages(folder)
    name = settings(folder)["project"]["name"]
    assert name == package.name.replace("_", "-")
    assert folder in (ROOT, ROOT / "hookspecs") or name == folder.name


@each
def test_it_is_built_from_its_package_alone(folder: Path) -> None:
    """Without `only-include` a source archive holds whatever lies around in the folder."""
    (package,) = packages(folder)
    targets = settings(folder)["tool"]["hatch"]["build"]["targets"]
    assert targets["wheel"]["packages"] == [package.name]
    assert package.name in targets["sdist"]["only-include"]


@each
def test_it_ships_the_license(folder: Path) -> None:
    """MIT asks for its text in every copy; `.ci/wheels.py` looks into the wheels."""
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert settings(folder)["project"]["license-files"] == ["LICENSE"]
    assert "LICENSE" in settings(folder)["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"]


@each_plugin
def test_a_plugins_entry_point_is_its_folder_without_the_prefix(folder: Path) -> None:
    (package,) = packages(folder)
    entry_points = settings(folder)["project"]["entry-points"]
    assert entry_points == {"lash": {folder.name.removeprefix("lash-plugin-"): f"{package.name}.plugin"}}


@each_plugin
def test_a_plugins_hooks_fit_on_a_screen(folder: Path) -> None:
    """`plugin.py` is imported at every discovery: hooks only, anything heavy is imported inside of them."""
    (package,) = packages(folder)
    assert lines_of(package / "plugin.py") <= LONGEST_PLUGIN_MODULE


@each_plugin
def test_a_plugin_has_tests_and_no_conftest(folder: Path) -> None:
    assert list(folder.glob("tests/test_*.py"))
    assert not list(folder.rglob("conftest.py"))


def entry_points(folder: Path) -> dict[str, dict[str, str]]:
    return settings(folder)["project"].get("entry-points", {})


def test_only_the_kernel_offers_something_to_pytest() -> None:
    assert {folder for folder in distributions() if "pytest11" in entry_points(folder)} == {ROOT}


def test_only_plugins_have_an_entry_point() -> None:
    with_entry = {folder.name for folder in distributions() if "lash" in entry_points(folder)}
    assert all(name.startswith("lash-plugin-") for name in with_entry)


# ---- modules --------------------------------------------------------------------------------------------------------


def modules() -> list[Path]:
    return sorted(path for folder in distributions() for package in packages(folder) for path in package.rglob("*.py"))


def test_modules_are_short_or_say_why_not() -> None:
    long = {relative(path): lines for path in modules() if (lines := lines_of(path)) > LONGEST_MODULE}
    assert {name: lines for name, lines in long.items() if name not in LONG_MODULES} == {}
    assert LONG_MODULES.keys() - long.keys() == set(), "no longer long: take it off the list"
    assert all(len(reason.split()) > 3 for reason in LONG_MODULES.values())


def order(name: str) -> tuple[int, list[tuple[bool, int, str]]]:
    """Constants, classes, the rest; numbers by value: the order that ruff's RUF022 writes."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[0].isupper() else 2
    return kind, [
        (not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.findall(r"\d+|\D+", name)
    ]


def exported(source: str) -> list[str] | None:
    """The value of a literal `__all__`; a computed one is for the module's own tests."""
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return ast.literal_eval(node.value) if isinstance(node.value, ast.List | ast.Tuple) else None
    return None


@pytest.mark.costly
@pytest.mark.parametrize("path", modules(), ids=relative)
def test_all_is_sorted_and_without_doubles(path: Path) -> None:
    names = exported(path.read_text(encoding="utf-8")) or []
    assert [(one, other) for one, other in pairwise(names) if order(one) >= order(other)] == []


# ---- tests ----------------------------------------------------------------------------------------------------------


def test_files_in_tests_folders_have_unique_names() -> None:
    """pytest and mypy know them by their bare names, since no tests folder is a package."""
    names = Counter(
        path.name for folder in folders_of_tests() for path in folder.rglob("*.py") if path.name != "conftest.py"
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_tests_folder_is_a_package() -> None:
    assert [relative(path) for folder in folders_of_tests() for path in folder.rglob("__init__.py")] == []


# ---- lists ----------------------------------------------------------------------------------------------------------


def test_the_list_of_local_packages_is_what_is_on_disk() -> None:
    lines = (ROOT / "plugins" / "requirements.txt").read_text(encoding="utf-8").splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    listed = [re.fullmatch(r"-e (\.[^\[\]]*)(?:\[[a-z,]+\])?", entry) for entry in entries]
    assert all(listed), entries
    folders = [(ROOT / entry[1]).resolve() for entry in listed if entry]
    assert sorted(folders) == distributions()


def test_every_local_dependency_has_a_source_for_uv() -> None:
    names = {settings(folder)["project"]["name"] for folder in distributions()}
    required = set()
    for folder in distributions():
        project = settings(folder)["project"]
        extras = project.get("optional-dependencies", {}).values()
        for requirement in [*project["dependencies"], *(line for extra in extras for line in extra)]:
            required.add(re.split(r"[^A-Za-z0-9._-]", requirement)[0])
    assert names & required <= settings(ROOT)["tool"]["uv"]["sources"].keys()


def test_all_distributions_have_one_version_and_one_oldest_python() -> None:
    projects = [settings(folder)["project"] for folder in distributions()]
    assert len({(project["version"], project["requires-python"]) for project in projects}) == 1


# ---- documents ------------------------------------------------------------------------------------------------------


def command_below(marker: str) -> str:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(rf"^<!-- command: {marker} -->\n```sh\n(.+)\n```$", readme, re.MULTILINE)
    return command


@pytest.mark.parametrize("marker", ["demo", "test"])
def test_the_readmes_commands_are_one_line_and_name_what_exists(marker: str) -> None:
    words = shlex.split(command_below(marker))
    assert words[:3] == ["python3", "-m", "venv"]
    assert all((ROOT / word).exists() for word in words if word.endswith(".txt"))


@pytest.mark.parametrize("folder", sorted((ROOT / "plugins").glob("lash-plugin-*")), ids=lambda folder: folder.name)
def test_the_readme_lists_each_plugin_with_its_page(folder: Path) -> None:
    name, readme = folder.name.removeprefix("lash-plugin-"), (ROOT / "README.md").read_text(encoding="utf-8")
    row = rf"^\| \[{name}\]\(plugins/{folder.name}/README\.md\) \| .+ \| \[.+\]\((docs/.+\.md)\) \|$"
    (page,) = re.findall(row, readme, re.MULTILINE)
    assert (ROOT / page).exists()


def test_the_readmes_plugin_is_the_example_plugin() -> None:
    example = ROOT / "docs" / "examples" / "lash-plugin-hello" / "lash_plugin_hello" / "plugin.py"
    assert f"```python\n{example.read_text(encoding='utf-8')}```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_file_names_somebodys_home_or_a_registry() -> None:
    found = []
    for path in committed_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture, say
        for pattern in (HOMES, REGISTRIES):
            found += [f"{relative(path)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


@pytest.mark.parametrize(
    "text",
    ["/" + "home/ann/lash", "see /" + "root/.cache", "/" + "Users/ann/x", "https://files.python" + "hosted.org/x"],
)
def test_the_search_for_homes_and_registries_finds_them(text: str) -> None:
    assert HOMES.search(text) or REGISTRIES.search(text)


def promises() -> dict[str, dict[str, list[str]]]:
    """Of each library the lowest versions that are promised, and where."""
    found: dict[str, dict[str, list[str]]] = {}
    for path in committed_files():
        if any(path.relative_to(ROOT).match(pattern) for pattern in PROMISES):
            for library, lowest in PROMISE.findall(path.read_text(encoding="utf-8")):
                found.setdefault(library, {}).setdefault(lowest, []).append(relative(path))
    return found


def test_all_promise_the_same_lowest_version_of_a_library() -> None:
    """The kernel needs what it needs, whatever a plugin beside it says; `tox -e oldest` tries what is lowest."""
    found = promises()
    assert {"attrs", "anyio", "httpx", "pytest", "hatchling"} <= found.keys()
    assert {library: places for library, places in found.items() if len(places) > 1} == {}


@pytest.mark.parametrize("library", SINCE)
def test_no_version_of_a_library_is_promised_with_which_the_code_fails(library: str) -> None:
    """The promised versions had never been tried together."""
    since, otherwise = SINCE[library]
    for lowest in promises()[library]:
        assert tuple(map(int, lowest.split("."))) >= since, otherwise
