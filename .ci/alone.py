"""Run each plugin's tests in an environment of its own, with no sibling plugin but those that it depends on.

The environment that runs this holds what all plugins may rely on: the contract, the kernel, the kits, the test
tools. Each plugin gets a bare venv beside it, which sees that shared environment through one `.pth` line, so that pip
has only the plugin and the dependencies that it alone declares to install. Several run at once.

Usage: alone.py SCRATCH_FOLDER [PLUGIN ...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
PLUGINS = sorted([*ROOT.glob("plugins/lash-plugin-*"), *ROOT.glob("docs/examples/lash-plugin-*")])
# What is costly, runs on trio or is a kit's comes out the same beside siblings, where it has run already.
WANTED = ["-m", "not soak and not costly", "-k", "not trio and not conformance"]
SHARED = ["./hookspecs", ".[cli]", *sorted(f"./{kit.relative_to(ROOT)}" for kit in ROOT.glob("plugins/lash-*-kit"))]

# What changes how Python looks for modules is left out; where bytecode is kept is the same for all of tox's runs.
ENVIRONMENT = {
    name: value for name, value in os.environ.items() if not name.startswith("PYTHON") or name == "PYTHONPYCACHEPREFIX"
}


def pip_install(python: str, *arguments: str) -> None:
    """Raises `CalledProcessError`, whose `stdout` has what pip said."""
    options = ["-qq", "--disable-pip-version-check", "--no-build-isolation"]
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", python, "install", *options, *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def installed_plugins(python: str) -> set[str]:
    """What `python` would discover, asked from outside the checkout."""
    code = "from importlib.metadata import entry_points as e; print(*{p.dist.name for p in e(group='lash')})"
    done = subprocess.run(
        [python, "-P", "-c", code], cwd="/", env=ENVIRONMENT, check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def with_siblings(plugin: Path) -> dict[str, Path]:
    """The plugin, and the plugins of this checkout that it depends on: a mode depends on what it composes."""
    found, left = {plugin.name: plugin}, [plugin]
    while left:
        declared = tomllib.loads((left.pop() / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        for name in {Requirement(each).name for each in declared.get("dependencies", ())} - found.keys():
            if (sibling := ROOT / "plugins" / name) in PLUGINS:
                found[name] = sibling
                left.append(sibling)
    return found


def make_environment(folder: Path) -> str:
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    scripts = sysconfig.get_path("scripts", "venv", {"base": str(folder)})
    packages = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    # addsitedir, unlike a plain path, also follows the `.pth` files by which the editable packages are found.
    line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    Path(packages, "shared.pth").write_text(line, encoding="utf-8")
    return str(Path(scripts, "python"))


def run(plugin: Path, scratch: Path) -> tuple[str, str | None]:
    """One plugin: what its tests printed, and what is wrong with it, or None."""
    if not (plugin / "tests").is_dir():
        return "", "has no tests"
    python, wanted = make_environment(scratch / plugin.name), with_siblings(plugin)
    try:
        pip_install(python, *(part for path in wanted.values() for part in ("-e", str(path))))
    except subprocess.CalledProcessError as error:
        return error.stdout, "can't be installed"
    if (found := installed_plugins(python)) != wanted.keys():
        return "", f"is not alone: {', '.join(sorted(found)) or 'nothing'} installed"
    # -P: the current directory stays off sys.path, as in a user's environment.
    done = subprocess.run(
        [python, "-P", "-m", "pytest", "-q", *WANTED, str(plugin / "tests")],
        cwd=ROOT,
        env=ENVIRONMENT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.stdout, {0: None, 5: "has no tests"}.get(done.returncode, "fails its tests")


def size(plugin: Path) -> int:
    return sum(path.stat().st_size for path in plugin.glob("tests/*.py"))


def main(arguments: list[str]) -> int:
    scratch, wanted = Path(arguments[0]).resolve(), set(arguments[1:])
    if unknown := wanted - {plugin.name for plugin in PLUGINS}:
        print(f"no such plugin: {', '.join(sorted(unknown))}")
        return 2
    pip_install(sys.executable, *(part for path in SHARED for part in ("-e", path)))
    if found := installed_plugins(sys.executable):
        print(f"the shared environment must hold no plugin, but has: {', '.join(sorted(found))}")
        return 1
    # Those with most tests first, so that none of them is what all wait for at the end.
    chosen = sorted((each for each in PLUGINS if not wanted or each.name in wanted), key=size, reverse=True)
    problems: dict[str, str] = {}
    # Side by side, each in one process: an environment is made by one core, and most have few tests.
    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        for plugin, (printed, problem) in zip(chosen, pool.map(run, chosen, repeat(scratch)), strict=True):
            print(f"--- {plugin.name}\n{printed}", flush=True)
            if problem is not None:
                problems[plugin.name] = problem
    for name, problem in problems.items():
        print(f"{name} {problem}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
