"""The five tools. Their names and arguments are those that models know from elsewhere."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Annotated, Any, Literal

import anyio.from_thread
import anyio.to_thread

from lash_hookspecs.constraints import Ge, Le, MinLen
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.programs import own_environment
from lash_hookspecs.toolkit import FunctionTool
from lash_hookspecs.tools import Tool, ToolError
from lash_plugin_tools_files.beneath import checked_file, opened
from lash_plugin_tools_files.edits import edited
from lash_plugin_tools_files.globs import matcher
from lash_plugin_tools_files.numbering import numbered
from lash_plugin_tools_files.options import FilesOptions
from lash_plugin_tools_files.passed import Passed
from lash_plugin_tools_files.patterns import LinePattern
from lash_plugin_tools_files.previews import changed
from lash_plugin_tools_files.reading import blocks, read_all
from lash_plugin_tools_files.refusals import refused, too_large
from lash_plugin_tools_files.roots import Place, Roots, plain_name
from lash_plugin_tools_files.searching import Search, search
from lash_plugin_tools_files.texts import BOM, binary, decoded, is_binary
from lash_plugin_tools_files.walking import Ignores, walk
from lash_plugin_tools_files.watch import Watch
from lash_plugin_tools_files.writing import replace

__all__ = ["Files", "files_tools"]

_READ_AT_ONCE = 256 * 1024
Path = Annotated[str, MinLen(1)]


def files_tools(options: FilesOptions) -> Sequence[Tool]:
    """The tools for these options. Raises `ConfigurationError` for roots that aren't there."""
    if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
        raise ConfigurationError(
            "plugin `tools-files` opens files relative to folders, which this system can't do: take it out of the mode"
        )
    files = Files(options)
    reading: list[Callable[..., Any]] = [files.read_file, files.glob, files.grep]
    made: list[Tool] = [FunctionTool(each, effect="pure") for each in reading]
    if not options.read_only:
        made.append(FunctionTool(files.write_file, effect="idempotent", preview=files.preview_write))
        made.append(FunctionTool(files.edit_file, effect="unsafe", preview=files.preview_edit))
    return made


def _wanted() -> None:
    """Raises where the call was cancelled, if anybody can know that."""
    try:
        anyio.from_thread.check_cancelled()
    except RuntimeError:  # not called by a tool's thread
        return


