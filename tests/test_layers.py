"""The arrows between the packages go one way, read from every import in every file.

::

    lash_hookspecs  <-  lash_framework
    lash_hookspecs  <-  lash_<kind>_kit  <-  lash_plugin_<kind>_*
    lash_hookspecs  <-  lash_plugin_*           (tests only: -> lash_framework, its public names)

The checker is a function over source text, so that it is itself tried on text that is wrong on purpose.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.costly  # sources are read, not run

# What would make the turn machine depend on anything but its inputs. `step` must be a pure function.
IMPURE = frozenset({
    "anyio", "asyncio", "datetime", "httpx", "logging", "os", "random", "secrets", "socket", "sqlite3", "subprocess",
    "threading", "time", "trio",
})  # fmt: skip

# What follows from no seed: the kernel has it from its `world` alone, so that a simulation can stand in for that.
CHANCE = frozenset({"datetime", "random", "secrets", "time", "uuid"})
WORLDLY = ("lash_framework.world", "lash_framework.cli", "lash_framework.testing")
MEASURED = {each: {"time", "time.perf_counter"} for each in ("lash_framework.hooks", "lash_framework.tracing")}
"""How long a hook or a trace sink blocks everybody is told in the log only."""


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of each module that `source` imports, wherever in the file, typing-only ones too.

    `from a.b import c` yields `a.b` and `a.b.c`, since c may be a module; a relative import yields its dots.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield node.lineno, origin
            for alias in node.names:
                yield node.lineno, f"{origin}.{alias.name}" if node.module else f"{origin}{alias.name}"


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def allowed_packages(package: str) -> frozenset[str]:
    """The packages of this repository that `package` may import."""
    allowed = {package, "lash_hookspecs"}
    if match := re.fullmatch(r"lash_plugin_([a-z0-9]+)_.+", package):
        allowed.add(f"lash_{match[1]}_kit")
    return frozenset(allowed)


def violations(module: str, source: str, *, is_test: bool = False) -> list[str]:
    """What `source` imports though its place forbids it. `module` is its dotted name; of a test, its package's."""
    package = module.partition(".")[0]
    allowed = allowed_packages(package)
    contract = package == "lash_hookspecs" and not within(module, "lash_hookspecs.testing") and not is_test
    found = []
    for line, name in imports(source):
        top = name.partition(".")[0]
        if name.startswith("."):
            found.append(f"{module}:{line}: `{name}` is relative: write it in full")
        elif top.startswith("lash_") and top not in allowed:
            if is_test and package != "lash_hookspecs" and top == "lash_framework":
                # Its public face and its kits for tests, none of its insides. Of `from lash_framework import Lash` the
                # second name is `lash_framework.Lash`: a class is no module.
                parts = name.split(".")
                if len(parts) == 1 or (len(parts) == 2 and not parts[1].islower()):
                    continue
                if parts[1] == "testing" and len(parts) <= 3:
                    continue
            found.append(f"{module}:{line}: {package} must not import `{name}`")
        elif within(module, "lash_framework.machine") and top in IMPURE:
            found.append(f"{module}:{line}: the turn machine must not import `{name}`")
        elif contract and (within(name, "lash_hookspecs.testing") or top == "hypothesis"):
            found.append(f"{module}:{line}: the contract must not import `{name}`, which is for test suites")
    return found


def distributions() -> list[Path]:
    folders = [ROOT, ROOT / "hookspecs", *ROOT.glob("plugins/lash-*"), *ROOT.glob("docs/examples/lash-*")]
    return sorted(folder for folder in folders if (folder / "pyproject.toml").exists())


def package_of(folder: Path) -> Path:
    (package,) = (path for path in folder.glob("lash_*") if path.is_dir())
    return package


def modules_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """Dotted name and file of each module in a distribution's package."""
    package = package_of(folder)
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def declared(folder: Path) -> set[str]:
    """The normalised names of what a distribution's metadata lets its modules rely on, extras included."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    requirements = [*project["dependencies"], *(requirement for extra in extras for requirement in extra)]
    names = (re.match(r"[A-Za-z0-9._-]+", requirement)[0] for requirement in requirements)
    return {normalised(name) for name in [project["name"], *names]}


def normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


by_name = pytest.mark.parametrize("folder", distributions(), ids=lambda folder: folder.relative_to(ROOT).as_posix())


@by_name
def test_a_package_imports_only_what_its_layer_may(folder: Path) -> None:
    found = [
        violation
        for module, path in modules_of(folder)
        for violation in violations(module, path.read_text(encoding="utf-8"))
    ]
    assert found == []


@by_name
def test_the_tests_of_a_package_stay_in_its_layer(folder: Path) -> None:
    """Those at the root are about how packages work together: they may import all."""
    package = package_of(folder).name
    tests = [] if folder == ROOT else sorted(folder.glob("tests/**/*.py"))
    found = [
        violation for path in tests for violation in violations(package, path.read_text(encoding="utf-8"), is_test=True)
    ]
    assert found == []


@by_name
def test_a_package_declares_what_it_imports(folder: Path) -> None:
    """A dependency that somebody else happens to install is a plugin that breaks at a user's."""
    providers = packages_distributions()
    names = declared(folder)
    missing = []
    for module, path in modules_of(folder):
        for line, name in imports(path.read_text(encoding="utf-8")):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names or not top:
                continue
            owners = {normalised(owner) for owner in providers.get(top, [top])}
            if not owners & names:
                missing.append(f"{module}:{line}: `{top}` is of {', '.join(sorted(owners))}, which is not declared")
    assert missing == []


