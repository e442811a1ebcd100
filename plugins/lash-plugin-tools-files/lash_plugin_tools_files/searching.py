"""`grep`: which lines of which files have a match, in the order of paths."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice

from lash_hookspecs.tools import ToolError
from lash_hookspecs.values import frozen
from lash_plugin_tools_files.beneath import checked_file, opened
from lash_plugin_tools_files.globs import matcher
from lash_plugin_tools_files.options import FilesOptions
from lash_plugin_tools_files.passed import Passed
from lash_plugin_tools_files.patterns import LinePattern
from lash_plugin_tools_files.reading import read_all
from lash_plugin_tools_files.refusals import too_large
from lash_plugin_tools_files.ripgrep import candidates, program
from lash_plugin_tools_files.roots import Place
from lash_plugin_tools_files.texts import BOM, is_binary, shortened, within
from lash_plugin_tools_files.walking import Ignores, walk
from lash_plugin_tools_files.watch import Watch

__all__ = ["Search", "search"]

FIRST = 100
"""So many files are looked into before ripgrep is asked."""

_LONGEST_SHOWN = 500


@frozen(kw_only=True)
class Search:
    """What is looked for. `output`: `lines`, `files` or `count`; `context`: lines before and after each match."""

    pattern: LinePattern
    glob: str | None = None
    output: str = "lines"
    context: int = 0
    limit: int = 100


def search(start: Place, asked: Search, options: FilesOptions, watch: Watch) -> str:
    """The matches, as text; what was left out is said in its last line. Raises `ToolError`."""
    rows: list[str] = []
    matches, left = 0, options.max_output_bytes
    more, passed = "", Passed()
    for place, data in _texts(start, asked, options, watch, passed):
        text = data.decode(errors="surrogateescape").removeprefix(BOM)
        found = _lines(text, asked.pattern, watch)
        if not found:
            continue
        if matches >= asked.limit:
            more = f"(more than {asked.limit}; narrow the search, or raise `limit`)"
            break
        said, taken, is_cut = _rows(place.shown, text, found, asked, asked.limit - matches)
        matches += taken
        if asked.context and rows and said and asked.output == "lines":
            rows.append("--")
        fitting = within(said, left)
        rows += fitting
        left -= sum(len(row.encode()) + 1 for row in fitting)
        if len(fitting) < len(said):
            more = "(the output ends here, as it is too long; narrow the search)"
            break
        if is_cut:
            more = f"(more than {asked.limit}; narrow the search, or raise `limit`)"
            break
    return "\n".join([*rows, more]) if more else passed.behind(rows, "no matches")


def _texts(
    start: Place, asked: Search, options: FilesOptions, watch: Watch, passed: Passed
) -> Iterator[tuple[Place, bytes]]:
    """The files to look into, and what is in them."""
    needle = asked.pattern.first.needle if asked.pattern.first is not None else None
    for place, is_named in _files(start, asked, options, watch, passed):
        watch.look()
        try:
            with opened(place) as fd:
                found = checked_file(place, fd, hard_links=options.hard_links)
                if found.st_size > options.max_file_bytes:
                    if is_named:
                        raise too_large(
                            f"`{place.shown}` has {found.st_size:,} bytes, and may have {options.max_file_bytes:,} "
                            "(`plugin.tools-files.max_file_bytes`)"
                        )
                    passed.too_large += 1
                    continue
                data = read_all(fd, found.st_size, options.max_file_bytes)
        except ToolError:
            if is_named:
                raise
            passed.unreadable += 1  # it went away, or isn't one to be read
            continue
        if needle is not None and needle not in data:
            continue
        if is_binary(data):
            passed.binary += 1
        else:
            yield place, data


def _files(
    start: Place, asked: Search, options: FilesOptions, watch: Watch, passed: Passed
) -> Iterator[tuple[Place, bool]]:
    """The files that may have a match, and whether the model has named it itself."""
    if start.parts and _is_file(start):
        yield start, True
        return
    fits = matcher(asked.glob) if asked.glob is not None else None
    ignores = Ignores(start, options)
    with closing(walk(start, ignores, watch, passed)) as walked:
        first = list(islice(walked, FIRST))
        for names in first:
            if fits is None or fits("/".join(names)):
                yield start.child(*names), False
        if len(first) < FIRST:
            return  # a small folder, or a search that is soon over, takes no process
        found = _named_by_ripgrep(start, asked, options, ignores, watch)
        passed.is_whole = found is None
        last = first[-1] if first else ()
        for names in walked if found is None else (each for each in found if each > last):
            if fits is None or fits("/".join(names)):
                yield start.child(*names), False


def _named_by_ripgrep(
    start: Place, asked: Search, options: FilesOptions, ignores: Ignores, watch: Watch
) -> Iterable[tuple[str, ...]] | None:
    """The files that may have a match, in order; None if that isn't known."""
    rg, first = program(options), asked.pattern.first
    if rg is None or first is None:
        return None
    found = candidates(rg, start, first.pattern, asked.glob, options, watch)
    if found is None:
        return None
    return (each for each in found if not ignores.within_ignored((*start.parts, *each)))


def _is_file(place: Place) -> bool:
    """Raises `ToolError` if nothing is there."""
    try:
        with opened(place) as fd:
            checked_file(place, fd, hard_links=True)
        return True
    except ToolError as error:
        if error.code == "not_a_file":
            return False
        raise


# ---- lines ----------------------------------------------------------------------------------------------------------


def _lines(text: str, pattern: LinePattern, watch: Watch) -> list[int]:
    """The numbers of the lines that match, from 0."""
    try:
        return [number for number, line in enumerate(split(text)) if pattern.matches(line, watch.left)]
    except TimeoutError:
        raise watch.over from None


def split(text: str) -> list[str]:
    """Its lines, without what ends them."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines] if "\r" in text else lines


def _rows(shown: str, text: str, found: list[int], asked: Search, room: int) -> tuple[list[str], int, bool]:
    """What is said of a file, how many matches that are, and whether there are more of them."""
    if asked.output == "files":
        return [shown], 1, False
    if asked.output == "count":
        return [f"{shown}:{len(found)}"], 1, False
    is_cut, found = len(found) > room, found[:room]
    lines = split(text)
    hits = set(found)
    rows, last = [], -1
    for number in found:
        for at in range(max(number - asked.context, last + 1), min(number + asked.context + 1, len(lines))):
            if asked.context and at > last + 1 and last >= 0:
                rows.append("--")
            mark = ":" if at in hits else "-"
            line = lines[at].encode(errors="replace").decode() if not lines[at].isascii() else lines[at]
            rows.append(f"{shown}{mark}{at + 1}{mark}{shortened(line, _LONGEST_SHOWN)}")
            last = at
    return rows, len(found), is_cut