class Files:
    """The functions behind the tools; each can be called as it is."""

    def __init__(self, options: FilesOptions) -> None:
        self._options = options
        self._roots = Roots(options.roots)
        self._protected = frozenset(map(plain_name, options.protected))
        self._environment = [_plain(each.split("/")) for each in own_environment()]
        # Two edits of one file, made by calls of one answer, must not read the same text and lose one another.
        self._editing = threading.Lock()

    # ---- reading ----------------------------------------------------------------------------------------------------

    async def read_file(
        self, path: Path, offset: Annotated[int, Ge(1)] = 1, limit: Annotated[int, Ge(1), Le(100_000)] = 2000
    ) -> str:
        """Read a text file.

        Each line comes behind its number and a tab, which are no part of the file. A long file comes in pieces: the
        last line says where to go on.

        Args:
            path: The file; relative paths start at the project's folder.
            offset: The first line, from 1.
            limit: How many lines.
        """
        place = self._roots.place(path)
        # A small one takes less time than a thread takes to begin.
        said = None if self._options.threads else self._read(place, offset, limit, _READ_AT_ONCE)
        if said is None:
            said = await anyio.to_thread.run_sync(self._read, place, offset, limit)
        assert said is not None  # there was no size to give up at
        return said

    def _read(self, place: Place, offset: int, limit: int, at_most: float = math.inf) -> str | None:
        """None if the file has more bytes than `at_most`."""
        options = self._options
        with opened(place) as fd:
            found = checked_file(place, fd, hard_links=options.hard_links)
            if found.st_size > options.max_file_bytes:
                raise self._too_large(place, found.st_size)
            if found.st_size > at_most:
                return None
            pieces = blocks(fd, found.st_size, options.max_file_bytes)
            first = next(pieces, b"")
            if is_binary(first):
                raise binary(place.shown, first, found.st_size)
            most = options.max_output_bytes, options.max_line_chars
            return numbered(place.shown, chain([first], pieces), offset, limit, *most)

    def glob(self, pattern: Path, path: str = ".", limit: Annotated[int, Ge(1), Le(10_000)] = 500) -> str:
        """Find files by their names: one path a line, in order.

        Ignored files and folders (`.gitignore`, `node_modules`, …) and links are passed over; the last line says how
        many.

        Args:
            pattern: Such as `**/*.py`, `src/*.{ts,tsx}` or `test_*`. Without a `/` it is for names in any folder.
            path: The folder to look in.
            limit: How many paths at most.
        """
        fits, place = matcher(pattern), self._roots.place(path)
        most = min(limit, self._options.max_results)
        found: list[str] = []
        left = self._options.max_output_bytes
        passed = Passed()
        for names in walk(place, Ignores(place, self._options), self._watch(), passed):
            if fits("/".join(names)):
                shown = place.child(*names).shown
                left -= len(shown.encode()) + 1
                if len(found) == most or left < 0:
                    return "\n".join([*found, f"(more than {len(found)}; narrow the pattern)"])
                found.append(shown)
        return passed.behind(found, "no files")

    def grep(
        self,
        pattern: Path,
        path: str = ".",
        glob: str | None = None,
        output: Literal["lines", "files", "count"] = "lines",
        ignore_case: bool = False,
        literal: bool = False,
        context: Annotated[int, Ge(0), Le(20)] = 0,
        limit: Annotated[int, Ge(1), Le(10_000)] = 100,
    ) -> str:
        r"""Search in files, line by line, for a regular expression.

        Matches are shown as `path:line:text`. Ignored files and folders (`.gitignore`, `node_modules`, …), links, and
        binary and very large files are passed over; the last line says how many.

        Args:
            pattern: A regular expression as in Python, such as `def \w+_test\(`.
            path: The folder, or the one file, to search in.
            glob: Only files whose paths fit, such as `*.py` or `src/**/*.ts`.
            output: The matching `lines`, only the `files` that have some, or how many lines match in each (`count`).
            ignore_case: Whether upper and lower case are the same.
            literal: Take the pattern as plain text.
            context: How many lines to show before and after each match.
            limit: How many matches (or files) at most.
        """
        asked = Search(
            pattern=LinePattern(pattern, ignore_case=ignore_case, literal=literal),
            glob=glob,
            output=output,
            context=context,
            limit=min(limit, self._options.max_results),
        )
        return search(self._roots.place(path), asked, self._options, self._watch())

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write_file(self, path: Path, content: str) -> str:
        """Write a whole text file: make it, with the folders above it, or replace all that is in it.

        To change a part of a file, use `edit_file`.

        Args:
            path: The file; relative paths start at the project's folder.
            content: All of its text.
        """
        place, data = self._writable(path), content.encode()
        self._fits(place, len(data))
        there = replace(place, data)
        return f"{'replaced' if there else 'made'} {place.shown} ({len(data):,} bytes)"

    def edit_file(self, path: Path, old_string: str, new_string: str, replace_all: bool = False) -> str:
        """Replace a piece of a text file.

        `old_string` must be in the file exactly once, unless `replace_all` is set: copy it from `read_file` without
        line numbers and tabs, with its indentation, and with as many lines around it as make it unique.

        Args:
            path: The file.
            old_string: What is there now.
            new_string: What is to be there instead; empty to delete it.
            replace_all: Replace every occurrence.
        """
        place = self._writable(path)
        with self._editing:
            with opened(place) as fd:
                found = checked_file(place, fd, hard_links=self._options.hard_links)
                if found.st_size > self._options.max_file_bytes:
                    raise self._too_large(place, found.st_size)
                text = decoded(place.shown, read_all(fd, found.st_size, self._options.max_file_bytes))
            bom = BOM if text.startswith(BOM) else ""
            bare, most = text.removeprefix(BOM), self._options.max_file_bytes
            made = edited(place.shown, bare, old_string, new_string, replace_all=replace_all, most=most)
            data = (bom + made.text).encode()
            self._fits(place, len(data))
            replace(place, data, unless=lambda now: _state(now) != _state(found))
        lines = ", ".join(map(str, made.lines)) + (", …" if made.times > len(made.lines) else "")
        s = "s" if made.times > 1 else ""
        return f"edited {place.shown}: {made.times} replacement{s}, in line{s} {lines}"

    def _watch(self) -> Watch:
        return Watch(self._options.search_limit_s, _wanted)

    def preview_write(self, path: str, content: str) -> str:
        """What `write_file` would change."""
        try:
            place = self._writable(path)
            try:
                before = self._text(place)
            except ToolError as error:
                if error.code != "not_found":
                    raise
                before = None
        except ToolError as error:
            return f"fail, as things are: {error}"
        return changed(place.shown, before, content)

    def preview_edit(self, path: str, old_string: str, new_string: str, replace_all: bool = False) -> str:
        """What `edit_file` would change."""
        try:
            place = self._writable(path)
            before = self._text(place)
            most = self._options.max_file_bytes
            made = edited(place.shown, before, old_string, new_string, replace_all=replace_all, most=most)
        except ToolError as error:
            return f"fail, as things are: {error}"
        return changed(place.shown, before, made.text)

    def _text(self, place: Place) -> str:
        """All of a file, without its byte order mark."""
        with opened(place) as fd:
            found = checked_file(place, fd, hard_links=self._options.hard_links)
            if found.st_size > self._options.max_file_bytes:
                raise self._too_large(place, found.st_size)
            return decoded(place.shown, read_all(fd, found.st_size, self._options.max_file_bytes)).removeprefix(BOM)

    def _writable(self, path: str) -> Place:
        place = self._roots.place(path)
        for name in place.parts:
            if plain_name(name) in self._protected:
                raise refused(
                    "protected",
                    f"`{place.shown}` is not written: `{name}` is protected (`plugin.tools-files.protected`)",
                )
        root, names = _plain(place.root.real), _plain((*place.root.real, *place.parts))
        if any(root == each[: len(root)] != each == names[: len(each)] for each in self._environment):
            raise refused("protected", f"`{place.shown}` is not written: it is of the Python that lash runs with")
        return place

    def _fits(self, place: Place, size: int) -> None:
        if size > self._options.max_file_bytes:
            raise self._too_large(place, size)

    def _too_large(self, place: Place, size: int) -> ToolError:
        most = f"{self._options.max_file_bytes:,} (`plugin.tools-files.max_file_bytes`)"
        return too_large(f"`{place.shown}` has {size:,} bytes, and may have {most}")


def _plain(names: Sequence[str]) -> list[str]:
    return [plain_name(each) for each in names if each]


def _state(found: os.stat_result | None) -> tuple[int, ...] | None:
    """What differs once somebody has changed a file."""
    return None if found is None else (found.st_ino, found.st_dev, found.st_size, found.st_mtime_ns)
