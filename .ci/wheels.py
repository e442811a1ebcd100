"""Build every distribution as a user would get it, install the wheels, and run the discovery tests on them.

Source archive first, wheel from that archive: a file which the archive forgot is then missing here and not at a
user's. The tests are copied out of the checkout and run there, after a proof that each package is imported from the
fresh environment.

Usage: wheels.py [PYTEST ARGUMENT ...]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

from uv import find_uv_bin

ROOT = Path(__file__).resolve().parent.parent
DISTRIBUTIONS = [
    ROOT / "hookspecs",
    ROOT,
    *sorted(ROOT.glob("plugins/lash-*")),
    *sorted(ROOT.glob("docs/examples/lash-plugin-*")),
]
# Run outside the checkout as they stand; they import nothing from tests/.
TESTS = ["test_discovery.py"]

UV = find_uv_bin()
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, env=ENVIRONMENT, check=True)


def build(into: Path) -> list[Path]:
    """The wheels of all distributions, each made from its source archive."""

    def build_one(number: int, folder: Path) -> None:
        run(UV, "build", "-q", "--no-build-isolation", "--python", sys.executable, "-o", into / str(number), cwd=folder)

    with ThreadPoolExecutor((os.cpu_count() or 1) + 1) as pool:
        list(pool.map(build_one, range(len(DISTRIBUTIONS)), DISTRIBUTIONS))
    return sorted(into.glob("*/*.whl"))


def without_license(wheels: list[Path]) -> list[str]:
    """The names of wheels that came without the text of their license."""

    def has_it(wheel: Path) -> bool:
        return any(name.endswith(".dist-info/licenses/LICENSE") for name in ZipFile(wheel).namelist())

    return [wheel.name for wheel in wheels if not has_it(wheel)]


def check_origins(python: Path, cwd: Path) -> None:
    """Fail if a package is imported from anywhere but the fresh environment, or came without its `py.typed`."""
    names = [path.name for folder in DISTRIBUTIONS for path in folder.glob("lash_*") if path.is_dir()]
    code = (
        "import importlib, pathlib, sys\n"
        "home = pathlib.Path(sys.prefix).resolve()\n"
        "for name in sys.argv[1:]:\n"
        "    origin = pathlib.Path(importlib.import_module(name).__file__).resolve()\n"
        "    assert home in origin.parents, f'{name} comes from {origin}'\n"
        "    assert (origin.parent / 'py.typed').exists(), f'{name} was built without py.typed'\n"
    )
    run(python, "-P", "-c", code, *names, cwd=cwd)


def check(scratch: Path, arguments: list[str]) -> int:
    wheels = build(scratch / "built")
    if len(wheels) != len(DISTRIBUTIONS):
        print(f"{len(DISTRIBUTIONS)} distributions, but {len(wheels)} wheels: {[wheel.name for wheel in wheels]}")
        return 1
    if bare := without_license(wheels):
        print(f"without LICENSE: {', '.join(bare)}")
        return 1

    environment = scratch / "environment"
    run(UV, "venv", "-q", "--seed", "--python", sys.executable, environment, cwd=scratch)
    python = Path(sysconfig.get_path("scripts", "venv", {"base": str(environment)}), "python")
    # The kernel with everything it promises under `standard`: the extra must be satisfied by what is in the wheels.
    targets = [f"{wheel}[standard]" if wheel.name.startswith("lash_framework-") else wheel for wheel in wheels]
    tools = ROOT / "tests" / "requirements.txt"
    run(UV, "pip", "install", "-q", "--python", python, *targets, "-r", tools, cwd=scratch)

    outside = scratch / "outside"
    outside.mkdir()
    check_origins(python, outside)
    shutil.copy(ROOT / "pyproject.toml", outside)  # only for its pytest settings
    for name in TESTS:
        shutil.copy(ROOT / "tests" / name, outside)
    run(python, "-P", "-m", "pytest", *arguments, *TESTS, cwd=outside)
    return 0


if __name__ == "__main__":
    try:
        # Not below the checkout, so that no parent folder of the tests holds any of its files.
        with TemporaryDirectory(prefix="lash-wheels-") as scratch:
            sys.exit(check(Path(scratch).resolve(), sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode or 1)
