"""Asking ripgrep, where it is installed, which files may have a match.

It walks by names, so that somebody who moves folders meanwhile could lead it out of the root. So nothing that it reads
is shown: each file that it names is opened again, name by name, and looked at here.
"""

from __future__ import annotations

import os
import subprocess

from lash_hookspecs.programs import find_program
from lash_plugin_tools_files.options import FilesOptions
from lash_plugin_tools_files.roots import Place
from lash_plugin_tools_files.watch import Watch

__all__ = ["candidates", "program"]

_FLAGS = (
    "--files-with-matches", "--null", "--no-messages", "--no-config", "--hidden", "--text", "--encoding=none",
    "--color=never", "--no-ignore-dot", "--no-ignore-exclude", "--no-ignore-global", "--no-ignore-parent",
    "--no-require-git",
)  # fmt: skip
_SIMPLE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./*")
_LOOK_S = 0.05


def program(options: FilesOptions) -> str | None:
    """Where ripgrep is, if it is to be used and there, and no model could have written it."""
    if not options.ripgrep:
        return None
    try:
        roots = [os.path.realpath(os.path.expanduser(each)) for each in options.roots]  # noqa: PTH111
    except OSError:  # a root is moved just now: where it is, and what is below it, nobody can say
        return None
    return find_program(options.ripgrep, roots)


def candidates(
    rg: str,
    place: Place,
    pattern: str,
    glob: str | None,
    options: FilesOptions,
    watch: Watch,
) -> list[tuple[str, ...]] | None:
    """The files below the place that may have a match, by their names from there on, in order.

    None if ripgrep can't say.
    """
    command = [rg, *_FLAGS, f"--max-filesize={options.max_file_bytes}"]
    if not options.gitignore:
        command.append("--no-ignore")
    if glob is not None and _SIMPLE.issuperset(glob):
        command.append(f"--glob={glob if '/' not in glob else '/' + glob.removeprefix('./')}")
    command += [f"--glob=!**/{each}" for each in options.skip if _SIMPLE.issuperset(each)]
    command += ["--regexp", pattern, "--", "."]
    where = "/" + "/".join((*place.root.real, *place.parts))
    try:
        process = subprocess.Popen(
            command, cwd=where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError:
        return None
    with process:
        try:
            while True:
                try:
                    said, complaints = process.communicate(timeout=_LOOK_S)
                    break
                except subprocess.TimeoutExpired:
                    watch.look()
        except BaseException:
            process.kill()
            raise
    if complaints or process.returncode not in (0, 1, 2):
        return None
    return sorted(tuple(os.fsdecode(each).removeprefix("./").split("/")) for each in said.split(b"\0") if each)
