"""What this process runs by itself, and a model must not write: for plugins that let a model write files.

A project often has a Python environment in it, and lash in that. What is changed there runs outside of any sandbox, and
unasked, as soon as something is started or imported from it; and so does a program that is looked for in the `PATH`.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

__all__ = ["find_program", "is_below", "own_environment"]

_PACKAGES = ("site-packages", "dist-packages")


def own_environment() -> tuple[str, ...]:
    """The folders of the Python that this process runs, of its virtual environment and packages, without links.

    Code that is imported from elsewhere, such as a project that was installed to be edited, isn't among them.
    """
    packages = (each for each in sys.path if os.path.basename(each) in _PACKAGES)  # noqa: PTH119  # texts
    found = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, *packages)
    return tuple(dict.fromkeys(map(os.path.realpath, found)))


def find_program(name: str, written: Sequence[str]) -> str | None:
    """Where a program is that isn't below one of these folders, which a model may write, except in `own_environment`.

    The folders are without links. Of the `PATH` the first fitting folder counts.
    """
    path = None if os.path.dirname(name) else os.environ.get("PATH", os.defpath)  # noqa: PTH120  # texts
    for each in (None,) if path is None else path.split(os.pathsep):
        found = shutil.which(name, path=each)
        if found is not None and not any(_is_written(at, written) for at in _ways(found)):
            return found
    return None


def is_below(path: str, folder: str) -> bool:
    """Whether a path is another one, or within it. Both are absolute, and without links."""
    return f"{path.rstrip(os.sep)}{os.sep}".startswith(f"{folder.rstrip(os.sep)}{os.sep}")


def _ways(program: str) -> tuple[str, str]:
    """Where it is, and where a link leads that it is: who writes at either chooses what is run."""
    folder, name = os.path.split(os.path.abspath(program))  # noqa: PTH100  # texts
    return os.path.join(os.path.realpath(folder), name), os.path.realpath(program)  # noqa: PTH118


def _is_written(path: str, written: Sequence[str]) -> bool:
    for folder in written:
        if is_below(path, folder):
            held = (each for each in own_environment() if is_below(each, folder) and each != folder)
            return not any(is_below(path, each) for each in held)
    return False
