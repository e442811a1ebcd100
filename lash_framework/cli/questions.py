"""How a call that waits for a person is shown: each argument as it can be read, and none so that it hides another.

What an argument says stands behind a mark in each row, also where the terminal would wrap it, so that nothing in it
looks like what lash says; what can't be seen, or would steer the terminal, is written out. The question comes last,
right before it is answered, whatever was above. Pure.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lash_framework.pending import PendingCall

__all__ = ["MOST_ROWS", "call_rows", "question_rows", "said_rows", "visible", "wrapped"]

MOST_ROWS = 120
"""Of arguments, and of what a tool says: who sees only a part is told so."""

_COMPARED = 500
"""Lines: longer texts are shown one after the other, since to compare them takes too long."""

_NAME = re.compile(r"[\w.-]+")
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # they count as letters, and can't be seen
_MARKS = 3  # on one letter; more of them cover the rows above
_INDENT = "  "


def visible(text: str) -> str:
    """A line with all that can't be seen, or that steers a terminal, written out."""
    if text.isascii() and text.isprintable():
        return text
    made, marks = [], 0
    for each in text:
        marks = marks + 1 if unicodedata.category(each) in ("Mn", "Me") else 0
        if each == "\t":
            made.append("⟨TAB⟩")
        elif each.isprintable() and each not in _BLANK and marks <= _MARKS:
            made.append(each)
        else:
            made.append(f"⟨U+{ord(each):04X}⟩")
    return "".join(made)


def call_rows(call: PendingCall, width: int, *, whole: bool = False) -> list[str]:
    """The tool, and each of its arguments; cut in the middle unless it is to be `whole`."""
    rows = list(wrapped(f"{call.tool_name}", width, "", _INDENT))
    rows += _value_rows("", call.args, width) if call.args else [f"{_INDENT}(no arguments)"]
    return _cut(call, rows, whole)


def said_rows(call: PendingCall, width: int, *, whole: bool = False) -> list[str]:
    """What the tool says of it: what it would do, or, if it put off its end, what it said then."""
    if call.question is None:
        said, head = call.said, f"{call.tool_name} says:"
    else:
        said, head = call.question.preview, f"{call.tool_name} says that it would do this:"
    if said is None:
        return []
    rows = [*wrapped(head, width, "", _INDENT)]
    if isinstance(said, str):
        rows += (row for line in said.split("\n") for row in wrapped(line, width, f"{_INDENT}┊ ", f"{_INDENT}┊ "))
    else:
        rows += _value_rows("said", said, width)
    return _cut(call, rows, whole)


def _cut(call: PendingCall, rows: list[str], whole: bool) -> list[str]:
    """A part of them, unless it is to be the whole."""
    cut = len(rows) - MOST_ROWS
    if whole or cut <= 0:
        return rows
    told = f"… {cut} rows are not shown here: `lash pending show {call.key[:12]}` has all of them …"
    return [*rows[: MOST_ROWS // 2], told, *rows[-(MOST_ROWS // 2) :]]


def question_rows(call: PendingCall, width: int, count: str = "") -> list[str]:
    """Who asks, what, and what may be said."""
    if call.question is None:
        return []
    asked = f"{call.question.plugin_id} asks{count}: {call.question.question}"
    rows = list(wrapped(asked, width, "", _INDENT * 2, by_words=True))
    for no, each in enumerate(call.question.choices, 1):
        rows += wrapped(f"{no}  {each.choice_id}: {each.text}", width, _INDENT, _INDENT * 3, by_words=True)
    return rows


def wrapped(text: str, width: int, first: str, rest: str, *, by_words: bool = False) -> Iterator[str]:
    """Rows that no terminal of this width wraps, `first` before the first of them, `rest` before each other.

    `by_words`: they end at a blank, where there is one, and blanks at their ends are left out.
    """
    begin = first
    for line in map(visible, text.split("\n")):
        at, end = 0, -1
        while end < len(line):
            end = _row_end(line, at, width - _columns(begin))
            if not by_words or end == len(line):
                yield begin + line[at:end]
            else:
                word = line.rfind(" ", at, end + 1) + 1
                end = word if line[at:word].strip() else end  # a word that fills a row is cut
                yield begin + line[at:end].rstrip(" ")
            at, begin = end, rest


def _row_end(line: str, at: int, room: int) -> int:
    """Where a row ends that begins there: at least one character is in it."""
    for end in range(at, len(line)):
        room -= _takes(line[end])
        if room < 0 and end > at:
            return end
    return len(line)


def _columns(text: str) -> int:
    return sum(map(_takes, text))


def _takes(char: str) -> int:
    """So many columns at most."""
    return 2 if unicodedata.east_asian_width(char) in "WFA" else 1


def _value_rows(name: str, value: Any, width: int) -> Iterator[str]:
    """An argument, and what is in it, each by its own name."""
    if isinstance(value, Mapping) and value:
        pairs = dict(_changes(value))
        for key, each in value.items():
            if key in pairs:
                new = pairs[key]
                yield from _change_rows(f"{_within(name, key)} → {_within('', new)}", each, value[new], width)
            elif key not in pairs.values():
                yield from _value_rows(_within(name, key), each, width)
    elif isinstance(value, Sequence) and not isinstance(value, str) and _is_deep(value):
        for at, each in enumerate(value):
            yield from _value_rows(f"{name}.{at}", each, width)
    elif isinstance(value, str) and "\n" in value:
        lines = value.split("\n")
        yield from wrapped(f"{name}: {len(lines)} lines", width, _INDENT, _INDENT * 2)
        for line in lines:
            yield from wrapped(line, width, f"{_INDENT}│ ", f"{_INDENT}│ ")
    else:
        text = json.dumps(value, ensure_ascii=False, default=str)
        yield from wrapped(f"{name}: {text}", width, _INDENT, f"{_INDENT}│ ")


def _within(name: str, key: object) -> str:
    text = str(key)
    shown = text if _NAME.fullmatch(text) else json.dumps(text, ensure_ascii=False)
    return f"{name}.{shown}" if name else shown


def _is_deep(value: Sequence[Any]) -> bool:
    """Whether it is easier to read item by item."""
    return any(isinstance(each, Mapping | list | tuple) or (isinstance(each, str) and "\n" in each) for each in value)


def _changes(args: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Arguments whose names say that one text is put in the place of another, as in `old_string` and `new_string`."""
    for key, value in args.items():
        new = re.sub("^old", "new", key) if isinstance(value, str) else key
        if new != key and isinstance(args.get(new), str):
            yield key, new


def _change_rows(name: str, old: str, new: str, width: int) -> Iterator[str]:
    yield from wrapped(f"{name}:", width, _INDENT, _INDENT * 2)
    for mark, line in _changed(old.split("\n"), new.split("\n")):
        begin = f"{_INDENT}│ {mark} "
        yield from wrapped(line, width, begin, begin)


def _changed(before: list[str], after: list[str]) -> Iterator[tuple[str, str]]:
    """Lines, each with a mark: ` ` stays, `-` goes, `+` comes."""
    if max(len(before), len(after)) > _COMPARED:
        yield from (("-", line) for line in before)
        yield from (("+", line) for line in after)
        return
    for tag, start, end, new_start, new_end in difflib.SequenceMatcher(None, before, after).get_opcodes():
        if tag == "equal":
            yield from ((" ", line) for line in before[start:end])
        else:
            yield from (("-", line) for line in before[start:end])
            yield from (("+", line) for line in after[new_start:new_end])
