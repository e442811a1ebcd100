"""What a user may set in `[plugin.tools-files]`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from attrs import field

from lash_hookspecs.option_checks import above
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = ["FilesOptions"]

_WHERE = "plugin.tools-files"


def _names(instance: object, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    for each in value:
        if not each or "/" in each or "\0" in each:
            raise ValueError(
                f"`{_WHERE}.{attribute.name}`: {each!r} is no name of a file or folder; give names without `/`"
            )


def _patterns(instance: object, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    _names(instance, attribute, value)
    from lash_plugin_tools_files.names import of_names

    for each in value:
        try:
            of_names([[each]])
        except re.error as error:
            raise ValueError(f"`{_WHERE}.{attribute.name}`: {each!r} is no pattern of names: {error}") from None


def _folders(instance: object, attribute: Attribute[Any], value: tuple[str, ...]) -> None:
    if not value or not all(value) or any("\0" in each for each in value):
        raise ValueError(f'`{_WHERE}.roots` is {list(value)!r}; name at least one folder, such as ["."]')


@frozen(kw_only=True)
class FilesOptions:
    """The folders, and the limits of one call.

    `roots`: folders whose files may be used, relative ones to the directory that lash is started in; the first is what
    the model's relative paths start at. `read_only`: without `write_file` and `edit_file`. `protected`: names that are
    never written, nor anything below them. `skip`: names, also with `*`, `?` and `[…]`, that `glob` and `grep` pass
    over; who names one gets it. `gitignore`: whether these also pass over what `.gitignore` files of the roots say.
    `hard_links`: whether files with a second name, which may be outside of the roots, may be read. `ripgrep`: the
    program that `grep` uses if it is there; "" for none. `threads`: read small files in a thread, too, as is right
    where a disk may hang. Sizes are in bytes, `search_limit_s` is in seconds.
    """

    roots: tuple[str, ...] = field(default=(".",), validator=_folders)
    read_only: bool = False
    # What programs read by themselves, and do as it says. The shell's sandbox holds the same, as a test sees to, and
    # `HEAD` in a root, a name that isn't told from `head` here.
    protected: tuple[str, ...] = field(
        default=(".git", ".hg", ".svn", ".lash", "lash.toml", "lash.lock", ".envrc", ".vscode", ".idea"),
        validator=_names,
    )
    skip: tuple[str, ...] = field(
        default=(".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", ".tox", ".mypy_cache", ".ruff_cache"),
        validator=_patterns,
    )
    gitignore: bool = True
    hard_links: bool = False
    ripgrep: str = "rg"
    threads: bool = False
    max_file_bytes: int = field(default=10 * 1024 * 1024, validator=above(0))
    max_output_bytes: int = field(default=256 * 1024, validator=above(0))
    max_line_chars: int = field(default=2000, validator=above(0))
    max_results: int = field(default=500, validator=above(0))
    search_limit_s: float = field(default=20.0, validator=above(0))
