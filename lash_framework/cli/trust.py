"""`lash trust`: let a `lash.toml` that was found do what it says; and the question at a terminal about one."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lash_framework.cli.asking import forget_what_was_typed
from lash_framework.cli.exits import ExitCode
from lash_framework.cli.lines import shortened
from lash_framework.cli.options import Invocation, common
from lash_framework.cli.people import require_person
from lash_framework.cli.questions import visible, wrapped
from lash_framework.cli.tables import print_table

if TYPE_CHECKING:
    from lash_framework.settings import Settings
    from lash_framework.settings.reaches import Reach
    from lash_framework.settings.trust import UntrustedSettings

__all__ = ["agreed", "settled", "trust"]

LARGEST_SHOWN = 20_000
"""Bytes: nobody reads more of it."""


@click.command(short_help="Let a lash.toml that was found do what it says.")
@click.argument("path", required=False)
@click.option("--list", "lists", is_flag=True, help="Which files are trusted, and what of them has changed.")
@click.option("--revoke", is_flag=True, help="Trust the file no more.")
@common
def trust(_: Invocation, path: str | None, lists: bool, revoke: bool) -> int:
    """Let a lash.toml start programs, lift questions and redirect requests, as it says.

    PATH is the file or its folder; without it, it is the nearest lash.toml, here or above. What is trusted are the
    settings that are printed, at this place: a change of one of them is asked about anew, all else in the file may
    change. At a terminal, commands that do more than look ask. Where LASH_TRUSTED names folders, a file outside
    of them is refused by whatever reads it. A file that is named (--config, LASH_CONFIG) needs no trust.
    """
    if lists and (revoke or path is not None):
        raise click.UsageError("--list takes nothing else")
    if lists:
        return _list()
    from lash_framework.settings import trust as trusting

    file, shown = _file(path, missing_ok=revoke)
    if revoke:
        was = trusting.revoke(file)
        click.echo(f"{visible(shown)}: {'trusted no more' if was else 'it was not trusted'}")
        return ExitCode.FINISHED
    require_person("trust a settings file")
    reaches = trusting.untrusted_in(file, shown)
    if not reaches:
        click.echo(f"{visible(shown)}: it says nothing that has to be trusted, or is trusted with it already")
        return ExitCode.FINISHED
    click.echo("\n".join(_rows(reaches)))
    trusting.trust(file, reaches)
    click.echo(f"{visible(shown)}: trusted; `lash trust --revoke {shlex.quote(shown)}` takes it back")
    return ExitCode.FINISHED


def settled(load: Callable[[], Settings]) -> Settings:
    """The settings that `load` makes of a file that is doubted, once somebody trusts what it refuses.

    They are loaded again after each answer, and held against what was shown: the file may be another one by then.
    """
    from lash_framework.settings.trust import UntrustedSettings

    seen: set[str] = set()
    while True:
        try:
            return load()
        except UntrustedSettings as error:
            said = {each.digest for each in error.reaches}
            if said <= seen or not agreed(error):  # what was agreed to and is refused again can't be kept
                raise
            seen |= said


def agreed(error: UntrustedSettings) -> bool:
    """Whether somebody at the terminal trusts the file, now that they see what it decides; it is written down."""
    from lash_framework.settings.trust import trust as trust_file

    rows = _rows(error.reaches)
    click.echo(visible(f"{error.shown} was found here, and isn't trusted. It says:"), err=True)
    click.echo("\n".join(rows), err=True)
    forget_what_was_typed()
    click.echo("Do you trust it with that? [y/N] ", nl=False, err=True)
    # Past `sys.stdin`, which a chat sets up anew, as it may only be before the first read.
    if os.read(sys.stdin.fileno(), 65_536).strip().lower() not in (b"y", b"yes"):
        return False
    trust_file(error.file, error.reaches)
    return True


def _rows(reaches: Sequence[Reach]) -> list[str]:
    """Each setting by its line, whole, member by member, and what hangs on it. Raises `ConfigurationError`.

    What goes on in the next row stands behind a mark, so nothing in a value looks like what lash says.
    """
    from lash_hookspecs.errors import ConfigurationError

    sizes = [sum(len(f"{name}{value}".encode()) for name, value in each.members) for each in reaches]
    if (size := sum(sizes)) > LARGEST_SHOWN:
        longest = reaches[sizes.index(max(sizes))]
        raise ConfigurationError(
            f"`{visible(shortened(longest.key, 80))}` (line {longest.line}): {size:,} bytes are too much to be shown "
            f"({LARGEST_SHOWN:,} at most), and what isn't shown can't be trusted: read the file, and name it with "
            "`--config` or LASH_CONFIG"
        )
    width = max(40, shutil.get_terminal_size().columns)
    rows: list[str] = []
    for each in reaches:
        begin = f"  line {each.line}: " if each.line else "  "
        for name, value in each.members:
            rows += wrapped(f"{name} = {value}", width, begin, "      │ ")
            begin = " " * len(begin)
        rows += wrapped(f"decides {each.decides}", width, "      ", "        ", by_words=True)
    return rows


def _list() -> int:
    from lash_framework.settings.trust import trusted_files

    rows = [(each, _state(each)) for each in trusted_files()]
    print_table(("file", "state"), rows, empty="no file is trusted")
    return ExitCode.FINISHED


def _state(file: Path) -> str:
    from lash_framework.settings.trust import untrusted_in
    from lash_hookspecs.errors import ConfigurationError

    if not file.exists():
        return "gone"
    try:
        new = untrusted_in(file, str(file))
    except ConfigurationError as error:
        return str(error)
    return f"not trusted with: {', '.join(each.key for each in new)}" if new else "trusted"


def _file(path: str | None, *, missing_ok: bool) -> tuple[Path, str]:
    from lash_framework.settings.sources import FILE_NAME, display_path, find_file
    from lash_hookspecs.errors import ConfigurationError

    here = Path.cwd()
    if path is None:
        file = find_file(here)
        if file is None:
            raise ConfigurationError(f"there is no {FILE_NAME} here or above: name a file")
    else:
        file = here / Path(path).expanduser()
        file = file / FILE_NAME if file.is_dir() else file
    if not missing_ok and not file.is_file():
        raise ConfigurationError(f"there is no file `{file}`")
    return file, display_path(file, here)
