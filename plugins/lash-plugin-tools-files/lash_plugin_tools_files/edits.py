"""Replacing a piece of a text by another, and saying why it can't be done. Pure."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from lash_hookspecs.tools import ToolError
from lash_plugin_tools_files.refusals import invalid, too_large

__all__ = ["Edited", "edited"]

_TOLD, _LISTED = 10, 20
_MOST_LINES = 20_000
_MOST_COMPARED = 1_000_000
"""Pairs of characters, when lines are compared for likeness: about a second, whatever is in them."""
_NUMBERED = re.compile(r"^\s*\d+\t", re.MULTILINE)


class Edited(NamedTuple):
    """The new text, how often something was replaced in it, and the first of the lines in which that is."""

    text: str
    times: int
    lines: tuple[int, ...]


def edited(shown: str, text: str, old: str, new: str, *, replace_all: bool = False, most: float = math.inf) -> Edited:
    """The text with `old` replaced, of at most so many characters. Raises `ToolError`, which says why it isn't.

    A text that would be longer isn't made: no machine has room for a megabyte of which each letter becomes one.
    """
    if not old:
        raise invalid("edit_empty", "`old_string` is empty; to write a whole file, use `write_file`")
    if old == new:
        raise invalid("edit_same", "`old_string` and `new_string` are the same: there is nothing to change")
    if "\r\n" in text and "\r" not in old and (old not in text or text.count("\n") == text.count("\r\n")):
        old, new = old.replace("\n", "\r\n"), new.replace("\r\n", "\n").replace("\n", "\r\n")
    count = text.count(old)
    if not count:
        raise _not_found(shown, text, old)
    if count > 1 and not replace_all:
        told = ", ".join(map(str, _lines(text, old, 0, _TOLD))) + (", …" if count > _TOLD else "")
        raise invalid(
            "edit_ambiguous",
            f"`old_string` is in `{shown}` {count} times, in lines {told}: add lines around the one you mean, "
            "or say `replace_all`",
        )
    size = len(text) + count * (len(new) - len(old))
    if size > most:
        raise too_large(f"`{shown}` would have {size:,} characters, and may have {most:,}")
    return Edited(text.replace(old, new), count, _lines(text, old, new.count("\n") - old.count("\n"), _LISTED))


def _lines(text: str, old: str, more: int, most: int) -> tuple[int, ...]:
    """In which lines it begins, for the first few, where each one replaced brings so many more lines."""
    found, line, at, before = list[int](), 1, text.find(old), 0
    while at >= 0 and len(found) < most:
        line += text.count("\n", before, at)
        found.append(line + more * len(found))
        before, at = at, text.find(old, at + len(old))
    return tuple(found)


# ---- why not --------------------------------------------------------------------------------------------------------


def _not_found(shown: str, text: str, old: str) -> ToolError:
    said = f"`old_string` is not in `{shown}`"
    if _NUMBERED.search(old) and len(_NUMBERED.findall(old)) == old.strip("\n").count("\n") + 1:
        return invalid("edit_not_found", f"{said}: leave out the line numbers and tabs that `read_file` adds")
    near = _nearest(text, old)
    if near is None:
        return invalid("edit_not_found", f"{said}, and neither is anything like it: read the file again")
    start, end, why, there = near
    lines = f"line {start}" if start == end else f"lines {start}–{end}"
    return invalid("edit_not_found", f"{said}. {why} {lines}:\n{there}")


def _nearest(text: str, old: str) -> tuple[int, int, str, str] | None:
    """First and last line of what is most like it, how it differs, and the lines themselves."""
    lines = text.split("\n")[:_MOST_LINES]
    wanted = old.split("\n")
    while len(wanted) > 1 and not wanted[-1].strip():
        wanted.pop()
    while len(wanted) > 1 and not wanted[0].strip():
        wanted.pop(0)
    size = len(wanted)
    bare = ["".join(line.split()) for line in lines]
    asked = ["".join(line.split()) for line in wanted]
    for at in range(len(lines) - size + 1):
        if bare[at : at + size] == asked:
            return at + 1, at + size, "It differs only in its white space from", "\n".join(lines[at : at + size])
    near = _most_like(bare, asked)
    if near is None:
        return None
    end = min(near + size, len(lines))
    return near + 1, end, "The nearest is", "\n".join(line[:400] for line in lines[near:end][:20])


def _most_like(lines: list[str], wanted: list[str]) -> int | None:
    """Where the lines are that share most with those: by the first one that has something in it."""
    from difflib import SequenceMatcher

    anchor = next((index for index, line in enumerate(wanted) if len(line) > 2), None)
    if anchor is None:
        return None
    matcher = SequenceMatcher(autojunk=False)
    matcher.set_seq2(wanted[anchor][:400])
    best, found, compared = 0.6, None, 0
    for at, line in enumerate(lines):
        if len(line) < 3:
            continue
        matcher.set_seq1(line[:400])
        # The first two are upper bounds, and cheap.
        if matcher.real_quick_ratio() > best and matcher.quick_ratio() > best:
            compared += min(len(line), 400) * min(len(wanted[anchor]), 400)
            if compared > _MOST_COMPARED:
                break
            if (ratio := matcher.ratio()) > best:
                best, found = ratio, max(at - anchor, 0)
    return found