def test_the_kernel_has_time_and_chance_from_its_world_alone() -> None:
    found = [
        f"{module}:{line}: `{name}`: take it from `lash.world`"
        for module, path in modules_of(ROOT)
        if not any(within(module, each) for each in WORLDLY)
        for line, name in imports(path.read_text(encoding="utf-8"))
        if name.partition(".")[0] in CHANCE and name not in MEASURED.get(module, ())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("lash_hookspecs.turn_steps", "import lash_framework"),
        ("lash_hookspecs.turn_steps", "from lash_framework.machine import Machine"),
        ("lash_hookspecs.turn_steps", "from lash_plugin_store_sql.plugin import lash_stores"),
        ("lash_hookspecs.turn_steps", "def f():\n    import lash_provider_kit"),
        ("lash_hookspecs.turn_steps", "from lash_hookspecs import testing"),
        ("lash_hookspecs.turn_steps", "from hypothesis import given"),
        ("lash_framework.runtime", "import lash_plugin_store_sql.plugin as store"),
        ("lash_framework.runtime", "from lash_provider_kit import Client"),
        ("lash_framework.machine", "import anyio"),
        ("lash_framework.machine.table", "from time import monotonic"),
        ("lash_framework.machine.table", "if True:\n    import os.path"),
        ("lash_framework.machine.table", "from datetime import datetime"),
        ("lash_provider_kit.client", "import lash_framework"),
        ("lash_provider_kit.client", "import lash_plugin_provider_openai"),
        ("lash_plugin_store_sql.plugin", "import lash_framework.testing"),
        ("lash_plugin_store_sql.plugin", "import lash_provider_kit"),
        ("lash_plugin_store_sql.plugin", "import typing\nif typing.TYPE_CHECKING:\n    import lash_framework"),
        ("lash_plugin_store_sql.plugin", "from . import schema"),
        ("lash_plugin_provider_openai.plugin", "from lash_plugin_provider_scripted import plugin"),
    ],
)  # fmt: skip
def test_the_checker_finds_what_is_wrong(module: str, source: str) -> None:
    assert violations(module, source)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("lash_plugin_store_sql", "import lash_framework.store"),
        ("lash_plugin_store_sql", "from lash_framework import store"),
        ("lash_plugin_store_sql", "from lash_framework.testing.crash_points import Watch"),
        ("lash_plugin_store_sql", "from lash_framework.machine import Machine"),
        ("lash_plugin_store_sql", "import lash_plugin_mode_standard"),
        ("lash_hookspecs", "from lash_framework import Lash"),
    ],
)
def test_the_checker_finds_what_is_wrong_in_tests(package: str, source: str) -> None:
    assert violations(package, source, is_test=True)


@pytest.mark.parametrize(
    ("module", "source", "is_test"),
    [
        ("lash_hookspecs.testing.store", "from hypothesis import given", False),
        ("lash_hookspecs.testing.store", "from lash_hookspecs.testing import scripted", False),
        ("lash_framework.runtime", "import anyio, time\nfrom lash_hookspecs import hookimpl", False),
        ("lash_framework.machine.table", "from lash_framework.machine.values import State", False),
        ("lash_plugin_provider_openai.plugin", "from lash_provider_kit import Client", False),
        ("lash_plugin_provider_scripted.plugin", "from lash_hookspecs.testing.scripted import Scripted", False),
        ("lash_plugin_store_sql", "from lash_framework import Lash", True),
        ("lash_plugin_store_sql", "from lash_framework.testing import crash_at_every_effect", True),
        ("lash_plugin_store_sql", "from lash_hookspecs.testing.store import CHECKS", True),
    ],
)
def test_the_checker_lets_pass_what_is_right(module: str, source: str, is_test: bool) -> None:
    assert violations(module, source, is_test=is_test) == []
