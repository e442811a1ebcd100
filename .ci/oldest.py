"""Fail if a library here isn't the lowest version that the packages of this repository promise.

uv takes the lowest version of each dependency that the others allow: where another one asks for more, a promise is
never tried, and has to be raised to what was.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = [ROOT, ROOT / "hookspecs", *sorted(ROOT.glob("plugins/lash-*")), *sorted(ROOT.glob("docs/examples/lash-*"))]


def promises() -> Iterator[tuple[str, Requirement]]:
    """Each package of ours with what it requires of others, extras included."""
    for folder in PACKAGES:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        extras = project.get("optional-dependencies", {}).values()
        for line in [*project.get("dependencies", ()), *(line for extra in extras for line in extra)]:
            if not line.startswith("lash-"):
                yield project["name"], Requirement(line)


def lowest(requirement: Requirement) -> Version | None:
    return next((Version(each.version) for each in requirement.specifier if each.operator == ">="), None)


def main() -> int:
    broken = [
        f"{package} promises {requirement}, but {found} is what is tried"
        for package, requirement in promises()
        if lowest(requirement) != Version(found := version(requirement.name))
    ]
    print("\n".join(broken) or f"the lowest versions of {len({each.name for _, each in promises()})} libraries")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
